//! The DNS64 on this host: settings and the host become a [`Config`] of [`dns64_server`].

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dns64::{HostsError, Rules};
use dns64_server::{Config, Forward, PORT, ResolvConf, Trust, TrustError, Upstream};
use xlat_core::addr::Ipv6Prefix;
use xlat_host::daemon::exit::Usage;
use xlat_host::daemon::waiting::Missing;
use xlat_host::host::{self, Host};

/// The DNS64, as far as the settings say; nothing of the host is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Addresses to listen on; without any there is no DNS64.
    pub addresses: Vec<Ipv6Addr>,
    /// Those of `/etc/resolv.conf` if empty.
    pub upstreams: Vec<Upstream>,
    /// Resolvers of single domains.
    pub forwards: Vec<Forward>,
    /// Files with names that are answered here.
    pub hosts: Vec<PathBuf>,
    /// Certificates that upstreams prove their names with; the system's without.
    pub ca: Option<PathBuf>,
    /// Clients; if empty, those of the host's own networks and those who are served.
    pub allowed: Vec<Ipv6Prefix>,
    /// Clients that addresses are made for; all of them if empty.
    pub served: Vec<Ipv6Prefix>,
    /// Most queries of one client a second.
    pub rate: u32,
    /// Answers that are kept.
    pub cache: usize,
    /// How long they stay behind their lifetime, for when resolvers fail.
    pub stale: Duration,
    /// Look up again what is asked for towards the end of its lifetime.
    pub prefetches: bool,
    /// Threads that answer from the cache.
    pub threads: NonZeroUsize,
    /// What answers follow.
    pub rules: Rules,
}

/// Why the settings make no DNS64 on this host.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// Certificates cannot be loaded.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A file of names cannot be read.
    #[error("--dns64-hosts {file}: {error}")]
    Hosts {
        /// Its path.
        file: PathBuf,
        /// Why.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host cannot be read.
    #[error(transparent)]
    Host(#[from] host::Error),
}

impl Dns {
    /// True if the resolvers are those of `/etc/resolv.conf`.
    pub fn follows_resolv_conf(&self) -> bool {
        !self.addresses.is_empty() && self.upstreams.is_empty()
    }

    /// Refuses what makes no sense on any host.
    ///
    /// # Errors
    /// The DNS64 would ask itself.
    pub fn check(&self) -> Result<(), Usage> {
        let is_own = |server: &SocketAddr| {
            let mut own = self.addresses.iter();
            server.port() == PORT && own.any(|own| server.ip() == IpAddr::V6(*own))
        };
        let mut asked = self.upstreams.iter().map(|server| server.address);
        if let Some(own) = asked.find(is_own) {
            return Err(Usage(format!(
                "--dns64-upstream {own} is this DNS64 itself"
            )));
        }
        for Forward { domain, upstreams } in &self.forwards {
            let mut asked = upstreams.iter().map(|server| server.address);
            if let Some(own) = asked.find(is_own) {
                return Err(Usage(format!(
                    "--dns64-forward {domain}={own} is this DNS64 itself"
                )));
            }
        }
        Ok(())
    }

    /// Checks that a DNS64, if one is wanted, has somebody to ask.
    ///
    /// # Errors
    /// There is nobody now.
    pub fn check_upstreams(&self) -> Result<(), Missing> {
        if self.addresses.is_empty() || !self.upstreams().is_empty() {
            return Ok(());
        }
        let line = "--dns64 has nobody to ask: /etc/resolv.conf names no resolver; give \
                    --dns64-upstream";
        Err(Missing(line.into()))
    }

    /// What the settings mean on this host, which is the router of `lans` and serves `clients`, or
    /// its own networks if nobody has named clients.
    ///
    /// # Errors
    /// Certificates cannot be loaded, or the host cannot be read.
    pub async fn config(
        &self,
        host: &Host,
        lans: &[String],
        clients: &[Ipv6Prefix],
    ) -> Result<Config, DnsError> {
        let upstreams = self.upstreams();
        let theirs = self.forwards.iter().flat_map(|one| &one.upstreams);
        let trust = if upstreams
            .iter()
            .chain(theirs)
            .any(|server| server.tls.is_some())
        {
            Some(Trust::load(self.ca.as_deref())?)
        } else {
            None
        };
        let mut allowed = self.allowed.clone();
        if allowed.is_empty() {
            allowed = host.inner_networks(lans).await?;
            allowed.extend(clients);
        }
        let mut rules = self.rules.clone();
        for file in &self.hosts {
            add_hosts(&mut rules, file)?;
        }
        Ok(Config {
            rules,
            upstreams,
            forwards: self.forwards.clone(),
            served: self.served.clone(),
            trust,
            allowed,
            on_link: on_link(host).await?,
            rate: self.rate,
            cache: self.cache,
            stale: self.stale,
            prefetches: self.prefetches,
        })
    }

    /// The resolvers that are given or, without any, those of `/etc/resolv.conf`: there may be none
    /// now.
    fn upstreams(&self) -> Vec<Upstream> {
        if self.upstreams.is_empty() {
            return ResolvConf::read(&self.addresses);
        }
        self.upstreams.clone()
    }
}

fn add_hosts(rules: &mut Rules, file: &Path) -> Result<(), DnsError> {
    let failure = |error| DnsError::Hosts {
        file: file.to_owned(),
        error,
    };
    let text = std::fs::read_to_string(file).map_err(|error| failure(error.into()))?;
    let added = rules.local.add_hosts(&text);
    added.map_err(|error: HostsError| failure(error.into()))
}

/// The IPv6 networks on links of this host.
async fn on_link(host: &Host) -> Result<Vec<Ipv6Prefix>, host::Error> {
    let addresses = host.addresses().await?;
    let networks = addresses.iter().filter_map(|have| match have.address {
        IpAddr::V6(address) => Some(Ipv6Prefix::containing(address, have.len)),
        IpAddr::V4(_) => None,
    });
    Ok(networks.collect())
}
