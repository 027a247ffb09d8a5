//! The configuration of the server.

use std::net::SocketAddr;
use std::str::FromStr;

use dns64::Rules;
use tokio_rustls::rustls::pki_types::ServerName;
use xlat_core::addr::Ipv6Prefix;

use crate::address;
use crate::trust::Trust;

/// The configuration of the server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Prefixes, exclusions and lifetimes that answers follow.
    pub rules: Rules,
    /// Upstream resolvers; at least one.
    pub upstreams: Vec<Upstream>,
    /// Certificates that authenticate resolvers over TLS; without it, no resolver is queried over
    /// TLS.
    pub trust: Option<Trust>,
    /// Networks of the clients that may send queries; the loopback address always may.
    pub allowed: Vec<Ipv6Prefix>,
    /// Queries a second that one client, a /64, may send.
    pub rate: u32,
    /// Maximum number of cached answers, of 2 KiB each on average.
    pub cache: usize,
}

impl Config {
    /// True if both give the same answers, so that the cache stays valid.
    pub(crate) fn has_same_answers(&self, other: &Self) -> bool {
        (&self.rules, &self.upstreams, self.cache) == (&other.rules, &other.upstreams, other.cache)
            && self.trust == other.trust
    }

    pub(crate) fn has_same_limits(&self, other: &Self) -> bool {
        (&self.allowed, self.rate) == (&other.allowed, other.rate)
    }
}

/// An upstream resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its address and port: 53, or 853 over TLS, unless another is given.
    pub address: SocketAddr,
    /// The name to authenticate (RFC 8310 section 5) if it is queried over TLS; `None` for UDP
    /// and TCP.
    pub tls: Option<ServerName<'static>>,
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }
}

impl FromStr for Upstream {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(rest) = text.strip_prefix("tls://") else {
            let address = address::parse(text, 53).map(Self::from);
            return address.ok_or(
                "not of the form 192.0.2.53, 192.0.2.53:5353, [2001:db8::53]:5353, \
                 fe80::53%IFACE with an interface of this host, or tls://192.0.2.53#dns.example",
            );
        };
        let form = "not of the form tls://192.0.2.53#dns.example or \
                    tls://[2001:db8::53]:853#dns.example";
        let (address, name) = rest.split_once('#').ok_or(
            "without the name that the server proves, TLS is no protection: \
             tls://192.0.2.53#dns.example",
        )?;
        Ok(Self {
            address: address::parse(address, 853).ok_or(form)?,
            tls: Some(ServerName::try_from(name.to_owned()).map_err(|_| form)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(upstream.tls.unwrap().to_str(), name);
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
