//! A rule that translates the source address of outgoing packets (NAT in the kernel).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::expression::{
    EQUAL, IPV4_SOURCE, IPV6_SOURCE, META_OUT, META_PROTOCOL, REGISTER, TRANSPORT_SOURCE, compare,
    expression, in_range, load, load_meta, load_port,
};
use super::family::Family;
use super::interface::Interface;
use super::message::{Attributes, Chain};

/// Packets from `sources` that leave by `out`, of one protocol if there is one, get the
/// source `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewSource {
    out: Interface,
    sources: RangeInclusive<IpAddr>,
    protocol: Option<Protocol>,
    to: To,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp = 6,
    Udp = 17,
}

/// The new source of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum To {
    /// The address of the outgoing interface (masquerading).
    Interface,
    Address(IpAddr),
    /// An address and the port that the packet has: with a port that is in use by another connection
    /// the packet is dropped.
    SamePort(Ipv4Addr),
    Ports(Ipv6Addr, RangeInclusive<u16>),
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl NewSource {
    /// The address of interface `out`, for IPv4 packets from `sources` that leave by it.
    pub(super) fn masquerade(sources: &RangeInclusive<Ipv4Addr>, out: &Interface) -> Self {
        Self {
            out: out.clone(),
            sources: (*sources.start()).into()..=(*sources.end()).into(),
            protocol: None,
            to: To::Interface,
        }
    }

    /// The address `to`, for IPv6 packets from `source` that leave by interface `out`; TCP and UDP
    /// packets also get a port of `ports`.
    pub(super) fn share(
        source: Ipv6Addr,
        out: &str,
        to: Ipv6Addr,
        ports: &RangeInclusive<u16>,
    ) -> [Self; 3] {
        let rule = |protocol, to| Self {
            out: Interface::Only(out.into()),
            sources: source.into()..=source.into(),
            protocol,
            to,
        };
        let with_ports = |protocol| rule(Some(protocol), To::Ports(to, ports.clone()));
        [
            with_ports(Protocol::Tcp),
            with_ports(Protocol::Udp),
            rule(None, To::Address(to.into())),
        ]
    }

    /// The address `to`, for IPv4 packets from `source` that leave by interface `out`. TCP and UDP
    /// ports stay.
    pub(super) fn keep_ports(source: Ipv4Addr, out: &Interface, to: Ipv4Addr) -> [Self; 3] {
        let rule = |protocol, to| Self {
            out: out.clone(),
            sources: source.into()..=source.into(),
            protocol,
            to,
        };
        [
            rule(Some(Protocol::Tcp), To::SamePort(to)),
            rule(Some(Protocol::Udp), To::SamePort(to)),
            rule(None, To::Address(to.into())),
        ]
    }
}

impl fmt::Display for NewSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (self.sources.start(), self.sources.end());
        let family = match start {
            IpAddr::V4(_) => Family::Ip,
            IpAddr::V6(_) => Family::Ip6,
        };
        write!(f, "oifname {} {family} saddr {start}", self.out)?;
        if start != end {
            write!(f, "-{end}")?;
        }
        match self.protocol {
            None => {}
            Some(protocol) => write!(f, " meta l4proto {protocol}")?,
        }
        match &self.to {
            To::Interface => f.write_str(" masquerade"),
            To::Address(to) => write!(f, " snat to {to}"),
            To::SamePort(to) => write!(f, " snat to {to} : th sport"),
            To::Ports(to, ports) => {
                write!(f, " snat to [{to}]:{}-{}", ports.start(), ports.end())
            }
        }
    }
}

impl NewSource {
    /// Writes the expressions of the rule.
    pub(super) fn encode(&self, rule: &mut Attributes) {
        self.out.encode(rule, META_OUT);
        let (start, end) = (octets(self.sources.start()), octets(self.sources.end()));
        let place = if start.len() == 4 {
            IPV4_SOURCE
        } else {
            IPV6_SOURCE
        };
        in_range(rule, place, &start, &end);
        if let Some(protocol) = self.protocol {
            load_meta(rule, META_PROTOCOL);
            compare(rule, EQUAL, &[protocol as u8]);
        }
        match &self.to {
            To::Interface => expression(rule, "masq", |_| {}),
            To::Address(to) => {
                load(rule, REGISTER, &octets(to));
                translate(rule, to, 0);
            }
            To::SamePort(to) => {
                load(rule, REGISTER, &to.octets());
                load_port(rule, REGISTER + 1, TRANSPORT_SOURCE);
                translate(rule, &(*to).into(), 1);
            }
            To::Ports(to, ports) => {
                load(rule, REGISTER, &to.octets());
                load(rule, REGISTER + 1, &ports.start().to_be_bytes());
                load(rule, REGISTER + 2, &ports.end().to_be_bytes());
                translate(rule, &(*to).into(), 2);
            }
        }
    }
}

/// Takes the address `to` from the first register, and the bounds of a range of ports from as many of
/// those after it.
fn translate(rule: &mut Attributes, to: &IpAddr, bounds: u16) {
    const LEAST_PORT: u16 = 5;
    let family = match to {
        IpAddr::V4(_) => Family::Ip,
        IpAddr::V6(_) => Family::Ip6,
    };
    expression(rule, "nat", |nat| {
        nat.number(1, TO_SOURCE);
        nat.number(2, family as u32);
        nat.number(3, REGISTER);
        for bound in 0..bounds {
            nat.number(LEAST_PORT + bound, REGISTER + 1 + u32::from(bound));
        }
    });
}

fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().into(),
        IpAddr::V6(v6) => v6.octets().into(),
    }
}

pub(super) const POSTROUTING: Chain = Chain {
    name: "postrouting",
    kind: "nat",
    hook: 4,
    priority: 100,
    declaration: "type nat hook postrouting priority srcnat",
};
const TO_SOURCE: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::Table;

    #[test]
    fn the_commands_are_those_an_administrator_would_type() {
        let pool = Ipv4Addr::new(192, 168, 64, 0)..=Ipv4Addr::new(192, 168, 64, 255);
        let table = Table::masquerade("464xlat_nat64", &[pool], &[Interface::Only("wan0".into())]);
        assert_eq!(
            table.to_string(),
            "nft add table ip 464xlat_nat64\n\
             nft 'add chain ip 464xlat_nat64 postrouting { type nat hook postrouting priority \
             srcnat; }'\n\
             nft add rule ip 464xlat_nat64 postrouting oifname wan0 ip saddr \
             192.168.64.0-192.168.64.255 masquerade"
        );
    }

    #[test]
    fn a_shared_address_is_said_with_its_ports() {
        let [inner, outer] = ["fd00::1", "2001:db8::5"].map(|text| text.parse().unwrap());
        let table = Table::share("xlat_clat", inner, "eth0", outer, &(61000..=65535));
        assert_eq!(
            table
                .to_string()
                .lines()
                .skip(2)
                .collect::<Vec<_>>()
                .join("\n"),
            "nft add rule ip6 xlat_clat postrouting oifname eth0 ip6 saddr fd00::1 meta l4proto \
             tcp snat to [2001:db8::5]:61000-65535\n\
             nft add rule ip6 xlat_clat postrouting oifname eth0 ip6 saddr fd00::1 meta l4proto \
             udp snat to [2001:db8::5]:61000-65535\n\
             nft add rule ip6 xlat_clat postrouting oifname eth0 ip6 saddr fd00::1 snat to \
             2001:db8::5"
        );
    }
}
