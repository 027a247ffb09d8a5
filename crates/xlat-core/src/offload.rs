//! What travels beside a packet's bytes: work that the sender left to a later stage.
//!
//! A TUN device with a virtio-net header hands over packets as the stack made them, before the
//! network card's part was done: the transport checksum may hold only the pseudo-header, and one
//! "super-packet" may stand for dozens of TCP segments or UDP datagrams. The translator keeps both
//! put off: it never sums or cuts a payload that the kernel or the card will sum or cut anyway.
//!
//! Consequences that hold all through the crate:
//! - a partial checksum is changed by the change of the pseudo-header only, and stays partial;
//! - whether a packet fits an MTU is judged by the size of one segment ([`Gso::size`]), never by
//!   the length of the super-packet;
//! - every header that grows or shrinks moves [`PartialChecksum::start`] with it.

/// The work that was put off for one packet. The default is: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// State of the transport checksum.
    pub checksum: Checksum,
    /// Set when the packet stands for several segments.
    pub gso: Option<Gso>,
}

/// State of a packet's transport checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// The field holds a complete checksum that has not been verified.
    #[default]
    Whole,
    /// The field holds a complete checksum that a lower layer has verified.
    Verified,
    /// The field holds the sum of the pseudo-header only.
    Partial(PartialChecksum),
}

/// Where a put-off checksum starts and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// First summed byte, counted from the start of the packet.
    pub start: u16,
    /// Place of the checksum field, counted from `start`.
    pub offset: u16,
}

/// A super-packet: one header for several segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// What the segments are.
    pub kind: GsoKind,
    /// Payload bytes of each segment but the last, which may be shorter.
    pub size: u16,
    /// TCP only: the first segment alone carries CWR (RFC 3168).
    pub ecn: bool,
}

/// Kinds of super-packets the TUN device knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4 (TSO4).
    TcpV4,
    /// TCP over IPv6 (TSO6).
    TcpV6,
    /// UDP datagrams of equal size over either family (USO).
    Udp,
}

impl Offload {
    /// Nothing was put off.
    pub const NONE: Self = Self {
        checksum: Checksum::Whole,
        gso: None,
    };

    /// True while the transport checksum holds only the pseudo-header.
    #[inline]
    pub fn is_partial(&self) -> bool {
        matches!(self.checksum, Checksum::Partial(_))
    }

    /// Follows a packet whose headers grew (or shrank) by `delta` bytes in front of the transport
    /// header.
    #[inline]
    pub(crate) fn shift(&mut self, delta: isize) {
        if let Checksum::Partial(partial) = &mut self.checksum {
            partial.start = partial.start.wrapping_add_signed(delta as i16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l4_11_the_start_of_a_partial_checksum_follows_the_header() {
        let partial = |start| Offload {
            checksum: Checksum::Partial(PartialChecksum { start, offset: 16 }),
            gso: None,
        };
        let mut offload = partial(20);
        offload.shift(20);
        assert_eq!(offload, partial(40));
        offload.shift(-20);
        assert_eq!(offload, partial(20));
    }
}
