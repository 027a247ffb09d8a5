//! The mapping that is the same for all flows: which IPv4 addresses are which IPv6 addresses.
//!
//! It is that of [`Clat`](xlat_core::mappers::Clat), or that of a guarded
//! [`Siit`](xlat_core::mappers::Siit) for packets between a host with a row and one behind a NAT64
//! prefix. What these two decide otherwise for any address the program passes up.

use std::collections::BTreeSet;
use std::io;

use thiserror::Error;
use xlat_core::addr::{Eam, Ipv4Prefix, Pref64, Pref64s};

use crate::layout::{
    Config, HIDDEN, LEVELS, Level4, Level6, Network4, PREFIXES, Prefix, Row, halves,
};

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
#[derive(Debug, Error)]
pub enum MappingError {
    /// Rows of a CLAT that hold one another: there the order decides, here the length.
    #[error("the mappings {0} and {1} overlap")]
    Overlap(Eam, Eam),
    /// A row lies in a NAT64 prefix.
    #[error("the mapping {0} lies in a NAT64 prefix")]
    InPref64(Eam),
    /// More different prefix lengths, prefixes or hidden networks than the program has room for.
    #[error("it has more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The most that fit.
        max: usize,
    },
    /// A map cannot be written.
    #[error("its tables cannot be written: {0}")]
    Tables(#[source] io::Error),
}

/// A mapping as the program reads it.
#[derive(Debug)]
pub(crate) struct Compiled {
    flags: u32,
    /// All rows.
    pub(crate) rows: Vec<Row>,
    first: Option<Eam>,
    levels4: [Level4; LEVELS],
    levels6: [Level6; LEVELS],
    prefixes: [Prefix; PREFIXES],
    hidden: [Network4; HIDDEN],
    counts: [u32; 4],
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
    /// `pref64s`, and the networks `hidden` are not reached through these. `wkp_strict` is that of
    /// the prefixes.
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

    /// The mapping as the program reads it.
    pub(crate) fn compile(&self) -> Result<Compiled, MappingError> {
        self.check()?;
        let lens4: BTreeSet<u8> = self.rows.iter().map(|row| row.v4().len()).collect();
        let lens6: BTreeSet<u8> = self.rows.iter().map(|row| row.v6().len()).collect();
        let (levels4, count4) = filled(
            "lengths of IPv4 prefixes",
            lens4.into_iter().rev().map(level4),
        )?;
        let (levels6, count6) = filled(
            "lengths of IPv6 prefixes",
            lens6.into_iter().rev().map(level6),
        )?;
        let (prefixes, prefix_count) = filled(
            "NAT64 prefixes",
            self.pref64s.iter().map(|pref64| self.prefix(pref64)),
        )?;
        let (hidden, hidden_count) = filled("hidden networks", self.hidden.iter().map(network))?;
        let gateway = if self.side == Side::Gateway {
            Config::GATEWAY
        } else {
            0
        };
        // Only one that is alone needs no look-up: among several, another may be longer.
        let first = match *self.rows {
            [only] => Some(only),
            _ => None,
        };
        let alone = first.is_some();
        Ok(Compiled {
            flags: Config::MAPPED | gateway | if alone { Config::FIRST } else { 0 },
            rows: if alone {
                Vec::new()
            } else {
                self.rows.iter().map(Row::from).collect()
            },
            first,
            levels4,
            levels6,
            prefixes,
            hidden,
            counts: if alone {
                [prefix_count, 0, 0, hidden_count]
            } else {
                [prefix_count, count6, count4, hidden_count]
            },
        })
    }

    fn check(&self) -> Result<(), MappingError> {
        if self.side == Side::Gateway {
            return self.check_gateway();
        }
        for (number, row) in self.rows.iter().enumerate() {
            let overlaps =
                |other: &&Eam| row.v4().overlaps(&other.v4()) || row.v6().overlaps(&other.v6());
            if let Some(other) = self.rows[..number].iter().find(overlaps) {
                return Err(MappingError::Overlap(*other, *row));
            }
        }
        Ok(())
    }

    /// A host in a prefix would have two IPv4 addresses.
    fn check_gateway(&self) -> Result<(), MappingError> {
        let in_prefix = |row: &&Eam| {
            let mut pref64s = self.pref64s.iter();
            pref64s.any(|pref64| row.v6().overlaps(&pref64.prefix()))
        };
        match self.rows.iter().find(in_prefix) {
            Some(row) => Err(MappingError::InPref64(*row)),
            None => Ok(()),
        }
    }

    fn prefix(&self, pref64: &Pref64) -> Prefix {
        let (hi, lo) = halves(pref64.prefix().address());
        Prefix {
            hi,
            lo,
            len: pref64.prefix().len().into(),
            strict: (self.wkp_strict && pref64.is_well_known()).into(),
        }
    }
}

impl Compiled {
    /// Puts the mapping into a configuration that has none.
    pub(crate) fn write(&self, config: &mut Config) {
        config.flags |= self.flags;
        config.levels4 = self.levels4;
        config.levels6 = self.levels6;
        config.prefixes = self.prefixes;
        config.hidden = self.hidden;
        [
            config.prefix_count,
            config.level6_count,
            config.level4_count,
            config.hidden_count,
        ] = self.counts;
        if let Some(first) = &self.first {
            config.first = Row::from(first);
            config.first_mask4 = level4(first.v4().len()).mask;
            let level = level6(first.v6().len());
            config.first_mask6 = [level.mask_hi, level.mask_lo];
        }
    }
}

/// An array of these values, and how many they are.
fn filled<T: Default + Copy, const MAX: usize>(
    what: &'static str,
    values: impl Iterator<Item = T>,
) -> Result<([T; MAX], u32), MappingError> {
    let mut array = [T::default(); MAX];
    let mut count = 0;
    for value in values {
        *array
            .get_mut(count)
            .ok_or(MappingError::TooMany { what, max: MAX })? = value;
        count += 1;
    }
    Ok((array, count as u32))
}

fn level4(len: u8) -> Level4 {
    Level4 {
        len: len.into(),
        mask: mask(len.into(), 32) as u32,
    }
}

fn level6(len: u8) -> Level6 {
    let len = u32::from(len);
    Level6 {
        mask_hi: mask(len.min(64), 64),
        mask_lo: mask(len.saturating_sub(64), 64),
        len,
        zero: 0,
    }
}

/// The first `len` of `width` bits.
fn mask(len: u32, width: u32) -> u64 {
    let all = u64::MAX >> (64 - width);
    all & !all.checked_shr(len).unwrap_or(0)
}

fn network(prefix: &Ipv4Prefix) -> Network4 {
    Network4 {
        address: prefix.address().to_bits(),
        mask: level4(prefix.len()).mask,
    }
}
