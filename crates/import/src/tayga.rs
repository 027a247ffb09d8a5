//! TAYGA's configuration, of 0.9.2 and of the versions that go on from 0.9.6: one directive a line.
//! And `dynamic.map`, the leases of its pool.

use nat64::dynamic::map_file::Lease;
use xlat_core::addr::{Eam, Ipv4Prefix, Ipv6Prefix};

use crate::Includes;
use crate::found::{Found, Role};
use crate::text::{Origin, Text, Word};

/// All directives: name, number of arguments at least.
pub(crate) const DIRECTIVES: [(&str, usize); 17] = [
    ("tun-device", 1),
    ("ipv4-addr", 1),
    ("ipv6-addr", 1),
    ("prefix", 1),
    ("wkpf-strict", 1),
    ("map", 2),
    ("map-file", 1),
    ("dynamic-pool", 1),
    ("data-dir", 1),
    ("strict-frag-hdr", 1),
    ("udp-cksum-mode", 1),
    ("log", 0),
    ("offlink-mtu", 1),
    ("workers", 1),
    ("tun-up", 1),
    ("tun-ip", 1),
    ("tun-route", 1),
];

/// Those that may stand several times.
const REPEATED: [&str; 3] = ["map", "tun-ip", "tun-route"];

pub(crate) fn read(text: &Text, includes: &dyn Includes, found: &mut Found) {
    found.has_translator = true;
    let mut reader = Reader {
        found,
        includes,
        seen: Vec::new(),
    };
    for line in text.lines(&["#"]) {
        match line {
            Ok(words) => reader.directive(&words),
            Err(error) => reader.found.errors.push(error),
        }
    }
    reader.finish(text);
}

struct Reader<'a> {
    found: &'a mut Found,
    includes: &'a dyn Includes,
    /// Directives that may stand once, and where they did.
    seen: Vec<(&'static str, Origin)>,
}

impl Reader<'_> {
    fn directive(&mut self, words: &[Word]) {
        let [name, arguments @ ..] = words else {
            return;
        };
        let Some(&(directive, least)) = DIRECTIVES.iter().find(|(known, _)| name.is(known)) else {
            let known = DIRECTIVES.iter().map(|(known, _)| *known);
            self.found.unknown(name, "directive of TAYGA", known);
            return;
        };
        let from = Origin::of(words);
        if arguments.len() < least {
            let message = format!("{directive} has {least} arguments, not {}", arguments.len());
            self.found.error(&name.at, message);
            return;
        }
        if !REPEATED.contains(&directive) {
            if let Some((_, first)) = self.seen.iter().find(|(seen, _)| *seen == directive) {
                let message = format!(
                    "{directive} is given twice, first in line {}",
                    first.at.line
                );
                self.found.error(&name.at, message);
                return;
            }
            self.seen.push((directive, from.clone()));
        }
        self.carry(directive, arguments, &from);
    }

    fn carry(&mut self, directive: &str, arguments: &[Word], from: &Origin) {
        let (found, first) = (&mut *self.found, arguments.first());
        match (directive, first) {
            ("log", _) => found.leave(
                from,
                "plat counts what it drops, by reason: `plat status`; a session log is --session-log",
            ),
            ("tun-device", Some(name)) => found.set("tun", name.text.clone(), from),
            ("ipv4-addr", Some(word)) => {
                if let Some(address) = found.parse::<std::net::Ipv4Addr>(word, "an IPv4 address") {
                    found.set("ipv4", address.to_string(), from);
                }
            }
            ("ipv6-addr", Some(word)) => {
                if let Some(address) = found.parse::<std::net::Ipv6Addr>(word, "an IPv6 address") {
                    found.set("ipv6", address.to_string(), from);
                }
            }
            ("prefix", Some(word)) => found.prefix(word, Role::Translates, from),
            ("wkpf-strict", Some(word)) => {
                if let Some(strict) = found.boolean(word) {
                    found.switch("wkp-strict", strict, from);
                }
            }
            ("map", Some(v4)) => map(found, v4, &arguments[1], from),
            ("map-file", Some(path)) => self.map_file(path, from),
            ("dynamic-pool", Some(word)) => {
                if let Some(pool) = found.parse::<Ipv4Prefix>(word, "an IPv4 prefix") {
                    found.set("dynamic-pool", pool.to_string(), from);
                }
            }
            ("data-dir", Some(path)) => {
                let path = path.text.trim_end_matches('/');
                found.leave(
                    from,
                    format!(
                        "plat keeps its leases in its own --state-dir: import {path}/dynamic.map too, \
                         while TAYGA is stopped, to keep these"
                    ),
                );
            }
            ("strict-frag-hdr", Some(word)) if found.boolean(word).is_some() => {
                    found.leave(
                        from,
                        "only packets that are or become fragments get a Fragment header (RFC 7915), \
                         as in the versions after 0.9.2",
                    );
            }
            ("udp-cksum-mode", Some(word)) => {
                match udp_mode(&word.text.to_ascii_lowercase()) {
                    Some(mode) => found.set("udp-zero-checksum", mode, from),
                    None => {
                        let message = format!("`{}` is none of drop, calc, fwd", word.text);
                        found.error(&word.at, message);
                    }
                }
            }
            ("offlink-mtu", Some(word)) => {
                if let Some(bytes) = found.number(word, 1280..=65535) {
                    found.set("lowest-ipv6-mtu", bytes, from);
                }
            }
            ("workers", Some(word)) => {
                if let Some(workers) = found.number(word, 0..=256) {
                    let from = match workers {
                        0 => &from.named("workers 0: a single thread"),
                        _ => from,
                    };
                    found.set("queues", workers.max(1), from);
                }
            }
            ("tun-up", Some(_)) => found.leave(from, "plat always sets its TUN up"),
            ("tun-ip", Some(_)) => found.leave(
                from,
                "the TUN of plat needs no address: the kernel is told by routes what belongs there",
            ),
            ("tun-route", Some(word)) => found.leave(
                from,
                format!(
                    "plat adds the routes of its prefixes, pools and maps itself; if {} is none of \
                     them, add it yourself",
                    word.text
                ),
            ),
            _ => {}
        }
    }

    /// A file with `map` lines and nothing else.
    fn map_file(&mut self, path: &Word, from: &Origin) {
        let files = match self.includes.find(&path.text, &path.at.file) {
            Ok(files) => files,
            Err(error) => {
                self.found.error(&path.at, format!("map-file: {error}"));
                return;
            }
        };
        for file in &files {
            let text = match Text::decode(file) {
                Ok(text) => text,
                Err(error) => {
                    self.found.errors.push(error);
                    continue;
                }
            };
            for line in text.lines(&["#"]) {
                match line.as_deref() {
                    Ok([name, v4, v6, ..]) if name.is("map") => {
                        let from = Origin::of(&[name.clone(), v4.clone(), v6.clone()]);
                        map(self.found, v4, v6, &from);
                    }
                    Ok([first, ..]) => {
                        let message = "a map file has lines of the form `map IPV4 IPV6` only";
                        self.found.error(&first.at, message);
                    }
                    Ok([]) => {}
                    Err(error) => self.found.errors.push(error.clone()),
                }
            }
        }
        self.found.leave(
            from,
            "its maps are in this file now; `plat reload` reads it again, as SIGHUP makes TAYGA do \
             with the map file",
        );
    }

    /// What a file says by saying nothing.
    fn finish(&mut self, text: &Text) {
        let has = |name: &str| self.seen.iter().any(|(seen, _)| *seen == name);
        let (has_udp, has_pool) = (has("udp-cksum-mode"), has("dynamic-pool"));
        let pool = self.seen.iter().find(|(seen, _)| *seen == "dynamic-pool");
        let pool = pool.map(|(_, from)| from.clone());
        let found = &mut *self.found;
        for (name, seen) in [
            ("tun-device", has("tun-device")),
            ("ipv4-addr", has("ipv4-addr")),
        ] {
            if !seen {
                let at = text.at(0);
                found.error(&at, format!("{name} is missing: TAYGA would not start"));
            }
        }
        if let Some(pool) = pool {
            let from = pool.named("TAYGA serves every IPv6 source");
            found.set("client", "::/0", &from);
            found.differs(
                "TAYGA and plat leave masquerading of the dynamic pool to the rules that you have; \
                 with `egress = \"masquerade\"` plat makes them, and yours can go",
            );
        }
        if !has_udp {
            found.differs(
                "TAYGA drops UDP datagrams without a checksum; plat computes it \
                 (`udp-zero-checksum = \"drop\"` drops them)",
            );
        }
        if has_pool {
            found.differs(
                "TAYGA lets clients reach the IPv4 addresses of this host through the prefix; plat \
                 does with `expose-host = true` only",
            );
        }
        found.differs(
            "plat adds addresses, routes and forwarding to the host while it runs, and takes them \
             back: remove what you have in scripts for TAYGA, or run it with --no-host-setup",
        );
        found.differs(
            "TAYGA drops packets between two hosts that both use it (hairpinning); plat turns them \
             round (`hairpin = \"off\"` drops them)",
        );
    }
}

fn map(found: &mut Found, v4: &Word, v6: &Word, from: &Origin) {
    let v4_prefix = found.parse::<Ipv4Prefix>(&with_length(v4, 32), "an IPv4 address or prefix");
    let v6_prefix = found.parse::<Ipv6Prefix>(&with_length(v6, 128), "an IPv6 address or prefix");
    let (Some(v4_prefix), Some(v6_prefix)) = (v4_prefix, v6_prefix) else {
        return;
    };
    if 32 - v4_prefix.len() != 128 - v6_prefix.len() {
        let message =
            "the two prefixes have room for different numbers of hosts: TAYGA would not start";
        return found.error(&v4.at, message);
    }
    match Eam::new(v4_prefix, v6_prefix) {
        Ok(eam) => found.set("map", eam.to_string(), from),
        Err(error) => found.error(&v4.at, error.to_string()),
    }
}

/// The word with the length of a single address, if it has none.
fn with_length(word: &Word, length: u8) -> Word {
    let mut word = word.clone();
    if !word.text.contains('/') {
        word.text += &format!("/{length}");
    }
    word
}

fn udp_mode(text: &str) -> Option<&'static str> {
    // As TAYGA reads it: by the beginning of the word.
    let modes = [
        ("dr", "drop"),
        ("calc", "compute"),
        ("forw", "forward"),
        ("fwd", "forward"),
    ];
    let mode = modes.iter().find(|(start, _)| text.starts_with(start));
    mode.map(|(_, mode)| *mode)
}

/// The leases of a `dynamic.map`.
pub(crate) fn read_leases(text: &Text, found: &mut Found) {
    for line in text.lines(&["#"]) {
        let words = match line {
            Ok(words) => words,
            Err(error) => {
                found.errors.push(error);
                continue;
            }
        };
        let [v4, v6, last_use] = words.as_slice() else {
            let message = "a lease has the form `IPV4 IPV6 SECONDS`";
            found.error(&words[0].at, message);
            continue;
        };
        let v4 = found.parse(v4, "an IPv4 address");
        let v6 = found.parse(v6, "an IPv6 address");
        let last_use = found.parse(last_use, "a time in seconds since 1970");
        if let (Some(v4), Some(v6), Some(last_use)) = (v4, v6, last_use) {
            found
                .leases
                .push((Origin::of(&words), Lease { v4, v6, last_use }));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{errors, import};

    #[test]
    fn im_01_every_directive_is_carried_over_or_named_with_the_reason() {
        let (toml, _) = import(&[(
            "tayga.conf",
            "tun-device nat64 # the TUN\nIPV4-ADDR 192.168.255.1\nipv6-addr 2001:db8::1\n\
             prefix 2001:db8:64::/96\nwkpf-strict no\nmap 198.51.100.7 2001:db8::7\n\
             map 198.51.100.32/28 2001:db8:1::/124\nmap-file more.map\n\
             dynamic-pool 192.168.255.0/24\ndata-dir /var/db/tayga/\nstrict-frag-hdr on\n\
             udp-cksum-mode calculate\nlog drop reject\nofflink-mtu 1400\nworkers 0\ntun-up yes\n\
             tun-ip 192.168.255.2/24\ntun-route 10.0.0.0/8\n",
        )]);
        for line in [
            "tun = \"nat64\"  # tayga.conf:1: tun-device nat64",
            "ipv4 = \"192.168.255.1\"  # tayga.conf:2: IPV4-ADDR 192.168.255.1",
            "ipv6 = \"2001:db8::1\"",
            "    \"2001:db8:64::/96\",  # tayga.conf:4: prefix 2001:db8:64::/96",
            "wkp-strict = \"off\"",
            "    \"198.51.100.7/32=2001:db8::7/128\",  # tayga.conf:6: ",
            "    \"198.51.100.32/28=2001:db8:1::/124\",  # tayga.conf:7: ",
            "    \"198.51.100.99/32=2001:db8::99/128\",  # more.map:2: map ",
            "dynamic-pool = \"192.168.255.0/24\"",
            "    \"::/0\",  # tayga.conf:9: TAYGA serves every IPv6 source",
            "udp-zero-checksum = \"compute\"",
            "lowest-ipv6-mtu = 1400",
            "queues = 1  # tayga.conf:15: workers 0: a single thread",
            "# not carried over: tayga.conf:10: data-dir /var/db/tayga/, because ",
            "# not carried over: tayga.conf:11: strict-frag-hdr on, because ",
            "# not carried over: tayga.conf:13: log drop reject, because ",
            "# not carried over: tayga.conf:16: tun-up yes, because ",
            "# not carried over: tayga.conf:18: tun-route 10.0.0.0/8, because ",
        ] {
            assert!(toml.contains(line), "{line} in {toml}");
        }
    }

    #[test]
    fn im_02_what_is_wrong_is_named_with_line_and_column() {
        let text = "tun-device nat64\nipv4-addr 192.0.2.300\n  ipv6-adr 2001:db8::1\n\
                    prefix 2001:db8::/97\nmap 192.0.2.1\nmap 192.0.2.0/24 2001:db8::/96\n\
                    tun-device other\nwkpf-strict maybe\nudp-cksum-mode x\nofflink-mtu 1000\n\
                    map-file nowhere\ndynamic-pool 192.0.2.1/24\n";
        let errors = errors(&[("tayga.conf", text)]);
        for (error, expected) in errors.iter().zip([
            "tayga.conf:2:11: `192.0.2.300` is not an IPv4 address: ",
            "tayga.conf:3:3: there is no directive of TAYGA `ipv6-adr`; did you mean `ipv6-addr`?",
            "tayga.conf:4:8: `2001:db8::/97` is not a NAT64 prefix: ",
            "tayga.conf:5:1: map has 2 arguments, not 1",
            "tayga.conf:6:5: ",
            "tayga.conf:7:1: tun-device is given twice, first in line 1",
            "tayga.conf:8:13: `maybe` is neither yes nor no",
            "tayga.conf:9:16: `x` is none of drop, calc, fwd",
            "tayga.conf:10:13: `1000` is no number from 1280 to 65535",
            "tayga.conf:11:10: map-file: there is no nowhere",
            "tayga.conf:12:14: `192.0.2.1/24` is not an IPv4 prefix: ",
        ]) {
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(errors.len(), 11, "{errors:#?}");
        let missing = crate::tests::errors(&[("tayga.conf", "prefix 2001:db8::/96\n")]);
        assert!(missing[0].starts_with("tayga.conf:1:1: tun-device is missing"));
    }

    #[test]
    fn im_03_leases_come_along_if_the_pool_has_them() {
        let conf = "tun-device nat64\nipv4-addr 192.168.255.1\nprefix 2001:db8:64::/96\n\
                    dynamic-pool 192.168.255.0/24\n";
        let map = "###\n192.168.255.9\t2001:db8::9\t1790000000\n10.0.0.1 2001:db8::a 5\n";
        let (toml, leases) = import(&[("tayga.conf", conf), ("dynamic.map", map)]);
        assert_eq!(leases.len(), 1);
        assert_eq!(
            leases[0].to_string(),
            "192.168.255.9 2001:db8::9 1790000000"
        );
        assert!(toml.contains("# not carried over: dynamic.map:3: 10.0.0.1 2001:db8::a 5, because it is outside of dynamic-pool"), "{toml}");
        let twice = "192.168.255.9 2001:db8::9 1\n192.168.255.9 2001:db8::a 1\n";
        let errors = errors(&[("tayga.conf", conf), ("dynamic.map", twice)]);
        assert_eq!(
            errors,
            ["dynamic.map:2:1: 192.168.255.9 has another lease in dynamic.map:1"]
        );
    }
}
