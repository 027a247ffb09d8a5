//! Counters of the workers, and how other threads read them.
//!
//! The table below is all of a counter except the code that counts:
//! [`counters!`](macro@crate::counters) makes cells, values, sum, JSON and metrics from its lines.
//!
//! Each worker has its own [`Counters`] on cache lines of their own and is the only one to write
//! them, so counting is a plain addition without a lock or a shared line. A reader reads the
//! counters of all workers and adds them up: [`Snapshot::sum`]. The values of one snapshot may be a
//! few packets apart, but none is wrong by itself.

mod cell;
mod icmp;
mod metric;
mod table;
mod write_error;

use std::fmt;
use std::ops::AddAssign;

use serde::Serialize;
use xlat_core::DropReason;
use xlat_core::wire::version;

use icmp::IcmpCounters;
use write_error::WriteErrorCounters;

pub use cell::{Cell, Counter, Each, Label, Per, SharedCounter, Value};
pub use icmp::{IcmpKind, PerKind};
pub use metric::{Families, Family, Metric, Sample};
pub use write_error::{WriteError, WriteErrors};

/// A traffic counter has two metrics, packets and bytes.
const TRAFFIC: [Metric; 2] = [
    Metric::counter("xlat_packets_total", "Packets through the TUN."),
    Metric::counter("xlat_bytes_total", "Bytes through the TUN."),
];
const ICMP: Metric = Metric::counter(
    "xlat_icmp_total",
    "ICMP messages that were sent, translated ones and our own.",
);

#[rustfmt::skip]
crate::counters! {
    /// Counters of one worker, written by that worker and read by any thread.
    // 128 bytes: processors fetch cache lines in pairs.
    #[repr(align(128))]
    cells Counters;
    /// The workers' counters at one moment, or the sum of several.
    values Snapshot;

    /// IPv4 packets read from the TUN.
    ipv4_in: TrafficCounter => TRAFFIC, "family=\"ipv4\",direction=\"in\"";
    /// IPv6 packets read from the TUN.
    ipv6_in: TrafficCounter => TRAFFIC, "family=\"ipv6\",direction=\"in\"";
    /// IPv4 packets written to the TUN.
    ipv4_out: TrafficCounter => TRAFFIC, "family=\"ipv4\",direction=\"out\"";
    /// IPv6 packets written to the TUN.
    ipv6_out: TrafficCounter => TRAFFIC, "family=\"ipv6\",direction=\"out\"";
    /// ICMPv4 messages written: translated ones and the translator's own.
    icmpv4: IcmpCounters => ICMP, "family=\"ipv4\"";
    /// ICMPv6 messages written: translated ones and the translator's own.
    icmpv6: IcmpCounters => ICMP, "family=\"ipv6\"";
    /// Fragments written of packets that were too long for their path.
    pieces: Counter => Metric::counter("xlat_pieces_total", "Pieces of packets that were cut."), "";
    /// Packets that were read one by one and appended to a super-packet; its first packet does not
    /// count.
    joined: Counter => Metric::counter("xlat_joined_total", "Packets that left inside another one."), "";
    /// Packets held back for another one: fragments for the first fragment, SYNs from outside for
    /// the client's.
    held: Counter => Metric::counter("xlat_held_total", "Packets that waited for another one."), "";
    /// Times that a worker woke from its sleep.
    wakeups: Counter => Metric::counter("xlat_wakeups_total", "Times that a worker was woken."), "";
    /// Packets that the kernel refused to take.
    write_errors: WriteErrorCounters => Metric::counter("xlat_write_errors_total", "Packets that the kernel did not take."), "";
    /// Packets dropped without an ICMP error.
    drops: ReasonCounters => Metric::counter("xlat_dropped_total", "Packets dropped without a word."), "";
    /// Packets that the translator itself answered with an ICMP message.
    replies: ReasonCounters => Metric::counter("xlat_answered_total", "Packets answered by an ICMP message."), "";
}

impl Counters {
    /// Counts a packet that was read.
    #[inline]
    pub(crate) fn received(&self, packet: &[u8]) {
        if is_ipv6(packet) {
            self.ipv6_in.add(packet.len());
        } else {
            self.ipv4_in.add(packet.len());
        }
    }

    /// Counts a packet that was written.
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
            icmp.of(kind).add(1);
        }
    }
}

#[inline]
fn is_ipv6(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| version(*first) == 6)
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

const REASONS: usize = DropReason::ALL.len();
type ReasonCounters = Each<DropReason, Counter, REASONS>;
/// One number per [`DropReason`]. Serialised without zeros.
pub type PerReason = Per<DropReason, REASONS>;

impl Label for DropReason {
    const ALL: &'static [Self] = Self::ALL;
    const LABEL: &'static str = "reason";
    const SAMPLES_ZEROS: bool = false;
    const SERIALISES_ZEROS: bool = false;

    fn name(self) -> &'static str {
        self.name()
    }

    #[inline]
    fn number(self) -> usize {
        self as usize
    }
}

/// Counts packets and their bytes.
#[derive(Debug, Default)]
pub struct TrafficCounter {
    packets: Counter,
    bytes: Counter,
}

impl TrafficCounter {
    #[inline]
    fn add(&self, bytes: usize) {
        self.packets.add(1);
        self.bytes.add(bytes as u64);
    }
}

impl Cell for TrafficCounter {
    type Value = Traffic;

    fn value(&self) -> Traffic {
        Traffic {
            packets: self.packets.value(),
            bytes: self.bytes.value(),
        }
    }
}

/// Packets and their bytes, IP header included. A super-packet counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Number of packets.
    pub packets: u64,
    /// Number of bytes.
    pub bytes: u64,
}

impl Value for Traffic {
    type Metrics = [Metric; 2];

    fn sample(&self, families: &mut Families, [packets, bytes]: [Metric; 2], labels: &str) {
        families.family(packets).add(labels, self.packets);
        families.family(bytes).add(labels, self.bytes);
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Self) {
        self.packets += more.packets;
        self.bytes += more.bytes;
    }
}

impl fmt::Display for Snapshot {
    /// A heading and a few lines for the operator. Zeros are left out, except for the traffic.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "packets since the start, through the TUN and in the kernel:"
        )?;
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
        let workers = [Counters::default(), Counters::default()];
        workers[0].received(&[0x45; 20]);
        workers[1].received(&[0x45; 30]);
        workers[1].sent(&[0x60; 40]);
        let mut echo = [0x60; 48];
        (echo[6], echo[40]) = (58, 128);
        workers[0].sent(&echo);
        workers[1].sent(&echo);
        workers[0].drops.of(DropReason::HopLimit).add(1);
        workers[1].drops.of(DropReason::HopLimit).add(1);
        workers[1].replies.of(DropReason::TooBig).add(1);
        workers[0].write_errors.of(WriteError::InterfaceDown).add(1);
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
        let worker = Counters::default();
        worker.drops.of(DropReason::HopLimit).add(1);
        let snapshot = worker.snapshot();
        let json = serde_json::to_value(&snapshot).expect("serialisable");
        assert_eq!(json["drops"], serde_json::json!({ "hop-limit": 1 }));
        assert_eq!(json["ipv4_in"]["packets"], 0);
        let text = snapshot.to_string();
        assert!(text.contains("dropped"), "{text}");
        assert!(text.contains("1 hop-limit"), "{text}");
        assert!(!text.contains("too-big"), "{text}");
    }
}
