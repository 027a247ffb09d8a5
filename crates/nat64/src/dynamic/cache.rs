//! What one worker remembers of the shared pool, so that a known client's packets take no lock.
//!
//! A set-associative table of fixed size: four places per set, the one that was confirmed longest
//! ago gives way. An answer is good for [`PUBLISH`] after the pool confirmed it. Losing one costs
//! another question to the pool and nothing else.

use xlat_core::Instant;

use super::PUBLISH;

#[derive(Clone, Debug)]
pub(super) struct Cache<K, V> {
    sets: Vec<[Option<Entry<K, V>>; WAYS]>,
}

#[derive(Clone, Copy, Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    confirmed: Instant,
}

impl<K: Copy + Eq, V: Copy> Cache<K, V> {
    /// A cache that holds about `capacity` answers, or as many as are worth their memory.
    pub(super) fn new(capacity: u32) -> Self {
        let places = capacity.clamp(WAYS as u32, MAX_PLACES).next_power_of_two() as usize;
        Self {
            sets: vec![[None; WAYS]; 2 * places / WAYS],
        }
    }

    /// The answer for `key`, if the pool confirmed it not too long ago. `hash` is any hash of the
    /// key, always the same one.
    #[inline]
    pub(super) fn fresh(&self, hash: u64, key: K, now: Instant) -> Option<V> {
        self.sets[self.set(hash)]
            .iter()
            .flatten()
            .find(|place| place.key == key)
            .filter(|place| now.saturating_since(place.confirmed) < PUBLISH)
            .map(|place| place.value)
    }

    /// Notes an answer that the pool has just given.
    pub(super) fn confirm(&mut self, hash: u64, key: K, value: V, now: Instant) {
        let set = self.set(hash);
        let ways = &mut self.sets[set];
        let same = ways
            .iter()
            .position(|place| place.is_some_and(|place| place.key == key));
        let oldest = || (0..WAYS).min_by_key(|&way| ways[way].map(|place| place.confirmed));
        let way = same.or_else(oldest).unwrap_or(0);
        ways[way] = Some(Entry {
            key,
            value,
            confirmed: now,
        });
    }

    #[inline]
    fn set(&self, hash: u64) -> usize {
        hash as usize & (self.sets.len() - 1)
    }
}

const WAYS: usize = 4;

/// Two of these tables per worker: 5 MiB each for the largest pools.
const MAX_PLACES: u32 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_for_ten_seconds() {
        let mut cache = Cache::new(16);
        let start = Instant::from_secs(100);
        cache.confirm(3, 'k', 1, start);
        assert_eq!(cache.fresh(3, 'k', start), Some(1));
        assert_eq!(cache.fresh(3, 'x', start), None);
        assert_eq!(cache.fresh(3, 'k', Instant::from_millis(109_999)), Some(1));
        assert_eq!(cache.fresh(3, 'k', Instant::from_secs(110)), None);
        cache.confirm(3, 'k', 2, Instant::from_secs(110));
        assert_eq!(cache.fresh(3, 'k', Instant::from_secs(110)), Some(2));
    }

    #[test]
    fn the_answer_confirmed_longest_ago_gives_way() {
        let mut cache = Cache::new(1);
        for key in 0..5u32 {
            let now = Instant::from_millis(u64::from(key));
            cache.confirm(8, key, key, now);
        }
        let found: Vec<_> = (0..5)
            .map(|key| cache.fresh(8, key, Instant::from_millis(5)))
            .collect();
        assert_eq!(found, [None, Some(1), Some(2), Some(3), Some(4)]);
    }
}
