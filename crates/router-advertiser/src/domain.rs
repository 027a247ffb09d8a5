//! Domains to search, as they are written.

use std::str::FromStr;

/// A domain that can be announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain(String);

impl Domain {
    /// Its name, without a dot at the end.
    pub fn into_name(self) -> String {
        self.0
    }
}

impl FromStr for Domain {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim_end_matches('.');
        let is_label = |label: &str| {
            let fits = (1..=63).contains(&label.len());
            fits && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err("not a domain name");
        }
        Ok(Self(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_names() {
        assert_eq!("lan.example.".parse(), Ok(Domain("lan.example".into())));
        for wrong in ["", ".", "a..b", "a b", "ä"] {
            assert!(wrong.parse::<Domain>().is_err(), "{wrong}");
        }
    }
}
