//! The configuration file of ours: each value with the line it comes from.

use crate::Program;
use crate::found::{Found, Setting, Value};
use crate::text::plain;

/// The keys, in the order of the file: those of `plat`, then those of `clat` that `plat` has not.
/// A list has `true`.
pub(crate) const KEYS: [(&str, bool); 71] = [
    ("tun", false),
    ("prefix", true),
    ("ipv4", false),
    ("ipv6", false),
    ("map", true),
    ("pool", true),
    ("dynamic-pool", false),
    ("client", true),
    ("deny", true),
    ("bind", true),
    ("wkp-strict", false),
    ("hairpin", false),
    ("filtering", false),
    ("inbound-tcp", false),
    ("store-syns", false),
    ("udp-timeout", false),
    ("icmp-timeout", false),
    ("tcp-est-timeout", false),
    ("tcp-trans-timeout", false),
    ("allow-short-timeouts", false),
    ("session-log", false),
    ("session-log-level", false),
    ("uplink", false),
    ("always", false),
    ("metric", false),
    ("mtu", false),
    ("mtu4", false),
    ("lowest-ipv6-mtu", false),
    ("traffic-class", false),
    ("tos", false),
    ("udp-zero-checksum", false),
    ("rfc6791-pool", false),
    ("queues", false),
    ("quiet", false),
    ("verbose", false),
    ("lan", true),
    ("ra-interval", false),
    ("ra-lifetime", false),
    ("ra-pref64", false),
    ("ra-dns", true),
    ("ra-search", true),
    ("ra-mtu", false),
    ("ra-preference", false),
    ("ra-route", true),
    ("ra-managed", false),
    ("ra-other", false),
    ("ra-hop-limit", false),
    ("ra-reachable", false),
    ("ra-retransmit", false),
    ("ra-prefix-valid", false),
    ("ra-prefix-preferred", false),
    ("ra-on-link", false),
    ("ra-autonomous", false),
    ("ra-router-address", false),
    ("dns64-listen", true),
    ("dns64-upstream", true),
    ("dns64-forward", true),
    ("dns64-ca", false),
    ("dns64-allow", true),
    ("dns64-client", true),
    ("dns64-rate", false),
    ("dns64-exclude", true),
    ("dns64-unmapped", true),
    ("dns64-skip", true),
    ("dns64-always", true),
    ("dns64-record", true),
    ("dns64-minimal", false),
    ("dns64-cache", false),
    ("dns64-stale", false),
    ("dns64-prefetch", false),
    ("dns64-threads", false),
];

/// Tables of the file: the beginnings of keys.
const TABLES: [&str; 2] = ["ra", "dns64"];

/// The file, from settings that were merged.
pub(crate) fn toml(program: Program, names: &[String], found: &Found) -> String {
    let names: Vec<String> = names.iter().map(|name| plain(name)).collect();
    let name = program.name();
    let mut text = format!(
        "# Made by `{name} import {}`.\n# A comment behind a value is the line that it comes from.\n",
        names.join(" ")
    );
    let in_table = |key: &str, table: &str| {
        let rest = key.strip_prefix(table);
        rest.is_some_and(|rest| rest.starts_with('-'))
    };
    let is_top = |key: &str| !TABLES.iter().any(|table| in_table(key, table));
    text += &section(program, found, "", is_top);
    for table in TABLES {
        let lines = section(program, found, table, |key| in_table(key, table));
        if !lines.is_empty() {
            text += &format!("\n[{table}]{lines}");
        }
    }
    text += &comments(found);
    text
}

fn section(program: Program, found: &Found, table: &str, wanted: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    for (key, is_list) in KEYS.iter().filter(|(key, _)| wanted(key)) {
        let settings = found.settings.iter().filter(|setting| setting.key == *key);
        let settings: Vec<&Setting> = settings.collect();
        let short = key
            .strip_prefix(table)
            .unwrap_or(key)
            .trim_start_matches('-');
        match settings.as_slice() {
            [] => {}
            // All flags of clat that are carried over have one value.
            [setting, ..] if !is_list || program == Program::Clat => {
                text += &format!("\n{short} = {}  # {}", shown(&setting.value), setting.from);
            }
            settings => {
                text += &format!("\n{short} = [");
                for setting in settings {
                    text += &format!("\n    {},  # {}", shown(&setting.value), setting.from);
                }
                text += "\n]";
            }
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn comments(found: &Found) -> String {
    let mut text = String::new();
    if !found.left_out.is_empty() {
        text.push('\n');
    }
    for (from, because) in &found.left_out {
        text += &format!("# not carried over: {from}, because {}\n", plain(because));
    }
    if !found.differences.is_empty() {
        text += "\n# What behaves differently:\n";
    }
    for difference in &found.differences {
        text += &format!("# - {}\n", plain(difference));
    }
    text
}

fn shown(value: &Value) -> String {
    match value {
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => {
            let escaped = text.chars().map(|letter| match letter {
                '\\' | '"' => format!("\\{letter}"),
                letter if letter.is_control() => format!("\\u{:04X}", u32::from(letter)),
                letter => letter.to_string(),
            });
            format!("\"{}\"", escaped.collect::<String>())
        }
    }
}
