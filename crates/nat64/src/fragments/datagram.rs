//! One datagram in fragments: which of its bytes have come.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::mapper::{Fragment, Rewrite};

use crate::clock::Tick;

/// What was decided about a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Its way to IPv4, and the identification that its fragments get there.
    ToV4(Rewrite<Ipv4Addr>),
    /// Its way to IPv6.
    ToV6(Rewrite<Ipv6Addr>),
    /// Its first fragment was refused, or its pieces overlap, so the others are refused too.
    Refused,
}

/// A fragment's place in its datagram, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(super) start: u32,
    pub(super) end: u32,
    /// Nothing comes behind it.
    pub(super) is_last: bool,
}

impl From<Fragment> for Piece {
    fn from(fragment: Fragment) -> Self {
        let start = u32::from(fragment.offset) * 8;
        Self {
            start,
            end: start + u32::from(fragment.len),
            is_last: !fragment.more,
        }
    }
}

impl Piece {
    fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    fn len(&self) -> u32 {
        self.end - self.start
    }
}

/// What a new piece is to its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It was not there yet.
    New,
    /// It was there already.
    Again,
    /// It does not fit the others.
    Misfit,
}

/// The pieces of a datagram that have come: without overlaps, and none behind the last one.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    pieces: Vec<(Piece, Passed)>,
    /// Length of the whole, known with its last piece.
    end: Option<u32>,
    covered: u32,
    passed: u32,
}

/// Whether a piece has gone its way, or waits.
type Passed = bool;

impl Coverage {
    /// Records a fragment. One that overlaps another without being identical is an attempt to get a
    /// datagram past filters that look at fragments (RFC 5722, RFC 8200 section 4.5).
    pub(super) fn note(&mut self, piece: Piece) -> Noted {
        if self.pieces.iter().any(|(other, _)| *other == piece) {
            return Noted::Again;
        }
        let is_beyond = |end| piece.end > end || piece.is_last && piece.end != end;
        let is_before = |(other, _): &(Piece, Passed)| piece.is_last && other.end > piece.end;
        let is_misfit = piece.len() == 0
            || self.pieces.len() == MAX_PIECES
            || self.end.is_some_and(is_beyond)
            || self.pieces.iter().any(is_before)
            || self.pieces.iter().any(|(other, _)| piece.overlaps(other));
        if is_misfit {
            return Noted::Misfit;
        }
        self.pieces.push((piece, false));
        self.covered += piece.len();
        if piece.is_last {
            self.end = Some(piece.end);
        }
        Noted::New
    }

    /// A piece that was noted goes its way.
    pub(super) fn pass(&mut self, piece: Piece) {
        let mut pieces = self.pieces.iter_mut();
        if let Some((_, passed)) = pieces.find(|(other, passed)| *other == piece && !passed) {
            *passed = true;
            self.passed += piece.len();
        }
    }

    /// True if no byte is missing.
    pub(super) fn is_whole(&self) -> bool {
        // Pieces neither overlap nor go beyond the end, so the sum says whether there is a gap.
        self.end == Some(self.covered)
    }

    /// True if every byte has gone its way.
    pub(super) fn has_passed(&self) -> bool {
        self.end == Some(self.passed)
    }
}

/// A datagram that is on its way in fragments.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(super) decision: Option<Decision>,
    /// Its pieces are to be put together before anything is decided.
    pub(super) gathers: bool,
    /// Pieces that wait, in the order in which they came.
    pub(super) held: Vec<Waiting>,
    pub(super) coverage: Coverage,
    /// Its first fragment has come and was not refused then.
    pub(super) is_decided: bool,
    /// What it is charged with.
    pub(super) cost: usize,
    pub(super) until: Tick,
}

/// A packet that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(super) is_first: bool,
    pub(super) packet: Box<[u8]>,
}

impl Datagram {
    pub(super) fn new(until: Tick) -> Self {
        Self {
            decision: None,
            gathers: false,
            held: Vec::new(),
            coverage: Coverage::default(),
            is_decided: false,
            cost: 0,
            until,
        }
    }
}

/// Pieces of a datagram: 64 KiB in pieces of 512 bytes.
const MAX_PIECES: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces() -> impl Strategy<Value = Vec<Piece>> {
        let piece =
            (0..12_u32, 0..5_u32, prop::bool::weighted(0.3)).prop_map(|(start, len, is_last)| {
                let start = start * 8;
                Piece {
                    start,
                    end: start + len * 8,
                    is_last,
                }
            });
        prop::collection::vec(piece, 0..24)
    }

    proptest! {
        /// A map of bytes and all accepted pieces say the same.
        #[test]
        fn nf_05_a_datagram_is_whole_when_each_byte_is_there(pieces in pieces()) {
            let mut coverage = Coverage::default();
            let mut bytes = [false; 200];
            let mut known: Vec<Piece> = Vec::new();
            for piece in pieces {
                let noted = coverage.note(piece);
                let its = piece.start as usize..piece.end as usize;
                let end = known.iter().find(|one| one.is_last).map(|one| one.end);
                let furthest = known.iter().map(|one| one.end).max().unwrap_or(0);
                let expected = if known.contains(&piece) {
                    Noted::Again
                } else if its.is_empty()
                    || bytes[its.clone()].contains(&true)
                    || end.is_some_and(|end| piece.end > end || piece.is_last && piece.end != end)
                    || piece.is_last && furthest > piece.end
                {
                    Noted::Misfit
                } else {
                    Noted::New
                };
                prop_assert_eq!(noted, expected);
                if noted == Noted::New {
                    bytes[its].fill(true);
                    known.push(piece);
                }
                let end = known.iter().find(|one| one.is_last).map(|one| one.end as usize);
                let is_whole = end.is_some_and(|end| !bytes[..end].contains(&false));
                prop_assert_eq!(coverage.is_whole(), is_whole);
                prop_assert!(!coverage.has_passed() || known.is_empty());
            }
            for piece in &known {
                prop_assert!(!coverage.has_passed());
                coverage.pass(*piece);
                coverage.pass(*piece);
                if !coverage.is_whole() {
                    prop_assert!(!coverage.has_passed());
                }
            }
            prop_assert_eq!(coverage.has_passed(), coverage.is_whole());
        }
    }
}
