//! Jool's global variables.

use super::{Instance, Kind};
use crate::found::{Found, Role};
use crate::text::{Origin, Word};

/// Both kinds have these.
const COMMON: [&str; 10] = [
    "comment",
    "pool6",
    "manually-enabled",
    "lowest-ipv6-mtu",
    "logging-debug",
    "zeroize-traffic-class",
    "override-tos",
    "tos",
    "mtu-plateaus",
    "trace",
];

const SIIT: [&str; 5] = [
    "amend-udp-checksum-zero",
    "eam-hairpin-mode",
    "randomize-rfc6791-addresses",
    "rfc6791v4-prefix",
    "rfc6791v6-prefix",
];

const NAT64: [&str; 20] = [
    "address-dependent-filtering",
    "drop-icmpv6-info",
    "drop-externally-initiated-tcp",
    "udp-timeout",
    "tcp-est-timeout",
    "tcp-trans-timeout",
    "icmp-timeout",
    "maximum-simultaneous-opens",
    "source-icmpv6-errors-better",
    "logging-bib",
    "logging-session",
    "f-args",
    "handle-rst-during-fin-rcv",
    "ss-enabled",
    "ss-flush-asap",
    "ss-flush-deadline",
    "ss-capacity",
    "ss-max-payload",
    "ss-max-sessions-per-packet",
    "ttl-fragment-timeout",
];

/// A timeout: its flag, and the shortest in seconds that the RFCs allow.
const TIMEOUTS: [(&str, u64); 4] = [
    ("udp-timeout", 120),
    ("icmp-timeout", 60),
    ("tcp-est-timeout", 7440),
    ("tcp-trans-timeout", 240),
];

/// Carries a variable over.
pub(super) fn set(
    instance: &mut Instance,
    key: &Word,
    value: &Word,
    from: &Origin,
    found: &mut Found,
) {
    let name = key.text.to_ascii_lowercase();
    let own: &[&str] = match instance.kind {
        Kind::Nat64 => &NAT64,
        Kind::Siit => &SIIT,
    };
    if !COMMON.contains(&&*name) && !own.contains(&&*name) {
        let known = COMMON.iter().chain(own).copied();
        found.unknown(key, "global variable of Jool here", known);
        return;
    }
    if let Some((flag, least)) = TIMEOUTS.iter().find(|(flag, _)| *flag == name) {
        timeout(flag, *least, value, from, found);
        return;
    }
    match name.as_str() {
        "comment" => {}
        "pool6" if value.is("null") => {}
        "pool6" => found.prefix(value, Role::Translates, from),
        "lowest-ipv6-mtu" => {
            if let Some(bytes) = found.number(value, 1280..=65535) {
                found.set("lowest-ipv6-mtu", bytes, from);
            }
        }
        "tos" => {
            if let Some(tos) = found.number(value, 0..=255) {
                instance.tos = Some((tos, from.clone()));
            }
        }
        "maximum-simultaneous-opens" => match found.number(value, 0..=0xffff_ffff) {
            Some(0) => found.set("store-syns", "off", from),
            Some(_) => found.leave(from, "plat bounds the SYNs that it holds by memory"),
            None => {}
        },
        "eam-hairpin-mode" => match value.text.to_ascii_lowercase().as_str() {
            "none" | "off" | "0" => found.set("hairpin", "off", from),
            "simple" | "1" => found.set("hairpin", "simple", from),
            "intrinsic" | "2" => found.set("hairpin", "intrinsic", from),
            other => {
                let message = format!("`{other}` is none of none, simple, intrinsic");
                found.error(&value.at, message);
            }
        },
        "rfc6791v4-prefix" if value.is("null") => {}
        "rfc6791v4-prefix" => {
            let word = super::with_length(value, 32);
            let prefix = found.parse::<xlat_core::addr::Ipv4Prefix>(&word, "an IPv4 prefix");
            if let Some(prefix) = prefix {
                found.set("rfc6791-pool", prefix.to_string(), from);
            }
        }
        _ => other(instance, &name, value, from, found),
    }
}

/// Switches, and what has no counterpart.
fn other(instance: &mut Instance, name: &str, value: &Word, from: &Origin, found: &mut Found) {
    if let Some(because) = reason(name) {
        found.leave(from, because);
        return;
    }
    let Some(on) = found.boolean(value) else {
        return;
    };
    match (name, on) {
        ("manually-enabled", false) => found.leave(from, "plat translates for as long as it runs"),
        ("zeroize-traffic-class", true) => found.set("traffic-class", 0_u64, from),
        ("override-tos", on) => instance.override_tos = on.then(|| from.clone()),
        ("amend-udp-checksum-zero", true) => found.set("udp-zero-checksum", "compute", from),
        ("amend-udp-checksum-zero", false) => found.set("udp-zero-checksum", "drop", from),
        ("address-dependent-filtering", true) => {
            found.set("filtering", "address-dependent", from);
        }
        ("drop-externally-initiated-tcp", true) => found.switch("inbound-tcp", false, from),
        ("drop-icmpv6-info", true) => found.leave(
            from,
            "plat translates pings of clients; drop ICMPv6 echo requests to the prefix in the FORWARD \
             chain",
        ),
        ("source-icmpv6-errors-better", false) => found.leave(
            from,
            "plat always shows clients which IPv4 router has sent an error, so that traceroute works",
        ),
        ("logging-bib", true) => found.set("session-log", "syslog", from),
        ("logging-session", true) => {
            found.set("session-log", "syslog", from);
            found.set("session-log-level", "sessions", from);
        }
        ("ss-enabled", true) => found.leave(
            from,
            "plat does not speak Jool's session synchronization: the other gateways need their own \
             way to take over",
        ),
        _ => {}
    }
}

fn reason(name: &str) -> Option<&'static str> {
    Some(match name {
        "logging-debug" | "trace" => "plat logs more with --verbose, and never single packets",
        "mtu-plateaus" => "plat has those of RFC 1191",
        "randomize-rfc6791-addresses" => "plat chooses among the addresses of rfc6791-pool itself",
        "rfc6791v6-prefix" => "plat answers to IPv6 with its own address (`ipv6`)",
        "f-args" => "plat gives a client one address for all its connections (RFC 4787)",
        "handle-rst-during-fin-rcv" => "plat always ends a session early at a RST behind a FIN",
        "ss-flush-asap"
        | "ss-flush-deadline"
        | "ss-capacity"
        | "ss-max-payload"
        | "ss-max-sessions-per-packet" => "plat does not speak Jool's session synchronization",
        "ttl-fragment-timeout" => "Jool has it no more; `fragment-timeout` is 2 s",
        _ => return None,
    })
}

/// A time as `[[HH:]MM:]SS[.mmm]`.
fn timeout(flag: &'static str, least: u64, value: &Word, from: &Origin, found: &mut Found) {
    let (whole, _) = value.text.split_once('.').unwrap_or((&value.text, ""));
    let parts: Result<Vec<u64>, _> = whole.split(':').map(str::parse).collect();
    let seconds = match parts.as_deref() {
        Ok(parts) if parts.len() <= 3 => parts.iter().try_fold(0_u64, |sum, part| {
            sum.checked_mul(60).and_then(|sum| sum.checked_add(*part))
        }),
        _ => None,
    };
    let Some(seconds) = seconds.filter(|seconds| (1..=31_536_000).contains(seconds)) else {
        let message = format!("`{}` is no time of the form [[HH:]MM:]SS", value.text);
        return found.error(&value.at, message);
    };
    found.set(flag, format!("{seconds}s"), from);
    if seconds < least {
        let from = from.named(format!("{flag} is shorter than the RFCs allow ({least} s)"));
        found.set("allow-short-timeouts", true, &from);
    }
}
