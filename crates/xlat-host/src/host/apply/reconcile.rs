//! Makes again what other programs, or the kernel, have removed since a plan was carried out.

use tracing::debug;

use super::Applied;
use crate::host::error::Error;
use crate::host::netlink::{interfaces, is_ours, same_destination};
use crate::host::plan::{Address, Plan, Route, Step};
use crate::host::sysctl;
use crate::nft::{Held, TablePlace};

impl Applied {
    /// Puts back what others took away since: routes that went with a link that was down, addresses
    /// that were flushed, parameters that were set back. Returns the number of repairs.
    ///
    /// # Errors
    /// The first repair that fails.
    pub async fn reconcile(&mut self, plan: &Plan) -> Result<usize, Error> {
        let mut repairs = 0;
        for step in plan.steps() {
            let repaired = match step {
                Step::Route(route) => self.repair_route(route).await?,
                Step::Address(address) => self.repair_address(address).await?,
                Step::Up { dev } => self.repair_up(dev).await?,
                Step::Sysctl { key, value } => repair_sysctl(key, value),
                Step::Table { table, .. } => self.repair_table(&table.place())?,
                Step::Tun { .. } | Step::Claim { .. } | Step::Proxy { .. } => false,
            };
            if repaired {
                debug!("put back: {step}");
            }
            repairs += usize::from(repaired);
        }
        Ok(repairs)
    }

    async fn repair_route(&self, route: &Route) -> Result<bool, Error> {
        let netlink = &self.host.netlink;
        let index = netlink.link(&route.dev).await?.index;
        let there = netlink.routes(route.to.is_ipv6()).await?;
        let found = there.iter().any(|message| {
            is_ours(message)
                && same_destination(message, route)
                && interfaces(message).contains(&index)
        });
        if !found {
            netlink.add_route(route, false).await?;
        }
        Ok(!found)
    }

    /// One that was optional and has never been there is not missed.
    fn repair_table(&mut self, place: &TablePlace) -> Result<bool, Error> {
        let held = self
            .tables
            .iter_mut()
            .find(|held| held.table().place() == *place);
        Ok(held.map_or(Ok(false), Held::repair)?)
    }

    async fn repair_address(&self, address: &Address) -> Result<bool, Error> {
        let netlink = &self.host.netlink;
        let index = netlink.link(&address.dev).await?.index;
        let there = netlink.addresses().await?;
        let found = there
            .iter()
            .any(|have| have.index == index && have.address == address.address);
        if !found {
            netlink.add_address(address).await?;
        }
        Ok(!found)
    }

    async fn repair_up(&self, dev: &str) -> Result<bool, Error> {
        let netlink = &self.host.netlink;
        let is_down = !netlink.link(dev).await?.up;
        if is_down {
            netlink.set_up(dev).await?;
        }
        Ok(is_down)
    }
}

/// Parameters of an interface that is gone are not missed, and one that cannot be set is somebody
/// else's decision.
fn repair_sysctl(key: &str, value: &str) -> bool {
    sysctl::read(key).is_ok_and(|now| now != value) && sysctl::write(key, value).is_ok()
}
