//! Rules that lead a port of a shared address to a host and back (NAT in the kernel), as a PCP
//! proxy opens them.

use std::fmt;
use std::net::IpAddr;

use super::expression::{
    EQUAL, META_IN, META_OUT, META_PROTOCOL, REGISTER, compare, expression, load, load_header,
    load_meta, load_port,
};
use super::family::Family;
use super::interface::Interface;
use super::message::{Attributes, Chain};

/// A port of a shared address, and the host's port that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// The shared address.
    pub outer: IpAddr,
    /// Its port.
    pub outer_port: u16,
    /// The host's address.
    pub inner: IpAddr,
    /// Its port.
    pub inner_port: u16,
}

/// The packets of a forward that arrive by one interface go to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ToHost {
    from: Interface,
    forward: Forward,
}

/// Those that the host sends by that interface come from the shared address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FromHost {
    to: Interface,
    forward: Forward,
}

impl Forward {
    pub(super) fn rules(&self, interface: &str) -> (ToHost, FromHost) {
        let interface = Interface::Only(interface.into());
        let to = ToHost {
            from: interface.clone(),
            forward: self.clone(),
        };
        let from = FromHost {
            to: interface,
            forward: self.clone(),
        };
        (to, from)
    }

    fn family(&self) -> Family {
        match self.outer {
            IpAddr::V4(_) => Family::Ip,
            IpAddr::V6(_) => Family::Ip6,
        }
    }

    /// Compares protocol, address and port: those of the destination, or of the source.
    fn encode(&self, rule: &mut Attributes, address: IpAddr, port: u16, is_source: bool) {
        const V4: (u32, u32) = (12, 16);
        const V6: (u32, u32) = (8, 24);
        const PORTS: (u32, u32) = (0, 2);
        let pick = |(source, destination)| if is_source { source } else { destination };
        let (place, octets) = match address {
            IpAddr::V4(v4) => (pick(V4), v4.octets().to_vec()),
            IpAddr::V6(v6) => (pick(V6), v6.octets().to_vec()),
        };
        load_header(rule, place, octets.len() as u32);
        compare(rule, EQUAL, &octets);
        load_meta(rule, META_PROTOCOL);
        compare(rule, EQUAL, &[self.protocol]);
        load_port(rule, REGISTER, pick(PORTS));
        compare(rule, EQUAL, &port.to_be_bytes());
    }

    fn translate(&self, rule: &mut Attributes, kind: u32, address: IpAddr, port: u16) {
        match address {
            IpAddr::V4(v4) => load(rule, REGISTER, &v4.octets()),
            IpAddr::V6(v6) => load(rule, REGISTER, &v6.octets()),
        }
        load(rule, REGISTER + 1, &port.to_be_bytes());
        expression(rule, "nat", |nat| {
            nat.number(1, kind);
            nat.number(2, self.family() as u32);
            nat.number(3, REGISTER);
            nat.number(5, REGISTER + 1);
        });
    }

    const fn protocol(&self) -> &'static str {
        const TCP: u8 = 6;
        if self.protocol == TCP { "tcp" } else { "udp" }
    }
}

impl ToHost {
    /// Writes the expressions of the rule.
    pub(super) fn encode(&self, rule: &mut Attributes) {
        const TO_DESTINATION: u32 = 1;
        let it = &self.forward;
        self.from.encode(rule, META_IN);
        it.encode(rule, it.outer, it.outer_port, false);
        it.translate(rule, TO_DESTINATION, it.inner, it.inner_port);
    }
}

impl FromHost {
    /// Writes the expressions of the rule.
    pub(super) fn encode(&self, rule: &mut Attributes) {
        const TO_SOURCE: u32 = 0;
        let it = &self.forward;
        self.to.encode(rule, META_OUT);
        it.encode(rule, it.inner, it.inner_port, true);
        it.translate(rule, TO_SOURCE, it.outer, it.outer_port);
    }
}

impl fmt::Display for ToHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = &self.forward;
        write!(
            f,
            "iifname {} {} daddr {} {} dport {} dnat to {}",
            self.from,
            it.family(),
            it.outer,
            it.protocol(),
            it.outer_port,
            Endpoint(it.inner, it.inner_port)
        )
    }
}

impl fmt::Display for FromHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = &self.forward;
        write!(
            f,
            "oifname {} {} saddr {} {} sport {} snat to {}",
            self.to,
            it.family(),
            it.inner,
            it.protocol(),
            it.inner_port,
            Endpoint(it.outer, it.outer_port)
        )
    }
}

/// Address and port in the syntax of `nft`.
struct Endpoint(IpAddr, u16);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.0, self.1).fmt(f)
    }
}

/// Before the chains that masquerade: what they would do is for other ports.
pub(super) const BEFORE_SOURCE_NAT: Chain = Chain {
    name: "ports",
    kind: "nat",
    hook: 4,
    priority: 99,
    declaration: "type nat hook postrouting priority 99",
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::Table;

    #[test]
    fn pp_06_a_forward_is_said_as_an_administrator_would_type_it() {
        let forward = Forward {
            protocol: 17,
            outer: "192.0.0.1".parse().unwrap(),
            outer_port: 7000,
            inner: "192.168.1.5".parse().unwrap(),
            inner_port: 6881,
        };
        let table = Table::forwards("xlat_clat_ports", "clat", &[forward]).unwrap();
        assert_eq!(
            table.to_string(),
            "nft add table ip xlat_clat_ports\n\
             nft 'add chain ip xlat_clat_ports prerouting { type nat hook prerouting priority \
             dstnat; }'\n\
             nft 'add chain ip xlat_clat_ports ports { type nat hook postrouting priority 99; }'\n\
             nft add rule ip xlat_clat_ports prerouting iifname clat ip daddr 192.0.0.1 udp dport \
             7000 dnat to 192.168.1.5:6881\n\
             nft add rule ip xlat_clat_ports ports oifname clat ip saddr 192.168.1.5 udp sport \
             6881 snat to 192.0.0.1:7000"
        );
        let forward = Forward {
            protocol: 6,
            outer: "2001:db8::7".parse().unwrap(),
            outer_port: 61000,
            inner: "fd00::1".parse().unwrap(),
            inner_port: 80,
        };
        let table = Table::forwards("xlat_clat_ports", "eth0", &[forward]).unwrap();
        let text = table.to_string();
        let rules: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!(
            rules,
            [
                "nft add rule ip6 xlat_clat_ports prerouting iifname eth0 ip6 daddr 2001:db8::7 \
                 tcp dport 61000 dnat to [fd00::1]:80",
                "nft add rule ip6 xlat_clat_ports ports oifname eth0 ip6 saddr fd00::1 tcp sport \
                 80 snat to [2001:db8::7]:61000",
            ]
        );
        assert_eq!(Table::forwards("xlat_clat_ports", "eth0", &[]), None);
    }
}
