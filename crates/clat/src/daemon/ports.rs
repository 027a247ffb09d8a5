//! The PCP proxy, while a CLAT runs.

use std::net::Ipv6Addr;

use clat_host::{HostConfig, asking_networks, pcp_hosts, pcp_servers};
use pcp_proxy::{Forward, Listen, Network, PcpProxy, StatusSource};
use tracing::warn;
use xlat_host::host::{Error, Host};
use xlat_proto::clat::{Clat, State};

use crate::settings::Pcp;

/// The ports that IPv4 hosts get from the network's PCP server.
pub(super) struct Ports<'a> {
    host: &'a Host,
    config: HostConfig,
    pcp: Pcp,
    secret: [u64; 2],
    proxy: Option<PcpProxy>,
    status: StatusSource,
    has_failed: bool,
}

impl<'a> Ports<'a> {
    /// No proxy yet.
    pub(super) fn new(
        host: &'a Host,
        config: HostConfig,
        pcp: Pcp,
        secret: [u64; 2],
        status: StatusSource,
    ) -> Self {
        Self {
            host,
            config,
            pcp,
            secret,
            proxy: None,
            status,
            has_failed: false,
        }
    }

    /// Serves the hosts of this state. `announcing` are the routers that announce the prefix.
    pub(super) async fn follow(&mut self, state: &State, announcing: &[Ipv6Addr]) {
        let State::Running(clat) = state else {
            self.proxy = None;
            return;
        };
        if self.pcp == Pcp::Off {
            return;
        }
        let followed = self.serve(clat, announcing).await;
        if let Err(error) = &followed
            && !self.has_failed
        {
            warn!("{error:#}; IPv4 goes on without");
        }
        self.has_failed = followed.is_err();
    }

    async fn serve(&mut self, clat: &Clat, announcing: &[Ipv6Addr]) -> anyhow::Result<()> {
        let servers = self.servers(clat, announcing).await?;
        let network = self.network(clat).await?;
        if let Some(proxy) = self
            .proxy
            .as_ref()
            .filter(|it| is_same(it.network(), &network))
        {
            proxy.set_servers(servers);
            return Ok(());
        }
        // Its sockets make room for the new ones.
        self.proxy = None;
        self.proxy = Some(PcpProxy::start(
            network,
            servers,
            self.secret,
            &self.status,
        )?);
        Ok(())
    }

    async fn servers(&self, clat: &Clat, announcing: &[Ipv6Addr]) -> Result<Vec<Ipv6Addr>, Error> {
        match &self.pcp {
            Pcp::Servers(servers) => Ok(servers.clone()),
            Pcp::Auto | Pcp::Off => pcp_servers(self.host, clat, announcing).await,
        }
    }

    async fn network(&self, clat: &Clat) -> Result<Network, Error> {
        let listen = asking_networks(self.host, &self.config).await?;
        Ok(Network {
            uplink: self.host.link(&clat.uplink).await?,
            hosts: pcp_hosts(&self.config, clat),
            listen: listen
                .into_iter()
                .map(|one| Listen {
                    link: one.link,
                    index: one.index,
                    announce_by: one.announce_by,
                    address: one.address,
                    hosts: one.hosts,
                })
                .collect(),
        })
    }

    /// Waits until other ports are to be forwarded.
    pub(super) async fn changed(&mut self) {
        match &mut self.proxy {
            Some(proxy) => proxy.changed().await,
            None => std::future::pending().await,
        }
    }

    /// These ports are forwarded now.
    pub(super) fn applied(&self, forwards: Vec<Forward>) {
        if let Some(proxy) = &self.proxy {
            proxy.applied(forwards);
        }
    }

    /// The ports to forward.
    pub(super) fn forwards(&self) -> Vec<Forward> {
        let proxy = self.proxy.as_ref();
        proxy.map(PcpProxy::forwards).unwrap_or_default()
    }
}

/// True if what is held of the one network may hold in the other: the hosts and their way are the
/// same. Whether the servers are is the proxy's to find out.
fn is_same(one: &Network, other: &Network) -> bool {
    let uplink = |network: &Network| (network.uplink.index, network.uplink.name.clone());
    uplink(one) == uplink(other) && one.hosts == other.hosts && one.listen == other.listen
}
