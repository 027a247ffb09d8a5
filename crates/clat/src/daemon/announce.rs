//! Announces the daemon's state: to the log, to the service manager and to `clat status`.

use std::net::Ipv4Addr;

use tracing::info;
use xlat_host::daemon::notify;
use xlat_proto::clat::State;

use super::network::Network;
use crate::control::StatusSource;

/// The announced state. Changes are announced once.
pub(super) struct Announcer {
    status: StatusSource,
    host4: Ipv4Addr,
    /// `None` before the first announcement and after a failure.
    state: Option<State>,
    is_ready: bool,
}

impl Announcer {
    pub(super) fn new(status: StatusSource, host4: Ipv4Addr) -> Self {
        Self {
            status,
            host4,
            state: None,
            is_ready: false,
        }
    }

    /// The announced state; `None` before the first announcement and after a failure.
    pub(super) fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// Updates the status.
    pub(super) fn refresh(&self, network: &Network) {
        if let Some(state) = &self.state {
            let (found, forged) = (network.found(), network.forged());
            self.status.set(state, found, network.discovery(), forged);
        }
    }

    /// Notices whether anything comes back through the prefix.
    pub(super) fn look_at_health(&self) {
        let status = self.status.clone();
        // It may have to wait for a reply.
        tokio::spawn(async move { status.measure(false).await });
    }

    /// Updates the status, and announces `state` if it has changed.
    pub(super) fn reached(&mut self, state: &State, network: &Network) {
        let (found, forged) = (network.found(), network.forged());
        self.status.set(state, found, network.discovery(), forged);
        if self.state.as_ref() == Some(state) {
            return;
        }
        let line = match state {
            State::Running(_) => format!("this host is {} on IPv4, {state}", self.host4),
            waiting => waiting.to_string(),
        };
        if let State::Running(_) = state {
            info!("ready: {line}");
        } else {
            info!("{line}");
        }
        self.notify(&line);
        self.state = Some(state.clone());
    }

    /// Announces that the daemon failed to reach a state and will try again.
    pub(super) fn failed(&mut self, error: &anyhow::Error) {
        let line = format!("waiting: {error:#}");
        self.notify(&line);
        self.status.set_state(&line);
        self.state = None;
    }

    fn notify(&mut self, line: &str) {
        if self.is_ready {
            notify::status(line);
        } else {
            self.is_ready = true;
            notify::ready(line);
        }
    }
}
