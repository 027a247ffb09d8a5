//! The configuration of the synthesis, and the addresses that follow from it.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::domain::Domains;
use crate::local::LocalRecords;
use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix, Pref64, special};

/// Which addresses are synthesized from which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// NAT64 prefixes in order of preference: those of the translator.
    pub pref64s: Vec<Pref64>,
    /// Keep non-global IPv4 addresses out of the well-known prefix (RFC 6052 section 3.1).
    pub wkp_strict: bool,
    /// IPv6 prefixes whose addresses are excluded from answers (RFC 6147 section 5.1.4).
    pub excluded: Vec<Ipv6Prefix>,
    /// IPv4 prefixes from which no addresses are synthesized.
    pub unmapped: Vec<Ipv4Prefix>,
    /// Lifetime of answers about `ipv4only.arpa`, in seconds: a host may notice a change of prefix
    /// that much later.
    pub prefix_lifetime: u32,
    /// Domains whose names get no synthetic addresses.
    pub skipped: Domains,
    /// Domains whose names get synthetic addresses although they have IPv6 ones.
    pub always: Domains,
    /// Names that are answered here.
    pub local: LocalRecords,
    /// Leave out of answers what was not asked for: authority and additional records, where the
    /// answer is complete without them.
    pub minimal: bool,
}

impl Rules {
    /// The defaults with these prefixes.
    pub fn new(pref64s: Vec<Pref64>) -> Self {
        Self {
            pref64s,
            wkp_strict: true,
            // IPv4-mapped addresses (RFC 6147 section 5.1.4).
            excluded: vec![Ipv6Prefix::containing(
                Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(),
                96,
            )],
            unmapped: Vec::new(),
            prefix_lifetime: 600,
            skipped: Domains::default(),
            always: Domains::default(),
            local: LocalRecords::default(),
            minimal: false,
        }
    }

    /// True if the address is not excluded.
    pub(crate) fn counts(&self, address: Ipv6Addr) -> bool {
        !self.excluded.iter().any(|prefix| prefix.contains(address))
    }

    /// The synthetic address for an IPv4 address; `None` if the rules forbid it.
    pub(crate) fn synthesise(&self, v4: Ipv4Addr) -> Option<Ipv6Addr> {
        if self.unmapped.iter().any(|prefix| prefix.contains(v4)) || special::is_never_v4(v4) {
            return None;
        }
        let may = |pref64: &&Pref64| {
            !self.wkp_strict || !pref64.is_well_known() || special::is_global_v4(v4)
        };
        let pref64 = self.pref64s.iter().find(may)?;
        Some(pref64.embed(v4))
    }

    /// The IPv4 address embedded in an address in one of the prefixes or in the well-known one (RFC
    /// 6147 section 5.3.1).
    pub(crate) fn extract(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        self.pref64s
            .iter()
            .chain([&Pref64::WELL_KNOWN])
            .find_map(|pref64| pref64.extract(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(prefixes: &[&str]) -> Rules {
        Rules::new(prefixes.iter().map(|one| one.parse().unwrap()).collect())
    }

    fn made(rules: &Rules, v4: &str) -> Option<String> {
        let made = rules.synthesise(v4.parse().unwrap());
        made.map(|address| address.to_string())
    }

    #[test]
    fn dn_14_private_addresses_stay_out_of_the_well_known_prefix() {
        let mut rules = rules(&["64:ff9b::/96"]);
        assert_eq!(made(&rules, "8.8.8.8").as_deref(), Some("64:ff9b::808:808"));
        assert_eq!(made(&rules, "10.1.2.3"), None);
        rules.wkp_strict = false;
        assert_eq!(
            made(&rules, "10.1.2.3").as_deref(),
            Some("64:ff9b::a01:203")
        );
    }

    #[test]
    fn dn_12_dn_13_a_networks_own_prefix_takes_what_the_well_known_one_may_not() {
        let mut rules = rules(&["64:ff9b::/96", "2001:db8:64::/96"]);
        assert_eq!(made(&rules, "8.8.8.8").as_deref(), Some("64:ff9b::808:808"));
        assert_eq!(
            made(&rules, "10.1.2.3").as_deref(),
            Some("2001:db8:64::a01:203")
        );
        rules.unmapped = vec!["10.0.0.0/8".parse().unwrap()];
        assert_eq!(made(&rules, "10.1.2.3"), None);
    }

    #[test]
    fn dn_06_mapped_addresses_do_not_count() {
        let rules = rules(&["64:ff9b::/96"]);
        assert!(!rules.counts("::ffff:198.51.100.1".parse().unwrap()));
        assert!(rules.counts("2001:db8::1".parse().unwrap()));
    }
}
