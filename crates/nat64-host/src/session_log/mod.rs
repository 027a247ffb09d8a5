//! The session log (RFC 6888 REQ-12 to REQ-15): which subscriber had which address and port, and
//! when.
//!
//! A thread writes one line of JSON per event to a file or to syslog. Events that exceed its speed
//! are dropped and counted; no packet waits for it.

mod record;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use confinement::Kind;
use nat64::config::Config;
use nat64::event::Event;
use nat64::feed::Subscribe;
use portable_atomic::AtomicU64;
use thiserror::Error;
use xlat_core::Instant;
use xlat_host::private_dir::open_log;

use record::Record;

/// Maximum number of queued batches, and of records in them, for a slow disk. A record takes less
/// than 100 bytes.
const BACKLOG: usize = 64;
const RECORDS: u64 = 1 << 18;
/// Minimum time between two log lines about lost records.
const PAUSE: Duration = Duration::from_secs(10);
/// How long the daemon waits for queued records when it stops.
const PATIENCE: Duration = Duration::from_secs(5);

/// The socket of syslog.
const SYSLOG: &str = "/dev/log";
/// Facility daemon, severity informational (RFC 3164 section 4.1.1).
const PRIORITY: u8 = 3 * 8 + 6;

/// The session log. Dropping it writes the queued records and ends the thread, with a time limit in
/// case the reader of the log is stuck.
#[derive(Debug)]
pub(crate) struct SessionLog {
    sender: Option<SyncSender<Message>>,
    /// Closed when the thread ends.
    end: Receiver<()>,
    counts: Arc<Counts>,
    reported: u64,
    quiet_until: Option<std::time::Instant>,
}

/// Which events the session log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Bindings, or blocks of ports where ports are allocated in blocks; never destinations.
    Bindings,
    /// Sessions too, with their destinations.
    Sessions,
}

impl LogLevel {
    /// The events that the log needs; one record of a block stands for the bindings in it.
    pub(crate) fn events(self, config: &Config) -> Subscribe {
        let has_blocks = config.ports.blocks.is_some();
        Subscribe {
            bindings: !has_blocks,
            blocks: true,
            refusals: true,
            sessions: self == Self::Sessions,
            ..Subscribe::NONE
        }
    }
}

/// Why the session log could not be opened.
#[derive(Debug, Error)]
pub enum SessionLogError {
    /// The file or socket cannot be opened.
    #[error("cannot write the session log {}: {source}", target.display())]
    Open {
        /// The file, or `syslog`.
        target: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The thread could not be started.
    #[error(transparent)]
    Thread(#[from] io::Error),
}

/// The numbers of queued and of lost records.
#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicU64,
    lost: Arc<AtomicU64>,
}

enum Message {
    Events(Vec<Event>, Clock),
    Reopen,
}

/// A time of the wall clock and the same time of the workers' clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) wall: SystemTime,
    pub(crate) now: Instant,
}

impl Clock {
    fn wall_at(&self, at: Instant) -> SystemTime {
        let ago = Duration::from_nanos(self.now.as_nanos().saturating_sub(at.as_nanos()));
        self.wall.checked_sub(ago).unwrap_or(self.wall)
    }
}

impl SessionLog {
    /// Opens the log: a file, which is appended to, or `syslog`.
    pub(crate) fn open(target: &Path) -> Result<Self, SessionLogError> {
        let mut sink = Sink::open(target).map_err(|source| SessionLogError::Open {
            target: target.to_owned(),
            source,
        })?;
        let (sender, receiver) = sync_channel(BACKLOG);
        let (ending, end) = sync_channel::<()>(0);
        let counts = Arc::new(Counts::default());
        let theirs = Arc::clone(&counts);
        let work = move || {
            write_all(&mut sink, &receiver, &theirs);
            drop(ending);
        };
        let killed = || tracing::error!("nothing is logged of sessions until the next start");
        confinement::spawn(Kind::SessionLog, "session-log", || {}, work, killed)?;
        Ok(Self {
            sender: Some(sender),
            end,
            counts,
            reported: 0,
            quiet_until: None,
        })
    }

    /// Queues events for the thread. `lost` is the number of events lost before.
    pub(crate) fn write(&self, events: Vec<Event>, lost: u64, clock: Clock) {
        let count = events.len() as u64;
        let mut lost = lost;
        if count > 0 && !self.hand_over(events, clock) {
            lost += count;
        }
        self.counts.lost.fetch_add(lost, Ordering::Relaxed);
    }

    fn hand_over(&self, events: Vec<Event>, clock: Clock) -> bool {
        let count = events.len() as u64;
        let waiting = &self.counts.waiting;
        if waiting.load(Ordering::Relaxed) + count > RECORDS {
            return false;
        }
        waiting.fetch_add(count, Ordering::Relaxed);
        let message = Message::Events(events, clock);
        let is_taken = self
            .sender
            .as_ref()
            .is_some_and(|sender| sender.try_send(message).is_ok());
        if !is_taken {
            waiting.fetch_sub(count, Ordering::Relaxed);
        }
        is_taken
    }

    /// Opens a new file if the old one was renamed (log rotation).
    pub(crate) fn reopen(&self) {
        if let Some(sender) = &self.sender
            && let Err(TrySendError::Full(_)) = sender.try_send(Message::Reopen)
        {
            tracing::warn!("the session log is busy and was not reopened; try again");
        }
    }

    /// Number of events lost since the start.
    pub(crate) fn lost_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.counts.lost)
    }

    fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }

    /// Logs the number of events lost since the last report, at a limited rate.
    pub(crate) fn report_losses(&mut self) {
        let (lost, now) = (self.lost(), std::time::Instant::now());
        if lost > self.reported && self.quiet_until.is_none_or(|until| until <= now) {
            tracing::warn!(
                "{} records of the session log were lost",
                lost - self.reported
            );
            self.reported = lost;
            self.quiet_until = Some(now + PAUSE);
        }
    }
}

impl Drop for SessionLog {
    fn drop(&mut self) {
        self.sender = None;
        if let Err(RecvTimeoutError::Timeout) = self.end.recv_timeout(PATIENCE) {
            tracing::warn!(
                "the session log could not be written completely: its reader is \
            blocked"
            );
        }
    }
}

fn write_all(sink: &mut Sink, messages: &Receiver<Message>, counts: &Counts) {
    let mut line = Vec::new();
    for message in messages {
        match message {
            Message::Reopen => {
                if let Err(error) = sink.reopen() {
                    tracing::warn!("the session log cannot be reopened: {error}");
                }
            }
            Message::Events(events, clock) => {
                let count = events.len() as u64;
                if let Err(error) = sink.write(&events, &clock, &mut line) {
                    counts.lost.fetch_add(count, Ordering::Relaxed);
                    tracing::debug!("session log: {error}");
                }
                counts.waiting.fetch_sub(count, Ordering::Relaxed);
            }
        }
    }
}

/// The output of the log.
#[derive(Debug)]
enum Sink {
    File(PathBuf, BufWriter<File>),
    Syslog(UnixDatagram, PathBuf),
}

impl Sink {
    fn open(target: &Path) -> io::Result<Self> {
        if target == Path::new("syslog") {
            return Self::syslog(Path::new(SYSLOG));
        }
        Ok(Self::File(target.into(), append(target)?))
    }

    fn syslog(path: &Path) -> io::Result<Self> {
        Ok(Self::Syslog(connect(path)?, path.into()))
    }

    fn reopen(&mut self) -> io::Result<()> {
        match self {
            Self::File(path, file) => {
                file.flush()?;
                *file = append(path)?;
            }
            Self::Syslog(socket, path) => *socket = connect(path)?,
        }
        Ok(())
    }

    fn write(&mut self, events: &[Event], clock: &Clock, line: &mut Vec<u8>) -> io::Result<()> {
        for record in events.iter().filter_map(|event| Record::new(event, clock)) {
            line.clear();
            if let Self::Syslog(..) = self {
                write!(line, "<{PRIORITY}>plat: ")?;
            }
            serde_json::to_writer(&mut *line, &record)?;
            match self {
                Self::File(_, file) => {
                    line.push(b'\n');
                    file.write_all(line)?;
                }
                Self::Syslog(socket, path) => send(socket, path, line)?,
            }
        }
        match self {
            Self::File(_, file) => file.flush(),
            Self::Syslog(..) => Ok(()),
        }
    }
}

/// Sends a line. Reconnects if syslog was restarted.
fn send(socket: &mut UnixDatagram, path: &Path, line: &[u8]) -> io::Result<()> {
    if socket.send(line).is_ok() {
        return Ok(());
    }
    *socket = connect(path)?;
    socket.send(line)?;
    Ok(())
}

fn append(path: &Path) -> io::Result<BufWriter<File>> {
    Ok(BufWriter::new(open_log(path)?))
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::net::Ipv4Addr;

    use nat64::Protocol;
    use nat64::event::{
        BindingRecord, BlockRecord, Change, EventKind, SessionEntry, SessionHandle, SessionRecord,
    };

    use super::*;

    fn event(kind: EventKind) -> Event {
        Event {
            at: Instant::from_nanos(1_500_000_000),
            kind,
        }
    }

    fn clock() -> Clock {
        Clock {
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            now: Instant::from_nanos(2_000_000_000),
        }
    }

    fn record() -> BindingRecord {
        BindingRecord {
            protocol: Protocol::Udp,
            client: "2001:db8::7".parse().unwrap(),
            client_port: 5000,
            external: Ipv4Addr::new(192, 0, 2, 1),
            external_port: 4000,
        }
    }

    #[test]
    fn cg_12_a_line_says_what_happened_when_to_whom() {
        let line = |kind| {
            let record = Record::new(&event(kind), &clock()).unwrap();
            serde_json::to_string(&record).unwrap()
        };
        assert_eq!(
            line(EventKind::Binding(Change::Created(record()))),
            r#"{"time":"2027-01-15T07:59:59.500Z","event":"binding-created","nat_event":10,"protocol":"udp","client":"2001:db8::7","client_port":5000,"external":"192.0.2.1","external_port":4000}"#
        );
        let session = SessionEntry {
            handle: SessionHandle::default(),
            record: SessionRecord {
                binding: record(),
                remote: Ipv4Addr::new(198, 51, 100, 7),
                remote_port: 53,
            },
            pref64: 0,
            tcp: None,
            expires: Instant::ZERO,
        };
        assert!(
            line(EventKind::Session(Change::Removed(session)))
                .ends_with(r#""external_port":4000,"remote":"198.51.100.7","remote_port":53}"#)
        );
        let block = BlockRecord {
            subscriber: "2001:db8::/56".parse().unwrap(),
            external: Ipv4Addr::new(192, 0, 2, 1),
            first_port: 1024,
            last_port: 1535,
        };
        assert!(line(EventKind::Block(Change::Created(block))).ends_with(
            r#""event":"block-allocated","nat_event":16,"subscriber":"2001:db8::/56","external":"192.0.2.1","first_port":1024,"last_port":1535}"#
        ));
    }

    #[test]
    fn a_rotated_file_is_begun_anew_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.log");
        let log = SessionLog::open(&path).unwrap();
        log.write(
            vec![event(EventKind::Binding(Change::Created(record())))],
            0,
            clock(),
        );
        let old = dir.path().join("sessions.log.1");
        drop(log);
        std::fs::rename(&path, &old).unwrap();
        let log = SessionLog::open(&path).unwrap();
        std::fs::rename(&path, dir.path().join("sessions.log.2")).unwrap();
        log.reopen();
        log.write(
            vec![event(EventKind::Binding(Change::Removed(record())))],
            3,
            clock(),
        );
        assert_eq!(log.lost(), 3);
        drop(log);
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&old), lines(&path)), (1, 1));
        assert_eq!(lines(&dir.path().join("sessions.log.2")), 0);
    }

    #[test]
    fn cg_13_a_log_that_is_not_written_loses_records_and_makes_nobody_wait() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        // A reader that never reads.
        let reader = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&fifo)
            .unwrap();
        let log = SessionLog::open(&fifo).unwrap();
        let batch = vec![event(EventKind::Binding(Change::Created(record()))); 1000];
        for _ in 0..2 * BACKLOG {
            log.write(batch.clone(), 0, clock());
        }
        assert!(log.lost() >= (BACKLOG as u64 - 2) * 1000, "{}", log.lost());
        // Few batches, but too many records.
        let lost = log.lost();
        log.write(vec![batch[0]; RECORDS as usize + 1], 0, clock());
        assert_eq!(log.lost() - lost, RECORDS + 1);
        // Let the thread go, so that the log can end.
        drop(reader);
    }

    #[test]
    fn cg_13_a_reader_that_never_reads_does_not_keep_the_daemon_from_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let _reader = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&fifo)
            .unwrap();
        let log = SessionLog::open(&fifo).unwrap();
        log.write(
            vec![event(EventKind::Binding(Change::Created(record()))); 10_000],
            0,
            clock(),
        );
        let start = std::time::Instant::now();
        drop(log);
        assert!(start.elapsed() < 2 * PATIENCE);
    }

    #[test]
    fn a_syslog_that_was_restarted_gets_the_next_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let before = UnixDatagram::bind(&path).unwrap();
        let mut sink = Sink::syslog(&path).unwrap();
        let write = |sink: &mut Sink| {
            let events = [event(EventKind::Binding(Change::Created(record())))];
            sink.write(&events, &clock(), &mut Vec::new())
        };
        write(&mut sink).unwrap();
        drop(before);
        std::fs::remove_file(&path).unwrap();
        assert!(write(&mut sink).is_err());
        let after = UnixDatagram::bind(&path).unwrap();
        write(&mut sink).unwrap();
        let mut buffer = [0; 512];
        let length = after.recv(&mut buffer).unwrap();
        assert!(buffer[..length].starts_with(b"<30>plat: {"));
    }
}
