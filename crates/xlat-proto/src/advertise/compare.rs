//! Compares the advertisements of other routers on the link with those of this one (RFC 4861
//! section 6.2.7, RFC 8781 section 5.2).

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use xlat_core::addr::Pref64;

use crate::ra::{Advertisement, PrefixInformation, RouterOption};

/// Maximum number of reports.
const MEMORY: usize = 256;

/// The reports about other routers so far, so that each is made once.
#[derive(Debug, Default)]
pub struct Reported(BTreeSet<(Ipv6Addr, String)>);

/// A report about another router.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// It contradicts this router: all differences, as text.
    Contradicts(String),
    /// It agrees, and is a default router too.
    DefaultRouter,
}

/// A value that two routers should announce alike and do not.
struct Difference {
    /// Name of the value.
    about: String,
    /// Both values, as text.
    values: String,
}

impl Reported {
    /// Compares the advertisement of `router` with that of this router; `None` if there is
    /// nothing new to report.
    pub fn compare(
        &mut self,
        router: Ipv6Addr,
        ours: &Advertisement,
        theirs: &Advertisement,
    ) -> Option<Finding> {
        let differences = differences(ours, theirs);
        let mut is_news = false;
        for difference in &differences {
            is_news |= self.is_new(router, &difference.about);
        }
        if is_news {
            let lines = differences.iter();
            let lines = lines.map(|one| format!("{} {}", one.about, one.values));
            return Some(Finding::Contradicts(lines.collect::<Vec<_>>().join("; ")));
        }
        let is_router = differences.is_empty() && theirs.lifetime > 0;
        (is_router && self.is_new(router, "router")).then_some(Finding::DefaultRouter)
    }

    fn is_new(&mut self, router: Ipv6Addr, about: &str) -> bool {
        self.0.len() < MEMORY && self.0.insert((router, about.to_owned()))
    }
}

fn differences(ours: &Advertisement, theirs: &Advertisement) -> Vec<Difference> {
    let mut list = Vec::new();
    let mut note = |about: &str, ours: u32, theirs: u32| {
        if ours != theirs {
            list.push(Difference {
                about: about.into(),
                values: format!("{theirs} instead of {ours}"),
            });
        }
    };
    // Zero means unspecified.
    for (about, ours, theirs) in [
        ("hop limit", ours.hop_limit.into(), theirs.hop_limit.into()),
        ("reachable time", ours.reachable, theirs.reachable),
        ("retransmit timer", ours.retransmit, theirs.retransmit),
    ] {
        if ours != 0 && theirs != 0 {
            note(about, ours, theirs);
        }
    }
    let (managed, other) = (ours.managed.into(), ours.other.into());
    note("DHCPv6 for addresses", managed, theirs.managed.into());
    note("DHCPv6 for others", other, theirs.other.into());
    if let (Some(ours), Some(theirs)) = (mtu(ours), mtu(theirs)) {
        note("MTU", ours, theirs);
    }
    for other in prefixes(theirs) {
        if let Some(own) = prefixes(ours).find(|own| own.prefix == other.prefix) {
            let prefix = own.prefix;
            note(&format!("{prefix} valid for"), own.valid, other.valid);
            let preferred = format!("{prefix} preferred for");
            note(&preferred, own.preferred, other.preferred);
        }
    }
    let is_ours = |prefix: &Pref64| ours.pref64s().any(|own| own.prefix == *prefix);
    let theirs = theirs.pref64s().map(|option| option.prefix);
    list.extend(
        theirs
            .filter(|prefix| !is_ours(prefix))
            .map(|prefix| Difference {
                about: format!("the NAT64 prefix {prefix},"),
                values: "which is not ours".into(),
            }),
    );
    list
}

fn mtu(advertisement: &Advertisement) -> Option<u32> {
    let mut options = advertisement.options.iter();
    options.find_map(|option| match option {
        RouterOption::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

fn prefixes(advertisement: &Advertisement) -> impl Iterator<Item = &PrefixInformation> {
    let options = advertisement.options.iter();
    options.filter_map(|option| match option {
        RouterOption::Prefix(prefix) => Some(prefix),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saying(hop_limit: u8, reachable: u32) -> Advertisement {
        Advertisement {
            hop_limit,
            reachable,
            lifetime: 1800,
            ..Advertisement::default()
        }
    }

    #[test]
    fn ra_19_each_difference_is_told_once_even_after_a_harmless_router() {
        let mut reported = Reported::default();
        let (ours, router) = (saying(64, 30_000), "fe80::2".parse().unwrap());
        let mut compare = |theirs| reported.compare(router, &ours, &theirs);
        assert_eq!(compare(saying(64, 0)), Some(Finding::DefaultRouter));
        assert_eq!(compare(saying(64, 0)), None);
        let line = "hop limit 32 instead of 64";
        assert_eq!(
            compare(saying(32, 0)),
            Some(Finding::Contradicts(line.into()))
        );
        assert_eq!(compare(saying(31, 0)), None);
        let line = "hop limit 32 instead of 64; reachable time 7 instead of 30000";
        assert_eq!(
            compare(saying(32, 7)),
            Some(Finding::Contradicts(line.into()))
        );
        let other = "fe80::3".parse().unwrap();
        assert!(reported.compare(other, &ours, &saying(32, 0)).is_some());
    }
}
