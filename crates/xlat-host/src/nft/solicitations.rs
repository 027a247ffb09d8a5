//! A rule that limits router solicitations. The kernel of a router enters the sender of each into its
//! neighbour table, and keeps the entry for five seconds at least: without a limit a flood from forged
//! addresses fills the table, and packets to hosts that have no entry are dropped meanwhile.

use std::fmt;

use super::expression::{
    EQUAL, META_IN, META_PROTOCOL, REGISTER, compare, drop_packet, expression, interface_name,
    load_meta,
};
use super::message::{Attributes, Chain};
use crate::daemon::terminal::NftName;

/// Solicitations a second, and those that may come at once: together well below the 1,024 entries
/// that the table has by default.
const RATE: u64 = 100;
const BURST: u32 = 200;

/// Router solicitations that arrive by the interface `from` beyond the limit are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LimitSolicitations {
    from: String,
}

impl LimitSolicitations {
    pub(super) fn new(from: &str) -> Self {
        Self { from: from.into() }
    }

    /// Writes the expressions of the rule.
    pub(super) fn encode(&self, rule: &mut Attributes) {
        const ICMPV6: u8 = 58;
        const TRANSPORT_HEADER: u32 = 2;
        const ROUTER_SOLICITATION: u8 = 133;
        const OVER: u32 = 1;
        load_meta(rule, META_IN);
        compare(rule, EQUAL, &interface_name(&self.from));
        load_meta(rule, META_PROTOCOL);
        compare(rule, EQUAL, &[ICMPV6]);
        expression(rule, "payload", |payload| {
            payload.number(1, REGISTER);
            payload.number(2, TRANSPORT_HEADER);
            payload.number(3, 0);
            payload.number(4, 1);
        });
        compare(rule, EQUAL, &[ROUTER_SOLICITATION]);
        expression(rule, "limit", |limit| {
            limit.bytes(1, &RATE.to_be_bytes());
            // In a second.
            limit.bytes(2, &1_u64.to_be_bytes());
            limit.number(3, BURST);
            // Packets, not bytes.
            limit.number(4, 0);
            limit.number(5, OVER);
        });
        drop_packet(rule);
    }
}

impl fmt::Display for LimitSolicitations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "iifname {} icmpv6 type nd-router-solicit limit rate over {RATE}/second burst {BURST} \
             packets drop",
            NftName(&self.from)
        )
    }
}

pub(super) const INPUT: Chain = Chain {
    name: "input",
    kind: "filter",
    hook: 1,
    priority: 0,
    declaration: "type filter hook input priority filter",
};
