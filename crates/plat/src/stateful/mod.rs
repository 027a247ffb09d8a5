//! The stateful translator's surroundings: what ends when its time comes, what is written down, and
//! what is kept over a restart. The translator itself is [`nat64::Nat64`].

pub(crate) mod alarm;
pub(crate) mod flags;
mod floods;
mod saved;
pub(crate) mod session_log;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use nat64::Nat64;
use nat64::config::Config;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};
use xlat_core::addr::Pref64s;
use xlat_host::daemon::state_dir::StateDir;
use xlat_tun::{Totals, now};

use alarm::Alarm;
use floods::Floods;
pub(crate) use saved::epoch;
use session_log::{Clock, SessionLog};

/// Time between two looks at what is over while packets come.
const TICK: Duration = Duration::from_secs(1);
/// The same with a session log, whose events do not wait for long.
const TICK_WITH_LOG: Duration = Duration::from_millis(100);
/// Sessions that are ended while a worker may have to wait.
const STEPS: usize = 256;

/// A stateful translator with its keeper.
#[derive(Debug)]
pub(crate) struct Stateful {
    nat: Nat64,
    /// What there was to hand out before the first session.
    ports: [u64; 3],
    dir: StateDir,
    log: Option<SessionLog>,
    alarm: Arc<Alarm>,
    /// The workers' counters, once there are workers.
    totals: Option<Totals>,
    floods: Floods,
    next: Option<Instant>,
}

impl Stateful {
    /// A translator with the sessions that the last run has left.
    pub(crate) fn load(
        config: Config,
        pref64s: Pref64s,
        dir: StateDir,
        session_log: Option<&Path>,
    ) -> Result<Self> {
        let ports = describe_ports(&config);
        let nat = Nat64::new(config, pref64s, dir.secret()?).context("stateful NAT64")?;
        if let Some(line) = ports {
            info!("{line}");
        }
        let log = session_log.map(SessionLog::open).transpose()?;
        let ports = nat.counts().free_ports;
        saved::restore(&nat, &dir);
        Ok(Self {
            nat,
            ports,
            dir,
            log,
            alarm: Arc::default(),
            totals: None,
            floods: Floods::new(Instant::now()),
            next: None,
        })
    }

    /// The translator, for the workers and for whoever asks.
    pub(crate) fn nat(&self) -> &Nat64 {
        &self.nat
    }

    /// Ports and identifiers of the pool, by protocol.
    pub(crate) fn ports(&self) -> [u64; 3] {
        self.ports
    }

    /// How many records of the session log were lost, if there is one.
    pub(crate) fn lost_records(&self) -> Option<Arc<AtomicU64>> {
        self.log.as_ref().map(SessionLog::lost_counter)
    }

    /// Watches what the workers drop from now on.
    pub(crate) fn watch(&mut self, totals: Totals) {
        self.totals = Some(totals);
    }

    /// What the workers ring when they have had packets.
    pub(crate) fn alarm(&self) -> Arc<Alarm> {
        Arc::clone(&self.alarm)
    }

    /// Waits until there is something to do. A worker that has had a packet wakes it, and a moment
    /// later it looks again; without packets it sleeps until something ends.
    pub(crate) async fn due(&mut self) {
        if self.next.is_none() {
            self.alarm.set();
            let wait = self.alarm.wait();
            let unsaid = self.floods.next();
            let unsaid = unsaid.map(|at| at.saturating_duration_since(Instant::now()));
            match self.nat.rest(now()).into_iter().chain(unsaid).min() {
                None => wait.await,
                Some(rest) if timeout(rest.max(self.pause()), wait).await.is_err() => return,
                Some(_) => {}
            }
            self.next = Some(Instant::now() + self.pause());
        }
        if let Some(next) = self.next {
            sleep_until(next).await;
        }
    }

    /// Time between two looks while packets come.
    fn pause(&self) -> Duration {
        if self.log.is_some() {
            TICK_WITH_LOG
        } else {
            TICK
        }
    }

    /// Ends what is over and writes down what has happened. True if a worker should look for
    /// packets to send.
    pub(crate) fn tick(&mut self) -> bool {
        while self.nat.expire(now(), STEPS) {}
        self.write_log();
        if let Some(totals) = &self.totals {
            self.floods.look(&totals.snapshot(), Instant::now());
        }
        self.next = None;
        self.nat.has_packets(now())
    }

    fn write_log(&mut self) {
        let Some(log) = &mut self.log else { return };
        let mut events = Vec::new();
        let lost = self.nat.drain_events(&mut events);
        let clock = Clock {
            wall: SystemTime::now(),
            now: now(),
        };
        log.write(events, lost, clock);
        log.complain();
    }

    /// Takes up a renamed log file.
    pub(crate) fn reload(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
    }

    /// The sessions of the last run are here to stay: their file goes.
    pub(crate) fn taken_up(&self) {
        saved::forget(&self.dir);
    }

    /// Writes the sessions to disk; to be called when no packet comes any more.
    pub(crate) fn save(&mut self) {
        self.write_log();
        match saved::save(&self.nat, &self.dir) {
            Ok(count) => info!("{count} sessions saved"),
            Err(error) => warn!("the sessions are not saved: {error}"),
        }
    }
}

/// The parameters that say who has which port, where they do (RFC 7422 section 3): with them and
/// the time, a log is as good as one of bindings.
pub(crate) fn describe_ports(config: &Config) -> Option<String> {
    let blocks = config.ports.blocks.filter(|_| config.ports.deterministic)?;
    let list = |items: &[String]| items.join(", ");
    let clients: Vec<String> = config.clients.iter().map(ToString::to_string).collect();
    let pool: Vec<String> = config.pool.iter().map(ToString::to_string).collect();
    Some(format!(
        "deterministic ports: subscribers of {} by /{}, pool {}, blocks of {} ports above {}",
        list(&clients),
        config.limits.subscriber_prefix,
        list(&pool),
        blocks.size,
        SYSTEM_PORTS,
    ))
}

/// No block has any of these.
const SYSTEM_PORTS: u16 = 1023;
