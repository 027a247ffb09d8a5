//! Special-purpose address ranges (RFC 6890 and the registries behind it), as data, and the
//! questions a translator asks about them.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::{Ipv4Prefix, Ipv6Prefix};

const fn v4(a: u8, b: u8, c: u8, d: u8, len: u8) -> Ipv4Prefix {
    Ipv4Prefix::containing(Ipv4Addr::new(a, b, c, d), len)
}

/// IPv4 ranges that never cross by embedding, whatever the policy: hosts outside cannot be
/// addressed by them (SE-05).
pub const NEVER_V4: [Ipv4Prefix; 8] = [
    v4(0, 0, 0, 0, 8),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(192, 0, 0, 0, 29),
    v4(192, 0, 0, 170, 32),
    v4(192, 0, 0, 171, 32),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// IPv4 ranges that are not globally unique, so that the well-known prefix must not carry them
/// (RFC 6052 section 3.1).
pub const NON_GLOBAL_V4: [Ipv4Prefix; 15] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// Single addresses inside [`NON_GLOBAL_V4`] that are reachable from everywhere (RFC 7723,
/// RFC 8155).
const GLOBAL_EXCEPTIONS_V4: [Ipv4Addr; 2] =
    [Ipv4Addr::new(192, 0, 0, 9), Ipv4Addr::new(192, 0, 0, 10)];

/// True if an IPv4 address must never be embedded in an IPv6 address as destination, nor as source
/// of anything but an ICMP error.
#[inline]
pub fn is_never_v4(address: Ipv4Addr) -> bool {
    // All ranges but these start with an octet below 1 or from 224 on, or with one of three.
    match address.octets()[0] {
        0 | 127 | 169 | 192 | 224.. => NEVER_V4.iter().any(|range| range.contains(address)),
        _ => false,
    }
}

/// True if an IPv4 address is globally unique.
#[inline]
pub fn is_global_v4(address: Ipv4Addr) -> bool {
    !NON_GLOBAL_V4.iter().any(|range| range.contains(address))
        || GLOBAL_EXCEPTIONS_V4.contains(&address)
}

const fn v6(high: u64, low: u64, len: u8) -> Ipv6Prefix {
    let bits = (high as u128) << 64 | low as u128;
    Ipv6Prefix::containing(Ipv6Addr::from_bits(bits), len)
}

/// IPv6 ranges that no packet to be translated comes from (SE-04).
pub const NEVER_SOURCE_V6: [Ipv6Prefix; 4] = [
    // Unspecified, loopback, IPv4-compatible.
    v6(0, 0, 96),
    v6(0, 0xffff_0000_0000, 96),
    v6(0xfe80 << 48, 0, 10),
    v6(0xff00 << 48, 0, 8),
];

/// True if an IPv6 address may be the source of a packet to be translated.
#[inline]
pub fn is_legal_v6_source(address: Ipv6Addr) -> bool {
    let first = (address.to_bits() >> 120) as u8;
    // Global unicast, which nearly every packet has, is outside all ranges.
    if (0x01..0xfe).contains(&first) {
        return true;
    }
    !NEVER_SOURCE_V6.iter().any(|range| range.contains(address))
}

/// True if an IPv6 address may be the destination of a packet to be translated.
#[inline]
pub fn is_legal_v6_destination(address: Ipv6Addr) -> bool {
    is_legal_v6_source(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The addresses just below, first, last and just above a range.
    fn edges(range: &Ipv4Prefix) -> (Option<Ipv4Addr>, [Ipv4Addr; 2], Option<Ipv4Addr>) {
        let (first, last) = (range.address().to_bits(), range.last().to_bits());
        let at = |bits: Option<u32>| bits.map(Ipv4Addr::from_bits);
        (
            at(first.checked_sub(1)),
            [range.address(), range.last()],
            at(last.checked_add(1)),
        )
    }

    #[test]
    fn se_05_ranges_end_exactly_where_they_end() {
        for range in &NEVER_V4 {
            let (below, inside, above) = edges(range);
            assert!(inside.into_iter().all(is_never_v4), "{range}");
            for outside in [below, above].into_iter().flatten() {
                let other = NEVER_V4.iter().any(|range| range.contains(outside));
                assert_eq!(is_never_v4(outside), other, "{outside} beside {range}");
            }
        }
        assert!(!is_never_v4(Ipv4Addr::new(192, 0, 0, 8)));
        assert!(!is_never_v4(Ipv4Addr::new(192, 0, 0, 169)));
        assert!(!is_never_v4(Ipv4Addr::new(192, 0, 0, 172)));
        assert!(!is_never_v4(Ipv4Addr::new(10, 0, 0, 1)));
        assert!(!is_never_v4(Ipv4Addr::new(223, 255, 255, 255)));
    }

    #[test]
    fn ad_09_ranges_end_exactly_where_they_end() {
        for range in &NON_GLOBAL_V4 {
            let (below, inside, above) = edges(range);
            assert!(!inside.into_iter().any(is_global_v4), "{range}");
            for outside in [below, above].into_iter().flatten() {
                let other = NON_GLOBAL_V4.iter().any(|range| range.contains(outside));
                assert_eq!(is_global_v4(outside), !other, "{outside} beside {range}");
            }
        }
        for global in [
            "1.1.1.1",
            "172.32.0.1",
            "100.63.255.255",
            "192.0.0.9",
            "192.0.0.10",
        ] {
            assert!(is_global_v4(global.parse().unwrap()), "{global}");
        }
    }

    #[test]
    fn se_04_sources_that_never_cross() {
        for never in [
            "::",
            "::1",
            "::192.0.2.1",
            "::ffff:192.0.2.1",
            "fe80::1",
            "febf::1",
            "ff02::1",
        ] {
            assert!(!is_legal_v6_source(never.parse().unwrap()), "{never}");
        }
        for legal in [
            "64:ff9b::1",
            "2001:db8::1",
            "fd00::1",
            "fec0::1",
            "::fffe:0:0",
            "::1:0:0:0",
        ] {
            assert!(is_legal_v6_source(legal.parse().unwrap()), "{legal}");
        }
        assert!(!is_legal_v6_destination("ff05::2".parse().unwrap()));
    }
}
