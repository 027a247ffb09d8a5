//! Notifies systemd of the daemon's state, if it runs under systemd (`Type=notify`).

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Interval;

/// Notifies that the daemon is ready; `systemctl status` shows `status`.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Changes the text that `systemctl status` shows.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// Notifies that the start goes on, whatever it waits for, and so takes longer.
pub fn waiting(status: &str) {
    let patience = NotifyState::ExtendTimeoutUsec(PATIENCE.as_micros() as u32);
    send(&[NotifyState::Status(status), patience]);
}

/// Notifies that the daemon is stopping.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The watchdog of systemd, if the unit has one (`WatchdogSec=`).
#[derive(Debug)]
pub struct Watchdog(Option<Interval>);

impl Watchdog {
    /// Reads the interval from the environment; notifications are sent twice as often. Must be
    /// called within a tokio runtime.
    pub fn new() -> Self {
        let wanted = sd_notify::watchdog_enabled();
        Self(wanted.map(|time| tokio::time::interval((time / 2).max(SHORTEST))))
    }

    /// Waits until a notification is due and sends it; without a watchdog, waits forever.
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

/// How long systemd goes on waiting after each notification of a start that waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// Shortest interval between two notifications.
const SHORTEST: Duration = Duration::from_millis(100);

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd was not notified: {error}");
    }
}
