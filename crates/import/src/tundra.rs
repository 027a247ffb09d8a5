//! Tundra's configuration: one `option = value` a line.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::Program;
use crate::found::{Found, Role};
use crate::text::{At, Origin, Text, Word, number, word};

/// All options.
pub(crate) const OPTIONS: [&str; 30] = [
    "program.translator_threads",
    "program.privilege_drop_user",
    "program.privilege_drop_group",
    "io.mode",
    "io.tun.device_path",
    "io.tun.interface_name",
    "io.tun.owner_user",
    "io.tun.owner_group",
    "io.tun.multi_queue",
    "router.ipv4",
    "router.ipv6",
    "router.generated_packet_ttl",
    "addressing.mode",
    "addressing.nat64_clat.ipv4",
    "addressing.nat64_clat.ipv6",
    "addressing.nat64_clat_siit.prefix",
    "addressing.nat64_clat_siit.allow_translation_of_private_ips",
    "addressing.external.transport",
    "addressing.external.cache_size.main_addresses",
    "addressing.external.cache_size.icmp_error_addresses",
    "addressing.external.unix.path",
    "addressing.external.unix_tcp.timeout_milliseconds",
    "addressing.external.tcp.host",
    "addressing.external.tcp.port",
    "translator.ipv4.outbound_mtu",
    "translator.ipv6.outbound_mtu",
    "translator.6to4.copy_dscp_and_ecn",
    "translator.4to6.copy_dscp_and_ecn",
    "translator.6to4.copy_dscp",
    "translator.4to6.copy_dscp",
];

/// Options that have no counterpart.
const REASONS: [(&str, &str); 8] = [
    (
        "program.privilege_drop_user",
        "the unit says which user the program is (User=)",
    ),
    (
        "program.privilege_drop_group",
        "the unit says which group the program is (Group=)",
    ),
    ("io.tun.device_path", "it is always /dev/net/tun"),
    (
        "io.tun.owner_user",
        "the TUN is made at the start, and goes with the program",
    ),
    (
        "io.tun.owner_group",
        "the TUN is made at the start, and goes with the program",
    ),
    (
        "io.tun.multi_queue",
        "there is a queue for each worker (`queues`)",
    ),
    (
        "router.generated_packet_ttl",
        "ICMP errors have the kernel's usual hop limit, 64",
    ),
    ("addressing.mode", "what it says is in the other values"),
];

type Options = Vec<(Word, Word)>;

pub(crate) fn read(text: &Text, program: Program, found: &mut Found) {
    found.has_translator = true;
    let options = options(text, found);
    let get = |name: &str| {
        let mut options = options.iter();
        let pair = options.find(|(key, _)| key.text == name);
        pair.map(|(_, value)| value)
    };
    let Some(mode) = get("addressing.mode") else {
        return found.error(
            &text.at(0),
            "addressing.mode is missing: Tundra would not start",
        );
    };
    match (&*mode.text, program) {
        ("nat64", Program::Plat) | ("clat", Program::Clat) => {}
        ("clat", Program::Plat) => {
            return found.error(&mode.at, "this is a CLAT: `clat import` reads it");
        }
        ("nat64", Program::Clat) => {
            return found.error(&mode.at, "this is a NAT64: `plat import` reads it");
        }
        ("siit", _) => {
            return found.error(
                &mode.at,
                "a stateless translator without maps: plat must know which hosts are on its IPv6 \
                 side; write a file with `translatable` or `map` by hand",
            );
        }
        ("external", _) => {
            return found.error(&mode.at, "plat asks no other program for addresses");
        }
        (other, _) => {
            let message = format!("`{other}` is none of nat64, clat, siit, external");
            return found.error(&mode.at, message);
        }
    }
    for (key, value) in &options {
        carry(key, value, program, found);
    }
    if program == Program::Plat {
        map(&options, found);
        found.differs(
            "Tundra translates for one IPv6 address, behind which NAT66 hides the clients; plat \
             translates for each client by itself with `pool` instead of `map`, without NAT66",
        );
    }
    found.differs("the host's routes, addresses and forwarding are set while the program runs");
}

fn options(text: &Text, found: &mut Found) -> Options {
    let mut options: Options = Vec::new();
    for (index, line) in text.text.lines().enumerate() {
        let at = |column: usize| At {
            file: text.name.clone(),
            line: number(index),
            column: number(column),
        };
        let trimmed = line.trim();
        if trimmed == "!STOP" {
            break;
        }
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        let indent = line
            .chars()
            .take_while(|letter| letter.is_whitespace())
            .count();
        let Some((key, value)) = trimmed.split_once('=') else {
            found.error(
                &at(indent),
                "a line of Tundra's configuration has the form `option = value`",
            );
            continue;
        };
        let gap = value.len() - value.trim_start().len();
        let column = indent + key.chars().count() + 1 + gap;
        match (word(key.trim(), at(indent)), word(value.trim(), at(column))) {
            (Ok(key), Ok(value)) => {
                if options.iter().any(|(other, _)| other.text == key.text) {
                    found.error(&key.at, format!("{} is given twice", key.text));
                } else if !OPTIONS.contains(&key.text.as_str()) {
                    found.unknown(&key, "option of Tundra", OPTIONS);
                } else {
                    options.push((key, value));
                }
            }
            (key, value) => found.errors.extend(key.err().or(value.err())),
        }
    }
    options
}

fn carry(key: &Word, value: &Word, program: Program, found: &mut Found) {
    let from = Origin {
        at: key.at.clone(),
        text: format!("{} = {}", key.text, value.text),
    };
    if let Some((_, because)) = REASONS.iter().find(|(known, _)| *known == key.text) {
        if !value.text.is_empty() {
            found.leave(&from, *because);
        }
        return;
    }
    let (text, is_empty) = (key.text.as_str(), value.text.is_empty());
    match text {
        _ if text.starts_with("addressing.external.") && !is_empty => {
            found.leave(&from, "it belongs to the mode `external`");
        }
        "io.mode" if value.text != "tun" => found.leave(&from, "plat opens its TUN itself"),
        "io.mode" => {}
        "addressing.nat64_clat_siit.prefix" if is_empty => match program {
            Program::Clat => {}
            Program::Plat => found.error(&value.at, "a NAT64 has to be told its prefix"),
        },
        _ if is_empty => {}
        "program.translator_threads" => {
            if let Some(threads) = found.number(value, 1..=256) {
                found.set("queues", threads, &from);
            }
        }
        "io.tun.interface_name" => found.set("tun", value.text.clone(), &from),
        "router.ipv4" | "router.ipv6" if program == Program::Clat => {
            found.leave(&from, "clat answers with its own addresses");
        }
        "router.ipv4" => address4(value, &from, found),
        "router.ipv6" => {
            if let Some(address) = found.parse::<Ipv6Addr>(value, "an IPv6 address") {
                found.set("ipv6", address.to_string(), &from);
            }
        }
        "addressing.nat64_clat.ipv4" if program == Program::Clat => address4(value, &from, found),
        "addressing.nat64_clat.ipv6" if program == Program::Clat => {
            if let Some(address) = found.parse::<Ipv6Addr>(value, "an IPv6 address") {
                found.set("ipv6", address.to_string(), &from);
            }
        }
        "addressing.nat64_clat_siit.prefix" => {
            let word = Word {
                text: format!("{}/96", value.text),
                at: value.at.clone(),
            };
            found.prefix(&word, Role::Translates, &from);
        }
        "addressing.nat64_clat_siit.allow_translation_of_private_ips" => {
            if let Some(allowed) = found.boolean(value) {
                match program {
                    Program::Plat => {
                        found.switch("wkp-strict", !allowed, &from);
                        if !allowed {
                            found.differs(
                                "Tundra drops private IPv4 addresses in any prefix, plat in 64:ff9b::/96 \
                                 only (RFC 6052)",
                            );
                        }
                    }
                    Program::Clat => found.leave(&from, "the PLAT decides what it translates"),
                }
            }
        }
        "translator.ipv4.outbound_mtu" => {
            if let Some(bytes) = found.number(value, 96..=65535) {
                found.set("mtu4", bytes, &from);
            }
        }
        "translator.ipv6.outbound_mtu" => {
            if let Some(bytes) = found.number(value, 1280..=65535) {
                found.set("mtu", bytes, &from);
            }
        }
        _ if text.starts_with("translator.") => {
            let flag = match text.contains("4to6") {
                true => "traffic-class",
                false => "tos",
            };
            if found.boolean(value) == Some(false) {
                found.set(flag, 0_u64, &from);
            }
        }
        _ => {}
    }
}

fn address4(value: &Word, from: &Origin, found: &mut Found) {
    if let Some(address) = found.parse::<Ipv4Addr>(value, "an IPv4 address") {
        found.set("ipv4", address.to_string(), from);
    }
}

/// The one host that is translated for.
fn map(options: &Options, found: &mut Found) {
    let get = |name: &str| {
        let mut options = options.iter();
        options.find(|(key, _)| key.text == name)
    };
    let v4 = get("addressing.nat64_clat.ipv4");
    let v6 = get("addressing.nat64_clat.ipv6");
    let (Some((key, v4)), Some((_, v6))) = (v4, v6) else {
        return;
    };
    let from = Origin {
        at: key.at.clone(),
        text: format!(
            "addressing.nat64_clat.ipv4 = {}, .ipv6 = {}",
            v4.text, v6.text
        ),
    };
    let v4 = found.parse::<Ipv4Addr>(v4, "an IPv4 address");
    let v6 = found.parse::<Ipv6Addr>(v6, "an IPv6 address");
    if let (Some(v4), Some(v6)) = (v4, v6) {
        found.set("map", format!("{v4}/32={v6}/128"), &from);
    }
}
