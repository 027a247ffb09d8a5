//! Tells systemd how the daemon is doing, where it runs under systemd (`Type=notify`).

use sd_notify::NotifyState;

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

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd was not notified: {error}");
    }
}
