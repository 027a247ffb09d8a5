//! Carries a plan out, notes how to take it back, and takes it back.

use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Duration;

use netlink_packet_route::route::RouteMessage;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::error::Error;
use super::journal::{Journal, Undo};
use super::netlink::{interfaces, is_exist, is_ours, same_destination};
use super::plan::{Address, Coming, Difference, Plan, Route, Step};
use super::{Host, sysctl};
use crate::nft::{Held, Table, TablePlace};

/// A plan that was carried out, or as much of it as was.
#[derive(Debug)]
pub struct Applied {
    host: Host,
    journal: Journal,
    /// The tables that are there, each until it is dropped.
    tables: Vec<Held>,
}

/// How long duplicate address detection may take. One probe and one second are the default
/// (RFC 4862 section 5.1).
const DETECTION_MAX: Duration = Duration::from_secs(5);
/// How often we look whether it is over.
const DETECTION_POLL: Duration = Duration::from_millis(20);

impl Host {
    /// Takes back what a killed process with journal `name` in `run_dir` left. Returns the number
    /// of changes that were taken back.
    ///
    /// # Errors
    /// [`Error::Running`] if the process lives, or the first change that cannot be taken back.
    pub async fn recover(&self, run_dir: &Path, name: &str) -> Result<usize, Error> {
        let journal = Journal::open(run_dir, name)?;
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

    /// What [`recover`](Self::recover) would take back, last first, for people.
    ///
    /// # Errors
    /// [`Error::Running`] if the process lives, or the journal cannot be read.
    pub fn leftovers(&self, run_dir: &Path, name: &str) -> Result<Vec<String>, Error> {
        let journal = Journal::open(run_dir, name)?;
        let entries = journal.entries().iter().rev();
        Ok(entries.map(ToString::to_string).collect())
    }

    /// Carries out `plan`, with a journal of this name in `run_dir`. Leftovers of a killed process
    /// are taken back first.
    ///
    /// # Errors
    /// The first step that fails; what was done until then is taken back.
    pub async fn apply(&self, plan: &Plan, run_dir: &Path, name: &str) -> Result<Applied, Error> {
        let journal = Journal::open(run_dir, name)?;
        let mut applied = Applied {
            host: self.clone(),
            journal,
            tables: Vec::new(),
        };
        if !applied.journal.entries().is_empty() {
            info!("taking back what a killed process left behind");
            applied.take_back().await?;
        }
        match applied.extend(plan).await {
            Ok(()) => Ok(applied),
            Err(error) => {
                if let Err(second) = applied.undo().await {
                    warn!("not everything could be taken back: {second}");
                }
                Err(error)
            }
        }
    }
}

impl Applied {
    /// Carries out further steps. What they change is taken back together with the rest.
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

    /// Carries out what `difference` adds, in order. What is in the place of something else replaces
    /// it, so that no packet finds neither; only a table goes on to know what the old one knew.
    ///
    /// # Errors
    /// The first change that fails; [`call_off`](Self::call_off) takes back those before it.
    pub async fn bring(&mut self, difference: &Difference) -> Result<(), Error> {
        for coming in &difference.come {
            match coming {
                Coming::New(step) => {
                    debug!("{step}");
                    self.carry_out(step).await?;
                }
                Coming::InPlace { old, new } => {
                    debug!("{new}");
                    self.replace(old, &beside(old, new)).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes back what `difference` removes, last first. What it adds was brought before.
    ///
    /// # Errors
    /// The first change that cannot be taken back; the others behind it stay.
    pub async fn retire(&mut self, difference: &Difference) -> Result<(), Error> {
        self.retract(&difference.go).await?;
        for coming in &difference.come {
            match coming {
                Coming::InPlace { old, new } if beside(old, new) != *new => {
                    self.replace(old, new).await?;
                }
                Coming::InPlace { .. } | Coming::New(_) => {}
            }
        }
        Ok(())
    }

    /// Takes back what was brought of `difference`: the host is as before.
    ///
    /// # Errors
    /// The first change that cannot be taken back.
    pub async fn call_off(&mut self, difference: &Difference) -> Result<(), Error> {
        for coming in difference.come.iter().rev() {
            match coming {
                Coming::New(step) => self.retract_step(step).await?,
                Coming::InPlace { old, new } => self.replace(new, old).await?,
            }
        }
        Ok(())
    }

    /// Makes the host that `difference` leads to: what is new comes before what is old goes.
    ///
    /// # Errors
    /// The first change that fails.
    pub async fn change(&mut self, difference: &Difference) -> Result<(), Error> {
        self.bring(difference).await?;
        self.retire(difference).await
    }

    /// What a kernel parameter was before it was changed; `None` if the kernel does not have it.
    pub fn sysctl_before(&self, key: &str) -> Option<String> {
        let mut before = self.journal.entries().iter().filter_map(|undo| match undo {
            Undo::Sysctl { key: of, was, .. } => (of == key).then(|| was.clone()),
            Undo::Address(_) | Undo::Route(_) | Undo::Proxy { .. } | Undo::Table(_) => None,
        });
        before.next().or_else(|| self.host.sysctl(key))
    }

    /// Takes back the steps of `plan` that were carried out, last first, and leaves the rest.
    async fn retract(&mut self, plan: &Plan) -> Result<(), Error> {
        for step in plan.steps().iter().rev() {
            self.retract_step(step).await?;
        }
        Ok(())
    }

    async fn retract_step(&mut self, step: &Step) -> Result<(), Error> {
        let mut entries = self.journal.entries().iter().rev();
        let Some(undo) = entries.find(|undo| undo.is_of(step)).cloned() else {
            return Ok(());
        };
        debug!("taking back: {step}");
        self.take_back_one(&undo).await?;
        self.journal.forget(&undo)
    }

    /// Puts `new` where `old` is, which has the same place.
    async fn replace(&mut self, old: &Step, new: &Step) -> Result<(), Error> {
        match new {
            Step::Table { table, optional } => self.make_table(table, optional.as_deref()),
            Step::Sysctl { key, value } => self.replace_sysctl(key, value),
            Step::Route(_) => {
                let mut entries = self.journal.entries().iter();
                let replaced = entries.find(|undo| undo.is_of(old)).cloned();
                self.carry_out(new).await?;
                match replaced {
                    Some(undo) if old != new => self.journal.forget(&undo),
                    _ => Ok(()),
                }
            }
            Step::Tun { .. } => self.carry_out(new).await,
            // Only what is equal has the same place: there is nothing to do.
            Step::Up { .. } | Step::Address(_) | Step::Claim { .. } | Step::Proxy { .. } => Ok(()),
        }
    }

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

    /// Takes everything back, last change first.
    ///
    /// # Errors
    /// The first change that cannot be taken back; the others are, and the journal stays for
    /// `recover`.
    pub async fn undo(mut self) -> Result<(), Error> {
        self.take_back().await?;
        self.journal.remove()
    }

    async fn take_back(&mut self) -> Result<(), Error> {
        let mut failed = None;
        let entries = self.journal.entries().to_vec();
        for undo in entries.iter().rev() {
            if let Err(error) = self.take_back_one(undo).await {
                warn!("{error}");
                failed.get_or_insert(error);
            }
        }
        match failed {
            None => self.journal.clear(),
            Some(error) => Err(error),
        }
    }

    async fn carry_out(&mut self, step: &Step) -> Result<(), Error> {
        let netlink = &self.host.netlink;
        match step {
            Step::Tun { name, mtu } => netlink.set_mtu(name, *mtu).await,
            Step::Up { dev } => netlink.set_up(dev).await,
            Step::Sysctl { key, value } => self.set_sysctl(key, value),
            Step::Address(address) => self.add_address(address).await,
            Step::Claim { dev, address } => self.claim(dev, *address).await,
            Step::Route(route) => self.add_route(route).await,
            Step::Proxy { dev, address } => {
                self.journal.record(Undo::Proxy {
                    dev: dev.clone(),
                    address: *address,
                })?;
                self.host.netlink.add_proxy(dev, *address).await
            }
            Step::Table { table, optional } => self.make_table(table, optional.as_deref()),
        }
    }

    /// Makes the table, in the place of one that is there.
    fn make_table(&mut self, table: &Table, without: Option<&str>) -> Result<(), Error> {
        let place = table.place();
        let mut tables = self.tables.iter_mut();
        let made = match tables.find(|held| held.table().place() == place) {
            Some(held) => held.replace(table),
            None => Held::make(table).map(|held| self.tables.push(held)),
        };
        match (made, without) {
            (Ok(()), _) => {
                let undo = Undo::Table(place);
                if !self.journal.entries().contains(&undo) {
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

    /// Gives a parameter that is ours another value. What it was before us stays what it goes back
    /// to.
    fn replace_sysctl(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let mut entries = self.journal.entries().iter().rev();
        let ours = entries.find(|undo| matches!(undo, Undo::Sysctl { key: of, .. } if of == key));
        let Some(Undo::Sysctl { was, .. }) = ours else {
            return self.set_sysctl(key, value);
        };
        let (replaced, was) = (ours.cloned(), was.clone());
        let failed = |source| Error::Sysctl {
            key: key.into(),
            source,
        };
        self.journal.record(Undo::Sysctl {
            key: key.into(),
            ours: value.into(),
            was,
        })?;
        sysctl::write(key, value).map_err(failed)?;
        replaced.map_or(Ok(()), |undo| self.journal.forget(&undo))
    }

    fn set_sysctl(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::PermissionDenied => Error::Permission {
                what: format!("sysctl {key}={value}"),
            },
            _ => Error::Sysctl {
                key: key.into(),
                source,
            },
        };
        let was = sysctl::read(key).map_err(failed)?;
        if was == value {
            return Ok(());
        }
        let (key, ours) = (key.to_owned(), value.to_owned());
        self.journal.record(Undo::Sysctl {
            key: key.clone(),
            ours,
            was,
        })?;
        sysctl::write(&key, value).map_err(failed)
    }

    async fn add_address(&mut self, address: &Address) -> Result<(), Error> {
        let netlink = &self.host.netlink;
        let index = netlink.link(&address.dev).await?.index;
        let there = netlink.addresses().await?;
        if there
            .iter()
            .any(|have| have.index == index && have.address == address.address)
        {
            return Err(Error::Exists {
                what: address.to_string(),
            });
        }
        self.journal.record(Undo::Address(address.clone()))?;
        netlink.add_address(address).await
    }

    /// Duplicate address detection is the kernel's: it gets the address for as long as that takes.
    async fn claim(&mut self, dev: &str, address: Ipv6Addr) -> Result<(), Error> {
        let netlink = &self.host.netlink;
        let probe = Address {
            dev: dev.into(),
            address: address.into(),
            len: 128,
        };
        let there = netlink.addresses().await?;
        if there.iter().any(|have| have.address == probe.address) {
            return Err(Error::Exists {
                what: probe.to_string(),
            });
        }
        self.journal.record(Undo::Address(probe.clone()))?;
        netlink.add_probe(&probe).await?;
        let unique = self.host.wait_for_address(dev, address).await;
        self.host.netlink.remove_address(&probe).await?;
        self.journal.forget(&Undo::Address(probe))?;
        unique
    }

    async fn add_route(&mut self, route: &Route) -> Result<(), Error> {
        let netlink = &self.host.netlink;
        let index = netlink.link(&route.dev).await?.index;
        let there = netlink.routes(route.to.is_ipv6()).await?;
        let taken = there
            .iter()
            .find(|message| same_destination(message, route));
        // Another instance's is as good as anybody else's.
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

impl Applied {
    async fn take_back_one(&mut self, undo: &Undo) -> Result<(), Error> {
        let netlink = &self.host.netlink;
        match undo {
            Undo::Sysctl { key, ours, was } => restore_sysctl(key, ours, was),
            Undo::Address(address) => netlink.remove_address(address).await,
            Undo::Route(route) => netlink.remove_route(route).await,
            Undo::Proxy { dev, address } => netlink.remove_proxy(dev, *address).await,
            Undo::Table(place) => {
                self.tables.retain(|held| held.table().place() != *place);
                Ok(())
            }
        }
    }
}

/// While both are wanted a table knows what either does; all else is the new one from the start.
fn beside(old: &Step, new: &Step) -> Step {
    match new {
        Step::Table { table, optional } => Step::Table {
            table: match old {
                Step::Table { table: old, .. } => table.and_rules_of(old),
                _ => table.clone(),
            },
            optional: optional.clone(),
        },
        Step::Tun { .. }
        | Step::Up { .. }
        | Step::Sysctl { .. }
        | Step::Address(_)
        | Step::Claim { .. }
        | Step::Route(_)
        | Step::Proxy { .. } => new.clone(),
    }
}

impl Host {
    /// Waits until duplicate address detection is over.
    async fn wait_for_address(&self, dev: &str, address: Ipv6Addr) -> Result<(), Error> {
        let index = self.netlink.link(dev).await?.index;
        let deadline = Instant::now() + DETECTION_MAX;
        loop {
            let all = self.netlink.addresses().await?;
            let found = all
                .iter()
                .find(|have| have.index == index && have.address == address);
            match found {
                Some(have) if have.duplicate => {
                    return Err(Error::Duplicate {
                        dev: dev.into(),
                        address,
                    });
                }
                // The kernel keeps the duplicate of an address that lives for ever: this one was
                // taken away, by a link that went down or by another program.
                None => {
                    return Err(Error::TakenAway {
                        dev: dev.into(),
                        address,
                    });
                }
                Some(have) if !have.tentative => return Ok(()),
                Some(_) if Instant::now() >= deadline => {
                    let seconds = DETECTION_MAX.as_secs();
                    return Err(Error::Tentative {
                        dev: dev.into(),
                        address,
                        seconds,
                    });
                }
                Some(_) => sleep(DETECTION_POLL).await,
            }
        }
    }
}

/// Parameters of an interface that is gone are not missed, and one that cannot be set is somebody
/// else's decision.
fn repair_sysctl(key: &str, value: &str) -> bool {
    sysctl::read(key).is_ok_and(|now| now != value) && sysctl::write(key, value).is_ok()
}

/// Sets a parameter back to what it was, unless somebody else has changed it meanwhile.
fn restore_sysctl(key: &str, ours: &str, was: &str) -> Result<(), Error> {
    match sysctl::read(key) {
        // The interface is gone, and its parameters with it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::Sysctl {
            key: key.into(),
            source,
        }),
        Ok(now) if now != ours => {
            info!("sysctl {key} is {now} and no longer our {ours}: left as it is");
            Ok(())
        }
        Ok(_) => sysctl::write(key, was).map_err(|source| Error::Sysctl {
            key: key.into(),
            source,
        }),
    }
}
