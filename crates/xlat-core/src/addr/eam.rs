//! Explicit address mappings (RFC 7757): IPv4 prefixes coupled with IPv6 prefixes.
//!
//! The bits behind the IPv4 prefix are copied to directly behind the IPv6 prefix, and back. The
//! two need not be equally long: what the IPv6 side has more is zero, and ignored when it is read.
//! Nested entries work by longest match in both directions, on their own side each.

use alloc::vec::Vec;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use super::{Ipv4Prefix, Ipv6Prefix, Pref64, PrefixError};

/// One explicit address mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Eam {
    v4: Ipv4Prefix,
    v6: Ipv6Prefix,
}

impl Eam {
    /// Couples `v4` with `v6`.
    ///
    /// # Errors
    /// If the IPv4 suffix does not fit behind the IPv6 prefix (RFC 7757 section 3.1), or if the
    /// IPv6 side lies in the well-known prefix, which never names IPv6 nodes (RFC 6052 section
    /// 3.1).
    pub fn new(v4: Ipv4Prefix, v6: Ipv6Prefix) -> Result<Self, EamError> {
        if 32 - v4.len() > 128 - v6.len() {
            return Err(EamError::Suffix { v4, v6 });
        }
        if v6.overlaps(&Pref64::WELL_KNOWN.prefix()) {
            return Err(EamError::WellKnownPrefix(v6));
        }
        Ok(Self { v4, v6 })
    }

    /// One address for one address.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn host(v4: Ipv4Addr, v6: Ipv6Addr) -> Result<Self, EamError> {
        Self::new(Ipv4Prefix::host(v4), Ipv6Prefix::host(v6))
    }

    /// The IPv4 side.
    pub const fn v4(&self) -> Ipv4Prefix {
        self.v4
    }

    /// The IPv6 side.
    pub const fn v6(&self) -> Ipv6Prefix {
        self.v6
    }

    /// The IPv6 form of `address`, if it lies in the IPv4 prefix.
    #[inline]
    pub const fn lookup_v4(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        if self.v4.contains(address) {
            Some(self.to_v6(address))
        } else {
            None
        }
    }

    /// The IPv4 form of `address`, if it lies in the IPv6 prefix.
    #[inline]
    pub const fn lookup_v6(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        if self.v6.contains(address) {
            Some(self.to_v4(address))
        } else {
            None
        }
    }

    /// The IPv6 form of `address`, which lies in the IPv4 prefix.
    #[inline]
    const fn to_v6(self, address: Ipv4Addr) -> Ipv6Addr {
        let suffix = (address.to_bits() & !self.v4.mask()) as u128;
        Ipv6Addr::from_bits(self.v6.address().to_bits() | suffix << self.shift())
    }

    /// The IPv4 form of `address`, which lies in the IPv6 prefix.
    #[inline]
    const fn to_v4(self, address: Ipv6Addr) -> Ipv4Addr {
        let suffix = (address.to_bits() & !self.v6.mask()) >> self.shift();
        Ipv4Addr::from_bits(self.v4.address().to_bits() | suffix as u32)
    }

    /// Bits that the IPv6 suffix has more than the IPv4 suffix.
    #[inline]
    const fn shift(self) -> u32 {
        (128 - self.v6.len() as u32) - (32 - self.v4.len() as u32)
    }
}

impl fmt::Display for Eam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.v4, self.v6)
    }
}

impl FromStr for Eam {
    type Err = EamError;

    /// Parses `IPV4[/LENGTH]=IPV6[/LENGTH]`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (v4, v6) = text.split_once('=').ok_or(EamError::Syntax)?;
        let v4 = v4.trim().parse().map_err(EamError::V4)?;
        Self::new(v4, v6.trim().parse().map_err(EamError::V6)?)
    }
}

/// Why an explicit mapping, or a table of them, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EamError {
    /// Not of the form `IPV4=IPV6`.
    Syntax,
    /// The IPv4 side is not a prefix.
    V4(PrefixError),
    /// The IPv6 side is not a prefix.
    V6(PrefixError),
    /// The IPv4 suffix is longer than the IPv6 suffix.
    Suffix {
        /// The IPv4 side.
        v4: Ipv4Prefix,
        /// The IPv6 side.
        v6: Ipv6Prefix,
    },
    /// The IPv6 side lies in the well-known prefix.
    WellKnownPrefix(Ipv6Prefix),
    /// Two entries have the same IPv4 prefix.
    DuplicateV4(Ipv4Prefix),
    /// Two entries have the same IPv6 prefix.
    DuplicateV6(Ipv6Prefix),
}

impl fmt::Display for EamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax => f.write_str("not of the form IPV4[/LENGTH]=IPV6[/LENGTH]"),
            Self::V4(error) => write!(f, "the IPv4 side: {error}"),
            Self::V6(error) => write!(f, "the IPv6 side: {error}"),
            Self::Suffix { v4, v6 } => {
                write!(
                    f,
                    "{v4} has more addresses than {v6} has room for (RFC 7757)"
                )
            }
            Self::WellKnownPrefix(v6) => {
                write!(
                    f,
                    "{v6} lies in the well-known prefix, which names no IPv6 nodes"
                )
            }
            Self::DuplicateV4(v4) => write!(f, "{v4} is mapped twice"),
            Self::DuplicateV6(v6) => write!(f, "{v6} is mapped twice"),
        }
    }
}

impl core::error::Error for EamError {}

/// A table of explicit mappings with longest match in both directions.
///
/// A look-up costs one binary search per prefix length that occurs, so a table of a hundred
/// thousand hosts costs one search, and an empty one nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EamTable {
    v4: Vec<Level<u32>>,
    v6: Vec<Level<u128>>,
}

/// All entries of one prefix length, sorted by their masked address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Level<Bits> {
    mask: Bits,
    entries: Vec<(Bits, Eam)>,
}

impl EamTable {
    /// A table of these entries.
    ///
    /// # Errors
    /// Two entries with the same prefix on one side.
    pub fn new(entries: impl IntoIterator<Item = Eam>) -> Result<Self, EamError> {
        let entries: Vec<Eam> = entries.into_iter().collect();
        let table = Self::unchecked(&entries);
        if let Some(eam) = duplicate(&table.v4) {
            return Err(EamError::DuplicateV4(eam.v4));
        }
        if let Some(eam) = duplicate(&table.v6) {
            return Err(EamError::DuplicateV6(eam.v6));
        }
        Ok(table)
    }

    fn unchecked(entries: &[Eam]) -> Self {
        let v4 = levels(entries, |eam| {
            (eam.v4.len(), eam.v4.mask(), eam.v4.address().to_bits())
        });
        let v6 = levels(entries, |eam| {
            (eam.v6.len(), eam.v6.mask(), eam.v6.address().to_bits())
        });
        Self { v4, v6 }
    }

    /// True if there are no entries.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty()
    }

    /// All entries, longest IPv4 prefixes first.
    pub fn iter(&self) -> impl Iterator<Item = &Eam> {
        self.v4
            .iter()
            .flat_map(|level| level.entries.iter().map(|(_, eam)| eam))
    }

    /// The IPv6 form of `address` by the longest matching entry (RFC 7757 section 3.3.1).
    #[inline]
    pub fn lookup_v4(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        find(&self.v4, address.to_bits()).map(|eam| eam.to_v6(address))
    }

    /// The IPv4 form of `address` by the longest matching entry (RFC 7757 section 3.3.2).
    #[inline]
    pub fn lookup_v6(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        find(&self.v6, address.to_bits()).map(|eam| eam.to_v4(address))
    }

    /// Pairs of entries of which one lies inside the other on either side: they work, but the
    /// mapping may not be the same in both directions (RFC 7757 section 3.2).
    pub fn overlaps(&self) -> Vec<(Eam, Eam)> {
        let mut entries: Vec<Eam> = self.iter().copied().collect();
        let mut pairs = Vec::new();
        entries.sort_by_key(|eam| (eam.v4.address(), eam.v4.len()));
        pairs.extend(nested(&entries, |outer, inner| {
            outer.v4.overlaps(&inner.v4)
        }));
        entries.sort_by_key(|eam| (eam.v6.address(), eam.v6.len()));
        for pair in nested(&entries, |outer, inner| outer.v6.overlaps(&inner.v6)) {
            if !pairs.contains(&pair) && !pairs.contains(&(pair.1, pair.0)) {
                pairs.push(pair);
            }
        }
        pairs
    }
}

/// Each entry with the nearest one before it that holds it; `entries` are sorted so that an outer
/// prefix stands before all inside it.
fn nested(entries: &[Eam], overlaps: impl Fn(&Eam, &Eam) -> bool) -> Vec<(Eam, Eam)> {
    let mut open: Vec<Eam> = Vec::new();
    let mut pairs = Vec::new();
    for entry in entries {
        while open.last().is_some_and(|outer| !overlaps(outer, entry)) {
            open.pop();
        }
        pairs.extend(open.last().map(|outer| (*outer, *entry)));
        open.push(*entry);
    }
    pairs
}

fn levels<Bits: Copy + Ord>(
    entries: &[Eam],
    side: impl Fn(&Eam) -> (u8, Bits, Bits),
) -> Vec<Level<Bits>> {
    let mut sorted: Vec<_> = entries.iter().map(|eam| (side(eam), *eam)).collect();
    sorted.sort_by_key(|((len, _, bits), _)| (core::cmp::Reverse(*len), *bits));
    let mut levels: Vec<(u8, Level<Bits>)> = Vec::new();
    for ((len, mask, bits), eam) in sorted {
        match levels.last_mut() {
            Some((last, level)) if *last == len => level.entries.push((bits, eam)),
            _ => levels.push((
                len,
                Level {
                    mask,
                    entries: alloc::vec![(bits, eam)],
                },
            )),
        }
    }
    levels.into_iter().map(|(_, level)| level).collect()
}

fn duplicate<Bits: PartialEq>(levels: &[Level<Bits>]) -> Option<Eam> {
    levels.iter().find_map(|level| {
        let twice = level
            .entries
            .windows(2)
            .find(|pair| pair[0].0 == pair[1].0)?;
        Some(twice[0].1)
    })
}

#[inline]
fn find<Bits>(levels: &[Level<Bits>], address: Bits) -> Option<Eam>
where
    Bits: Copy + Ord + core::ops::BitAnd<Output = Bits>,
{
    levels.iter().find_map(|level| {
        let masked = address & level.mask;
        let at = level
            .entries
            .binary_search_by_key(&masked, |(bits, _)| *bits)
            .ok()?;
        Some(level.entries[at].1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[&str]) -> EamTable {
        EamTable::new(entries.iter().map(|text| text.parse::<Eam>().unwrap())).unwrap()
    }

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn ea_01_the_ipv4_suffix_must_fit_behind_the_ipv6_prefix() {
        assert!("192.0.2.0/24=2001:db8::/64".parse::<Eam>().is_ok());
        assert!("192.0.2.0/24=2001:db8::/120".parse::<Eam>().is_ok());
        assert!(matches!(
            "192.0.2.0/24=2001:db8::/121".parse::<Eam>(),
            Err(EamError::Suffix { .. })
        ));
        assert_eq!(
            "192.0.2.1/24=2001:db8::/64".parse::<Eam>(),
            Err(EamError::V4(PrefixError::HostBits))
        );
        assert_eq!("192.0.2.1".parse::<Eam>(), Err(EamError::Syntax));
        let twice = ["192.0.2.1=2001:db8::1", "192.0.2.1=2001:db8::2"];
        let twice = EamTable::new(twice.iter().map(|text| text.parse::<Eam>().unwrap()));
        assert_eq!(
            twice,
            Err(EamError::DuplicateV4("192.0.2.1".parse().unwrap()))
        );
    }

    /// The example of RFC 7757 section 3.2 with all its kinds of entries.
    #[test]
    fn ea_02_ea_03_suffix_bits_follow_the_ipv6_prefix() {
        let table = table(&[
            "192.0.2.1=2001:db8:aaaa::",
            "192.0.2.2/32=2001:db8:bbbb::b/128",
            "192.0.2.16/28=2001:db8:cccc::/124",
            "192.0.2.128/26=2001:db8:dddd::/64",
            "192.0.2.192/29=2001:db8:eeee:8::/62",
            "192.0.2.224/31=64:ff9b:1::/127",
        ]);
        for (low, high) in [
            ("192.0.2.1", "2001:db8:aaaa::"),
            ("192.0.2.2", "2001:db8:bbbb::b"),
            ("192.0.2.16", "2001:db8:cccc::"),
            ("192.0.2.24", "2001:db8:cccc::8"),
            ("192.0.2.128", "2001:db8:dddd::"),
            ("192.0.2.152", "2001:db8:dddd:0:6000::"),
            ("192.0.2.192", "2001:db8:eeee:8::"),
            ("192.0.2.195", "2001:db8:eeee:9:8000::"),
            ("192.0.2.225", "64:ff9b:1::1"),
        ] {
            assert_eq!(table.lookup_v4(v4(low)), Some(v6(high)), "{low}");
            assert_eq!(table.lookup_v6(v6(high)), Some(v4(low)), "{high}");
        }
        assert_eq!(
            table.lookup_v6(v6("2001:db8:dddd:0:6000::dead")),
            Some(v4("192.0.2.152"))
        );
        assert_eq!(table.lookup_v4(v4("192.0.2.3")), None);
        assert_eq!(table.lookup_v6(v6("2001:db8:bbbb::c")), None);
    }

    #[test]
    fn ea_06_nested_entries_go_by_longest_match_on_each_side_and_are_listed() {
        let table = table(&["192.0.2.0/24=2001:db8:1::/120", "192.0.2.7=2001:db8:2::7"]);
        assert_eq!(table.lookup_v4(v4("192.0.2.7")), Some(v6("2001:db8:2::7")));
        assert_eq!(table.lookup_v4(v4("192.0.2.8")), Some(v6("2001:db8:1::8")));
        assert_eq!(table.lookup_v6(v6("2001:db8:1::7")), Some(v4("192.0.2.7")));
        let overlaps = table.overlaps();
        assert_eq!(overlaps.len(), 1);
        assert_eq!(overlaps[0].0.v4().len(), 24);
    }

    #[test]
    fn ad_11_the_well_known_prefix_names_no_ipv6_node() {
        let refused = "192.0.2.1=64:ff9b::192.0.2.1".parse::<Eam>();
        assert!(matches!(refused, Err(EamError::WellKnownPrefix(_))));
    }

    #[test]
    fn a_whole_address_space_can_be_mapped() {
        let table = table(&["0.0.0.0/0=2001:db8::/96"]);
        assert_eq!(
            table.lookup_v4(v4("203.0.113.9")),
            Some(v6("2001:db8::203.0.113.9"))
        );
        assert_eq!(
            table.lookup_v6(v6("2001:db8::203.0.113.9")),
            Some(v4("203.0.113.9"))
        );
    }
}
