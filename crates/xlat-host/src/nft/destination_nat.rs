//! A rule that translates the destination of arriving packets (NAT in the kernel).

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use super::expression::{
    EQUAL, IPV4_DESTINATION, META_PROTOCOL, REGISTER, TRANSPORT_DESTINATION, compare, expression,
    in_range, load, load_meta, port_in_range,
};
use super::family::Family;
use super::message::{Attributes, Chain};
use super::source_nat::Protocol;

/// TCP or UDP packets to these ports of the address `from` go to the address `to`, and keep the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewDestination {
    from: Ipv4Addr,
    protocol: Protocol,
    ports: RangeInclusive<u16>,
    to: Ipv4Addr,
}

/// Ports of an address that belong to the translator: of one transport protocol, or of both.
pub type Ports = (Option<u8>, RangeInclusive<u16>);

impl NewDestination {
    /// The rules for one range of ports.
    pub(super) fn of(from: Ipv4Addr, (number, ports): &Ports, to: Ipv4Addr) -> Vec<Self> {
        let is_meant = |protocol: &Protocol| number.is_none_or(|one| one == *protocol as u8);
        let protocols = [Protocol::Tcp, Protocol::Udp];
        let meant = protocols.into_iter().filter(is_meant);
        meant
            .map(|protocol| Self {
                from,
                protocol,
                ports: ports.clone(),
                to,
            })
            .collect()
    }

    /// Writes the expressions of the rule.
    pub(super) fn encode(&self, rule: &mut Attributes) {
        let from = self.from.octets();
        in_range(rule, IPV4_DESTINATION, &from, &from);
        load_meta(rule, META_PROTOCOL);
        compare(rule, EQUAL, &[self.protocol as u8]);
        port_in_range(rule, TRANSPORT_DESTINATION, &self.ports);
        load(rule, REGISTER, &self.to.octets());
        expression(rule, "nat", |nat| {
            nat.number(1, TO_DESTINATION);
            nat.number(2, Family::Ip as u32);
            nat.number(3, REGISTER);
        });
    }
}

impl fmt::Display for NewDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            protocol,
            ports,
            to,
        } = self;
        let (first, last) = (ports.start(), ports.end());
        write!(f, "ip daddr {from} {protocol} dport {first}")?;
        if first != last {
            write!(f, "-{last}")?;
        }
        write!(f, " dnat to {to}")
    }
}

pub(super) const PREROUTING: Chain = Chain {
    name: "prerouting",
    kind: "nat",
    hook: 0,
    priority: (-100_i32).cast_unsigned(),
    declaration: "type nat hook prerouting priority dstnat",
};
const TO_DESTINATION: u32 = 1;
