//! Fragments in a stateful translator: only the first one tells the ports, and it need not come
//! first (RFC 6146 section 3.4).
//!
//! Fragments are translated as they come. The first one is translated like any packet, and what
//! was decided about it is remembered for the others of its datagram, until all have passed. Those
//! that come before it are held, and given back to be translated when it has come. What cannot be
//! translated in pieces is gathered until all of it is there: ICMP messages, whose checksum covers
//! their length, and UDP datagrams from IPv4 without a checksum, which need one.
//!
//! All of it is bounded in bytes, in total and per source (`budget.rs`); what goes beyond is
//! dropped, and nothing that is there gives way to it, so that a flood of one source takes
//! nothing from another.
//!
//! This file is one thought, the tables of datagrams: what is decided, held or gathered for a datagram
//! and what is charged for it change together at each fragment. Memory is counted in `budget.rs`, and
//! one datagram's pieces are in `datagram.rs`.

mod budget;
mod datagram;

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, Ipv6Addr};

use pnet_packet::ip::IpNextHeaderProtocol;
use xlat_core::DropReason;

use crate::clock::{Tick, Ticks};
use crate::siphash::SipKey;
use budget::{Budget, Side, Source};
use datagram::{Coverage, Datagram, Noted, Waiting};
pub(crate) use datagram::{Decision, Piece};

/// What the fragments of a datagram have in common. IPv4 addresses stand here in IPv4-mapped form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DatagramKey {
    src: u128,
    dst: u128,
    id: u32,
    protocol: u8,
}

impl DatagramKey {
    pub(crate) fn v6(
        src: Ipv6Addr,
        dst: Ipv6Addr,
        id: u32,
        protocol: IpNextHeaderProtocol,
    ) -> Self {
        Self {
            src: src.to_bits(),
            dst: dst.to_bits(),
            id,
            protocol: protocol.0,
        }
    }

    pub(crate) fn v4(
        src: Ipv4Addr,
        dst: Ipv4Addr,
        id: u32,
        protocol: IpNextHeaderProtocol,
    ) -> Self {
        Self::v6(src.to_ipv6_mapped(), dst.to_ipv6_mapped(), id, protocol)
    }

    pub(crate) fn hash(&self, key: &SipKey) -> u64 {
        key.hash_one(self)
    }

    fn side(&self) -> Side {
        match Ipv6Addr::from_bits(self.src).to_ipv4_mapped() {
            None => Side::V6,
            Some(_) => Side::V4,
        }
    }
}

/// How much memory fragments may use, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// A datagram is forgotten so long after its first piece to come.
    pub(crate) life: Ticks,
    /// Bytes in total.
    pub(crate) memory: usize,
    /// IPv6 sources that share so many bits are one: those of one subscriber.
    pub(crate) source_prefix: u8,
}

/// The datagrams that are on their way in fragments.
#[derive(Debug)]
pub(crate) struct Fragments {
    datagrams: HashMap<DatagramKey, Datagram, SipKey>,
    /// Datagrams in the order in which they began, which is the order in which they end; those
    /// that ended before are left in it for a while.
    ends: VecDeque<(Tick, DatagramKey)>,
    /// By side: datagrams that wait for their first fragment, and those that do not.
    waiting: [Budget; 2],
    decided: [Budget; 2],
    gone: Gone,
    life: Ticks,
    source_mask: u128,
}

/// Packets that were held.
type Packets = Vec<Box<[u8]>>;

/// What was held and is gone.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    /// First fragments whose datagram timed out; their senders get an ICMP error.
    pub(crate) firsts: Packets,
    /// Other pieces that have waited in vain.
    pub(crate) late: u64,
    /// Pieces of datagrams that were refused.
    pub(crate) refused: u64,
}

impl Gone {
    fn is_empty(&self) -> bool {
        self.firsts.is_empty() && self.late == 0 && self.refused == 0
    }
}

/// What became of a piece that was to be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// It is not kept.
    Refused(DropReason),
    /// It waits.
    Kept,
    /// The first fragment has come in the meantime: it can be translated.
    Ready,
    /// Nothing is missing: the packets with the pieces of a datagram to be put together.
    Whole(Packets),
}

impl Fragments {
    /// No fragments.
    pub(crate) fn new(bounds: Bounds, key: SipKey) -> Self {
        let budgets = || [0, 1].map(|_| Budget::new(bounds.memory / BUDGETS, key));
        let bits = u32::from(bounds.source_prefix.clamp(1, 128));
        Self {
            datagrams: HashMap::with_hasher(key),
            ends: VecDeque::new(),
            waiting: budgets(),
            decided: budgets(),
            gone: Gone::default(),
            life: bounds.life,
            source_mask: u128::MAX << (128 - bits),
        }
    }

    /// What was decided about a datagram of which another piece has come. Pieces that overlap end
    /// it, and so does the last one that passes.
    pub(crate) fn piece(&mut self, key: &DatagramKey, piece: Piece, now: Tick) -> Option<Decision> {
        self.expire(now);
        self.datagrams.get(key)?.decision?;
        let noted = self.note(key, piece);
        let datagram = self.datagrams.get_mut(key)?;
        let decision = datagram.decision;
        if noted != Noted::Misfit {
            datagram.coverage.pass(piece);
            if datagram.coverage.has_passed() {
                self.remove(key);
            }
        }
        decision
    }

    /// Remembers what was decided about a datagram with its first fragment. Returns what counts,
    /// as another worker may have decided a moment ago, and what was held of it.
    ///
    /// # Errors
    /// Why none of it may pass.
    pub(crate) fn decide(
        &mut self,
        key: DatagramKey,
        first: Piece,
        decision: Decision,
        now: Tick,
    ) -> Result<(Decision, Packets), DropReason> {
        self.expire(now);
        if let Some(before) = self.piece(&key, first, now) {
            return Ok((before, Vec::new()));
        }
        let (gathers, held) = match self.datagrams.get_mut(&key) {
            Some(datagram) => (datagram.gathers, std::mem::take(&mut datagram.held)),
            None => (false, Vec::new()),
        };
        self.uncharge(&key, held.iter().map(Waiting::cost).sum());
        let trouble = if !self.move_to_decided(&key, now) {
            Some(DropReason::FragmentLimit)
        } else if gathers || self.note(&key, first) == Noted::Misfit {
            // What is gathered has had a first fragment already: one of the two is forged.
            Some(DropReason::FragmentRefused)
        } else {
            None
        };
        if let Some(reason) = trouble {
            self.refuse(&key, now);
            self.gone.refused += held.len() as u64;
            return Err(reason);
        }
        if let Some(datagram) = self.datagrams.get_mut(&key) {
            datagram.decision = Some(decision);
            datagram.coverage.pass(first);
            if datagram.coverage.has_passed() {
                // It was all of it (RFC 6946).
                self.remove(&key);
            }
        }
        Ok((decision, held.into_iter().map(|one| one.packet).collect()))
    }

    /// Holds a fragment of a datagram without a decision. `gathers` says that it can only be
    /// translated when all of its datagram is there.
    pub(crate) fn hold(
        &mut self,
        key: DatagramKey,
        piece: Piece,
        gathers: bool,
        packet: &[u8],
        now: Tick,
    ) -> Held {
        self.expire(now);
        match self.datagrams.get(&key).and_then(|known| known.decision) {
            None => {}
            Some(Decision::Refused) => return Held::Refused(DropReason::FragmentRefused),
            Some(_) if gathers => {
                self.refuse(&key, now);
                return Held::Refused(DropReason::FragmentRefused);
            }
            Some(_) => return Held::Ready,
        }
        let waiting = Waiting {
            is_first: piece.start == 0,
            packet: packet.into(),
        };
        if !self.admit(&key, false, now) {
            return Held::Refused(DropReason::FragmentLimit);
        }
        match self.note(&key, piece) {
            Noted::New => {}
            // A repetition adds nothing.
            Noted::Again => return Held::Kept,
            Noted::Misfit => return Held::Refused(DropReason::FragmentRefused),
        }
        if !self.charge(&key, waiting.cost()) {
            self.refuse(&key, now);
            return Held::Refused(DropReason::FragmentLimit);
        }
        let Some(datagram) = self.datagrams.get_mut(&key) else {
            return Held::Refused(DropReason::FragmentLimit);
        };
        datagram.held.push(waiting);
        datagram.gathers |= gathers;
        if !datagram.gathers || !datagram.coverage.is_whole() {
            return Held::Kept;
        }
        let held = std::mem::take(&mut datagram.held);
        self.uncharge(&key, held.iter().map(Waiting::cost).sum());
        self.remove(&key);
        Held::Whole(held.into_iter().map(|one| one.packet).collect())
    }

    /// Drops what is held of a datagram whose first fragment was refused, and what will come. The
    /// datagram keeps a place until its end, or its rest would be held.
    pub(crate) fn refuse(&mut self, key: &DatagramKey, now: Tick) {
        if !self.admit(key, false, now) {
            return;
        }
        let Some(datagram) = self.datagrams.get_mut(key) else {
            return;
        };
        datagram.decision = Some(Decision::Refused);
        datagram.coverage = Coverage::default();
        let held = std::mem::take(&mut datagram.held);
        let cost = datagram.cost - DATAGRAM;
        self.gone.refused += held.len() as u64;
        self.uncharge(key, cost);
    }

    /// When something that waits is over; `None` if nothing waits.
    pub(crate) fn next_end(&self) -> Option<Tick> {
        if !self.gone.is_empty() {
            return Some(Tick::from_raw(0));
        }
        // Decided ones go when the next fragment comes, which is soon enough.
        let waits = |key: &DatagramKey| {
            let datagram = self.datagrams.get(key);
            datagram.is_some_and(|one| !one.held.is_empty())
        };
        let mut ends = self.ends.iter().take(LOOKED_AT);
        ends.find(|(_, key)| waits(key)).map(|(end, _)| *end)
    }

    /// What has gone without being translated, since the last time.
    pub(crate) fn take_gone(&mut self, now: Tick) -> Gone {
        self.expire(now);
        std::mem::take(&mut self.gone)
    }

    /// True if the datagram has a place, or gets one.
    fn admit(&mut self, key: &DatagramKey, is_decided: bool, now: Tick) -> bool {
        if self.datagrams.contains_key(key) {
            return true;
        }
        let source = self.source(key);
        if !self.budget(key, is_decided).charge(source, DATAGRAM) {
            return false;
        }
        let until = now.after(self.life);
        let datagram = Datagram {
            is_decided,
            cost: DATAGRAM,
            ..Datagram::new(until)
        };
        self.datagrams.insert(*key, datagram);
        self.ends.push_back((until, *key));
        true
    }

    /// Moves a datagram, which may be new, to the budget of those whose first fragment has come.
    fn move_to_decided(&mut self, key: &DatagramKey, now: Tick) -> bool {
        if !self.admit(key, true, now) {
            return false;
        }
        let Some(&Datagram {
            is_decided, cost, ..
        }) = self.datagrams.get(key)
        else {
            return false;
        };
        if is_decided {
            return true;
        }
        let source = self.source(key);
        if !self.budget(key, true).charge(source, cost) {
            return false;
        }
        self.budget(key, false).release(source, cost);
        if let Some(datagram) = self.datagrams.get_mut(key) {
            datagram.is_decided = true;
        }
        true
    }

    /// Notes a piece of a datagram. One that does not fit, or that there is no room for, ends it.
    fn note(&mut self, key: &DatagramKey, piece: Piece) -> Noted {
        let Some(datagram) = self.datagrams.get_mut(key) else {
            return Noted::Misfit;
        };
        let (until, is_over) = (datagram.until, datagram.decision == Some(Decision::Refused));
        let noted = match is_over {
            true => Noted::Misfit,
            false => datagram.coverage.note(piece),
        };
        let fits = match noted {
            Noted::New => self.charge(key, PIECE),
            Noted::Again => true,
            Noted::Misfit => false,
        };
        if !fits {
            self.refuse(key, until);
            return Noted::Misfit;
        }
        noted
    }

    fn charge(&mut self, key: &DatagramKey, cost: usize) -> bool {
        let Some(is_decided) = self.datagrams.get(key).map(|one| one.is_decided) else {
            return false;
        };
        let source = self.source(key);
        if !self.budget(key, is_decided).charge(source, cost) {
            return false;
        }
        if let Some(datagram) = self.datagrams.get_mut(key) {
            datagram.cost += cost;
        }
        true
    }

    fn uncharge(&mut self, key: &DatagramKey, cost: usize) {
        let Some(datagram) = self.datagrams.get_mut(key) else {
            return;
        };
        datagram.cost -= cost;
        let is_decided = datagram.is_decided;
        let source = self.source(key);
        self.budget(key, is_decided).release(source, cost);
    }

    fn expire(&mut self, now: Tick) {
        while let Some((end, key)) = self.ends.front().copied()
            && end <= now
        {
            self.ends.pop_front();
            // Another datagram may have the same key by now.
            if self.datagrams.get(&key).is_some_and(|one| one.until <= now) {
                self.time_out(&key);
            }
        }
    }

    fn time_out(&mut self, key: &DatagramKey) {
        let Some(datagram) = self.datagrams.get_mut(key) else {
            return;
        };
        for waiting in std::mem::take(&mut datagram.held) {
            // A first fragment is held only where the datagram is reassembled here.
            if waiting.is_first && self.gone.firsts.len() < MAX_COMPLAINTS {
                self.gone.firsts.push(waiting.packet);
            } else {
                self.gone.late += 1;
            }
        }
        self.remove(key);
    }

    fn remove(&mut self, key: &DatagramKey) {
        let Some(datagram) = self.datagrams.remove(key) else {
            return;
        };
        let source = self.source(key);
        self.budget(key, datagram.is_decided)
            .release(source, datagram.cost);
        // The ends of those that went early are cleared away now and then.
        if self.ends.len() > 2 * self.datagrams.len() + 64 {
            let datagrams = &self.datagrams;
            self.ends
                .retain(|(end, key)| datagrams.get(key).is_some_and(|one| one.until == *end));
        }
    }

    fn budget(&mut self, key: &DatagramKey, is_decided: bool) -> &mut Budget {
        let side = key.side() as usize;
        match is_decided {
            true => &mut self.decided[side],
            false => &mut self.waiting[side],
        }
    }

    fn source(&self, key: &DatagramKey) -> Source {
        match key.side() {
            Side::V6 => Source {
                own: key.src & self.source_mask,
                network: (self.source_mask & u128::from(u64::MAX) != 0).then_some(key.src >> 64),
            },
            Side::V4 => Source {
                own: key.src,
                network: None,
            },
        }
    }
}

impl Waiting {
    fn cost(&self) -> usize {
        self.packet.len() + PACKET
    }
}

/// Two for each side.
const BUDGETS: usize = 4;
/// Memory of a datagram, of one of its fragments, and of a packet besides its bytes.
const DATAGRAM: usize = 256;
const PIECE: usize = 16;
const PACKET: usize = 48;
/// Expired datagrams that wait for their ICMP error at most.
const MAX_COMPLAINTS: usize = 16;
/// Datagrams looked at to find one that waits.
const LOOKED_AT: usize = 64;

#[cfg(test)]
mod tests;
