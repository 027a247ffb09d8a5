//! Every choice that the RFCs leave to the administrator, in one place, with the RFCs' defaults.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::Ipv4Prefix;

/// The administrator's choices. Plain data: [`Translator::new`](crate::Translator::new) checks it
/// with [`Policy::validate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Address that ICMPv4 errors of our own come from (EG-07).
    pub own_v4: Ipv4Addr,
    /// `own_v4` is the translator's alone: echo requests to it are answered here. False where it
    /// is an address that the mapper translates, as one of a shared pool is.
    pub answer_v4: bool,
    /// Address that ICMPv6 errors of our own come from (EG-07).
    pub own_v6: Ipv6Addr,
    /// `own_v6` is the translator's alone: echo requests to it are answered here. False where it
    /// is an address that the mapper translates, as the CLAT's is.
    pub answer_v6: bool,
    /// MTU of the IPv4 side in bytes (M4), at least 68.
    pub mtu4: u16,
    /// MTU of the IPv6 side in bytes (M6), at least 1280.
    pub mtu6: u16,
    /// IPv4 packets without DF are cut so that no IPv6 packet is longer than this, in bytes;
    /// at least 1280, and never more than `mtu6` in effect (RFC 7915 section 4).
    pub lowest_ipv6_mtu: u16,
    /// Traffic class of IPv6 packets made from IPv4 ones (RFC 7915 section 4.1).
    pub traffic_class: TrafficClass,
    /// Type of service of IPv4 packets made from IPv6 ones (RFC 7915 section 5.1).
    pub tos: TrafficClass,
    /// What happens to UDP datagrams without a checksum (RFC 7915 section 4.5).
    pub udp_zero_checksum: UdpZeroChecksum,
    /// TCP maximum segment size in SYN segments.
    pub mss_clamp: MssClamp,
    /// ICMPv4 errors of our own.
    pub icmpv4_errors: ErrorRate,
    /// ICMPv6 errors of our own.
    pub icmpv6_errors: ErrorRate,
    /// Source of ICMPv4 errors made from ICMPv6 ones whose own source has no IPv4 address
    /// (RFC 6791).
    pub unmapped_source: UnmappedSource,
    /// Longest ICMPv4 error, in bytes; what does not fit is cut off the quoted packet (RFC 1812
    /// section 4.3.2.3).
    pub icmpv4_error_size: u16,
    /// Errors about a quoted IPv4 packet whose header checksum is wrong still cross: routers exist
    /// that quote a header they have rewritten. RFC 5508 REQ-3a says that they should not.
    pub tolerate_quoted_checksum: bool,
}

/// What an IP header's DSCP and ECN bits become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficClass {
    /// As they are in the original.
    Copy,
    /// Always this value.
    Fixed(u8),
}

/// What happens to a UDP datagram whose checksum field is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpZeroChecksum {
    /// IPv4 to IPv6: the checksum is computed for unfragmented datagrams and others are dropped.
    /// IPv6 to IPv4: dropped, as such a datagram is not legal in IPv6.
    Compute,
    /// Dropped in both directions.
    Drop,
    /// Sent on without a checksum in both directions (RFC 6935 allows that for tunnels).
    Forward,
}

/// Clamping of the TCP maximum segment size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MssClamp {
    /// Leave the option alone.
    Off,
    /// To what fits both MTUs: `min(mtu6 - 60, mtu4 - 40)`.
    Auto,
    /// To this many bytes.
    To(u16),
}

/// How many ICMP errors of one family the translator sends itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorRate {
    /// None.
    Off,
    /// A token bucket that fills with `per_second` tokens and holds `burst`. "Packet too big" and
    /// "fragmentation needed" have a bucket of their own of the same size, so that nothing starves
    /// path MTU discovery.
    Limited {
        /// Tokens a second.
        per_second: u32,
        /// Tokens that can be saved up.
        burst: u32,
    },
    /// All of them.
    Unlimited,
}

/// What stands in for the source of an ICMPv6 error that has no IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmappedSource {
    /// An address of this pool, picked at random (RFC 6791 section 3).
    Pool(Ipv4Prefix),
    /// The dummy address 192.0.0.8, with the real IPv6 source in a Node Identification extension
    /// (draft-ietf-v6ops-icmpext-xlat-v6only-source, RFC 7600).
    NodeIdentification,
}

/// The dummy IPv4 address of RFC 7600 section 4.8.
pub const DUMMY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// Smallest MTU of an IPv6 link (RFC 8200 section 5).
pub const MIN_IPV6_MTU: u16 = 1280;

impl Policy {
    /// The documented defaults for a translator with these two addresses.
    pub const fn new(own_v4: Ipv4Addr, own_v6: Ipv6Addr) -> Self {
        let errors = ErrorRate::Limited {
            per_second: 100,
            burst: 50,
        };
        Self {
            own_v4,
            own_v6,
            answer_v4: true,
            answer_v6: true,
            mtu4: 1500,
            mtu6: 1500,
            lowest_ipv6_mtu: MIN_IPV6_MTU,
            traffic_class: TrafficClass::Copy,
            tos: TrafficClass::Copy,
            udp_zero_checksum: UdpZeroChecksum::Compute,
            mss_clamp: MssClamp::Off,
            icmpv4_errors: errors,
            icmpv6_errors: errors,
            unmapped_source: UnmappedSource::NodeIdentification,
            icmpv4_error_size: 576,
            tolerate_quoted_checksum: true,
        }
    }

    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// The first value that does not.
    pub fn validate(&self) -> Result<(), PolicyError> {
        if self.mtu6 < MIN_IPV6_MTU {
            return Err(PolicyError::Mtu6(self.mtu6));
        }
        if self.mtu4 < 68 {
            return Err(PolicyError::Mtu4(self.mtu4));
        }
        if self.lowest_ipv6_mtu < MIN_IPV6_MTU {
            return Err(PolicyError::LowestIpv6Mtu(self.lowest_ipv6_mtu));
        }
        if self.icmpv4_error_size < 576 {
            return Err(PolicyError::Icmpv4ErrorSize(self.icmpv4_error_size));
        }
        if let ErrorRate::Limited { burst: 0, .. } = self.icmpv4_errors {
            return Err(PolicyError::Burst);
        }
        if let ErrorRate::Limited { burst: 0, .. } = self.icmpv6_errors {
            return Err(PolicyError::Burst);
        }
        Ok(())
    }
}

/// A policy value that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// The IPv6 MTU is below 1280.
    Mtu6(u16),
    /// The IPv4 MTU is below 68.
    Mtu4(u16),
    /// The limit for translated IPv4 packets without DF is below 1280.
    LowestIpv6Mtu(u16),
    /// ICMPv4 errors would be shorter than 576 bytes.
    Icmpv4ErrorSize(u16),
    /// A rate limit whose bucket holds nothing.
    Burst,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtu6(mtu) => write!(f, "IPv6 MTU {mtu} is below 1280 (RFC 8200)"),
            Self::Mtu4(mtu) => write!(f, "IPv4 MTU {mtu} is below 68 (RFC 791)"),
            Self::LowestIpv6Mtu(mtu) => write!(f, "lowest IPv6 MTU {mtu} is below 1280 (RFC 8200)"),
            Self::Icmpv4ErrorSize(size) => {
                write!(f, "ICMPv4 error size {size} is below 576 (RFC 1812)")
            }
            Self::Burst => f.write_str("an ICMP error rate with a burst of 0 never sends one"),
        }
    }
}

impl core::error::Error for PolicyError {}
