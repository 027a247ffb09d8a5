//! Which routes others may learn from this host: those to what it can serve now.
//!
//! Routing daemons announce routes of the kernel's main table (`learn` of BIRD, `redistribute kernel`
//! of FRR). A route that is withdrawn leaves that table and goes on in one of its own, so that packets
//! which still come are translated, or answered, and go in no circle.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tracing::{info, warn};
use xlat_core::Instant;
use xlat_tun::counters::Metric;

/// Which routes are in the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Those to the NAT64 prefixes.
    pub prefixes: bool,
    /// Those to IPv4 addresses of the translator.
    pub pools: bool,
}

impl Announced {
    /// All of them.
    pub const ALL: Self = Self {
        prefixes: true,
        pools: true,
    };
    /// None of them.
    pub const NONE: Self = Self {
        prefixes: false,
        pools: false,
    };

    /// The routes that are not, for people.
    fn withdrawn(self) -> Option<&'static str> {
        match (self.prefixes, self.pools) {
            (true, true) => None,
            (false, true) => Some("prefix"),
            (true, false) => Some("pool"),
            (false, false) => Some("prefix and pool"),
        }
    }
}

/// What becomes of the routes while IPv4 is not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNoEgress {
    /// They are withdrawn.
    #[default]
    Withdraw,
    /// They stay.
    Keep,
}

/// What a drain withholds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Withheld {
    /// Nothing: there is none, or sessions that still run need the routes.
    #[default]
    Nothing,
    /// The way in of packets from clients.
    Prefixes,
    /// All routes.
    All,
}

/// Whether IPv4 is reached, damped: a loss counts quickly, a gain when it has lasted. Other gateways
/// take over meanwhile, and a route that flaps would be dampened by routers.
#[derive(Debug)]
struct Damped {
    reached: bool,
    /// Since when it is otherwise.
    since: Option<Instant>,
}

impl Damped {
    /// As long as it takes to replace a route by two commands.
    const LOSS: Duration = Duration::from_millis(300);
    const GAIN: Duration = Duration::from_secs(5);

    fn update(&mut self, reached: bool, now: Instant) -> bool {
        if reached == self.reached {
            self.since = None;
            return self.reached;
        }
        if now >= *self.since.get_or_insert(now) + self.hold() {
            (self.reached, self.since) = (reached, None);
        }
        self.reached
    }

    fn next_timeout(&self) -> Option<Instant> {
        Some(self.since? + self.hold())
    }

    fn hold(&self) -> Duration {
        match self.reached {
            true => Self::LOSS,
            false => Self::GAIN,
        }
    }
}

/// Follows which routes are to be announced, and which are.
#[derive(Debug)]
pub struct RouteWatch {
    damped: Damped,
    withheld: Withheld,
    in_force: Announced,
    is_failing: bool,
    status: Arc<Mutex<RouteStatus>>,
}

impl RouteWatch {
    /// Starts with what is reached: nothing is announced that is missing then.
    pub fn new(reached: bool, choice: OnNoEgress) -> Self {
        let mut watch = Self {
            damped: Damped {
                reached,
                since: None,
            },
            withheld: Withheld::Nothing,
            in_force: Announced::ALL,
            is_failing: false,
            status: Arc::default(),
        };
        watch.in_force = watch.wanted(choice);
        if watch.in_force != Announced::ALL {
            let hold = Damped::GAIN.as_secs();
            warn!("the routes of prefix and pool come when IPv4 has been reached for {hold} s");
        }
        watch.publish();
        watch
    }

    /// What the host has.
    pub fn in_force(&self) -> Announced {
        self.in_force
    }

    /// What status and metrics say.
    pub fn status(&self) -> Arc<Mutex<RouteStatus>> {
        Arc::clone(&self.status)
    }

    /// When [`Self::update`] is due again even if nothing changes.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.damped.next_timeout()
    }

    /// Takes what is reached at `now`. Returns what is to be announced.
    pub fn update(&mut self, reached: bool, choice: OnNoEgress, now: Instant) -> Announced {
        self.damped.update(reached, now);
        self.wanted(choice)
    }

    /// Takes what a drain withholds from now on.
    pub fn withhold(&mut self, withheld: Withheld) {
        self.withheld = withheld;
    }

    /// The host has these routes in its main table now.
    pub fn made(&mut self, announced: Announced) {
        let before = std::mem::replace(&mut self.in_force, announced);
        self.is_failing = false;
        let why = match (self.damped.reached, self.withheld) {
            (false, _) => "IPv4 is not reached",
            (true, _) => "draining",
        };
        match announced.withdrawn() {
            Some(routes) => warn!(
                "{why}: the routes of {routes} are withdrawn; packets that still come are translated"
            ),
            None => info!("the routes of prefix and pool are announced"),
        }
        let is_less = before.prefixes && !announced.prefixes || before.pools && !announced.pools;
        lock(&self.status).withdrawals += u64::from(is_less);
        self.publish();
    }

    /// The host could not be changed. True if that is new.
    pub fn failed(&mut self) -> bool {
        !std::mem::replace(&mut self.is_failing, true)
    }

    fn wanted(&self, choice: OnNoEgress) -> Announced {
        if !self.damped.reached && choice == OnNoEgress::Withdraw {
            return Announced::NONE;
        }
        match self.withheld {
            Withheld::Nothing => Announced::ALL,
            Withheld::Prefixes => Announced {
                prefixes: false,
                pools: true,
            },
            Withheld::All => Announced::NONE,
        }
    }

    fn publish(&self) {
        let mut status = lock(&self.status);
        status.prefixes = self.in_force.prefixes;
        status.pools = self.in_force.pools;
        status.withdrawn = self.in_force.withdrawn();
    }
}

/// The routes for `status` and metrics.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RouteStatus {
    /// Those to the prefixes can be learned.
    pub prefixes: bool,
    /// Those to the pools can be learned.
    pub pools: bool,
    /// Those that cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<&'static str>,
    /// How often routes were withdrawn since the start.
    pub withdrawals: u64,
}

/// How often routes were withdrawn.
pub const ROUTE_WITHDRAWALS: Metric = Metric::counter(
    "plat_route_withdrawals_total",
    "Times that routes to the NAT64 prefix or the pool were withdrawn.",
);

impl RouteStatus {
    /// A line of the status where routes are withdrawn.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_to(&self, f: &mut String) -> std::fmt::Result {
        match self.withdrawn {
            Some(routes) => writeln!(f, "routes    withdrawn: {routes}"),
            None => Ok(()),
        }
    }

    /// The gauge of both kinds.
    pub fn family(&self) -> (Metric, [(String, u64); 2]) {
        let metric = Metric::gauge(
            "plat_routes_announced",
            "1 while these routes are in the main table, where routing daemons learn them.",
        );
        let samples = [("prefix", self.prefixes), ("pool", self.pools)];
        (
            metric,
            samples.map(|(routes, are_there)| (format!("routes=\"{routes}\""), are_there.into())),
        )
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(1_000_000 + millis)
    }

    #[test]
    fn sc_01_a_loss_counts_quickly_and_a_gain_when_it_has_lasted() {
        let mut watch = RouteWatch::new(true, OnNoEgress::Withdraw);
        let mut update = |reached, millis| watch.update(reached, OnNoEgress::Withdraw, at(millis));
        assert_eq!(update(true, 0), Announced::ALL);
        assert_eq!(update(false, 1000), Announced::ALL);
        // Two commands that replace the route.
        assert_eq!(update(true, 1200), Announced::ALL);
        assert_eq!(update(false, 1400), Announced::ALL);
        assert_eq!(update(false, 1699), Announced::ALL);
        assert_eq!(update(false, 1700), Announced::NONE);
        assert_eq!(update(true, 3000), Announced::NONE);
        // It flaps: the time begins anew.
        assert_eq!(update(false, 7000), Announced::NONE);
        assert_eq!(update(true, 7100), Announced::NONE);
        assert_eq!(update(true, 12_099), Announced::NONE);
        assert_eq!(update(true, 12_100), Announced::ALL);
    }

    #[test]
    fn sc_01_the_next_look_is_when_something_may_change() {
        let mut watch = RouteWatch::new(true, OnNoEgress::Withdraw);
        assert_eq!(watch.next_timeout(), None);
        watch.update(false, OnNoEgress::Withdraw, at(0));
        assert_eq!(watch.next_timeout(), Some(at(300)));
        watch.update(false, OnNoEgress::Withdraw, at(300));
        assert_eq!(watch.next_timeout(), None);
        watch.update(true, OnNoEgress::Withdraw, at(1000));
        assert_eq!(watch.next_timeout(), Some(at(6000)));
    }

    #[test]
    fn sc_01_routes_that_are_to_be_kept_stay() {
        let mut watch = RouteWatch::new(false, OnNoEgress::Keep);
        assert_eq!(watch.in_force(), Announced::ALL);
        // A reload may say otherwise.
        let wanted = watch.update(false, OnNoEgress::Withdraw, at(0));
        assert_eq!(wanted, Announced::NONE);
        watch.made(wanted);
        let status = lock(&watch.status()).clone();
        assert_eq!(status.withdrawn, Some("prefix and pool"));
        assert_eq!(status.withdrawals, 1);
    }

    #[test]
    fn sc_04_a_drain_withholds_the_prefix_before_the_pool() {
        let mut watch = RouteWatch::new(true, OnNoEgress::Withdraw);
        watch.withhold(Withheld::Prefixes);
        let wanted = watch.update(true, OnNoEgress::Withdraw, at(0));
        assert_eq!((wanted.prefixes, wanted.pools), (false, true));
        watch.withhold(Withheld::All);
        assert_eq!(watch.update(true, OnNoEgress::Keep, at(0)), Announced::NONE);
        watch.withhold(Withheld::Nothing);
        assert_eq!(
            watch.update(true, OnNoEgress::Withdraw, at(0)),
            Announced::ALL
        );
    }
}
