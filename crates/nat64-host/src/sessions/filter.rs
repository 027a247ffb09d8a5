//! Which sessions are meant.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use nat64::{Protocol, TcpState};
use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix};

use super::row::Row;

/// The sessions that are meant; by default all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Only of this protocol.
    pub protocol: Option<Protocol>,
    /// Only with this client.
    pub client: Option<Side<Ipv6Prefix>>,
    /// Only with this external address.
    pub external: Option<Side<Ipv4Prefix>>,
    /// Only with this node outside.
    pub remote: Option<Side<Ipv4Prefix>>,
    /// Only TCP sessions in one of these states, unless there are none.
    pub states: Vec<TcpState>,
}

impl SessionFilter {
    pub(super) fn admits(&self, row: &Row) -> bool {
        self.protocol.is_none_or(|wanted| wanted == row.protocol)
            && (self.client).is_none_or(|side| {
                side.prefix.contains(row.client) && side.has_port(row.client_port)
            })
            && admits4(self.external, row.external, row.external_port)
            && admits4(self.remote, row.remote, row.remote_port)
            && (self.states.is_empty() || row.tcp.is_some_and(|state| self.states.contains(&state)))
    }
}

fn admits4(wanted: Option<Side<Ipv4Prefix>>, address: Ipv4Addr, port: u16) -> bool {
    wanted.is_none_or(|side| side.prefix.contains(address) && side.has_port(port))
}

/// One side of a session: an address, a prefix, or an address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side<P> {
    prefix: P,
    port: Option<u16>,
}

impl<P> Side<P> {
    fn has_port(&self, port: u16) -> bool {
        self.port.is_none_or(|wanted| wanted == port)
    }
}

/// A text that names no side of a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Of an IPv6 side.
    #[error(
        "not an IPv6 address, a prefix (2001:db8::/64) or an address and port ([2001:db8::1]:80)"
    )]
    Ipv6,
    /// Of an IPv4 side.
    #[error("not an IPv4 address, a prefix (192.0.2.0/24) or an address and port (192.0.2.1:80)")]
    Ipv4,
}

impl FromStr for Side<Ipv6Prefix> {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if let Ok(SocketAddr::V6(socket)) = text.parse() {
            let (prefix, port) = (Ipv6Prefix::host(*socket.ip()), Some(socket.port()));
            return Ok(Self { prefix, port });
        }
        let host = text.parse::<Ipv6Addr>().map(Ipv6Prefix::host);
        let prefix = host.or_else(|_| text.parse().map_err(|_| FilterError::Ipv6))?;
        Ok(Self { prefix, port: None })
    }
}

impl FromStr for Side<Ipv4Prefix> {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if let Ok(SocketAddr::V4(socket)) = text.parse() {
            let (prefix, port) = (Ipv4Prefix::host(*socket.ip()), Some(socket.port()));
            return Ok(Self { prefix, port });
        }
        let host = text.parse::<Ipv4Addr>().map(Ipv4Prefix::host);
        let prefix = host.or_else(|_| text.parse().map_err(|_| FilterError::Ipv4))?;
        Ok(Self { prefix, port: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            protocol: Protocol::Tcp,
            client: "2001:db8:1::7".parse().unwrap(),
            client_port: 5000,
            external: "192.0.2.1".parse().unwrap(),
            external_port: 4000,
            remote: "198.51.100.7".parse().unwrap(),
            remote_port: 443,
            tcp: Some(TcpState::Established),
            expires_in_s: 7,
            carried: None,
        }
    }

    fn admits(change: impl FnOnce(&mut SessionFilter)) -> bool {
        let mut filter = SessionFilter::default();
        change(&mut filter);
        filter.admits(&row())
    }

    #[test]
    fn ui_01_a_filter_names_addresses_prefixes_and_ports() {
        assert!(admits(|_| {}));
        assert!(admits(|f| f.protocol = Some(Protocol::Tcp)));
        assert!(!admits(|f| f.protocol = Some(Protocol::Udp)));
        for (text, expected) in [
            ("2001:db8:1::7", true),
            ("2001:db8:1::8", false),
            ("2001:db8:1::/64", true),
            ("2001:db8:2::/64", false),
            ("[2001:db8:1::7]:5000", true),
            ("[2001:db8:1::7]:5001", false),
        ] {
            let side = text.parse().unwrap();
            assert_eq!(admits(|f| f.client = Some(side)), expected, "{text}");
        }
        for (text, expected) in [
            ("198.51.100.7", true),
            ("198.51.100.0/24", true),
            ("198.51.100.7:443", true),
            ("198.51.100.7:80", false),
            ("192.0.2.1", false),
        ] {
            let side = text.parse().unwrap();
            assert_eq!(admits(|f| f.remote = Some(side)), expected, "{text}");
            assert_eq!(admits(|f| f.external = Some(side)), text == "192.0.2.1");
        }
        assert!(admits(
            |f| f.states = vec![TcpState::Trans, TcpState::Established]
        ));
        assert!(!admits(|f| f.states = vec![TcpState::Trans]));
        let udp = Row {
            protocol: Protocol::Udp,
            tcp: None,
            ..row()
        };
        let states = vec![TcpState::Established];
        let filter = SessionFilter {
            states,
            ..SessionFilter::default()
        };
        assert!(!filter.admits(&udp));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "eth0",
            "192.0.2.1",
            "2001:db8::1/64",
            "[::1]",
            "::1/129",
        ] {
            let side = text.parse::<Side<Ipv6Prefix>>();
            assert_eq!(side, Err(FilterError::Ipv6), "{text}");
        }
        for text in ["", "::1", "192.0.2.1/24", "192.0.2.1:65536", "192.0.2"] {
            let side = text.parse::<Side<Ipv4Prefix>>();
            assert_eq!(side, Err(FilterError::Ipv4), "{text}");
        }
    }
}
