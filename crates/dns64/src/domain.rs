//! Names of domains, and sets of them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use hickory_proto::rr::Name;

/// A domain: a name and all names below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Name);

impl Domain {
    /// The domain of all names.
    pub fn root() -> Self {
        Self(Name::root())
    }

    /// The name at its top.
    pub fn name(&self) -> &Name {
        &self.0
    }

    /// True if the name is in it.
    pub fn contains(&self, name: &Name) -> bool {
        self.0.zone_of(name)
    }

    /// Which of several domains a name belongs to: the smallest that has it.
    pub fn smallest<'a>(all: impl Iterator<Item = &'a Self>, name: &Name) -> Option<usize> {
        let having = all.enumerate().filter(|(_, domain)| domain.contains(name));
        let smallest = having.max_by_key(|(_, domain)| domain.0.iter().len());
        smallest.map(|(index, _)| index)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_ascii())
    }
}

impl FromStr for Domain {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "not the name of a domain, such as example.org";
        // The parser of the library takes spaces for part of a label.
        let is_name = |text: &str| {
            let letters = text.chars();
            !text.is_empty()
                && letters
                    .clone()
                    .all(|one| !one.is_whitespace() && one != ',')
        };
        if !is_name(text) {
            return Err(wrong);
        }
        let mut name = Name::from_utf8(text).map_err(|_| wrong)?.to_lowercase();
        name.set_fqdn(true);
        Ok(Self(name))
    }
}

/// A set of domains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domains(BTreeSet<Name>);

impl Domains {
    /// True if a name is in one of them.
    pub fn contains(&self, name: &Name) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let mut at = name.clone();
        at.set_fqdn(true);
        loop {
            if self.0.contains(&at) {
                return true;
            }
            if at.is_root() {
                return false;
            }
            at = at.base_name();
        }
    }
}

impl FromIterator<Domain> for Domains {
    fn from_iter<I: IntoIterator<Item = Domain>>(domains: I) -> Self {
        Self(domains.into_iter().map(|domain| domain.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn dn_36_a_domain_has_itself_and_what_is_below() {
        let domains: Domains = ["Example.org", "corp.example."]
            .map(|text| text.parse().unwrap())
            .into_iter()
            .collect();
        for (text, expected) in [
            ("example.org.", true),
            ("WWW.Example.ORG.", true),
            ("a.b.corp.example.", true),
            ("notexample.org.", false),
            ("org.", false),
            ("example.", false),
            (".", false),
        ] {
            assert_eq!(domains.contains(&name(text)), expected, "{text}");
        }
        assert!(!Domains::default().contains(&name("example.org.")));
        let all: Domains = [Domain::root()].into_iter().collect();
        assert!(all.contains(&name("a.")) && all.contains(&Name::root()));
    }

    #[test]
    fn dn_37_the_smallest_domain_decides() {
        let all = ["example", ".", "corp.example"].map(|text| text.parse::<Domain>().unwrap());
        for (text, expected) in [
            ("a.corp.example.", Some(2)),
            ("corp.example.", Some(2)),
            ("example.", Some(0)),
            ("org.", Some(1)),
        ] {
            assert_eq!(
                Domain::smallest(all.iter(), &name(text)),
                expected,
                "{text}"
            );
        }
        assert_eq!(Domain::smallest(all[2..].iter(), &name("org.")), None);
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        for text in ["", "a b", "a..b", "a,b", &"x".repeat(64)] {
            assert!(text.parse::<Domain>().is_err(), "{text}");
        }
        assert_eq!(
            "ExAmple.org".parse::<Domain>().unwrap().to_string(),
            "example.org."
        );
    }
}
