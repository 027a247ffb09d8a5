//! Router advertisements and solicitations (RFC 4861 sections 4.1 and 4.2), both ways: `clat` reads
//! advertisements and solicits them, `plat` sends them.
//!
//! Checksums are left to the kernel: it verifies and fills it in on raw ICMPv6 sockets.

mod option;
mod solicitation;

use std::net::Ipv6Addr;

pub use option::{
    Pref64Option, PrefixInformation, RouteInformation, RouterOption, pref64_units,
    usual_pref64_lifetime,
};
pub use solicitation::Solicitation;

/// ICMPv6 type of an advertisement.
pub const ADVERTISEMENT: u8 = 134;
/// ICMPv6 type of a solicitation.
pub const SOLICITATION: u8 = 133;

/// All nodes on a link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers on a link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Type of the option with a NAT64 prefix.
const PREF64: u8 = 38;

/// Length of an advertisement without options, in bytes.
const HEADER: usize = 16;

/// A router advertisement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertisement {
    /// Hop limit for hosts; 0 for unspecified.
    pub hop_limit: u8,
    /// Hosts obtain addresses by DHCPv6 (M).
    pub managed: bool,
    /// Hosts obtain other configuration by DHCPv6 (O).
    pub other: bool,
    /// Preference of the router (RFC 4191).
    pub preference: Preference,
    /// Router lifetime in seconds; 0 if it is not a default router.
    pub lifetime: u16,
    /// Reachable time of a neighbour in milliseconds; 0 for unspecified.
    pub reachable: u32,
    /// Time between two solicitations of a neighbour in milliseconds; 0 for unspecified.
    pub retransmit: u32,
    /// Options, in order. Unknown and malformed ones are left out.
    pub options: Vec<RouterOption>,
}

/// Preference of a router or a route (RFC 4191 section 2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preference {
    /// Below others.
    Low,
    /// As others.
    #[default]
    Medium,
    /// Above others.
    High,
}

/// Why an advertisement or solicitation is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Invalid {
    /// The hop limit is below 255: it crossed a router and may come from anywhere.
    #[error("its hop limit is not 255")]
    HopLimit,
    /// The sender is not on the link.
    #[error("its source is no link-local address")]
    Source,
    /// Not such a message, or not with code 0.
    #[error("type or code is another one")]
    Kind,
    /// Shorter than its fixed part.
    #[error("it is too short")]
    Short,
    /// An option of length 0 or beyond the end.
    #[error("the length of an option makes no sense")]
    OptionLength,
    /// A solicitation from the unspecified address with a source link-layer address.
    #[error("it has a link-layer address but no source")]
    LinkLayerOfNobody,
}

impl Advertisement {
    /// Parses the ICMPv6 message of a packet from `source` with this hop limit.
    ///
    /// # Errors
    /// Why it must be discarded (RFC 4861 section 6.1.2).
    pub fn parse(source: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Result<Self, Invalid> {
        if hop_limit != 255 {
            return Err(Invalid::HopLimit);
        }
        if !source.is_unicast_link_local() {
            return Err(Invalid::Source);
        }
        let (header, options) = message
            .split_first_chunk::<HEADER>()
            .ok_or(Invalid::Short)?;
        if header[0] != ADVERTISEMENT || header[1] != 0 {
            return Err(Invalid::Kind);
        }
        let options = Split(options)
            .filter_map(|option| option.map(RouterOption::parse).transpose())
            .collect::<Result<_, _>>()?;
        Ok(Self {
            hop_limit: header[4],
            managed: header[5] & MANAGED != 0,
            other: header[5] & OTHER != 0,
            preference: Preference::from_bits(header[5]),
            lifetime: word(header, 6),
            reachable: double(header, 8),
            retransmit: double(header, 12),
            options,
        })
    }

    /// The ICMPv6 message, with a checksum of zero.
    pub fn build(&self) -> Vec<u8> {
        let flags = if self.managed { MANAGED } else { 0 } | if self.other { OTHER } else { 0 };
        // With a router lifetime of 0 the preference is medium (RFC 4191 section 2.2).
        let preference = match self.lifetime {
            0 => Preference::Medium,
            _ => self.preference,
        };
        let mut message = vec![ADVERTISEMENT, 0, 0, 0, self.hop_limit];
        message.push(flags | preference.bits());
        message.extend(self.lifetime.to_be_bytes());
        message.extend(self.reachable.to_be_bytes());
        message.extend(self.retransmit.to_be_bytes());
        for option in &self.options {
            option.build(&mut message);
        }
        message
    }

    /// The same as several messages of at most `limit` bytes, each with some of the options: an
    /// advertisement is never fragmented (RFC 4861 section 6.2.3, RFC 6980). An option that is
    /// longer than that has a message to itself.
    pub fn build_pieces(&self, limit: usize) -> Vec<Vec<u8>> {
        let bare = Self {
            options: Vec::new(),
            ..self.clone()
        };
        let header = bare.build();
        let mut pieces = vec![header.clone()];
        for option in &self.options {
            let mut bytes = Vec::new();
            option.build(&mut bytes);
            let is_full =
                |last: &&mut Vec<u8>| last.len() > header.len() && last.len() + bytes.len() > limit;
            match pieces.last_mut().filter(|last| !is_full(last)) {
                Some(last) => last.extend(bytes),
                None => pieces.push([&header[..], &bytes].concat()),
            }
        }
        pieces
    }

    /// The NAT64 prefix options.
    pub fn pref64s(&self) -> impl Iterator<Item = &Pref64Option> {
        self.options.iter().filter_map(|option| match option {
            RouterOption::Pref64(pref64) => Some(pref64),
            _ => None,
        })
    }

    /// True if a received message has a malformed NAT64 prefix option.
    pub fn has_odd_pref64(message: &[u8]) -> bool {
        let options = Split(message.get(HEADER..).unwrap_or_default());
        let mut options = options.filter_map(Result::ok);
        options.any(|option| option[0] == PREF64 && RouterOption::parse(option).is_none())
    }

    /// The recursive DNS servers, with their lifetime in seconds.
    pub fn dns_servers(&self) -> impl Iterator<Item = (Ipv6Addr, u32)> {
        self.options.iter().flat_map(|option| match option {
            RouterOption::DnsServers { lifetime, servers } => {
                servers.iter().map(|server| (*server, *lifetime)).collect()
            }
            _ => Vec::new(),
        })
    }
}

impl Preference {
    /// The two bits, at their place in the flags; the reserved value is medium.
    const fn from_bits(flags: u8) -> Self {
        match flags & 0x18 {
            0x08 => Self::High,
            0x18 => Self::Low,
            _ => Self::Medium,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::High => 0x08,
            Self::Medium => 0,
            Self::Low => 0x18,
        }
    }
}

const MANAGED: u8 = 0x80;
const OTHER: u8 = 0x40;

/// The options of a message, whole: type, length and all.
struct Split<'a>(&'a [u8]);

impl<'a> Iterator for Split<'a> {
    type Item = Result<&'a [u8], Invalid>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let units = self.0.get(1).copied().unwrap_or(0);
        let length = usize::from(units) * 8;
        if length == 0 || length > self.0.len() {
            self.0 = &[];
            return Some(Err(Invalid::OptionLength));
        }
        let (option, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(Ok(option))
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn double(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn address(bytes: &[u8]) -> Ipv6Addr {
    let mut octets = [0; 16];
    let length = bytes.len().min(16);
    octets[..length].copy_from_slice(&bytes[..length]);
    octets.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Ipv6Addr {
        "fe80::1".parse().unwrap()
    }

    const HEAD: [u8; 16] = [
        134, 0, 0, 0, 64, 0x48, 0x07, 0x08, 0, 0, 0x75, 0x30, 0, 0, 3, 0xe8,
    ];

    #[test]
    fn ra_10_the_fixed_part_reads_and_builds_byte_by_byte() {
        let advertisement = Advertisement::parse(router(), 255, &HEAD).unwrap();
        let expected = Advertisement {
            hop_limit: 64,
            managed: false,
            other: true,
            preference: Preference::High,
            lifetime: 1800,
            reachable: 30_000,
            retransmit: 1000,
            options: Vec::new(),
        };
        assert_eq!(advertisement, expected);
        assert_eq!(advertisement.build(), HEAD);
        let mut reserved = HEAD;
        reserved[5] = 0x50;
        let parsed = Advertisement::parse(router(), 255, &reserved).unwrap();
        assert_eq!(parsed.preference, Preference::Medium);
        let none = Advertisement {
            lifetime: 0,
            ..expected
        };
        assert_eq!(none.build()[5], 0x40);
    }

    #[test]
    fn pd_17_what_is_not_to_be_believed_is_refused() {
        let parse = |source: &str, hop_limit, message: &[u8]| {
            Advertisement::parse(source.parse().unwrap(), hop_limit, message).err()
        };
        assert_eq!(parse("fe80::1", 254, &HEAD), Some(Invalid::HopLimit));
        assert_eq!(parse("2001:db8::1", 255, &HEAD), Some(Invalid::Source));
        assert_eq!(parse("::", 255, &HEAD), Some(Invalid::Source));
        for length in 0..16 {
            assert_eq!(parse("fe80::1", 255, &HEAD[..length]), Some(Invalid::Short));
        }
        let changed = |at: usize, value| {
            let mut message = HEAD;
            message[at] = value;
            parse("fe80::1", 255, &message)
        };
        assert_eq!(changed(0, 133), Some(Invalid::Kind));
        assert_eq!(changed(1, 1), Some(Invalid::Kind));
        assert_eq!(changed(4, 0), None);
        for option in [
            &[5, 0, 0, 0, 0, 0, 5, 0xdc][..],
            &[5, 2, 0, 0, 0, 0, 5, 0xdc],
            &[5],
        ] {
            let message = [&HEAD[..], option].concat();
            assert_eq!(
                parse("fe80::1", 255, &message),
                Some(Invalid::OptionLength),
                "{option:?}"
            );
        }
    }

    #[test]
    fn ra_18_options_are_shared_out_and_none_is_lost() {
        let servers = |number: u16| RouterOption::DnsServers {
            lifetime: 60,
            servers: vec![Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 1); 8],
        };
        let whole = Advertisement {
            hop_limit: 64,
            managed: false,
            other: false,
            preference: Preference::High,
            lifetime: 1800,
            reachable: 0,
            retransmit: 0,
            options: (0..9).map(servers).collect(),
        };
        // A header of 16 bytes, and options of 8 + 8 * 16.
        let pieces = whole.build_pieces(16 + 2 * 136);
        let lengths: Vec<usize> = pieces.iter().map(Vec::len).collect();
        assert_eq!(lengths, [288, 288, 288, 288, 152]);
        let router = "fe80::1".parse().unwrap();
        let mut options = Vec::new();
        for piece in &pieces {
            let part = Advertisement::parse(router, 255, piece).unwrap();
            assert_eq!((part.lifetime, part.preference), (1800, Preference::High));
            options.extend(part.options);
        }
        assert_eq!(options, whole.options);
        assert_eq!(whole.build_pieces(10).len(), 9);
        assert_eq!(whole.build_pieces(9000), [whole.build()]);
    }

    #[test]
    fn unknown_and_malformed_options_do_not_spoil_the_rest() {
        let message = [
            &HEAD[..],
            &[200, 1, 1, 2, 3, 4, 5, 6],
            // A PREF64 option of another length, and one with a reserved prefix length code.
            &[38, 1, 0, 0, 0, 0, 0, 0],
            &[38, 2, 0, 0x0e, 0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0],
            &[5, 1, 0, 0, 0, 0, 5, 0x78],
        ]
        .concat();
        let parsed = Advertisement::parse(router(), 255, &message).unwrap();
        assert_eq!(parsed.options, [RouterOption::Mtu(1400)]);
    }
}
