//! How densely packets come.
//!
//! A worker that is as fast as the sender would find each packet alone, and sleep and be woken for
//! it. When many come one by one it pauses for a moment instead, so that it finds several: they
//! cost one wake-up, and those of one flow leave together.

use std::time::Duration;

use rustix::event::Timespec;
use xlat_core::{Frame, Instant};

/// Counts packets.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Instant,
    packets: u32,
    dense: bool,
}

/// Time over which packets are counted.
const WINDOW: Duration = Duration::from_millis(1);
/// Packets in that time that are many.
const DENSE: u32 = 100;
/// How long a pause is; the kernel makes it about 50 us longer.
pub(super) const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000,
};

impl Pace {
    /// A super-packet is many packets already: nobody has to wait for more.
    #[inline]
    pub(super) fn note(&mut self, frame: &Frame<'_>) {
        self.packets += u32::from(frame.offload.gso.is_none());
    }

    /// True while many packets come one by one.
    pub(super) fn is_dense(&mut self, now: Instant) -> bool {
        if now.saturating_since(self.since) >= WINDOW {
            self.dense = self.packets >= DENSE;
            (self.since, self.packets) = (now, 0);
        }
        self.dense
    }
}

#[cfg(test)]
mod tests {
    use xlat_core::Offload;
    use xlat_core::offload::{Gso, GsoKind};

    use super::*;

    #[test]
    fn packets_are_dense_while_a_hundred_come_in_a_millisecond() {
        let mut pace = Pace::default();
        let mut buffer = [0x45; 2000];
        let mut at = |millis: u64, packets: u32, gso: bool| {
            for _ in 0..packets {
                let mut frame = Frame::new(&mut buffer, 200, 100, Offload::NONE);
                let frame = frame.as_mut().expect("room");
                frame.offload.gso = gso.then_some(Gso {
                    kind: GsoKind::Udp,
                    size: 100,
                    ecn: false,
                });
                pace.note(frame);
            }
            pace.is_dense(Instant::from_millis(millis))
        };
        assert!(!at(10, 10, false), "a few");
        assert!(at(11, 100, false), "many");
        assert!(at(11, 0, false), "it holds for a millisecond");
        assert!(!at(12, 99, false), "fewer again");
        assert!(!at(13, 1000, true), "super-packets are no reason to wait");
    }
}
