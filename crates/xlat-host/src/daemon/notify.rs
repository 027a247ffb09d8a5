//! Tells systemd how the daemon is doing, where it runs under systemd (`Type=notify`).

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Interval;

/// The daemon does its work; `status` is shown by `systemctl status`.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What the daemon does at the moment.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// The daemon puts everything back and ends.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The watchdog of systemd, where its unit has one (`WatchdogSec=`).
#[derive(Debug)]
pub struct Watchdog(Option<Interval>);

impl Watchdog {
    /// To be fed twice as often as systemd wants it. Must be called within a tokio runtime.
    pub fn new() -> Self {
        let wanted = sd_notify::watchdog_enabled();
        Self(wanted.map(|time| tokio::time::interval((time / 2).max(SHORTEST))))
    }

    /// Waits until it is due and feeds it; for ever where there is none.
    pub async fn feed(&mut self) {
        match &mut self.0 {
            Some(interval) => {
                interval.tick().await;
                send(&[NotifyState::Watchdog]);
            }
            None => std::future::pending().await,
        }
    }
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}

/// Time between two meals at the least.
const SHORTEST: Duration = Duration::from_millis(100);

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd was not notified: {error}");
    }
}
