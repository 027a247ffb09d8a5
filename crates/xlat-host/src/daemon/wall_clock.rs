//! The wall clock, for times that must hold after a restart.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970 on the wall clock.
pub fn epoch() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
