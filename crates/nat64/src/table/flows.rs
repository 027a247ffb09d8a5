//! The sessions of a shard that are installed in a [`FlowOffload`](crate::offload::FlowOffload): a
//! bounded table of slots, with a hand that goes round to find one that may go.

use crate::table::slab::NONE;

/// Slots with a session each.
#[derive(Debug)]
pub(crate) struct Flows {
    /// The shard's first slot among those of all shards.
    first: u32,
    limit: u32,
    /// The session in each slot, or [`NONE`].
    sessions: Vec<u32>,
    vacant: Vec<u32>,
    hand: u32,
}

impl Flows {
    /// `limit` slots, the first of which has the number `first`.
    pub(crate) fn new(first: u32, limit: u32) -> Self {
        Self {
            first,
            limit,
            sessions: Vec::new(),
            vacant: Vec::new(),
            hand: 0,
        }
    }

    /// Number of slots with a session.
    pub(crate) fn len(&self) -> u32 {
        (self.sessions.len() - self.vacant.len()) as u32
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    /// Gives a session a slot; there must be one.
    pub(crate) fn insert(&mut self, session: u32) -> u32 {
        if let Some(place) = self.vacant.pop() {
            self.sessions[place as usize] = session;
            return self.first + place;
        }
        self.sessions.push(session);
        self.first + (self.sessions.len() - 1) as u32
    }

    /// Takes the slot back.
    pub(crate) fn remove(&mut self, slot: u32) {
        let place = slot - self.first;
        self.sessions[place as usize] = NONE;
        self.vacant.push(place);
    }

    /// The sessions in the next `count` slots; the hand moves on behind them.
    pub(crate) fn next(&mut self, count: u32) -> Vec<u32> {
        let len = self.sessions.len() as u32;
        let count = count.min(len);
        let places = (0..count).map(|ahead| (self.hand + ahead) % len);
        let sessions = places.map(|place| self.sessions[place as usize]);
        let found = sessions.filter(|session| *session != NONE).collect();
        self.hand = (self.hand + count) % len.max(1);
        found
    }

    /// Some of the installed sessions, `count` at the most.
    pub(crate) fn some(&self, count: usize) -> Vec<u32> {
        let installed = self.sessions.iter().filter(|session| **session != NONE);
        installed.take(count).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_numbered_from_the_first_and_used_again() {
        let mut flows = Flows::new(100, 3);
        assert_eq!(
            [7, 8, 9].map(|session| flows.insert(session)),
            [100, 101, 102]
        );
        assert!(flows.is_full());
        flows.remove(101);
        assert_eq!((flows.len(), flows.is_full()), (2, false));
        assert_eq!(flows.insert(5), 101);
        assert_eq!(flows.some(2), [7, 5]);
    }

    #[test]
    fn the_hand_goes_round_and_passes_empty_slots() {
        let mut flows = Flows::new(0, 3);
        assert_eq!(flows.next(8), [0_u32; 0]);
        for session in [7, 8, 9] {
            flows.insert(session);
        }
        assert_eq!(flows.next(2), [7, 8]);
        assert_eq!(flows.next(2), [9, 7]);
        flows.remove(1);
        assert_eq!(flows.next(8), [9, 7]);
    }
}
