//! Which program a file is for, by its contents.

use crate::Format;
use crate::text::Text;
use crate::{clatd, jool, named, radvd, tayga, tundra, unbound};

/// Lines that are looked at.
const LINES_MAX: usize = 4000;

/// The format of a text; `None` if it could be of several or of none.
pub(crate) fn format(text: &Text) -> Option<Format> {
    let trimmed = text.text.trim_start();
    if trimmed.starts_with('{') {
        return of_json(trimmed);
    }
    let mut scores: Vec<(usize, Format)> = Vec::new();
    for line in trimmed.lines().take(LINES_MAX) {
        for format in of_line(line.trim()) {
            match scores.iter_mut().find(|(_, known)| *known == format) {
                Some((score, _)) => *score += 1,
                None => scores.push((1, format)),
            }
        }
    }
    let best = scores.iter().map(|(score, _)| *score).max()?;
    let mut winners = scores.iter().filter(|(score, _)| *score == best);
    match (winners.next(), winners.next()) {
        (Some((_, format)), None) => Some(*format),
        _ => None,
    }
}

/// Which of Jool's two translators has such an object: by tags that the other has not.
fn of_json(text: &str) -> Option<Format> {
    let has = |tags: &[&str]| tags.iter().any(|tag| text.contains(&format!("\"{tag}\"")));
    let siit = [
        "eamt",
        "denylist4",
        "blacklist4",
        "eam-hairpin-mode",
        "amend-udp-checksum-zero",
        "rfc6791v4-prefix",
        "rfc6791v6-prefix",
    ];
    let nat64 = [
        "pool4",
        "bib",
        "udp-timeout",
        "tcp-est-timeout",
        "address-dependent-filtering",
        "logging-bib",
        "logging-session",
    ];
    match (has(&nat64), has(&siit)) {
        (true, _) => Some(Format::Jool),
        (false, true) => Some(Format::JoolSiit),
        (false, false) => None,
    }
}

/// The formats that a line could be of.
fn of_line(line: &str) -> Vec<Format> {
    let mut words = line.split_whitespace();
    let Some(first) = words.next() else {
        return Vec::new();
    };
    if first.starts_with(['#', ';']) || first.starts_with("//") {
        return Vec::new();
    }
    let mut formats = Vec::new();
    let mut add = |is: bool, format: Format| {
        if is {
            formats.push(format);
        }
    };
    let is = |known: &str| first.eq_ignore_ascii_case(known);
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    let key = key.trim();
    let is_assignment = line.contains('=');
    add(
        tayga::DIRECTIVES.iter().any(|(known, _)| is(known))
            && !line.ends_with(['{', ';'])
            && !is_assignment,
        Format::Tayga,
    );
    add(is_lease(line), Format::DynamicMap);
    add(
        is_assignment && clatd::KEYS.contains(&key) && !value.is_empty(),
        Format::Clatd,
    );
    add(
        is_assignment && tundra::OPTIONS.contains(&key),
        Format::Tundra,
    );
    let is_binding = ["TCP,", "UDP,", "ICMP,"]
        .iter()
        .any(|start| line.starts_with(start));
    let is_head = line.to_ascii_lowercase().starts_with(jool::BIB_HEAD);
    add(is_binding || is_head, Format::JoolBib);
    let mut commands = line
        .split_whitespace()
        .filter(|word| !["sudo", "exec"].contains(word));
    let program = commands.next().and_then(|word| word.rsplit('/').next());
    add(
        matches!(program, Some("jool" | "jool_siit")),
        Format::JoolCommands,
    );
    let attribute = line.split_once(':').map(|(name, _)| name);
    add(
        attribute.is_some_and(unbound::is_attribute),
        Format::Unbound,
    );
    let is_named = named::STATEMENTS.iter().any(|known| is(known));
    add(is_named && line.ends_with(['{', ';']), Format::Named);
    let in_block = line.ends_with([';', '{']) || line == "}";
    add(
        in_block && radvd::WORDS.iter().any(|known| is(known))
            || is("interface") && words.next().is_some() && !line.contains(':'),
        Format::Radvd,
    );
    formats
}

fn is_lease(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [v4, v6, time] = words.as_slice() else {
        return false;
    };
    v4.parse::<std::net::Ipv4Addr>().is_ok()
        && v6.parse::<std::net::Ipv6Addr>().is_ok()
        && time.parse::<u64>().is_ok()
}
