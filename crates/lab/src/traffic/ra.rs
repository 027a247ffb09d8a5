//! Router advertisements, written and read by hand (RFC 4861 section 4.2): what checks the product's
//! codec must not share its mistakes.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

/// All nodes on a link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers on a link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

const ADVERTISEMENT: u8 = 134;
const IPV6_HEADER: usize = 40;
const RA_HEADER: usize = 16;

/// What a router says of itself. Preference, reachable time and retransmission timer are left at 0.
#[derive(Debug, Clone, Default)]
pub struct Advertisement {
    /// Hop limit for the hosts; 0 leaves it to them.
    pub hop_limit: u8,
    /// Whether addresses are to be had by DHCPv6.
    pub managed: bool,
    /// How long it is a default router, in seconds.
    pub lifetime: u16,
    /// Options, as they are on the wire.
    pub options: Vec<RaOption>,
}

/// An option as it is on the wire.
#[derive(Debug, Clone)]
pub struct RaOption(Vec<u8>);

impl Advertisement {
    /// The ICMPv6 message; the kernel puts the checksum in.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let flags = if self.managed { 0x80 } else { 0 };
        let [high, low] = self.lifetime.to_be_bytes();
        let mut message = vec![ADVERTISEMENT, 0, 0, 0, self.hop_limit, flags, high, low];
        message.extend([0; 8]);
        for RaOption(bytes) in &self.options {
            message.extend(bytes);
        }
        message
    }
}

impl RaOption {
    /// The MTU of the link, bytes (RFC 4861 section 4.6.4).
    #[must_use]
    pub fn mtu(mtu: u32) -> Self {
        Self([&[5, 1, 0, 0], &mtu.to_be_bytes()[..]].concat())
    }

    /// A recursive DNS server, with its lifetime in seconds (RFC 8106 section 5.1).
    #[must_use]
    pub fn dns_server(server: Ipv6Addr, lifetime: u32) -> Self {
        let mut bytes = vec![25, 3, 0, 0];
        bytes.extend(lifetime.to_be_bytes());
        bytes.extend(server.octets());
        Self(bytes)
    }

    /// A NAT64 prefix, with its lifetime in seconds, which the option has in units of eight (RFC
    /// 8781 section 4).
    ///
    /// # Panics
    /// If the prefix has a length that a NAT64 prefix cannot have.
    #[must_use]
    pub fn pref64(prefix: Ipv6Net, lifetime: u16) -> Self {
        let lengths = [96, 64, 56, 48, 40, 32];
        let code = lengths.iter().position(|len| *len == prefix.prefix_len());
        let code = code.expect("the length of a NAT64 prefix") as u16;
        let mut bytes = vec![38, 2];
        bytes.extend((lifetime.div_ceil(8) << 3 | code).to_be_bytes());
        bytes.extend(&prefix.network().octets()[..12]);
        Self(bytes)
    }
}

/// Whether an IPv6 packet is a router advertisement with options.
#[must_use]
pub fn is_advertisement(packet: &[u8]) -> bool {
    packet.len() > IPV6_HEADER + RA_HEADER
        && packet[6] == 58
        && packet[IPV6_HEADER] == ADVERTISEMENT
}

/// The first recursive DNS server in an advertisement, given as an IPv6 packet.
#[must_use]
pub fn announced_dns_server(packet: &[u8]) -> Option<Ipv6Addr> {
    let server = option(packet, 25)?.get(8..24)?;
    Some(<[u8; 16]>::try_from(server).ok()?.into())
}

/// The lifetime in seconds of the first NAT64 prefix in an advertisement, given as an IPv6 packet.
#[must_use]
pub fn announced_pref64_lifetime(packet: &[u8]) -> Option<u16> {
    let lifetime = option(packet, 38)?.get(2..4)?;
    Some(u16::from_be_bytes(lifetime.try_into().ok()?) & !7)
}

/// The first option of this kind.
fn option(packet: &[u8], wanted: u8) -> Option<&[u8]> {
    if !is_advertisement(packet) {
        return None;
    }
    let mut options = packet.get(IPV6_HEADER + RA_HEADER..)?;
    while let [kind, units, ..] = options {
        let (option, rest) = options.split_at_checked(usize::from(*units).max(1) * 8)?;
        if *kind == wanted {
            return Some(option);
        }
        options = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8781 section 4: the scaled lifetime in 13 bits, the prefix length code in 3.
    #[test]
    fn options_have_the_bytes_of_their_rfcs() {
        let prefix = "2001:db8:64::/64".parse().expect("a prefix");
        let advertisement = Advertisement {
            hop_limit: 64,
            managed: true,
            lifetime: 1800,
            options: vec![RaOption::mtu(1400), RaOption::pref64(prefix, 600)],
        };
        let expected = [
            &[134, 0, 0, 0, 64, 0x80, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[5, 1, 0, 0, 0, 0, 5, 0x78],
            &[
                38, 2, 0x02, 0x59, 0x20, 1, 0x0d, 0xb8, 0, 0x64, 0, 0, 0, 0, 0, 0,
            ],
        ];
        assert_eq!(advertisement.build(), expected.concat());
    }
}
