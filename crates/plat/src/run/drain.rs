//! A drain of the running gateway, and its end.

use nat64::TcpState;
use nat64_host::Keeper;
use plat_host::DrainOrder;
use router_advertiser::Reach;
use tracing::info;
use xlat_tun::now;

use super::Daemon;
use crate::orders::Order;
use crate::started::StartedDaemon;

impl Daemon<'_> {
    /// Does what it is told to.
    pub(super) async fn obey(
        &mut self,
        order: Order,
        started: &mut StartedDaemon,
    ) -> Result<String, String> {
        match order {
            Order::Reload => self.reload(started).await,
            Order::Drain(order) => Ok(self.begin_drain(order, started).await),
            Order::Resume => self.resume(started).await,
            // The keeper's timers begin anew with each order.
            Order::Look => Ok(String::new()),
        }
    }

    async fn begin_drain(&mut self, order: DrainOrder, started: &mut StartedDaemon) -> String {
        if let Some(stateful) = &self.state.stateful {
            stateful.nat().set_draining(true);
        }
        self.drain.begin(order, self.sessions(), now());
        self.look_again(started).await;
        format!(
            "new subscribers are refused; {} sessions are left",
            self.sessions()
        )
    }

    async fn resume(&mut self, started: &mut StartedDaemon) -> Result<String, String> {
        if !self.drain.end() {
            return Err("this plat is not being drained".into());
        }
        if let Some(stateful) = &self.state.stateful {
            stateful.nat().set_draining(false);
        }
        info!("resumed: new subscribers are served");
        self.look_again(started).await;
        Ok("new subscribers are served".into())
    }

    /// Counts the sessions that a drain waits for.
    pub(super) fn watch_drain(&mut self) {
        if self.drain.is_active() {
            self.drain.update(self.sessions(), now());
        }
        self.routes.withhold(self.drain.withheld());
    }

    /// What hosts of the LANs are told of what is reached: nothing, once a drain has withdrawn routes.
    pub(super) fn told(&self, reach: Reach) -> Reach {
        match self.drain.withheld() {
            plat_host::Withheld::Nothing => reach,
            _ => Reach::default(),
        }
    }

    /// Sessions that run: not those that both sides have closed, which stay for some minutes.
    fn sessions(&self) -> u64 {
        let Some(nat) = self.state.stateful.as_ref().map(Keeper::nat) else {
            return 0;
        };
        let counts = nat.counts();
        let all: u64 = counts.sessions.map(u64::from).iter().sum();
        all.saturating_sub(u64::from(counts.tcp[TcpState::V4V6Fin as usize]))
    }
}
