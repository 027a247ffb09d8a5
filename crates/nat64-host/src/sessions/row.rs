//! A session as a line for people, and as an object for programs.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nat64::event::SessionEntry;
use nat64::offload::{Carried, Load};
use nat64::snapshot::SavedSession;
use nat64::{Protocol, TcpState};
use serde::ser::{Serialize, SerializeMap, Serializer};
use xlat_host::daemon::control::SCHEMA;

/// What is shown of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) protocol: Protocol,
    pub(super) client: Ipv6Addr,
    pub(super) client_port: u16,
    pub(super) external: Ipv4Addr,
    pub(super) external_port: u16,
    pub(super) remote: Ipv4Addr,
    pub(super) remote_port: u16,
    pub(super) tcp: Option<TcpState>,
    pub(super) expires_in_s: u64,
    /// By the kernel, since it took the session over.
    pub(super) carried: Option<Carried>,
}

/// The names of the columns of a line.
pub(super) struct Heading;

impl Row {
    /// `external` is the address that the IPv4 side sees.
    pub(super) fn listed(session: &SavedSession, external: Ipv4Addr, epoch: u64) -> Self {
        let binding = &session.binding;
        Self {
            protocol: binding.protocol,
            client: binding.client,
            client_port: binding.client_port,
            external,
            external_port: binding.external_port,
            remote: session.remote,
            remote_port: session.remote_port,
            tcp: session.tcp,
            expires_in_s: session.expires.saturating_sub(epoch),
            carried: None,
        }
    }

    /// Of a change, after which the session lives for `left`.
    pub(super) fn changed(entry: &SessionEntry, external: Ipv4Addr, left: Duration) -> Self {
        let (record, binding) = (&entry.record, &entry.record.binding);
        Self {
            protocol: binding.protocol,
            client: binding.client,
            client_port: binding.client_port,
            external,
            external_port: binding.external_port,
            remote: record.remote,
            remote_port: record.remote_port,
            tcp: entry.tcp,
            expires_in_s: left.as_secs(),
            carried: None,
        }
    }

    /// Packets in both directions.
    pub(super) fn packets(&self) -> u64 {
        let sum = |carried: Carried| carried.from_client.packets + carried.from_remote.packets;
        self.carried.map_or(0, sum)
    }

    /// Bytes in both directions.
    pub(super) fn bytes(&self) -> u64 {
        let sum = |carried: Carried| carried.from_client.bytes + carried.from_remote.bytes;
        self.carried.map_or(0, sum)
    }

    /// The endpoints and the state, in columns.
    pub(super) fn write_ends(&self, into: &mut String) -> fmt::Result {
        write!(
            into,
            "{:<8} {:<41} {:<21} {:<21} {:<11}",
            self.protocol.name(),
            format!("[{}]:{}", self.client, self.client_port),
            format!("{}:{}", self.external, self.external_port),
            format!("{}:{}", self.remote, self.remote_port),
            self.tcp.map_or("-", TcpState::name),
        )
    }

    /// A whole line.
    pub(super) fn write_to(&self, into: &mut String) -> fmt::Result {
        self.write_ends(into)?;
        let ends = humantime::format_duration(Duration::from_secs(self.expires_in_s)).to_string();
        let pair = |of: fn(Load) -> u64| match self.carried {
            Some(carried) => format!("{}/{}", of(carried.from_client), of(carried.from_remote)),
            None => "-".to_owned(),
        };
        let (packets, bytes) = (pair(|load| load.packets), pair(|load| load.bytes));
        writeln!(into, " {ends:<9} {packets:<14} {bytes}")
    }
}

impl Heading {
    pub(super) fn write_ends(into: &mut String) -> fmt::Result {
        write!(
            into,
            "{:<8} {:<41} {:<21} {:<21} {:<11}",
            "PROTOCOL", "CLIENT", "EXTERNAL", "REMOTE", "STATE"
        )
    }

    pub(super) fn write_to(into: &mut String) -> fmt::Result {
        Self::write_ends(into)?;
        writeln!(
            into,
            " {:<9} {:<14} BYTES OUT/IN",
            "ENDS IN", "PACKETS OUT/IN"
        )
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", &SCHEMA)?;
        map.serialize_entry("protocol", self.protocol.name())?;
        map.serialize_entry("client", &self.client)?;
        map.serialize_entry("client_port", &self.client_port)?;
        map.serialize_entry("external", &self.external)?;
        map.serialize_entry("external_port", &self.external_port)?;
        map.serialize_entry("remote", &self.remote)?;
        map.serialize_entry("remote_port", &self.remote_port)?;
        map.serialize_entry("state", &self.tcp.map(TcpState::name))?;
        map.serialize_entry("expires_in_s", &self.expires_in_s)?;
        if let Some(carried) = self.carried {
            map.serialize_entry("packets_out", &carried.from_client.packets)?;
            map.serialize_entry("bytes_out", &carried.from_client.bytes)?;
            map.serialize_entry("packets_in", &carried.from_remote.packets)?;
            map.serialize_entry("bytes_in", &carried.from_remote.bytes)?;
        }
        map.end()
    }
}
