//! A timer wheel threaded through the sessions themselves: one turn of 4.9 hours, two list links
//! per session, and no work per packet.
//!
//! A packet that prolongs a session writes the new end into the session and leaves the timer
//! where it is. When the timer fires it looks at the end again and moves on if there is life left,
//! so an active session is touched once per lifetime. What must end beyond the horizon fires at
//! the horizon and moves on in the same way.

use crate::clock::Tick;
use crate::table::bitset::BitSet;
use crate::table::slab::Slab;

/// An entry's place on the wheel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    /// The entry before, or a slot if [`FIRST`] is set, or [`OFF`].
    prev: u32,
    next: u32,
}

impl Timer {
    pub(crate) const IDLE: Self = Self { prev: OFF, next: 0 };
}

/// An entry with a timer.
pub(crate) trait Armed {
    fn timer(&mut self) -> &mut Timer;
    /// When the entry's life ends.
    fn due(&self) -> Tick;
}

#[derive(Debug)]
pub(crate) struct Wheel {
    slots: Vec<u32>,
    /// The slot being worked off, counted from the origin of time.
    current: u32,
    /// Slots that are not empty.
    occupied: BitSet,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![0; SLOTS as usize],
            current: 0,
            occupied: BitSet::new(SLOTS),
        }
    }

    /// Starts the timer of an entry whose timer is off.
    pub(crate) fn arm<T: Armed>(&mut self, slab: &mut Slab<T>, handle: u32) {
        let due = slot_after(slab[handle].due());
        let ahead = due.saturating_sub(self.current).clamp(1, SLOTS - 1);
        let slot = self.current.wrapping_add(ahead) % SLOTS;
        let next = std::mem::replace(&mut self.slots[slot as usize], handle);
        *slab[handle].timer() = Timer {
            prev: FIRST | slot,
            next,
        };
        if next == 0 {
            self.occupied.insert(slot);
        } else {
            slab[next].timer().prev = handle;
        }
    }

    /// Stops an entry's timer; nothing happens if it is off.
    pub(crate) fn disarm<T: Armed>(&mut self, slab: &mut Slab<T>, handle: u32) {
        let Timer { prev, next } = std::mem::replace(slab[handle].timer(), Timer::IDLE);
        if prev == OFF {
            return;
        }
        if prev & FIRST != 0 {
            let slot = prev & !FIRST;
            self.slots[slot as usize] = next;
            if next == 0 {
                self.occupied.remove(slot);
            }
        } else {
            slab[prev].timer().next = next;
        }
        if next != 0 {
            slab[next].timer().prev = prev;
        }
    }

    /// The next entry whose life is over, with its timer off. Each timer looked at takes one
    /// of `steps`.
    pub(crate) fn next_due<T: Armed>(
        &mut self,
        slab: &mut Slab<T>,
        now: Tick,
        steps: &mut usize,
    ) -> Option<u32> {
        while *steps > 0 && self.advance(slot(now)) {
            *steps -= 1;
            let first = self.slots[(self.current % SLOTS) as usize];
            self.disarm(slab, first);
            if slab[first].due() <= now {
                return Some(first);
            }
            self.arm(slab, first);
        }
        None
    }

    /// When the wheel next stands at a timer: nothing fires before.
    pub(crate) fn next_stop(&self) -> Option<Tick> {
        let here = self.current % SLOTS;
        let slot = self.occupied.next_around(here)?;
        let ahead = slot.wrapping_sub(here) % SLOTS;
        let stop = self.current.saturating_add(ahead);
        Some(Tick::from_raw(stop.saturating_mul(1 << SLOT_SHIFT)))
    }

    /// Turns the wheel to the next slot with a timer, but not beyond `target`. True if it stands
    /// at a timer.
    fn advance(&mut self, target: u32) -> bool {
        let here = self.current % SLOTS;
        let ahead = self
            .occupied
            .next_around(here)
            .map(|slot| slot.wrapping_sub(here) % SLOTS);
        match ahead {
            Some(ahead) if self.current.saturating_add(ahead) <= target => {
                self.current += ahead;
                true
            }
            _ => {
                self.current = self.current.max(target);
                false
            }
        }
    }
}

/// The slot that a tick lies in.
const fn slot(tick: Tick) -> u32 {
    tick.raw() >> SLOT_SHIFT
}

/// The first slot at whose beginning a tick has come.
const fn slot_after(tick: Tick) -> u32 {
    slot(tick).saturating_add(1)
}

/// Four ticks, or 0.54 s.
const SLOT_SHIFT: u32 = 2;
const SLOTS: u32 = 1 << 15;
/// Marks a `prev` that names a slot.
const FIRST: u32 = 1 << 31;
const OFF: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use xlat_core::Instant;

    use super::*;
    use crate::clock::Ticks;

    struct Entry(Tick, Timer);

    impl Armed for Entry {
        fn timer(&mut self) -> &mut Timer {
            &mut self.1
        }

        fn due(&self) -> Tick {
            self.0
        }
    }

    #[test]
    fn timers_fire_within_a_second_of_their_time_and_not_before() {
        let (mut wheel, mut slab) = wheel();
        let seconds = [1, 6, 60, 300, 7440, 17_000, 20_000, 90_000];
        for life in seconds {
            let due = Tick::at(secs(0)).after(Ticks::covering(Duration::from_secs(life)));
            let handle = slab.insert(Entry(due, Timer::IDLE)).unwrap();
            wheel.arm(&mut slab, handle);
        }
        for (handle, life) in (1..).zip(seconds) {
            let stop = wheel.next_stop().unwrap();
            assert!(stop <= Tick::at(secs(life + 1)), "{life}");
            assert_eq!(fired(&mut wheel, &mut slab, secs(life)), [0; 0], "{life}");
            assert_eq!(fired(&mut wheel, &mut slab, secs(life + 1)), [handle]);
        }
        assert_eq!(wheel.next_stop(), None);
    }

    #[test]
    fn a_prolonged_entry_moves_on_when_its_timer_fires() {
        let (mut wheel, mut slab) = wheel();
        let handle = slab.insert(Entry(Tick::at(secs(10)), Timer::IDLE)).unwrap();
        wheel.arm(&mut slab, handle);
        slab[handle].0 = Tick::at(secs(50));
        assert_eq!(fired(&mut wheel, &mut slab, secs(49)), [0; 0]);
        assert_eq!(fired(&mut wheel, &mut slab, secs(51)), [handle]);
    }

    #[test]
    fn work_per_call_is_bounded() {
        let (mut wheel, mut slab) = wheel();
        for _ in 0..100 {
            let handle = slab.insert(Entry(Tick::at(secs(1)), Timer::IDLE)).unwrap();
            wheel.arm(&mut slab, handle);
        }
        let mut steps = 50;
        let mut count = 0;
        while wheel
            .next_due(&mut slab, Tick::at(secs(10)), &mut steps)
            .is_some()
        {
            count += 1;
        }
        assert!(count > 40 && count <= 50, "{count}");
        assert_eq!(fired(&mut wheel, &mut slab, secs(10)).len(), 100 - count);
    }

    proptest! {
        #[test]
        fn everything_fires_once_and_in_time(
            lives in prop::collection::vec((0u64..40_000, 0u64..40_000, any::<bool>()), 1..60),
        ) {
            let (mut wheel, mut slab) = wheel();
            let mut due = Vec::new();
            for (first, second, stop) in lives {
                let handle = slab.insert(Entry(Tick::at(secs(first)), Timer::IDLE)).unwrap();
                wheel.arm(&mut slab, handle);
                if stop {
                    wheel.disarm(&mut slab, handle);
                    slab[handle].0 = Tick::at(secs(second));
                    wheel.arm(&mut slab, handle);
                } else {
                    slab[handle].0 = Tick::at(secs(first.max(second)));
                }
                due.push((slab[handle].0, handle));
            }
            for now in (1..42_000).step_by(97) {
                for handle in fired(&mut wheel, &mut slab, secs(now)) {
                    let place = due.iter().position(|(_, other)| *other == handle).unwrap();
                    let (tick, _) = due.swap_remove(place);
                    prop_assert!(tick <= Tick::at(secs(now)));
                }
                let late = Tick::at(secs(now.saturating_sub(1)));
                prop_assert!(due.iter().all(|(tick, _)| *tick > late));
            }
            prop_assert!(due.is_empty());
        }
    }

    fn wheel() -> (Wheel, Slab<Entry>) {
        (
            Wheel::new(),
            Slab::new(1000, Entry(Tick::from_raw(0), Timer::IDLE)),
        )
    }

    fn fired(wheel: &mut Wheel, slab: &mut Slab<Entry>, now: Instant) -> Vec<u32> {
        let mut steps = 1_000_000;
        std::iter::from_fn(|| wheel.next_due(slab, Tick::at(now), &mut steps)).collect()
    }

    fn secs(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }
}
