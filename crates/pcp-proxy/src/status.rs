//! What `clat status` shows of the ports that hosts have.

use std::fmt::Write as _;
use std::net::SocketAddrV4;

use serde::Serialize;
use xlat_core::Instant;
use xlat_proto::pcp::proxy::{Held, Proxy};

/// The ports that hosts have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// True if a PCP server of the network has answered.
    pub server: bool,
    /// What hosts hold.
    pub mappings: Vec<Line>,
}

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The host's address and port.
    pub host: SocketAddrV4,
    /// What the IPv4 side sees.
    pub external: SocketAddrV4,
    /// Seconds for which it remains.
    pub remaining_s: u64,
}

impl Status {
    /// Lines for people; none where no server has answered.
    pub fn to_text(&self) -> String {
        if !self.server && self.mappings.is_empty() {
            return String::new();
        }
        let mut text = format!(
            "pcp       {} ports held by IPv4 hosts\n",
            self.mappings.len()
        );
        for Line {
            protocol,
            host,
            external,
            remaining_s,
        } in &self.mappings
        {
            let _ = writeln!(
                text,
                "          {external} {protocol} leads to {host}, for {remaining_s} s"
            );
        }
        text
    }

    pub(crate) fn new(proxy: &Proxy, now: Instant) -> Self {
        Self {
            server: proxy.has_server(),
            mappings: proxy.held().map(|held| line(held, now)).collect(),
        }
    }
}

fn line(held: Held, now: Instant) -> Line {
    const TCP: u8 = 6;
    Line {
        protocol: if held.protocol == TCP { "tcp" } else { "udp" },
        host: held.host,
        external: held.external,
        remaining_s: held.until.saturating_since(now).as_secs(),
    }
}
