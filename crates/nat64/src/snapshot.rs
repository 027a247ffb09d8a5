//! Sessions as text: what is saved across a restart, and what a list of sessions shows.
//!
//! One line per session; its binding is in the line. Reading and writing the file is the caller's
//! work. A NAT64 takes its sessions up again only if it has the same seed as before, because the
//! seed decides which shard a subscriber belongs to: the caller saves it too.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use xlat_core::addr::Pref64;

use crate::event::{BindingRecord, SessionEntry};
use crate::tcp::TcpState;
use crate::tuple::Protocol;

/// A session, as it is saved and listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedSession {
    /// Its binding.
    pub binding: BindingRecord,
    /// The IPv4 node outside.
    pub remote: Ipv4Addr,
    /// That node's port; 0 for ICMP.
    pub remote_port: u16,
    /// The NAT64 prefix that the client uses.
    pub pref64: Pref64,
    /// State of a TCP session.
    pub tcp: Option<TcpState>,
    /// When its lifetime ends, in seconds since 1970.
    pub expires: u64,
}

/// A session in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedSession {
    /// The session.
    pub session: SavedSession,
    /// Its entry, if its packets are carried below the workers.
    pub installed: Option<SessionEntry>,
}

/// Why a saved session was not restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// The line is not a session.
    #[error("not a session")]
    Malformed,
    /// Its lifetime is over.
    #[error("its lifetime is over")]
    Expired,
    /// The NAT64 prefix is not in use any more.
    #[error("its NAT64 prefix is not in use any more")]
    Prefix,
    /// The external port is not one that the pool would give this client.
    #[error("its external port is not one that the pool would give this client")]
    NotInPool,
    /// One of its transport addresses is taken.
    #[error("one of its transport addresses is taken")]
    Taken,
    /// The tables are full.
    #[error("the tables are full")]
    Full,
}

/// Where a list of sessions goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) shard: u32,
    pub(crate) handle: u32,
}

impl fmt::Display for SavedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binding = &self.binding;
        write!(
            f,
            "{} {} {} {} {} {} {} {} {} {}",
            binding.protocol.name(),
            binding.client,
            binding.client_port,
            binding.external,
            binding.external_port,
            self.remote,
            self.remote_port,
            self.pref64.prefix(),
            self.tcp.map_or("-", TcpState::name),
            self.expires,
        )
    }
}

impl FromStr for SavedSession {
    type Err = SkipReason;

    fn from_str(line: &str) -> Result<Self, SkipReason> {
        let mut fields = line.split_ascii_whitespace();
        let session = parse(&mut fields).ok_or(SkipReason::Malformed)?;
        let is_tcp = session.binding.protocol == Protocol::Tcp;
        if fields.next().is_some() || session.tcp.is_some() != is_tcp {
            return Err(SkipReason::Malformed);
        }
        Ok(session)
    }
}

fn parse<'a>(fields: &mut impl Iterator<Item = &'a str>) -> Option<SavedSession> {
    let protocol = fields.next()?;
    let binding = BindingRecord {
        protocol: Protocol::ALL
            .into_iter()
            .find(|one| one.name() == protocol)?,
        client: field::<Ipv6Addr>(fields)?,
        client_port: field(fields)?,
        external: field(fields)?,
        external_port: field(fields)?,
    };
    Some(SavedSession {
        binding,
        remote: field(fields)?,
        remote_port: field(fields)?,
        pref64: field(fields)?,
        tcp: match fields.next()? {
            "-" => None,
            name => Some(TcpState::ALL.into_iter().find(|one| one.name() == name)?),
        },
        expires: field(fields)?,
    })
}

fn field<'a, T: FromStr>(fields: &mut impl Iterator<Item = &'a str>) -> Option<T> {
    fields.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 3] = [
        "udp 2001:db8::7 5000 192.0.2.1 4000 198.51.100.7 53 64:ff9b::/96 - 1790000000",
        "tcp 2001:db8::7 5000 192.0.2.1 4000 198.51.100.7 53 2001:db8:64::/96 v4-v6-fin 1790000000",
        "icmp 2001:db8::7 0 192.0.2.1 65535 198.51.100.7 0 64:ff9b::/96 - 0",
    ];

    #[test]
    fn a_line_reads_back_the_same() {
        for line in LINES {
            let session: SavedSession = line.parse().unwrap();
            assert_eq!(session.to_string(), line);
        }
        let session: SavedSession = LINES[1].parse().unwrap();
        assert_eq!(session.binding.client_port, 5000);
        assert_eq!(session.binding.external, Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(session.tcp, Some(TcpState::V4V6Fin));
    }

    #[test]
    fn se_01_no_damaged_line_is_taken_for_a_session() {
        for line in LINES {
            let cut = (0..line.len() - 10).map(|end| line[..end].to_owned());
            let wrong = [
                line.replace("udp", "tcp")
                    .replace("icmp", "tcp")
                    .replace("v4-v6-fin", "-"),
                line.replace("192.0.2.1", "192.0.2.256"),
                line.replace("5000", "65536").replace(" 0 192", " x 192"),
                line.replace("/96", "/95"),
                format!("{line} more"),
            ];
            for damaged in cut.chain(wrong) {
                let parsed = damaged.parse::<SavedSession>();
                assert_eq!(parsed, Err(SkipReason::Malformed), "{damaged}");
            }
        }
    }
}
