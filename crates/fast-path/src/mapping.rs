//! The mapping that is the same for all flows: which IPv4 addresses are which IPv6 addresses.

use std::net::Ipv6Addr;

use thiserror::Error;
use xlat_core::addr::{Eam, Ipv4Prefix, Pref64, Pref64s};

/// The side that the rows of a [`StaticMapping`] are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// A CLAT: rows are the senders of packets from IPv4.
    Clat,
    /// A gateway: rows are the senders of packets from IPv6.
    Gateway,
}

/// A constant mapping: explicit rows for the hosts on one side, NAT64 prefixes for all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticMapping {
    side: Side,
    rows: Vec<Eam>,
    pref64s: Vec<Pref64>,
    wkp_strict: bool,
    hidden: Vec<Ipv4Prefix>,
}

/// Why a mapping stays with the translator.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MappingError {
    /// Rows that hold one another, where the order decides.
    #[error("mappings overlap: {0} and {1}")]
    Overlap(Eam, Eam),
    /// A row lies in a NAT64 prefix.
    #[error("the mapping {0} lies in the NAT64 prefix")]
    InPref64(Eam),
    /// More different prefix lengths, prefixes or hidden networks than the program has room for.
    #[error("more {what} than {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The most that fit.
        max: usize,
    },
    /// An address that the translator answers under and the mapping also translates.
    #[error("{0} is both mapped and the translator's own")]
    Own(Ipv6Addr),
}

impl StaticMapping {
    /// The mapping of a CLAT: `rows` are the local hosts, and all others are behind `pref64`.
    pub fn clat(rows: impl IntoIterator<Item = Eam>, pref64: Pref64) -> Self {
        Self {
            side: Side::Clat,
            rows: rows.into_iter().collect(),
            pref64s: vec![pref64],
            wkp_strict: false,
            hidden: Vec::new(),
        }
    }

    /// The mapping of a gateway: `rows` are the IPv6 hosts that have IPv4 addresses, IPv4 is behind
    /// `pref64s`, and the networks `hidden` are not reached through these.
    pub fn gateway(
        rows: impl IntoIterator<Item = Eam>,
        pref64s: &Pref64s,
        wkp_strict: bool,
        hidden: impl IntoIterator<Item = Ipv4Prefix>,
    ) -> Self {
        Self {
            side: Side::Gateway,
            rows: rows.into_iter().collect(),
            pref64s: pref64s.iter().copied().collect(),
            wkp_strict,
            hidden: hidden.into_iter().collect(),
        }
    }
}
