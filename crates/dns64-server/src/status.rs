//! What `plat status` and the metrics know of the server.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use xlat_tun::counters::Metric;

use crate::config::Upstream;
use crate::counters::{Counters, Figures};

/// Number of resolvers that are asked without EDNS.
pub const WITHOUT_EDNS: Metric = Metric::gauge(
    "plat_dns64_resolvers_without_edns",
    "Upstream resolvers of the DNS64 that are asked without EDNS.",
);

/// Where the status comes from. It outlives the server.
#[derive(Clone, Debug, Default)]
pub struct StatusSource {
    pub(crate) counters: Arc<Counters>,
    pub(crate) resolvers: Resolvers,
}

impl StatusSource {
    /// Takes a snapshot.
    pub fn figures(&self) -> Figures {
        let counted = self.counters.snapshot();
        Figures {
            queries: counted.outcomes.total(),
            resolvers: self.resolvers.lock().clone(),
            counted,
        }
    }
}

/// The upstream resolvers in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolvers(Arc<Mutex<Vec<ResolverStatus>>>);

/// An upstream resolver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResolverStatus {
    /// Its address and port.
    pub address: String,
    /// False if it is asked without EDNS, because it does not answer with it.
    pub edns: bool,
}

impl fmt::Display for ResolverStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        if !self.edns {
            f.write_str(" without EDNS")?;
        }
        Ok(())
    }
}

impl Resolvers {
    /// These are asked from now on, with EDNS.
    pub(crate) fn set(&self, upstreams: &[Upstream]) {
        let status = |one: &Upstream| ResolverStatus {
            address: one.to_string(),
            edns: true,
        };
        *self.lock() = upstreams.iter().map(status).collect();
    }

    /// A resolver is asked with EDNS, or without it.
    pub(crate) fn set_edns(&self, upstream: &Upstream, edns: bool) {
        let address = upstream.to_string();
        // A lookup under an older configuration may have found it out.
        for one in self.lock().iter_mut().filter(|one| one.address == address) {
            one.edns = edns;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ResolverStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Figures {
    /// Number of resolvers that are asked without EDNS.
    pub fn resolvers_without_edns(&self) -> u64 {
        self.resolvers.iter().filter(|one| !one.edns).count() as u64
    }

    pub(crate) fn write_resolvers(&self, f: &mut String) -> fmt::Result {
        let resolvers: Vec<String> = self.resolvers.iter().map(ToString::to_string).collect();
        if resolvers.is_empty() {
            return Ok(());
        }
        writeln!(f, "  resolvers {}", resolvers.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp_06_the_status_names_the_resolvers_and_those_without_edns() {
        let source = StatusSource::default();
        let [one, other] =
            ["192.0.2.53", "fe80::53%eth0"].map(|text| text.parse::<Upstream>().unwrap());
        source.resolvers.set(&[one.clone(), other.clone()]);
        source.resolvers.set_edns(&other, false);
        let figures = source.figures();
        assert_eq!(figures.resolvers_without_edns(), 1);
        let mut text = String::new();
        figures.write_to(&mut text).unwrap();
        let line = "  resolvers 192.0.2.53:53, [fe80::53%eth0]:53 without EDNS";
        assert!(text.lines().any(|one| one == line), "{text}");
        source.resolvers.set_edns(&other, true);
        assert_eq!(source.figures().resolvers_without_edns(), 0);
    }
}
