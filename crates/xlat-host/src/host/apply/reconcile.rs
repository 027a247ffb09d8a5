//! Repairs what other programs, or the kernel, have removed since a plan was applied.

use std::net::IpAddr;

use netlink_packet_route::route::RouteMessage;

use super::Applied;
use crate::host::error::Error;
use crate::host::netlink::{Assigned, Link, interfaces, is_ours, same_destination};
use crate::host::plan::{Address, Plan, Route, Step};
use crate::host::repairs::Repairs;
use crate::nft::{OwnedTable, TUN_GROUP, TablePlace};

/// What the kernel has, read once for all steps of a plan.
struct Present {
    links: Vec<Link>,
    addresses: Vec<Assigned>,
    /// Interface and address of each proxy neighbour entry.
    proxies: Vec<(u32, IpAddr)>,
}

impl Present {
    fn link(&self, name: &str) -> Result<&Link, Error> {
        let found = self.links.iter().find(|link| link.name == name);
        found.ok_or_else(|| Error::NoLink(name.into()))
    }
}

impl Applied {
    /// Restores what is missing since the plan was applied: a TUN that was set down or got another
    /// MTU, routes and proxy entries that the kernel removed with a link that was down, addresses
    /// that were flushed, parameters that were set back, nftables tables. A step that cannot be
    /// restored does not keep the others from it.
    ///
    /// # Errors
    /// If the host cannot be read.
    pub async fn reconcile(&mut self, plan: &Plan) -> Result<Repairs, Error> {
        let present = self.present(plan).await?;
        let mut repairs = Repairs::default();
        for step in plan.steps() {
            match self.repair(step, &present).await {
                Ok(false) => {}
                Ok(true) => repairs.made(step),
                Err(error) => repairs.failed(step, error),
            }
        }
        Ok(repairs)
    }

    async fn present(&self, plan: &Plan) -> Result<Present, Error> {
        let netlink = &self.host.netlink;
        let has = |is_it: fn(&Step) -> bool| plan.steps().iter().any(is_it);
        Ok(Present {
            links: netlink.links().await?,
            addresses: if has(|step| matches!(step, Step::Address(_))) {
                netlink.addresses().await?
            } else {
                Vec::new()
            },
            proxies: if has(|step| matches!(step, Step::Proxy { .. })) {
                netlink.proxies().await?
            } else {
                Vec::new()
            },
        })
    }

    /// Makes one step again if it is missing. True if it was.
    async fn repair(&mut self, step: &Step, present: &Present) -> Result<bool, Error> {
        let netlink = &self.host.netlink;
        let is_missing = match step {
            Step::Tun { name, mtu } => {
                let link = present.link(name)?;
                link.mtu != *mtu || link.link_local || link.group != TUN_GROUP
            }
            Step::Up { dev } => !present.link(dev)?.up,
            Step::Sysctl { key, value } => return self.repair_sysctl(key, value),
            Step::Address(address) => !has_address(address, present)?,
            Step::Route(route) => {
                !self
                    .has_route(route, present.link(&route.dev)?.index)
                    .await?
            }
            Step::Rule(rule) => !netlink.has_rule(rule).await?,
            Step::Proxy { dev, address } => {
                let index = present.link(dev)?.index;
                !present.proxies.contains(&(index, *address))
            }
            Step::Neighbour { dev, address } => {
                let index = present.link(dev)?.index;
                !netlink.keeps_neighbour(index, *address).await
            }
            Step::Table { table, .. } => return self.repair_table(&table.place()),
            Step::Claim { .. } => false,
        };
        if is_missing {
            match step {
                Step::Tun { name, mtu } => netlink.set_up_tun(name, *mtu).await?,
                Step::Up { dev } => netlink.set_up(dev).await?,
                Step::Address(address) => netlink.add_address(address).await?,
                Step::Route(route) => netlink.add_route(route, false).await?,
                Step::Rule(rule) => netlink.add_rule(rule).await?,
                Step::Proxy { dev, address } => netlink.add_proxy(dev, *address).await?,
                Step::Neighbour { dev, address } => netlink.keep_neighbour(dev, *address).await?,
                Step::Sysctl { .. } | Step::Table { .. } | Step::Claim { .. } => {}
            }
        }
        Ok(is_missing)
    }

    /// The kernel's look-up finds the route at once. Only if it finds another one, which may be more
    /// specific, are all routes listed: a gateway may have a million of them.
    async fn has_route(&self, route: &Route, index: u32) -> Result<bool, Error> {
        let netlink = &self.host.netlink;
        let is_it = |message: &RouteMessage| {
            is_ours(message)
                && same_destination(message, route)
                && interfaces(message).contains(&index)
        };
        if netlink
            .matching(route.to)
            .await
            .is_some_and(|one| is_it(&one))
        {
            return Ok(true);
        }
        let there = netlink.routes(route.to.is_ipv6()).await?;
        Ok(there.iter().any(is_it))
    }

    /// An optional table that could not be made is not missing.
    fn repair_table(&mut self, place: &TablePlace) -> Result<bool, Error> {
        let owned = self
            .tables
            .iter_mut()
            .find(|owned| owned.table().place() == *place);
        Ok(owned.map_or(Ok(false), OwnedTable::repair)?)
    }
}

fn has_address(address: &Address, present: &Present) -> Result<bool, Error> {
    let index = present.link(&address.dev)?.index;
    let mut there = present.addresses.iter();
    Ok(there.any(|have| have.index == index && have.address == address.address))
}
