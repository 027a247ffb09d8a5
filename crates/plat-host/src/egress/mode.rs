//! The ways out to IPv4, and how those that can be chosen are written.

use std::fmt;
use std::str::FromStr;

use xlat_core::addr::Ipv4Prefix;
use xlat_host::daemon::exit::Usage;
use xlat_host::daemon::flags::interface_name;

use super::own_address::OwnAddress;

/// How packets leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress {
    /// The pool is routed to this host. IPv4 is reached while a route leads to all of this prefix or,
    /// without one, while any leads elsewhere than to the clients.
    Route(Option<Ipv4Prefix>),
    /// The pool lies in the subnet of this interface.
    ProxyArp(String),
    /// The pool hides behind the address of the interface by which packets leave: one of these, or
    /// any if there are none.
    Masquerade(Vec<String>),
    /// Clients share the address of an interface with this host: what a pool that is an interface
    /// means. It is not written as an egress.
    Own(OwnAddress),
}

impl Egress {
    /// One egress of those that were given: several can only hide the pool.
    ///
    /// # Errors
    /// They do not go together.
    pub fn merge(given: Vec<Self>) -> Result<Option<Self>, Usage> {
        let mut given = given.into_iter();
        let Some(mut one) = given.next() else {
            return Ok(None);
        };
        for other in given {
            match (&mut one, other) {
                (Self::Masquerade(names), Self::Masquerade(more))
                    if !names.is_empty() && !more.is_empty() =>
                {
                    names.extend(more);
                }
                (one, other) => {
                    return Err(Usage(format!(
                        "--egress {one} and --egress {other} do not go together: several can only \
                         be of the kind masquerade:IFACE"
                    )));
                }
            }
        }
        Ok(Some(one))
    }
}

impl Egress {
    /// The interfaces that are named.
    pub fn interfaces(&self) -> &[String] {
        match self {
            Self::Route(_) => &[],
            Self::ProxyArp(name) => std::slice::from_ref(name),
            Self::Masquerade(names) => names,
            Self::Own(own) => &own.interfaces,
        }
    }
}

impl FromStr for Egress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let interfaces = |names: &str| {
            let names = names.split(',').map(interface_name);
            names.collect::<Result<Vec<String>, String>>()
        };
        match text.split_once(':') {
            None if text == "route" => Ok(Self::Route(None)),
            Some(("route", prefix)) => match prefix.parse() {
                Ok(prefix) => Ok(Self::Route(Some(prefix))),
                Err(error) => Err(format!("{error}; as in route:0.0.0.0/0")),
            },
            None if text == "masquerade" => Ok(Self::Masquerade(Vec::new())),
            Some(("proxy-arp", name)) => interface_name(name).map(Self::ProxyArp),
            Some(("masquerade", names)) => Ok(Self::Masquerade(interfaces(names)?)),
            _ => {
                Err("not `route`, `route:PREFIX`, `proxy-arp:IFACE`, `masquerade` or `masquerade:IFACE,...`".into())
            }
        }
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(None) => f.write_str("route"),
            Self::Route(Some(prefix)) => write!(f, "route:{prefix}"),
            Self::ProxyArp(name) => write!(f, "proxy-arp:{name}"),
            Self::Masquerade(names) if names.is_empty() => f.write_str("masquerade"),
            Self::Own(own) => write!(f, "own address of {}", own.interfaces.join(", ")),
            Self::Masquerade(names) => write!(f, "masquerade:{}", names.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_read_as_they_are_written() {
        for text in [
            "route",
            "route:0.0.0.0/0",
            "route:198.41.0.0/24",
            "proxy-arp:eth0",
            "masquerade",
            "masquerade:wan0.7",
            "masquerade:wan0,wwan0",
        ] {
            assert_eq!(text.parse::<Egress>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "masquerade:",
            "route:",
            "route:wan0",
            "proxy:eth0",
            "masquerade:a/b",
            "masquerade:a,",
        ] {
            assert!(wrong.parse::<Egress>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn fp_03_several_interfaces_can_hide_the_pool() {
        let merge = |texts: &[&str]| {
            Egress::merge(texts.iter().map(|text| text.parse().unwrap()).collect())
        };
        assert!(merge(&[]).unwrap().is_none());
        let both = merge(&["masquerade:wan0", "masquerade:wan1"]).unwrap();
        assert_eq!(both.unwrap().to_string(), "masquerade:wan0,wan1");
        for wrong in [
            ["route", "masquerade:wan0"],
            ["proxy-arp:wan0", "proxy-arp:wan1"],
            ["masquerade", "masquerade:wan0"],
        ] {
            assert!(merge(&wrong).is_err(), "{wrong:?}");
        }
    }
}
