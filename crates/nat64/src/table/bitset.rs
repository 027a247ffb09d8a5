//! A set of small numbers that finds its next member in a handful of steps, however full or empty
//! it is.
//!
//! Level 0 has one bit per number, each level above one bit per word of the level below that tells
//! whether the word has any bit set. A pool asks it for "the first free address from here on":
//! with plain probing that walk gets longer the fuller the pool is, and the last free address of
//! a full pool would cost a walk over all of it.

/// A set of numbers below a fixed limit.
#[derive(Clone, Debug)]
pub(crate) struct BitSet {
    levels: Vec<Vec<u64>>,
    len: u32,
}

impl BitSet {
    /// An empty set of numbers below `limit`.
    pub(crate) fn new(limit: u32) -> Self {
        let mut levels = Vec::new();
        let mut bits = limit as usize;
        loop {
            let words = bits.div_ceil(64);
            levels.push(vec![0; words]);
            if words <= 1 {
                return Self { levels, len: 0 };
            }
            bits = words;
        }
    }

    /// Number of members.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        let (word, bit) = place(number as usize);
        self.levels[0].get(word).is_some_and(|word| word & bit != 0)
    }

    /// Adds a number below the limit; false if it was there.
    pub(crate) fn insert(&mut self, number: u32) -> bool {
        if self.contains(number) {
            return false;
        }
        let mut index = number as usize;
        for level in &mut self.levels {
            let (word, bit) = place(index);
            level[word] |= bit;
            index = word;
        }
        self.len += 1;
        true
    }

    /// Adds all numbers from `first` to `last`, which is below the limit.
    pub(crate) fn insert_range(&mut self, first: u32, last: u32) {
        let (mut first, mut last) = (first as usize, last as usize);
        for depth in 0..self.levels.len() {
            for word in first / 64..=last / 64 {
                let from = if word == first / 64 { first % 64 } else { 0 };
                let to = if word == last / 64 { last % 64 } else { 63 };
                let bits = (u64::MAX << from) & (u64::MAX >> (63 - to));
                let old = self.levels[depth][word];
                self.levels[depth][word] |= bits;
                if depth == 0 {
                    self.len += (bits & !old).count_ones();
                }
            }
            (first, last) = (first / 64, last / 64);
        }
    }

    /// Takes a number out; false if it was not there.
    pub(crate) fn remove(&mut self, number: u32) -> bool {
        if !self.contains(number) {
            return false;
        }
        let mut index = number as usize;
        for level in &mut self.levels {
            let (word, bit) = place(index);
            level[word] &= !bit;
            if level[word] != 0 {
                break;
            }
            index = word;
        }
        self.len -= 1;
        true
    }

    /// The smallest member that is not below `start`, or else the smallest of all.
    pub(crate) fn next_around(&self, start: u32) -> Option<u32> {
        self.next_from(start).or_else(|| self.next_from(0))
    }

    /// The smallest member that is not below `start`.
    pub(crate) fn next_from(&self, start: u32) -> Option<u32> {
        let mut index = start as usize;
        for (depth, level) in self.levels.iter().enumerate() {
            let (word, bit) = place(index);
            let rest = level.get(word)? & !(bit - 1);
            if rest != 0 {
                let found = word * 64 + rest.trailing_zeros() as usize;
                return Some(self.descend(depth, found) as u32);
            }
            index = word + 1;
        }
        None
    }

    fn descend(&self, depth: usize, mut index: usize) -> usize {
        for level in self.levels[..depth].iter().rev() {
            index = index * 64 + level[index].trailing_zeros() as usize;
        }
        index
    }
}

fn place(index: usize) -> (usize, u64) {
    (index / 64, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_only_member_of_a_large_set_is_found_from_anywhere() {
        let mut set = BitSet::new(1 << 20);
        assert_eq!(set.next_around(5), None);
        assert!(set.insert(777_777) && !set.insert(777_777));
        for start in [0, 777_776, 777_777, 777_778, (1 << 20) - 1] {
            assert_eq!(set.next_around(start), Some(777_777));
        }
        assert_eq!(set.next_from(777_778), None);
        assert!(set.remove(777_777) && !set.remove(777_777));
        assert_eq!((set.next_around(0), set.len()), (None, 0));
    }

    #[test]
    fn sets_of_no_and_of_one_number_work() {
        assert_eq!(BitSet::new(0).next_around(0), None);
        let mut one = BitSet::new(1);
        one.insert(0);
        assert_eq!(one.next_around(0), Some(0));
        assert!(!one.contains(64));
    }

    proptest! {
        #[test]
        fn a_range_is_as_good_as_its_numbers(
            (one, other, third) in (0u32..9000, 0u32..9000, 0u32..9000),
        ) {
            let (first, last) = (one.min(other), one.max(other));
            let mut by_range = BitSet::new(9000);
            by_range.insert(third);
            by_range.insert_range(first, last);
            let mut singly = BitSet::new(9000);
            singly.insert(third);
            for number in first..=last {
                singly.insert(number);
            }
            prop_assert_eq!(by_range.levels, singly.levels);
            prop_assert_eq!(by_range.len, singly.len);
        }

        #[test]
        fn it_does_what_an_ordered_tree_does(
            limit in 1u32..10_000,
            steps in prop::collection::vec((0u32..10_000, prop::bool::weighted(0.6)), 0..400),
        ) {
            let mut set = BitSet::new(limit);
            let mut tree = BTreeSet::new();
            for (number, insert) in steps {
                let number = number % limit;
                if insert {
                    prop_assert_eq!(set.insert(number), tree.insert(number));
                } else {
                    prop_assert_eq!(set.remove(number), tree.remove(&number));
                }
                let start = number.wrapping_mul(31) % limit;
                prop_assert_eq!(set.next_from(start), tree.range(start..).next().copied());
                prop_assert_eq!(set.len() as usize, tree.len());
            }
        }
    }
}
