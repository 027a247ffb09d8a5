//! A table of our own in nftables, and a look at other people's.
//!
//! The table belongs to the socket that made it (`NFT_TABLE_F_OWNER`, Linux 5.12): the kernel
//! removes it when the socket closes, whatever ends the process, and nobody else can change it.
//! There is nothing to undo and nothing to leave behind. No other table is ever written.
//!
//! The few messages that this takes are encoded here: attributes in the form of netlink, numbers in
//! network byte order.

use std::io;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

/// Sources that hide behind the address of an interface.
#[derive(Debug)]
pub struct Masquerade {
    /// Holds the table.
    _socket: Socket,
}

/// The kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("nftables: {what}: {source}")]
pub struct NftError {
    what: &'static str,
    source: io::Error,
}

/// A chain that drops what it has no rule for, on the way of forwarded packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppingChain {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Name of its table.
    pub table: String,
    /// Its name.
    pub name: String,
}

impl Masquerade {
    /// Makes the table `name`: packets from `sources` that leave by `interface` get its address,
    /// until this is dropped.
    ///
    /// # Errors
    /// What the kernel refuses: CAP_NET_ADMIN and Linux 5.12 are needed, and a free name.
    pub fn start(
        name: &str,
        sources: &[RangeInclusive<Ipv4Addr>],
        interface: &str,
    ) -> Result<Self, NftError> {
        let failed = |what| move |source| NftError { what, source };
        let socket = connect().map_err(failed("no netlink socket"))?;
        let mut batch = Batch::new();
        batch.message(NEW_TABLE, CREATE | EXCLUSIVE, |attributes| {
            attributes.text(1, name);
            attributes.number(2, TABLE_OWNER);
        });
        batch.message(NEW_CHAIN, CREATE, |attributes| {
            attributes.text(1, name);
            attributes.text(3, CHAIN);
            attributes.nest(4, |hook| {
                hook.number(1, POSTROUTING);
                hook.number(2, SOURCE_NAT);
            });
            attributes.text(7, "nat");
        });
        for source in sources {
            batch.message(NEW_RULE, CREATE | APPEND, |attributes| {
                attributes.text(1, name);
                attributes.text(2, CHAIN);
                attributes.nest(4, |rule| masquerade(rule, source, interface));
            });
        }
        batch.send(&socket).map_err(failed(
            "no table of our own (Linux 5.12 with nf_tables is needed)",
        ))?;
        Ok(Self { _socket: socket })
    }
}

/// The equivalent `nft` commands, one a line.
pub fn masquerade_commands(
    name: &str,
    sources: &[RangeInclusive<Ipv4Addr>],
    interface: &str,
) -> Vec<String> {
    let chain = "{ type nat hook postrouting priority srcnat; }";
    let mut commands = vec![
        format!("nft add table ip {name}"),
        format!("nft 'add chain ip {name} {CHAIN} {chain}'"),
    ];
    commands.extend(sources.iter().map(|source| {
        format!(
            "nft add rule ip {name} {CHAIN} oifname {interface} ip saddr {}-{} masquerade",
            source.start(),
            source.end()
        )
    }));
    commands
}

/// Chains that drop forwarded packets unless one of their rules accepts them.
///
/// # Errors
/// What the kernel refuses; without nf_tables there are none.
pub fn dropping_forward_chains() -> Result<Vec<DroppingChain>, NftError> {
    let failed = |source| NftError {
        what: "the chains cannot be listed",
        source,
    };
    let socket = connect().map_err(failed)?;
    let request = message(GET_CHAIN, REQUEST | DUMP, 0, UNSPECIFIED, &[]);
    socket.send(&request, 0).map_err(failed)?;
    let mut chains = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full().map_err(failed)?;
        for (kind, body) in messages(&bytes) {
            match kind {
                DONE => return Ok(chains),
                ERROR => return outcome(body).map(|()| chains).map_err(failed),
                _ => chains.extend(dropping_chain(body)),
            }
        }
    }
}

/// Says in the log who is in the way of the packets that `tun` translates: chains that drop what
/// they do not know.
pub fn warn_of_dropping_chains(tun: &str) {
    let chains = match dropping_forward_chains() {
        Ok(chains) => chains,
        Err(error) => return tracing::debug!("{error}"),
    };
    for chain in chains {
        let (family, table, name) = (chain.family, &chain.table, &chain.name);
        tracing::warn!(
            "chain {name} of table {family} {table} drops forwarded packets that it has no rule \
             for; if translated ones are among them: nft insert rule {family} {table} {name} \
             iifname {tun} accept, and the same with oifname"
        );
    }
}

fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// The expressions of one rule, in registers.
fn masquerade(rule: &mut Attributes, source: &RangeInclusive<Ipv4Addr>, interface: &str) {
    let mut name = [0; 16];
    let length = interface.len().min(15);
    name[..length].copy_from_slice(&interface.as_bytes()[..length]);
    expression(rule, "meta", |meta| {
        meta.number(1, REGISTER);
        meta.number(2, META_OUTPUT_NAME);
    });
    compare(rule, EQUAL, &name);
    expression(rule, "payload", |payload| {
        payload.number(1, REGISTER);
        payload.number(2, NETWORK_HEADER);
        payload.number(3, IPV4_SOURCE);
        payload.number(4, 4);
    });
    compare(rule, AT_LEAST, &source.start().octets());
    compare(rule, AT_MOST, &source.end().octets());
    expression(rule, "masq", |_| {});
}

fn compare(rule: &mut Attributes, operation: u32, value: &[u8]) {
    expression(rule, "cmp", |cmp| {
        cmp.number(1, REGISTER);
        cmp.number(2, operation);
        cmp.nest(3, |data| data.bytes(1, value));
    });
}

fn expression(rule: &mut Attributes, name: &str, data: impl FnOnce(&mut Attributes)) {
    rule.nest(1, |element| {
        element.text(1, name);
        element.nest(2, data);
    });
}

/// Messages that take effect together or not at all.
struct Batch {
    bytes: Vec<u8>,
    count: u32,
}

impl Batch {
    fn new() -> Self {
        Self {
            bytes: message(BATCH_BEGIN, REQUEST, 0, NFTABLES_BATCH, &[]),
            count: 0,
        }
    }

    fn message(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Attributes)) {
        let mut attributes = Attributes(Vec::new());
        fill(&mut attributes);
        self.count += 1;
        let flags = REQUEST | ACKNOWLEDGE | flags;
        let message = message(kind, flags, self.count, IPV4, &attributes.0);
        self.bytes.extend(message);
    }

    fn send(mut self, socket: &Socket) -> io::Result<()> {
        let end = message(BATCH_END, REQUEST, self.count + 1, NFTABLES_BATCH, &[]);
        self.bytes.extend(end);
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

/// Attributes in a row.
struct Attributes(Vec<u8>);

impl Attributes {
    fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.0.extend((4 + value.len() as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn text(&mut self, kind: u16, text: &str) {
        self.bytes(kind, &[text.as_bytes(), &[0]].concat());
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self(Vec::new());
        fill(&mut inner);
        self.bytes(kind | NESTED, &inner.0);
    }
}

/// Netlink header, family and resource, attributes.
fn message(
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

/// The messages in what was read: their kinds, and what is behind their headers.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let whole = rest.get(..length)?;
        let kind = u16::from_ne_bytes(whole.get(4..6)?.try_into().ok()?);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, whole.get(16..)?))
    })
}

/// What an error message says; 0 is none.
fn outcome(body: &[u8]) -> io::Result<()> {
    let code = body
        .first_chunk()
        .map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(-code))
}

/// The attributes in a row: their kinds and values.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & KIND, value))
    })
}

fn dropping_chain(body: &[u8]) -> Option<DroppingChain> {
    let (header, rest) = body.split_at_checked(4)?;
    let family = match header[0] {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        _ => return None,
    };
    let find = |kind| {
        attributes(rest)
            .find(|(one, _)| *one == kind)
            .map(|(_, value)| value)
    };
    let number = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    let hook = find(4)?;
    let hook = attributes(hook).find(|(kind, _)| *kind == 1)?.1;
    if number(hook)? != FORWARD || number(find(5)?)? != DROP {
        return None;
    }
    let text = |bytes: &[u8]| {
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    Some(DroppingChain {
        family,
        table: text(find(1)?),
        name: text(find(3)?),
    })
}

/// Name of the one chain of our table.
const CHAIN: &str = "postrouting";

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const EXCLUSIVE: u16 = 0x200;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
const KIND: u16 = 0x3fff;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFTABLES: u16 = 10;
const NEW_TABLE: u16 = NFTABLES << 8;
const NEW_CHAIN: u16 = (NFTABLES << 8) | 3;
const GET_CHAIN: u16 = (NFTABLES << 8) | 4;
const NEW_RULE: u16 = (NFTABLES << 8) | 6;

/// Family and resource of a message.
const IPV4: (u8, u16) = (2, 0);
const UNSPECIFIED: (u8, u16) = (0, 0);
const NFTABLES_BATCH: (u8, u16) = (0, NFTABLES);

const TABLE_OWNER: u32 = 2;
const FORWARD: u32 = 2;
const POSTROUTING: u32 = 4;
const SOURCE_NAT: u32 = 100;
const DROP: u32 = 0;
const REGISTER: u32 = 1;
const META_OUTPUT_NAME: u32 = 7;
const NETWORK_HEADER: u32 = 1;
/// Place of the source address in an IPv4 header.
const IPV4_SOURCE: u32 = 12;
const EQUAL: u32 = 0;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;

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

    #[test]
    fn a_chain_that_drops_what_is_forwarded_is_recognised() {
        let chain = |hook, policy| {
            let mut all = Attributes(Vec::new());
            all.text(1, "filter");
            all.text(3, "FORWARD");
            all.nest(4, |attributes| attributes.number(1, hook));
            all.number(5, policy);
            dropping_chain(&[&[2, 0, 0, 0][..], &all.0].concat())
        };
        let expected = DroppingChain {
            family: "ip",
            table: "filter".into(),
            name: "FORWARD".into(),
        };
        assert_eq!(chain(FORWARD, DROP), Some(expected));
        assert_eq!(chain(FORWARD, 1), None);
        assert_eq!(chain(1, DROP), None);
        assert_eq!(dropping_chain(&[2, 0, 0]), None);
    }

    #[test]
    fn the_commands_are_those_an_administrator_would_type() {
        let pool = Ipv4Addr::new(192, 168, 64, 0)..=Ipv4Addr::new(192, 168, 64, 255);
        let commands = masquerade_commands("464xlat_nat64", &[pool], "wan0");
        assert_eq!(
            commands.join("\n"),
            "nft add table ip 464xlat_nat64\n\
             nft 'add chain ip 464xlat_nat64 postrouting { type nat hook postrouting priority \
             srcnat; }'\n\
             nft add rule ip 464xlat_nat64 postrouting oifname wan0 ip saddr \
             192.168.64.0-192.168.64.255 masquerade"
        );
    }
}
