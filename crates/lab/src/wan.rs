//! An edge with one public address, which a provider gave it: what tests of a shared address need.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};

use crate::binaries::Binaries;
use crate::installed::{Installed, PATIENCE, Setup};
use crate::link::{add_address, add_route, remove_address};
use crate::namespace::Namespace;
use crate::topology::{Plan, Topology, UPLINK};

/// The edge towards the IPv4 router.
pub const WAN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// What the provider gives it next.
pub const NEXT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
/// The IPv4 router, as the edge sees it.
pub const PROVIDER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// Other hosts where the server is.
pub const OTHERS: [Ipv4Addr; 2] = [
    Ipv4Addr::new(198, 51, 100, 3),
    Ipv4Addr::new(198, 51, 100, 4),
];

/// Two clients behind an IPv6 router, and an IPv4 router that leads to three servers.
///
/// # Errors
/// When the network cannot be built.
pub fn topology() -> Result<Topology> {
    let topology = Topology::new(&Plan {
        clients: 2,
        ..Plan::with_routers()
    })?;
    for other in OTHERS {
        add_address((&topology.server, UPLINK), net(other))?;
    }
    Ok(topology)
}

/// The same with a `plat` that has these flags.
///
/// # Errors
/// When `plat` does not get ready.
pub fn install(flags: &[&str]) -> Result<Installed> {
    Installed::with(&Binaries::find()?, topology()?, Setup::plat_alone(flags))
}

/// The provider takes one address of the edge and gives it another one.
///
/// # Errors
/// When the kernel refuses.
pub fn renumber(edge: &Namespace, before: Ipv4Addr, after: Ipv4Addr) -> Result<()> {
    remove_address((edge, UPLINK), net(before))?;
    add_address((edge, UPLINK), net(after))?;
    default_route(edge)
}

/// The edge's way to the rest of the world, which goes with its address.
///
/// # Errors
/// When the kernel refuses.
pub fn default_route(edge: &Namespace) -> Result<()> {
    add_route(edge, Ipv4Net::default().into(), PROVIDER.into(), None)
}

/// An address and its network of 256.
#[must_use]
pub fn net(address: Ipv4Addr) -> IpNet {
    IpNet::new_assert(address.into(), 24)
}

/// A socket that waits for as long as a test does.
///
/// # Errors
/// When the address is none of the namespace's, or the port is taken.
pub fn udp(namespace: &Namespace, address: IpAddr, port: u16) -> Result<UdpSocket> {
    let socket = namespace.run(|| Ok(UdpSocket::bind((address, port))?))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// The next datagram, and where it comes from.
///
/// # Errors
/// When none comes.
pub fn receive(socket: &UdpSocket) -> Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer).context("no datagram")?;
    Ok((buffer[..length].to_vec(), from))
}

/// A connection.
///
/// # Errors
/// When it is not made.
pub fn connect(namespace: &Namespace, to: SocketAddr) -> Result<TcpStream> {
    let stream = namespace.run(|| Ok(TcpStream::connect_timeout(&to, PATIENCE)?))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
