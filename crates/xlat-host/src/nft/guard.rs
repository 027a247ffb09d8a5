//! A table that keeps an interface which forwards for us from forwarding for anybody else.

use super::expression::{
    EQUAL, META_IN, META_OUT, NOT_EQUAL, compare, drop_packet, interface_name, load_meta,
};
use super::message::{Batch, Chain};
use super::{Made, NftError};

/// IPv6 packets that come in by one interface are forwarded to one other and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    name: String,
    from: String,
    to: String,
}

impl Guard {
    /// The table `name`: what comes in by interface `from` goes to `to`, or to this host itself.
    pub fn new(name: &str, from: &str, to: &str) -> Self {
        Self {
            name: name.into(),
            from: from.into(),
            to: to.into(),
        }
    }

    /// Makes the table.
    ///
    /// # Errors
    /// What the kernel refuses: CAP_NET_ADMIN and Linux 5.12 are needed, and a free name.
    pub fn make(&self) -> Result<Made, NftError> {
        let chain = Chain {
            name: CHAIN,
            kind: "filter",
            hook: FORWARD,
            priority: FILTER,
        };
        let mut batch = Batch::new(IP6);
        batch.table(&self.name, &chain);
        batch.rule(&self.name, CHAIN, |rule| {
            load_meta(rule, META_IN);
            compare(rule, EQUAL, &interface_name(&self.from));
            load_meta(rule, META_OUT);
            compare(rule, NOT_EQUAL, &interface_name(&self.to));
            drop_packet(rule);
        });
        batch.make()
    }

    /// The equivalent `nft` commands, one a line.
    pub fn commands(&self) -> Vec<String> {
        let Self { name, from, to } = self;
        let chain = "{ type filter hook forward priority filter; }";
        vec![
            format!("nft add table ip6 {name}"),
            format!("nft 'add chain ip6 {name} {CHAIN} {chain}'"),
            format!("nft add rule ip6 {name} {CHAIN} iifname {from} oifname != {to} drop"),
        ]
    }
}

const CHAIN: &str = "forward";
const IP6: u8 = 10;
const FORWARD: u32 = 2;
const FILTER: u32 = 0;
