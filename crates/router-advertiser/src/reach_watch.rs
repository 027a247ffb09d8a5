//! What this host reaches: told to hosts, in the log, in the status and in a metric, with the same
//! damping for all of them.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tracing::{info, warn};
use xlat_core::Instant;
use xlat_proto::advertise::{DampedReach, Reach};
use xlat_tun::counters::Metric;

/// What a look at the host found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The families that are reached.
    pub reach: Reach,
    /// Name of the interface by which IPv4 packets leave, if one leads there.
    pub ipv4_by: Option<String>,
    /// What IPv4 packets need to leave, as in "an IPv4 default route by eth0".
    pub wanted: String,
}

/// The reach for `status` and metrics.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReachStatus {
    /// IPv4 is reached.
    pub ipv4: bool,
    /// An IPv6 default route is there.
    pub ipv6: bool,
    /// Name of the interface by which IPv4 packets leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_by: Option<String>,
    /// What is missing, if something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// What hosts of the LANs are told no longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Withdrawn>,
    /// How often something was withdrawn since the start.
    pub withdrawals: u64,
}

/// What hosts are told no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Withdrawn {
    /// The NAT64 prefix.
    Prefix,
    /// The NAT64 prefix and the default router.
    PrefixAndRouter,
}

impl fmt::Display for Withdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "NAT64 prefix",
            Self::PrefixAndRouter => "NAT64 prefix and default router",
        })
    }
}

/// How often something was withdrawn.
pub const WITHDRAWALS: Metric = Metric::counter(
    "plat_withdrawals_total",
    "Times that the NAT64 prefix or the default route was withdrawn from hosts of the LANs.",
);

impl ReachStatus {
    /// A line of the status.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_to(&self, f: &mut String) -> std::fmt::Result {
        f.write_str("egress    ")?;
        match (&self.ipv4_by, &self.missing) {
            (_, Some(missing)) => write!(f, "IPv4 is not reached: no {missing}")?,
            (Some(by), None) => write!(f, "IPv4 by {by}")?,
            (None, None) => f.write_str("IPv4")?,
        }
        if !self.ipv6 {
            f.write_str("; no IPv6 default route")?;
        }
        if let Some(withdrawn) = self.withdrawn {
            write!(f, "; withdrawn: {withdrawn}")?;
        }
        writeln!(f)
    }

    /// The gauge of both families.
    pub fn family(&self) -> (Metric, [(String, u64); 2]) {
        let metric = Metric::gauge(
            "plat_reached",
            "1 while this host reaches the Internet of a family, as hosts are told.",
        );
        let samples = [("ipv4", self.ipv4), ("ipv6", self.ipv6)];
        (
            metric,
            samples.map(|(family, reached)| (format!("family=\"{family}\""), reached.into())),
        )
    }
}

/// Follows what is reached.
#[derive(Debug)]
pub struct ReachWatch {
    damped: DampedReach,
    before: Seen,
    /// What was seen last; `None` if the last look failed.
    last: Option<Seen>,
    /// Advertisements are sent, so that something can be withdrawn.
    advertises: bool,
    status: Arc<Mutex<ReachStatus>>,
}

impl ReachWatch {
    /// Starts with what is seen first.
    pub fn new(first: Seen, advertises: bool) -> Self {
        let watch = Self {
            damped: DampedReach::new(first.reach),
            last: Some(first.clone()),
            before: first,
            advertises,
            status: Arc::default(),
        };
        if !watch.before.reach.ipv4 {
            let wanted = &watch.before.wanted;
            warn!(
                "IPv4 is not reached: there is no {wanted}{}",
                watch.consequence()
            );
        }
        watch.publish();
        watch
    }

    /// The reach to announce.
    pub fn announced(&self) -> Reach {
        self.damped.announced()
    }

    /// What status and metrics say.
    pub fn status(&self) -> Arc<Mutex<ReachStatus>> {
        Arc::clone(&self.status)
    }

    /// When to look at the host again even if nothing changes.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.damped.next_timeout()
    }

    /// Takes it that what was seen last is so at `now`, too: the kernel has told of no change. `None`
    /// if the last look failed.
    pub fn again(&mut self, now: Instant) -> Option<Reach> {
        let seen = self.last.clone()?;
        Some(self.update(seen, now))
    }

    /// Whether IPv4 was reached when that was last looked at, without damping; `None` if the look failed.
    pub fn reaches_ipv4(&self) -> Option<bool> {
        Some(self.last.as_ref()?.reach.ipv4)
    }

    /// A look has failed.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// Takes what is seen at `now`, and logs what changes by it.
    pub fn update(&mut self, seen: Seen, now: Instant) -> Reach {
        self.last = Some(seen.clone());
        if let (Some(old), Some(new)) = (&self.before.ipv4_by, &seen.ipv4_by)
            && old != new
        {
            info!("IPv4 packets leave by {new} now, before by {old}");
        }
        let told = self.damped.announced();
        self.before = Seen {
            // The last one is of use for the log when another one comes.
            ipv4_by: seen.ipv4_by.clone().or(self.before.ipv4_by.take()),
            ..seen
        };
        if let Some(reach) = self.damped.update(seen.reach, now) {
            self.log(told, reach);
        }
        self.publish();
        self.damped.announced()
    }

    fn log(&self, before: Reach, reach: Reach) {
        let consequence = self.consequence();
        let hold = DampedReach::HOLD.as_secs();
        match (before.ipv4, reach.ipv4) {
            (true, false) => {
                let wanted = &self.before.wanted;
                warn!("IPv4 is not reached: no {wanted} for {hold} s{consequence}");
            }
            (false, true) => {
                let by = self.before.ipv4_by.as_deref().unwrap_or("a route");
                let told = if self.advertises {
                    "; the NAT64 prefix is announced"
                } else {
                    ""
                };
                info!("IPv4 is reached by {by}{told}");
            }
            _ => {}
        }
        match (before.ipv6, reach.ipv6) {
            (true, false) => warn!("no IPv6 default route for {hold} s{consequence}"),
            (false, true) => info!("there is an IPv6 default route"),
            _ => {}
        }
    }

    /// What hosts of the LANs are told no longer.
    fn withdrawn(&self) -> Option<Withdrawn> {
        let reach = self.damped.announced();
        match (self.advertises, reach.ipv4, reach.is_router()) {
            (false, ..) | (true, true, _) => None,
            (true, false, true) => Some(Withdrawn::Prefix),
            (true, false, false) => Some(Withdrawn::PrefixAndRouter),
        }
    }

    fn consequence(&self) -> String {
        let router = match self.damped.announced().is_router() {
            true => "this host stays the default router of --lan for IPv6",
            false => "and so is the default router, as there is no IPv6 default route either",
        };
        match self.withdrawn() {
            Some(_) => format!("; the NAT64 prefix is withdrawn, {router}"),
            None => String::new(),
        }
    }

    fn publish(&self) {
        let reach = self.damped.announced();
        let missing = (!reach.ipv4).then(|| self.before.wanted.clone());
        let withdrawn = self.withdrawn();
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = status.withdrawn.is_none() && withdrawn.is_some();
        *status = ReachStatus {
            ipv4: reach.ipv4,
            ipv6: reach.ipv6,
            ipv4_by: self.before.ipv4_by.clone().filter(|_| missing.is_none()),
            missing,
            withdrawn,
            withdrawals: status.withdrawals + u64::from(is_new),
        };
    }
}
