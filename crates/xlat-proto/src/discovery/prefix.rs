//! NAT64 prefixes as keys, their order of preference, and unusable ones.

use std::net::Ipv6Addr;

use xlat_core::addr::{Ipv6Prefix, Pref64, special};

/// A prefix that can be ordered: bits and length.
pub(super) type Pref64Key = (u128, u8);

pub(super) fn key(pref64: Pref64) -> Pref64Key {
    (pref64.prefix().address().to_bits(), pref64.prefix().len())
}

pub(super) fn prefix_of((bits, length): Pref64Key) -> Option<Pref64> {
    let prefix = Ipv6Prefix::containing(Ipv6Addr::from_bits(bits), length);
    Pref64::new(prefix).ok()
}

/// The least is used: a network's own /96, the well-known one, the longest of the network's own
/// (RFC 7050 section 3); the lowest among equals.
pub(super) fn order(pref64: Pref64) -> (u8, u8, u128) {
    let prefix = pref64.prefix();
    let class = match prefix.len() {
        _ if pref64.is_well_known() => 1,
        96 => 0,
        _ => 2,
    };
    (class, 128 - prefix.len(), prefix.address().to_bits())
}

/// True for a prefix to which packets can be sent.
pub(super) fn is_sane(pref64: Pref64) -> bool {
    let first = pref64.prefix().address();
    special::is_legal_v6_source(first) && !first.is_unicast_link_local()
}
