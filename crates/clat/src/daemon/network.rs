//! The NAT64 prefix of the network: the given one, or the one discovered on the link that leads to
//! IPv6.

use std::future::pending;
use std::net::Ipv6Addr;

use anyhow::{Context, Result};
use pref64_discovery::{LinkDiscovery, RouterListener, Trust, log_change};
use xlat_core::addr::Pref64;
use xlat_host::host::Link;
use xlat_proto::clat::{Prefix, View};
use xlat_proto::discovery::Found;

use crate::discover;
use crate::settings::{Pcp, Settings};

/// The NAT64 prefix, and its discovery unless it is given.
pub(super) struct Network {
    /// `None` with a given prefix.
    listener: Option<RouterListener>,
    link: Option<LinkDiscovery>,
    trust: Trust,
    pcp: Pcp,
    found: Option<Found>,
    prefix: Prefix,
    /// The routers that announce the prefix, the one to use first.
    routers: Vec<Ipv6Addr>,
}

impl Network {
    /// Starts to listen to routers, unless the prefix is given.
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let found = discover::configured(settings.prefix);
        let listener = match found {
            Some(_) => None,
            None => Some(RouterListener::start().context(
                "cannot receive router advertisements; run as root or with CAP_NET_RAW, or give \
                --prefix",
            )?),
        };
        Ok(Self {
            listener,
            link: None,
            trust: settings.trust,
            pcp: settings.pcp.clone(),
            found,
            prefix: settings.prefix.into(),
            routers: Vec::new(),
        })
    }

    /// The prefix in use and its source.
    pub(super) fn found(&self) -> Option<Found> {
        self.found
    }

    /// What is known of the prefix.
    pub(super) fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// The prefix that was discovered, and the routers that announce it, the one to use first.
    pub(super) fn discovered(&self) -> Option<(Pref64, Vec<Ipv6Addr>)> {
        let found = self.found.filter(|_| !self.is_given())?;
        Some((found.prefix, self.routers.clone()))
    }

    /// The routers that announce the prefix, the one to use first.
    pub(super) fn routers(&self) -> &[Ipv6Addr] {
        &self.routers
    }

    /// The discovery on the current link.
    pub(super) fn discovery(&self) -> Option<&LinkDiscovery> {
        self.link.as_ref()
    }

    /// Interface index of the current link.
    pub(super) fn link(&self) -> Option<u32> {
        self.link.as_ref().map(LinkDiscovery::index)
    }

    /// Router advertisements on the current link that were forged by hosts beyond it.
    pub(super) fn forged(&self) -> u64 {
        match (&self.listener, &self.link) {
            (Some(listener), Some(network)) => listener.forged(network.index()),
            _ => 0,
        }
    }

    /// Discovers on `link`, which leads to IPv6 now, for the host of `view`.
    pub(super) fn follow(&mut self, link: Option<&Link>, view: &View) -> Result<()> {
        if self.is_given() {
            return Ok(());
        }
        let is_known = match (&mut self.link, link) {
            (Some(network), Some(link)) => network.follow(link),
            (None, None) => true,
            _ => false,
        };
        if !is_known {
            let join = |link| LinkDiscovery::join(link, self.listener.as_ref(), self.trust);
            self.link = link.map(join).transpose()?;
        }
        if let Some(network) = &mut self.link {
            network.set_local(&view.local);
            match &self.pcp {
                Pcp::Auto => network.set_pcp_servers(&view.routers),
                Pcp::Servers(servers) => network.set_pcp_servers(servers),
                Pcp::Off => {}
            }
        }
        Ok(())
    }

    /// Takes over what the discovery found; true if the prefix has other routers.
    pub(super) fn update(&mut self) -> bool {
        if self.is_given() {
            return false;
        }
        let found = self.link.as_ref().and_then(LinkDiscovery::found);
        log_change(self.found, found);
        self.found = found;
        let prefix = self.link.as_ref().map(LinkDiscovery::prefix);
        self.prefix = prefix.unwrap_or_default();
        let routers = self.link.as_ref().map(LinkDiscovery::routers);
        let routers = routers.unwrap_or_default();
        let others = routers != self.routers;
        self.routers = routers;
        others
    }

    /// Sends the requests that are due.
    pub(super) async fn send(&mut self) {
        if let Some(network) = &mut self.link {
            network.send().await;
        }
    }

    /// Waits for a message, or until a request is due.
    pub(super) async fn next(&mut self) {
        match &mut self.link {
            Some(network) => network.next().await,
            None => pending().await,
        }
    }

    /// A CLAT runs with this prefix now.
    pub(super) fn on_running(&mut self, prefix: Pref64) {
        let is_it = self.found.is_some_and(|found| found.prefix == prefix);
        if let Some(network) = self.link.as_mut().filter(|_| is_it) {
            network.on_running();
        }
    }

    /// Asks routers and DNS servers again.
    pub(super) fn ask_again(&mut self) {
        if let Some(network) = &mut self.link {
            network.ask_again();
        }
    }

    fn is_given(&self) -> bool {
        self.listener.is_none()
    }
}
