//! Rules around addresses that hide behind an interface: nothing outside may reach them, and no packet
//! may show them.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use super::expression::{
    CT_DIRECTION, CT_STATE, CT_STATUS, EQUAL, IPV4_DESTINATION, IPV4_SOURCE, META_IN, META_OUT,
    NOT_EQUAL, compare, drop_packet, in_range, load_connection, mask,
};
use super::interface::Interface;
use super::message::{Attributes, Chain};
use crate::daemon::terminal::NftName;

/// Bits of a connection's state (`ct state`).
const INVALID: u32 = 1;
const NEW: u32 = 8;
const UNTRACKED: u32 = 64;
/// Bit of a connection's status (`ct status`): its destination is translated.
const DESTINATION_NAT: u32 = 32;

/// Packets of new connections that arrive by `from` for an address of `to` are dropped, unless a rule
/// of the host has translated their destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoNewTo {
    from: Interface,
    to: RangeInclusive<Ipv4Addr>,
}

impl NoNewTo {
    pub(super) fn new(from: &Interface, to: &RangeInclusive<Ipv4Addr>) -> Self {
        Self {
            from: from.clone(),
            to: to.clone(),
        }
    }

    /// Writes the expressions of the rule.
    pub(super) fn encode(&self, rule: &mut Attributes) {
        self.from.encode(rule, META_IN);
        let (start, end) = (self.to.start().octets(), self.to.end().octets());
        in_range(rule, IPV4_DESTINATION, &start, &end);
        has_state(rule, NEW);
        load_connection(rule, CT_STATUS);
        mask(rule, DESTINATION_NAT);
        compare(rule, EQUAL, &[0; 4]);
        drop_packet(rule);
    }
}

impl fmt::Display for NoNewTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = Range(&self.to);
        write!(
            f,
            "iifname {} ip daddr {to} ct state new ct status ! dnat drop",
            self.from
        )
    }
}

/// Packets with a source in `from` that leave by another interface than `tun` are dropped. The chain
/// comes after source NAT: what is masqueraded has another source by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NeverFrom {
    from: RangeInclusive<Ipv4Addr>,
    tun: String,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Packets in the direction of the first packet of their connection. Answers to a connection
    /// from outside have the address that was asked for.
    Original,
    /// Packets of no connection, which the kernel does not masquerade.
    Unconnected,
}

impl NeverFrom {
    pub(super) fn both(from: &RangeInclusive<Ipv4Addr>, tun: &str) -> [Self; 2] {
        [What::Original, What::Unconnected].map(|what| Self {
            from: from.clone(),
            tun: tun.into(),
            what,
        })
    }

    /// Writes the expressions of the rule.
    pub(super) fn encode(&self, rule: &mut Attributes) {
        Interface::AnyBut(self.tun.clone()).encode(rule, META_OUT);
        let (start, end) = (self.from.start().octets(), self.from.end().octets());
        in_range(rule, IPV4_SOURCE, &start, &end);
        match self.what {
            What::Original => {
                load_connection(rule, CT_DIRECTION);
                compare(rule, EQUAL, &[0]);
            }
            What::Unconnected => has_state(rule, INVALID | UNTRACKED),
        }
        drop_packet(rule);
    }
}

impl fmt::Display for NeverFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = Range(&self.from);
        let what = match self.what {
            What::Original => "ct direction original",
            What::Unconnected => "ct state invalid,untracked",
        };
        write!(
            f,
            "oifname != {} ip saddr {from} {what} drop",
            NftName(&self.tun)
        )
    }
}

/// Addresses as `nft` writes them.
struct Range<'a>(&'a RangeInclusive<Ipv4Addr>);

impl fmt::Display for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (self.0.start(), self.0.end());
        write!(f, "{start}")?;
        if start != end {
            write!(f, "-{end}")?;
        }
        Ok(())
    }
}

fn has_state(rule: &mut Attributes, states: u32) {
    load_connection(rule, CT_STATE);
    mask(rule, states);
    compare(rule, NOT_EQUAL, &[0; 4]);
}

/// After source NAT, whose priority is 100.
pub(super) const LEAVING: Chain = Chain {
    name: "leaving",
    kind: "filter",
    hook: 4,
    priority: 110,
    declaration: "type filter hook postrouting priority srcnat + 10",
};
