//! Measures how densely packets arrive.
//!
//! A worker as fast as the sender would find each packet alone, and sleep and wake for each. When
//! many packets arrive one by one the worker pauses for a moment instead and then finds several:
//! they cost one wake-up, and those of one flow are joined.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::event::Timespec;
use xlat_core::{Frame, Instant};

/// The arrival rate of packets.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Instant,
    packets: u32,
    dense: bool,
}

/// Shortest time over which packets are counted.
const WINDOW: Duration = Duration::from_millis(1);
/// Packets per [`WINDOW`] from which on arrivals are dense.
const DENSE: u32 = 100;
/// Length of a pause. The kernel may extend it by [`SLACK`], and its timers and scheduler by a few
/// microseconds.
pub(super) const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 55_000,
};
/// How late the kernel may wake a worker from a pause, in nanoseconds. The default of a thread is
/// 50 us, or the service manager's choice.
const SLACK: NonZeroU64 = NonZeroU64::new(5_000).unwrap();

/// Sets the timer slack of this thread, so that its pauses have the intended length.
pub(super) fn set_slack() {
    if let Err(error) = rustix::thread::set_current_timer_slack(Some(SLACK)) {
        tracing::debug!("cannot set a worker's timer slack: {error}");
    }
}

impl Pace {
    /// Counts a packet, but not a super-packet: that is many packets already, and needs no wait for
    /// more.
    #[inline]
    pub(super) fn count(&mut self, frame: &Frame<'_>) {
        let more = u32::from(frame.offload.gso.is_none());
        self.packets = self.packets.saturating_add(more);
    }

    /// True while many packets arrive one by one.
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
                pace.count(frame);
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
