//! SYNs from outside that wait for the client to send one too (RFC 6146 section 3.5.2.2, state
//! V4_INIT with a stored packet; RFC 5382 REQ-4).
//!
//! With the address-dependent filter a SYN from a stranger may be half of a simultaneous open. For
//! six seconds nothing answers it. If the client sends its own SYN in that time, the connection is
//! established and the stored packet is forgotten; otherwise its sender learns that the port is
//! unreachable. A waiting SYN is no session: it lets nothing in and takes no place in the tables.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use pnet_packet::ip::IpNextHeaderProtocols;
use xlat_core::checksum::Sum;
use xlat_core::wire::{icmp, ipv4, set_word};

use crate::clock::{Tick, Ticks};
use crate::siphash::SipKey;
use crate::tuple::ExternalTuple;

/// The SYNs of a shard that wait.
#[derive(Debug)]
pub(crate) struct StoredSyns {
    waiting: HashMap<ExternalTuple, Waiting, SipKey>,
    /// All that ever waited and are not over, in the order of their ends.
    ends: VecDeque<(Tick, ExternalTuple)>,
    per_source: HashMap<u32, u32, SipKey>,
    /// SYNs that no client's SYN matched in time.
    unclaimed: VecDeque<Box<[u8]>>,
    life: Ticks,
}

#[derive(Debug)]
struct Waiting {
    packet: Box<[u8]>,
    until: Tick,
}

impl StoredSyns {
    pub(crate) fn new(key: SipKey) -> Self {
        Self {
            waiting: HashMap::with_hasher(key),
            ends: VecDeque::new(),
            per_source: HashMap::with_hasher(key),
            unclaimed: VecDeque::new(),
            life: Ticks::covering(TCP_INCOMING_SYN),
        }
    }

    /// True if such a SYN is waiting already: its repetitions change nothing.
    pub(crate) fn is_waiting(&self, tuple: &ExternalTuple) -> bool {
        self.waiting.contains_key(tuple)
    }

    /// Keeps a SYN, which begins with its IPv4 header; false if there is no room.
    pub(crate) fn store(&mut self, tuple: ExternalTuple, packet: &[u8], now: Tick) -> bool {
        self.expire(now);
        let source = self.per_source.entry(tuple.remote).or_default();
        // A SYN that was claimed leaves its end in the queue, so that is what is counted.
        if self.ends.len() >= MAX_WAITING || *source >= MAX_WAITING as u32 / SHARE {
            if *source == 0 {
                self.per_source.remove(&tuple.remote);
            }
            return false;
        }
        *source += 1;
        let until = now.after(self.life);
        let quoted = packet.len().min(QUOTED_MAX);
        self.waiting.insert(
            tuple,
            Waiting {
                packet: packet[..quoted].into(),
                until,
            },
        );
        self.ends.push_back((until, tuple));
        true
    }

    /// Forgets a SYN because the client has sent its own; false if there was none.
    pub(crate) fn claim(&mut self, tuple: &ExternalTuple, now: Tick) -> bool {
        self.expire(now);
        self.waiting.remove(tuple).is_some()
    }

    /// When the next one is over; `None` if none waits.
    pub(crate) fn next_end(&self) -> Option<Tick> {
        if !self.unclaimed.is_empty() {
            return Some(Tick::from_raw(0));
        }
        self.ends.front().map(|(end, _)| *end)
    }

    /// True if the time of a SYN is over.
    pub(crate) fn has_answer(&self, now: Tick) -> bool {
        let is_over = |(end, _): &(Tick, ExternalTuple)| *end <= now;
        !self.unclaimed.is_empty() || self.ends.front().is_some_and(is_over)
    }

    /// The ICMP error for the next SYN that no client's SYN matched: a whole IPv4 packet.
    pub(crate) fn next_answer(&mut self, now: Tick) -> Option<Vec<u8>> {
        self.expire(now);
        let packet = self.unclaimed.pop_front()?;
        port_unreachable(&packet)
    }

    fn expire(&mut self, now: Tick) {
        while let Some((end, tuple)) = self.ends.front().copied()
            && end <= now
        {
            self.ends.pop_front();
            if let Some(count) = self.per_source.get_mut(&tuple.remote) {
                *count -= 1;
                if *count == 0 {
                    self.per_source.remove(&tuple.remote);
                }
            }
            let is_over = self
                .waiting
                .get(&tuple)
                .is_some_and(|waiting| waiting.until <= now);
            if is_over
                && let Some(waiting) = self.waiting.remove(&tuple)
                && self.unclaimed.len() < MAX_WAITING
            {
                self.unclaimed.push_back(waiting.packet);
            }
        }
    }
}

/// ICMPv4 3/3 about an IPv4 packet, from where the packet was going to.
fn port_unreachable(quoted: &[u8]) -> Option<Vec<u8>> {
    let syn = ipv4::Header::parse(quoted.first_chunk()?);
    let header = ipv4::Header {
        tos: 0,
        total_len: (ipv4::HEADER + icmp::HEADER + quoted.len()) as u16,
        id: 0,
        dont_fragment: true,
        more_fragments: false,
        offset: 0,
        ttl: TTL,
        protocol: IpNextHeaderProtocols::Icmp,
        src: syn.dst,
        dst: syn.src,
    };
    let mut packet = header.emit().to_vec();
    packet.extend([icmp::v4::UNREACHABLE, icmp::v4::PORT_UNREACHABLE]);
    packet.resize(ipv4::HEADER + icmp::HEADER, 0);
    packet.extend(quoted);
    let message = &mut packet[ipv4::HEADER..];
    let checksum = Sum::of(message).checksum();
    set_word(message, icmp::CHECKSUM, checksum);
    Some(packet)
}

/// No answer to an unsolicited SYN before this (RFC 5382 REQ-4).
const TCP_INCOMING_SYN: Duration = Duration::from_secs(6);
/// SYNs at once, per shard.
const MAX_WAITING: usize = 1024;
/// The share of them that one source may use: one part in this many.
const SHARE: u32 = 16;
/// Hops of an answer.
const TTL: u8 = 64;
/// An ICMPv4 error is no longer than 576 bytes (RFC 1812 section 4.3.2.3).
const QUOTED_MAX: usize = 576 - ipv4::HEADER - icmp::HEADER;

#[cfg(test)]
mod tests {
    use etherparse::{
        Icmpv4Type, NetHeaders, PacketBuilder, PacketHeaders, TransportHeader, icmpv4,
    };
    use xlat_core::Instant;

    use super::*;
    use crate::tuple::Protocol;

    #[test]
    fn nc_07_an_unclaimed_syn_is_answered_after_six_seconds() {
        let mut syns = StoredSyns::new(SipKey::new([1, 2]));
        let syn = syn();
        assert!(syns.store(tuple(1, 80), &syn, at(0)));
        assert!(syns.is_waiting(&tuple(1, 80)));
        assert_eq!(syns.next_answer(at(6_000)), None);
        let answer = syns.next_answer(at(6_300)).unwrap();
        assert_eq!(syns.next_answer(at(6_300)), None);
        assert!(!syns.is_waiting(&tuple(1, 80)));

        let parsed = PacketHeaders::from_ip_slice(&answer).unwrap();
        let (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Icmpv4(icmp))) =
            (parsed.net, parsed.transport)
        else {
            panic!("not ICMPv4");
        };
        assert_eq!(
            (ip.source, ip.destination),
            ([192, 0, 2, 1], [198, 51, 100, 7])
        );
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        let expected = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
        assert_eq!(icmp.icmp_type, expected);
        assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(&syn));
        assert_eq!(parsed.payload.slice(), syn);
    }

    #[test]
    fn nc_06_a_claimed_syn_is_never_answered() {
        let mut syns = StoredSyns::new(SipKey::new([1, 2]));
        syns.store(tuple(1, 80), &syn(), at(0));
        assert!(!syns.claim(&tuple(1, 81), at(5_000)));
        assert!(syns.claim(&tuple(1, 80), at(5_000)));
        assert!(!syns.claim(&tuple(1, 80), at(5_000)));
        assert_eq!(syns.next_answer(at(60_000)), None);
    }

    #[test]
    fn a_syn_that_comes_again_after_a_claim_has_its_own_six_seconds() {
        let mut syns = StoredSyns::new(SipKey::new([1, 2]));
        syns.store(tuple(1, 80), &syn(), at(0));
        syns.claim(&tuple(1, 80), at(1_000));
        syns.store(tuple(1, 80), &syn(), at(3_000));
        assert_eq!(syns.next_answer(at(7_000)), None);
        assert!(syns.next_answer(at(9_300)).is_some());
    }

    #[test]
    fn nc_21_waiting_syns_are_bounded_in_total_and_per_source() {
        let mut syns = StoredSyns::new(SipKey::new([1, 2]));
        let of_one = (0..10_000)
            .filter(|&port| syns.store(tuple(1, port), &[0; 2000], at(0)))
            .count();
        assert_eq!(of_one, MAX_WAITING / SHARE as usize);
        assert!(
            syns.waiting
                .values()
                .all(|waiting| waiting.packet.len() == QUOTED_MAX)
        );
        let of_all = (2..10_000)
            .filter(|&remote| syns.store(tuple(remote, 80), &syn(), at(0)))
            .count();
        assert_eq!(of_one + of_all, MAX_WAITING);
        let answers = std::iter::from_fn(|| syns.next_answer(at(7_000))).count();
        assert_eq!(answers, MAX_WAITING);
        assert!(syns.waiting.is_empty() && syns.per_source.is_empty());
    }

    fn tuple(remote: u32, remote_port: u16) -> ExternalTuple {
        ExternalTuple {
            protocol: Protocol::Tcp,
            external: 1,
            external_port: 4000,
            remote,
            remote_port,
        }
    }

    fn syn() -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([198, 51, 100, 7], [192, 0, 2, 1], 60)
            .tcp(80, 4000, 12345, 1000)
            .syn()
            .write(&mut packet, &[])
            .unwrap();
        packet
    }

    fn at(millis: u64) -> Tick {
        Tick::at(Instant::from_millis(millis))
    }
}
