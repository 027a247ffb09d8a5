//! DNS questions and answers, made by hand.

pub mod fixed;
pub mod message;
pub mod upstream;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use anyhow::{Context, Result};

use super::PATIENCE;
pub use fixed::FixedDns64;
pub use message::{Message, Record, kind};
pub use upstream::{Act, Asked, Upstream};

/// Number of the type AAAA.
pub const AAAA: u16 = kind::AAAA;

/// One question over UDP, and its answer.
///
/// # Errors
/// When there is none in time.
pub fn exchange(server: Ipv6Addr, name: &str, kind: u16) -> Result<Vec<u8>> {
    over_udp(server, &question(name, kind))
}

/// Some bytes over UDP, and the answer to them.
///
/// # Errors
/// When there is none in time.
pub fn over_udp(server: Ipv6Addr, bytes: &[u8]) -> Result<Vec<u8>> {
    over_udp_to((server, 53).into(), bytes)
}

/// The same to any address and port.
///
/// # Errors
/// When there is none in time.
pub fn over_udp_to(server: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    socket.send(bytes)?;
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer).context("no answer")?;
    answer.truncate(length);
    Ok(answer)
}

/// Some bytes over a connection of their own, and the answer to them.
///
/// # Errors
/// When there is none in time.
pub fn over_tcp(server: Ipv6Addr, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((server, 53)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&(bytes.len() as u16).to_be_bytes())?;
    stream.write_all(bytes)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// A question with recursion desired. `kind` is the number of the type.
#[must_use]
pub fn question(name: &str, kind: u16) -> Vec<u8> {
    Message::query(name, kind).to_bytes()
}

/// The IPv6 addresses in an answer; none if it cannot be read.
#[must_use]
pub fn addresses(answer: &[u8]) -> Vec<Ipv6Addr> {
    Message::parse(answer).map_or_else(|_| Vec::new(), |message| message.addresses())
}
