//! The kernel's fast path: what it is offered, and what it has to know.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use nat64::offload::OffloadConfig;
use plat_host::KernelSessions;

use super::Daemon;

impl Daemon<'_> {
    /// Attaches the program to the TUN, with the rules and sessions that are now.
    pub(super) fn start_fast_path(&self) -> Result<()> {
        self.tell_fast_path();
        self.fast_path.attach(&self.settings.instance.tun)?;
        self.offer_sessions();
        Ok(())
    }

    /// Tells the program what the settings mean now.
    pub(super) fn tell_fast_path(&self) {
        let mapping = self.settings.static_mapping(self.hidden());
        self.fast_path.set_rules(&self.policy, mapping.as_ref());
    }

    /// Attaches the program again where others have detached it. Sessions stay with the workers while it
    /// is not there.
    pub(super) fn watch_fast_path(&self) {
        if self.fast_path.look(Instant::now()) {
            self.offer_sessions();
        }
    }

    /// Offers sessions to the kernel if it takes any.
    fn offer_sessions(&self) {
        let Some(stateful) = &self.state.stateful else {
            return;
        };
        let offers = self.settings.offers;
        let config = self.fast_path.flows().map(|flows| OffloadConfig {
            packets: offers.packets,
            flows: offers.flows.min(flows.capacity()),
            offload: Arc::new(KernelSessions::new(flows, &self.settings.pref64s)),
        });
        stateful.nat().set_offload(config.as_ref());
    }
}
