//! Addresses of resolvers in flags and in `/etc/resolv.conf`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};

/// An address, and its port if it is not `port`: 192.0.2.53, 192.0.2.53:5353, 2001:db8::53,
/// \[2001:db8::53\]:5353, fe80::53%eth0 or \[fe80::53%eth0\]:5353.
pub(crate) fn parse(text: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address, port).into());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, end) = rest.split_once(']')?;
            (address, end.strip_prefix(':')?.parse().ok()?)
        }
        None => (text, port),
    };
    let (address, zone) = address.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let index = zone.parse().ok().or_else(|| index_of(zone))?;
    Some(SocketAddrV6::new(address, port, 0, index).into())
}

/// The number of an interface (RFC 4007 section 11).
fn index_of(interface: &str) -> Option<u32> {
    let any = socket(AddressFamily::INET6, SocketType::DGRAM, None).ok()?;
    name_to_index(any, interface).ok()
}

/// The resolvers that the text of a `/etc/resolv.conf` names, without the server's `own` addresses.
pub fn resolv_conf_servers(text: &str, own: &[Ipv6Addr]) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next())?
    });
    servers
        .filter_map(|server| parse(server, 53))
        .filter(|server| !own.iter().any(|own| server.ip() == IpAddr::V6(*own)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_has_port_53_unless_it_is_told() {
        for (text, expected) in [
            ("192.0.2.53", "192.0.2.53:53"),
            ("192.0.2.53:5353", "192.0.2.53:5353"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
            ("fe80::53%lo", "[fe80::53%1]:53"),
            ("fe80::53%7", "[fe80::53%7]:53"),
            ("[fe80::53%lo]:5353", "[fe80::53%1]:5353"),
        ] {
            let parsed = parse(text, 53).map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), Some(expected), "{text}");
        }
        for text in [
            "example.org",
            "fe80::1%none-such",
            "192.0.2.1%lo",
            "[fe80::1%lo]",
            "",
        ] {
            assert_eq!(parse(text, 53), None, "{text}");
        }
    }

    #[test]
    fn dn_33_our_own_address_is_no_upstream() {
        let text = "nameserver 192.0.2.53\nnameserver 2001:db8::1\n# nameserver 192.0.2.1\n\
                    nameserver fe80::2%lo\n";
        let servers = resolv_conf_servers(text, &["2001:db8::1".parse().unwrap()]);
        let servers: Vec<String> = servers.iter().map(SocketAddr::to_string).collect();
        assert_eq!(servers, ["192.0.2.53:53", "[fe80::2%1]:53"]);
    }
}
