//! `clatd.conf`: one `key=value` a line.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::found::{Found, Role};
use crate::text::{At, Origin, Text, Word, number, word};

/// All keys.
pub(crate) const KEYS: [&str; 30] = [
    "quiet",
    "debug",
    "script-up",
    "script-down",
    "clat-dev",
    "clat-v4-addr",
    "clat-v6-addr",
    "dns64-servers",
    "cmd-ip",
    "cmd-ip6tables",
    "cmd-networkctl",
    "cmd-nft",
    "cmd-tayga",
    "cmd-ufw",
    "ctmark",
    "forwarding-enable",
    "plat-dev",
    "plat-prefix",
    "plat-fallback-prefix",
    "proxynd-enable",
    "route-table",
    "tayga-conffile",
    "tayga-v4-addr",
    "v4-conncheck-enable",
    "v4-conncheck-delay",
    "v4-defaultroute-enable",
    "v4-defaultroute-replace",
    "v4-defaultroute-metric",
    "v4-defaultroute-mtu",
    "v4-defaultroute-advmss",
];

/// Keys that have no counterpart.
const REASONS: [(&str, &str); 16] = [
    (
        "script-up",
        "clat runs no scripts: use ExecStartPost= of its unit, which systemd runs when clat is ready",
    ),
    (
        "script-down",
        "clat runs no scripts: use ExecStopPost= of its unit",
    ),
    ("cmd-ip", "clat runs no other programs"),
    ("cmd-ip6tables", "clat runs no other programs"),
    ("cmd-networkctl", "clat hears router advertisements itself"),
    ("cmd-nft", "clat runs no other programs"),
    ("cmd-tayga", "clat translates itself"),
    (
        "cmd-ufw",
        "clat changes no firewall: allow forwarding between its TUN and the uplink in ufw",
    ),
    ("tayga-conffile", "clat translates itself"),
    (
        "tayga-v4-addr",
        "clat answers with its own address 192.0.0.8, or the address after --ipv4",
    ),
    (
        "ctmark",
        "clat keeps its connections apart by ports (`shared-ports`), and needs no mark",
    ),
    ("route-table", "clat needs no routing table of its own"),
    (
        "proxynd-enable",
        "clat answers neighbours for its address by itself, where that is needed",
    ),
    (
        "v4-conncheck-delay",
        "clat follows the IPv4 default route for as long as it runs",
    ),
    (
        "v4-defaultroute-advmss",
        "the MTU of the route is enough: the kernel takes the MSS from it",
    ),
    (
        "dns64-servers",
        "clat asks the routers of the link, and the DNS servers that the host uses on it",
    ),
];

pub(crate) fn read(text: &Text, found: &mut Found) {
    let mut seen: Vec<(String, u32)> = Vec::new();
    for (index, line) in text.text.split('\n').enumerate() {
        let at = |column: usize| At {
            file: text.name.clone(),
            line: number(index),
            column: number(column),
        };
        let trimmed = line.trim();
        if trimmed.is_empty()
            || [";", "#", "//"]
                .iter()
                .any(|mark| trimmed.starts_with(mark))
        {
            continue;
        }
        let indent = line
            .chars()
            .take_while(|letter| letter.is_whitespace())
            .count();
        let Some((key, value)) = trimmed.split_once('=') else {
            found.error(&at(indent), "a line of clatd.conf has the form `key=value`");
            continue;
        };
        let gap = value.len() - value.trim_start().len();
        let column = indent + key.chars().count() + 1 + gap;
        let (key, value) = (word(key.trim(), at(indent)), word(value.trim(), at(column)));
        match (key, value) {
            (Ok(key), Ok(value)) => {
                let before = seen.iter().find(|(seen, _)| *seen == key.text);
                if let Some((_, line)) = before {
                    let message = format!("{} is given twice, first in line {line}", key.text);
                    found.error(&key.at, message);
                    continue;
                }
                seen.push((key.text.clone(), key.at.line));
                carry(&key, &value, found);
            }
            (key, value) => found.errors.extend(key.err().or(value.err())),
        }
    }
    found.differs(
        "clatd shares the uplink's address with this host unless it is told otherwise; clat takes an \
         address of its own in the uplink's /64 or a delegated prefix where there is one (`ipv6`)",
    );
    found.differs(
        "clatd decides once, at its start; clat follows the network: prefix, uplink and native IPv4 \
         may come and go",
    );
}

fn carry(key: &Word, value: &Word, found: &mut Found) {
    if !KEYS.contains(&key.text.as_str()) {
        found.unknown(key, "key of clatd", KEYS);
        return;
    }
    let from = Origin {
        at: key.at.clone(),
        text: format!("{}={}", key.text, value.text),
    };
    if let Some((_, because)) = REASONS.iter().find(|(known, _)| *known == key.text) {
        found.leave(&from, *because);
        return;
    }
    if value.text.is_empty() {
        found.leave(&from, "it has no value");
        return;
    }
    match key.text.as_str() {
        "clat-dev" => found.set("tun", value.text.clone(), &from),
        "plat-dev" => found.set("uplink", value.text.clone(), &from),
        "plat-prefix" => found.prefix(value, Role::Translates, &from),
        "plat-fallback-prefix" => found.leave(
            &from,
            "clat waits until routers or DNS tell the prefix; `prefix` sets it for good",
        ),
        "clat-v4-addr" => {
            if let Some(address) = found.parse::<Ipv4Addr>(value, "an IPv4 address") {
                found.set("ipv4", address.to_string(), &from);
            }
        }
        "clat-v6-addr" => match value.text.as_str() {
            "shared" => found.leave(
                &from,
                "clat shares the uplink's address only where it has no other; to make it do so, \
                 give the uplink's address as `ipv6`",
            ),
            "derived" => found.leave(&from, "clat derives an address by itself, a stable one"),
            _ => {
                if let Some(address) = found.parse::<Ipv6Addr>(value, "an IPv6 address") {
                    found.set("ipv6", address.to_string(), &from);
                }
            }
        },
        "v4-defaultroute-metric" => {
            if let Some(metric) = found.number(value, 0..=0xffff_ffff) {
                found.set("metric", metric, &from);
            }
        }
        "v4-defaultroute-mtu" => {
            if let Some(bytes) = found.number(value, 68..=65535) {
                found.set("mtu4", bytes, &from);
            }
        }
        "quiet" | "debug" => level(key, value, &from, found),
        _ => flag(key, value, &from, found),
    }
}

/// How much is logged: a boolean, or a number that says how much.
fn level(key: &Word, value: &Word, from: &Origin, found: &mut Found) {
    let count = match value.text.parse::<u64>() {
        Ok(number) => Some(number.min(2)),
        Err(_) => found.boolean(value).map(u64::from),
    };
    let ours = match key.text.as_str() {
        "quiet" => "quiet",
        _ => "verbose",
    };
    match count {
        Some(0) | None => {}
        Some(count) => found.set(ours, count, from),
    }
}

fn flag(key: &Word, value: &Word, from: &Origin, found: &mut Found) {
    let Some(on) = found.boolean(value) else {
        return;
    };
    match (key.text.as_str(), on) {
        // What clat does anyway.
        ("forwarding-enable" | "v4-defaultroute-enable" | "v4-conncheck-enable", true)
        | ("v4-defaultroute-replace", false) => {}
        ("forwarding-enable", false) => found.leave(
            from,
            "clat always lets the uplink and its TUN forward, and nothing else (`forwarding`); \
             --no-host-setup leaves all to you",
        ),
        ("v4-defaultroute-enable", false) => {
            found.leave(
                from,
                "clat always adds its default route; `metric` decides if it is used",
            );
        }
        ("v4-conncheck-enable", false) => found.set("always", true, from),
        ("v4-defaultroute-replace", true) => {
            found.set("always", true, from);
            found.differs(
                "clatd removes other IPv4 default routes while it runs; clat leaves them, and the \
                 lowest metric wins (`metric`)",
            );
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{clat_errors, import_clat};

    #[test]
    fn im_01_clatd_conf_becomes_clat_toml() {
        let toml = import_clat(&[(
            "clatd.conf",
            "; comment\n// another\nclat-dev=clat\nclat-v4-addr = 192.0.0.1\ntayga-v4-addr=192.0.0.2\n\
             clat-v6-addr=2001:db8::c1a7\nplat-prefix=64:ff9b::/96\nplat-dev=wan0\ndebug=2\n\
             v4-conncheck-enable=no\nv4-defaultroute-metric=1024\nv4-defaultroute-mtu=1260\n\
             script-up=ip link show clat # x\nforwarding-enable=1\n",
        )]);
        for line in [
            "# Made by `clat import clatd.conf`.",
            "tun = \"clat\"  # clatd.conf:3: clat-dev=clat",
            "prefix = \"64:ff9b::/96\"",
            "ipv4 = \"192.0.0.1\"",
            "ipv6 = \"2001:db8::c1a7\"",
            "uplink = \"wan0\"",
            "always = true  # clatd.conf:10: v4-conncheck-enable=no",
            "metric = 1024",
            "mtu4 = 1260",
            "verbose = 2",
            "# not carried over: clatd.conf:13: script-up=ip link show clat # x, because ",
        ] {
            assert!(toml.contains(line), "{line} in {toml}");
        }
    }

    #[test]
    fn im_02_what_clatd_does_not_know_is_refused() {
        let text = "clat-devs=x\n plat-prefix = 2001:db8::/97\nplat-dev\nquiet=perhaps\nquiet=1\n";
        let errors = clat_errors(&[("clatd.conf", text)]);
        for (error, expected) in errors.iter().zip([
            "clatd.conf:1:1: there is no key of clatd `clat-devs`; did you mean `clat-dev`?",
            "clatd.conf:2:16: `2001:db8::/97` is not a NAT64 prefix: ",
            "clatd.conf:3:1: a line of clatd.conf has the form `key=value`",
            "clatd.conf:4:7: `perhaps` is neither yes nor no",
            "clatd.conf:5:1: quiet is given twice, first in line 4",
        ]) {
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(errors.len(), 5, "{errors:#?}");
    }
}
