//! Flags of the DNS64.

use std::net::Ipv6Addr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dns64::{Domain, LocalAddress, LocalRecords, Rules};
use dns64_server::{Forward, Upstream};
use plat_host::Dns;
use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix, Pref64s};
use xlat_host::daemon::flags::RELOADABLE;

/// What the DNS64 is told.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "DNS64")]
pub(crate) struct DnsFlags {
    /// Run a DNS64 on this address of the host; several times
    #[arg(long, visible_alias = "dns64-listen", value_name = "ADDR")]
    pub(crate) dns64: Vec<Ipv6Addr>,
    /// Resolver that it asks, or tls://ADDR#NAME for DNS over TLS; several times [default:
    /// those of /etc/resolv.conf]
    #[arg(long, group = RELOADABLE, visible_alias = "dns-upstream", value_name = "ADDR[:PORT]")]
    pub(crate) dns64_upstream: Vec<Upstream>,
    /// Resolvers for the names of one domain, as in corp.example=192.0.2.53; several times
    #[arg(long, group = RELOADABLE, value_name = "DOMAIN=ADDR[,ADDR]")]
    pub(crate) dns64_forward: Vec<Forward>,
    /// Certificates (PEM) that resolvers over TLS prove their names with [default: those that the
    /// system trusts]
    #[arg(long, group = RELOADABLE, value_name = "FILE")]
    pub(crate) dns64_ca: Option<PathBuf>,
    /// Clients that may ask; several times [default: those on this host's own IPv6 networks, and
    /// those of --client]
    #[arg(long, group = RELOADABLE, value_name = "PREFIX")]
    pub(crate) dns64_allow: Vec<Ipv6Prefix>,
    /// Clients that IPv6 addresses are made for; the others are told what resolvers say; several
    /// times [default: all that may ask]
    #[arg(long, group = RELOADABLE, value_name = "PREFIX")]
    pub(crate) dns64_client: Vec<Ipv6Prefix>,
    /// Most queries of one client a second; what is more is dropped
    #[arg(long, group = RELOADABLE, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) dns64_rate: u32,
    /// IPv6 addresses that do not count as real ones, besides ::ffff:0:0/96; several times
    #[arg(long, group = RELOADABLE, value_name = "PREFIX")]
    pub(crate) dns64_exclude: Vec<Ipv6Prefix>,
    /// IPv4 addresses that no IPv6 address is made of; several times
    #[arg(long, group = RELOADABLE, value_name = "CIDR")]
    pub(crate) dns64_unmapped: Vec<Ipv4Prefix>,
    /// Domain for whose names no IPv6 address is made; several times
    #[arg(long, group = RELOADABLE, value_name = "DOMAIN")]
    pub(crate) dns64_skip: Vec<Domain>,
    /// Domain for whose names IPv6 addresses are made although they have some, or all; several times
    #[arg(long, group = RELOADABLE, value_name = "DOMAIN", value_parser = domain_or_all)]
    pub(crate) dns64_always: Vec<Domain>,
    /// A name with its address, which no resolver is asked about; several times
    #[arg(long, group = RELOADABLE, value_name = "NAME=ADDR")]
    pub(crate) dns64_record: Vec<LocalAddress>,
    /// Names with their addresses, as in /etc/hosts; several times
    #[arg(long, group = RELOADABLE, value_name = "FILE")]
    pub(crate) dns64_hosts: Vec<PathBuf>,
    /// Leave out records that were not asked for where the answer is complete without them
    #[arg(long, group = RELOADABLE)]
    pub(crate) dns64_minimal: bool,
    /// How long hosts may keep what they are told about `ipv4only.arpa`, and so not notice another
    /// NAT64 prefix, in seconds: 30 to 3600
    #[arg(long, group = RELOADABLE, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(30..=3600))]
    pub(crate) dns64_prefix_ttl: u32,
    /// How long answers stay behind their lifetime, to be used when resolvers fail, in seconds
    #[arg(long, group = RELOADABLE, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=604_800))]
    pub(crate) dns64_stale: u32,
    /// Look up again what is asked for in the last tenth of its lifetime
    #[arg(long, group = RELOADABLE)]
    pub(crate) dns64_prefetch: bool,
    /// Threads that answer from the cache
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads)]
    pub(crate) dns64_threads: NonZeroUsize,
    /// Answers that are kept, in 2 KiB each on average at most
    #[arg(long, group = RELOADABLE, value_name = "N", default_value_t = 20_000)]
    pub(crate) dns64_cache: usize,
}

impl DnsFlags {
    /// What the flags mean with these NAT64 prefixes.
    pub(crate) fn settings(self, pref64s: &Pref64s, wkp_strict: bool) -> Dns {
        let mut local = LocalRecords::default();
        for record in self.dns64_record {
            local.add(record);
        }
        let mut rules = Rules {
            wkp_strict,
            unmapped: self.dns64_unmapped,
            prefix_lifetime: self.dns64_prefix_ttl,
            skipped: self.dns64_skip.into_iter().collect(),
            always: self.dns64_always.into_iter().collect(),
            local,
            minimal: self.dns64_minimal,
            ..Rules::new(pref64s.iter().copied().collect())
        };
        rules.excluded.extend(&self.dns64_exclude);
        Dns {
            addresses: self.dns64,
            upstreams: self.dns64_upstream,
            forwards: self.dns64_forward,
            hosts: self.dns64_hosts,
            served: self.dns64_client,
            ca: self.dns64_ca,
            allowed: self.dns64_allow,
            rate: self.dns64_rate,
            cache: self.dns64_cache,
            stale: Duration::from_secs(self.dns64_stale.into()),
            prefetches: self.dns64_prefetch,
            threads: self.dns64_threads,
            rules,
        }
    }
}

fn threads(text: &str) -> Result<NonZeroUsize, &'static str> {
    let number = text.parse::<NonZeroUsize>().ok();
    let number = number.filter(|number| number.get() <= 64);
    number.ok_or("not a number from 1 to 64")
}

/// A domain, or `all` for that of all names.
fn domain_or_all(text: &str) -> Result<Domain, &'static str> {
    match text {
        "all" => Ok(Domain::root()),
        _ => text.parse(),
    }
}
