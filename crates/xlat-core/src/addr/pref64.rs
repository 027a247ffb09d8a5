//! IPv4 addresses inside IPv6 addresses (RFC 6052).
//!
//! ```text
//! length  0       32      40      48      56      64      72      80      88      96     104
//!    32   | prefix |v4(32)                         | u | suffix                              |
//!    40   | prefix         |v4(24)                 | u |(8)    | suffix                      |
//!    48   | prefix                 |v4(16)         | u |(16)           | suffix              |
//!    56   | prefix                         |(8)    | u |v4(24)                 | suffix      |
//!    64   | prefix                                 | u |v4(32)                         | sfx |
//!    96   | prefix                                                         |v4(32)           |
//! ```
//!
//! Byte 8 ("u") is never part of the address: it is zero in what we make, and ignored, like the
//! suffix, in what we read.

use alloc::vec::Vec;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use super::special;
use super::{Ipv6Prefix, PrefixError};
use crate::reason::DropReason;

/// An IPv6 prefix that IPv4 addresses are embedded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pref64 {
    prefix: Ipv6Prefix,
}

/// The lengths that RFC 6052 section 2.2 allows.
pub const PREF64_LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

/// 64 bits and the u octet: where a short prefix is interrupted.
const U_BITS: u32 = 8;

impl Pref64 {
    /// The well-known prefix 64:ff9b::/96 (RFC 6052 section 2.1).
    pub const WELL_KNOWN: Self = Self {
        prefix: Ipv6Prefix::containing(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    };

    /// A prefix of one of the six lengths.
    ///
    /// # Errors
    /// Another length, or a /96 whose bits 64 to 71 are not zero (RFC 6052 section 2.2).
    pub const fn new(prefix: Ipv6Prefix) -> Result<Self, Pref64Error> {
        match prefix.len() {
            32 | 40 | 48 | 56 | 64 => Ok(Self { prefix }),
            96 if prefix.address().octets()[8] == 0 => Ok(Self { prefix }),
            96 => Err(Pref64Error::UOctet),
            len => Err(Pref64Error::Length(len)),
        }
    }

    /// The prefix as such.
    pub const fn prefix(&self) -> Ipv6Prefix {
        self.prefix
    }

    /// True for 64:ff9b::/96 and nothing else.
    #[inline]
    pub fn is_well_known(&self) -> bool {
        *self == Self::WELL_KNOWN
    }

    /// True if `address` lies in the prefix.
    #[inline]
    pub const fn contains(&self, address: Ipv6Addr) -> bool {
        self.prefix.contains(address)
    }

    /// The IPv6 form of `address` (RFC 6052 section 2.3).
    #[inline]
    pub const fn embed(&self, address: Ipv4Addr) -> Ipv6Addr {
        let prefix = self.prefix.address().to_bits();
        let bits = address.to_bits() as u128;
        let len = self.prefix.len() as u32;
        if len == 96 {
            return Ipv6Addr::from_bits(prefix | bits);
        }
        // As if there were no u octet, then everything behind byte 8 moves by one byte.
        let packed = bits << (96 - len);
        let high = packed & HIGH;
        let low = packed & !HIGH;
        Ipv6Addr::from_bits(prefix | high | low >> U_BITS)
    }

    /// The IPv4 address in `address`; `None` if it does not lie in the prefix.
    #[inline]
    pub const fn extract(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let bits = address.to_bits();
        let len = self.prefix.len() as u32;
        if len == 96 {
            // By far the most common length, and nothing to be put together.
            let same = (bits ^ self.prefix.address().to_bits()) >> 32 == 0;
            return if same {
                Some(Ipv4Addr::from_bits(bits as u32))
            } else {
                None
            };
        }
        if !self.contains(address) {
            return None;
        }
        let packed = bits & HIGH | (bits & LOW) << U_BITS;
        Some(Ipv4Addr::from_bits((packed >> (96 - len)) as u32))
    }
}

/// The 64 bits in front of the u octet.
const HIGH: u128 = !0 << 64;
/// The 56 bits behind it.
const LOW: u128 = !HIGH >> U_BITS;

impl fmt::Display for Pref64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix.fmt(f)
    }
}

impl FromStr for Pref64 {
    type Err = Pref64Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text.parse().map_err(Pref64Error::Prefix)?)
    }
}

/// Why a prefix cannot carry IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pref64Error {
    /// Not a prefix at all.
    Prefix(PrefixError),
    /// A length that RFC 6052 does not know.
    Length(u8),
    /// A /96 with bits 64 to 71 set.
    UOctet,
}

impl fmt::Display for Pref64Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(error) => error.fmt(f),
            Self::Length(len) => write!(
                f,
                "a NAT64 prefix is 32, 40, 48, 56, 64 or 96 bits long, not {len} (RFC 6052)"
            ),
            Self::UOctet => {
                f.write_str("bits 64 to 71 of a /96 NAT64 prefix must be zero (RFC 6052)")
            }
        }
    }
}

impl core::error::Error for Pref64Error {}

/// The NAT64 prefixes of a translator, and the rules about what may be embedded in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pref64s {
    /// Longest first, so that the first match is the longest one.
    prefixes: Vec<Pref64>,
    wkp_strict: bool,
}

impl Pref64s {
    /// These prefixes; the order does not matter but for [`first`](Self::first). `wkp_strict`
    /// keeps non-global IPv4 addresses out of the well-known prefix (RFC 6052 section 3.1).
    pub fn new(prefixes: impl IntoIterator<Item = Pref64>, wkp_strict: bool) -> Self {
        let mut prefixes: Vec<_> = prefixes.into_iter().collect();
        prefixes.sort_by_key(|pref64| core::cmp::Reverse(pref64.prefix().len()));
        Self {
            prefixes,
            wkp_strict,
        }
    }

    /// True if non-global IPv4 addresses are kept out of the well-known prefix.
    pub fn is_wkp_strict(&self) -> bool {
        self.wkp_strict
    }

    /// One prefix with the strict rule on.
    pub fn single(prefix: Pref64) -> Self {
        Self::new([prefix], true)
    }

    /// The longest prefix, if there is one at all.
    pub fn first(&self) -> Option<Pref64> {
        self.prefixes.first().copied()
    }

    /// All prefixes, longest first.
    pub fn iter(&self) -> impl Iterator<Item = &Pref64> {
        self.prefixes.iter()
    }

    /// The prefix that `address` lies in, if any.
    #[inline]
    pub fn lookup(&self, address: Ipv6Addr) -> Option<Pref64> {
        self.prefixes
            .iter()
            .find(|pref64| pref64.contains(address))
            .copied()
    }

    /// The IPv4 destination that `address` stands for, and the prefix it came in, which replies
    /// must come from too.
    ///
    /// # Errors
    /// [`UnmappedDestination`](DropReason::UnmappedDestination) outside all prefixes,
    /// [`IllegalDestination`](DropReason::IllegalDestination) for what never crosses (SE-05),
    /// [`WellKnownPrefix`](DropReason::WellKnownPrefix) by the strict rule.
    #[inline]
    pub fn destination(&self, address: Ipv6Addr) -> Result<(Ipv4Addr, Pref64), DropReason> {
        self.extract(
            address,
            DropReason::UnmappedDestination,
            DropReason::IllegalDestination,
        )
    }

    /// The IPv4 source that `address` stands for.
    ///
    /// # Errors
    /// As [`destination`](Self::destination), with the source's reasons.
    #[inline]
    pub fn source(&self, address: Ipv6Addr) -> Result<(Ipv4Addr, Pref64), DropReason> {
        self.extract(
            address,
            DropReason::UnmappedSource,
            DropReason::IllegalSource,
        )
    }

    #[inline]
    fn extract(
        &self,
        address: Ipv6Addr,
        unmapped: DropReason,
        illegal: DropReason,
    ) -> Result<(Ipv4Addr, Pref64), DropReason> {
        let found = self
            .prefixes
            .iter()
            .find_map(|pref64| Some((pref64.extract(address)?, *pref64)));
        let (v4, pref64) = found.ok_or(unmapped)?;
        if special::is_never_v4(v4) {
            return Err(illegal);
        }
        self.check_well_known(pref64, v4)?;
        Ok((v4, pref64))
    }

    /// The IPv6 form of an IPv4 source in `pref64`.
    ///
    /// # Errors
    /// [`IllegalSource`](DropReason::IllegalSource) for what never crosses,
    /// [`WellKnownPrefix`](DropReason::WellKnownPrefix) by the strict rule.
    #[inline]
    pub fn embed_source(&self, pref64: Pref64, v4: Ipv4Addr) -> Result<Ipv6Addr, DropReason> {
        if special::is_never_v4(v4) {
            return Err(DropReason::IllegalSource);
        }
        self.check_well_known(pref64, v4)?;
        Ok(pref64.embed(v4))
    }

    /// The IPv6 form of an IPv4 destination in `pref64`.
    ///
    /// # Errors
    /// As [`embed_source`](Self::embed_source), with the destination's reason.
    #[inline]
    pub fn embed_destination(&self, pref64: Pref64, v4: Ipv4Addr) -> Result<Ipv6Addr, DropReason> {
        if special::is_never_v4(v4) {
            return Err(DropReason::IllegalDestination);
        }
        self.check_well_known(pref64, v4)?;
        Ok(pref64.embed(v4))
    }

    #[inline]
    fn check_well_known(&self, pref64: Pref64, v4: Ipv4Addr) -> Result<(), DropReason> {
        if self.wkp_strict && pref64.is_well_known() && !special::is_global_v4(v4) {
            return Err(DropReason::WellKnownPrefix);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 33);

    /// RFC 6052 section 2.4, table 1.
    const VECTORS: [(&str, &str); 7] = [
        ("2001:db8::/32", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100:0"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
        ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
    ];

    fn pref64(text: &str) -> Pref64 {
        text.parse().unwrap()
    }

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn ad_01_only_the_six_lengths_of_rfc_6052_are_prefixes() {
        for len in 0..=128 {
            let prefix = Ipv6Prefix::new(Ipv6Addr::UNSPECIFIED, len).unwrap();
            assert_eq!(
                Pref64::new(prefix).is_ok(),
                PREF64_LENGTHS.contains(&len),
                "/{len}"
            );
        }
        assert_eq!(
            "2001:db8::/97".parse::<Pref64>(),
            Err(Pref64Error::Length(97))
        );
    }

    #[test]
    fn ad_02_the_examples_of_rfc_6052_section_2_4() {
        for (prefix, address) in VECTORS {
            assert_eq!(pref64(prefix).embed(V4), v6(address), "{prefix}");
            assert_eq!(pref64(prefix).extract(v6(address)), Some(V4), "{prefix}");
        }
    }

    #[test]
    fn ad_04_a_96_bit_prefix_with_a_u_octet_is_refused() {
        assert_eq!(
            "2001:db8:0:0:100::/96".parse::<Pref64>(),
            Err(Pref64Error::UOctet)
        );
        assert!("2001:db8:0:0:1::/96".parse::<Pref64>().is_ok());
    }

    #[test]
    fn ad_06_the_suffix_is_ignored() {
        assert_eq!(
            pref64("2001:db8::/32").extract(v6("2001:db8:c000:221::dead")),
            Some(V4)
        );
        let short = pref64("2001:db8:122:344::/64");
        assert_eq!(
            short.extract(v6("2001:db8:122:344:c0:2:21ff:ffff")),
            Some(V4)
        );
    }

    #[test]
    fn ad_07_the_u_octet_is_ignored_and_other_prefixes_are_not_mistaken() {
        let short = pref64("2001:db8:122::/48");
        assert_eq!(short.extract(v6("2001:db8:122:c000:ff02:2100::")), Some(V4));
        assert_eq!(short.extract(v6("2001:db8:123:c000:2:2100::")), None);
    }

    #[test]
    fn ad_08_only_64_ff9b_slash_96_is_the_well_known_prefix() {
        assert!(pref64("64:ff9b::/96").is_well_known());
        for other in [
            "64:ff9b:1::/48",
            "64:ff9b:2::/48",
            "64:ff9b:0:0:1::/96",
            "64:ff9b::/32",
        ] {
            assert!(!pref64(other).is_well_known(), "{other}");
        }
    }

    #[test]
    fn ad_09_the_well_known_prefix_carries_no_private_address_unless_told_to() {
        let private = v6("64:ff9b::10.0.0.1");
        let strict = Pref64s::single(Pref64::WELL_KNOWN);
        assert_eq!(
            strict.destination(private),
            Err(DropReason::WellKnownPrefix)
        );
        assert_eq!(strict.source(private), Err(DropReason::WellKnownPrefix));
        let v4 = Ipv4Addr::new(10, 0, 0, 1);
        let wkp = Pref64::WELL_KNOWN;
        assert_eq!(
            strict.embed_source(wkp, v4),
            Err(DropReason::WellKnownPrefix)
        );
        let lax = Pref64s::new([wkp], false);
        assert_eq!(lax.destination(private), Ok((v4, wkp)));
        assert_eq!(lax.embed_source(wkp, v4), Ok(private));
    }

    #[test]
    fn ad_10_the_local_use_prefix_carries_private_addresses() {
        for prefix in ["64:ff9b:1::/48", "64:ff9b:1::/96"] {
            let local = pref64(prefix);
            let v4 = Ipv4Addr::new(10, 0, 0, 1);
            let table = Pref64s::single(local);
            assert_eq!(table.destination(local.embed(v4)), Ok((v4, local)));
        }
    }

    #[test]
    fn ad_12_mixed_notation_is_read() {
        assert_eq!(pref64("64:ff9b::0.0.0.0/96"), Pref64::WELL_KNOWN);
        assert_eq!(Pref64::WELL_KNOWN.to_string(), "64:ff9b::/96");
    }

    #[test]
    fn ad_13_the_longest_of_several_prefixes_wins() {
        let (long, short) = (pref64("2001:db8:c000:200::/96"), pref64("2001:db8::/32"));
        for order in [[long, short], [short, long]] {
            let table = Pref64s::new(order, true);
            assert_eq!(table.destination(long.embed(V4)), Ok((V4, long)));
            assert_eq!(table.destination(short.embed(V4)), Ok((V4, short)));
        }
    }

    #[test]
    fn se_05_what_never_crosses_is_refused_in_both_directions() {
        let prefix = pref64("2001:db8:64::/96");
        let table = Pref64s::single(prefix);
        for never in special::NEVER_V4.map(|range| range.address()) {
            let v6 = prefix.embed(never);
            assert_eq!(table.destination(v6), Err(DropReason::IllegalDestination));
            assert_eq!(table.source(v6), Err(DropReason::IllegalSource));
            assert_eq!(
                table.embed_source(prefix, never),
                Err(DropReason::IllegalSource)
            );
        }
    }
}
