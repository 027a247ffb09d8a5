//! Addresses of resolvers in flags and in `/etc/resolv.conf`.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};

use crate::config::Upstream;

/// An address, and its port if it is not `port`: 192.0.2.53, 192.0.2.53:5353, 2001:db8::53,
/// \[2001:db8::53\]:5353, fe80::53%eth0 or \[fe80::53%eth0\]:5353. A zone comes apart from it, for the
/// interface may come later or come back with another number.
pub(crate) fn parse(text: &str, port: u16) -> Option<(SocketAddr, Option<String>)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(((address, port).into(), None));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address, None));
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
    let is_name = (1..=NAME_MAX).contains(&zone.len())
        && zone
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/');
    is_name.then(|| ((address, port).into(), Some(zone.to_owned())))
}

/// Maximum length of an interface's name, in bytes.
const NAME_MAX: usize = 15;

/// The number of a zone, by its name or number (RFC 4007 section 11).
///
/// # Errors
/// If there is no such interface now.
pub(crate) fn index_of(zone: &str) -> io::Result<u32> {
    if let Ok(index) = zone.parse() {
        return Ok(index);
    }
    let any = socket(AddressFamily::INET6, SocketType::DGRAM, None)?;
    Ok(name_to_index(any, zone)?)
}

/// The resolvers that the text of a `/etc/resolv.conf` names, without the server's `own` addresses.
pub(crate) fn resolv_conf_servers(text: &str, own: &[Ipv6Addr]) -> Vec<Upstream> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next())?
    });
    servers
        .filter_map(|server| parse(server, 53).map(Upstream::from))
        .filter(|server| {
            !own.iter()
                .any(|own| server.address.ip() == IpAddr::V6(*own))
        })
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
            ("fe80::53%lo", "[fe80::53%lo]:53"),
            ("fe80::53%7", "[fe80::53%7]:53"),
            ("[fe80::53%lo]:5353", "[fe80::53%lo]:5353"),
            // It may come later.
            ("fe80::1%ppp0", "[fe80::1%ppp0]:53"),
        ] {
            let parsed = parse(text, 53).map(|parsed| Upstream::from(parsed).to_string());
            assert_eq!(parsed.as_deref(), Some(expected), "{text}");
        }
        for text in [
            "example.org",
            "fe80::1%",
            "fe80::1%a/b",
            "fe80::1%longer-than-a-name",
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
        let servers: Vec<String> = servers.iter().map(Upstream::to_string).collect();
        assert_eq!(servers, ["192.0.2.53:53", "[fe80::2%lo]:53"]);
    }
}
