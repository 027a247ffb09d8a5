//! A hash table of flows in memory that the program reads (`bpf/fast_path.bpf.c`, `FIND`).
//!
//! Workers write it without a system call. An entry lies in one of the two buckets of its key, in the
//! emptier one when it came. The program takes no lock: it reads the sequence of an entry before and after
//! the entry, and leaves the packet to a worker if it is odd or has changed. Workers exclude each other by
//! locks of this process, which cover a part of the buckets each.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::layout::UsageCells;
use crate::sys::Memory;

/// Entries of a bucket (`WAYS`).
pub(crate) const WAYS: usize = 8;

/// Words of 32 bits in an entry: sequence, epoch, usage, key, what packets become, and one that is unused.
const ENTRY: usize = 22;
const SEQUENCE: usize = 0;
const EPOCH: usize = 1;
const USAGE: usize = 2;
const KEY: usize = 8;
/// Words in a bucket: the tags come first.
const BUCKET: usize = WAYS + WAYS * ENTRY;

/// Bytes of a bucket.
pub(crate) const BUCKET_BYTES: usize = 4 * BUCKET;

/// Buckets that hold so many entries when they are filled to 70 %. Of 100,000 keys a few then find both of
/// their buckets full.
pub(crate) fn buckets(entries: u32) -> u32 {
    let buckets = (u64::from(entries) * 10).div_ceil(7 * WAYS as u64);
    u32::try_from(buckets.max(1)).unwrap_or(u32::MAX)
}

/// Locks of a table.
const LOCKS: usize = 64;

/// The table of one direction.
#[derive(Debug)]
pub(crate) struct Table {
    memory: Memory,
    buckets: u32,
    hash_key: [u64; 2],
    locks: [Mutex<()>; LOCKS],
    len: AtomicU32,
    limit: u32,
}

/// Why an entry is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// There are as many as there may be.
    Table,
    /// Both of its buckets are full.
    Buckets,
}

/// Where a key belongs.
#[derive(Clone, Copy, Debug)]
struct Home {
    buckets: [u32; 2],
    tag: u32,
}

/// Number of the first word of an entry, and that of its tag.
#[derive(Clone, Copy, Debug)]
struct Place {
    entry: usize,
    tag: usize,
}

impl Table {
    /// A table of at most `limit` entries in `memory`, which has so many buckets and is zero.
    pub(crate) fn new(memory: Memory, limit: u32, hash_key: [u64; 2]) -> Self {
        let buckets = memory.words().len() / BUCKET;
        Self {
            memory,
            buckets: u32::try_from(buckets).unwrap_or(u32::MAX),
            hash_key,
            locks: [const { Mutex::new(()) }; LOCKS],
            len: AtomicU32::new(0),
            limit,
        }
    }

    /// Puts an entry in place of one with the same key; its usage is zero.
    pub(crate) fn insert(&self, key: &[u8], to: &[u8], epoch: u32) -> Result<(), NoRoom> {
        let home = self.home(key);
        let _locked = self.lock(home);
        let found = self.find(home, key);
        if found.is_none() && self.len.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.len.fetch_sub(1, Ordering::Relaxed);
            return Err(NoRoom::Table);
        }
        let Some(place) = found.or_else(|| self.free(home)) else {
            self.len.fetch_sub(1, Ordering::Relaxed);
            return Err(NoRoom::Buckets);
        };
        let sequence = self.close(place);
        let words = self.memory.words();
        words[place.entry + EPOCH].store(epoch, Ordering::Relaxed);
        for word in &words[place.entry + USAGE..place.entry + KEY] {
            word.store(0, Ordering::Relaxed);
        }
        for (word, value) in words[place.entry + KEY..].iter().zip(numbers(key)) {
            word.store(value, Ordering::Relaxed);
        }
        let behind = place.entry + KEY + key.len() / 4;
        for (word, value) in words[behind..].iter().zip(numbers(to)) {
            word.store(value, Ordering::Relaxed);
        }
        words[place.entry + SEQUENCE].store(sequence.wrapping_add(1), Ordering::Release);
        words[place.tag].store(home.tag, Ordering::Release);
        Ok(())
    }

    /// Takes an entry out and tells what it has carried.
    pub(crate) fn remove(&self, key: &[u8]) -> Option<UsageCells> {
        let home = self.home(key);
        let _locked = self.lock(home);
        let place = self.find(home, key)?;
        self.close(place);
        self.memory.words()[place.tag].store(0, Ordering::Relaxed);
        self.len.fetch_sub(1, Ordering::Relaxed);
        // A packet that is on its way counts itself before this, or not at all.
        fence(Ordering::SeqCst);
        Some(self.usage_at(place))
    }

    /// What an entry has carried.
    pub(crate) fn usage(&self, key: &[u8]) -> Option<UsageCells> {
        let home = self.home(key);
        let _locked = self.lock(home);
        self.find(home, key).map(|place| self.usage_at(place))
    }

    /// Bytes of it.
    pub(crate) fn memory(&self) -> usize {
        4 * self.memory.words().len()
    }

    /// Number of entries.
    #[cfg(test)]
    fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// Makes the entry one that is not read; its odd sequence.
    fn close(&self, place: Place) -> u32 {
        let word = &self.memory.words()[place.entry + SEQUENCE];
        let sequence = word.load(Ordering::Relaxed) | 1;
        word.store(sequence, Ordering::Relaxed);
        // What is written to the entry after this is not seen before it.
        fence(Ordering::Release);
        sequence
    }

    /// The program's `hash`.
    fn home(&self, key: &[u8]) -> Home {
        let [first, factor] = self.hash_key;
        let mut hash = first;
        for bytes in key.as_chunks::<8>().0 {
            hash = (hash ^ u64::from_ne_bytes(*bytes)).wrapping_mul(factor | 1);
            hash ^= hash >> 32;
        }
        hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^= hash >> 33;
        let buckets = u64::from(self.buckets);
        let bucket = |hash: u32| ((u64::from(hash) * buckets) >> 32) as u32;
        Home {
            buckets: [bucket(hash as u32), bucket((hash >> 32) as u32)],
            tag: (hash >> 16) as u32 | 1,
        }
    }

    /// Keeps other workers from both buckets, in an order that all of them keep.
    fn lock(&self, home: Home) -> (MutexGuard<'_, ()>, Option<MutexGuard<'_, ()>>) {
        let [one, other] = home.buckets.map(|bucket| bucket as usize % LOCKS);
        let lock = |number: usize| {
            self.locks[number]
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let first = lock(one.min(other));
        (first, (one != other).then(|| lock(one.max(other))))
    }

    fn place(bucket: u32, way: usize) -> Place {
        let start = bucket as usize * BUCKET;
        Place {
            entry: start + WAYS + way * ENTRY,
            tag: start + way,
        }
    }

    fn tags(&self, bucket: u32) -> &[AtomicU32] {
        let start = bucket as usize * BUCKET;
        &self.memory.words()[start..start + WAYS]
    }

    fn find(&self, home: Home, key: &[u8]) -> Option<Place> {
        let words = self.memory.words();
        let is_this = |place: &Place| {
            let found = &words[place.entry + KEY..];
            let is_open = words[place.entry + SEQUENCE].load(Ordering::Relaxed) & 1 == 0;
            let mut both = found.iter().zip(numbers(key));
            is_open && both.all(|(word, number)| word.load(Ordering::Relaxed) == number)
        };
        home.buckets.into_iter().find_map(|bucket| {
            let tags = self.tags(bucket).iter();
            let way = tags
                .clone()
                .position(|tag| tag.load(Ordering::Relaxed) == home.tag)?;
            Some(Self::place(bucket, way)).filter(is_this)
        })
    }

    /// A place in the emptier bucket. A tag is there once in a bucket: the program looks at no other.
    fn free(&self, home: Home) -> Option<Place> {
        let choice = home.buckets.map(|bucket| {
            let (mut free, mut is_there, mut way) = (0, false, 0);
            for (number, tag) in self.tags(bucket).iter().enumerate() {
                let tag = tag.load(Ordering::Relaxed);
                is_there |= tag == home.tag;
                if tag == 0 {
                    (free, way) = (free + 1, number);
                }
            }
            let free = if is_there { 0 } else { free };
            (free, Self::place(bucket, way))
        });
        let [one, other] = choice;
        // The program does not look at the second bucket if the first has the tag.
        let tag_is_first = self
            .tags(home.buckets[0])
            .iter()
            .any(|tag| tag.load(Ordering::Relaxed) == home.tag);
        let (free, place) = if tag_is_first || one.0 >= other.0 {
            one
        } else {
            other
        };
        (free > 0).then_some(place)
    }

    fn usage_at(&self, place: Place) -> UsageCells {
        let cell = |number: usize| {
            let words = &self.memory.words()[place.entry + USAGE + 2 * number..];
            double(&words[0], &words[1])
        };
        UsageCells {
            last_used: cell(0),
            packets: cell(1),
            bytes: cell(2),
        }
    }
}

/// A number of 64 bits, whose halves grow while they are read. Not every processor reads both at once.
fn double(first: &AtomicU32, second: &AtomicU32) -> u64 {
    let (high, low) = if cfg!(target_endian = "little") {
        (second, first)
    } else {
        (first, second)
    };
    let mut before = high.load(Ordering::Acquire);
    // It overflows into the upper half every four seconds at the most.
    for _ in 0..3 {
        let value = u64::from(before) << 32 | u64::from(low.load(Ordering::Acquire));
        let after = high.load(Ordering::Acquire);
        if after == before {
            return value;
        }
        before = after;
    }
    u64::from(before) << 32
}

/// The words of 32 bits that bytes are.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let words = bytes.as_chunks::<4>().0;
    words.iter().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;
    use std::collections::HashMap;
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    fn table(limit: u32) -> Table {
        let bytes = buckets(limit) as usize * BUCKET_BYTES;
        Table::new(
            Memory::anonymous(bytes).unwrap(),
            limit,
            [7, 0x1234_5678_9abc_def1],
        )
    }

    fn key(number: u64) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&number.to_ne_bytes());
        key
    }

    /// What the program would do with packets of this key.
    fn read(table: &Table, key: &[u8]) -> Option<(u32, u32)> {
        let home = table.home(key);
        let words = table.memory.words();
        let with_tag = |bucket: u32| {
            let mut tags = table.tags(bucket).iter();
            let way = tags.position(|tag| tag.load(Ordering::Acquire) == home.tag)?;
            Some(Table::place(bucket, way))
        };
        let place = home.buckets.into_iter().find_map(with_tag)?;
        let word = |number: usize| words[place.entry + number].load(Ordering::Relaxed);
        let sequence = words[place.entry].load(Ordering::Acquire);
        let found = (0..4).all(|number| Some(word(KEY + number)) == numbers(key).nth(number));
        let to = (word(KEY + 4), word(KEY + 12));
        fence(Ordering::Acquire);
        (found && sequence & 1 == 0 && word(SEQUENCE) == sequence).then_some(to)
    }

    proptest! {
        #[test]
        fn kp_19_a_table_is_a_map_with_a_limit(
            steps in proptest::collection::vec((0..3u8, 0..40u64, any::<u32>()), 0..400),
        ) {
            let table = table(24);
            let mut model = HashMap::new();
            for (step, number, value) in steps {
                let key = key(number);
                let to = [value.to_ne_bytes(); 9].concat();
                match step {
                    0 => {
                        let has_room = model.len() < 24 || model.contains_key(&number);
                        let is_in = table.insert(&key, &to, 1).is_ok();
                        // Both of its buckets may be full before the table is.
                        prop_assert!(has_room || !is_in);
                        if is_in {
                            model.insert(number, value);
                        }
                    }
                    1 => prop_assert_eq!(
                        table.remove(&key).is_some(),
                        model.remove(&number).is_some()
                    ),
                    _ => prop_assert_eq!(table.usage(&key).is_some(), model.contains_key(&number)),
                }
                prop_assert_eq!(table.len() as usize, model.len());
            }
            for number in 0..40 {
                let wanted = model.get(&number).map(|value| (*value, *value));
                prop_assert_eq!(read(&table, &key(number)), wanted, "{}", number);
            }
        }
    }

    #[test]
    fn kp_19_a_table_takes_as_many_entries_as_it_has_room_for() {
        let table = table(20_000);
        let refused =
            (0..20_000).filter(|number| table.insert(&key(*number), &[0; 36], 1).is_err());
        let refused = refused.count();
        assert!(refused < 5, "{refused}");
        let there = (0..20_000).filter(|number| read(&table, &key(*number)).is_some());
        assert_eq!(there.count() + refused, 20_000);
        let more = (20_000..30_000).map(|number| table.insert(&key(number), &[0; 36], 1));
        let taken = more.filter(|outcome| outcome.is_ok()).count();
        assert!(taken <= refused && table.len() <= 20_000, "{taken}");
        for number in 0..20_000 {
            table.remove(&key(number));
        }
        assert!(table.len() < 10);
    }

    #[test]
    fn kp_19_an_entry_that_is_being_written_is_read_as_a_whole_or_not_at_all() {
        let table = table(4);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for value in 0..50_000u32 {
                    let to = [value.to_ne_bytes(); 9].concat();
                    // The place changes hands all the time.
                    let number = u64::from(value % 3);
                    assert_eq!(table.insert(&key(number), &to, 1), Ok(()));
                    if value % 2 == 0 {
                        table.remove(&key(number));
                    }
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                for number in 0..3 {
                    if let Some((first, last)) = read(&table, &key(number)) {
                        assert_eq!(first, last);
                        assert_eq!(u64::from(first % 3), number);
                    }
                }
            }
        });
    }

    #[test]
    fn kp_19_what_others_write_into_the_memory_breaks_no_more_than_their_entries() {
        let table = table(64);
        for number in 0..64 {
            assert_eq!(table.insert(&key(number), &[1; 36], 1), Ok(()));
        }
        for (place, word) in table.memory.words().iter().enumerate() {
            word.store((place as u32).wrapping_mul(0x9e37_79b9), Ordering::Relaxed);
        }
        for number in 0..128 {
            let _ = table.insert(&key(number), &[2; 36], 2);
            let _ = table.usage(&key(number));
            let _ = table.remove(&key(number));
            assert_eq!(read(&table, &key(number)), None);
        }
    }
}
