//! The mappings on disk, so that clients keep their ports over a restart: a line of JSON for each.

use std::net::{SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xlat_core::Instant;
use xlat_host::daemon::state_dir::StateDir;
use xlat_host::daemon::wall_clock::epoch;
use xlat_proto::pcp::{Filter, Held, Internal, Mapping, Remote};

const FILE: &str = "pcp.mappings";
const CONSEQUENCE: &str = "no mapping is restored, clients ask for their ports again";

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    protocol: u8,
    client: SocketAddrV6,
    external: SocketAddrV4,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    peer: Option<SocketAddrV6>,
    nonce: [u8; 12],
    /// Prefix length, address and port of each.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    filters: Vec<(u8, SocketAddrV6)>,
    /// Seconds since 1970.
    until: u64,
}

/// Writes the mappings. `now` is the moment of the wall clock's [`epoch`].
pub(crate) fn save(dir: &StateDir, mappings: &[Mapping], now: Instant) -> Result<(), String> {
    let lines: Result<Vec<String>, _> = mappings
        .iter()
        .map(|mapping| serde_json::to_string(&line(mapping, now, epoch())))
        .collect();
    let lines = lines.map_err(|error| error.to_string())?;
    let written = dir.save(FILE, |file| {
        lines.iter().try_for_each(|line| writeln!(file, "{line}"))
    });
    written.map_err(|error| error.to_string())
}

/// The mappings of the last run whose time is not over. None of a damaged file.
pub(crate) fn load(dir: &StateDir, now: Instant) -> Vec<Mapping> {
    let Some(saved) = dir.open_saved(FILE, CONSEQUENCE) else {
        return Vec::new();
    };
    let read = saved.text().map_err(|error| error.to_string());
    match read.and_then(|text| parse(&text, now, epoch())) {
        Ok(mappings) => mappings,
        Err(damage) => {
            dir.set_aside(FILE, &damage, CONSEQUENCE);
            Vec::new()
        }
    }
}

fn parse(text: &str, now: Instant, epoch: u64) -> Result<Vec<Mapping>, String> {
    let lines = text.lines().map(serde_json::from_str::<Line>);
    let lines: Result<Vec<Line>, _> = lines.collect();
    let lines = lines.map_err(|error| error.to_string())?;
    let left = lines.into_iter().filter(|line| line.until > epoch);
    Ok(left.map(|line| mapping(line, now, epoch)).collect())
}

fn line(mapping: &Mapping, now: Instant, epoch: u64) -> Line {
    let internal = mapping.internal;
    let remaining = mapping.until.saturating_since(now).as_secs();
    Line {
        protocol: internal.protocol,
        client: SocketAddrV6::new(internal.client, internal.port, 0, 0),
        external: mapping.external,
        peer: match mapping.held {
            Held::Open => None,
            Held::Connection(Remote { address, port }) => {
                Some(SocketAddrV6::new(address, port, 0, 0))
            }
        },
        nonce: mapping.nonce,
        filters: mapping
            .filters
            .iter()
            .map(|one| {
                (
                    one.prefix_len,
                    SocketAddrV6::new(one.address, one.port, 0, 0),
                )
            })
            .collect(),
        until: epoch + remaining,
    }
}

fn mapping(line: Line, now: Instant, epoch: u64) -> Mapping {
    let filter = |(prefix_len, of): (u8, SocketAddrV6)| Filter {
        prefix_len,
        address: *of.ip(),
        port: of.port(),
    };
    let connection = |peer: SocketAddrV6| {
        Held::Connection(Remote {
            address: *peer.ip(),
            port: peer.port(),
        })
    };
    Mapping {
        internal: Internal {
            client: *line.client.ip(),
            protocol: line.protocol,
            port: line.client.port(),
        },
        held: line.peer.map_or(Held::Open, connection),
        nonce: line.nonce,
        external: line.external,
        filters: line.filters.into_iter().map(filter).collect(),
        until: now + Duration::from_secs(line.until - epoch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pc_17_mappings_read_back_as_they_were_written() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let dir = StateDir::open(dir.path())?;
        let now = Instant::from_secs(5000);
        let open = Mapping {
            internal: Internal {
                client: "2001:db8::7".parse()?,
                protocol: 17,
                port: 6881,
            },
            held: Held::Open,
            nonce: *b"twelve bytes",
            external: "192.0.2.1:6881".parse()?,
            filters: vec![Filter {
                prefix_len: 120,
                address: "::ffff:198.51.100.0".parse()?,
                port: 80,
            }],
            until: now + Duration::from_secs(3600),
        };
        let kept = Mapping {
            held: Held::Connection(Remote {
                address: "64:ff9b::c633:6407".parse()?,
                port: 443,
            }),
            filters: Vec::new(),
            ..open.clone()
        };
        let over = Mapping {
            until: now,
            ..open.clone()
        };
        save(&dir, &[open.clone(), kept.clone(), over], now)?;
        // A restart later the monotonic clock may be anywhere.
        let then = Instant::from_secs(1);
        let shifted = |mapping: Mapping| {
            let left = mapping.until.saturating_since(now);
            (
                mapping.external,
                mapping.held,
                mapping.filters,
                left.as_secs(),
            )
        };
        let read: Vec<_> = load(&dir, then)
            .into_iter()
            .map(|mapping| Mapping {
                until: now + mapping.until.saturating_since(then),
                ..mapping
            })
            .collect();
        assert_eq!(read.len(), 2);
        for (was, is) in [open, kept].into_iter().zip(read) {
            let (was, is) = (shifted(was), shifted(is));
            assert_eq!((was.0, was.1, was.2), (is.0, is.1, is.2));
            assert!(was.3.abs_diff(is.3) <= 1, "{} {}", was.3, is.3);
        }
        Ok(())
    }
}
