//! What the workers count, and how somebody else reads it.
//!
//! Each worker has its own [`Counters`] on cache lines of their own and is the only one to write
//! them, so counting is a plain addition without a lock or a shared line. Whoever wants to know
//! reads all of them and adds up: [`Snapshot::sum`]. Figures of one snapshot may be a few packets
//! apart from each other, never wrong by themselves.

mod icmp;

use std::fmt;
use std::io;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use xlat_core::DropReason;
use xlat_core::wire::version;

pub use icmp::{IcmpKind, PerKind};

/// How many reasons there are.
const REASONS: usize = DropReason::ALL.len();

/// Counters of one worker, for everybody to read and for that worker to write.
// 128 bytes: processors fetch cache lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    ipv4_in: TrafficCounter,
    ipv6_in: TrafficCounter,
    ipv4_out: TrafficCounter,
    ipv6_out: TrafficCounter,
    icmpv4: icmp::Counters,
    icmpv6: icmp::Counters,
    pieces: Counter,
    joined: Counter,
    held: Counter,
    wakeups: Counter,
    write_errors: [Counter; WriteError::ALL.len()],
    drops: [Counter; REASONS],
    replies: [Counter; REASONS],
}

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    /// Adds without a locked instruction, which is right as long as one thread writes.
    #[inline]
    fn add(&self, more: u64) {
        let value = self.0.load(Ordering::Relaxed);
        self.0.store(value.wrapping_add(more), Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct TrafficCounter {
    packets: Counter,
    bytes: Counter,
}

impl TrafficCounter {
    #[inline]
    fn add(&self, bytes: usize) {
        self.packets.add(1);
        self.bytes.add(bytes as u64);
    }

    fn value(&self) -> Traffic {
        Traffic {
            packets: self.packets.value(),
            bytes: self.bytes.value(),
        }
    }
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            ipv4_in: TrafficCounter::default(),
            ipv6_in: TrafficCounter::default(),
            ipv4_out: TrafficCounter::default(),
            ipv6_out: TrafficCounter::default(),
            icmpv4: std::array::from_fn(|_| Counter::default()),
            icmpv6: std::array::from_fn(|_| Counter::default()),
            pieces: Counter::default(),
            joined: Counter::default(),
            held: Counter::default(),
            wakeups: Counter::default(),
            write_errors: std::array::from_fn(|_| Counter::default()),
            drops: std::array::from_fn(|_| Counter::default()),
            replies: std::array::from_fn(|_| Counter::default()),
        }
    }

    /// A packet was read.
    #[inline]
    pub(crate) fn received(&self, packet: &[u8]) {
        if is_ipv6(packet) {
            self.ipv6_in.add(packet.len());
        } else {
            self.ipv4_in.add(packet.len());
        }
    }

    /// A packet was written.
    #[inline]
    pub(crate) fn sent(&self, packet: &[u8]) {
        let (icmp, kind) = if is_ipv6(packet) {
            self.ipv6_out.add(packet.len());
            (&self.icmpv6, IcmpKind::of_v6(packet))
        } else {
            self.ipv4_out.add(packet.len());
            (&self.icmpv4, IcmpKind::of_v4(packet))
        };
        if let Some(kind) = kind {
            icmp[kind as usize].add(1);
        }
    }

    #[inline]
    pub(crate) fn dropped(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }

    #[inline]
    pub(crate) fn replied(&self, reason: DropReason) {
        self.replies[reason as usize].add(1);
    }

    #[inline]
    pub(crate) fn piece(&self) {
        self.pieces.add(1);
    }

    /// A packet waits for another one.
    #[inline]
    pub(crate) fn held(&self) {
        self.held.add(1);
    }

    /// That many packets left inside another one's super-packet.
    pub(crate) fn joined(&self, packets: u64) {
        self.joined.add(packets);
    }

    pub(crate) fn woke_up(&self) {
        self.wakeups.add(1);
    }

    /// The kernel did not take a packet that stands for so many that were read.
    pub(crate) fn write_failed(&self, error: WriteError, packets: u16) {
        self.write_errors[error as usize].add(packets.into());
    }

    /// The counters as they stand now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            ipv4_in: self.ipv4_in.value(),
            ipv6_in: self.ipv6_in.value(),
            ipv4_out: self.ipv4_out.value(),
            ipv6_out: self.ipv6_out.value(),
            icmpv4: PerKind::of(&self.icmpv4),
            icmpv6: PerKind::of(&self.icmpv6),
            pieces: self.pieces.value(),
            joined: self.joined.value(),
            held: self.held.value(),
            wakeups: self.wakeups.value(),
            write_errors: WriteErrors(self.write_errors.each_ref().map(Counter::value)),
            drops: PerReason(self.drops.each_ref().map(Counter::value)),
            replies: PerReason(self.replies.each_ref().map(Counter::value)),
        }
    }
}

#[inline]
fn is_ipv6(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| version(*first) == 6)
}

/// Why a packet could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The interface is down (`EIO`).
    InterfaceDown,
    /// The kernel found the packet or its virtio-net header wrong (`EINVAL`).
    Invalid,
    /// No memory or no room in a queue (`ENOBUFS`, `ENOMEM`, `EAGAIN`).
    NoRoom,
    /// Anything else.
    Other,
}

impl WriteError {
    /// All of them, in the order of their numbers.
    pub const ALL: &'static [Self] = &[
        Self::InterfaceDown,
        Self::Invalid,
        Self::NoRoom,
        Self::Other,
    ];

    /// The name in counters, metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InterfaceDown => "interface-down",
            Self::Invalid => "invalid",
            Self::NoRoom => "no-room",
            Self::Other => "other",
        }
    }

    /// Sorts what the kernel said; `None` if the interface itself is gone.
    pub(crate) fn classify(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error) {
            Some(Errno::BADFD | Errno::BADF | Errno::NODEV | Errno::PIPE) => None,
            Some(Errno::IO) => Some(Self::InterfaceDown),
            Some(Errno::INVAL | Errno::MSGSIZE) => Some(Self::Invalid),
            Some(Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN) => Some(Self::NoRoom),
            _ => Some(Self::Other),
        }
    }
}

/// Packets and their bytes, IP header included. A super-packet counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The workers' counters at one moment, or the sum of several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// IPv4 packets read from the TUN.
    pub ipv4_in: Traffic,
    /// IPv6 packets read from the TUN.
    pub ipv6_in: Traffic,
    /// IPv4 packets written to the TUN.
    pub ipv4_out: Traffic,
    /// IPv6 packets written to the TUN.
    pub ipv6_out: Traffic,
    /// ICMPv4 messages written, translated ones and our own.
    pub icmpv4: PerKind,
    /// The same for ICMPv6.
    pub icmpv6: PerKind,
    /// Pieces written of packets that were too long for their way.
    pub pieces: u64,
    /// Packets that were read one by one and written as a part of a super-packet, its first one not
    /// counted.
    pub joined: u64,
    /// Packets that waited for another one of theirs: fragments for the first one, SYNs from
    /// outside for the client's.
    pub held: u64,
    /// How often a worker slept and was woken.
    pub wakeups: u64,
    /// Packets that the kernel did not take.
    pub write_errors: WriteErrors,
    /// Packets dropped without a word.
    pub drops: PerReason,
    /// Packets answered by the translator itself.
    pub replies: PerReason,
}

impl Snapshot {
    /// The sum over all workers.
    pub fn sum<'a>(workers: impl IntoIterator<Item = &'a Counters>) -> Self {
        let mut sum = Self::default();
        for worker in workers {
            sum += worker.snapshot();
        }
        sum
    }
}

/// One number per [`DropReason`]. Serialised as a map from the reasons' names, zeros left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerReason([u64; REASONS]);

impl PerReason {
    /// The number for one reason.
    pub fn count(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// All reasons with their numbers, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.iter().copied().zip(self.0)
    }
}

impl Default for PerReason {
    fn default() -> Self {
        Self([0; REASONS])
    }
}

impl Serialize for PerReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counted = self.iter().filter(|(_, count)| *count > 0);
        let mut map = serializer.serialize_map(None)?;
        for (reason, count) in counted {
            map.serialize_entry(reason.name(), &count)?;
        }
        map.end()
    }
}

/// One number per [`WriteError`]. Serialised as a map from their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteErrors([u64; WriteError::ALL.len()]);

impl WriteErrors {
    /// The number for one kind.
    pub fn count(&self, error: WriteError) -> u64 {
        self.0[error as usize]
    }

    /// The sum over all kinds.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// All kinds with their numbers, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (WriteError, u64)> {
        WriteError::ALL.iter().copied().zip(self.0)
    }
}

impl Serialize for WriteErrors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(error, count)| (error.name(), count)))
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, rhs: Self) {
        self.packets += rhs.packets;
        self.bytes += rhs.bytes;
    }
}

impl AddAssign for Snapshot {
    fn add_assign(&mut self, rhs: Self) {
        self.ipv4_in += rhs.ipv4_in;
        self.ipv6_in += rhs.ipv6_in;
        self.ipv4_out += rhs.ipv4_out;
        self.ipv6_out += rhs.ipv6_out;
        self.icmpv4.add(&rhs.icmpv4);
        self.icmpv6.add(&rhs.icmpv6);
        self.pieces += rhs.pieces;
        self.joined += rhs.joined;
        self.held += rhs.held;
        self.wakeups += rhs.wakeups;
        add_each(&mut self.write_errors.0, &rhs.write_errors.0);
        add_each(&mut self.drops.0, &rhs.drops.0);
        add_each(&mut self.replies.0, &rhs.replies.0);
    }
}

fn add_each(sum: &mut [u64], more: &[u64]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum += more;
    }
}

impl fmt::Display for Snapshot {
    /// A few lines for people; what is zero is left out, except the traffic.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let traffic = [
            ("IPv4 in", self.ipv4_in),
            ("IPv6 in", self.ipv6_in),
            ("IPv4 out", self.ipv4_out),
            ("IPv6 out", self.ipv6_out),
        ];
        for (name, traffic) in traffic {
            let Traffic { packets, bytes } = traffic;
            writeln!(f, "{name:<10}{packets:>12} packets {bytes:>15} bytes")?;
        }
        if self.pieces > 0 {
            writeln!(f, "{:<10}{:>12} pieces", "cut into", self.pieces)?;
        }
        if self.joined > 0 {
            writeln!(f, "{:<10}{:>12} packets", "joined", self.joined)?;
        }
        if self.held > 0 {
            writeln!(f, "{:<10}{:>12} packets", "held", self.held)?;
        }
        let drops = self.drops.iter().map(|(r, n)| ("dropped", r.name(), n));
        let replies = self.replies.iter().map(|(r, n)| ("answered", r.name(), n));
        let errors = self.write_errors.iter();
        let errors = errors.map(|(e, n)| ("not sent", e.name(), n));
        for (what, why, count) in drops.chain(replies).chain(errors) {
            if count > 0 {
                writeln!(f, "{what:<10}{count:>12} {why}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_do_not_share_cache_lines() {
        assert_eq!(align_of::<Counters>(), 128);
        assert_eq!(size_of::<Counters>() % 128, 0);
    }

    #[test]
    fn a_snapshot_sums_all_workers() {
        let workers = [Counters::new(), Counters::new()];
        workers[0].received(&[0x45; 20]);
        workers[1].received(&[0x45; 30]);
        workers[1].sent(&[0x60; 40]);
        let mut echo = [0x60; 48];
        (echo[6], echo[40]) = (58, 128);
        workers[0].sent(&echo);
        workers[1].sent(&echo);
        workers[0].dropped(DropReason::HopLimit);
        workers[1].dropped(DropReason::HopLimit);
        workers[1].replied(DropReason::TooBig);
        workers[0].write_failed(WriteError::InterfaceDown, 1);
        let sum = Snapshot::sum(&workers);
        let traffic = |packets, bytes| Traffic { packets, bytes };
        assert_eq!(sum.ipv4_in, traffic(2, 50));
        assert_eq!(sum.ipv6_out, traffic(3, 136));
        assert_eq!(sum.icmpv6.count(IcmpKind::EchoRequest), 2);
        assert_eq!(sum.icmpv4, PerKind::default());
        assert_eq!(sum.ipv6_in, Traffic::default());
        assert_eq!(sum.drops.count(DropReason::HopLimit), 2);
        assert_eq!(sum.drops.total(), 2);
        assert_eq!(sum.replies.count(DropReason::TooBig), 1);
        assert_eq!(sum.write_errors.count(WriteError::InterfaceDown), 1);
        assert_eq!(sum.write_errors.total(), 1);
    }

    #[test]
    fn status_names_what_happened_and_leaves_out_what_did_not() {
        let worker = Counters::new();
        worker.dropped(DropReason::HopLimit);
        let snapshot = worker.snapshot();
        let json = serde_json::to_value(&snapshot).expect("serialisable");
        assert_eq!(json["drops"], serde_json::json!({ "hop-limit": 1 }));
        assert_eq!(json["ipv4_in"]["packets"], 0);
        let text = snapshot.to_string();
        assert!(text.contains("dropped"), "{text}");
        assert!(text.contains("1 hop-limit"), "{text}");
        assert!(!text.contains("too-big"), "{text}");
    }

    #[test]
    fn only_a_lost_interface_is_fatal_for_a_write() {
        let classify = |errno: Errno| WriteError::classify(&errno.into());
        assert_eq!(classify(Errno::IO), Some(WriteError::InterfaceDown));
        assert_eq!(classify(Errno::INVAL), Some(WriteError::Invalid));
        assert_eq!(classify(Errno::NOBUFS), Some(WriteError::NoRoom));
        assert_eq!(classify(Errno::AGAIN), Some(WriteError::NoRoom));
        assert_eq!(classify(Errno::BADFD), None);
    }
}
