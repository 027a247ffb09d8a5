//! The sessions as `plat sessions` lists them.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nat64::snapshot::{Cursor, SavedSession};
use nat64::{Nat64, TcpState};
use serde::Serialize;
use xlat_core::addr::Ipv6Prefix;
use xlat_host::daemon::wall_clock::epoch;
use xlat_tun::now;

/// Sessions read from a shard while it is locked.
const PAGE: usize = 1024;

/// A list of all sessions, page by page, so that no shard is locked for long.
#[derive(Debug)]
pub struct SessionList {
    cursor: Option<Cursor>,
    client: Option<Ipv6Prefix>,
    json: bool,
}

impl SessionList {
    /// Lists the sessions of all clients, or of those in a prefix, one per line, as text or
    /// as JSON.
    pub fn new(client: Option<Ipv6Prefix>, json: bool) -> Self {
        Self {
            cursor: Some(Cursor::default()),
            client,
            json,
        }
    }

    /// The next page, which may be empty; `None` after the last one.
    ///
    /// # Errors
    /// Never: writing into a string does not fail.
    pub fn next_page(&mut self, nat: &Nat64) -> io::Result<Option<String>> {
        let Some(here) = self.cursor else {
            return Ok(None);
        };
        let epoch = epoch();
        let (sessions, next) = nat.sessions(here, PAGE, now(), epoch);
        let is_wanted = |session: &&SavedSession| {
            let client = session.binding.client;
            self.client.is_none_or(|prefix| prefix.contains(client))
        };
        let mut page = String::new();
        for session in sessions.iter().filter(is_wanted) {
            let external = nat.seen(session.binding.external);
            let line = SessionLine::new(session, external, epoch);
            write_session(&line, self.json, &mut page)?;
        }
        self.cursor = next;
        Ok(Some(page))
    }
}

fn write_session(line: &SessionLine, json: bool, into: &mut String) -> io::Result<()> {
    if json {
        into.push_str(&serde_json::to_string(line)?);
        into.push('\n');
    } else {
        let _ = writeln!(
            into,
            "{:<4} {:<46} {:<21} {:<21} {:<11} {}",
            line.protocol,
            format!("[{}]:{}", line.client, line.client_port),
            format!("{}:{}", line.external, line.external_port),
            format!("{}:{}", line.remote, line.remote_port),
            line.state.unwrap_or("-"),
            humantime::format_duration(Duration::from_secs(line.expires_in_s)),
        );
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct SessionLine {
    protocol: &'static str,
    client: Ipv6Addr,
    client_port: u16,
    external: Ipv4Addr,
    external_port: u16,
    remote: Ipv4Addr,
    remote_port: u16,
    state: Option<&'static str>,
    expires_in_s: u64,
}

impl SessionLine {
    fn new(session: &SavedSession, external: Ipv4Addr, epoch: u64) -> Self {
        let binding = &session.binding;
        Self {
            protocol: binding.protocol.name(),
            client: binding.client,
            client_port: binding.client_port,
            external,
            external_port: binding.external_port,
            remote: session.remote,
            remote_port: session.remote_port,
            state: session.tcp.map(TcpState::name),
            expires_in_s: session.expires.saturating_sub(epoch),
        }
    }
}
