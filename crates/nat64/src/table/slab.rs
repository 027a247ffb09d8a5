//! Entries in one allocation, named by 32-bit handles.
//!
//! Everything is sized once, for the configured maximum. Pages that no entry has used yet cost
//! no memory, and there is never a moment at which four million entries move to a larger table.
//! Handle 0 means "none".

use std::ops::{Index, IndexMut};

use prefetch_index::prefetch_index;

/// "No entry".
pub(crate) const NONE: u32 = 0;

/// Entries named by handles from 1 on.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<T>,
    vacant: Vec<u32>,
    limit: u32,
}

impl<T> Slab<T> {
    /// An empty slab for at most `limit` entries. `unused` fills the place of handle 0.
    pub(crate) fn new(limit: u32, unused: T) -> Self {
        let mut entries = Vec::with_capacity(limit as usize + 1);
        entries.push(unused);
        Self {
            entries,
            vacant: Vec::new(),
            limit,
        }
    }

    /// Number of entries in use.
    pub(crate) fn len(&self) -> u32 {
        (self.entries.len() - 1 - self.vacant.len()) as u32
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() == self.limit
    }

    /// Adds an entry; `None` if the slab is full.
    pub(crate) fn insert(&mut self, entry: T) -> Option<u32> {
        if let Some(handle) = self.vacant.pop() {
            self.entries[handle as usize] = entry;
            return Some(handle);
        }
        if self.is_full() {
            return None;
        }
        self.entries.push(entry);
        Some((self.entries.len() - 1) as u32)
    }

    /// Gives a handle back. The entry stays as it is until the handle is used again.
    pub(crate) fn remove(&mut self, handle: u32) {
        self.vacant.push(handle);
    }

    /// Begins to fetch an entry.
    #[inline]
    pub(crate) fn prefetch(&self, handle: u32) {
        prefetch_index(&self.entries, handle as usize);
    }

    /// The handle beyond the largest that was ever in use.
    pub(crate) fn end(&self) -> u32 {
        self.entries.len() as u32
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, handle: u32) -> &T {
        &self.entries[handle as usize]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, handle: u32) -> &mut T {
        &mut self.entries[handle as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_start_at_one_are_reused_and_stop_at_the_limit() {
        let mut slab = Slab::new(2, 'x');
        assert_eq!(slab.insert('a'), Some(1));
        assert_eq!(slab.insert('b'), Some(2));
        assert_eq!((slab.insert('c'), slab.len()), (None, 2));
        slab.remove(1);
        assert!(!slab.is_full());
        assert_eq!(slab.insert('d'), Some(1));
        assert_eq!((slab[1], slab[2], slab.end()), ('d', 'b', 3));
    }
}
