//! The DNS servers that this host knows for a link: those that systemd-resolved or systemd-networkd
//! have for it, or else those of `/etc/resolv.conf`. `xlat_proto` has those that routers announce.
//!
//! Only IPv6 servers count, since there is nothing else on the link. A resolver on this host (dnsmasq,
//! unbound) may ask any server: it comes last.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

/// The servers to ask, in this order: those of the link, then those on this host. IPv4 addresses are
/// IPv4-mapped.
pub(crate) fn to_ask(index: u32) -> Vec<Ipv6Addr> {
    let mut all = of_link(index);
    let text = std::fs::read_to_string(FILES[0]).unwrap_or_default();
    all.extend(of_resolv_conf(&text, local));
    all
}

/// True if the server is on this host. `server` may be IPv4-mapped.
pub(crate) fn is_local(server: Ipv6Addr) -> bool {
    server.to_canonical().is_loopback()
}

/// The last file lists the servers of systemd-resolved; the first lists only its stub.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

fn of_link(index: u32) -> Vec<Ipv6Addr> {
    let lists = [
        ("/run/systemd/resolve/netif", "SERVERS="),
        ("/run/systemd/netif/links", "DNS="),
    ];
    for (directory, key) in lists {
        let file = Path::new(directory).join(index.to_string());
        let servers = std::fs::read_to_string(file).map(|text| of_link_state(&text, key));
        if let Ok(servers) = servers
            && !servers.is_empty()
        {
            return servers;
        }
    }
    let mut lists = FILES.iter().map(|file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        of_resolv_conf(&text, server)
    });
    lists
        .find(|servers| !servers.is_empty())
        .unwrap_or_default()
}

/// A line of a link's state: `SERVERS=2001:db8::53 192.0.2.53`.
fn of_link_state(text: &str, key: &str) -> Vec<Ipv6Addr> {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let servers = line.unwrap_or_default().split_whitespace();
    servers.filter_map(server).collect()
}

fn of_resolv_conf(text: &str, usable: fn(&str) -> Option<Ipv6Addr>) -> Vec<Ipv6Addr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next())?
    });
    lines.filter_map(usable).collect()
}

/// A server on this host.
fn local(text: &str) -> Option<Ipv6Addr> {
    let address: IpAddr = text.split(['%', '#']).next()?.parse().ok()?;
    let mapped = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    is_local(mapped).then_some(mapped)
}

/// The zone of a link-local address, and what systemd-resolved appends, mean nothing here.
fn server(text: &str) -> Option<Ipv6Addr> {
    let address = text.split(['%', '#']).next()?;
    let address: Ipv6Addr = address.trim_matches(['[', ']']).parse().ok()?;
    let usable = !address.is_loopback() && address.to_ipv4_mapped().is_none();
    usable.then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(servers: Vec<Ipv6Addr>) -> Vec<String> {
        servers.iter().map(Ipv6Addr::to_string).collect()
    }

    #[test]
    fn pd_02_only_ipv6_servers_beyond_this_host_count() {
        let text = "# made by hand\nsearch example\nnameserver 192.0.2.53\nnameserver ::1\n\
                    nameserver 2001:db8::53 # first\nnameserver fe80::1%eth0\nnameserver\noptions x\n";
        assert_eq!(
            texts(of_resolv_conf(text, server)),
            ["2001:db8::53", "fe80::1"]
        );
    }

    #[test]
    fn fc_10_resolvers_on_this_host_are_told_from_those_of_the_network() {
        let text = "nameserver 127.0.0.1\nnameserver 2001:db8::53\nnameserver ::1\n\
                    nameserver 127.0.0.53\nnameserver 192.0.2.53\n";
        let local = of_resolv_conf(text, local);
        assert!(local.iter().all(|one| is_local(*one)));
        assert_eq!(
            texts(local),
            ["::ffff:127.0.0.1", "::1", "::ffff:127.0.0.53"]
        );
        assert_eq!(texts(of_resolv_conf(text, server)), ["2001:db8::53"]);
    }

    #[test]
    fn pd_02_systemds_lists_of_a_link_are_read() {
        let text =
            "# This is private data.\nLLMNR=yes\nSERVERS=192.0.2.53 2001:db8::53 fe80::1%2\n";
        let servers = of_link_state(text, "SERVERS=");
        assert_eq!(texts(servers), ["2001:db8::53", "fe80::1"]);
        assert!(of_link_state(text, "DNS=").is_empty());
    }
}
