//! The pool as the administrator writes it: addresses, ranges and prefixes, with ports or without.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use xlat_core::addr::Ipv4Prefix;

/// Some addresses of the pool, and the ports of each that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// First and last address.
    pub addresses: RangeInclusive<Ipv4Addr>,
    /// First and last port, and ICMP identifier.
    pub ports: RangeInclusive<u16>,
}

/// Text that is not a [`PoolSpec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolSpecError {
    /// The addresses are neither an address nor a range nor a prefix.
    #[error("not of the form ADDRESS[/LENGTH][-ADDRESS][:PORT-PORT]")]
    Syntax,
    /// A range that ends before it begins.
    #[error("the range ends before it begins")]
    Backwards,
}

impl PoolSpec {
    /// All ports of these addresses.
    pub fn addresses(addresses: RangeInclusive<Ipv4Addr>) -> Self {
        Self {
            addresses,
            ports: 0..=u16::MAX,
        }
    }

    /// True if an address of `prefix` is among these, as a pool and a dynamic pool must not share
    /// addresses.
    pub fn overlaps(&self, prefix: &Ipv4Prefix) -> bool {
        *self.addresses.start() <= prefix.last() && prefix.address() <= *self.addresses.end()
    }

    /// The prefixes that the addresses make up, in order and as few as can be.
    pub fn prefixes(&self) -> Vec<Ipv4Prefix> {
        let mut first = u64::from(self.addresses.start().to_bits());
        let end = u64::from(self.addresses.end().to_bits()) + 1;
        let mut prefixes = Vec::new();
        while first < end {
            // The largest block that begins here and does not go beyond the end.
            let aligned = first.trailing_zeros().min(32);
            let bits = aligned.min((end - first).ilog2());
            prefixes.push(Ipv4Prefix::containing(
                Ipv4Addr::from_bits(first as u32),
                (32 - bits) as u8,
            ));
            first += 1 << bits;
        }
        prefixes
    }

    pub(crate) fn is_larger_than(&self, count: u32) -> bool {
        self.addresses.end().to_bits() - self.addresses.start().to_bits() >= count
    }
}

impl FromStr for PoolSpec {
    type Err = PoolSpecError;

    /// Parses `192.0.2.0/28`, `192.0.2.1`, `192.0.2.1-192.0.2.9`, each with or without a port
    /// range as in `192.0.2.1:1024-65535`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (addresses, ports) = match text.split_once(':') {
            Some((addresses, ports)) => (addresses, parse_range(ports)?),
            None => (text, 0..=u16::MAX),
        };
        let addresses = match addresses.parse::<Ipv4Prefix>() {
            Ok(prefix) => prefix.address()..=prefix.last(),
            Err(_) => parse_range(addresses)?,
        };
        if addresses.is_empty() || ports.is_empty() {
            return Err(PoolSpecError::Backwards);
        }
        Ok(Self { addresses, ports })
    }
}

impl fmt::Display for PoolSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.addresses.start(), self.addresses.end())?;
        write!(f, ":{}-{}", self.ports.start(), self.ports.end())
    }
}

fn parse_range<T: FromStr>(text: &str) -> Result<RangeInclusive<T>, PoolSpecError> {
    let (first, last) = text.split_once('-').ok_or(PoolSpecError::Syntax)?;
    let parse = |text: &str| text.trim().parse().map_err(|_| PoolSpecError::Syntax);
    Ok(parse(first)?..=parse(last)?)
}

/// First and last address of a stretch of the pool, and the number of addresses before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) before: u32,
}

/// The pool's addresses in order, without gaps or overlaps inside a stretch.
pub(crate) fn stretches(pool: &[PoolSpec]) -> Vec<Stretch> {
    let mut ranges: Vec<(u32, u32)> = pool
        .iter()
        .map(|spec| {
            (
                spec.addresses.start().to_bits(),
                spec.addresses.end().to_bits(),
            )
        })
        .collect();
    ranges.sort_unstable();
    let mut stretches: Vec<Stretch> = Vec::new();
    for (first, last) in ranges {
        match stretches.last_mut() {
            Some(open) if first <= open.last.saturating_add(1) => open.last = open.last.max(last),
            open => {
                let before = open.map_or(0, |open| open.before + (open.last - open.first) + 1);
                stretches.push(Stretch {
                    first,
                    last,
                    before,
                });
            }
        }
    }
    stretches
}

/// The pool's addresses in order.
pub(crate) fn addresses(pool: &[PoolSpec]) -> impl Iterator<Item = Ipv4Addr> {
    let stretches = stretches(pool).into_iter();
    let all = stretches.flat_map(|stretch| stretch.first..=stretch.last);
    all.map(Ipv4Addr::from_bits)
}

/// The ports of an address that the pool's specs name, in ranges that neither touch nor overlap.
pub(crate) fn ranges(pool: &[PoolSpec], address: Ipv4Addr) -> Vec<RangeInclusive<u16>> {
    let mut named: Vec<_> = pool
        .iter()
        .filter(|spec| spec.addresses.contains(&address))
        .map(|spec| (*spec.ports.start(), *spec.ports.end()))
        .collect();
    named.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in named {
        match merged.last_mut() {
            Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
        .into_iter()
        .map(|(first, last)| first..=last)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn np_08_a_pool_can_be_an_address_a_range_or_a_prefix_with_ports() {
        for (text, expected) in [
            ("192.0.2.0/30", "192.0.2.0-192.0.2.3:0-65535"),
            ("192.0.2.1", "192.0.2.1-192.0.2.1:0-65535"),
            ("192.0.2.1:1024-65535", "192.0.2.1-192.0.2.1:1024-65535"),
            ("192.0.2.1-192.0.2.9:5-7", "192.0.2.1-192.0.2.9:5-7"),
            ("192.0.2.0/30:5-5", "192.0.2.0-192.0.2.3:5-5"),
        ] {
            let spec: PoolSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), expected);
            assert_eq!(expected.parse(), Ok(spec));
        }
    }

    #[test]
    fn np_08_the_prefixes_of_a_pool_cover_it_and_nothing_else() {
        for (text, expected) in [
            ("192.0.2.0/30", "192.0.2.0/30"),
            ("192.0.2.3:5-7", "192.0.2.3/32"),
            (
                "192.0.2.1-192.0.2.9",
                "192.0.2.1/32 192.0.2.2/31 192.0.2.4/30 192.0.2.8/31",
            ),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("255.255.255.255", "255.255.255.255/32"),
        ] {
            let spec: PoolSpec = text.parse().unwrap();
            let prefixes = spec.prefixes();
            let prefixes: Vec<_> = prefixes.iter().map(Ipv4Prefix::to_string).collect();
            assert_eq!(prefixes.join(" "), expected);
        }
    }

    #[test]
    fn dp_10_a_pool_knows_whether_it_shares_addresses_with_a_prefix() {
        let pool: PoolSpec = "192.0.2.6-192.0.2.9:5-7".parse().unwrap();
        for (prefix, expected) in [
            ("192.0.2.0/30", false),
            ("192.0.2.4/30", true),
            ("192.0.2.9", true),
            ("192.0.2.10", false),
            ("192.0.2.5", false),
            ("0.0.0.0/0", true),
        ] {
            assert_eq!(
                pool.overlaps(&prefix.parse().unwrap()),
                expected,
                "{prefix}"
            );
        }
    }

    #[test]
    fn texts_that_are_no_pool_are_refused() {
        for text in [
            "",
            "192.0.2",
            "192.0.2.1/24",
            "192.0.2.1:80",
            "192.0.2.1:1-70000",
            "a-b",
        ] {
            assert_eq!(
                text.parse::<PoolSpec>(),
                Err(PoolSpecError::Syntax),
                "{text}"
            );
        }
        for text in ["192.0.2.9-192.0.2.1", "192.0.2.1:9-8"] {
            assert_eq!(
                text.parse::<PoolSpec>(),
                Err(PoolSpecError::Backwards),
                "{text}"
            );
        }
    }
}
