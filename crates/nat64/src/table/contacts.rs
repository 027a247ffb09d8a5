//! Whom each binding has talked to: what the address-dependent filter goes by.
//!
//! Sessions say it too, but to find one by binding and remote address would need another index of
//! all of them. Like all tables it is sized once, and without that filter it is empty.

use crate::siphash::SipKey;
use crate::table::index::Index;
use crate::table::slab::Slab;

/// The contacts of a shard's bindings.
#[derive(Debug)]
pub(crate) struct Contacts {
    slab: Slab<Contact>,
    index: Index,
    key: SipKey,
}

#[derive(Clone, Copy, Debug)]
struct Contact {
    binding: u32,
    remote: u32,
    sessions: u32,
}

impl Contacts {
    pub(crate) fn new(limit: u32, key: SipKey) -> Self {
        let unused = Contact {
            binding: 0,
            remote: 0,
            sessions: 0,
        };
        Self {
            slab: Slab::new(limit, unused),
            index: Index::new(limit),
            key,
        }
    }

    /// True if the binding has a session with the remote address.
    pub(crate) fn has(&self, binding: u32, remote: u32) -> bool {
        self.find(binding, remote).is_some()
    }

    /// A session begins.
    pub(crate) fn add(&mut self, binding: u32, remote: u32) {
        if let Some(known) = self.find(binding, remote) {
            self.slab[known].sessions += 1;
            return;
        }
        let contact = Contact {
            binding,
            remote,
            sessions: 1,
        };
        // There are never more than sessions.
        if let Some(handle) = self.slab.insert(contact) {
            self.index.insert(self.hash(binding, remote), handle);
        }
    }

    /// A session ends.
    pub(crate) fn remove(&mut self, binding: u32, remote: u32) {
        let Some(handle) = self.find(binding, remote) else {
            return;
        };
        let contact = &mut self.slab[handle];
        contact.sessions -= 1;
        if contact.sessions == 0 {
            self.index.remove(self.hash(binding, remote), handle);
            self.slab.remove(handle);
        }
    }

    fn find(&self, binding: u32, remote: u32) -> Option<u32> {
        self.index.find(self.hash(binding, remote), |handle| {
            let contact = &self.slab[handle];
            contact.binding == binding && contact.remote == remote
        })
    }

    fn hash(&self, binding: u32, remote: u32) -> u64 {
        self.key
            .hash([u64::from(binding) << 32 | u64::from(remote)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_lasts_as_long_as_its_last_session() {
        let mut contacts = Contacts::new(4, SipKey::new([1, 2]));
        contacts.add(1, 7);
        contacts.add(1, 7);
        contacts.add(2, 7);
        contacts.remove(1, 7);
        assert!(contacts.has(1, 7) && contacts.has(2, 7) && !contacts.has(2, 8));
        contacts.remove(1, 7);
        contacts.remove(2, 7);
        assert!(!contacts.has(1, 7) && !contacts.has(2, 7));
        assert_eq!(contacts.slab.len(), 0);
    }
}
