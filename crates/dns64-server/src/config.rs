//! The configuration of the server.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use dns64::{Domain, Rules};
use xlat_core::addr::Ipv6Prefix;

use crate::address;
use crate::{ServerName, Trust};

/// The configuration of the server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Prefixes, exclusions and lifetimes that answers follow.
    pub rules: Rules,
    /// Upstream resolvers. Without any, only the names that the DNS64 knows itself are answered.
    pub upstreams: Vec<Upstream>,
    /// Resolvers for single domains: those of the smallest that has the name.
    pub forwards: Vec<Forward>,
    /// Certificates that authenticate resolvers over TLS; without it, no resolver is queried over
    /// TLS.
    pub trust: Option<Trust>,
    /// Networks of the clients that may send queries; the loopback address always may.
    pub allowed: Vec<Ipv6Prefix>,
    /// Networks of the clients that addresses are made for; all if empty.
    pub served: Vec<Ipv6Prefix>,
    /// Networks on links of this host, where each address is a client. Elsewhere a /64 is one.
    pub on_link: Vec<Ipv6Prefix>,
    /// Queries a second that one client may send.
    pub rate: u32,
    /// How long answers stay behind their lifetime, for when resolvers fail (RFC 8767).
    pub stale: Duration,
    /// Look up again what is asked for towards the end of its lifetime.
    pub prefetches: bool,
    /// Maximum number of cached answers, of 2 KiB each on average.
    pub cache: usize,
}

impl Config {
    /// True if both give the same answers, so that the cache stays valid.
    pub(crate) fn has_same_answers(&self, other: &Self) -> bool {
        (&self.rules, &self.upstreams, self.cache) == (&other.rules, &other.upstreams, other.cache)
            && (&self.trust, &self.forwards) == (&other.trust, &other.forwards)
            && (self.stale, self.prefetches) == (other.stale, other.prefetches)
    }

    pub(crate) fn has_same_limits(&self, other: &Self) -> bool {
        (&self.allowed, &self.on_link, self.rate) == (&other.allowed, &other.on_link, other.rate)
    }
}

/// An upstream resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its address and port: 53, or 853 over TLS, unless another is given.
    pub address: SocketAddr,
    /// The interface of a link-local address (RFC 4007 section 11): its name or number.
    pub zone: Option<String>,
    /// The name to authenticate (RFC 8310 section 5) if it is queried over TLS; `None` for UDP
    /// and TCP.
    pub tls: Option<ServerName>,
}

impl Upstream {
    /// The address to send to now.
    ///
    /// # Errors
    /// If its interface is not there.
    pub(crate) fn target(&self) -> io::Result<SocketAddr> {
        let mut target = self.address;
        if let (SocketAddr::V6(v6), Some(zone)) = (&mut target, &self.zone) {
            v6.set_scope_id(address::index_of(zone)?);
        }
        Ok(target)
    }
}

/// With the zone, if there is one.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, port) = (self.address.ip(), self.address.port());
        match &self.zone {
            Some(zone) => write!(f, "[{ip}%{zone}]:{port}"),
            None => self.address.fmt(f),
        }
    }
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        Self::from((address, None))
    }
}

impl From<(SocketAddr, Option<String>)> for Upstream {
    fn from((address, zone): (SocketAddr, Option<String>)) -> Self {
        Self {
            address,
            zone,
            tls: None,
        }
    }
}

impl FromStr for Upstream {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(rest) = text.strip_prefix("tls://") else {
            let address = address::parse(text, 53).map(Self::from);
            return address.ok_or(
                "not of the form 192.0.2.53, 192.0.2.53:5353, [2001:db8::53]:5353, \
                 fe80::53%IFACE, or tls://192.0.2.53#dns.example",
            );
        };
        let form = "not of the form tls://192.0.2.53#dns.example or \
                    tls://[2001:db8::53]:853#dns.example";
        let (address, name) = rest.split_once('#').ok_or(
            "without the name that the server proves, TLS is no protection: \
             tls://192.0.2.53#dns.example",
        )?;
        let (address, zone) = address::parse(address, 853).ok_or(form)?;
        let name = ServerName::try_from(name.to_owned());
        Ok(Self {
            address,
            zone,
            tls: Some(name?),
        })
    }
}

/// The resolvers of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The domain.
    pub domain: Domain,
    /// Its resolvers, at least one.
    pub upstreams: Vec<Upstream>,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (domain, upstreams) = text.split_once('=').ok_or(
            "not of the form corp.example=192.0.2.53 or corp.example=192.0.2.53,192.0.2.54",
        )?;
        let upstreams = upstreams.split(',').map(str::parse);
        Ok(Self {
            domain: domain.parse()?,
            upstreams: upstreams.collect::<Result<_, _>>()?,
        })
    }
}

/// What is different between two lists of resolvers, for people.
pub(crate) fn change_of_upstreams(before: &[Upstream], now: &[Upstream]) -> Option<String> {
    let (one, other) = (addresses(now), addresses(before));
    (before != now).then(|| format!("the DNS64 asks {one} instead of {other}"))
}

/// The addresses of resolvers, for people.
pub(crate) fn addresses(upstreams: &[Upstream]) -> String {
    if upstreams.is_empty() {
        return "none".into();
    }
    let addresses = upstreams.iter().map(ToString::to_string);
    addresses.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dn_37_a_domain_has_resolvers_of_its_own() {
        let one: Forward = "Corp.example=192.0.2.1,tls://192.0.2.2#dns.example"
            .parse()
            .unwrap();
        assert_eq!(one.domain.to_string(), "corp.example.");
        assert_eq!(addresses(&one.upstreams), "192.0.2.1:53, 192.0.2.2:853");
        for text in [
            "corp.example",
            "corp.example=",
            "=192.0.2.1",
            "a..b=192.0.2.1",
            "a=b",
        ] {
            assert!(text.parse::<Forward>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_resolver_over_tls_has_a_name() {
        for (text, address, name) in [
            (
                "tls://192.0.2.53#dns.example",
                "192.0.2.53:853",
                "dns.example",
            ),
            (
                "tls://2001:db8::53#dns.example",
                "[2001:db8::53]:853",
                "dns.example",
            ),
            (
                "tls://[2001:db8::53]:8853#192.0.2.53",
                "[2001:db8::53]:8853",
                "192.0.2.53",
            ),
        ] {
            let upstream: Upstream = text.parse().unwrap();
            assert_eq!(upstream.address.to_string(), address);
            assert_eq!(upstream.tls.unwrap().0.to_str(), name);
        }
        assert_eq!("192.0.2.53".parse::<Upstream>().unwrap().tls, None);
        for text in [
            "tls://192.0.2.53",
            "tls://192.0.2.53#",
            "tls://dns.example#dns.example",
            "dns.example",
        ] {
            assert!(text.parse::<Upstream>().is_err(), "{text}");
        }
    }
}
