//! Jool: the JSON of its atomic configuration, lists of its commands, and its binding table as CSV.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use xlat_core::addr::{Eam, Ipv4Prefix, Ipv6Prefix};

use crate::found::{Found, Role};
use crate::json::{self, Json, Node};
use crate::text::{At, Origin, Text, Word};

pub(crate) use commands::read as read_commands;

mod commands;
mod global;

/// What `jool` and `jool_siit` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nat64,
    Siit,
}

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "icmp"];

/// An entry of pool4.
#[derive(Clone, Debug)]
struct Entry {
    protocol: usize,
    prefix: Ipv4Prefix,
    ports: (u16, u16),
    from: Origin,
}

/// What an instance has, as far as it must be seen as a whole.
#[derive(Debug)]
struct Instance {
    kind: Kind,
    pool: Vec<Entry>,
    /// Entries of pool4 were left out.
    has_marked: bool,
    has_maps: bool,
    tos: Option<(u64, Origin)>,
    override_tos: Option<Origin>,
}

impl Instance {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            pool: Vec::new(),
            has_marked: false,
            has_maps: false,
            tos: None,
            override_tos: None,
        }
    }

    fn pool_entry(&mut self, found: &mut Found, words: &PoolWords, from: &Origin) {
        if words.mark.as_ref().is_some_and(|mark| mark.text != "0") {
            self.has_marked = true;
            found.leave(from, "plat does not choose a pool by the mark of packets");
            return;
        }
        let Some(protocol) = self.protocol(found, &words.protocol) else {
            return;
        };
        let prefix = found.parse::<Ipv4Prefix>(&with_length(&words.prefix, 32), "an IPv4 prefix");
        let ports = match &words.ports {
            Some(word) => port_range(found, word),
            None => Some((61001, 65535)),
        };
        if let (Some(prefix), Some(ports)) = (prefix, ports) {
            self.pool.push(Entry {
                protocol,
                prefix,
                ports,
                from: from.clone(),
            });
        }
    }

    fn protocol(&self, found: &mut Found, word: &Word) -> Option<usize> {
        let protocol = PROTOCOLS.iter().position(|known| word.is(known));
        if protocol.is_none() {
            let message = format!("`{}` is none of TCP, UDP, ICMP", word.text);
            found.error(&word.at, message);
        }
        protocol
    }

    /// A static entry of the binding table.
    fn binding(&mut self, found: &mut Found, words: [&Word; 3], from: &Origin) {
        let [protocol, v6, v4] = words;
        let protocol = self.protocol(found, protocol);
        let v6 = transport(found, v6, "an IPv6 address and port, as in 2001:db8::1#80");
        let v4 = transport(found, v4, "an IPv4 address and port, as in 192.0.2.1#80");
        let (Some(protocol), Some((v6, inner)), Some((v4, outer))) = (protocol, v6, v4) else {
            return;
        };
        bind(found, protocol, (v6, inner), (v4, outer), from);
    }

    fn map(&mut self, found: &mut Found, v6: &Word, v4: &Word, from: &Origin) {
        let v4_prefix = found.parse::<Ipv4Prefix>(&with_length(v4, 32), "an IPv4 prefix");
        let v6_prefix = found.parse::<Ipv6Prefix>(&with_length(v6, 128), "an IPv6 prefix");
        let (Some(v4_prefix), Some(v6_prefix)) = (v4_prefix, v6_prefix) else {
            return;
        };
        match Eam::new(v4_prefix, v6_prefix) {
            Ok(eam) => {
                self.has_maps = true;
                found.set("map", eam.to_string(), from);
            }
            Err(error) => found.error(&v4.at, error.to_string()),
        }
    }

    fn denied(found: &mut Found, word: &Word, from: &Origin) {
        if found
            .parse::<Ipv4Prefix>(&with_length(word, 32), "an IPv4 prefix")
            .is_some()
        {
            found.leave(
                from,
                "plat translates what its maps say: leave these addresses out of them, or drop their \
                 packets in the FORWARD chain, which sees all that plat translates",
            );
        }
    }

    /// What must be seen as a whole.
    fn finish(self, found: &mut Found, at: &At) {
        match (&self.override_tos, &self.tos) {
            (Some(_), Some((tos, from))) => found.set("tos", *tos, from),
            (Some(from), None) => found.set("tos", 0_u64, from),
            (None, Some((_, from))) => found.leave(from, "it counts with override-tos only"),
            (None, None) => {}
        }
        match self.kind {
            Kind::Siit if !self.has_maps => found.error(
                at,
                "a stateless translator without EAMT entries: plat must know which hosts are on its \
                 IPv6 side; add them as EAMT entries, or write a file with `translatable` by hand",
            ),
            Kind::Siit => found.differs(
                "Jool drops UDP datagrams without a checksum unless amend-udp-checksum-zero is on; \
                 plat computes it (`udp-zero-checksum = \"drop\"` drops them)",
            ),
            Kind::Nat64 => self.finish_nat64(found, at),
        }
        found.differs(
            "packets that Jool translates skip the FORWARD chain of the host's firewall; those of \
             plat pass it twice, as IPv6 and as IPv4, through the interface of `tun`",
        );
        found.differs(
            "Jool does not translate packets of this host itself; plat does, if `client` admits them",
        );
    }

    fn finish_nat64(self, found: &mut Found, at: &At) {
        let from = Origin {
            at: at.clone(),
            text: "Jool serves every IPv6 source".into(),
        };
        found.set("client", "::/0", &from);
        found.differs(
            "established TCP connections stay for 2 h 4 min in plat (RFC 5382), and for 2 h in Jool, \
             unless tcp-est-timeout is set",
        );
        found.differs(
            "clients reach the IPv4 addresses of this host through Jool; through plat with \
             `expose-host = true` only",
        );
        if self.pool.is_empty() {
            if self.has_marked {
                found.error(at, "no entry of pool4 is left: all have a mark");
                return;
            }
            found.differs(
                "with an empty pool4 Jool uses ports 61001 to 65535 of all addresses of this host; \
                 plat uses ports 10000 to 32767 of the address of the interface with the IPv4 default \
                 route (`pool = [\"IFACE:61001-65535\"]` keeps the ports)",
            );
            return;
        }
        self.carry_pool(found, at);
        found.differs(
            "addresses in `pool` must be routed to this host; where one is assigned to an interface \
             of it, as Jool's usually are, write the interface: `pool = [\"IFACE:LOW-HIGH\"]`",
        );
    }

    /// One pool for all protocols: what all that are given have in common.
    fn carry_pool(&self, found: &mut Found, at: &At) {
        let given = (0..PROTOCOLS.len()).filter(|protocol| {
            let mut pool = self.pool.iter();
            pool.any(|entry| entry.protocol == *protocol)
        });
        let given: Vec<usize> = given.collect();
        let of = |protocol: usize| {
            let entries = self
                .pool
                .iter()
                .filter(move |entry| entry.protocol == protocol);
            merged(entries.cloned().collect())
        };
        let lists: Vec<Vec<Entry>> = given.iter().map(|protocol| of(*protocol)).collect();
        let Some((first, others)) = lists.split_first() else {
            return;
        };
        let common = others.iter().fold(first.clone(), |common, other| {
            let pairs = common
                .iter()
                .flat_map(|one| other.iter().map(move |two| (one, two)));
            merged(pairs.filter_map(|(one, two)| both(one, two)).collect())
        });
        let shape = |list: &[Entry]| -> Vec<(Ipv4Prefix, (u16, u16))> {
            list.iter()
                .map(|entry| (entry.prefix, entry.ports))
                .collect()
        };
        if common.is_empty() {
            found.error(
                at,
                "pool4 has no ports that all of its protocols have: plat hands out the same for all",
            );
        }
        let names: Vec<&str> = given.iter().map(|protocol| PROTOCOLS[*protocol]).collect();
        if lists.iter().any(|list| shape(list) != shape(&common)) {
            found.differs(format!(
                "pool4 has different ports for {}; plat hands out the same for all protocols: those \
                 that these have in common",
                names.join(", ")
            ));
        }
        if given.len() < PROTOCOLS.len() {
            found.differs(format!(
                "pool4 has entries for {} only, and Jool translates nothing else; plat translates TCP, \
                 UDP and ICMP",
                names.join(", ")
            ));
        }
        for entry in &common {
            let (low, high) = entry.ports;
            let prefix = match entry.prefix.len() {
                32 => entry.prefix.address().to_string(),
                _ => entry.prefix.to_string(),
            };
            found.set("pool", format!("{prefix}:{low}-{high}"), &entry.from);
        }
    }
}

/// An entry of pool4, as it is written.
#[derive(Debug)]
struct PoolWords {
    mark: Option<Word>,
    protocol: Word,
    prefix: Word,
    ports: Option<Word>,
}

/// Sorted, with neighbouring ranges of the same addresses joined.
fn merged(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|entry| (entry.prefix.address(), entry.prefix.len(), entry.ports));
    let mut merged: Vec<Entry> = Vec::new();
    for entry in entries {
        match merged.last_mut() {
            Some(last)
                if last.prefix == entry.prefix
                    && u32::from(entry.ports.0) <= u32::from(last.ports.1) + 1 =>
            {
                last.ports.1 = last.ports.1.max(entry.ports.1);
            }
            _ => merged.push(entry),
        }
    }
    merged
}

/// What two entries have in common.
fn both(one: &Entry, two: &Entry) -> Option<Entry> {
    if !one.prefix.overlaps(&two.prefix) {
        return None;
    }
    let ports = (one.ports.0.max(two.ports.0), one.ports.1.min(two.ports.1));
    let narrow = if one.prefix.len() >= two.prefix.len() {
        one
    } else {
        two
    };
    (ports.0 <= ports.1).then(|| Entry {
        ports,
        ..narrow.clone()
    })
}

fn bind(
    found: &mut Found,
    protocol: usize,
    (v6, inner): (Ipv6Addr, u16),
    (v4, outer): (Ipv4Addr, u16),
    from: &Origin,
) {
    let v6 = SocketAddr::V6(SocketAddrV6::new(v6, inner, 0, 0));
    let value = format!("{}:{v4}:{outer}={v6}", PROTOCOLS[protocol]);
    found.set("bind", value, from);
}

/// An address and a port with `#` between them.
fn transport<A: std::str::FromStr>(found: &mut Found, word: &Word, what: &str) -> Option<(A, u16)> {
    let parts = word.text.split_once('#');
    let parts = parts.and_then(|(address, port)| Some((address.parse().ok()?, port.parse().ok()?)));
    if parts.is_none() {
        let message = format!("`{}` is not {what}", word.text);
        found.error(&word.at, message);
    }
    parts
}

fn port_range(found: &mut Found, word: &Word) -> Option<(u16, u16)> {
    let (low, high) = word
        .text
        .split_once('-')
        .unwrap_or((&word.text, &word.text));
    let range = low
        .trim()
        .parse::<u16>()
        .ok()
        .zip(high.trim().parse::<u16>().ok());
    match range {
        // Port 0 is none.
        Some((low, high)) if low.max(1) <= high => Some((low.max(1), high)),
        _ => {
            let message = format!("`{}` is no range of ports", word.text);
            found.error(&word.at, message);
            None
        }
    }
}

fn with_length(word: &Word, length: u8) -> Word {
    let mut word = word.clone();
    if !word.text.contains('/') {
        word.text += &format!("/{length}");
    }
    word
}

/// The JSON of an instance.
pub(crate) fn read_json(text: &Text, kind: Kind, found: &mut Found) {
    found.has_translator = true;
    let node = match json::parse(text) {
        Ok(node) => node,
        Err(error) => return found.errors.push(error),
    };
    let mut instance = Instance::new(kind);
    let Json::Object(members) = &node.value else {
        return found.error(&node.at, "the configuration of Jool is a JSON object");
    };
    unique(members, found);
    for (key, value) in members {
        member(&mut instance, key, value, found);
    }
    if !found
        .prefixes
        .iter()
        .any(|(_, role, _)| *role == Role::Translates)
        && kind == Kind::Nat64
    {
        found.error(&node.at, "pool6 is missing: Jool would not start");
    }
    instance.finish(found, &node.at);
}

/// Keys that stand twice are refused: Jool takes the last.
fn unique(members: &[(Word, Node)], found: &mut Found) {
    for (index, (key, _)) in members.iter().enumerate() {
        let is_comment = key.is("comment");
        if !is_comment
            && members[..index]
                .iter()
                .any(|(other, _)| other.is(&key.text))
        {
            let message = format!("`{}` is given twice", key.text);
            found.error(&key.at, message);
        }
    }
}

const TAGS: [&str; 9] = [
    "comment",
    "instance",
    "framework",
    "global",
    "pool4",
    "bib",
    "eamt",
    "denylist4",
    "blacklist4",
];

fn member(instance: &mut Instance, key: &Word, value: &Node, found: &mut Found) {
    let from = described(key, value);
    match (key.text.to_ascii_lowercase().as_str(), instance.kind) {
        ("comment", _) => {}
        ("instance", _) => found.leave(&from, "an instance of plat is told by its `tun`"),
        ("framework", _) => found.leave(
            &from,
            "plat needs neither Netfilter hooks nor iptables rules: routes lead packets to it",
        ),
        ("global", _) => {
            for (key, value) in object(value, found) {
                let from = described(key, value);
                match (&value.value, value.word()) {
                    (Json::Null, _) => {}
                    (_, Some(word)) => global::set(instance, key, &word, &from, found),
                    (Json::Array(_), None) => global::set(instance, key, key, &from, found),
                    _ if key.is("comment") => {}
                    _ => found.error(&value.at, format!("{} is a plain value", key.text)),
                }
            }
        }
        ("pool4", Kind::Nat64) => {
            for entry in array(value, found) {
                pool_entry(instance, entry, found);
            }
        }
        ("bib", Kind::Nat64) => {
            for entry in array(value, found) {
                let tags = ["protocol", "ipv6 address", "ipv4 address"];
                let words = fields(entry, &tags, &tags, found);
                if let [Some(protocol), Some(v6), Some(v4)] = words.as_slice() {
                    let from = Origin::of(&[protocol.clone(), v6.clone(), v4.clone()]);
                    instance.binding(found, [protocol, v6, v4], &from);
                }
            }
        }
        ("eamt", Kind::Siit) => {
            for entry in array(value, found) {
                let tags = ["ipv6 prefix", "ipv4 prefix"];
                let words = fields(entry, &tags, &tags, found);
                if let [Some(v6), Some(v4)] = words.as_slice() {
                    let from = Origin::of(&[v6.clone(), v4.clone()])
                        .named(format!("EAMT {} {}", v6.text, v4.text));
                    instance.map(found, v6, v4, &from);
                }
            }
        }
        ("denylist4" | "blacklist4", Kind::Siit) => {
            for entry in array(value, found) {
                match entry.word() {
                    Some(word) => {
                        let from = described(key, entry);
                        Instance::denied(found, &word, &from);
                    }
                    None => found.error(&entry.at, "an IPv4 prefix is missing"),
                }
            }
        }
        ("pool4" | "bib" | "eamt" | "denylist4" | "blacklist4", kind) => {
            let (is, other) = match kind {
                Kind::Nat64 => ("a NAT64", "jool_siit"),
                Kind::Siit => ("stateless", "jool"),
            };
            let message = format!("`{}` belongs to {other}, and this file is {is}", key.text);
            found.error(&key.at, message);
        }
        _ => found.unknown(key, "tag of Jool's configuration", TAGS),
    }
}

fn pool_entry(instance: &mut Instance, entry: &Node, found: &mut Found) {
    let tags = ["protocol", "prefix", "mark", "port range", "max-iterations"];
    let words = fields(entry, &tags, &tags[..2], found);
    let [Some(protocol), Some(prefix), mark, ports, iterations] = words.as_slice() else {
        return;
    };
    let shown = ports.as_ref().map_or("", |word| &word.text);
    let from = Origin {
        at: entry.at.clone(),
        text: format!("pool4 {} {} {shown}", protocol.text, prefix.text),
    };
    if let Some(iterations) = iterations {
        let from = Origin {
            at: iterations.at.clone(),
            text: format!("max-iterations {}", iterations.text),
        };
        found.leave(&from, ITERATIONS);
    }
    let words = PoolWords {
        mark: mark.clone(),
        protocol: protocol.clone(),
        prefix: prefix.clone(),
        ports: ports.clone(),
    };
    instance.pool_entry(found, &words, &from);
}

const ITERATIONS: &str = "plat finds a free port without a search that would have to be bounded";

fn described(key: &Word, value: &Node) -> Origin {
    let text = match &value.value {
        Json::Plain(text) | Json::String(text) => format!("{} {text}", key.text),
        _ => key.text.clone(),
    };
    Origin {
        at: match value.value {
            Json::Array(_) | Json::Object(_) => key.at.clone(),
            _ => value.at.clone(),
        },
        text,
    }
}

fn object<'a>(node: &'a Node, found: &mut Found) -> &'a [(Word, Node)] {
    match &node.value {
        Json::Object(members) => {
            unique(members, found);
            members
        }
        Json::Null => &[],
        _ => {
            found.error(&node.at, "an object is missing here");
            &[]
        }
    }
}

fn array<'a>(node: &'a Node, found: &mut Found) -> &'a [Node] {
    match &node.value {
        Json::Array(nodes) => nodes,
        Json::Null => &[],
        _ => {
            found.error(&node.at, "an array is missing here");
            &[]
        }
    }
}

/// The values of these tags of an object; `needed` are those that must be there.
fn fields(node: &Node, tags: &[&str], needed: &[&str], found: &mut Found) -> Vec<Option<Word>> {
    let members = object(node, found);
    for (key, _) in members {
        if !key.is("comment") && !tags.iter().any(|tag| key.is(tag)) {
            found.unknown(key, "tag here", tags.iter().copied());
        }
    }
    let words = tags.iter().map(|tag| {
        let member = members.iter().find(|(key, _)| key.is(tag));
        let word = member.and_then(|(_, value)| value.word());
        if word.is_none() && needed.contains(tag) {
            found.error(&node.at, format!("`{tag}` is missing"));
        }
        word
    });
    words.collect()
}

/// The head of the table that `jool bib display --csv` prints.
pub(crate) const BIB_HEAD: &str = "protocol,ipv6 address,ipv6 l4-id,ipv4 address,ipv4 l4-id";

/// The binding table as CSV.
pub(crate) fn read_bib(text: &Text, found: &mut Found) {
    let mut has_dynamic = false;
    for (index, line) in text.text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.to_ascii_lowercase().starts_with(BIB_HEAD) {
            continue;
        }
        let at = At {
            file: text.name.clone(),
            line: crate::text::number(index),
            column: 1,
        };
        let words: Result<Vec<Word>, _> = line
            .split(',')
            .map(|part| crate::text::word(part.trim(), at.clone()))
            .collect();
        let words = match words {
            Ok(words) => words,
            Err(error) => {
                found.errors.push(error);
                continue;
            }
        };
        let [protocol, v6, inner, v4, outer, how] = words.as_slice() else {
            found.error(&at, "a binding has six columns: protocol, IPv6 address and port, IPv4 address and port, and whether it is static");
            continue;
        };
        let is_static = how.is("static") || how.is("true") || how.is("1") || how.is("yes");
        let is_dynamic = how.is("dynamic") || how.is("false") || how.is("0") || how.is("no");
        let protocol = Instance::new(Kind::Nat64).protocol(found, protocol);
        let v6 = found.parse::<Ipv6Addr>(v6, "an IPv6 address");
        let v4 = found.parse::<Ipv4Addr>(v4, "an IPv4 address");
        let inner = found.parse::<u16>(inner, "a port");
        let outer = found.parse::<u16>(outer, "a port");
        if !is_static && !is_dynamic {
            found.error(&at, format!("`{}` is neither static nor dynamic", how.text));
        }
        let (Some(protocol), Some(v6), Some(v4)) = (protocol, v6, v4) else {
            continue;
        };
        let (Some(inner), Some(outer)) = (inner, outer) else {
            continue;
        };
        has_dynamic |= is_dynamic;
        let from = Origin {
            at,
            text: match is_dynamic {
                true => "dynamic in Jool, stays until this line goes".into(),
                false => "static in Jool".into(),
            },
        };
        bind(found, protocol, (v6, inner), (v4, outer), &from);
    }
    if has_dynamic {
        found.differs(
            "bindings that were dynamic in Jool are port forwards of plat now: delete their lines and \
             run `plat reload` when their sessions are over",
        );
    }
}
