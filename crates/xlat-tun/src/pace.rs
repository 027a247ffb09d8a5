//! How densely packets come.
//!
//! A worker that is as fast as the sender would find each packet alone, and sleep and be woken for
//! it. When many come one by one it pauses for a moment instead, so that it finds several: they
//! cost one wake-up, and those of one flow leave together.

use std::num::NonZeroU64;
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

/// Time over which packets are counted, at least.
const WINDOW: Duration = Duration::from_millis(1);
/// Packets in that time that are many.
const DENSE: u32 = 100;
/// How long a pause is. The kernel may make it longer by [`SLACK`], and by a few microseconds for
/// the way through its timers and scheduler.
pub(super) const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 55_000,
};
/// How late the kernel may wake a worker from a pause, in nanoseconds. What a thread has without
/// being asked is 50 us, or whatever the service manager chose.
const SLACK: NonZeroU64 = NonZeroU64::new(5_000).unwrap();

/// Makes this thread's pauses as long as they are meant to be.
pub(super) fn set_slack() {
    if let Err(error) = rustix::thread::set_current_timer_slack(Some(SLACK)) {
        tracing::debug!("the pauses of a worker are as long as the kernel likes: {error}");
    }
}

impl Pace {
    /// A super-packet is many packets already: nobody has to wait for more.
    #[inline]
    pub(super) fn note(&mut self, frame: &Frame<'_>) {
        let more = u32::from(frame.offload.gso.is_none());
        self.packets = self.packets.saturating_add(more);
    }

    /// True while many packets come one by one.
    pub(super) fn is_dense(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_since(self.since);
        if elapsed >= WINDOW {
            let packets = WINDOW.saturating_mul(self.packets);
            self.dense = packets >= elapsed.saturating_mul(DENSE);
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
    fn packets_are_dense_while_a_hundred_a_millisecond_come() {
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
        assert!(!at(20, 699, false), "fewer over seven milliseconds");
        assert!(at(27, 700, false), "many over seven milliseconds");
        assert!(!at(10_000, 5000, false), "a few a second, for long");
    }
}
