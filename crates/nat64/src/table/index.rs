//! A hash index from keys to handles whose every step is one cache line.
//!
//! A line holds twelve handles, and of each key's hash eight bits. A look-up compares those bits
//! and touches an entry only if they match, so that it costs one miss for the line and one for
//! the entry, and a key that is not there costs the line alone. A full line goes on in another
//! one. The number of lines is fixed at the start, so nothing is ever moved.

use prefetch_index::prefetch_index;

use crate::table::slab::NONE;

/// A hash index. It knows hashes and handles; the keys are the caller's.
#[derive(Debug)]
pub(crate) struct Index {
    /// The lines that are chosen by hash, from `skip` on, where a cache line begins. Plain words,
    /// because the system hands out zeroed memory for those without touching it.
    words: Vec<u32>,
    skip: usize,
    lines: u32,
    /// Lines that continue full ones.
    more: Vec<Line>,
}

/// Three words of tags, the number of the line in `more` that this one goes on in (from 1; 0 if
/// in none), and the handles.
type Line = [u32; WORDS];

const WORDS: usize = 16;
const NEXT: usize = 3;
const FIRST: usize = 4;
const PLACES: usize = WORDS - FIRST;
/// Places of a line that are taken on average when the index is full, so that few lines need a
/// second one.
const USUAL: u32 = 8;

impl Index {
    /// An index for at most `limit` handles.
    pub(crate) fn new(limit: u32) -> Self {
        let lines = limit.div_ceil(USUAL).max(1);
        let words = vec![0; (lines as usize + 1) * WORDS];
        let skip = words.as_ptr().align_offset(WORDS * size_of::<u32>());
        Self {
            // The vector never grows, so that its lines stay where they are.
            skip: skip.min(WORDS),
            words,
            lines,
            // With random hashes about one line in sixteen needs a second one.
            more: Vec::with_capacity(lines as usize / 8 + 16),
        }
    }

    /// The handle under `hash` for which `is_it` is true.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut line = self.home(hash);
        loop {
            if let Some(handle) = find_in(line, tag(hash), &is_it) {
                return Some(handle);
            }
            let next = (line[NEXT] as usize).checked_sub(1)?;
            line = &self.more[next];
        }
    }

    /// Begins to fetch the line that `hash` leads to.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        prefetch_index(&self.words, self.skip + self.line(hash) * WORDS);
    }

    /// A handle in the line of `hash`: the first that may be the right one, if there is any.
    #[inline]
    pub(crate) fn guess(&self, hash: u64) -> u32 {
        let line = self.home(hash);
        let same = same_places(line, tag(hash));
        // Without a match it is whatever stands in the last place, which does no harm.
        let place = (same.trailing_zeros() as usize / 8).min(PLACES - 1);
        line[FIRST + place]
    }

    /// Adds a handle, which must not be in the index.
    pub(crate) fn insert(&mut self, hash: u64, handle: u32) {
        let next_free = self.more.len() as u32 + 1;
        let mut line = self.home_mut(hash);
        loop {
            if let Some(place) = place_of(line, NONE) {
                set_tag(line, place, tag(hash));
                line[FIRST + place] = handle;
                return;
            }
            let next = line[NEXT] as usize;
            if next == 0 {
                line[NEXT] = next_free;
                self.more.push([0; WORDS]);
            }
            let next = if next == 0 { next_free as usize } else { next };
            line = &mut self.more[next - 1];
        }
    }

    /// Takes a handle out that was added under `hash`.
    pub(crate) fn remove(&mut self, hash: u64, handle: u32) {
        let mut line = self.home_mut(hash);
        loop {
            if let Some(place) = place_of(line, handle) {
                line[FIRST + place] = NONE;
                return;
            }
            let next = line[NEXT] as usize;
            if next == 0 {
                return;
            }
            line = &mut self.more[next - 1];
        }
    }

    #[inline]
    fn home(&self, hash: u64) -> &Line {
        &self.words[self.skip..].as_chunks().0[self.line(hash)]
    }

    #[inline]
    fn home_mut(&mut self, hash: u64) -> &mut Line {
        let line = self.line(hash);
        &mut self.words[self.skip..].as_chunks_mut().0[line]
    }

    #[inline]
    fn line(&self, hash: u64) -> usize {
        (((hash >> 32) * u64::from(self.lines)) >> 32) as usize
    }
}

/// Looks at the entries of a line whose tags match.
///
/// Which place matches is found without a branch: a branch on it would be guessed wrongly each
/// time, and the processor could not begin the next packet's misses while it waits for this one.
#[inline]
fn find_in(line: &Line, tag: u8, is_it: &impl Fn(u32) -> bool) -> Option<u32> {
    let mut same = same_places(line, tag);
    while same != 0 {
        let place = same.trailing_zeros() as usize / 8;
        let handle = line[FIRST + place];
        if handle != NONE && is_it(handle) {
            return Some(handle);
        }
        same &= same - 1;
    }
    None
}

/// The high bit of each place whose tag this is.
#[inline]
fn same_places(line: &Line, tag: u8) -> u128 {
    same_bytes(line[0], tag) | same_bytes(line[1], tag) << 32 | same_bytes(line[2], tag) << 64
}

/// The high bit of each byte that is `tag`.
#[inline]
fn same_bytes(tags: u32, tag: u8) -> u128 {
    const LOW: u32 = 0x0101_0101;
    const BELOW: u32 = 0x7f * LOW;
    let different = tags ^ (u32::from(tag) * LOW);
    // No byte carries into the next one.
    let not_zero = ((different & BELOW) + BELOW) | different;
    u128::from(!not_zero & !BELOW)
}

#[inline]
fn place_of(line: &Line, handle: u32) -> Option<usize> {
    line[FIRST..].iter().position(|&other| other == handle)
}

fn set_tag(line: &mut Line, place: usize, tag: u8) {
    let shift = 8 * (place % 4);
    let word = &mut line[place / 4];
    *word = *word & !(0xff << shift) | u32::from(tag) << shift;
}

/// The low bits: the high ones choose the line.
#[inline]
const fn tag(hash: u64) -> u8 {
    hash as u8
}

const _: () = assert!(PLACES == NEXT * 4);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_of_one_hash_are_told_apart_by_the_caller() {
        let mut index = Index::new(4);
        for handle in 1..=100 {
            index.insert(7, handle);
        }
        for handle in 1..=100 {
            assert_eq!(index.find(7, |other| other == handle), Some(handle));
        }
        assert_eq!(index.find(7, |other| other == 101), None);
        assert_eq!(index.find(8, |_| true), None);
        let lines = index.more.len();
        for handle in 1..=100 {
            index.remove(7, handle);
        }
        assert_eq!(index.find(7, |_| true), None);
        for handle in 1..=100 {
            index.insert(7, handle);
        }
        assert_eq!(index.more.len(), lines, "second lines are used again");
    }

    #[test]
    fn a_full_index_has_few_second_lines() {
        let key = crate::siphash::SipKey::new([1, 2]);
        let mut index = Index::new(80_000);
        for handle in 1..=80_000 {
            index.insert(key.hash([u64::from(handle)]), handle);
        }
        assert!(index.more.len() < 1000, "{}", index.more.len());
    }

    proptest! {
        #[test]
        fn it_does_what_a_map_does(
            steps in prop::collection::vec((0u64..40, any::<bool>()), 0..300),
            spread in prop::sample::select(vec![1u64, 0x0123_4567_89ab_cdef, 1 << 32]),
        ) {
            let mut index = Index::new(16);
            let mut map = BTreeMap::new();
            for (number, (key, insert)) in (1..).zip(steps) {
                let hash = key.wrapping_mul(spread);
                if insert && !map.contains_key(&key) {
                    index.insert(hash, number);
                    map.insert(key, number);
                } else if !insert && let Some(handle) = map.remove(&key) {
                    index.remove(hash, handle);
                }
                for probe in 0..40 {
                    let expected = map.get(&probe).copied();
                    let found = index.find(probe.wrapping_mul(spread), |handle| {
                        Some(handle) == expected
                    });
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
