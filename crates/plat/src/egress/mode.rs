//! The three ways out to IPv4, as they are written.

use std::fmt;
use std::str::FromStr;

use xlat_host::daemon::flags::interface_name;

/// How packets leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Egress {
    /// The pool is routed to this host.
    Route,
    /// The pool lies in the subnet of this interface.
    ProxyArp(String),
    /// The pool hides behind the address of this interface.
    Masquerade(String),
}

impl FromStr for Egress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let interface = |name: &str| interface_name(name);
        match text.split_once(':') {
            None if text == "route" => Ok(Self::Route),
            Some(("proxy-arp", name)) => interface(name).map(Self::ProxyArp),
            Some(("masquerade", name)) => interface(name).map(Self::Masquerade),
            _ => Err("not `route`, `proxy-arp:IFACE` or `masquerade:IFACE`".into()),
        }
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route => f.write_str("route"),
            Self::ProxyArp(name) => write!(f, "proxy-arp:{name}"),
            Self::Masquerade(name) => write!(f, "masquerade:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_ways_read_as_they_are_written() {
        for text in ["route", "proxy-arp:eth0", "masquerade:wan0.7"] {
            assert_eq!(text.parse::<Egress>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "masquerade",
            "masquerade:",
            "proxy:eth0",
            "masquerade:a/b",
        ] {
            assert!(wrong.parse::<Egress>().is_err(), "{wrong}");
        }
    }
}
