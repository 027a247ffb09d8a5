//! `unbound.conf`: clauses with `attribute: value`, and files that are included.

use std::net::IpAddr;

use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix};

use crate::found::{Found, Role, Value};
use crate::text::{At, Origin, Text, Word, number, word};
use crate::{Error, Includes, Options};

/// What begins a clause.
pub(crate) const CLAUSES: [&str; 13] = [
    "server",
    "forward-zone",
    "stub-zone",
    "auth-zone",
    "view",
    "remote-control",
    "python",
    "dynlib",
    "dnscrypt",
    "cachedb",
    "dnstap",
    "rpz",
    "ipset",
];

/// All attributes, of 1.17.
const KNOWN: &str = include_str!("unbound_options.txt");

/// Seconds behind their lifetime for which plat keeps answers, at most.
pub(crate) const STALE_MAX: u64 = 604_800;

/// Files in files that are read, at most.
const INCLUDES_MAX: usize = 16;

pub(crate) fn is_attribute(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CLAUSES.contains(&&*name) || KNOWN.lines().any(|known| known == name)
}

#[derive(Default)]
struct Zone {
    name: Option<Word>,
    servers: Vec<(Word, Origin)>,
    has_tls: bool,
}

struct Reader<'a> {
    clause: String,
    zones: Vec<Zone>,
    listens: Vec<(Word, Origin)>,
    accesses: Vec<(Word, Word, Origin)>,
    modules: Option<(String, Origin)>,
    prefix: Option<(Word, Origin)>,
    all_tls: bool,
    /// Answers are told behind their lifetime.
    stale: Option<Origin>,
    /// For so many seconds.
    stale_ttl: Option<(u64, Origin)>,
    /// Addresses and the names that they have.
    pointers: Vec<(String, Origin)>,
    found: &'a mut Found,
    includes: &'a dyn Includes,
}

pub(crate) fn read(text: &Text, options: &Options, includes: &dyn Includes, found: &mut Found) {
    let mut reader = Reader {
        clause: String::new(),
        zones: Vec::new(),
        listens: Vec::new(),
        accesses: Vec::new(),
        modules: None,
        prefix: None,
        all_tls: false,
        stale: None,
        stale_ttl: None,
        pointers: Vec::new(),
        found,
        includes,
    };
    reader.file(text, 0);
    reader.finish(text, options);
}

impl Reader<'_> {
    fn file(&mut self, text: &Text, depth: usize) {
        for (index, line) in text.text.split('\n').enumerate() {
            let words = match words(text, index, line) {
                Ok(words) => words,
                Err(error) => {
                    self.found.errors.push(error);
                    continue;
                }
            };
            for attribute in attributes(words) {
                self.attribute(&attribute, depth);
            }
        }
    }

    fn attribute(&mut self, words: &[Word], depth: usize) {
        let [key, values @ ..] = words else {
            return;
        };
        let Some(name) = key.text.strip_suffix(':') else {
            let message = format!("`{}` is no attribute: a colon is missing", key.text);
            return self.found.error(&key.at, message);
        };
        let name = name.to_ascii_lowercase();
        if CLAUSES.contains(&&*name) && values.is_empty() {
            if name == "forward-zone" {
                self.zones.push(Zone::default());
            }
            if !["server", "forward-zone"].contains(&&*name) {
                let from = Origin::of(words);
                self.found.leave(
                    &from,
                    "plat answers from resolvers that it asks, and has no such part",
                );
            }
            self.clause = name;
            return;
        }
        if name == "include" || name == "include-toplevel" {
            return self.include(values, depth, key);
        }
        if !KNOWN.lines().any(|known| known == name) {
            let key = Word {
                text: name,
                at: key.at.clone(),
            };
            return self
                .found
                .unknown(&key, "attribute of unbound", KNOWN.lines());
        }
        let from = Origin::of(words);
        let Some(value) = values.first() else {
            return self.found.error(&key.at, format!("{name} has no value"));
        };
        match &*self.clause {
            "" => self
                .found
                .error(&key.at, format!("{name} stands before `server:`")),
            "server" => self.server(&name, value, values, &from),
            "forward-zone" => self.zone(&name, value, &from),
            _ => {}
        }
    }

    fn include(&mut self, values: &[Word], depth: usize, key: &Word) {
        let [pattern] = values else {
            return self.found.error(&key.at, "include names one file");
        };
        if depth >= INCLUDES_MAX {
            return self
                .found
                .error(&pattern.at, "files include each other without end");
        }
        let files = match self.includes.find(&pattern.text, &pattern.at.file) {
            Ok(files) => files,
            Err(error) => return self.found.error(&pattern.at, format!("include: {error}")),
        };
        for file in &files {
            match Text::decode(file) {
                Ok(text) => self.file(&text, depth + 1),
                Err(error) => self.found.errors.push(error),
            }
        }
    }

    fn server(&mut self, name: &str, value: &Word, values: &[Word], from: &Origin) {
        let found = &mut *self.found;
        match name {
            "interface" | "ip-address" => self.listens.push((value.clone(), from.clone())),
            "port" if value.text != "53" => {
                found.leave(from, "the DNS64 of plat answers on port 53");
            }
            "port" => {}
            "access-control" => match values {
                [net, action] => {
                    self.accesses
                        .push((net.clone(), action.clone(), from.clone()));
                }
                _ => found.error(&value.at, "access-control has a network and an action"),
            },
            "module-config" => self.modules = Some((value.text.clone(), from.clone())),
            "dns64-prefix" => self.prefix = Some((value.clone(), from.clone())),
            "tls-upstream" | "ssl-upstream" => {
                self.all_tls = found.boolean(value).unwrap_or_default();
            }
            "tls-cert-bundle" | "ssl-cert-bundle" if !value.text.is_empty() => {
                found.set("dns64-ca", value.text.clone(), from);
            }
            "ip-ratelimit" if value.text != "0" => {
                if let Some(rate) = found.number(value, 1..=0xffff_ffff) {
                    found.set("dns64-rate", rate, from);
                }
            }
            "dns64-synthall" => {
                if found.boolean(value) == Some(true) {
                    found.set("dns64-always", "all", from);
                }
            }
            "dns64-ignore-aaaa" => found.set("dns64-always", value.text.clone(), from),
            "minimal-responses" => {
                if found.boolean(value) == Some(true) {
                    found.set("dns64-minimal", true, from);
                }
            }
            "local-data" => self.local_data(value, from),
            "local-data-ptr" => self.local_pointer(value, from),
            "local-zone" => found.leave(
                from,
                "plat answers the names of `record` alone, and asks resolvers about all others",
            ),
            "serve-expired" => {
                if found.boolean(value) == Some(true) {
                    self.stale = Some(from.clone());
                }
            }
            "serve-expired-ttl" => {
                if let Some(seconds) = found.number(value, 0..=0xffff_ffff) {
                    self.stale_ttl = Some((seconds, from.clone()));
                }
            }
            "prefetch" => {
                if found.boolean(value) == Some(true) {
                    found.set("dns64-prefetch", true, from);
                }
            }
            "num-threads" => {
                if let Some(threads) = found.number(value, 0..=0xffff_ffff) {
                    found.set("dns64-threads", threads.clamp(1, 64), from);
                }
            }
            "auto-trust-anchor-file"
            | "trust-anchor-file"
            | "trust-anchor"
            | "trusted-keys-file"
            | "root-hints" => found.leave(
                from,
                "plat asks other resolvers, which validate; it does not resolve by itself",
            ),
            "chroot" | "username" | "directory" | "pidfile" => {
                found.leave(from, "the unit and plat itself see to privileges");
            }
            _ => found.leave(from, "a DNS64 that asks other resolvers has no use for it"),
        }
    }

    /// A record in the form of a zone file: those with addresses are carried over.
    fn local_data(&mut self, value: &Word, from: &Origin) {
        let words: Vec<&str> = value.text.split_whitespace().collect();
        let [name, middle @ .., kind, data] = words.as_slice() else {
            return self
                .found
                .error(&value.at, "a record has a name, a type and its data");
        };
        let is_usual = |word: &&str| {
            word.eq_ignore_ascii_case("IN") || word.chars().all(|one| one.is_ascii_digit())
        };
        let is_address = match kind.to_ascii_uppercase().as_str() {
            "A" => data.parse::<std::net::Ipv4Addr>().is_ok(),
            "AAAA" => data.parse::<std::net::Ipv6Addr>().is_ok(),
            _ => {
                let because = "plat has no records of its own but the addresses of names";
                return self.found.leave(from, because);
            }
        };
        if !is_address || !middle.iter().all(is_usual) {
            let message = format!("`{}` is no record with an address", value.text);
            return self.found.error(&value.at, message);
        }
        self.found.differs(
            "local-data of unbound gets no IPv6 addresses; plat makes them of the IPv4 addresses in \
             `record`, which live 300 s",
        );
        let name = name.trim_end_matches('.');
        self.found
            .set("dns64-record", format!("{name}={data}"), from);
    }

    fn local_pointer(&mut self, value: &Word, from: &Origin) {
        let words: Vec<&str> = value.text.split_whitespace().collect();
        match words.as_slice() {
            [address, .., name] if address.parse::<IpAddr>().is_ok() => {
                let record = format!("{}={address}", name.trim_end_matches('.'));
                self.pointers.push((record, from.clone()));
            }
            _ => self
                .found
                .error(&value.at, "an address and the name that it has are missing"),
        }
    }

    fn zone(&mut self, name: &str, value: &Word, from: &Origin) {
        let found = &mut *self.found;
        let Some(zone) = self.zones.last_mut() else {
            return;
        };
        match name {
            "name" => zone.name = Some(value.clone()),
            "forward-addr" => zone.servers.push((value.clone(), from.clone())),
            "forward-tls-upstream" | "forward-ssl-upstream" => {
                zone.has_tls = found.boolean(value).unwrap_or_default();
            }
            "forward-host" => found.leave(from, "plat asks resolvers by their addresses"),
            _ => found.leave(
                from,
                "plat asks its resolvers one after the other until one answers",
            ),
        }
    }

    fn finish(self, text: &Text, options: &Options) {
        let found = self.found;
        let has_dns64 = |modules: &str| modules.split_whitespace().any(|module| module == "dns64");
        let is_on = self
            .modules
            .as_ref()
            .is_some_and(|(modules, _)| has_dns64(modules));
        match (&self.modules, &self.prefix) {
            (_, Some((word, from))) if is_on => found.prefix(word, Role::Synthesises, from),
            (Some((_, from)), None) if is_on => {
                let word = Word {
                    text: "64:ff9b::/96".into(),
                    at: from.at.clone(),
                };
                let from = from.named("unbound's default dns64-prefix");
                found.prefix(&word, Role::Synthesises, &from);
            }
            _ => {
                let at = text.at(0);
                found.error(
                    &at,
                    "module-config has no dns64: this unbound makes no IPv6 addresses, and plat would",
                );
            }
        }
        if self
            .modules
            .as_ref()
            .is_some_and(|(modules, _)| modules.contains("validator"))
        {
            found.differs(
                "unbound validates DNSSEC; plat leaves that to the resolvers it asks, and believes them",
            );
        }
        match (&self.stale, &self.stale_ttl) {
            (Some(_), Some((seconds @ 1.., from))) => {
                if *seconds > STALE_MAX {
                    found.differs("plat keeps answers for a week behind their lifetime at most");
                }
                found.set("dns64-stale", (*seconds).min(STALE_MAX), from);
            }
            (Some(from), _) => {
                let from = from.named("serve-expired: yes; unbound's default serve-expired-ttl");
                found.set("dns64-stale", 86_400, &from);
            }
            (None, Some((_, from))) => found.leave(from, "serve-expired is not on"),
            (None, None) => {}
        }
        for (record, from) in &self.pointers {
            let is_said = found.settings.iter().any(|setting| {
                setting.key == "dns64-record"
                    && matches!(&setting.value, Value::Text(text) if text == record)
            });
            if !is_said {
                let because = "plat gives an address a name where it gives the name this address";
                found.leave(from, because);
            }
        }
        listen(&self.listens, text, options, found);
        access(&self.accesses, found);
        let mut has_root = false;
        for zone in &self.zones {
            has_root |= forward(zone, self.all_tls, found);
        }
        if !has_root {
            found.differs(
                "unbound resolves names by itself; plat asks the resolvers of /etc/resolv.conf, or \
                 those of `upstream`",
            );
        }
    }
}

/// The addresses that are answered on.
fn listen(listens: &[(Word, Origin)], text: &Text, options: &Options, found: &mut Found) {
    let mut has_wildcard = listens.is_empty();
    for (word, from) in listens {
        let (address, port) = word.text.split_once('@').unwrap_or((&word.text, "53"));
        if port != "53" {
            found.leave(from, "the DNS64 of plat answers on port 53");
            continue;
        }
        match address.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) if address.is_unspecified() => {
                has_wildcard = true;
                if !options.dns64.is_empty() {
                    found.leave(from, "--dns64 says which address it is");
                }
            }
            Ok(IpAddr::V6(address)) => found.set("dns64-listen", address.to_string(), from),
            Ok(IpAddr::V4(_)) => found.leave(from, ONLY_V6),
            Err(_) => {
                has_wildcard = true;
                found.leave(
                    from,
                    "an interface has several addresses: --dns64 says which it is",
                );
            }
        }
    }
    chosen(has_wildcard, &text.at(0), options, found);
}

pub(crate) const ONLY_V6: &str = "the DNS64 of plat answers IPv6 clients only";

/// Where all addresses are answered on, one must be chosen.
pub(crate) fn chosen(has_wildcard: bool, at: &At, options: &Options, found: &mut Found) {
    let from = Origin {
        at: at.clone(),
        text: "--dns64".into(),
    };
    for address in &options.dns64 {
        found.set("dns64-listen", address.to_string(), &from);
    }
    let has_own = found
        .settings
        .iter()
        .any(|setting| setting.key == "dns64-listen");
    if has_wildcard && !has_own {
        found.error(
            at,
            "no IPv6 address of this host is named to answer on: say which with --dns64 ADDR",
        );
    }
}

/// Who may ask. The most specific network decides, so one that is refused inside of one that may ask
/// cannot be said in a list.
fn access(accesses: &[(Word, Word, Origin)], found: &mut Found) {
    let mut allowed: Vec<Ipv6Prefix> = Vec::new();
    let mut refused: Vec<(Ipv6Prefix, Origin)> = Vec::new();
    for (net, action, from) in accesses {
        if net.text.parse::<Ipv4Prefix>().is_ok() || net.text.parse::<std::net::Ipv4Addr>().is_ok()
        {
            found.leave(from, ONLY_V6);
            continue;
        }
        let word = Word {
            text: match net.text.contains('/') {
                true => net.text.clone(),
                false => format!("{}/128", net.text),
            },
            at: net.at.clone(),
        };
        let Some(prefix) = found.parse::<Ipv6Prefix>(&word, "a network") else {
            continue;
        };
        match action.text.to_ascii_lowercase().as_str() {
            "allow" | "allow_snoop" | "allow_setrd" | "allow_cookie" => {
                allowed.push(prefix);
                found.set("dns64-allow", prefix.to_string(), from);
            }
            "deny" | "refuse" | "deny_non_local" | "refuse_non_local" => {
                refused.push((prefix, from.clone()));
            }
            other => {
                let message = format!("`{other}` is no action of access-control");
                found.error(&action.at, message);
            }
        }
    }
    for (prefix, from) in refused {
        let outer = allowed
            .iter()
            .find(|allowed| allowed.overlaps(&prefix) && allowed.len() < prefix.len());
        match outer {
            Some(outer) => found.error(
                &from.at,
                format!("{prefix} is refused inside of {outer}: plat has a list of who may ask, without \
                         exceptions"),
            ),
            None => found.leave(&from, "who is not in `allow` is refused anyway"),
        }
    }
    if allowed.is_empty() {
        found.differs(
            "unbound answers this host alone unless access-control says otherwise; plat also answers \
             the IPv6 networks of its own links (`allow`)",
        );
    }
}

/// The resolvers of a zone; true if it is the root.
fn forward(zone: &Zone, all_tls: bool, found: &mut Found) -> bool {
    let Some(name) = &zone.name else {
        return false;
    };
    if name.text != "." {
        forward_domain(zone, name, all_tls, found);
        return false;
    }
    for (server, from) in &zone.servers {
        match upstream(&server.text, zone.has_tls || all_tls) {
            Ok(upstream) => found.set("dns64-upstream", upstream, from),
            Err(message) => found.error(&server.at, message),
        }
    }
    true
}

/// The resolvers of one domain.
fn forward_domain(zone: &Zone, name: &Word, all_tls: bool, found: &mut Found) {
    let mut upstreams = Vec::new();
    for (server, _) in &zone.servers {
        match upstream(&server.text, zone.has_tls || all_tls) {
            Ok(upstream) => upstreams.push(upstream),
            Err(message) => found.error(&server.at, message),
        }
    }
    if let Some((_, from)) = zone.servers.first().filter(|_| !upstreams.is_empty()) {
        let from = from.named(format!("{} for {}", from.text, name.text));
        let domain = name.text.trim_end_matches('.');
        found.set(
            "dns64-forward",
            format!("{domain}={}", upstreams.join(",")),
            &from,
        );
    }
}

/// `ADDR[@PORT][#NAME]` as one of ours.
fn upstream(text: &str, has_tls: bool) -> Result<String, String> {
    let (rest, name) = match text.split_once('#') {
        Some((rest, name)) => (rest, Some(name)),
        None => (text, None),
    };
    let (address, port) = match rest.split_once('@') {
        Some((address, port)) => (address, Some(port)),
        None => (rest, None),
    };
    let bare = address.split('%').next().unwrap_or_default();
    let parsed: IpAddr = bare
        .parse()
        .map_err(|_| format!("`{text}` is no address of a resolver"))?;
    let port: Option<u16> = port
        .map(|port| port.parse().map_err(|_| format!("`{port}` is no port")))
        .transpose()?;
    let shown = match (parsed, port) {
        (IpAddr::V6(_), Some(port)) => format!("[{address}]:{port}"),
        (IpAddr::V4(_), Some(port)) => format!("{address}:{port}"),
        (_, None) => address.to_owned(),
    };
    match (has_tls, name) {
        (false, _) => Ok(shown),
        (true, Some(name)) => {
            let shown = match (parsed, port) {
                (IpAddr::V6(_), None) => format!("[{address}]:853"),
                _ => shown,
            };
            Ok(format!("tls://{shown}#{name}"))
        }
        (true, None) => Err(format!(
            "`{text}` has no name that its certificate proves (`#NAME`): unbound would believe any, and \
             plat does not"
        )),
    }
}

/// Words of a line; quotation marks come off. A key that is joined to its value is cut.
fn words(text: &Text, index: usize, line: &str) -> Result<Vec<Word>, Error> {
    let mut words = Vec::new();
    let mut letters = line.chars().enumerate().peekable();
    loop {
        while letters
            .next_if(|(_, letter)| letter.is_whitespace())
            .is_some()
        {}
        let Some(&(column, first)) = letters.peek() else {
            return Ok(words);
        };
        if first == '#' {
            return Ok(words);
        }
        let at = At {
            file: text.name.clone(),
            line: number(index),
            column: number(column),
        };
        let mut part = String::new();
        if first == '"' || first == '\'' {
            letters.next();
            let mut is_closed = false;
            for (_, letter) in letters.by_ref() {
                is_closed = letter == first;
                if is_closed {
                    break;
                }
                part.push(letter);
            }
            if !is_closed {
                return Err(Error::new(&at, "the quotation mark is never closed"));
            }
        } else {
            let cuts = words.is_empty();
            while let Some((_, letter)) =
                letters.next_if(|(_, letter)| !letter.is_whitespace() && !"\"'".contains(*letter))
            {
                part.push(letter);
                let is_key = letter == ':' && cuts;
                if is_key && is_attribute(part.trim_end_matches(':')) {
                    break;
                }
            }
        }
        words.push(word(&part, at)?);
    }
}

/// The attributes of a line: usually one, but more may follow.
fn attributes(words: Vec<Word>) -> Vec<Vec<Word>> {
    let mut all: Vec<Vec<Word>> = Vec::new();
    for word in words {
        let is_key = word.text.strip_suffix(':').is_some_and(is_attribute);
        let is_full = all.last().is_none_or(|last| {
            let name = last[0].text.trim_end_matches(':').to_ascii_lowercase();
            last.len() > 1 || CLAUSES.contains(&&*name)
        });
        match all.last_mut() {
            Some(last) if !(is_key && is_full) => last.push(word),
            _ => all.push(vec![word]),
        }
    }
    all
}
