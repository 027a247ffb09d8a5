//! Repairs what other programs, or the kernel, have removed since a plan was applied.

use tracing::debug;

use super::Applied;
use crate::host::error::Error;
use crate::host::netlink::{interfaces, is_ours, same_destination};
use crate::host::plan::{Address, Plan, Route, Step};
use crate::host::sysctl;
use crate::nft::{OwnedTable, TablePlace};

impl Applied {
    /// Restores what is missing since the plan was applied: routes that the kernel removed with a
    /// link that was down, addresses that were flushed, parameters that were set back, nftables
    /// tables. Returns the number of repairs.
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
                debug!("restored: {step}");
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

    /// An optional table that could not be made is not missing.
    fn repair_table(&mut self, place: &TablePlace) -> Result<bool, Error> {
        let owned = self
            .tables
            .iter_mut()
            .find(|owned| owned.table().place() == *place);
        Ok(owned.map_or(Ok(false), OwnedTable::repair)?)
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

/// True if the parameter was set again. A missing interface has no parameters to repair, and where
/// setting fails the administrator has decided otherwise.
fn repair_sysctl(key: &str, value: &str) -> bool {
    sysctl::read(key).is_ok_and(|now| now != value) && sysctl::write(key, value).is_ok()
}
