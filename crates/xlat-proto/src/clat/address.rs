//! Chooses a CLAT's IPv6 address: in which of the uplink's prefixes (RFC 6724), and with which
//! interface identifier (RFC 7217).
//!
//! No other program uses the address, so that the CLAT's connections cannot collide with those of
//! native IPv6 programs (RFC 6877 section 6.3). Its identifier is stable within a network, differs
//! between networks, and reveals nothing about the host.

use std::hash::Hasher;
use std::net::{Ipv4Addr, Ipv6Addr};

use siphasher::sip::SipHasher24;
use xlat_core::addr::{Ipv6Prefix, Pref64};
use xlat_core::checksum::Sum;

/// An address of the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The address.
    pub address: Ipv6Addr,
    /// Length of its prefix.
    pub len: u8,
    /// True if new connections should not use it.
    pub deprecated: bool,
    /// True for a temporary (privacy) address.
    pub temporary: bool,
    /// True while duplicate address detection runs.
    pub tentative: bool,
}

/// A source address of the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The uplink's own address.
    pub address: Ipv6Addr,
    /// The /64 around it, in which the CLAT can have an address of its own. `None` if the uplink has
    /// this address alone (DHCPv6): the CLAT can only share it.
    pub network: Option<Ipv6Prefix>,
}

/// The source address towards `pref64`, chosen by rules 2, 3, 6, 7 and 8 of RFC 6724 section 5.
/// Among equals, one whose /64 has room for an address of the CLAT's own. `None` if there is no
/// global address, or if one for which duplicate address detection still runs will be more fitting.
pub fn choose_source(candidates: &[Candidate], pref64: Pref64) -> Option<Source> {
    let best = best(candidates, pref64)?;
    let coming = |one: &&Candidate| one.tentative && is_global(one.address);
    let fitness = |one: &Candidate| (fitness(one, pref64), one.len == 64);
    let awaited = candidates.iter().filter(coming).map(fitness).max();
    if awaited > Some(fitness(best)) {
        return None;
    }
    let network = (best.len == 64).then(|| Ipv6Prefix::containing(best.address, 64));
    Some(Source {
        address: best.address,
        network,
    })
}

/// True if new connections towards `pref64` from one of the `used` addresses are as likely to work
/// as from the best of `candidates`: neither is it deprecated, nor is its label another one, where
/// the best one's is not (RFC 6724 section 5 rules 3 and 6).
pub fn still_fits(used: &[&Candidate], candidates: &[Candidate], pref64: Pref64) -> bool {
    let used = used.iter().filter(|one| is_usable(one));
    let have = used.map(|one| fitness(one, pref64)).max();
    let best = best(candidates, pref64).map(|one| fitness(one, pref64));
    have.is_some_and(|have| have.0 && best.is_none_or(|best| have >= best))
}

/// What decides whether connections from an address work at all: it is not deprecated (rule 3), and
/// its label is that of the destination (rule 6).
fn fitness(candidate: &Candidate, pref64: Pref64) -> (bool, bool) {
    let to = pref64.prefix().address();
    (!candidate.deprecated, label(candidate.address) == label(to))
}

fn best(candidates: &[Candidate], pref64: Pref64) -> Option<&Candidate> {
    let to = pref64.prefix().address();
    let usable = candidates.iter().filter(|one| is_usable(one));
    usable.max_by_key(|candidate| {
        (
            fitness(candidate, pref64),
            !candidate.temporary,
            // A single address is as near as the network it is from.
            common_bits(candidate.address, to).min(u32::from(candidate.len.min(64))),
            candidate.len == 64,
            // A tie is broken independently of the order of the addresses.
            std::cmp::Reverse(candidate.address),
        )
    })
}

/// True for an address with which a connection beyond the link can begin.
fn is_usable(candidate: &Candidate) -> bool {
    !candidate.tentative && is_global(candidate.address)
}

/// A unique local /64 (RFC 4193), for an address that is used only within this host.
pub fn private_prefix(secret: [u64; 2]) -> Ipv6Prefix {
    let mut hasher = SipHasher24::new_with_keys(secret[0], secret[1]);
    hasher.write(b"464XLAT private prefix");
    let global_id = u128::from(hasher.finish() >> 24);
    let prefix = Ipv6Addr::from_bits((0xfd << 120) | (global_id << 80));
    Ipv6Prefix::containing(prefix, 64)
}

/// The address in `prefix` (a /64) of the CLAT behind interface `uplink` (RFC 7217 section 5).
/// `attempt` is the number of earlier addresses that were duplicates.
pub fn stable_address(prefix: Ipv6Prefix, uplink: &str, attempt: u8, secret: [u64; 2]) -> Ipv6Addr {
    let network = prefix.address().to_bits();
    (0u8..=u8::MAX)
        .map(|round| {
            let mut hasher = SipHasher24::new_with_keys(secret[0], secret[1]);
            hasher.write(b"464XLAT CLAT");
            hasher.write(&network.to_be_bytes());
            hasher.write(&[uplink.len() as u8]);
            hasher.write(uplink.as_bytes());
            hasher.write(&[attempt, round]);
            hasher.finish()
        })
        .find(|identifier| !is_reserved(*identifier))
        .map_or(prefix.last(), |identifier| {
            Ipv6Addr::from_bits(network | u128::from(identifier))
        })
}

/// The address with its last 16 bits chosen so that translation between it and `v4` leaves the
/// checksums of TCP and UDP unchanged for every destination. That requires a NAT64 prefix that
/// embeds IPv4 addresses at a 16-bit boundary in one piece: 32 or 96 bits. Otherwise returns
/// `address`.
pub fn checksum_neutral(address: Ipv6Addr, v4: Ipv4Addr, pref64: Pref64) -> Ipv6Addr {
    let prefix = pref64.prefix();
    if !matches!(prefix.len(), 32 | 96) {
        return address;
    }
    let rest = Ipv6Addr::from_bits(address.to_bits() & !0xffff);
    let wanted = Sum::ipv4(v4) - Sum::ipv6(rest) - Sum::ipv6(prefix.address());
    let neutral = Ipv6Addr::from_bits(rest.to_bits() | u128::from(wanted.folded()));
    match is_reserved(neutral.to_bits() as u64) {
        true => address,
        false => neutral,
    }
}

/// One free /64 of each prefix delegated to this host: the last one that does not overlap a network
/// in `used`, as networks are usually numbered from the first on.
pub fn free_delegated(delegated: &[Ipv6Prefix], used: &[Ipv6Prefix]) -> Vec<Ipv6Prefix> {
    let free = delegated.iter().filter_map(|prefix| {
        // A shorter one covers the prefix itself, such as a default route.
        let used = || used.iter().filter(|network| network.len() >= prefix.len());
        let last = Ipv6Prefix::containing(prefix.last(), 64)
            .address()
            .to_bits()
            >> 64;
        let first = prefix.address().to_bits() >> 64;
        let mut networks = (first..=last).rev().take(DELEGATED_TRIES);
        networks.find_map(|network| {
            let network = Ipv6Prefix::containing(Ipv6Addr::from_bits(network << 64), 64);
            let is_free = !used().any(|other| other.overlaps(&network));
            is_free.then_some(network)
        })
    });
    free.collect()
}

/// The one of them for source addresses towards `pref64` (RFC 6724 section 5 rule 6): a unique
/// local network does not reach a global prefix.
pub fn choose_delegated(free: &[Ipv6Prefix], pref64: Pref64) -> Option<Ipv6Prefix> {
    let to = label(pref64.prefix().address());
    let mut fitting = free.iter().filter(|one| label(one.address()) == to);
    fitting.next().copied()
}

/// Maximum number of networks of a delegated prefix to check.
const DELEGATED_TRIES: usize = 256;

/// True for reserved interface identifiers (RFC 5453, RFC 6543).
fn is_reserved(identifier: u64) -> bool {
    identifier == 0
        || (0x0200_5eff_fe00_0000..=0x0200_5eff_fe00_5213).contains(&identifier)
        || (0xfdff_ffff_ffff_ff80..=0xfdff_ffff_ffff_ffff).contains(&identifier)
}

/// True for a unicast address that is routable beyond the link: global or unique local.
fn is_global(address: Ipv6Addr) -> bool {
    xlat_core::addr::special::is_legal_v6_source(address) && !address.is_unicast_link_local()
}

/// The label of an address in the default policy table (RFC 6724 section 2.1).
fn label(address: Ipv6Addr) -> u8 {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => 0,
        [0, 0, 0, 0, 0, 0xffff, ..] => 4,
        [0, 0, 0, 0, 0, 0, ..] => 3,
        [0x2002, ..] => 2,
        [0x2001, 0, ..] => 5,
        [0x3ffe, ..] => 12,
        [first, ..] if first & 0xffc0 == 0xfec0 => 11,
        [first, ..] if first & 0xfe00 == 0xfc00 => 13,
        _ => 1,
    }
}

fn common_bits(a: Ipv6Addr, b: Ipv6Addr) -> u32 {
    (a.to_bits() ^ b.to_bits()).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(address: &str) -> Candidate {
        let address = address.parse().unwrap();
        Candidate {
            address,
            len: 64,
            deprecated: false,
            temporary: false,
            tentative: false,
        }
    }

    /// The network, or the single address, that is chosen.
    fn chosen(candidates: &[Candidate], pref64: &str) -> Option<String> {
        let source = choose_source(candidates, pref64.parse().unwrap())?;
        let single = source.address.to_string();
        Some(source.network.map_or(single, |network| network.to_string()))
    }

    fn single(address: &str) -> Candidate {
        Candidate {
            len: 128,
            ..candidate(address)
        }
    }

    fn deprecated(candidate: Candidate) -> Candidate {
        Candidate {
            deprecated: true,
            ..candidate
        }
    }

    fn tentative(candidate: Candidate) -> Candidate {
        Candidate {
            tentative: true,
            ..candidate
        }
    }

    #[test]
    fn cl_07_a_neutral_address_changes_no_checksum() {
        let v4 = Ipv4Addr::new(192, 0, 0, 1);
        let stable = stable_address("2001:db8:1::/64".parse().unwrap(), "eth0", 0, [7, 8]);
        for pref64 in ["64:ff9b::/96", "2001:db8::/32"] {
            let pref64: Pref64 = pref64.parse().unwrap();
            let neutral = checksum_neutral(stable, v4, pref64);
            assert_eq!(neutral.to_bits() >> 16, stable.to_bits() >> 16);
            for remote in [Ipv4Addr::new(198, 51, 100, 7), Ipv4Addr::new(8, 8, 8, 8)] {
                let four = Sum::ipv4(v4) + Sum::ipv4(remote);
                let six = Sum::ipv6(neutral) + Sum::ipv6(pref64.embed(remote));
                assert_eq!(four.checksum(), six.checksum(), "{pref64} {remote}");
            }
        }
        let odd: Pref64 = "2001:db8:122:300::/56".parse().unwrap();
        assert_eq!(checksum_neutral(stable, v4, odd), stable);
    }

    #[test]
    fn cl_02_the_last_free_network_of_a_delegated_prefix_is_taken() {
        let delegated: Vec<Ipv6Prefix> = vec!["2001:db8:7::/56".parse().unwrap()];
        let chosen = |used: &[&str]| {
            let used: Vec<Ipv6Prefix> = used.iter().map(|text| text.parse().unwrap()).collect();
            let free = free_delegated(&delegated, &used);
            free.first().map(ToString::to_string)
        };
        let first = chosen(&["2001:db8:7::1/128", "::/0", "2001:db8::/32"]);
        assert_eq!(first.as_deref(), Some("2001:db8:7:ff::/64"));
        let next = chosen(&["2001:db8:7:ff::1/128"]);
        assert_eq!(next.as_deref(), Some("2001:db8:7:fe::/64"));
        // The upper half is another router's.
        let half = chosen(&["2001:db8:7:80::/57"]);
        assert_eq!(half.as_deref(), Some("2001:db8:7:7f::/64"));
        assert!(free_delegated(&[], &[]).is_empty());
        let one: Ipv6Prefix = "2001:db8:9:1::/64".parse().unwrap();
        assert_eq!(free_delegated(&[one], &[]), [one]);
        let used = "2001:db8:9:1::1/128".parse().unwrap();
        assert!(free_delegated(&[one], &[used]).is_empty());
    }

    #[test]
    fn cl_06_a_delegated_prefix_of_the_sites_own_does_not_talk_to_the_world() {
        let [local, global] =
            ["fd00:7::/64", "2001:db8:7::/64"].map(|text| text.parse::<Ipv6Prefix>().unwrap());
        let chosen = |pref64: &str| choose_delegated(&[local, global], pref64.parse().unwrap());
        assert_eq!(chosen("64:ff9b::/96"), Some(global));
        assert_eq!(chosen("fd00:64::/96"), Some(local));
        assert_eq!(
            choose_delegated(&[local], "64:ff9b::/96".parse().unwrap()),
            None
        );
    }

    #[test]
    fn cl_06_a_global_prefix_talks_to_a_global_nat64_and_a_local_one_to_a_local_one() {
        let both = [candidate("fd00:1::5"), candidate("2001:db8:1::5")];
        assert_eq!(
            chosen(&both, "64:ff9b::/96").as_deref(),
            Some("2001:db8:1::/64")
        );
        assert_eq!(
            chosen(&both, "fd00:64::/96").as_deref(),
            Some("fd00:1::/64")
        );
    }

    #[test]
    fn cl_06_among_equals_the_longest_match_wins_in_any_order() {
        let mut two = [candidate("2001:db8:1::5"), candidate("2001:db8:8000::5")];
        for _ in 0..2 {
            assert_eq!(
                chosen(&two, "2001:db8:8001::/96").as_deref(),
                Some("2001:db8:8000::/64")
            );
            two.reverse();
        }
    }

    #[test]
    fn addresses_that_will_not_last_come_last() {
        let old = Candidate {
            deprecated: true,
            ..candidate("2001:db8:8001::5")
        };
        let private = Candidate {
            temporary: true,
            ..candidate("2001:db8:8001:1::5")
        };
        let plain = candidate("2001:db8:1::5");
        let chosen = |candidates: &[Candidate]| chosen(candidates, "2001:db8:8001::/96");
        assert_eq!(
            chosen(&[old, private, plain]).as_deref(),
            Some("2001:db8:1::/64")
        );
        assert_eq!(chosen(&[old]).as_deref(), Some("2001:db8:8001::/64"));
    }

    #[test]
    fn fc_03_a_single_address_that_fits_comes_before_a_network_that_does_not() {
        let global = single("2001:db8:1::5");
        let choices = [
            (candidate("fd00:1::5"), "64:ff9b::/96", "2001:db8:1::5"),
            (candidate("fd00:1::5"), "fd00:64::/96", "fd00:1::/64"),
            (
                deprecated(candidate("2001:db8:2::5")),
                "64:ff9b::/96",
                "2001:db8:1::5",
            ),
            (
                candidate("2002:c000:201::5"),
                "64:ff9b::/96",
                "2001:db8:1::5",
            ),
            // Both fit: the network has room for an address of the CLAT's own.
            (
                candidate("2001:db8:2::5"),
                "64:ff9b::/96",
                "2001:db8:2::/64",
            ),
            (
                candidate("2001:db8:1::7"),
                "64:ff9b::/96",
                "2001:db8:1::/64",
            ),
            // Both fit, and one is of the provider that translates (rule 8).
            (
                candidate("2001:db8:ff00::5"),
                "2001:db8:1:64::/96",
                "2001:db8:1::5",
            ),
        ];
        for (other, pref64, expected) in choices {
            for pair in [[global, other], [other, global]] {
                assert_eq!(chosen(&pair, pref64).as_deref(), Some(expected), "{pair:?}");
            }
        }
        // With nothing better, they have to do.
        let old = [deprecated(candidate("2001:db8:2::5"))];
        assert_eq!(
            chosen(&old, "64:ff9b::/96").as_deref(),
            Some("2001:db8:2::/64")
        );
        let local = [candidate("fd00:1::5")];
        assert_eq!(
            chosen(&local, "64:ff9b::/96").as_deref(),
            Some("fd00:1::/64")
        );
    }

    #[test]
    fn fc_03_a_more_fitting_address_is_awaited_while_duplicates_are_detected() {
        let (local, global) = (candidate("fd00:1::5"), single("2001:db8:1::5"));
        let chosen = |candidates: &[Candidate]| chosen(candidates, "64:ff9b::/96");
        assert_eq!(chosen(&[local, tentative(global)]), None);
        // A network spares the host the sharing of its address.
        let network = candidate("2001:db8:2::5");
        assert_eq!(chosen(&[global, tentative(network)]), None);
        // No better than what is there: nothing is awaited.
        for late in [local, global, deprecated(network), candidate("fe80::5")] {
            let both = [network, tentative(late)];
            assert_eq!(
                chosen(&both).as_deref(),
                Some("2001:db8:2::/64"),
                "{late:?}"
            );
        }
        assert_eq!(chosen(&[tentative(network), candidate("fe80::5")]), None);
    }

    #[test]
    fn fc_03_what_runs_fits_until_a_more_fitting_address_is_there() {
        let pref64 = "64:ff9b::/96".parse().unwrap();
        let (local, global) = (candidate("fd00:1::5"), single("2001:db8:1::5"));
        let fits = |used: Candidate, others: &[Candidate]| still_fits(&[&used], others, pref64);
        assert!(fits(local, &[local]));
        assert!(fits(local, &[local, tentative(global)]));
        assert!(!fits(local, &[local, global]));
        assert!(fits(local, &[local, deprecated(global)]));
        assert!(fits(global, &[local, global, candidate("2001:db8:2::5")]));
        assert!(!fits(deprecated(global), &[]));
        assert!(!fits(tentative(global), &[]));
        assert!(!still_fits(&[], &[local], pref64));
    }

    #[test]
    fn without_a_64_bit_prefix_an_address_can_only_be_shared() {
        let link_local = candidate("fe80::5");
        let single = single("2001:db8:1::5");
        assert_eq!(chosen(&[link_local], "64:ff9b::/96"), None);
        let shared = chosen(&[link_local, single], "64:ff9b::/96");
        assert_eq!(shared.as_deref(), Some("2001:db8:1::5"));
    }

    #[test]
    fn a_private_prefix_is_a_local_one_and_another_one_elsewhere() {
        let [one, other] = [[1, 2], [1, 3]].map(private_prefix);
        assert_eq!((one.address().octets()[0], one.len()), (0xfd, 64));
        assert_eq!(one.address().segments()[3], 0);
        assert_ne!(one, other);
    }

    #[test]
    fn cl_07_the_identifier_is_stable_here_and_different_elsewhere() {
        let prefix = "2001:db8:1::/64".parse().unwrap();
        let other = "2001:db8:2::/64".parse().unwrap();
        let address = stable_address(prefix, "eth0", 0, [1, 2]);
        assert!(prefix.contains(address));
        assert_eq!(address, stable_address(prefix, "eth0", 0, [1, 2]));
        let identifier = |address: Ipv6Addr| address.to_bits() as u64;
        let others = [
            stable_address(other, "eth0", 0, [1, 2]),
            stable_address(prefix, "eth1", 0, [1, 2]),
            stable_address(prefix, "eth0", 1, [1, 2]),
            stable_address(prefix, "eth0", 0, [1, 3]),
        ];
        for changed in others {
            assert_ne!(identifier(changed), identifier(address));
        }
    }

    #[test]
    fn reserved_identifiers_are_known_at_their_edges() {
        for reserved in [
            0,
            0x0200_5eff_fe00_0000,
            0xfdff_ffff_ffff_ff80,
            0xfdff_ffff_ffff_ffff,
        ] {
            assert!(is_reserved(reserved), "{reserved:x}");
        }
        for free in [
            1,
            0x0200_5eff_fdff_ffff,
            0xfdff_ffff_ffff_ff7f,
            0xfe00_0000_0000_0000,
        ] {
            assert!(!is_reserved(free), "{free:x}");
        }
    }
}
