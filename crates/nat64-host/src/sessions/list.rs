//! The sessions as `plat sessions` lists them.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::io;

use nat64::Nat64;
use nat64::snapshot::{Cursor, ListedSession};
use xlat_host::daemon::wall_clock::epoch;
use xlat_tun::now;

use super::filter::SessionFilter;
use super::row::{Heading, Row};

/// Sessions read from a shard while it is locked.
const PAGE: usize = 1024;

/// Most sessions that are sorted: they are all in memory at once.
pub const SORTED_MAX: usize = 100_000;

/// A list of sessions, page by page, so that no shard is locked for long and no list is in memory.
#[derive(Debug)]
pub struct SessionList {
    cursor: Option<Cursor>,
    filter: SessionFilter,
    json: bool,
    /// How many are left to be listed.
    left: usize,
    listed: usize,
    counted: usize,
    is_sorted: bool,
}

impl SessionList {
    /// Lists sessions, `limit` at the most, one per line, as text or as JSON.
    pub fn new(filter: SessionFilter, limit: Option<usize>, json: bool) -> Self {
        Self {
            cursor: Some(Cursor::default()),
            filter,
            json,
            left: limit.unwrap_or(usize::MAX),
            listed: 0,
            counted: 0,
            is_sorted: false,
        }
    }

    /// The next page, which may be empty; `None` after the last one.
    ///
    /// # Errors
    /// Never: writing into a string does not fail.
    pub fn next_page(&mut self, nat: &Nat64) -> io::Result<Option<String>> {
        if self.left == 0 {
            return Ok(None);
        }
        let Some(mut rows) = self.rows(nat) else {
            return Ok(None);
        };
        rows.truncate(self.left);
        self.left -= rows.len();
        self.page(&rows).map(Some)
    }

    /// All of them in an order: the first `limit`.
    ///
    /// # Errors
    /// Never: writing into a string does not fail.
    pub fn sorted(&mut self, nat: &Nat64, sorted: &mut Sorted) -> io::Result<Option<String>> {
        match self.rows(nat) {
            Some(rows) => {
                for row in rows {
                    sorted.add(row);
                }
                Ok(None)
            }
            None => {
                self.is_sorted = true;
                self.page(&sorted.take()).map(Some)
            }
        }
    }

    /// True if there is no further page.
    pub fn is_read(&self) -> bool {
        self.cursor.is_none() && self.is_sorted
    }

    /// How many there were, for people; `None` if there was none.
    pub fn total(&self, nat: &Nat64) -> Option<String> {
        if self.listed == 0 {
            return None;
        }
        if self.json {
            return Some(String::new());
        }
        let all: u64 = nat.counts().sessions.iter().copied().map(u64::from).sum();
        let mut line = format!(
            "{} of {} sessions",
            self.listed,
            all.max(self.listed as u64)
        );
        if self.counted > 0 {
            let _ = write!(
                line,
                "; packets and bytes of {} since the kernel carries them",
                self.counted
            );
        }
        line.push('\n');
        Some(line)
    }

    /// Those of the next page that are meant; `None` after the last one.
    fn rows(&mut self, nat: &Nat64) -> Option<Vec<Row>> {
        let here = self.cursor?;
        let epoch = epoch();
        let (sessions, next) = nat.listed(here, PAGE, now(), epoch);
        self.cursor = next;
        let rows = sessions.into_iter().filter_map(|one| {
            let ListedSession { session, installed } = one;
            let external = nat.seen(session.binding.external);
            let mut row = Row::listed(&session, external, epoch);
            if !self.filter.admits(&row) {
                return None;
            }
            row.carried = installed.and_then(|entry| nat.carried(&entry));
            Some(row)
        });
        Some(rows.collect())
    }

    fn page(&mut self, rows: &[Row]) -> io::Result<String> {
        let mut page = String::new();
        if self.listed == 0 && !rows.is_empty() && !self.json {
            let _ = Heading::write_to(&mut page);
        }
        for row in rows {
            if self.json {
                page.push_str(&serde_json::to_string(row)?);
                page.push('\n');
            } else {
                let _ = row.write_to(&mut page);
            }
        }
        self.listed += rows.len();
        self.counted += rows.iter().filter(|row| row.carried.is_some()).count();
        Ok(page)
    }
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// By address and port of the client.
    Client,
    /// By external address and port.
    External,
    /// By address and port of the node outside.
    Remote,
    /// What ends last first.
    Expires,
    /// Most packets first.
    Packets,
    /// Most bytes first.
    Bytes,
}

/// The first sessions in an order, of all that are added.
#[derive(Debug)]
pub struct Sorted {
    by: SortBy,
    limit: usize,
    /// The last of them on top.
    kept: BinaryHeap<Keyed>,
}

/// Smaller keys come first.
#[derive(Debug)]
struct Keyed {
    key: (Reverse<u64>, u128, u16),
    row: Row,
}

impl Sorted {
    /// The first `limit` in this order, [`SORTED_MAX`] at the most.
    pub fn new(by: SortBy, limit: usize) -> Self {
        Self {
            by,
            limit: limit.min(SORTED_MAX),
            kept: BinaryHeap::new(),
        }
    }

    fn add(&mut self, row: Row) {
        let key = self.key(&row);
        if self.kept.len() < self.limit {
            self.kept.push(Keyed { key, row });
        } else if let Some(mut last) = self.kept.peek_mut()
            && key < last.key
        {
            *last = Keyed { key, row };
        }
    }

    fn take(&mut self) -> Vec<Row> {
        let kept = std::mem::take(&mut self.kept);
        let sorted = kept.into_sorted_vec();
        sorted.into_iter().map(|keyed| keyed.row).collect()
    }

    fn key(&self, row: &Row) -> (Reverse<u64>, u128, u16) {
        let most = |figure| (Reverse(figure), row.client.to_bits(), row.client_port);
        let none = Reverse(0);
        match self.by {
            SortBy::Client => most(0),
            SortBy::External => (none, row.external.to_bits().into(), row.external_port),
            SortBy::Remote => (none, row.remote.to_bits().into(), row.remote_port),
            SortBy::Expires => most(row.expires_in_s),
            SortBy::Packets => most(row.packets()),
            SortBy::Bytes => most(row.bytes()),
        }
    }
}

impl PartialEq for Keyed {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Keyed {}

impl PartialOrd for Keyed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Keyed {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

#[cfg(test)]
mod tests {
    use nat64::offload::{Carried, Load};
    use nat64::{Protocol, TcpState};

    use super::*;

    fn row(client: &str, port: u16, remote: &str, bytes: u64) -> Row {
        let load = |packets, bytes| Load { packets, bytes };
        Row {
            protocol: Protocol::Tcp,
            client: client.parse().unwrap(),
            client_port: port,
            external: "192.0.2.1".parse().unwrap(),
            external_port: port + 1,
            remote: remote.parse().unwrap(),
            remote_port: 443,
            tcp: Some(TcpState::Established),
            expires_in_s: 7200 + u64::from(port),
            carried: (bytes > 0).then(|| Carried {
                from_client: load(bytes / 100, bytes),
                from_remote: load(1, 60),
            }),
        }
    }

    fn ports(by: SortBy, limit: usize) -> Vec<u16> {
        let mut sorted = Sorted::new(by, limit);
        sorted.add(row("2001:db8::2", 10, "198.51.100.3", 0));
        sorted.add(row("2001:db8::1", 20, "198.51.100.1", 900));
        sorted.add(row("2001:db8::2", 5, "198.51.100.2", 1000));
        let rows = sorted.take();
        rows.iter().map(|row| row.client_port).collect()
    }

    #[test]
    fn ui_03_the_first_in_an_order_are_kept_and_no_more() {
        assert_eq!(ports(SortBy::Client, 9), [20, 5, 10]);
        assert_eq!(ports(SortBy::Remote, 9), [20, 5, 10]);
        assert_eq!(ports(SortBy::External, 9), [5, 10, 20]);
        assert_eq!(ports(SortBy::Expires, 9), [20, 10, 5]);
        assert_eq!(ports(SortBy::Bytes, 9), [5, 20, 10]);
        assert_eq!(ports(SortBy::Packets, 2), [5, 20]);
        assert_eq!(ports(SortBy::Bytes, 1), [5]);
        assert!(ports(SortBy::Bytes, 0).is_empty());
    }

    #[test]
    fn ui_02_a_session_is_a_line_for_people_and_an_object_for_programs() {
        let mut list = SessionList::new(SessionFilter::default(), None, false);
        let rows = [
            row("2001:db8::1", 20, "198.51.100.1", 900),
            row("2001:db8::2", 10, "198.51.100.3", 0),
        ];
        let text = list.page(&rows).unwrap();
        let expected = "\
PROTOCOL CLIENT                                    EXTERNAL              REMOTE                STATE       ENDS IN   PACKETS OUT/IN BYTES OUT/IN
tcp      [2001:db8::1]:20                          192.0.2.1:21          198.51.100.1:443      established 2h 20s    9/1            900/60
tcp      [2001:db8::2]:10                          192.0.2.1:11          198.51.100.3:443      established 2h 10s    -              -
";
        assert_eq!(text, expected);
        let mut list = SessionList::new(SessionFilter::default(), None, true);
        let json = list.page(&rows[..1]).unwrap();
        let expected = r#"{"schema":1,"protocol":"tcp","client":"2001:db8::1","client_port":20,"external":"192.0.2.1","external_port":21,"remote":"198.51.100.1","remote_port":443,"state":"established","expires_in_s":7220,"packets_out":9,"bytes_out":900,"packets_in":1,"bytes_in":60}"#;
        assert_eq!(json.trim_end(), expected);
    }
}
