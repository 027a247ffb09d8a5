//! The network of the laboratory: IPv6-only clients, the provider's edge, an IPv4-only server.
//!
//! ```text
//! client 0 --+
//! client 1 --+-- [router6 -- ] edge [ -- router4] -- server
//!    ...   --+      IPv6 only        IPv4 only
//! ```
//!
//! Each client has an access link and a /64 of its own, as in a mobile network. The two routers in
//! brackets are there on request; the link between a router and the edge has an MTU of its own.
//! Addresses and default routes are set, not advertised. Nothing here knows the binaries: without
//! them the clients reach the edge over IPv6, the edge reaches the server over IPv4, and no more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::link::{End, add_address, add_route, join, make_router, set_mtu, wait_for_link_local};
use crate::namespace::Namespace;
use crate::traffic::PATIENCE;

/// The prefix under which the edge shows IPv4 to the clients (RFC 6052).
pub const PREF64: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 0), 96);

/// The addresses that the edge may give to clients.
pub const POOL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 64, 0), 24);

/// The server.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// An IPv4 address as the clients see it, in [`PREF64`].
#[must_use]
pub fn embedded(v4: Ipv4Addr) -> Ipv6Addr {
    (PREF64.network().to_bits() | u128::from(v4.to_bits())).into()
}

/// The address that the client's programs get from `clat` (RFC 7335).
pub const CLAT4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);

/// The interface of a client on its access link, of a router towards the edge, of the edge towards
/// IPv4, and of the server.
pub const UPLINK: &str = "eth0";

/// The interface of the edge towards the IPv6 router.
const ACCESS: &str = "access";

/// MTU of every link that has not been given another one, bytes.
pub const MTU: u32 = 1500;

const CLIENTS: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0), 48);
const MIDDLE6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0), 64);
const MIDDLE4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24);
const SERVERS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24);

/// What to build.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many clients.
    pub clients: u8,
    /// An IPv6 router between the clients and the edge, and the MTU of its link to the edge, bytes.
    pub router6: Option<u32>,
    /// An IPv4 router between the edge and the server, and the MTU of its link to the edge, bytes.
    pub router4: Option<u32>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            clients: 1,
            router6: None,
            router4: None,
        }
    }
}

impl Plan {
    /// One client and both routers, all links with the same MTU: what `cargo lab` shows.
    #[must_use]
    pub fn with_routers() -> Self {
        Self {
            router6: Some(MTU),
            router4: Some(MTU),
            ..Self::default()
        }
    }
}

/// The network, until it is dropped.
pub struct Topology {
    /// The clients; interface [`UPLINK`] is the access link.
    pub clients: Vec<Namespace>,
    /// The IPv6 router, when the plan has one.
    pub router6: Option<Namespace>,
    /// Where `plat` runs. [`UPLINK`] leads to IPv4.
    pub edge: Namespace,
    /// The IPv4 router, when the plan has one.
    pub router4: Option<Namespace>,
    /// The server; [`SERVER`] is its address.
    pub server: Namespace,
}

impl Topology {
    /// Builds namespaces, links, addresses and routes.
    ///
    /// # Errors
    /// Without the right to make namespaces, or when the kernel refuses a link.
    pub fn new(plan: &Plan) -> Result<Self> {
        let clients = (0..plan.clients).map(|n| Namespace::new(format!("client{n}")));
        let router = |name, wanted: Option<u32>| wanted.map(|_| Namespace::new(name)).transpose();
        let topology = Self {
            clients: clients.collect::<Result<_>>()?,
            router6: router("router6", plan.router6)?,
            edge: Namespace::new("edge")?,
            router4: router("router4", plan.router4)?,
            server: Namespace::new("server")?,
        };
        topology.build_ipv6(plan.router6.unwrap_or(MTU))?;
        topology.build_ipv4(plan.router4.unwrap_or(MTU))?;
        topology.wait_until_ready()?;
        Ok(topology)
    }

    /// The first client.
    #[must_use]
    pub fn client(&self) -> &Namespace {
        &self.clients[0]
    }

    /// The address of a client on its access link.
    #[must_use]
    pub fn client_address(number: usize) -> Ipv6Addr {
        in_client_prefix(number, 2)
    }

    /// The address of the edge that clients can reach.
    #[must_use]
    pub fn edge_address(&self) -> Ipv6Addr {
        match self.router6 {
            Some(_) => host6(MIDDLE6, 1),
            None => in_client_prefix(0, 1),
        }
    }

    /// Changes the MTU (bytes) of the link between the IPv6 router and the edge, at both ends.
    ///
    /// # Errors
    /// When the plan had no such router.
    pub fn set_middle6_mtu(&self, mtu: u32) -> Result<()> {
        let router = self.router6.as_ref().context("there is no router6")?;
        set_mtu(router, UPLINK, mtu)?;
        set_mtu(&self.edge, ACCESS, mtu)
    }

    /// The kernel may take a second to notice that a link is up; before, a router cannot ask for
    /// neighbours.
    fn wait_until_ready(&self) -> Result<()> {
        let routers = self.router6.iter().chain([&self.edge]).chain(&self.router4);
        let mut all = self.clients.iter().chain(routers).chain([&self.server]);
        all.try_for_each(|namespace| wait_for_link_local(namespace, PATIENCE))
    }

    fn build_ipv6(&self, middle_mtu: u32) -> Result<()> {
        let access = self.router6.as_ref().unwrap_or(&self.edge);
        for (number, client) in self.clients.iter().enumerate() {
            let interface = format!("client{number}");
            join((client, UPLINK), (access, &interface), MTU)?;
            let gateway = in_client_prefix(number, 1);
            let own = in_client_prefix(number, 2);
            add_address((client, UPLINK), net(own, 64))?;
            add_address((access, &interface), net(gateway, 64))?;
            add_route(client, default6(), gateway.into(), None)?;
        }
        let Some(router) = &self.router6 else {
            return Ok(());
        };
        make_router(router)?;
        let [edge, near] = [host6(MIDDLE6, 1), host6(MIDDLE6, 2)];
        connect(
            ((router, UPLINK), net(near, 64)),
            ((&self.edge, ACCESS), net(edge, 64)),
            middle_mtu,
        )?;
        add_route(router, default6(), edge.into(), None)?;
        add_route(&self.edge, CLIENTS.into(), near.into(), None)
    }

    fn build_ipv4(&self, middle_mtu: u32) -> Result<()> {
        let gateway = host4(SERVERS, 1);
        let default = IpNet::from(Ipv4Net::default());
        let to_server = self.router4.as_ref().unwrap_or(&self.edge);
        let interface = if self.router4.is_some() {
            "server"
        } else {
            UPLINK
        };
        connect(
            ((to_server, interface), net(gateway, 24)),
            ((&self.server, UPLINK), net(SERVER, 24)),
            MTU,
        )?;
        add_route(&self.server, default, gateway.into(), None)?;
        let Some(router) = &self.router4 else {
            return Ok(());
        };
        make_router(router)?;
        let [edge, far] = [host4(MIDDLE4, 1), host4(MIDDLE4, 2)];
        connect(
            ((&self.edge, UPLINK), net(edge, 24)),
            ((router, "edge"), net(far, 24)),
            middle_mtu,
        )?;
        add_route(&self.edge, default, far.into(), None)?;
        add_route(router, POOL.into(), edge.into(), None)
    }
}

fn connect(near: (End<'_>, IpNet), far: (End<'_>, IpNet), mtu: u32) -> Result<()> {
    join(near.0, far.0, mtu)?;
    add_address(near.0, near.1)?;
    add_address(far.0, far.1)
}

fn default6() -> IpNet {
    Ipv6Net::default().into()
}

fn net(address: impl Into<IpAddr>, length: u8) -> IpNet {
    IpNet::new_assert(address.into(), length)
}

fn in_client_prefix(number: usize, host: u16) -> Ipv6Addr {
    let mut groups = CLIENTS.network().segments();
    groups[3] = u16::try_from(number).unwrap_or(u16::MAX);
    groups[7] = host;
    groups.into()
}

fn host6(net: Ipv6Net, host: u16) -> Ipv6Addr {
    (net.network().to_bits() + u128::from(host)).into()
}

fn host4(net: Ipv4Net, host: u32) -> Ipv4Addr {
    (net.network().to_bits() + host).into()
}
