//! A rule that limits forwarding on an interface to the packets for the translator.

use std::fmt;

use super::expression::{
    EQUAL, META_IN, META_OUT, META_OUT_GROUP, NOT_EQUAL, compare, drop_packet, interface_name,
    load_meta,
};
use super::message::{Attributes, Chain};
use crate::daemon::terminal::NftName;

/// Group of the interfaces that lead to a translator, whichever program has made them: the guards
/// of several that share an uplink let each other's packets pass.
pub(crate) const TUN_GROUP: u32 = 464;

/// Packets from interface `from` are forwarded only to interface `to` and to those of [`TUN_GROUP`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ForwardOnlyTo {
    from: String,
    to: String,
}

impl ForwardOnlyTo {
    pub(super) fn new(from: &str, to: &str) -> Self {
        Self {
            from: from.into(),
            to: to.into(),
        }
    }

    /// Writes the expressions of the rule.
    pub(super) fn encode(&self, rule: &mut Attributes) {
        load_meta(rule, META_IN);
        compare(rule, EQUAL, &interface_name(&self.from));
        load_meta(rule, META_OUT);
        compare(rule, NOT_EQUAL, &interface_name(&self.to));
        load_meta(rule, META_OUT_GROUP);
        compare(rule, NOT_EQUAL, &TUN_GROUP.to_ne_bytes());
        drop_packet(rule);
    }
}

impl fmt::Display for ForwardOnlyTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (NftName(&self.from), NftName(&self.to));
        write!(
            f,
            "iifname {from} oifname != {to} oifgroup != {TUN_GROUP} drop"
        )
    }
}

pub(super) const FORWARD: Chain = Chain {
    name: "forward",
    kind: "filter",
    hook: 2,
    priority: 0,
    declaration: "type filter hook forward priority filter",
};
