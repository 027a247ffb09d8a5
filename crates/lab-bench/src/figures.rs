//! The rows of the table: what is measured, and which way is better.

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// How far the rounds are apart is said by the least and the most of them, not by a percentage:
    /// a percentile of a busy system is no value with a spread.
    pub(crate) range: bool,
}

/// What was measured in one round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(pub(crate) Vec<(Row, f64)>);

impl Figures {
    pub(crate) fn add(&mut self, row: Row, value: f64) {
        self.0.push((row, value));
    }
}

const fn row(name: &'static str) -> Row {
    Row { name, range: false }
}

const fn range(name: &'static str) -> Row {
    Row { name, range: true }
}

/// What TCP gives in one direction with so many flows.
#[derive(Clone, Copy)]
pub(crate) struct Tcp {
    pub(crate) rate: Row,
    pub(crate) cpu: Row,
}

/// What UDP gives in one direction with datagrams of one size.
#[derive(Clone, Copy)]
pub(crate) struct Udp {
    pub(crate) rate: Row,
    pub(crate) lost: Row,
    pub(crate) per_cpu: Row,
    pub(crate) cpu: Row,
}

/// How long a way there and back takes.
#[derive(Clone, Copy)]
pub(crate) struct Trip {
    pub(crate) median: Row,
    pub(crate) late: Row,
}

macro_rules! tcp {
    ($what:literal) => {
        Tcp {
            rate: row(concat!($what, ", Gbit/s")),
            cpu: row(concat!($what, ", CPU s per GiB")),
        }
    };
}

macro_rules! udp {
    ($what:literal) => {
        Udp {
            rate: row(concat!($what, ", kpkt/s")),
            lost: row(concat!($what, ", % lost")),
            per_cpu: row(concat!($what, ", kpkt per CPU s")),
            cpu: row(concat!($what, ", CPU s per Mpkt")),
        }
    };
}

macro_rules! trip {
    ($what:literal, $row:ident) => {
        Trip {
            median: $row(concat!($what, " p50, us")),
            late: $row(concat!($what, " p99, us")),
        }
    };
}

pub(crate) const TCP_1_DOWN: Tcp = tcp!("TCP 1 flow down");
pub(crate) const TCP_1_UP: Tcp = tcp!("TCP 1 flow up");
pub(crate) const TCP_4_DOWN: Tcp = tcp!("TCP 4 flows down");
pub(crate) const TCP_4_UP: Tcp = tcp!("TCP 4 flows up");
pub(crate) const UDP_64_DOWN: Udp = udp!("UDP 64 bytes down");
pub(crate) const UDP_64_UP: Udp = udp!("UDP 64 bytes up");
pub(crate) const UDP_1200_DOWN: Udp = udp!("UDP 1200 bytes down");
pub(crate) const UDP_1200_UP: Udp = udp!("UDP 1200 bytes up");
pub(crate) const TCP_SESSIONS: Row = row("new TCP connections, 1000/s");
pub(crate) const UDP_SESSIONS: Row = row("new UDP sessions, 1000/s");
pub(crate) const PING_IDLE: Trip = trip!("ping idle", row);
pub(crate) const PING_LOADED: Trip = trip!("ping loaded", range);
pub(crate) const ECHO_IDLE: Trip = trip!("UDP echo idle", row);
pub(crate) const ECHO_LOADED: Trip = trip!("UDP echo loaded", range);
pub(crate) const WAKEUPS: Row = range("wakeups a second, idle");

/// All rows, in the order of the table.
pub(crate) fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for tcp in [TCP_1_DOWN, TCP_1_UP, TCP_4_DOWN, TCP_4_UP] {
        rows.extend([tcp.rate, tcp.cpu]);
    }
    for udp in [UDP_64_DOWN, UDP_64_UP, UDP_1200_DOWN, UDP_1200_UP] {
        rows.extend([udp.rate, udp.lost, udp.per_cpu, udp.cpu]);
    }
    rows.extend([TCP_SESSIONS, UDP_SESSIONS]);
    for trip in [PING_IDLE, ECHO_IDLE, PING_LOADED, ECHO_LOADED] {
        rows.extend([trip.median, trip.late]);
    }
    rows.push(WAKEUPS);
    rows
}
