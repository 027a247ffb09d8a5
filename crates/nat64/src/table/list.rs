//! Doubly linked lists threaded through a slice by index: what is oldest stands at the head, and
//! anything can be taken out of the middle without a search.

/// "No entry" where an index is expected.
pub(crate) const NIL: u32 = u32::MAX;

/// An entry's neighbours in the list it is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    prev: u32,
    next: u32,
}

impl Links {
    pub(crate) const NONE: Self = Self {
        prev: NIL,
        next: NIL,
    };
}

/// An entry that can be in one list at a time.
pub(crate) trait Linked {
    fn links(&self) -> &Links;
    fn links_mut(&mut self) -> &mut Links;
}

/// A list of entries of a slice. Each call gets the slice that the entries live in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl List {
    pub(crate) const fn new() -> Self {
        Self {
            head: NIL,
            tail: NIL,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The oldest entry.
    pub(crate) fn head(&self) -> Option<u32> {
        (self.head != NIL).then_some(self.head)
    }

    /// Appends an entry that is in no list.
    pub(crate) fn push<T: Linked>(&mut self, slab: &mut [T], index: u32) {
        *slab[index as usize].links_mut() = Links {
            prev: self.tail,
            next: NIL,
        };
        match self.tail {
            NIL => self.head = index,
            tail => slab[tail as usize].links_mut().next = index,
        }
        self.tail = index;
        self.len += 1;
    }

    /// Takes out an entry that is in this list.
    pub(crate) fn remove<T: Linked>(&mut self, slab: &mut [T], index: u32) {
        let Links { prev, next } = std::mem::replace(slab[index as usize].links_mut(), Links::NONE);
        match prev {
            NIL => self.head = next,
            prev => slab[prev as usize].links_mut().next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => slab[next as usize].links_mut().prev = prev,
        }
        self.len -= 1;
    }

    /// The indices from oldest to newest.
    pub(crate) fn iter<'a, T: Linked>(&self, slab: &'a [T]) -> impl Iterator<Item = u32> + 'a {
        let mut at = self.head;
        std::iter::from_fn(move || {
            let index = (at != NIL).then_some(at)?;
            at = slab[index as usize].links().next;
            Some(index)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Linked for Links {
        fn links(&self) -> &Links {
            self
        }

        fn links_mut(&mut self) -> &mut Links {
            self
        }
    }

    #[test]
    fn entries_leave_from_head_middle_and_tail() {
        let mut slab = [Links::NONE; 5];
        let mut list = List::new();
        for index in 0..5 {
            list.push(&mut slab, index);
        }
        for (gone, left) in [
            (2, vec![0, 1, 3, 4]),
            (0, vec![1, 3, 4]),
            (4, vec![1, 3]),
            (1, vec![3]),
            (3, vec![]),
        ] {
            list.remove(&mut slab, gone);
            assert_eq!(list.iter(&slab).collect::<Vec<_>>(), left);
            assert_eq!(list.len() as usize, left.len());
        }
        assert_eq!(list.head(), None);
    }
}
