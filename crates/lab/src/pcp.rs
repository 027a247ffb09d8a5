//! PCP (RFC 6887) in literal bytes, as a client sends and reads it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::installed::PATIENCE;
use crate::namespace::Namespace;
use crate::topology::Topology;

/// Where servers listen.
pub const SERVER_PORT: u16 = 5351;
/// Where clients listen to announcements.
pub const CLIENT_PORT: u16 = 5350;
/// What makes a mapping a client's own.
pub const NONCE: [u8; 12] = *b"a nonce of a";

const MAP_RESPONSE: usize = 60;
/// When a request is sent again.
const AGAIN: Duration = Duration::from_millis(500);

/// The edge's address on the link of the first client.
#[must_use]
pub fn router() -> SocketAddrV6 {
    let mut segments = Topology::client_address(0).segments();
    segments[7] = 1;
    SocketAddrV6::new(segments.into(), SERVER_PORT, 0, 0)
}

/// A MAP request for a UDP port (section 11.1).
#[must_use]
pub fn map(client: Ipv6Addr, port: u16, lifetime: u32) -> Vec<u8> {
    let any = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
    [
        &[2, 1, 0, 0][..],
        &lifetime.to_be_bytes(),
        &client.octets(),
        &NONCE,
        &[17, 0, 0, 0],
        &port.to_be_bytes(),
        &[0, 0],
        &any.octets(),
    ]
    .concat()
}

/// The same with a suggestion.
#[must_use]
pub fn suggest(mut request: Vec<u8>, external: SocketAddrV4) -> Vec<u8> {
    request[42..44].copy_from_slice(&external.port().to_be_bytes());
    request[44..60].copy_from_slice(&external.ip().to_ipv6_mapped().octets());
    request
}

/// A PEER request (section 12.1) made of a MAP request: for the connection with this remote port.
#[must_use]
pub fn peer(mut request: Vec<u8>, protocol: u8, remote: (Ipv6Addr, u16)) -> Vec<u8> {
    request[1] = 2;
    request[36] = protocol;
    request.extend(remote.1.to_be_bytes());
    request.extend([0, 0]);
    request.extend(remote.0.octets());
    request
}

/// The response, which comes from the address that was asked.
///
/// # Errors
/// When none comes, or one from elsewhere.
pub fn ask(client: &Namespace, server: SocketAddrV6, request: &[u8]) -> Result<Vec<u8>> {
    let from: [u8; 16] = request[8..24].try_into()?;
    let from = Ipv6Addr::from(from);
    let is_own = from == Topology::client_address(0) || from.is_unicast_link_local();
    let from = if is_own {
        from
    } else {
        Topology::client_address(0)
    };
    ask_from(client, from, server, request)
}

/// The same from this address.
///
/// # Errors
/// When none comes, or one from elsewhere.
pub fn ask_from(
    client: &Namespace,
    from: Ipv6Addr,
    server: SocketAddrV6,
    request: &[u8],
) -> Result<Vec<u8>> {
    client.run(|| {
        let socket = UdpSocket::bind(SocketAddrV6::new(from, 0, 0, server.scope_id()))?;
        socket.set_read_timeout(Some(AGAIN))?;
        let mut buffer = [0; 1200];
        let end = Instant::now() + PATIENCE;
        loop {
            socket.send_to(request, server)?;
            match socket.recv_from(&mut buffer) {
                Ok((length, source)) => {
                    let expected = IpAddr::V6(*server.ip());
                    ensure!(source.ip() == expected, "{source} instead of {expected}");
                    return Ok(buffer[..length].to_vec());
                }
                Err(error) => ensure!(Instant::now() < end, "no response: {error}"),
            }
        }
    })
}

/// The external address and port of a response that grants a mapping.
///
/// # Errors
/// When it does not.
pub fn external(response: &[u8]) -> Result<SocketAddrV4> {
    ensure!(
        response.len() >= MAP_RESPONSE && response[1] & 0x80 != 0 && response[3] == 0,
        "no mapping: {response:?}"
    );
    let address: [u8; 16] = response[44..60].try_into()?;
    let address = Ipv6Addr::from(address).to_ipv4_mapped();
    let port = u16::from_be_bytes(response[42..44].try_into()?);
    Ok(SocketAddrV4::new(address.context("no IPv4 address")?, port))
}
