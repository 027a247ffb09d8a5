//! Prefixes of both families: an address whose host bits are zero, and a length.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

macro_rules! prefix {
    ($(#[doc = $doc:literal])+ $name:ident, $address:ty, $bits:ty, $max:literal) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            address: $address,
            len: u8,
        }

        impl $name {
            /// The prefix `address/len`.
            ///
            /// # Errors
            /// A length beyond the address, or host bits that are set.
            pub const fn new(address: $address, len: u8) -> Result<Self, PrefixError> {
                if len > $max {
                    return Err(PrefixError::Length);
                }
                let prefix = Self { address, len };
                if address.to_bits() & !prefix.mask() != 0 {
                    return Err(PrefixError::HostBits);
                }
                Ok(prefix)
            }

            /// The prefix of one address.
            pub const fn host(address: $address) -> Self {
                Self { address, len: $max }
            }

            /// The prefix of length `len` (at most the address length) that holds `address`.
            pub const fn containing(address: $address, len: u8) -> Self {
                let len = if len > $max { $max } else { len };
                let whole = Self { address, len };
                Self { address: <$address>::from_bits(address.to_bits() & whole.mask()), len }
            }

            /// First address of the prefix.
            pub const fn address(&self) -> $address {
                self.address
            }

            /// Length in bits.
            #[allow(clippy::len_without_is_empty)]
            pub const fn len(&self) -> u8 {
                self.len
            }

            /// The network mask.
            pub const fn mask(&self) -> $bits {
                if self.len == 0 { 0 } else { <$bits>::MAX << ($max - self.len) }
            }

            /// True if `address` lies in the prefix.
            #[inline]
            pub const fn contains(&self, address: $address) -> bool {
                address.to_bits() & self.mask() == self.address.to_bits()
            }

            /// True if the two prefixes share an address.
            pub const fn overlaps(&self, other: &Self) -> bool {
                self.contains(other.address) || other.contains(self.address)
            }

            /// Last address of the prefix.
            pub const fn last(&self) -> $address {
                <$address>::from_bits(self.address.to_bits() | !self.mask())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.address, self.len)
            }
        }

        impl FromStr for $name {
            type Err = PrefixError;

            /// Parses `address/len`; a bare address is the prefix of one address.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let Some((address, len)) = text.split_once('/') else {
                    return text.parse().map(Self::host).map_err(|_| PrefixError::Syntax);
                };
                let address = address.parse().map_err(|_| PrefixError::Syntax)?;
                Self::new(address, len.parse().map_err(|_| PrefixError::Syntax)?)
            }
        }
    };
}

prefix! {
    /// An IPv4 prefix.
    Ipv4Prefix, Ipv4Addr, u32, 32
}

prefix! {
    /// An IPv6 prefix.
    Ipv6Prefix, Ipv6Addr, u128, 128
}

/// Why a prefix is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// Not of the form `address/length`.
    Syntax,
    /// Longer than the address.
    Length,
    /// Bits behind the prefix length are set.
    HostBits,
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "not of the form ADDRESS/LENGTH",
            Self::Length => "the prefix length is longer than the address",
            Self::HostBits => "host bits are set behind the prefix length",
        })
    }
}

impl core::error::Error for PrefixError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsing_takes_a_prefix_or_a_bare_address_and_refuses_host_bits() {
        assert_eq!(
            "10.0.0.0/8".parse(),
            Ipv4Prefix::new(Ipv4Addr::new(10, 0, 0, 0), 8)
        );
        assert_eq!(
            "10.1.2.3".parse(),
            Ok(Ipv4Prefix::host(Ipv4Addr::new(10, 1, 2, 3)))
        );
        assert_eq!(
            "10.0.0.1/8".parse::<Ipv4Prefix>(),
            Err(PrefixError::HostBits)
        );
        assert_eq!(
            "10.0.0.0/33".parse::<Ipv4Prefix>(),
            Err(PrefixError::Length)
        );
        assert_eq!("10.0.0.0/x".parse::<Ipv4Prefix>(), Err(PrefixError::Syntax));
        assert_eq!(
            "2001:db8::/129".parse::<Ipv6Prefix>(),
            Err(PrefixError::Length)
        );
        assert_eq!(
            "2001:db8::1/32".parse::<Ipv6Prefix>(),
            Err(PrefixError::HostBits)
        );
    }

    #[test]
    fn containment_holds_at_both_edges() {
        let net: Ipv4Prefix = "192.0.2.128/25".parse().unwrap();
        assert!(!net.contains(Ipv4Addr::new(192, 0, 2, 127)));
        assert!(net.contains(Ipv4Addr::new(192, 0, 2, 128)));
        assert!(net.contains(net.last()));
        assert!(!net.contains(Ipv4Addr::new(192, 0, 3, 0)));
        let all: Ipv6Prefix = "::/0".parse().unwrap();
        assert!(
            all.contains(Ipv6Addr::LOCALHOST) && all.overlaps(&"2001:db8::/32".parse().unwrap())
        );
    }
}
