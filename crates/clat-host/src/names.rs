//! Names of states, of prefixes' sources and of addresses' origins: for programs that read JSON.

use std::fmt;
use std::net::Ipv6Addr;

use serde::Serialize;
use xlat_proto::clat::{Origin, State};
use xlat_proto::discovery::{Found, Source};

/// The name of a state of the CLAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateName {
    /// Nothing was decided yet.
    #[default]
    Starting,
    /// No interface leads to IPv6.
    WaitingForIpv6,
    /// The uplink that was asked for cannot be used.
    WaitingForUplink,
    /// The host has native IPv4.
    NativeIpv4,
    /// Another program brings IPv4 over IPv6.
    OtherClat,
    /// Routers and DNS servers are asked for the NAT64 prefix.
    AskingForPrefix,
    /// No NAT64 prefix is known.
    WaitingForPrefix,
    /// The uplink has no usable IPv6 address.
    WaitingForAddress,
    /// The uplink has no route to the NAT64 prefix.
    WaitingForRoute,
    /// No interface has an address of the LAN.
    WaitingForLan,
    /// The NAT64 prefix contains the host's own addresses.
    PrefixIsLocal,
    /// All addresses that were tried are those of other hosts.
    NoFreeAddress,
    /// Translating.
    Running,
    /// The state could not be reached, and is tried again.
    Failed,
}

impl From<&State> for StateName {
    fn from(state: &State) -> Self {
        match state {
            State::WaitingForIpv6 => Self::WaitingForIpv6,
            State::WaitingForUplink(_) => Self::WaitingForUplink,
            State::NativeIpv4 => Self::NativeIpv4,
            State::OtherClat(_) => Self::OtherClat,
            State::AskingForPrefix(_) => Self::AskingForPrefix,
            State::WaitingForPrefix => Self::WaitingForPrefix,
            State::WaitingForAddress(_) => Self::WaitingForAddress,
            State::WaitingForRoute(..) => Self::WaitingForRoute,
            State::WaitingForLan(_) => Self::WaitingForLan,
            State::PrefixIsLocal(_) => Self::PrefixIsLocal,
            State::NoFreeAddress(_) => Self::NoFreeAddress,
            State::Running(_) => Self::Running,
        }
    }
}

/// How the CLAT's address was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressOrigin {
    /// Given by the administrator.
    Given,
    /// In a prefix that is delegated to this host.
    Delegated,
    /// In the uplink's /64.
    Link,
    /// The uplink's own, shared with this host by ports.
    Shared,
}

impl From<Origin> for AddressOrigin {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Given => Self::Given,
            Origin::Delegated => Self::Delegated,
            Origin::Link => Self::Link,
            Origin::Shared(_) => Self::Shared,
        }
    }
}

impl fmt::Display for AddressOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self {
            Self::Given => Origin::Given,
            Self::Delegated => Origin::Delegated,
            Self::Link => Origin::Link,
            Self::Shared => Origin::Shared(Ipv6Addr::UNSPECIFIED),
        };
        origin.fmt(f)
    }
}

/// Who says a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrefixSource {
    /// The administrator.
    Given,
    /// A router's advertisement.
    Router,
    /// A PCP server.
    Pcp,
    /// The network's DNS64.
    Dns,
}

/// A NAT64 prefix, and who says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrefixStatus {
    /// The prefix.
    pub prefix: String,
    /// Who says it.
    pub prefix_source: PrefixSource,
    /// The address of who says it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_from: Option<Ipv6Addr>,
}

impl From<Found> for PrefixStatus {
    fn from(found: Found) -> Self {
        let (prefix_source, prefix_from) = match found.source {
            Source::Configured => (PrefixSource::Given, None),
            Source::Router(router) => (PrefixSource::Router, Some(router)),
            Source::Pcp(server) => (PrefixSource::Pcp, Some(server)),
            Source::Dns => (PrefixSource::Dns, None),
        };
        Self {
            prefix: found.prefix.to_string(),
            prefix_source,
            prefix_from,
        }
    }
}

impl fmt::Display for PrefixStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match (self.prefix_source, self.prefix_from) {
            (PrefixSource::Router, Some(router)) => Source::Router(router),
            (PrefixSource::Pcp, Some(server)) => Source::Pcp(server),
            (PrefixSource::Given, _) => Source::Configured,
            _ => Source::Dns,
        };
        write!(f, "{}, {source}", self.prefix)
    }
}
