//! Applies a plan, records in the journal how to undo it, and undoes it.

mod address;
mod change;
mod parameter;
mod reconcile;

use std::path::Path;

use netlink_packet_route::route::RouteMessage;
use tracing::{debug, info, warn};

use super::Host;
use super::error::Error;
use super::journal::{Journal, Undo};
use super::netlink::{interfaces, is_exist, is_ours, same_destination};
use super::plan::{Plan, PolicyRule, Renamed, Route, Step};
use crate::nft::{OwnedTable, Table};
use parameter::restore_sysctl;

/// An applied plan, or the steps of it that succeeded.
#[derive(Debug)]
pub struct Applied {
    host: Host,
    journal: Journal,
    /// The nftables tables of this process, each deleted when dropped.
    tables: Vec<OwnedTable>,
}

/// What a killed process left, as text for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftovers {
    /// The changes to undo, last first.
    pub changes: Vec<String>,
    /// Lines of the journal that are not whole: their changes are not known.
    pub damaged: Vec<String>,
}

impl Host {
    /// Undoes the changes of a killed process with journal `name` in `run_dir`. Returns the number
    /// of changes undone.
    ///
    /// # Errors
    /// [`Error::Running`] if the process lives, or the first change that cannot be undone.
    pub async fn recover(&self, run_dir: &Path, name: &str) -> Result<usize, Error> {
        let journal = Journal::open(run_dir, name)?;
        name_damaged(run_dir, name, &journal);
        let count = journal.entries().len();
        Applied {
            host: self.clone(),
            journal,
            tables: Vec::new(),
        }
        .undo()
        .await?;
        Ok(count)
    }

    /// What [`recover`](Self::recover) would undo, and what it cannot know.
    ///
    /// # Errors
    /// [`Error::Running`] if the process lives, or the journal cannot be read.
    pub fn leftovers(&self, run_dir: &Path, name: &str) -> Result<Leftovers, Error> {
        let journal = Journal::open(run_dir, name)?;
        let entries = journal.entries().rev();
        Ok(Leftovers {
            changes: entries.map(ToString::to_string).collect(),
            damaged: journal.damaged().to_vec(),
        })
    }

    /// Applies `plan`, with a journal of this name in `run_dir`. The changes of a killed process
    /// are undone first.
    ///
    /// # Errors
    /// The first step that fails; the steps before it are undone.
    pub async fn apply(&self, plan: &Plan, run_dir: &Path, name: &str) -> Result<Applied, Error> {
        let journal = Journal::open(run_dir, name)?;
        name_damaged(run_dir, name, &journal);
        let mut applied = Applied {
            host: self.clone(),
            journal,
            tables: Vec::new(),
        };
        if applied.journal.entries().len() > 0 {
            info!("undoing the changes that a killed process left behind");
            applied.undo_entries().await?;
        }
        match applied.extend(plan).await {
            Ok(()) => Ok(applied),
            Err(error) => {
                if let Err(second) = applied.undo().await {
                    warn!("not all changes could be undone: {second}");
                }
                Err(error)
            }
        }
    }
}

/// Names the lines of the journal that are not whole, once.
fn name_damaged(run_dir: &Path, name: &str, journal: &Journal) {
    let path = run_dir.join(format!("{name}.journal"));
    for line in journal.damaged() {
        warn!(
            "{} is damaged in {line}: what it says is not undone; a copy is in {}.damaged",
            path.display(),
            path.display()
        );
    }
}

impl Applied {
    /// Applies further steps. Their changes are undone together with the rest.
    ///
    /// # Errors
    /// The first step that fails; the steps before it stay.
    pub async fn extend(&mut self, plan: &Plan) -> Result<(), Error> {
        for step in plan.steps() {
            debug!("{step}");
            self.carry_out(step).await?;
        }
        Ok(())
    }

    /// Undoes all changes, last one first.
    ///
    /// # Errors
    /// The first change that cannot be undone. The others are undone, and the journal stays for
    /// `recover`.
    pub async fn undo(mut self) -> Result<(), Error> {
        self.undo_entries().await?;
        self.journal.remove()
    }

    async fn undo_entries(&mut self) -> Result<(), Error> {
        let mut failed = None;
        self.follow_renames();
        let entries: Vec<Undo> = self.journal.entries().cloned().collect();
        for undo in entries.iter().rev() {
            if let Err(error) = self.undo_entry(undo).await {
                warn!("{error}");
                failed.get_or_insert(error);
            }
        }
        match failed {
            None => self.journal.clear(),
            Some(error) => Err(error),
        }
    }

    /// Undoes and repairs by the present names of the interfaces from now on. Returns what was
    /// renamed, for [`Plan::renamed`].
    pub fn follow_renames(&mut self) -> Vec<Renamed> {
        let all = self.journal.follow_renames();
        for Renamed { old, new } in &all {
            info!("interface {old} is now called {new}");
        }
        all
    }

    async fn carry_out(&mut self, step: &Step) -> Result<(), Error> {
        let netlink = &self.host.netlink;
        match step {
            Step::Tun { name, mtu } => netlink.set_up_tun(name, *mtu).await,
            Step::Up { dev } => netlink.set_up(dev).await,
            Step::Sysctl { key, value } => self.set_sysctl(key, value),
            Step::Address(address) => self.add_address(address).await,
            Step::Claim { dev, address } => self.claim(dev, *address).await,
            Step::Route(route) => self.add_route(route).await,
            Step::Rule(rule) => self.add_rule(rule).await,
            Step::Proxy { dev, address } => {
                self.journal.record(Undo::Proxy {
                    dev: dev.clone(),
                    address: *address,
                })?;
                self.host.netlink.add_proxy(dev, *address).await
            }
            Step::Neighbour { dev, address } => netlink.keep_neighbour(dev, *address).await,
            Step::Table { table, optional } => self.make_table(table, optional.as_deref()),
        }
    }

    async fn undo_entry(&mut self, undo: &Undo) -> Result<(), Error> {
        let netlink = &self.host.netlink;
        match undo {
            Undo::Sysctl { key, ours, was } => restore_sysctl(key, ours, was),
            Undo::Address(address) => netlink.remove_address(address).await,
            Undo::Route(route) => netlink.remove_route(route).await,
            Undo::Rule(rule) => netlink.remove_rule(rule).await,
            Undo::Proxy { dev, address } => netlink.remove_proxy(dev, *address).await,
            Undo::Table(place) => {
                self.tables.retain(|owned| owned.table().place() != *place);
                Ok(())
            }
        }
    }

    /// Makes the table, or replaces the one with the same family and name. With `without`, a
    /// refusal of the kernel is only logged.
    fn make_table(&mut self, table: &Table, without: Option<&str>) -> Result<(), Error> {
        let place = table.place();
        let mut tables = self.tables.iter_mut();
        let made = match tables.find(|owned| owned.table().place() == place) {
            Some(owned) => owned.replace(table),
            None => OwnedTable::make(table).map(|owned| self.tables.push(owned)),
        };
        match (made, without) {
            (Ok(()), _) => {
                let undo = Undo::Table(place);
                if !self.journal.entries().any(|entry| *entry == undo) {
                    self.journal.record(undo)?;
                }
                Ok(())
            }
            (Err(error), Some(without)) => {
                warn!("{without}: {error}");
                Ok(())
            }
            (Err(error), None) => Err(error.into()),
        }
    }

    async fn add_rule(&mut self, rule: &PolicyRule) -> Result<(), Error> {
        self.journal.record(Undo::Rule(rule.clone()))?;
        self.host.netlink.add_rule(rule).await
    }

    async fn add_route(&mut self, route: &Route) -> Result<(), Error> {
        let netlink = &self.host.netlink;
        let index = netlink.link(&route.dev).await?.index;
        let there = netlink.routes(route.to.is_ipv6()).await?;
        let taken = there
            .iter()
            .find(|message| same_destination(message, route));
        // A route of another instance has our mark too, but leaves by another interface.
        let is_own = |message: &&RouteMessage| is_ours(message) && interfaces(message) == [index];
        if taken.is_some_and(|message| !is_own(&message)) {
            return Err(Error::Exists {
                what: route.to_string(),
            });
        }
        self.journal.record(Undo::Route(route.clone()))?;
        match netlink.add_route(route, taken.is_some()).await {
            Err(error) if is_exist(&error) => Err(Error::Exists {
                what: route.to_string(),
            }),
            done => done,
        }
    }
}
