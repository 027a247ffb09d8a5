//! Ones'-complement arithmetic of the Internet checksum (RFC 1071) and its incremental update
//! (RFC 1624).
//!
//! A [`Sum`] is a running sum that has not been folded to 16 bits and complemented yet. Sums add
//! and subtract, so a header that changes is one expression: `new header - old header`, applied
//! to the checksum field with [`update`]. The payload is never read.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::{Add, Sub};

use pnet_packet::ip::IpNextHeaderProtocol;

/// A running ones'-complement sum of 16-bit words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The empty sum.
    pub const ZERO: Self = Self(0);

    /// One 16-bit word.
    #[inline]
    pub const fn word(word: u16) -> Self {
        Self(word as u64)
    }

    /// Sum over `bytes`; an odd last byte counts as the high half of a word.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        // The sum is the same for words of any width that is a multiple of 16 bits, and in any
        // byte order as long as the result is swapped back (RFC 1071 section 2).
        let mut total: u64 = 0;
        let (chunks, rest) = bytes.as_chunks::<4>();
        for chunk in chunks {
            total += u64::from(u32::from_ne_bytes(*chunk));
        }
        let (pairs, odd) = rest.as_chunks::<2>();
        for pair in pairs {
            total += u64::from(u16::from_ne_bytes(*pair));
        }
        if let [last] = odd {
            total += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        Self(u64::from(u16::from_be(fold(total))))
    }

    /// Sum over an IPv4 address.
    #[inline]
    pub fn ipv4(address: Ipv4Addr) -> Self {
        Self(u64::from(address.to_bits()))
    }

    /// Sum over an IPv6 address.
    #[inline]
    pub fn ipv6(address: Ipv6Addr) -> Self {
        let bits = address.to_bits();
        let low = bits as u64;
        let high = (bits >> 64) as u64;
        Self((low & 0xffff_ffff) + (low >> 32) + (high & 0xffff_ffff) + (high >> 32))
    }

    /// The pseudo-header of an IPv4 packet (RFC 793, RFC 768).
    #[inline]
    pub fn pseudo_v4(
        src: Ipv4Addr,
        dst: Ipv4Addr,
        protocol: IpNextHeaderProtocol,
        length: u32,
    ) -> Self {
        Self::ipv4(src) + Self::ipv4(dst) + Self(u64::from(protocol.0) + u64::from(length))
    }

    /// The pseudo-header of an IPv6 packet (RFC 8200 section 8.1).
    #[inline]
    pub fn pseudo_v6(
        src: Ipv6Addr,
        dst: Ipv6Addr,
        protocol: IpNextHeaderProtocol,
        length: u32,
    ) -> Self {
        Self::ipv6(src) + Self::ipv6(dst) + Self(u64::from(protocol.0) + u64::from(length))
    }

    /// Folds the sum to 16 bits, without the final complement.
    #[inline]
    pub fn folded(self) -> u16 {
        fold(self.0)
    }

    /// The checksum: the folded sum, complemented.
    #[inline]
    pub fn checksum(self) -> u16 {
        !self.folded()
    }
}

impl Add for Sum {
    type Output = Self;

    #[inline]
    fn add(self, rhs: Self) -> Self {
        Self(self.0 + rhs.0)
    }
}

impl Sub for Sum {
    type Output = Self;

    /// Adds the complement, which is what subtraction means in this arithmetic.
    #[inline]
    fn sub(self, rhs: Self) -> Self {
        Self(self.0 + u64::from(!rhs.folded()))
    }
}

/// The checksum field after the covered data changed by `delta`: `HC' = ~(~HC + delta)`
/// (RFC 1624 section 3, equation 3). A wrong checksum stays wrong by the same amount.
#[inline]
pub fn update(checksum: u16, delta: Sum) -> u16 {
    (Sum::word(!checksum) + delta).checksum()
}

/// A partial checksum (a folded pseudo-header, not complemented) after the pseudo-header changed
/// by `delta`.
#[inline]
pub fn update_partial(field: u16, delta: Sum) -> u16 {
    (Sum::word(field) + delta).folded()
}

/// A UDP checksum as it is sent: zero would mean "none", so it is sent as its other
/// representation (RFC 768).
#[inline]
pub const fn udp(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[inline]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}
