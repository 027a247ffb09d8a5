//! Extracts NAT64 prefixes from the addresses that a DNS64 synthesizes for `ipv4only.arpa` (RFC
//! 7050).

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::addr::{Ipv6Prefix, Pref64};

/// The name to query, absolute.
pub const NAME: &str = "ipv4only.arpa.";

/// Its two IPv4 addresses (RFC 7050 section 8.2).
pub const WELL_KNOWN: [Ipv4Addr; 2] =
    [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

const LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];

/// The prefixes of the addresses of an answer, each once, in the order of the addresses. An
/// address without a well-known one embedded (such as that of a captive portal) yields none.
pub fn prefixes(addresses: impl IntoIterator<Item = Ipv6Addr>) -> Vec<Pref64> {
    let mut prefixes = Vec::new();
    for address in addresses {
        if let Some(prefix) = prefix(address)
            && !prefixes.contains(&prefix)
        {
            prefixes.push(prefix);
        }
    }
    prefixes
}

/// The prefix of one address. An address that contains a well-known one at two positions is
/// ambiguous and yields none (RFC 7050 section 3).
fn prefix(address: Ipv6Addr) -> Option<Pref64> {
    // The octet that is zero in every such address (RFC 6052 section 2.2).
    let is_reserved_octet_zero = address.octets()[8] == 0;
    let found = |wanted: Ipv4Addr| {
        let holds = move |length: &u8| {
            let prefix = Pref64::new(Ipv6Prefix::containing(address, *length)).ok()?;
            (prefix.extract(address) == Some(wanted)).then_some(prefix)
        };
        let can_be = |length: &&u8| **length == 96 || is_reserved_octet_zero;
        let mut all = LENGTHS.iter().filter(can_be).filter_map(holds);
        let first = all.next()?;
        all.next().is_none().then_some(first)
    };
    WELL_KNOWN.into_iter().find_map(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addresses: &[&str]) -> Vec<String> {
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        prefixes(addresses).iter().map(Pref64::to_string).collect()
    }

    #[test]
    fn pd_03_both_well_known_addresses_at_all_six_places() {
        for (address, other, expected) in [
            (
                "2001:db8:1:2:3:4:c000:aa",
                "2001:db8:1:2:3:4:c000:ab",
                "2001:db8:1:2:3:4::/96",
            ),
            (
                "2001:db8:1:2:c0:0:aa00:0",
                "2001:db8:1:2:c0:0:ab00:0",
                "2001:db8:1:2::/64",
            ),
            (
                "2001:db8:1:2c0:0:aa::",
                "2001:db8:1:2c0:0:ab::",
                "2001:db8:1:200::/56",
            ),
            (
                "2001:db8:1:c000:0:aa00::",
                "2001:db8:1:c000:0:ab00::",
                "2001:db8:1::/48",
            ),
            (
                "2001:db8:1c0:0:aa::",
                "2001:db8:1c0:0:ab::",
                "2001:db8:100::/40",
            ),
            ("2001:db8:c000:aa::", "2001:db8:c000:ab::", "2001:db8::/32"),
        ] {
            assert_eq!(found(&[address]), [expected], "{address}");
            assert_eq!(found(&[address, other]), [expected], "{other}");
        }
        assert_eq!(found(&["64:ff9b::192.0.0.170"]), ["64:ff9b::/96"]);
    }

    #[test]
    fn pd_04_an_address_found_twice_tells_nothing_unless_the_other_one_does() {
        // 192.0.0.170 at the places of /32 and of /96.
        assert!(found(&["2001:db8:c000:aa::c000:aa"]).is_empty());
        // 192.0.0.171 stands once.
        let once = "2001:db8:c000:ab::c000:1";
        assert_eq!(found(&[once]), ["2001:db8::/32"]);
    }

    #[test]
    fn pd_05_other_addresses_are_no_prefixes() {
        assert!(found(&["2001:db8::1", "::ffff:198.51.100.1", "64:ff9b::192.0.0.172"]).is_empty());
        // The reserved octet is not zero.
        assert!(found(&["2001:db8:1:c000:100:aa00::"]).is_empty());
    }

    #[test]
    fn pd_06_all_addresses_count_and_each_prefix_once() {
        let all = [
            "64:ff9b::192.0.0.170",
            "64:ff9b::192.0.0.171",
            "2001:db8:64::192.0.0.171",
            "2001:db8::1",
        ];
        assert_eq!(found(&all), ["64:ff9b::/96", "2001:db8:64::/96"]);
    }
}
