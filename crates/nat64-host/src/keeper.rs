//! Maintains the tables of a stateful translator ([`nat64::Nat64`]): expires sessions, logs events
//! and saves sessions.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nat64::config::Config;
use nat64::{Nat64, OuterAddress, Subscription};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};
use xlat_core::addr::Pref64s;
use xlat_host::daemon::state_dir::StateDir;
use xlat_tun::{Totals, now};

use crate::error::Error;
use crate::floods::Floods;
use crate::saved_sessions;
use crate::session_log::{Clock, LogLevel, SessionLog};
use crate::status::StatusSource;
use crate::wakeup::Wakeup;

/// Time between two passes over the tables while packets arrive.
const TICK: Duration = Duration::from_secs(1);
/// The same with a session log, to limit the delay of its events.
const TICK_WITH_LOG: Duration = Duration::from_millis(100);
/// Sessions expired at a time while a worker may wait for the lock.
const STEPS: usize = 256;

/// The session log, and what it learns from the tables.
#[derive(Debug)]
struct Log {
    writer: SessionLog,
    events: Subscription,
}

/// Maintains the tables of a stateful translator.
#[derive(Debug)]
pub struct Keeper {
    nat: Nat64,
    /// Ports of the pool before the first session.
    ports: [u64; 3],
    dir: StateDir,
    log: Option<Log>,
    wakeup: Arc<Wakeup>,
    /// The workers' counters, after the workers have started.
    totals: Option<Totals>,
    floods: Floods,
    next: Option<Instant>,
}

impl Keeper {
    /// Creates the tables with the sessions that the last run saved in `dir`. The target of
    /// `session_log` is a file, or `syslog`. `outer` is what the IPv4 side sees of the pool, if it is
    /// another address.
    ///
    /// # Errors
    /// If the configuration is refused, or the directory or the log cannot be used.
    pub fn load(
        config: Config,
        pref64s: Pref64s,
        dir: StateDir,
        session_log: Option<(&Path, LogLevel)>,
        outer: Option<OuterAddress>,
    ) -> Result<Self, Error> {
        let ports = describe_ports(&config);
        let nat = Nat64::new(config, pref64s, dir.secret()?)?;
        if let Some(outer) = outer {
            nat.set_outer(outer, now());
        }
        if let Some(line) = ports {
            info!("{line}");
        }
        let open = |(target, level): (&Path, LogLevel)| {
            let writer = SessionLog::open(target)?;
            let events = nat.subscribe(level.events(&nat.config()));
            Ok::<_, Error>(Log { writer, events })
        };
        let log = session_log.map(open).transpose()?;
        let ports = nat.counts().free_ports;
        saved_sessions::restore(&nat, &dir);
        Ok(Self {
            nat,
            ports,
            dir,
            log,
            wakeup: Arc::default(),
            totals: None,
            floods: Floods::new(Instant::now()),
            next: None,
        })
    }

    /// The tables, which the workers share.
    pub fn nat(&self) -> &Nat64 {
        &self.nat
    }

    /// The source of the status for the control socket.
    pub fn status_source(&self) -> StatusSource {
        let lost_records = self.log.as_ref().map(|log| log.writer.lost_counter());
        StatusSource::new(self.nat.clone(), self.ports, lost_records)
    }

    /// Logs floods from these counters of the workers from now on.
    pub fn watch(&mut self, totals: Totals) {
        self.totals = Some(totals);
    }

    /// Wakes the keeper. Workers call it after they had packets.
    pub fn wakeup(&self) -> Arc<Wakeup> {
        Arc::clone(&self.wakeup)
    }

    /// Waits until the next pass is due. While packets arrive, that is after a short interval;
    /// without packets, when the next session expires.
    pub async fn due(&mut self) {
        if self.next.is_none() {
            self.wakeup.arm();
            let wait = self.wakeup.wait();
            let held_back = self.floods.next();
            let held_back = held_back.map(|at| at.saturating_duration_since(Instant::now()));
            match self.nat.rest(now()).into_iter().chain(held_back).min() {
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

    /// Time between two passes while packets arrive.
    fn pause(&self) -> Duration {
        if self.log.is_some() {
            TICK_WITH_LOG
        } else {
            TICK
        }
    }

    /// Expires sessions and logs events. True if a worker should poll for pending packets.
    pub fn tick(&mut self) -> bool {
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
        let lost = log.events.drain(&mut events);
        let clock = Clock {
            wall: SystemTime::now(),
            now: now(),
        };
        log.writer.write(events, lost, clock);
        log.writer.report_losses();
    }

    /// Reopens the session log after its file was renamed.
    pub fn reopen_log(&self) {
        if let Some(log) = &self.log {
            log.writer.reopen();
        }
    }

    /// Changes the level of the session log, if there is one.
    pub fn set_log_level(&self, level: LogLevel) {
        if let Some(log) = &self.log {
            log.events.change(level.events(&self.nat.config()));
        }
    }

    /// Removes the file of the last run's sessions, once the start has succeeded.
    pub fn discard_saved(&self) {
        saved_sessions::discard(&self.dir);
    }

    /// Saves the sessions to disk. Call after the workers have stopped.
    pub fn save(&mut self) {
        self.write_log();
        match saved_sessions::save(&self.nat, &self.dir) {
            Ok(count) => info!("{count} sessions saved"),
            Err(error) => warn!("the sessions are not saved: {error}"),
        }
    }
}

/// The parameters of deterministic port allocation (RFC 7422 section 3), if configured: they and a
/// time identify a subscriber as well as a log of bindings.
fn describe_ports(config: &Config) -> Option<String> {
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
