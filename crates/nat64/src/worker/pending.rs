//! Packets that wait for others, and packets that the NAT64 makes: probes of idle connections, and
//! answers to SYNs that waited in vain.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use xlat_core::mapper::{Flow, PacketHolder, PendingPacket, Refusal};
use xlat_core::wire::ipv4;
use xlat_core::{DropReason, Instant};

use super::Worker;
use super::fragments::Ended;
use super::mapper::unmatched;
use super::tuples::external_tuple;
use crate::fragments::DatagramKey;
use crate::probe;
use crate::shard::{Shard, Stored};
use crate::shared::lock;
use crate::tuple::ExternalTuple;

/// Time between two looks for packets that the shards have made.
const LOOK: Duration = Duration::from_millis(200);

impl PacketHolder for Worker {
    fn reassemble_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), Refusal> {
        let fragment = flow.fragment.ok_or_else(unmatched)?;
        let key = DatagramKey::v6(flow.src, flow.dst, fragment.id, flow.protocol);
        self.check_v6(flow)?;
        self.gather(key, fragment, packet, now)
    }

    fn reassemble_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), Refusal> {
        let fragment = flow.fragment.ok_or_else(unmatched)?;
        let key = DatagramKey::v4(flow.src, self.meant(flow.dst), fragment.id, flow.protocol);
        self.check_not_ours(flow.src)?;
        self.check_v4(flow)?;
        self.gather(key, fragment, packet, now)
    }

    /// Keeps a fragment that came before the first one of its datagram.
    fn hold_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let fragment = flow.fragment.ok_or(DropReason::TableFull)?;
        let key = DatagramKey::v6(flow.src, flow.dst, fragment.id, flow.protocol);
        self.hold_piece(key, fragment, false, packet, now)
    }

    /// Keeps a fragment that came before the first one of its datagram, or a SYN from outside,
    /// which waits for one of the client's (RFC 6146 section 3.5.2.2).
    fn hold_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let Some(fragment) = flow.fragment else {
            let tuple = external_tuple(flow).map_err(|_| DropReason::TableFull)?;
            return self.hold_syn(tuple, packet, now);
        };
        let key = DatagramKey::v4(flow.src, self.meant(flow.dst), fragment.id, flow.protocol);
        self.hold_piece(key, fragment, false, packet, now)
    }

    fn poll_packet(&mut self, now: Instant) -> Option<PendingPacket<'_>> {
        if !self.offers.is_empty() {
            self.offer(now);
        }
        if let Some(packet) = self.released.pop_front() {
            self.lent = packet.into_vec();
            return Some(PendingPacket::Translate(&self.lent));
        }
        if let Some(ended) = self.next_gone() {
            return Some(self.ended(ended));
        }
        if now < self.next_look {
            return None;
        }
        let mut shards = self.shared.shards.iter().map(lock);
        let made = shards.find_map(|mut shard| self.made(&mut shard, now));
        if let Some(made) = made {
            return Some(self.lend(made));
        }
        self.next_look = now + LOOK;
        self.find_gone(now);
        self.next_gone().map(|ended| self.ended(ended))
    }
}

/// A packet that a shard has made.
enum Made {
    /// A question to a client.
    Probe(Vec<u8>),
    /// An ICMPv4 error about a SYN.
    Answer(Vec<u8>),
}

impl Worker {
    /// A packet that a shard has made: a probe, or the answer to a SYN.
    fn made(&self, shard: &mut Shard, now: Instant) -> Option<Made> {
        let Some(session) = shard.next_probe() else {
            return shard.next_answer(now).map(Made::Answer);
        };
        let pref64 = self.shared.prefixes[usize::from(session.pref64)];
        let remote = pref64.embed(Ipv4Addr::from_bits(session.remote));
        let probe = probe::build(
            (remote, session.remote_port),
            (session.client, session.client_port),
        );
        Some(Made::Probe(probe.to_vec()))
    }

    /// Keeps a SYN. The client's own may have come in the meantime: then it passes.
    fn hold_syn(
        &mut self,
        tuple: ExternalTuple,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let shard = self.shard_of_external(&tuple);
        let mut shard = shard.ok_or(DropReason::UnmappedDestination)?;
        match shard.store_syn(tuple, packet, now) {
            Stored::Kept => return Ok(()),
            Stored::Full => return Err(DropReason::SynLimit),
            Stored::Wanted => {}
        }
        drop(shard);
        self.released.push_back(packet.into());
        Ok(())
    }

    /// Lends out a packet that a shard has made.
    fn lend(&mut self, made: Made) -> PendingPacket<'_> {
        match made {
            Made::Probe(packet) => {
                self.lent = packet;
                PendingPacket::Send(&self.lent)
            }
            Made::Answer(packet) => {
                self.lent = packet;
                let addressee = self
                    .lent
                    .get(ipv4::DST..ipv4::HEADER)
                    .and_then(|dst| dst.try_into().ok());
                let addressee = addressee.map(u32::from_be_bytes);
                PendingPacket::Answer {
                    packet: &self.lent,
                    hairpin: addressee.is_some_and(|dst| self.view.layout.is_ours(dst)),
                    reason: DropReason::Filtered,
                }
            }
        }
    }

    fn ended(&mut self, ended: Ended) -> PendingPacket<'_> {
        match ended {
            Ended::Expired(first) => {
                self.lent = first;
                PendingPacket::Expired(&self.lent)
            }
            Ended::Lost(reason) => PendingPacket::Lost(reason),
        }
    }
}
