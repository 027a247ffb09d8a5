//! Whether a line of output is the one that a page shows.
//!
//! Words must be the same. IPv4 addresses must be the same as well; of an IPv6 address with a random
//! interface identifier the first 64 bits. Other figures may differ: times, counts, ports. The time in
//! front of a log line may be left out.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// How many of the lines that a page shows have come, in their order; others may stand between.
pub(super) fn matched<'a>(shown: &[String], seen: impl Iterator<Item = &'a str>) -> usize {
    let mut wanted = shown.iter().peekable();
    for line in seen {
        wanted.next_if(|shown| is_same(shown, line));
    }
    shown.len() - wanted.len()
}

/// Whether a page that shows one line means the other.
fn is_same(shown: &str, seen: &str) -> bool {
    words(shown) == words(seen)
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    Address(IpAddr),
    /// An address that a host has made up in this /64.
    Random(u64),
    /// `2h 3m`, `15s`.
    Time,
    Text(String),
}

fn words(line: &str) -> Vec<Word> {
    let belongs = |c: char| c.is_alphanumeric() || c == ':' || c == '.' || c == '%';
    let mut words = Vec::new();
    for text in without_stamp(line).split(|c| !belongs(c)) {
        let text = text.trim_end_matches(['.', ':']);
        if text.is_empty() {
            continue;
        }
        let word = word(text);
        if word != Word::Time || words.last() != Some(&Word::Time) {
            words.push(word);
        }
    }
    words
}

fn without_stamp(line: &str) -> &str {
    let line = line.trim_start();
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    let is_stamp = first.starts_with("20") && first.contains('T') && first.ends_with('Z');
    if is_stamp { rest } else { line }
}

fn word(text: &str) -> Word {
    let plain = text.split('%').next().unwrap_or_default();
    let address = plain
        .parse()
        .or_else(|_| plain.parse().map(|to: SocketAddr| to.ip()));
    match address {
        Ok(IpAddr::V6(address)) if is_random(address) => {
            Word::Random((address.to_bits() >> 64) as u64)
        }
        Ok(address) => Word::Address(address),
        Err(_) if is_time(text) => Word::Time,
        Err(_) => Word::Text(without_figures(text)),
    }
}

/// People write small interface identifiers, and IPv4 addresses below a /96.
fn is_random(address: Ipv6Addr) -> bool {
    address.to_bits() as u64 >> 32 != 0
}

fn is_time(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < text.len() && matches!(unit, "s" | "m" | "h" | "d")
}

/// `time=0.31` is `time=#`.
fn without_figures(text: &str) -> String {
    let mut short = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' | '.' if short.ends_with('#') => {}
            '0'..='9' => short.push('#'),
            _ => short.push(c),
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_may_differ_and_words_and_addresses_may_not() {
        for (shown, seen, expected) in [
            ("5 received, time=0.3 ms", "4 received,  time=12 ms", true),
            ("running for 2h 3m", "running for 15s", true),
            ("from 9.9.9.9: x", "from 9.9.9.10: x", false),
            ("to 9.9.9.9:80", "to 9.9.9.9:443", true),
            (
                "by fe80::a8c1:1ff:fe02:3",
                "by fe80::1234:56ff:fe78:9",
                true,
            ),
            ("2001:db8:1:0:1:2:3:4", "2001:db8:2:0:1:2:3:4", false),
            ("2001:db8:1::1", "2001:db8:1::2", false),
            ("64:ff9b::/96", "64:ff9b::/96", true),
            ("health ok", "health broken", false),
            ("INFO a", "2026-01-15T11:49:19.061363Z  INFO a", true),
        ] {
            assert_eq!(is_same(shown, seen), expected, "{shown} | {seen}");
        }
    }

    #[test]
    fn lines_come_in_their_order() {
        let shown = ["a".to_owned(), "b".to_owned()];
        assert_eq!(matched(&shown, ["a", "x", "b"].into_iter()), 2);
        assert_eq!(matched(&shown, ["b", "a"].into_iter()), 1);
    }
}
