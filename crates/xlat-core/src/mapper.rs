//! The seam for every address policy: which addresses a packet has in the other family.
//!
//! The translator asks its [`Mapper`] once per packet and gets a [`Rewrite`], a small plain value:
//! the new addresses and, for a mapper that shares addresses, the new ports. Everything else
//! (headers, checksums, ICMP, fragments) is the same for all mappers. Stateless mappers live in
//! [`mappers`](crate::mappers); stateful NAT64 and the dynamic pool are another crate.
//!
//! Two more seams are for mappers that need more than addresses and ports: a [`PacketHolder`] gets
//! copies of packets and has packets of its own, and [`Prefetch`] looks at packets ahead of time.
//!
//! `A` is the family a packet comes from, `B` the one it goes to.

use core::net::{Ipv4Addr, Ipv6Addr};

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};

use crate::reason::DropReason;
use crate::time::Instant;

/// What a mapper may look at: a packet's addresses, protocol and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Transport protocol behind all extension headers, as it stands in the packet (1 or 58 for
    /// ICMP).
    pub protocol: IpNextHeaderProtocol,
    /// Ports, or the ICMP identifier in both places. `None` when the packet has none: another
    /// protocol, or a fragment that is not the first.
    pub ports: Option<Ports>,
    /// TCP flags; zero for every other protocol.
    pub tcp_flags: u8,
    /// Set when the packet is a fragment.
    pub fragment: Option<Fragment>,
}

/// Ports of a TCP, UDP or ICMP echo packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    /// Source port, or the ICMP identifier.
    pub src: u16,
    /// Destination port, or the ICMP identifier.
    pub dst: u16,
}

impl Ports {
    /// The ICMP identifier `id`, which stands for both ports.
    pub const fn identifier(id: u16) -> Self {
        Self { src: id, dst: id }
    }
}

/// A packet's place in a fragmented datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Identification: 16 bits from IPv4, 32 from IPv6.
    pub id: u32,
    /// Offset of this piece in units of 8 bytes.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// Bytes of the datagram in this piece.
    pub len: u16,
}

impl Fragment {
    /// True for the piece that carries the transport header.
    #[inline]
    pub const fn is_first(&self) -> bool {
        self.offset == 0
    }
}

/// The mapping decision for one packet. Small and plain, so that another executor (an in-kernel
/// fast path, say) could apply it as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rewrite<B> {
    /// New source address.
    pub src: B,
    /// New destination address.
    pub dst: B,
    /// New ports or identifier; `None` leaves them as they are.
    pub ports: Option<Ports>,
    /// The identification that the fragments of an IPv6 datagram get in IPv4. `None` takes the low
    /// 16 bits of what they had (RFC 7915 section 5.1.1), which several clients behind one address
    /// may have in common.
    pub fragment_id: Option<u16>,
    /// From IPv6 only: the IPv4 destination is one of our own nodes, so the packet must be
    /// hairpinned and be translated back at once (RFC 7757 section 4.2.2, RFC 6146 section 3.8).
    pub hairpin: bool,
}

impl<B> Rewrite<B> {
    /// New addresses, and nothing else.
    #[inline]
    pub const fn new(src: B, dst: B) -> Self {
        Self {
            src,
            dst,
            ports: None,
            fragment_id: None,
            hairpin: false,
        }
    }
}

/// An ICMP error that wants to cross: its own addresses and the flow it complains about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorFlow<A> {
    /// Source of the error: the node that complains.
    pub src: A,
    /// Destination of the error: the sender of the quoted packet.
    pub dst: A,
    /// The quoted packet, as it stands in the error: its source is the node that gets the error.
    pub quoted: Flow<A>,
}

/// The mapping decision for an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorRewrite<B> {
    /// New source; `None` if the complaining node has no address in the other family, so that the
    /// translator must lend one (RFC 6791).
    pub src: Option<B>,
    /// New destination.
    pub dst: B,
    /// New addresses and ports of the quoted packet, in the quoted packet's own order.
    pub quoted: Rewrite<B>,
    /// From IPv6 only: the error must turn round and be translated back at once.
    pub hairpin: bool,
}

/// A mapper's "no".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Drop the packet and tell its sender nothing.
    Silent(DropReason),
    /// Drop the packet and tell its sender so; the policy and the rate limits have the last word.
    Answer(DropReason, Unreachable),
    /// The mapper has to wait for another packet before it can decide. The translator hands flow
    /// and bytes to its [`PacketHolder`].
    Hold,
}

/// The ICMP error that a refused sender gets (ICMPv6 type 1, ICMPv4 type 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Administratively prohibited: ICMPv6 1/1, ICMPv4 3/13 (RFC 7915 sections 4.4 and 5.4).
    Prohibited,
    /// Address unreachable: ICMPv6 1/3, ICMPv4 3/1 (RFC 6146 section 3.5.1).
    Address,
    /// Port unreachable: ICMPv6 1/4, ICMPv4 3/3.
    Port,
    /// The transport protocol is not carried: ICMPv6 1/4, ICMPv4 3/2 (RFC 6146 section 3.5).
    Protocol,
}

/// Which time a packet goes through the translator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It came from outside.
    First,
    /// It is the IPv4 packet that the first pass made of a hairpin, on its way back to IPv6.
    Hairpin,
}

impl Pass {
    /// The hop limit behind the translator. Only the first pass is a hop.
    #[inline]
    pub(crate) const fn hop(self, hop_limit: u8) -> u8 {
        match self {
            Self::First => hop_limit - 1,
            Self::Hairpin => hop_limit,
        }
    }
}

/// An address policy: static maps, one CLAT address, a dynamic pool, a stateful NAT64.
///
/// A mapper decides; it never sees or changes the packet. It is called after the packet was found
/// well-formed and its hop limit was found sufficient, so that no bad packet can create state. All
/// that it decides about a packet is in what it returns.
///
/// A mapper that waits for packets is a [`PacketHolder`] too, one with large tables does
/// [`Prefetch`]; any other says that it maps [`PacketByPacket`].
pub trait Mapper {
    /// Maps an IPv6 packet to IPv4. One whose IPv4 destination is one of our own nodes is marked
    /// as a [`hairpin`](Rewrite::hairpin).
    fn map_v6(&mut self, flow: &Flow<Ipv6Addr>, now: Instant)
    -> Result<Rewrite<Ipv4Addr>, Refusal>;

    /// Maps an IPv4 packet to IPv6. What a mapper does differently in the second pass of a hairpin
    /// is the source: it must appear as the nodes outside see it (RFC 7757 section 4.2.1, RFC 4787
    /// REQ-9a).
    fn map_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        pass: Pass,
        now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal>;

    /// Maps an ICMPv6 error and the packet it quotes. Must not create, refresh or end any state.
    fn map_v6_error(
        &mut self,
        error: &ErrorFlow<Ipv6Addr>,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv4Addr>, Refusal>;

    /// Maps an ICMPv4 error and the packet it quotes. Must not create, refresh or end any state.
    fn map_v4_error(
        &mut self,
        error: &ErrorFlow<Ipv4Addr>,
        pass: Pass,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal>;
}

/// Packets that a mapper holds until another one comes, and packets that it makes.
pub trait PacketHolder {
    /// Takes a copy of a fragment from IPv6 whose datagram can be translated only as a whole: an
    /// ICMPv6 message, since its checksum covers another pseudo-header, and so the length of all
    /// of it. When all of it is there, it is a [`PendingPacket`].
    ///
    /// # Errors
    /// Why it is not kept.
    fn reassemble_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), Refusal>;

    /// The same from IPv4: a fragment of an ICMPv4 message, or the first one of a UDP datagram
    /// without a checksum. A translator that does not have all of that cannot make one (RFC 7915
    /// section 4.5, RFC 6146 section 3.4).
    ///
    /// # Errors
    /// Why it is not kept.
    fn reassemble_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), Refusal>;

    /// Takes a copy of a packet for which [`map_v6`](Mapper::map_v6) answered [`Refusal::Hold`].
    ///
    /// # Errors
    /// Why it is not kept; it is then dropped for that reason.
    fn hold_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason>;

    /// Takes a copy of a packet for which [`map_v4`](Mapper::map_v4) answered [`Refusal::Hold`].
    ///
    /// # Errors
    /// Why it is not kept; it is then dropped for that reason.
    fn hold_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason>;

    /// The next packet that is pending: one that was held and can be decided about now, or one
    /// that the mapper made. `None` if there is none.
    fn poll_packet(&mut self, now: Instant) -> Option<PendingPacket<'_>>;
}

/// A packet that a mapper has pending, beginning with its IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PendingPacket<'a> {
    /// Send it as it is (a probe).
    Send(&'a [u8]),
    /// Translate it: it was held until now.
    Translate(&'a [u8]),
    /// An ICMPv4 error that answers a packet which was held: send it, if the rate limits allow it.
    Answer {
        /// The error.
        packet: &'a [u8],
        /// Its addressee is one of our own nodes, so it takes the second pass of a hairpin.
        hairpin: bool,
        /// Why the packet was not translated.
        reason: DropReason,
    },
    /// The first fragment of a datagram that timed out. Its sender gets an error
    /// (RFC 8200 section 4.5, RFC 792).
    Expired(&'a [u8]),
    /// A packet that was held is gone.
    Lost(DropReason),
}

/// Looking at several packets before the first of them is mapped, for a mapper whose tables are
/// larger than the cache.
pub trait Prefetch {
    /// True if [`prefetch`](Self::prefetch) is worth its cost now.
    fn wants_prefetch(&self) -> bool;

    /// Fetches what packets of these flows will be looked up by, for all of them at once. Must not
    /// change what becomes of any packet.
    fn prefetch(&mut self, upcoming: &[UpcomingFlow]);
}

/// Packets that are read, and fetched for, before the first of them is translated.
pub const PREFETCH_BATCH: usize = 16;

/// A packet of either family that will be mapped soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpcomingFlow {
    /// From IPv6.
    V6(Flow<Ipv6Addr>),
    /// From IPv4.
    V4(Flow<Ipv4Addr>),
}

impl UpcomingFlow {
    /// Fills the places of a batch that has fewer flows.
    pub(crate) const NOTHING: Self = Self::V4(Flow {
        src: Ipv4Addr::UNSPECIFIED,
        dst: Ipv4Addr::UNSPECIFIED,
        protocol: IpNextHeaderProtocol(0),
        ports: None,
        tcp_flags: 0,
        fragment: None,
    });
}

/// A mapper that decides about each packet by itself: it holds none, makes none, and has nothing
/// to fetch. It never answers [`Refusal::Hold`].
pub trait PacketByPacket: Mapper {}

impl<M: PacketByPacket> PacketHolder for M {
    fn reassemble_v6(&mut self, _: &Flow<Ipv6Addr>, _: &[u8], _: Instant) -> Result<(), Refusal> {
        Err(Refusal::Silent(DropReason::FragmentedIcmp))
    }

    fn reassemble_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        _: &[u8],
        _: Instant,
    ) -> Result<(), Refusal> {
        let reason = match flow.protocol {
            IpNextHeaderProtocols::Udp => DropReason::UdpZeroChecksum,
            _ => DropReason::FragmentedIcmp,
        };
        // RFC 7915 section 4.4; ICMPv6 messages are never answered so (section 5.4).
        Err(Refusal::Answer(reason, Unreachable::Prohibited))
    }

    fn hold_v6(&mut self, _: &Flow<Ipv6Addr>, _: &[u8], _: Instant) -> Result<(), DropReason> {
        Err(DropReason::TableFull)
    }

    fn hold_v4(&mut self, _: &Flow<Ipv4Addr>, _: &[u8], _: Instant) -> Result<(), DropReason> {
        Err(DropReason::TableFull)
    }

    #[inline]
    fn poll_packet(&mut self, _: Instant) -> Option<PendingPacket<'_>> {
        None
    }
}

impl<M: PacketByPacket> Prefetch for M {
    #[inline]
    fn wants_prefetch(&self) -> bool {
        false
    }

    fn prefetch(&mut self, _: &[UpcomingFlow]) {}
}
