//! nftables messages: netlink attributes with numbers in network byte order.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

/// Opens a netlink socket to nftables.
pub(crate) fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// A base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) hook: u32,
    pub(super) priority: u32,
    /// Type, hook and priority in the syntax of `nft`.
    pub(super) declaration: &'static str,
}

/// A transaction: its messages take effect together or not at all.
pub(super) struct Batch {
    family: u8,
    bytes: Vec<u8>,
    count: u32,
}

impl Batch {
    /// An empty transaction for tables of this family.
    pub(super) fn new(family: u8) -> Self {
        Self {
            family,
            bytes: message(BATCH_BEGIN, REQUEST, 0, NFTABLES_BATCH, &[]),
            count: 0,
        }
    }

    /// Makes a table. It belongs to the socket that sends the batch.
    pub(super) fn add_table(&mut self, name: &str) {
        self.message(NEW_TABLE, CREATE | EXCLUSIVE, |attributes| {
            attributes.text(1, name);
            attributes.number(2, TABLE_OWNER);
        });
    }

    /// Adds a base chain to the table `name`.
    pub(super) fn add_chain(&mut self, name: &str, chain: &Chain) {
        self.message(NEW_CHAIN, CREATE, |attributes| {
            attributes.text(1, name);
            attributes.text(3, chain.name);
            attributes.nest(4, |hook| {
                hook.number(1, chain.hook);
                hook.number(2, chain.priority);
            });
            attributes.text(7, chain.kind);
        });
    }

    /// Removes a table with its chains and rules.
    pub(super) fn delete_table(&mut self, name: &str) {
        self.message(DELETE_TABLE, 0, |attributes| attributes.text(1, name));
    }

    /// Appends a rule to a chain.
    pub(super) fn add_rule(
        &mut self,
        table: &str,
        chain: &str,
        fill: impl FnOnce(&mut Attributes),
    ) {
        self.message(NEW_RULE, CREATE | APPEND, |attributes| {
            attributes.text(1, table);
            attributes.text(2, chain);
            attributes.nest(4, fill);
        });
    }

    fn message(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Attributes)) {
        let mut attributes = Attributes(Vec::new());
        fill(&mut attributes);
        self.count += 1;
        let flags = REQUEST | ACKNOWLEDGE | flags;
        let message = message(kind, flags, self.count, (self.family, 0), &attributes.0);
        self.bytes.extend(message);
    }

    /// Sends the transaction and waits for the acknowledgements. Tables that it adds belong to
    /// `socket`.
    pub(super) fn send(mut self, socket: &Socket) -> io::Result<()> {
        let end = message(BATCH_END, REQUEST, self.count + 1, NFTABLES_BATCH, &[]);
        self.bytes.extend(end);
        // Acknowledgements that an earlier, failed batch left unread do not belong to this one.
        let mut unread = Vec::with_capacity(8192);
        while socket.recv(&mut unread, DO_NOT_WAIT).is_ok() {
            unread.clear();
        }
        socket.send(&self.bytes, 0)?;
        let mut waiting = self.count;
        while waiting > 0 {
            let (bytes, _) = socket.recv_from_full()?;
            for (kind, body) in messages(&bytes) {
                if kind == ERROR {
                    outcome(body)?;
                    waiting = waiting.saturating_sub(1);
                }
            }
        }
        Ok(())
    }
}

/// A sequence of netlink attributes.
pub(super) struct Attributes(pub(super) Vec<u8>);

impl Attributes {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.0.extend((4 + value.len() as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn text(&mut self, kind: u16, text: &str) {
        self.bytes(kind, &[text.as_bytes(), &[0]].concat());
    }

    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self(Vec::new());
        fill(&mut inner);
        self.bytes(kind | NESTED, &inner.0);
    }
}

/// A message: netlink header, family and resource, attributes.
pub(crate) fn message(
    kind: u16,
    flags: u16,
    sequence: u32,
    (family, resource): (u8, u16),
    attributes: &[u8],
) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend((20 + attributes.len() as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend([family, 0]);
    message.extend(resource.to_be_bytes());
    message.extend(attributes);
    message
}

/// The messages in a received buffer: their types, and the bytes after their headers.
pub(crate) fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let whole = rest.get(..length)?;
        let kind = u16::from_ne_bytes(whole.get(4..6)?.try_into().ok()?);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, whole.get(16..)?))
    })
}

/// The error code of an error message; 0 is an acknowledgement.
pub(crate) fn outcome(body: &[u8]) -> io::Result<()> {
    let code = body
        .first_chunk()
        .map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(-code))
}

/// The attributes in `bytes`: their types and values.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & KIND, value))
    })
}

const DO_NOT_WAIT: i32 = 0x40;
pub(crate) const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const TABLE_OWNER: u32 = 2;

const EXCLUSIVE: u16 = 0x200;
pub(crate) const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
const KIND: u16 = 0x3fff;

pub(crate) const ERROR: u16 = 2;
pub(crate) const DONE: u16 = 3;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFTABLES: u16 = 10;
const NEW_TABLE: u16 = NFTABLES << 8;
pub(super) const GET_TABLE: u16 = (NFTABLES << 8) | 1;
const DELETE_TABLE: u16 = (NFTABLES << 8) | 2;
const NEW_CHAIN: u16 = (NFTABLES << 8) | 3;
pub(super) const GET_RULE: u16 = (NFTABLES << 8) | 7;
pub(super) const GET_GENERATION: u16 = (NFTABLES << 8) | 16;
pub(super) const GET_CHAIN: u16 = (NFTABLES << 8) | 4;
const NEW_RULE: u16 = (NFTABLES << 8) | 6;

/// Family and resource of the messages that begin and end a batch.
const NFTABLES_BATCH: (u8, u16) = (0, NFTABLES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let mut all = Attributes(Vec::new());
        all.text(1, "abc");
        all.nest(4, |hook| hook.number(1, 4));
        all.bytes(5, &[9]);
        let read: Vec<_> = attributes(&all.0).collect();
        assert_eq!(read[0], (1, &b"abc\0"[..]));
        assert_eq!((read[1].0, read[1].1.len()), (4, 8));
        assert_eq!(read[2], (5, &[9][..]));
        assert_eq!(all.0.len() % 4, 0);
    }
}
