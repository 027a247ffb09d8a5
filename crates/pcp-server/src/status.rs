//! What `plat status` and the metrics page show of the server.

use std::fmt::Write as _;
use std::net::{SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use serde::Serialize;
use xlat_core::wire::IpNextHeaderProtocols as Protocols;
use xlat_proto::pcp::{Held, Mapping};
use xlat_tun::counters::Metric;
use xlat_tun::now;

use crate::Shared;
use crate::counters::Figures;

/// Number of mappings, for Prometheus.
pub const MAPPINGS: Metric = Metric::gauge(
    "plat_pcp_mappings",
    "External ports and connections that clients hold by PCP.",
);

/// Reads the status of a running server.
#[derive(Clone, Debug)]
pub struct StatusSource(pub(crate) Arc<Shared>);

/// The status at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Requests since the start.
    pub requests: Figures,
    /// What clients hold.
    pub mappings: Vec<Line>,
}

/// One mapping.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The client's address and port.
    pub client: SocketAddrV6,
    /// What the IPv4 side sees.
    pub external: SocketAddrV4,
    /// The remote peer's address and port, if only the connection to it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddrV6>,
    /// Seconds for which it remains.
    pub remaining_s: u64,
}

impl StatusSource {
    /// The status now.
    pub fn status(&self) -> Status {
        let shared = &self.0;
        let mappings = shared.server().mappings().map(line).collect::<Vec<_>>();
        let seen = |mut line: Line| {
            line.external.set_ip(shared.nat.seen(*line.external.ip()));
            line
        };
        Status {
            requests: shared.counters.snapshot(),
            mappings: mappings.into_iter().map(seen).collect(),
        }
    }
}

impl Status {
    /// Appends a line for people.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_to(&self, f: &mut String) -> std::fmt::Result {
        let Figures {
            done,
            refused,
            malformed,
            ..
        } = self.requests;
        writeln!(
            f,
            "pcp       {} ports held by clients; {done} requests carried out, {refused} refused, \
             {malformed} malformed",
            self.mappings.len()
        )
    }
}

fn line(mapping: &Mapping) -> Line {
    let internal = mapping.internal;
    let is_tcp = internal.protocol == Protocols::Tcp.0;
    Line {
        protocol: if is_tcp { "tcp" } else { "udp" },
        client: SocketAddrV6::new(internal.client, internal.port, 0, 0),
        external: mapping.external,
        peer: match mapping.held {
            Held::Open => None,
            Held::Connection(remote) => Some(SocketAddrV6::new(remote.address, remote.port, 0, 0)),
        },
        remaining_s: mapping.until.saturating_since(now()).as_secs(),
    }
}
