//! The map file: one line `IPV4 IPV6 LAST-USE` per lease, so that a restarted translator gives
//! each client the address it had.
//!
//! `LAST-USE` is in seconds since the Unix epoch. Empty lines and lines that begin with `#` mean
//! nothing. Reading and writing the file itself is the caller's work.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

/// One lease, as it is kept across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address of the pool.
    pub v4: Ipv4Addr,
    /// Its client.
    pub v6: Ipv6Addr,
    /// When a packet last used it, in seconds since the Unix epoch.
    pub last_use: u64,
}

/// Why a saved lease was not restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// The line is not `IPV4 IPV6 SECONDS`.
    #[error("not of the form IPV4 IPV6 SECONDS")]
    Malformed,
    /// The address is not one that the pool hands out: outside its prefix, reserved, or mapped
    /// statically.
    #[error("the address is not one the pool hands out")]
    NotInPool,
    /// The client is not one that the pool serves.
    #[error("the client is not one the pool serves")]
    NotAClient,
    /// The IPv4 or the IPv6 address has a lease already.
    #[error("one of the addresses has a lease already")]
    Duplicate,
    /// Last used longer ago than leases are remembered.
    #[error("last used longer ago than leases are remembered")]
    Forgotten,
}

/// A line of a map file that was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkippedLine {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: SkipReason,
}

/// The leases of a map file, and the lines that are none.
pub fn parse(text: &str) -> (Vec<Lease>, Vec<SkippedLine>) {
    let mut leases = Vec::new();
    let mut skipped = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_line(line) {
            Some(lease) => leases.push(lease),
            None => skipped.push(SkippedLine {
                line: index + 1,
                reason: SkipReason::Malformed,
            }),
        }
    }
    (leases, skipped)
}

/// A map file with these leases.
pub fn format(leases: &[Lease]) -> String {
    let mut text = String::from("# IPv4 IPv6 last-use (seconds since 1970)\n");
    for lease in leases {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{lease}");
    }
    text
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.v4, self.v6, self.last_use)
    }
}

fn parse_line(line: &str) -> Option<Lease> {
    let mut fields = line.split_ascii_whitespace();
    let lease = Lease {
        v4: fields.next()?.parse().ok()?,
        v6: fields.next()?.parse().ok()?,
        last_use: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some(lease)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dp_05_a_written_file_reads_back_the_same() {
        let leases = [
            lease("192.168.64.7", "2001:db8::7", 1_790_000_000),
            lease("192.168.64.9", "fd00::9", 0),
        ];
        let text = format(&leases);
        assert_eq!(
            text.lines().nth(1),
            Some("192.168.64.7 2001:db8::7 1790000000")
        );
        assert_eq!(parse(&text), (leases.to_vec(), vec![]));
    }

    #[test]
    fn dp_05_malformed_lines_are_listed_and_the_others_are_kept() {
        let text = "# comment\n\n192.168.64.7\n\
                    192.168.64.7 2001:db8::7 12 13\n\
                    192.168.64.300 2001:db8::7 12\n\
                    192.168.64.7 2001:db8::7 -12\n\
                    \t192.168.64.7  2001:db8::7\t12\r\n\
                    2001:db8::7 192.168.64.7 12";
        let (leases, skipped) = parse(text);
        assert_eq!(leases, [lease("192.168.64.7", "2001:db8::7", 12)]);
        let lines: Vec<_> = skipped.iter().map(|skipped| skipped.line).collect();
        assert_eq!(lines, [3, 4, 5, 6, 8]);
        assert!(
            skipped
                .iter()
                .all(|skipped| skipped.reason == SkipReason::Malformed)
        );
    }

    fn lease(v4: &str, v6: &str, last_use: u64) -> Lease {
        Lease {
            v4: v4.parse().unwrap(),
            v6: v6.parse().unwrap(),
            last_use,
        }
    }
}
