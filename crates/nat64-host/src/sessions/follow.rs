//! Sessions as they come, change and go.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, SystemTime};

use nat64::event::{Change, Event, EventKind, SessionEntry};
use nat64::feed::Subscribe;
use nat64::{Nat64, Subscription};
use serde::Serialize;
use xlat_core::Instant;
use xlat_host::daemon::control::SCHEMA;

use super::filter::SessionFilter;
use super::row::{Heading, Row};

/// Changes that a shard keeps for one who follows, until they are fetched: about 400 KiB.
const CAPACITY: usize = 1 << 12;

/// Follows the changes of sessions from now on.
#[derive(Debug)]
pub struct SessionFollower {
    subscription: Subscription,
    filter: SessionFilter,
    json: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    event: &'static str,
    time: String,
    #[serde(flatten)]
    row: Row,
}

#[derive(Debug, Serialize)]
struct Lost {
    schema: u32,
    event: &'static str,
    count: u64,
}

impl SessionFollower {
    /// Follows the sessions that are meant.
    pub fn new(nat: &Nat64, filter: SessionFilter, json: bool) -> Self {
        let subscription = nat.subscribe(Subscribe {
            sessions: true,
            updates: true,
            capacity: CAPACITY,
            ..Subscribe::NONE
        });
        Self {
            subscription,
            filter,
            json,
        }
    }

    /// The names of the columns.
    pub fn heading(&self) -> String {
        let mut heading = String::new();
        if !self.json {
            let _ = write!(heading, "{:<20} {:<8} ", "TIME", "CHANGE");
            let _ = Heading::write_ends(&mut heading);
            heading.truncate(heading.trim_end().len());
            heading.push('\n');
        }
        heading
    }

    /// What has changed since the last call; `now` and `clock` are the same moment.
    ///
    /// # Errors
    /// Never: writing into a string does not fail.
    pub fn news(&self, nat: &Nat64, now: Instant, clock: SystemTime) -> io::Result<String> {
        let mut events = Vec::new();
        let lost = self.subscription.drain(&mut events);
        events.sort_by_key(|event| event.at);
        let mut text = String::new();
        for Event { at, kind } in &events {
            let EventKind::Session(change) = kind else {
                continue;
            };
            let entry = change.entry();
            let external = nat.seen(entry.record.binding.external);
            let row = Row::changed(entry, external, left(change, *at));
            if !self.filter.admits(&row) {
                continue;
            }
            let time = clock
                .checked_sub(now.saturating_since(*at))
                .unwrap_or(clock);
            let time = humantime::format_rfc3339_seconds(time).to_string();
            self.write(name(change), time, row, &mut text)?;
        }
        if lost > 0 && self.json {
            let event = "lost";
            text.push_str(&serde_json::to_string(&Lost {
                schema: SCHEMA,
                event,
                count: lost,
            })?);
            text.push('\n');
        } else if lost > 0 {
            let _ = writeln!(text, "{lost} changes are not shown: too many at once");
        }
        Ok(text)
    }

    fn write(
        &self,
        event: &'static str,
        time: String,
        row: Row,
        into: &mut String,
    ) -> io::Result<()> {
        if self.json {
            into.push_str(&serde_json::to_string(&Line { event, time, row })?);
        } else {
            let _ = write!(into, "{time:<20} {event:<8} ");
            let _ = row.write_ends(into);
            into.truncate(into.trim_end().len());
        }
        into.push('\n');
        Ok(())
    }
}

fn name(change: &Change<SessionEntry>) -> &'static str {
    match change {
        Change::Created(_) => "created",
        Change::Updated(_) => "updated",
        Change::Removed(_) => "removed",
    }
}

/// How long the session lives unless packets come.
fn left(change: &Change<SessionEntry>, at: Instant) -> Duration {
    match change {
        Change::Removed(_) => Duration::ZERO,
        Change::Created(entry) | Change::Updated(entry) => entry.expires.saturating_since(at),
    }
}
