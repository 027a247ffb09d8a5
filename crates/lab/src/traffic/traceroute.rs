//! Which routers an IPv4 packet passes: datagrams with a growing time to live, and who complains.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::SockRef;

use super::icmp::{IcmpSocket, Message};

/// The ports from here on are those of traceroutes: nobody listens.
const FIRST_PORT: u16 = 33434;

/// More hops than any path of the laboratory has.
const MOST_HOPS: u8 = 16;

/// IPv4 protocol number of UDP.
const UDP: u8 = 17;

/// Who answered for one value of the time to live.
#[derive(Debug, Clone, Copy)]
pub struct Hop {
    /// Source of the ICMP message.
    pub source: Ipv4Addr,
    /// From the datagram to the message.
    pub time: Duration,
    /// Whether this is the target (port unreachable) and not a router (time exceeded).
    pub last: bool,
}

/// Finds the way to `target`, which must not listen on the ports of traceroutes.
///
/// # Errors
/// When a hop does not answer within `patience`, or the target is not reached.
pub fn traceroute(target: Ipv4Addr, patience: Duration) -> Result<Vec<Hop>> {
    let icmp = IcmpSocket::open(IpAddr::V4(target))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let own_port = socket.local_addr()?.port();
    let mut hops = Vec::new();
    for ttl in 1..=MOST_HOPS {
        SockRef::from(&socket).set_ttl_v4(ttl.into())?;
        let port = FIRST_PORT + u16::from(ttl);
        let begin = Instant::now();
        socket
            .send_to(b"who is there?", (target, port))
            .with_context(|| format!("no route to {target}"))?;
        let answer = wait_for_error(&icmp, own_port, port, begin + patience)?;
        let Some(message) = answer else {
            bail!("nobody answered for a time to live of {ttl}; before: {hops:?}");
        };
        let last = match message.kind() {
            (11, 0) => false,
            (3, 3) => true,
            (kind, code) => bail!(
                "{} answered for a time to live of {ttl} with ICMP type {kind} code {code}",
                message.source
            ),
        };
        hops.push(Hop {
            source: message.source,
            time: begin.elapsed(),
            last,
        });
        if last {
            return Ok(hops);
        }
    }
    bail!("{target} is not reached in {MOST_HOPS} hops: {hops:?}")
}

/// The next ICMP error that quotes a datagram between these ports.
fn wait_for_error(
    icmp: &IcmpSocket,
    source: u16,
    destination: u16,
    deadline: Instant,
) -> Result<Option<Message>> {
    let mut ports = [0; 4];
    ports[..2].copy_from_slice(&source.to_be_bytes());
    ports[2..].copy_from_slice(&destination.to_be_bytes());
    while let Some(message) = icmp.next_message(deadline)? {
        let quoted = message.quoted(UDP);
        if quoted.is_some_and(|header| header.starts_with(&ports)) {
            return Ok(Some(message));
        }
    }
    Ok(None)
}
