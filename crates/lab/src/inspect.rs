//! The set-up of a namespace as text, to compare before and after: links, addresses, routes, rules
//! and neighbours as the kernel lists them, and every value below `net/*/conf`.

use std::collections::{BTreeSet, HashMap};
use std::panic::Location;
use std::path::Path;

use anyhow::{Result, ensure};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};

use crate::namespace::Namespace;
use crate::netlink::Dump;

/// A line for each fact, sorted.
pub type Facts = BTreeSet<String>;

/// Looks at everything that a daemon may change in a namespace.
///
/// # Errors
/// When the kernel does not answer.
pub fn inspect(namespace: &Namespace) -> Result<Facts> {
    namespace.run(|| {
        let mut facts = lines(&Dump::take()?);
        for family in ["ipv4", "ipv6"] {
            let directory = format!("/proc/sys/net/{family}/conf");
            read_below(Path::new(&directory), &mut facts)?;
        }
        let addresses = std::fs::read_to_string("/proc/thread-self/net/if_inet6")?;
        facts.extend(addresses.lines().map(str::to_owned));
        Ok(facts)
    })
}

/// What is different: lines that went with `-`, lines that came with `+`.
#[must_use]
pub fn difference(before: &Facts, after: &Facts) -> Vec<String> {
    let gone = before.difference(after).map(|line| format!("- {line}"));
    let new = after.difference(before).map(|line| format!("+ {line}"));
    gone.chain(new).collect()
}

/// Checks that a namespace is as it was.
///
/// # Errors
/// When it is not, with what is different.
#[track_caller]
pub fn ensure_unchanged(before: &Facts, namespace: &Namespace) -> Result<()> {
    let caller = Location::caller();
    let changed = difference(before, &inspect(namespace)?);
    ensure!(changed.is_empty(), "{caller}: {changed:?}");
    Ok(())
}

/// The names of interfaces by their numbers.
type Names = HashMap<u32, String>;

fn lines(dump: &Dump) -> Facts {
    let names = dump
        .links
        .iter()
        .map(|link| (link.header.index, name(link)));
    let names = names.collect::<Names>();
    let is_learned = |route: &RouteMessage| route.header.flags.contains(RouteFlags::Cloned);
    let is_permanent =
        |neighbour: &&NeighbourMessage| neighbour.header.state == NeighbourState::Permanent;
    let mut facts = Facts::new();
    facts.extend(dump.links.iter().map(link_line));
    facts.extend(dump.addresses.iter().map(|each| address_line(each, &names)));
    // Path MTUs and redirects that the kernel has learned are no set-up.
    let routes = dump.routes.iter().filter(|route| !is_learned(route));
    facts.extend(routes.map(|route| route_line(route, &names)));
    facts.extend(dump.rules.iter().map(|rule| format!("rule {rule:?}")));
    let neighbours = dump.neighbours.iter().filter(is_permanent);
    facts.extend(neighbours.map(|each| neighbour_line(each, &names, false)));
    let proxies = dump.proxies.iter();
    facts.extend(proxies.map(|each| neighbour_line(each, &names, true)));
    facts
}

fn name(link: &LinkMessage) -> String {
    let name = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
    name.unwrap_or_default()
}

fn link_line(link: &LinkMessage) -> String {
    let mtu = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
    let up = link.header.flags.contains(LinkFlags::Up);
    format!("link {} mtu {} up {up}", name(link), mtu.unwrap_or(0))
}

fn address_line(message: &AddressMessage, names: &Names) -> String {
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(address.to_string()),
            _ => None,
        });
    format!(
        "address {}/{} dev {}",
        address.unwrap_or_default(),
        message.header.prefix_len,
        known(names, message.header.index)
    )
}

fn route_line(route: &RouteMessage, names: &Names) -> String {
    let header = &route.header;
    let mut line = format!(
        "route {:?} {:?} proto {:?} len {}",
        header.address_family, header.kind, header.protocol, header.destination_prefix_length
    );
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => line += &format!(" dev {}", known(names, *index)),
            RouteAttribute::CacheInfo(_) | RouteAttribute::Expires(_) => {}
            other => line += &format!(" {other:?}"),
        }
    }
    line
}

fn neighbour_line(neighbour: &NeighbourMessage, names: &Names, proxy: bool) -> String {
    let to = neighbour
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(address) => Some(format!("{address:?}")),
            _ => None,
        });
    let (to, dev) = (to.unwrap_or_default(), neighbour.header.ifindex);
    format!("neighbour {to} dev {} proxy {proxy}", known(names, dev))
}

fn known(names: &Names, index: u32) -> &str {
    names.get(&index).map_or("?", String::as_str)
}

fn read_below(directory: &Path, facts: &mut Facts) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            read_below(&path, facts)?;
        } else if let Ok(value) = std::fs::read_to_string(&path) {
            // Some parameters cannot be read before they have been written.
            facts.insert(format!("{} = {}", path.display(), value.trim()));
        }
    }
    Ok(())
}
