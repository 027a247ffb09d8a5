//! IPv4-translatable addresses (RFC 6052 section 2): those of IPv6 hosts inside the NAT64 prefix, whose
//! IPv4 addresses they embed.
//!
//! RFC 7915 serves such hosts with no more than the prefix, which both addresses of a packet are in.
//! Here the part of the prefix that they live in is given, as an [`Eam`] whose two sides agree with the
//! embedding: so all other addresses of the prefix go on to stand for IPv4 hosts alone.

use core::fmt;

use super::{Eam, EamError, Ipv4Prefix, Ipv6Prefix, Pref64};

/// The mapping of the hosts in `nodes`, a part of the NAT64 prefix `pref64`.
///
/// # Errors
/// If `nodes` does not lie in `pref64`, if bits 64 to 71 lie between the bits of its hosts' IPv4
/// addresses, or if `pref64` is the well-known prefix (RFC 6052 section 3.1).
pub fn translatable(pref64: &Pref64, nodes: Ipv6Prefix) -> Result<Eam, TranslatableError> {
    let outside = TranslatableError::Outside(nodes);
    if nodes.len() < pref64.prefix().len() {
        return Err(outside);
    }
    let first = pref64.extract(nodes.address()).ok_or(outside)?;
    let v4 = Ipv4Prefix::containing(first, embedded_bits(pref64.prefix().len(), nodes.len()));
    let eam = Eam::new(v4, nodes).map_err(TranslatableError::Mapping)?;
    // Both copy the bits behind the prefix in their order, so that all of them tell of each.
    for address in [v4.address(), v4.last()] {
        if eam.lookup_v4(address) != Some(pref64.embed(address)) {
            return Err(TranslatableError::Split(nodes));
        }
    }
    Ok(eam)
}

/// How many bits of an IPv4 address lie in the first `len` bits of an IPv6 address, behind a NAT64
/// prefix of `pref64` bits (RFC 6052 section 2.2).
fn embedded_bits(pref64: u8, len: u8) -> u8 {
    let reserved = if pref64 < 96 {
        len.clamp(64, 72) - 64
    } else {
        0
    };
    (len - pref64).saturating_sub(reserved).min(32)
}

/// Why a part of a NAT64 prefix has no IPv4-translatable addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TranslatableError {
    /// It does not lie in the NAT64 prefix.
    Outside(Ipv6Prefix),
    /// Bits 64 to 71, which RFC 6052 reserves, lie between the bits of its hosts' IPv4 addresses.
    Split(Ipv6Prefix),
    /// Its addresses may not be those of IPv6 nodes.
    Mapping(EamError),
}

impl fmt::Display for TranslatableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside(nodes) => write!(f, "{nodes} does not lie in a NAT64 prefix"),
            Self::Split(nodes) => write!(
                f,
                "{nodes} is cut by bits 64 to 71, or has bits set behind the IPv4 address \
                 (RFC 6052); give the parts of it that are 72 bits long or longer"
            ),
            Self::Mapping(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for TranslatableError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn mapping(pref64: &str, nodes: &str) -> Result<Eam, TranslatableError> {
        translatable(&pref64.parse().unwrap(), nodes.parse().unwrap())
    }

    /// The examples of RFC 6052 section 2.4 (192.0.2.33), and the networks that they are in.
    #[test]
    fn ad_02_parts_of_each_prefix_are_networks_of_ipv4() {
        for (pref64, nodes, v4) in [
            ("2001:db8::/32", "2001:db8:c000:221::/64", "192.0.2.33/32"),
            ("2001:db8::/32", "2001:db8:c000:200::/56", "192.0.2.0/24"),
            (
                "2001:db8:100::/40",
                "2001:db8:1c0:2:21::/80",
                "192.0.2.33/32",
            ),
            ("2001:db8:100::/40", "2001:db8:1c0:2::/72", "192.0.2.0/24"),
            (
                "2001:db8:122::/48",
                "2001:db8:122:c000:2::/80",
                "192.0.2.0/24",
            ),
            (
                "2001:db8:122:300::/56",
                "2001:db8:122:3c0:0:200::/88",
                "192.0.2.0/24",
            ),
            (
                "2001:db8:122:344::/64",
                "2001:db8:122:344:c0:2:2000:0/100",
                "192.0.2.32/28",
            ),
            (
                "2001:db8:122:344::/96",
                "2001:db8:122:344::192.0.2.0/120",
                "192.0.2.0/24",
            ),
            (
                "2001:db8:122:344::/96",
                "2001:db8:122:344::/96",
                "0.0.0.0/0",
            ),
        ] {
            let eam = mapping(pref64, nodes).unwrap();
            assert_eq!(eam.v4().to_string(), v4, "{pref64} {nodes}");
            let pref64: Pref64 = pref64.parse().unwrap();
            for address in [eam.v4().address(), eam.v4().last()] {
                assert_eq!(eam.lookup_v4(address), Some(pref64.embed(address)));
            }
        }
    }

    #[test]
    fn ad_03_ad_11_other_parts_are_refused() {
        for (pref64, nodes) in [
            // Shorter, elsewhere.
            ("2001:db8:122:344::/96", "2001:db8:122:344::/64"),
            ("2001:db8:122:344::/96", "2001:db8:122:345::/120"),
            // The IPv4 address goes on behind the reserved bits.
            ("2001:db8:122::/48", "2001:db8:122:c000::/60"),
            ("2001:db8:122:344::/64", "2001:db8:122:344::/64"),
            // A suffix that is not zero.
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100:1/128"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.0/120"),
        ] {
            assert!(mapping(pref64, nodes).is_err(), "{pref64} {nodes}");
        }
    }
}
