//! Flags of the DNS64.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use tokio_rustls::rustls::pki_types::ServerName;
use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix};

use super::address;

/// What the DNS64 is told.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "DNS64")]
pub(crate) struct DnsFlags {
    /// Run a DNS64 on this address of the host; several times
    #[arg(long, visible_alias = "dns64-listen", value_name = "ADDR")]
    pub(crate) dns64: Vec<Ipv6Addr>,
    /// Resolver that it asks, or tls://ADDR#NAME for DNS over TLS; several times [default:
    /// those of /etc/resolv.conf]
    #[arg(long, visible_alias = "dns-upstream", value_name = "ADDR[:PORT]")]
    pub(crate) dns64_upstream: Vec<Upstream>,
    /// Certificates (PEM) that resolvers over TLS prove their names with [default: those that the
    /// system trusts]
    #[arg(long, value_name = "FILE")]
    pub(crate) dns64_ca: Option<PathBuf>,
    /// Clients that may ask; several times [default: those on this host's own IPv6 networks, and
    /// those of --client]
    #[arg(long, value_name = "PREFIX")]
    pub(crate) dns64_allow: Vec<Ipv6Prefix>,
    /// Most queries of one client a second; what is more is dropped
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) dns64_rate: u32,
    /// IPv6 addresses that do not count as real ones, besides ::ffff:0:0/96; several times
    #[arg(long, value_name = "PREFIX")]
    pub(crate) dns64_exclude: Vec<Ipv6Prefix>,
    /// IPv4 addresses that no IPv6 address is made of; several times
    #[arg(long, value_name = "CIDR")]
    pub(crate) dns64_unmapped: Vec<Ipv4Prefix>,
    /// How long hosts may keep what they are told about `ipv4only.arpa`, and so not notice another
    /// NAT64 prefix, in seconds: 30 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(30..=3600))]
    pub(crate) dns64_prefix_ttl: u32,
    /// Answers that are kept, in 2 KiB each on average at most
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(crate) dns64_cache: usize,
}

/// A resolver: address, and port if it is not the usual one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    /// The name that it proves, if it is asked over TLS.
    pub(crate) tls: Option<ServerName<'static>>,
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
