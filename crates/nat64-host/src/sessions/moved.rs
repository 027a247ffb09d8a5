//! Sessions on their way to another gateway: out of the tables of one, and into those of the other.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nat64::Nat64;
use nat64::snapshot::{Cursor, SavedSession};
use xlat_host::daemon::wall_clock::epoch;
use xlat_tun::now;

use super::filter::SessionFilter;
use super::row::Row;

/// Sessions read from a shard while it is locked.
const PAGE: usize = 1024;

/// Sessions that leave, page by page.
#[derive(Debug)]
pub struct Export {
    cursor: Option<Cursor>,
    filter: SessionFilter,
    count: u64,
}

impl Export {
    /// Those that the filter admits.
    pub fn new(filter: SessionFilter) -> Self {
        Self {
            cursor: Some(Cursor::default()),
            filter,
            count: 0,
        }
    }

    /// The next page, a line each, which may be empty; `None` after the last one.
    pub fn next_page(&mut self, nat: &Nat64) -> Option<String> {
        let here = self.cursor?;
        let epoch = epoch();
        let (sessions, next) = nat.sessions(here, PAGE, now(), epoch);
        self.cursor = next;
        let mut page = String::new();
        for session in sessions {
            let row = Row::listed(&session, session.binding.external, epoch);
            if self.filter.admits(&row) {
                self.count += 1;
                // Writing into a string does not fail.
                let _ = writeln!(page, "{session}");
            }
        }
        Some(page)
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// Sessions that come.
#[derive(Debug)]
pub struct Import {
    /// How far this host's clock is behind that of the other gateway, in seconds.
    behind: u64,
    taken_up: u64,
    skipped: BTreeMap<String, u64>,
}

impl Import {
    /// They left the other gateway at `at` by its clock, in seconds since 1970. Time that has passed
    /// since counts; a clock that is behind lengthens no session.
    pub fn new(at: u64) -> Self {
        Self {
            behind: at.saturating_sub(epoch()),
            taken_up: 0,
            skipped: BTreeMap::new(),
        }
    }

    /// Takes up the session of a line.
    pub fn take(&mut self, nat: &Nat64, line: &str) {
        let outcome = line.parse::<SavedSession>().and_then(|mut session| {
            session.expires = session.expires.saturating_sub(self.behind);
            nat.restore(&session, now(), epoch())
        });
        match outcome {
            Ok(()) => self.taken_up += 1,
            Err(reason) => *self.skipped.entry(reason.to_string()).or_default() += 1,
        }
    }

    /// What became of them, a line for each outcome.
    pub fn summary(&self) -> String {
        let mut text = format!("{} sessions taken up\n", self.taken_up);
        for (reason, count) in &self.skipped {
            let _ = writeln!(text, "{count} sessions not taken up: {reason}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nat64::config::Config;
    use xlat_core::addr::Pref64s;

    fn nat() -> Nat64 {
        let pref64s = Pref64s::new(["2001:db8:64::/96".parse().unwrap()], true);
        let config = Config::new(vec!["192.0.2.1".parse().unwrap()]);
        Nat64::new(config, pref64s, [1, 2]).unwrap()
    }

    fn line(client: u16, expires: u64) -> String {
        format!(
            "udp 2001:db8::{client:x} 99 192.0.2.1 {} 198.51.100.7 53 2001:db8:64::/96 - {expires}",
            2000 + client
        )
    }

    fn pages(mut export: Export, nat: &Nat64) -> String {
        let mut text = String::new();
        while let Some(page) = export.next_page(nat) {
            text.push_str(&page);
        }
        assert_eq!(text.lines().count() as u64, export.count());
        text
    }

    #[test]
    fn sc_05_sessions_come_as_they_left() {
        let (here, there) = (nat(), nat());
        let mut import = Import::new(epoch());
        for client in 1..=40 {
            import.take(&here, &line(client, epoch() + 100));
        }
        let all = pages(Export::new(SessionFilter::default()), &here);
        assert_eq!(all.lines().count(), 40);
        let one = SessionFilter {
            client: Some("2001:db8::7".parse().unwrap()),
            ..SessionFilter::default()
        };
        assert_eq!(pages(Export::new(one), &here).lines().count(), 1);
        let mut import = Import::new(epoch());
        all.lines().for_each(|line| import.take(&there, line));
        assert_eq!(import.summary(), "40 sessions taken up\n");
        // What comes twice, and what is none.
        let mut again = Import::new(epoch());
        again.take(&there, all.lines().next().unwrap());
        again.take(&there, "nonsense");
        assert_eq!(
            again.summary(),
            "0 sessions taken up\n1 sessions not taken up: not a session\n1 sessions not taken up: \
             one of its transport addresses is taken\n"
        );
    }

    #[test]
    fn sc_05_another_clock_stretches_no_session() {
        let there = nat();
        let ahead = epoch() + 5000;
        let mut import = Import::new(ahead);
        import.take(&there, &line(1, ahead + 50));
        let (sessions, _) = there.sessions(Cursor::default(), PAGE, now(), epoch());
        assert!(sessions[0].expires <= epoch() + 51, "{sessions:?}");
        // It left long ago, or that clock is behind.
        let mut import = Import::new(epoch() - 500);
        import.take(&there, &line(2, epoch() - 450));
        assert!(
            import
                .summary()
                .contains("1 sessions not taken up: its lifetime is over")
        );
    }
}
