//! Finds chains of other programs that drop translated packets, and follows them.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use netlink_sys::Socket;
use serde::Serialize;

use super::NftError;
use super::message::{
    DONE, DUMP, ERROR, GET_CHAIN, GET_GENERATION, GET_RULE, REQUEST, attributes, connect, message,
    messages, outcome,
};
use super::ruleset::{IP, IP6, Ruleset};

/// A chain that drops new connections of the translator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DroppingChain {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Name of its table.
    pub table: String,
    /// Name of the chain.
    #[serde(rename = "chain")]
    pub name: String,
}

/// Chains that drop what `tun` translates: by their policy or a last rule for every packet (as
/// firewalld does), also in a chain that they jump to, unless rules about `tun` accept it before.
///
/// # Errors
/// If the kernel refuses; also where it has no nf_tables.
pub fn dropping_forward_chains(tun: &str) -> Result<Vec<DroppingChain>, NftError> {
    let failed = |source| NftError {
        what: "the chains cannot be listed",
        table: None,
        source,
    };
    let socket = connect().map_err(failed)?;
    let mut all = Ruleset::default();
    dump(&socket, GET_CHAIN, |body| all.add_chain(body)).map_err(failed)?;
    dump(&socket, GET_RULE, |body| all.add_rule(body)).map_err(failed)?;
    let dropping = all.dropping(tun).into_iter();
    Ok(dropping
        .map(|(family, table, name)| DroppingChain {
            family: match family {
                IP => "ip",
                IP6 => "ip6",
                _ => "inet",
            },
            table,
            name,
        })
        .collect())
}

/// Follows the chains that drop what a TUN translates. Firewalls are loaded again, and Docker comes
/// after the daemon.
#[derive(Debug)]
pub struct ForwardWatch {
    tun: String,
    /// The ruleset that was looked at, by the kernel's number for it.
    generation: Option<u32>,
    dropping: Vec<DroppingChain>,
    found: DroppingChains,
}

/// The chains that drop translated packets, for status and metrics.
pub type DroppingChains = Arc<Mutex<Vec<DroppingChain>>>;

impl ForwardWatch {
    /// Nothing looked at yet.
    pub fn new(tun: &str) -> Self {
        Self {
            tun: tun.into(),
            generation: None,
            dropping: Vec::new(),
            found: Arc::default(),
        }
    }

    /// The chains that drop translated packets, at any time.
    pub fn found(&self) -> DroppingChains {
        Arc::clone(&self.found)
    }

    /// Looks at the ruleset if it has changed since the last call. Warns in the log about chains
    /// that drop translated packets, and says when one no longer does.
    pub fn look(&mut self) {
        let generation = generation().ok().flatten();
        if generation.is_some() && generation == self.generation {
            return;
        }
        let dropping = match dropping_forward_chains(&self.tun) {
            Ok(dropping) => dropping,
            Err(error) => return tracing::debug!("{error}"),
        };
        for chain in dropping.iter().filter(|one| !self.dropping.contains(one)) {
            chain.warn(&self.tun);
        }
        for chain in self.dropping.iter().filter(|one| !dropping.contains(one)) {
            tracing::info!("{chain} no longer drops translated packets");
        }
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&dropping);
        (self.generation, self.dropping) = (generation, dropping);
    }
}

impl fmt::Display for DroppingChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (family, table, name) = (self.family, &self.table, &self.name);
        write!(f, "chain {name} of table {family} {table}")
    }
}

impl DroppingChain {
    fn warn(&self, tun: &str) {
        let (family, table, name) = (self.family, &self.table, &self.name);
        tracing::warn!(
            "{self} drops forwarded packets that it has no rule \
             for, translated ones among them; to accept these: nft insert rule {family} {table} \
             {name} iifname {tun} accept, and the same with oifname"
        );
    }
}

/// Warns in the log about chains that drop the packets that `tun` translates.
pub fn warn_of_dropping_chains(tun: &str) {
    ForwardWatch::new(tun).look();
    warn_of_legacy_rules();
}

/// Says in the log that there are rules which are not looked at.
pub fn warn_of_legacy_rules() {
    for (command, list) in [
        ("iptables-legacy", "/proc/thread-self/net/ip_tables_names"),
        ("ip6tables-legacy", "/proc/thread-self/net/ip6_tables_names"),
    ] {
        let tables = std::fs::read_to_string(list).unwrap_or_default();
        if tables.lines().any(|table| table == "filter") {
            tracing::info!(
                "this host has rules of {command}, which are not looked at; if translated packets \
                 do not pass, see {command} -S FORWARD"
            );
        }
    }
}

/// The number of the present ruleset, which each change makes another one.
fn generation() -> io::Result<Option<u32>> {
    let socket = connect()?;
    socket.send(&message(GET_GENERATION, REQUEST, 0, UNSPECIFIED, &[]), 0)?;
    let (bytes, _) = socket.recv_from_full()?;
    let mut generation = None;
    for (kind, body) in messages(&bytes) {
        if kind == ERROR {
            outcome(body)?;
        } else {
            let attributes = body.get(4..).unwrap_or_default();
            generation = find(attributes, 1).and_then(number);
        }
    }
    Ok(generation)
}

pub(super) fn dump(socket: &Socket, what: u16, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    socket.send(&message(what, REQUEST | DUMP, 0, UNSPECIFIED, &[]), 0)?;
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

pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut all = attributes(bytes);
    all.find_map(|(one, value)| (one == kind).then_some(value))
}

pub(super) fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

pub(super) fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

const UNSPECIFIED: (u8, u16) = (0, 0);
