//! Has the server lost what it knew? (RFC 6887 section 8.5)

use xlat_core::Instant;

/// The server's time, as it was told last, and when that was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServerEpoch(Option<(u32, Instant)>);

impl ServerEpoch {
    /// Takes over the epoch of a response. False if the server has begun anew since the one before.
    pub(super) fn continues(&mut self, epoch: u32, now: Instant) -> bool {
        let Some((before, at)) = self.0.replace((epoch, now)) else {
            return true;
        };
        if epoch.saturating_add(1) < before {
            return false;
        }
        let client = now.saturating_since(at).as_secs();
        let server = u64::from(epoch.saturating_sub(before));
        // Clocks may differ by a sixteenth, and by two seconds.
        client + 2 >= server - server / 16 && server + 2 >= client - client / 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn continues(before: (u32, u64), then: (u32, u64)) -> bool {
        let mut epoch = ServerEpoch::default();
        assert!(epoch.continues(before.0, Instant::from_secs(before.1)));
        epoch.continues(then.0, Instant::from_secs(then.1))
    }

    #[test]
    fn pp_05_a_server_that_has_begun_anew_is_told_from_one_whose_clock_drifts() {
        assert!(continues((100, 1000), (200, 1100)));
        assert!(continues((100, 1000), (99, 1000)));
        assert!(!continues((100, 1000), (98, 1000)));
        assert!(!continues((100, 1000), (3, 1100)));
        // A sixteenth, and two seconds.
        assert!(continues((0, 0), (1600 + 100, 1600)));
        assert!(continues((0, 0), (1600 - 100, 1600)));
        assert!(!continues((0, 0), (1600 + 112, 1600)));
        assert!(!continues((0, 0), (1600 - 104, 1600)));
    }
}
