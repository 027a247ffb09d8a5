//! The seam for every address policy: who is who in the other family.
//!
//! The translator asks its [`Mapper`] once per packet and gets a [`Rewrite`], a small plain value:
//! the new addresses and, for a mapper that shares addresses, the new ports. Everything else
//! (headers, checksums, ICMP, fragments) is the same for all mappers. Stateless mappers live in
//! [`mappers`](crate::mappers); stateful NAT64 and the dynamic pool are another crate.
//!
//! `A` is the family a packet comes from, `B` the one it goes to.

use core::net::{Ipv4Addr, Ipv6Addr};

use pnet_packet::ip::IpNextHeaderProtocol;

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

/// A packet of either family that will be mapped soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coming {
    /// From IPv6.
    V6(Flow<Ipv6Addr>),
    /// From IPv4.
    V4(Flow<Ipv4Addr>),
}

impl Coming {
    /// Room for one.
    pub(crate) const NOTHING: Self = Self::V4(Flow {
        src: Ipv4Addr::UNSPECIFIED,
        dst: Ipv4Addr::UNSPECIFIED,
        protocol: IpNextHeaderProtocol(0),
        ports: None,
        tcp_flags: 0,
        fragment: None,
    });
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
}

/// A mapper's "no".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Drop the packet and tell its sender nothing.
    Silent(DropReason),
    /// Drop the packet and tell its sender so; the policy and the rate limits have the last word.
    Answer(DropReason, Unreachable),
    /// The mapper has to wait for another packet before it can decide. The translator hands it the
    /// bytes through [`Mapper::hold`].
    Hold,
}

/// How a refused sender is told (ICMPv6 type 1, ICMPv4 type 3).
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

/// A packet that a mapper has on its own account, beginning with its IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own<'a> {
    /// Send it as it is (a probe, an answer to a held packet).
    Send(&'a [u8]),
    /// Translate it: it was held until now.
    Translate(&'a [u8]),
    /// An ICMPv4 error that answers a packet which was held: send it, if the rate limits allow it.
    Answer {
        /// The error.
        packet: &'a [u8],
        /// Its addressee is one of our own nodes, so it takes the second turn of a hairpin.
        turns: bool,
        /// Why the packet was not translated.
        reason: DropReason,
    },
    /// The first fragment of a datagram whose rest did not come in time. Its sender is told
    /// (RFC 8200 section 4.5, RFC 792).
    Expired(&'a [u8]),
    /// A packet that was held is gone.
    Lost(DropReason),
}

/// An address policy: static maps, one CLAT address, a dynamic pool, a stateful NAT64.
///
/// A mapper decides; it never sees or changes the packet. It is called after the packet was found
/// well-formed and its hop limit was found sufficient, so that no bad packet can create state.
pub trait Mapper {
    /// Maps an IPv6 packet to IPv4.
    fn map_v6(&mut self, flow: &Flow<Ipv6Addr>, now: Instant)
    -> Result<Rewrite<Ipv4Addr>, Refusal>;

    /// Maps an IPv4 packet to IPv6.
    fn map_v4(&mut self, flow: &Flow<Ipv4Addr>, now: Instant)
    -> Result<Rewrite<Ipv6Addr>, Refusal>;

    /// What to do with a fragment of an ICMPv6 message. It cannot be translated by itself: the
    /// checksum covers another pseudo-header, and so the length of the whole message. A mapper that
    /// puts messages together answers [`Refusal::Hold`] until it has all of one, which is then its
    /// [`next_packet`](Self::next_packet).
    fn icmpv6_fragment(&mut self, flow: &Flow<Ipv6Addr>, now: Instant) -> Refusal {
        let _ = (flow, now);
        Refusal::Silent(DropReason::FragmentedIcmp)
    }

    /// The same for a fragment of an ICMPv4 message.
    fn icmpv4_fragment(&mut self, flow: &Flow<Ipv4Addr>, now: Instant) -> Refusal {
        let _ = (flow, now);
        Refusal::Silent(DropReason::FragmentedIcmp)
    }

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
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal>;

    /// True if an IPv6 packet that was mapped to `rewrite` must turn round and be translated back
    /// at once, because its IPv4 destination is one of our own nodes (RFC 7757 section 4.2.2,
    /// RFC 6146 section 3.8). `flow` is the packet as it came.
    fn is_hairpin(&self, flow: &Flow<Ipv6Addr>, rewrite: &Rewrite<Ipv4Addr>) -> bool {
        let _ = (flow, rewrite);
        false
    }

    /// The same question for an ICMPv6 error.
    fn is_hairpin_error(
        &self,
        error: &ErrorFlow<Ipv6Addr>,
        rewrite: &ErrorRewrite<Ipv4Addr>,
    ) -> bool {
        let _ = (error, rewrite);
        false
    }

    /// Second turn of a hairpin: maps the IPv4 packet that the first turn made. What a mapper does
    /// differently here is the source: it must appear as the nodes outside see it (RFC 7757
    /// section 4.2.1, RFC 4787 REQ-9a).
    fn map_v4_hairpin(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        self.map_v4(flow, now)
    }

    /// Second turn of a hairpinned ICMP error.
    fn map_v4_hairpin_error(
        &mut self,
        error: &ErrorFlow<Ipv4Addr>,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        self.map_v4_error(error, now)
    }

    /// The identification that the fragments of an IPv6 datagram get in IPv4, asked after
    /// [`map_v6`](Self::map_v6) has accepted the fragment. `None` takes the low 16 bits of what
    /// they had (RFC 7915 section 5.1.1), which several clients behind one address may have in
    /// common.
    fn fragment_id(&mut self, flow: &Flow<Ipv6Addr>, fragment: Fragment) -> Option<u16> {
        let _ = (flow, fragment);
        None
    }

    /// The next packet that the mapper has on its own account: one that it held and can decide
    /// about now, or one that it made itself. `None` if there is none.
    fn next_packet(&mut self, now: Instant) -> Option<Own<'_>> {
        let _ = now;
        None
    }

    /// True if this mapper's tables are too large for the cache, so that it is worth its while to
    /// know several packets before they come.
    fn foresees(&self) -> bool {
        false
    }

    /// Packets of these flows will be mapped next: fetches what they will be looked up by, for all
    /// of them at once. Must not change what any packet becomes.
    fn foresee(&mut self, coming: &[Coming]) {
        let _ = coming;
    }

    /// What becomes of the first fragment of a UDP datagram without a checksum. A stateless
    /// translator cannot make one (RFC 7915 section 4.5); one that puts the datagram together can
    /// (RFC 6146 section 3.4).
    fn udp_without_checksum(&mut self, flow: &Flow<Ipv4Addr>, now: Instant) -> Refusal {
        let _ = (flow, now);
        Refusal::Silent(DropReason::UdpZeroChecksum)
    }

    /// Takes a copy of a packet for which [`Refusal::Hold`] was the answer.
    ///
    /// # Errors
    /// Why it is not kept; the packet is then dropped for that reason.
    fn hold(&mut self, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        let _ = (packet, now);
        Err(DropReason::TableFull)
    }
}
