//! Connections that the kernel's connection tracking has for an address of the translator.

use std::io;
use std::net::Ipv4Addr;

use netlink_sys::Socket;

use crate::nft::netlink::{DONE, DUMP, ERROR, REQUEST, connect, find, message, messages, outcome};

/// Forgets the connections of the address `inner` that are translated to another address than
/// `outer`. Returns how many. The next packet of each finds what the rules say now.
///
/// # Errors
/// If the kernel refuses to list them.
pub(crate) fn forget(inner: Ipv4Addr, outer: Ipv4Addr) -> io::Result<usize> {
    let socket = connect()?;
    let mut stale = Vec::new();
    dump(&socket, |body| {
        if let Some(connection) = Connection::parse(body)
            && connection.is_stale(inner, outer)
        {
            stale.push(connection.key());
        }
    })?;
    for some in stale.chunks(AT_ONCE) {
        let messages: Vec<u8> = some
            .iter()
            .flat_map(|key| message(DELETE, REQUEST, 0, (IPV4, 0), key))
            .collect();
        socket.send(&messages, 0)?;
    }
    Ok(stale.len())
}

/// Source and destination.
type Pair = (Ipv4Addr, Ipv4Addr);

/// A connection as the kernel reports it.
struct Connection<'a> {
    original: &'a [u8],
    id: Option<&'a [u8]>,
    zone: Option<&'a [u8]>,
    sent: Pair,
    answered: Pair,
}

impl<'a> Connection<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        let attributes = body.get(4..)?;
        let original = find(attributes, ORIGINAL)?;
        Some(Self {
            original,
            id: find(attributes, ID),
            zone: find(attributes, ZONE),
            sent: pair(original)?,
            answered: pair(find(attributes, REPLY)?)?,
        })
    }

    fn is_stale(&self, inner: Ipv4Addr, outer: Ipv4Addr) -> bool {
        let seen = if self.sent.0 == inner {
            self.answered.1
        } else if self.answered.0 == inner {
            self.sent.1
        } else {
            return false;
        };
        seen != inner && seen != outer
    }

    /// What identifies it in a message.
    fn key(&self) -> Vec<u8> {
        let parts = [
            (ORIGINAL | NESTED, Some(self.original)),
            (ID, self.id),
            (ZONE, self.zone),
        ];
        let mut key = Vec::new();
        for (kind, value) in parts {
            let Some(value) = value else { continue };
            key.extend((4 + value.len() as u16).to_ne_bytes());
            key.extend(kind.to_ne_bytes());
            key.extend(value);
            key.resize(key.len().next_multiple_of(4), 0);
        }
        key
    }
}

/// The addresses of a tuple.
fn pair(tuple: &[u8]) -> Option<Pair> {
    let addresses = find(tuple, 1)?;
    let address = |kind| {
        let bytes = find(addresses, kind)?;
        Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?))
    };
    Some((address(1)?, address(2)?))
}

fn dump(socket: &Socket, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    socket.send(&message(GET, REQUEST | DUMP, 0, (IPV4, 0), &[]), 0)?;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        for (kind, body) in messages(&bytes) {
            match kind {
                DONE => return Ok(()),
                ERROR => return outcome(body),
                _ => each(body),
            }
        }
    }
}

/// Connections forgotten with one message.
const AT_ONCE: usize = 256;

const IPV4: u8 = 2;
const CONNTRACK: u16 = 1;
const GET: u16 = (CONNTRACK << 8) | 1;
const DELETE: u16 = (CONNTRACK << 8) | 2;
const NESTED: u16 = 0x8000;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
