//! The feed of changes: subscribers learn what happens in the tables, each the kinds of events that
//! it asked for.
//!
//! Each subscriber has a bounded queue of its own in every shard. The packet path only appends; a
//! queue that is not drained in time loses events and counts them, and no other subscriber notices.
//! Without a subscriber for a kind nothing is recorded of it.
//!
//! A consumer that must not miss a removal does not rely on a queue: it keeps the
//! [`SessionHandle`](crate::event::SessionHandle) and asks
//! [`Nat64::is_current`](crate::Nat64::is_current), which compares generations in the table itself.

use std::collections::VecDeque;

use xlat_core::Instant;

use crate::event::{Event, EventKind};

/// The kinds of events that a subscriber wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Bindings that are created and removed.
    pub bindings: bool,
    /// Sessions that are created and removed.
    pub sessions: bool,
    /// Sessions that reach another TCP state.
    pub updates: bool,
    /// Blocks of ports that are allocated and freed.
    pub blocks: bool,
    /// Refusals by a limit or an exhausted pool, at most one a second and shard.
    pub refusals: bool,
    /// Events that each shard keeps until they are drained; more are lost and counted.
    pub capacity: usize,
}

impl Subscribe {
    /// No events, and room for about 6 MiB of them in each shard.
    pub const NONE: Self = Self {
        bindings: false,
        sessions: false,
        updates: false,
        blocks: false,
        refusals: false,
        capacity: 1 << 16,
    };

    const fn kinds(self) -> u8 {
        let mut kinds = 0;
        if self.bindings {
            kinds |= Kind::Binding as u8;
        }
        if self.sessions {
            kinds |= Kind::Session as u8;
        }
        if self.updates {
            kinds |= Kind::Update as u8;
        }
        if self.blocks {
            kinds |= Kind::Block as u8;
        }
        if self.refusals {
            kinds |= Kind::Refusal as u8;
        }
        kinds
    }
}

/// A kind of events, as a bit.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Binding = 1,
    Session = 2,
    Update = 4,
    Block = 8,
    Refusal = 16,
}

/// A shard's part of the feed.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// The kinds that any subscriber wants.
    wanted: u8,
    queues: Vec<Queue>,
}

/// One subscriber's events that wait.
#[derive(Debug)]
struct Queue {
    id: u32,
    kinds: u8,
    capacity: usize,
    events: VecDeque<Event>,
    lost: u64,
}

impl Feed {
    /// True if an event of this kind has a subscriber.
    #[inline]
    pub(crate) const fn wants(&self, kind: Kind) -> bool {
        self.wanted & kind as u8 != 0
    }

    pub(crate) fn push(&mut self, kind: Kind, at: Instant, event: EventKind) {
        for queue in &mut self.queues {
            if queue.kinds & kind as u8 == 0 {
                continue;
            }
            if queue.events.len() >= queue.capacity {
                queue.lost += 1;
                continue;
            }
            queue.events.push_back(Event { at, kind: event });
        }
    }

    /// True if no subscriber has anything to fetch.
    pub(crate) fn is_empty(&self) -> bool {
        let mut queues = self.queues.iter();
        queues.all(|queue| queue.events.is_empty() && queue.lost == 0)
    }

    pub(crate) fn add(&mut self, id: u32, wanted: Subscribe) {
        self.queues.push(Queue {
            id,
            kinds: wanted.kinds(),
            capacity: wanted.capacity,
            events: VecDeque::new(),
            lost: 0,
        });
        self.sum_up();
    }

    pub(crate) fn change(&mut self, id: u32, wanted: Subscribe) {
        if let Some(queue) = self.queue(id) {
            (queue.kinds, queue.capacity) = (wanted.kinds(), wanted.capacity);
        }
        self.sum_up();
    }

    pub(crate) fn remove(&mut self, id: u32) {
        self.queues.retain(|queue| queue.id != id);
        self.sum_up();
    }

    pub(crate) fn drain(&mut self, id: u32, into: &mut Vec<Event>) -> u64 {
        let Some(queue) = self.queue(id) else {
            return 0;
        };
        into.extend(queue.events.drain(..));
        std::mem::take(&mut queue.lost)
    }

    fn queue(&mut self, id: u32) -> Option<&mut Queue> {
        self.queues.iter_mut().find(|queue| queue.id == id)
    }

    fn sum_up(&mut self) {
        let kinds = self.queues.iter().map(|queue| queue.kinds);
        self.wanted = kinds.fold(0, |sum, kinds| sum | kinds);
    }
}
