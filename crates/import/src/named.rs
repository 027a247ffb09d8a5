//! `named.conf` and `named.conf.options`: of BIND's statements those that a DNS64 has.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix};

use crate::blocks::{self, Dialect, Statement};
use crate::found::{Found, Role};
use crate::text::{Origin, Text, Word};
use crate::unbound::{ONLY_V6, STALE_MAX, chosen};
use crate::{Includes, Options};

/// All options, of 9.18.
const KNOWN: &str = include_str!("named_options.txt");

/// Statements of the file itself.
pub(crate) const STATEMENTS: [&str; 17] = [
    "options",
    "acl",
    "include",
    "zone",
    "view",
    "logging",
    "controls",
    "key",
    "server",
    "statistics-channels",
    "trust-anchors",
    "trusted-keys",
    "managed-keys",
    "primaries",
    "masters",
    "tls",
    "http",
];

const INCLUDES_MAX: usize = 16;
/// Lists in lists that are followed, at most.
const LISTS_MAX: usize = 16;

const DIALECT: Dialect = Dialect {
    has_c_comments: true,
};

pub(crate) fn read(text: &Text, options: &Options, includes: &dyn Includes, found: &mut Found) {
    let mut statements = Vec::new();
    collect(text, includes, 0, &mut statements, found);
    let mut reader = Reader {
        lists: BTreeMap::new(),
        has_dns64: false,
        is_stale: false,
        stale_ttl: None,
        has_wildcard: true,
        allowed: Vec::new(),
        found,
    };
    for statement in &statements {
        reader.list(statement);
    }
    for statement in &statements {
        reader.statement(statement);
    }
    reader.finish(text, options);
}

/// The statements of a file, and those of files that it includes.
fn collect(
    text: &Text,
    includes: &dyn Includes,
    depth: usize,
    into: &mut Vec<Statement>,
    found: &mut Found,
) {
    let statements = match blocks::parse(text, DIALECT) {
        Ok(statements) => statements,
        Err(error) => return found.errors.push(error),
    };
    for statement in statements {
        let path = match statement.words.as_slice() {
            [name, path] if name.is("include") && statement.block.is_none() => path.clone(),
            _ => {
                into.push(statement);
                continue;
            }
        };
        if depth >= INCLUDES_MAX {
            found.error(&path.at, "files include each other without end");
            continue;
        }
        match includes.find(&path.text, &path.at.file) {
            Ok(files) => {
                for file in &files {
                    match Text::decode(file) {
                        Ok(text) => collect(&text, includes, depth + 1, into, found),
                        Err(error) => found.errors.push(error),
                    }
                }
            }
            Err(error) => found.error(&path.at, format!("include: {error}")),
        }
    }
}

struct Reader<'a> {
    /// Lists that have a name (`acl`).
    lists: BTreeMap<String, Vec<Statement>>,
    has_dns64: bool,
    /// Answers are told behind their lifetime, and for how long.
    is_stale: bool,
    stale_ttl: Option<(Word, Origin)>,
    /// It answers on all addresses.
    has_wildcard: bool,
    /// Each list of clients, and where it is.
    allowed: Vec<(Vec<Ipv6Prefix>, Origin)>,
    found: &'a mut Found,
}

impl Reader<'_> {
    fn list(&mut self, statement: &Statement) {
        if let ([name, list], Some(block)) = (statement.words.as_slice(), &statement.block)
            && name.is("acl")
        {
            self.lists.insert(list.text.clone(), block.clone());
        }
    }

    fn statement(&mut self, statement: &Statement) {
        let from = statement.origin();
        match (statement.name(), &statement.block) {
            (Some(name), Some(block)) if name.is("options") => {
                for option in block {
                    self.option(option);
                }
            }
            (Some(name), Some(_)) if name.is("acl") => {}
            (Some(name), Some(block)) if name.is("zone") && is_forward(block) => {
                self.forward_zone(statement, block, &from);
            }
            (Some(name), _) if name.is("zone") => self.found.leave(
                &from,
                "plat has no zones of its own: let a resolver that it asks serve them",
            ),
            (Some(name), _) if STATEMENTS.iter().any(|known| name.is(known)) => {
                self.found.leave(&from, "plat has no counterpart");
            }
            (Some(name), _) => self.found.unknown(name, "statement of BIND", STATEMENTS),
            (None, _) => self.found.error(&from.at, "a block has no name"),
        }
    }

    fn option(&mut self, option: &Statement) {
        let from = option.origin();
        let Some(name) = option.name() else {
            return self.found.error(&from.at, "a block has no name");
        };
        let block = option.block.as_deref().unwrap_or_default();
        match name.text.to_ascii_lowercase().as_str() {
            "dns64" => self.dns64(option, block, &from),
            "forwarders" => {
                for (upstream, from) in self.forwarders(block) {
                    self.found.set("dns64-upstream", upstream, &from);
                }
            }
            "stale-answer-enable" => {
                if let [word] = option.arguments() {
                    self.is_stale = self.found.boolean(word).unwrap_or_default();
                }
            }
            "max-stale-ttl" => {
                if let [word] = option.arguments() {
                    self.stale_ttl = Some((word.clone(), from));
                }
            }
            "minimal-responses" => match option.arguments() {
                [word] if word.is("no-auth") || word.is("no-auth-recursive") => self.found.leave(
                    &from,
                    "plat leaves out all that was not asked for (`minimal`), or nothing",
                ),
                [word] if self.found.boolean(word) == Some(true) => {
                    self.found.set("dns64-minimal", true, &from);
                }
                _ => {}
            },
            "listen-on-v6" => self.listen(option, block, &from),
            "listen-on" => self.found.leave(&from, ONLY_V6),
            "allow-recursion" | "allow-query" | "allow-query-cache" => {
                let prefixes = self.prefixes(block, 0);
                self.allowed.push((prefixes, from));
            }
            "forward" => match option.arguments() {
                [word] if word.is("only") => {}
                _ => self.found.leave(&from, "plat only forwards: it does not resolve by itself"),
            },
            "recursion" => match option.arguments() {
                [word] if self.found.boolean(word) == Some(false) => self.found.error(
                    &word.at,
                    "without recursion this BIND answers for its own zones only, which plat has not",
                ),
                _ => {}
            },
            "dnssec-validation" => {
                if option.arguments().first().is_some_and(|word| !word.is("no")) {
                    self.found.differs(
                        "BIND validates DNSSEC; plat leaves that to the resolvers it asks, and \
                         believes them",
                    );
                }
            }
            "directory" | "pid-file" | "session-keyfile" | "version" | "hostname" | "server-id" => {
                self.found.leave(&from, "plat has no counterpart");
            }
            known if KNOWN.lines().any(|option| option == known) => {
                self.found.leave(&from, "a DNS64 that asks other resolvers has no use for it");
            }
            _ => self.found.unknown(name, "option of BIND", KNOWN.lines()),
        }
    }

    fn dns64(&mut self, option: &Statement, block: &[Statement], from: &Origin) {
        let [prefix] = option.arguments() else {
            return self.found.error(&from.at, "dns64 has one prefix");
        };
        self.has_dns64 = true;
        self.found.prefix(prefix, Role::Synthesises, from);
        for part in block {
            let from = part.origin();
            let Some(name) = part.name() else {
                continue;
            };
            let list = part.block.as_deref().unwrap_or_default();
            match name.text.to_ascii_lowercase().as_str() {
                "clients" if is_any(list) => {}
                "clients" => {
                    let prefixes = self.prefixes(list, 0);
                    if prefixes.is_empty() {
                        self.found.error(&from.at, "clients without an IPv6 network: none would be served");
                    }
                    for prefix in prefixes {
                        self.found.set("dns64-client", prefix.to_string(), &from);
                    }
                }
                "exclude" => self.exclude(list, &from),
                "mapped" => self.mapped(list),
                "suffix" => match part.arguments() {
                    [word] if word.text.parse::<Ipv6Addr>().is_ok_and(|one| one.is_unspecified()) => {}
                    _ => self.found.error(&name.at, "plat has no suffix behind the IPv4 address"),
                },
                "break-dnssec" | "recursive-only" => self.found.leave(
                    &from,
                    "plat makes addresses for all queries but those that want to validate themselves \
                     (DO and CD, RFC 6147)",
                ),
                _ => self.found.unknown(
                    name,
                    "part of dns64 in BIND",
                    ["clients", "exclude", "mapped", "suffix", "break-dnssec", "recursive-only"],
                ),
            }
        }
    }

    fn exclude(&mut self, list: &[Statement], from: &Origin) {
        for prefix in self.prefixes(list, 0) {
            // plat always ignores these.
            if prefix.to_string() != "::ffff:0.0.0.0/96" && prefix.to_string() != "::ffff:0:0/96" {
                self.found.set("dns64-exclude", prefix.to_string(), from);
            }
        }
    }

    /// IPv4 addresses that become IPv6 ones: all but those with `!`.
    fn mapped(&mut self, list: &[Statement]) {
        for (index, element) in list.iter().enumerate() {
            let from = element.origin();
            let [word] = element.words.as_slice() else {
                self.found
                    .error(&from.at, "one address or prefix is missing here");
                continue;
            };
            match word.text.strip_prefix('!') {
                Some(rest) => match v4_prefix(rest) {
                    Some(prefix) => self.found.set("dns64-unmapped", prefix.to_string(), &from),
                    None => {
                        let message = format!("`{rest}` is no IPv4 prefix");
                        self.found.error(&word.at, message);
                    }
                },
                None if word.is("any") && index + 1 == list.len() => {}
                None => self.found.error(
                    &word.at,
                    "plat knows which IPv4 addresses it leaves out, not which it takes: a list of the \
                     form `!PREFIX; any;`",
                ),
            }
        }
    }

    /// The resolvers of one domain.
    fn forward_zone(&mut self, zone: &Statement, block: &[Statement], from: &Origin) {
        let Some(name) = zone.arguments().first() else {
            return self.found.error(&from.at, "a zone has a name");
        };
        let own = |wanted: &str| {
            let mut all = block.iter();
            all.find(|part| part.name().is_some_and(|name| name.is(wanted)))
        };
        let list = own("forwarders").and_then(|part| part.block.as_deref());
        let upstreams = self.forwarders(list.unwrap_or_default());
        if let Some(part) = own("forward")
            && !matches!(part.arguments(), [word] if word.is("only"))
        {
            let from = part.origin();
            self.found
                .leave(&from, "plat only forwards: it does not resolve by itself");
        }
        let texts: Vec<&str> = upstreams.iter().map(|(text, _)| &**text).collect();
        if texts.is_empty() {
            let because = "it has no forwarders: plat asks the same resolvers as for other names";
            return self.found.leave(from, because);
        }
        let domain = name.text.trim_end_matches('.');
        match domain {
            "" => self.found.error(
                &name.at,
                "the zone of all names has its forwarders in `options`",
            ),
            _ => self.found.set(
                "dns64-forward",
                format!("{domain}={}", texts.join(",")),
                from,
            ),
        }
    }

    fn forwarders(&mut self, block: &[Statement]) -> Vec<(String, Origin)> {
        let mut upstreams = Vec::new();
        for element in block {
            let from = element.origin();
            let Some(word) = element.name() else {
                continue;
            };
            let port = match element.arguments() {
                [] => None,
                [key, port] if key.is("port") => self.found.number(port, 1..=65535),
                [key, ..] if key.is("tls") => {
                    self.found.error(
                        &key.at,
                        "write a resolver over TLS as `tls://ADDR#NAME` in `upstream` by hand: its \
                         name is in another statement here",
                    );
                    continue;
                }
                [key, ..] => {
                    let message = format!("`{}` is not known here", key.text);
                    self.found.error(&key.at, message);
                    continue;
                }
            };
            let Some(address) = self.found.parse::<IpAddr>(word, "an address") else {
                continue;
            };
            let shown = match (address, port) {
                (_, None) => address.to_string(),
                (IpAddr::V4(_), Some(port)) => format!("{address}:{port}"),
                (IpAddr::V6(_), Some(port)) => format!("[{address}]:{port}"),
            };
            upstreams.push((shown, from));
        }
        upstreams
    }

    fn listen(&mut self, option: &Statement, block: &[Statement], from: &Origin) {
        let is_port_53 = match option.arguments() {
            [] => true,
            [key, port] => key.is("port") && port.text == "53",
            _ => false,
        };
        if !is_port_53 {
            return self
                .found
                .leave(from, "the DNS64 of plat answers on UDP and TCP port 53");
        }
        self.has_wildcard = false;
        for element in block {
            let from = element.origin();
            let Some(word) = element.name() else {
                continue;
            };
            match word.text.parse::<Ipv6Addr>() {
                Ok(address) => self.found.set("dns64-listen", address.to_string(), &from),
                Err(_) if word.is("none") => {}
                Err(_) => self.has_wildcard = true,
            }
        }
    }

    /// The IPv6 prefixes of a list. What is not to be in it cannot be said in ours.
    fn prefixes(&mut self, list: &[Statement], depth: usize) -> Vec<Ipv6Prefix> {
        let mut prefixes = Vec::new();
        for element in list {
            if let (None, Some(block)) = (element.name(), &element.block) {
                prefixes.extend(self.prefixes(block, depth + 1));
                continue;
            }
            let Some(word) = element.name() else {
                continue;
            };
            let named = self.lists.get(&word.text).cloned();
            match (&*word.text, named) {
                (_, Some(list)) if depth < LISTS_MAX => {
                    prefixes.extend(self.prefixes(&list, depth + 1));
                }
                (_, Some(_)) => self
                    .found
                    .error(&word.at, "lists name each other without end"),
                ("any", None) => prefixes.extend(Ipv6Prefix::new(Ipv6Addr::UNSPECIFIED, 0).ok()),
                ("none" | "localnets", None) => {}
                ("localhost", None) => prefixes.push(Ipv6Prefix::host(Ipv6Addr::LOCALHOST)),
                (text, None) if text.starts_with('!') => {
                    if v4_prefix(&text[1..]).is_none() {
                        let message = "plat has a list of who may ask, without exceptions";
                        self.found.error(&word.at, message);
                    }
                }
                (text, None) if v4_prefix(text).is_some() => {}
                (text, None) => {
                    let full = match text.contains('/') {
                        true => text.to_owned(),
                        false => format!("{text}/128"),
                    };
                    let word = Word {
                        text: full,
                        at: word.at.clone(),
                    };
                    prefixes.extend(self.found.parse::<Ipv6Prefix>(&word, "a network or a list"));
                }
            }
        }
        prefixes
    }

    fn finish(self, text: &Text, options: &Options) {
        let found = self.found;
        let at = text.at(0);
        if !self.has_dns64 {
            found.error(
                &at,
                "options have no dns64: this BIND makes no IPv6 addresses, and plat would",
            );
        }
        match self.stale_ttl {
            Some((word, from)) if self.is_stale => match seconds(&word.text) {
                Some(seconds) => found.set("dns64-stale", seconds.min(STALE_MAX), &from),
                None => found.error(&word.at, format!("`{}` is no time", word.text)),
            },
            Some((_, from)) => found.leave(&from, "stale-answer-enable is not on"),
            None if self.is_stale => {
                let from = Origin {
                    at: at.clone(),
                    text: "stale-answer-enable; BIND's default max-stale-ttl".into(),
                };
                found.set("dns64-stale", 86_400, &from);
            }
            None => {}
        }
        chosen(self.has_wildcard, &at, options, found);
        let everyone = |list: &[Ipv6Prefix]| list.iter().any(|prefix| prefix.len() == 0);
        // A client must be in all lists.
        let narrow = self.allowed.iter().filter(|(list, _)| !everyone(list));
        let narrow: Vec<&(Vec<Ipv6Prefix>, Origin)> = narrow.collect();
        let lists = match narrow.as_slice() {
            [] => self.allowed.iter().take(1).collect(),
            some => some.to_vec(),
        };
        let Some((first, others)) = lists.split_first() else {
            found.differs(
                "BIND answers the networks of its own links; so does plat, for IPv6 (`allow`)",
            );
            return;
        };
        if let Some((_, from)) = others.iter().find(|(list, _)| *list != first.0) {
            found.error(
                &from.at,
                format!(
                    "this list is another than that of {}: plat has one",
                    first.1
                ),
            );
        }
        if first.0.is_empty() {
            found.leave(
                &first.1,
                "it names no IPv6 network: plat answers those of its own links",
            );
        }
        for prefix in &first.0 {
            found.set("dns64-allow", prefix.to_string(), &first.1);
        }
    }
}

/// True for `zone "corp.example" { type forward; ... };`.
fn is_forward(block: &[Statement]) -> bool {
    let is_type = |part: &Statement| {
        let is_it = part.name().is_some_and(|name| name.is("type"));
        is_it && matches!(part.arguments(), [word] if word.is("forward"))
    };
    block.iter().any(is_type)
}

fn is_any(list: &[Statement]) -> bool {
    matches!(list, [one] if one.name().is_some_and(|word| word.is("any")))
}

/// A time of BIND: seconds, or numbers with units as in `1d12h`.
fn seconds(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (mut sum, mut number) = (0_u64, None);
    for letter in text.chars() {
        if let Some(digit) = letter.to_digit(10) {
            let tens = number.unwrap_or(0_u64).checked_mul(10)?;
            number = Some(tens + u64::from(digit));
            continue;
        }
        let unit = match letter.to_ascii_lowercase() {
            'w' => 604_800,
            'd' => 86_400,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        sum = sum.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    number.is_none().then_some(sum)
}

/// An IPv4 prefix, of which BIND lets zeros at the end be left out (`10/8`).
fn v4_prefix(text: &str) -> Option<Ipv4Prefix> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, length.parse::<u8>().ok()?),
        None => (text, 32),
    };
    let parts: Vec<&str> = address.split('.').collect();
    if parts.len() > 4 || text.contains('/') == (parts.len() < 4) && parts.len() < 4 && length == 32
    {
        return None;
    }
    let mut full = parts.join(".");
    for _ in parts.len()..4 {
        full += ".0";
    }
    format!("{full}/{length}").parse().ok()
}
