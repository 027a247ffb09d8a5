//! Fragments in a stateful translator: only the first one tells the ports, and it need not come
//! first (RFC 6146 section 3.4).
//!
//! Fragments are translated as they come. The first one is translated like any packet, and what
//! was decided about it is remembered for the others of its datagram. Those that come before it
//! are held, and given back to be translated when it has come. Only ICMP messages are put together,
//! as their checksum cannot follow the header otherwise: they are gathered until all of one is
//! there.
//!
//! All of it is bounded, in datagrams and in bytes, in total and per source; what goes beyond is
//! dropped, and nothing that is there gives way to it, so that a flood of one source takes
//! nothing from another.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, Ipv6Addr};

use pnet_packet::ip::IpNextHeaderProtocol;
use xlat_core::mapper::{Fragment, Rewrite};

use crate::clock::{Tick, Ticks};
use crate::siphash::SipKey;

/// What the fragments of a datagram have in common. IPv4 addresses stand here in IPv4-mapped form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DatagramKey {
    src: u128,
    dst: u128,
    id: u32,
    protocol: u8,
}

/// What was decided about a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Its way to IPv4, and the identification that its fragments get there.
    ToV4(Rewrite<Ipv4Addr>, u16),
    /// Its way to IPv6.
    ToV6(Rewrite<Ipv6Addr>),
    /// Its first fragment was refused, so the others are too.
    Refused,
}

/// The datagrams that are on their way in fragments.
#[derive(Debug)]
pub(crate) struct Fragments {
    datagrams: HashMap<DatagramKey, Datagram, SipKey>,
    /// All datagrams in the order in which they began, which is the order in which they end.
    ends: VecDeque<(Tick, DatagramKey)>,
    per_source: HashMap<u128, Load, SipKey>,
    held_bytes: usize,
    life: Ticks,
}

#[derive(Debug, Default)]
struct Datagram {
    decision: Option<Decision>,
    held: Vec<Box<[u8]>>,
    pieces: Vec<Piece>,
    /// Length of the whole in bytes, known with its last piece.
    end: Option<u32>,
}

/// What became of a piece of an ICMP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gathered {
    /// There is no room, or it does not fit what came before.
    Refused,
    /// It is kept, and others are missing.
    Part,
    /// The whole: the packets with its pieces, in no order.
    Whole(Vec<Box<[u8]>>),
}

/// A fragment's place in its datagram, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    start: u32,
    end: u32,
}

impl From<Fragment> for Piece {
    fn from(fragment: Fragment) -> Self {
        let start = u32::from(fragment.offset) * 8;
        Self {
            start,
            end: start + u32::from(fragment.len),
        }
    }
}

impl Datagram {
    /// Notes a piece. False if it overlaps another one without being the same: then somebody wants
    /// to have something put together that nobody has looked at (RFC 5722, RFC 8200 section 4.5).
    fn note(&mut self, piece: Piece) -> bool {
        let overlaps = |other: &Piece| piece.start < other.end && other.start < piece.end;
        if let Some(other) = self.pieces.iter().find(|other| overlaps(other)) {
            return *other == piece;
        }
        if self.pieces.len() == MAX_PIECES {
            return false;
        }
        self.pieces.push(piece);
        true
    }
}

/// What one source takes up.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    datagrams: usize,
    bytes: usize,
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
}

impl Fragments {
    /// No fragments. A datagram is forgotten `life` after its first piece to come.
    pub(crate) fn new(life: Ticks, key: SipKey) -> Self {
        Self {
            datagrams: HashMap::with_hasher(key),
            ends: VecDeque::new(),
            per_source: HashMap::with_hasher(key),
            held_bytes: 0,
            life,
        }
    }

    /// What was decided about a datagram.
    pub(crate) fn decision(&self, key: &DatagramKey) -> Option<Decision> {
        self.datagrams.get(key)?.decision
    }

    /// What was decided about a datagram of which another piece has come. Pieces that overlap end
    /// it.
    pub(crate) fn piece(&mut self, key: &DatagramKey, piece: Piece, now: Tick) -> Option<Decision> {
        self.expire(now);
        if !self.datagrams.get_mut(key)?.note(piece) {
            self.refuse(key);
        }
        self.decision(key)
    }

    /// Remembers what was decided about a datagram, and gives back what was held of it. If there
    /// is no room the first fragment passes and the others will not.
    pub(crate) fn decide(
        &mut self,
        key: DatagramKey,
        piece: Piece,
        decision: Decision,
        now: Tick,
    ) -> Vec<Box<[u8]>> {
        self.expire(now);
        if !self.admit(key, now) {
            return Vec::new();
        }
        let Some(datagram) = self.datagrams.get_mut(&key) else {
            return Vec::new();
        };
        datagram.note(piece);
        datagram.decision = Some(decision);
        let held = std::mem::take(&mut datagram.held);
        self.unload(key.src, held.iter().map(|packet| packet.len()).sum());
        held
    }

    /// Keeps a fragment whose datagram is not decided; false if there is no room.
    pub(crate) fn hold(
        &mut self,
        key: DatagramKey,
        piece: Piece,
        packet: &[u8],
        now: Tick,
    ) -> bool {
        self.expire(now);
        let load = self.per_source.get(&key.src).copied().unwrap_or_default();
        let fits = self.held_bytes + packet.len() <= MAX_BYTES
            && load.bytes + packet.len() <= MAX_BYTES / SHARE;
        if !fits || !self.admit(key, now) {
            return false;
        }
        let Some(datagram) = self.datagrams.get_mut(&key) else {
            return false;
        };
        datagram.note(piece);
        datagram.held.push(packet.into());
        self.held_bytes += packet.len();
        self.per_source.entry(key.src).or_default().bytes += packet.len();
        true
    }

    /// Keeps a piece of an ICMP message until all of it is there; `is_last` says that nothing comes
    /// behind it.
    pub(crate) fn gather(
        &mut self,
        key: DatagramKey,
        piece: Piece,
        is_last: bool,
        packet: &[u8],
        now: Tick,
    ) -> Gathered {
        self.expire(now);
        if let Some(datagram) = self.datagrams.get_mut(&key) {
            if datagram.decision.is_some() {
                return Gathered::Refused;
            }
            // A repetition adds nothing.
            if datagram.pieces.contains(&piece) {
                return Gathered::Part;
            }
            if !datagram.note(piece) {
                self.refuse(&key);
                return Gathered::Refused;
            }
        }
        if !self.hold(key, piece, packet, now) {
            return Gathered::Refused;
        }
        let Some(datagram) = self.datagrams.get_mut(&key) else {
            return Gathered::Refused;
        };
        if is_last {
            datagram.end = Some(piece.end);
        }
        // Pieces do not overlap, so the sum of their lengths says whether there is a gap.
        let sum: u32 = datagram.pieces.iter().map(|one| one.end - one.start).sum();
        if datagram.end != Some(sum) {
            return Gathered::Part;
        }
        let held = std::mem::take(&mut datagram.held);
        self.unload(key.src, held.iter().map(|packet| packet.len()).sum());
        self.refuse(&key);
        Gathered::Whole(held)
    }

    /// Drops what is held of a datagram whose first fragment was refused, and what will come. The
    /// datagram keeps its place until its end, or a source could begin any number of them.
    pub(crate) fn refuse(&mut self, key: &DatagramKey) {
        let Some(datagram) = self.datagrams.get_mut(key) else {
            return;
        };
        datagram.decision = Some(Decision::Refused);
        let held = std::mem::take(&mut datagram.held);
        self.unload(key.src, held.iter().map(|packet| packet.len()).sum());
    }

    /// True if the datagram has a place, or gets one.
    fn admit(&mut self, key: DatagramKey, now: Tick) -> bool {
        if self.datagrams.contains_key(&key) {
            return true;
        }
        let load = self.per_source.entry(key.src).or_default();
        if self.datagrams.len() >= MAX_DATAGRAMS || load.datagrams >= MAX_DATAGRAMS / SHARE {
            if load.datagrams == 0 {
                self.per_source.remove(&key.src);
            }
            return false;
        }
        load.datagrams += 1;
        self.datagrams.insert(key, Datagram::default());
        self.ends.push_back((now.after(self.life), key));
        true
    }

    fn expire(&mut self, now: Tick) {
        while let Some((end, key)) = self.ends.front().copied()
            && end <= now
        {
            self.ends.pop_front();
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &DatagramKey) {
        let Some(datagram) = self.datagrams.remove(key) else {
            return;
        };
        self.unload(
            key.src,
            datagram.held.iter().map(|packet| packet.len()).sum(),
        );
        if let Some(load) = self.per_source.get_mut(&key.src) {
            load.datagrams -= 1;
            if load.datagrams == 0 {
                self.per_source.remove(&key.src);
            }
        }
    }

    fn unload(&mut self, src: u128, bytes: usize) {
        self.held_bytes -= bytes;
        if let Some(load) = self.per_source.get_mut(&src) {
            load.bytes -= bytes;
        }
    }
}

/// Datagrams at once.
const MAX_DATAGRAMS: usize = 4096;
/// Pieces of a datagram: 64 KiB in pieces of 512 bytes.
const MAX_PIECES: usize = 128;
/// Bytes held at once.
const MAX_BYTES: usize = 1 << 20;
/// The part of both that one source can take up: one in so many.
const SHARE: usize = 8;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pnet_packet::ip::IpNextHeaderProtocols;
    use xlat_core::Instant;

    use super::*;

    #[test]
    fn what_came_early_is_given_back_when_the_first_fragment_has_come() {
        let mut fragments = fragments();
        assert_eq!(fragments.decision(&key(1, 7)), None);
        assert!(fragments.hold(key(1, 7), FIRST, b"third", at(0)));
        assert!(fragments.hold(key(1, 7), FIRST, b"second", at(1)));
        assert!(fragments.hold(key(1, 8), FIRST, b"other", at(1)));
        let held = fragments.decide(key(1, 7), FIRST, DECISION, at(1));
        assert_eq!(
            held,
            [b"third".as_slice().into(), b"second".as_slice().into()]
        );
        assert_eq!(fragments.decision(&key(1, 7)), Some(DECISION));
        assert_eq!(fragments.decision(&key(1, 8)), None);
    }

    #[test]
    fn nf_05_a_message_is_whole_when_no_piece_is_missing() {
        let mut fragments = fragments();
        let piece = |start, end| Piece { start, end };
        let mut gather = |piece, is_last, packet: &[u8]| {
            fragments.gather(key(1, 7), piece, is_last, packet, at(0))
        };
        assert_eq!(gather(piece(32, 40), true, b"last"), Gathered::Part);
        assert_eq!(gather(piece(0, 16), false, b"first"), Gathered::Part);
        assert_eq!(gather(piece(0, 16), false, b"again"), Gathered::Part);
        let Gathered::Whole(held) = gather(piece(16, 32), false, b"middle") else {
            panic!("nothing is missing");
        };
        assert_eq!(held.len(), 3);
        assert_eq!(fragments.held_bytes, 0);
        // What comes late is nobody's.
        assert_eq!(fragments.decision(&key(1, 7)), Some(Decision::Refused));
    }

    #[test]
    fn nf_02_a_datagram_has_its_time_and_no_more() {
        let mut fragments = fragments();
        fragments.decide(key(1, 7), FIRST, DECISION, at(10));
        let rest = Piece { start: 16, end: 32 };
        assert_eq!(fragments.piece(&key(1, 7), rest, at(12)), Some(DECISION));
        assert_eq!(fragments.piece(&key(1, 7), rest, at(13)), None);
        assert!(fragments.datagrams.is_empty() && fragments.per_source.is_empty());
    }

    #[test]
    fn nf_02_se_14_a_flood_stays_within_its_share() {
        let mut fragments = fragments();
        let packet = [0; 1400];
        let held = (0..100_000)
            .filter(|&id| fragments.hold(key(1, id), FIRST, &packet, at(0)))
            .count();
        assert_eq!(held, MAX_BYTES / SHARE / 1400);
        assert!(fragments.hold(key(2, 1), FIRST, &packet, at(0)));
        let decided = (0..100_000).filter(|&id| {
            fragments.decide(key(3, id), FIRST, DECISION, at(0));
            fragments.decision(&key(3, id)).is_some()
        });
        assert_eq!(decided.count(), MAX_DATAGRAMS / SHARE);

        for source in 0..10_000 {
            fragments.hold(key(source, 1), FIRST, &packet, at(0));
        }
        assert!(fragments.held_bytes <= MAX_BYTES);
        assert!(fragments.datagrams.len() <= MAX_DATAGRAMS);
        assert_eq!(fragments.decision(&key(3, 1)), Some(DECISION));
        fragments.expire(at(3));
        assert_eq!((fragments.held_bytes, fragments.ends.len()), (0, 0));
        assert!(fragments.datagrams.is_empty() && fragments.per_source.is_empty());
    }

    #[test]
    fn se_14_a_refused_datagram_holds_nothing_and_keeps_its_place() {
        let mut fragments = fragments();
        let places = (0..100_000).filter(|&id| {
            let held = fragments.hold(key(1, id), FIRST, b"second", at(0));
            fragments.refuse(&key(1, id));
            held
        });
        assert_eq!(places.count(), MAX_DATAGRAMS / SHARE);
        assert_eq!(fragments.held_bytes, 0);
        assert_eq!(fragments.ends.len(), MAX_DATAGRAMS / SHARE);
        assert_eq!(fragments.decision(&key(1, 0)), Some(Decision::Refused));
        fragments.expire(at(10));
        assert!(fragments.datagrams.is_empty() && fragments.per_source.is_empty());
    }

    #[test]
    fn se_11_pieces_that_overlap_end_the_datagram_and_repetitions_do_not() {
        let piece = |start, end| Piece { start, end };
        for (other, is_fine) in [
            (piece(16, 32), true),
            (piece(32, 48), true),
            (piece(0, 16), true),
            (piece(8, 24), false),
            (piece(24, 32), false),
            (piece(16, 24), false),
            (piece(16, 40), false),
            (piece(0, 48), false),
            (piece(31, 33), false),
        ] {
            let mut fragments = fragments();
            fragments.decide(key(1, 7), FIRST, DECISION, at(0));
            let known = fragments.piece(&key(1, 7), piece(16, 32), at(0));
            assert_eq!(known, Some(DECISION));
            let then = fragments.piece(&key(1, 7), other, at(0));
            let expected = if is_fine { DECISION } else { Decision::Refused };
            assert_eq!(then, Some(expected), "{other:?}");
            assert_eq!(fragments.decision(&key(1, 7)), Some(expected));
        }
    }

    const FIRST: Piece = Piece { start: 0, end: 16 };

    const DECISION: Decision = Decision::ToV4(
        Rewrite {
            src: Ipv4Addr::new(192, 0, 2, 1),
            dst: Ipv4Addr::new(198, 51, 100, 7),
            ports: None,
        },
        77,
    );

    fn fragments() -> Fragments {
        let life = Ticks::covering(Duration::from_secs(2));
        Fragments::new(life, SipKey::new([1, 2]))
    }

    fn key(source: u32, id: u32) -> DatagramKey {
        let (src, dst) = (Ipv4Addr::from_bits(source), Ipv4Addr::LOCALHOST);
        DatagramKey::v4(src, dst, id, IpNextHeaderProtocols::Udp)
    }

    fn at(secs: u64) -> Tick {
        Tick::at(Instant::from_secs(secs))
    }
}
