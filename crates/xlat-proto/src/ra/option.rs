//! The options of a router advertisement.

use std::net::Ipv6Addr;

use xlat_core::addr::{Ipv6Prefix, Pref64};

use super::{Preference, address, double, word};

/// One option. Lifetimes are in seconds; `u32::MAX` is infinite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouterOption {
    /// Link-layer address of the sender (RFC 4861 section 4.6.1).
    SourceLinkLayer([u8; 6]),
    /// A prefix of the link (section 4.6.2).
    Prefix(PrefixInformation),
    /// MTU of the link in bytes (section 4.6.4).
    Mtu(u32),
    /// A route through the router (RFC 4191).
    Route(RouteInformation),
    /// Recursive DNS servers (RFC 8106 section 5.1).
    DnsServers {
        /// Lifetime in seconds.
        lifetime: u32,
        /// Their addresses.
        servers: Vec<Ipv6Addr>,
    },
    /// Domains to search (RFC 8106 section 5.2).
    DnsSearch {
        /// Lifetime in seconds.
        lifetime: u32,
        /// The domains, without a dot at the end.
        domains: Vec<String>,
    },
    /// A NAT64 prefix (RFC 8781).
    Pref64(Pref64Option),
}

/// A prefix of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix.
    pub prefix: Ipv6Prefix,
    /// Addresses in it are on the link.
    pub on_link: bool,
    /// Hosts may form addresses in it (SLAAC).
    pub autonomous: bool,
    /// The router's whole address, if the option has it (RFC 6275 section 7.2).
    pub router: Option<Ipv6Addr>,
    /// Valid lifetime in seconds.
    pub valid: u32,
    /// Preferred lifetime in seconds.
    pub preferred: u32,
}

/// A route through the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteInformation {
    /// The network.
    pub prefix: Ipv6Prefix,
    /// Preference of the route.
    pub preference: Preference,
    /// Lifetime in seconds.
    pub lifetime: u32,
}

/// A NAT64 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pref64Option {
    /// The prefix.
    pub prefix: Pref64,
    /// Lifetime in seconds: a multiple of 8 up to 65528; 0 withdraws it.
    pub lifetime: u16,
}

/// Encodes a lifetime in seconds as a scaled lifetime in units of 8 seconds, rounded up (RFC 8781
/// section 4.1). Only 0 becomes 0.
pub fn pref64_units(seconds: u32) -> u16 {
    seconds.div_ceil(8).min(UNITS_MAX) as u16
}

/// Default lifetime of a NAT64 prefix in seconds, for a maximum time between advertisements in
/// seconds (RFC 8781 section 4.1).
pub fn usual_pref64_lifetime(interval: u16) -> u16 {
    pref64_units(3 * u32::from(interval)) * 8
}

impl RouterOption {
    /// Parses one option, whose length was checked. `None` if it is unknown or malformed.
    pub(super) fn parse(option: &[u8]) -> Option<Self> {
        match (option[0], option.len()) {
            (1, 8) => Some(Self::SourceLinkLayer(option[2..8].try_into().ok()?)),
            (3, 32) => prefix(option).map(Self::Prefix),
            (5, 8) => Some(Self::Mtu(double(option, 4))),
            (24, 8 | 16 | 24) => route(option).map(Self::Route),
            (25, 24..) if option.len() % 16 == 8 => Some(Self::DnsServers {
                lifetime: double(option, 4),
                servers: option[8..].chunks(16).map(address).collect(),
            }),
            (31, 16..) => Some(Self::DnsSearch {
                lifetime: double(option, 4),
                domains: domains(&option[8..])?,
            }),
            (38, 16) => pref64(option).map(Self::Pref64),
            _ => None,
        }
    }

    /// Appends the option to a message.
    pub(super) fn build(&self, message: &mut Vec<u8>) {
        let start = message.len();
        match self {
            Self::SourceLinkLayer(mac) => {
                message.extend([1, 1]);
                message.extend(mac);
            }
            Self::Prefix(prefix) => build_prefix(prefix, message),
            Self::Mtu(mtu) => {
                message.extend([5, 1, 0, 0]);
                message.extend(mtu.to_be_bytes());
            }
            Self::Route(route) => build_route(route, message),
            Self::DnsServers { lifetime, servers } => {
                message.extend([25, 0, 0, 0]);
                message.extend(lifetime.to_be_bytes());
                message.extend(servers.iter().flat_map(Ipv6Addr::octets));
            }
            Self::DnsSearch { lifetime, domains } => {
                message.extend([31, 0, 0, 0]);
                message.extend(lifetime.to_be_bytes());
                for domain in domains {
                    build_domain(domain, message);
                }
            }
            Self::Pref64(pref64) => build_pref64(pref64, message),
        }
        let length = (message.len() - start).next_multiple_of(8);
        message.resize(start + length, 0);
        message[start + 1] = (length / 8) as u8;
    }
}

fn prefix(option: &[u8]) -> Option<PrefixInformation> {
    let given = address(&option[16..32]);
    let prefix = checked_prefix(given, option[2])?;
    let flags = option[3];
    Some(PrefixInformation {
        prefix,
        on_link: flags & ON_LINK != 0,
        autonomous: flags & AUTONOMOUS != 0,
        router: (flags & ROUTER != 0).then_some(given),
        valid: double(option, 4),
        preferred: double(option, 8),
    })
}

fn build_prefix(prefix: &PrefixInformation, message: &mut Vec<u8>) {
    let mut flags = 0;
    for (is_set, bit) in [
        (prefix.on_link, ON_LINK),
        (prefix.autonomous, AUTONOMOUS),
        (prefix.router.is_some(), ROUTER),
    ] {
        flags |= if is_set { bit } else { 0 };
    }
    message.extend([3, 4, prefix.prefix.len(), flags]);
    message.extend(prefix.valid.to_be_bytes());
    message.extend(prefix.preferred.to_be_bytes());
    message.extend([0; 4]);
    let given = prefix.router.unwrap_or(prefix.prefix.address());
    message.extend(given.octets());
}

fn route(option: &[u8]) -> Option<RouteInformation> {
    let length = option[2];
    // The option has only the significant bytes of the prefix (RFC 4191 section 2.3).
    let needed = usize::from(length).div_ceil(64) * 8;
    if option.len() - 8 < needed {
        return None;
    }
    Some(RouteInformation {
        prefix: checked_prefix(address(&option[8..]), length)?,
        preference: Preference::from_bits(option[3]),
        lifetime: double(option, 4),
    })
}

fn build_route(route: &RouteInformation, message: &mut Vec<u8>) {
    let length = route.prefix.len();
    message.extend([24, 0, length, route.preference.bits()]);
    message.extend(route.lifetime.to_be_bytes());
    let octets = route.prefix.address().octets();
    message.extend(&octets[..usize::from(length).div_ceil(64) * 8]);
}

/// RFC 8781 section 4: thirteen bits of lifetime, three of prefix length, the first 96 bits.
fn pref64(option: &[u8]) -> Option<Pref64Option> {
    let field = word(option, 2);
    let length = *LENGTHS.get(usize::from(field & 7))?;
    let prefix = checked_prefix(address(&option[4..16]), length)?;
    Some(Pref64Option {
        prefix: Pref64::new(prefix).ok()?,
        lifetime: field & !7,
    })
}

fn build_pref64(pref64: &Pref64Option, message: &mut Vec<u8>) {
    let prefix = pref64.prefix.prefix();
    let code = LENGTHS.iter().position(|length| *length == prefix.len());
    let field = (pref64.lifetime & !7) | code.unwrap_or(0) as u16;
    message.extend([38, 2]);
    message.extend(field.to_be_bytes());
    message.extend(&prefix.address().octets()[..12]);
}

/// The prefix of this length that contains `address`; the other bits are ignored.
fn checked_prefix(address: Ipv6Addr, length: u8) -> Option<Ipv6Prefix> {
    (length <= 128).then(|| Ipv6Prefix::containing(address, length))
}

/// Names in the form of RFC 1035 section 3.1, without compression, padded with zeros.
fn domains(mut rest: &[u8]) -> Option<Vec<String>> {
    let mut domains = Vec::new();
    let mut labels: Vec<&str> = Vec::new();
    while let [length, tail @ ..] = rest {
        if *length == 0 {
            if !labels.is_empty() {
                domains.push(labels.join("."));
                labels.clear();
            }
            rest = tail;
            continue;
        }
        let (label, tail) = tail.split_at_checked(usize::from(*length))?;
        if *length > LABEL_MAX || !label.iter().all(|byte| is_name_byte(*byte)) {
            return None;
        }
        labels.push(std::str::from_utf8(label).ok()?);
        rest = tail;
    }
    (labels.is_empty() && !domains.is_empty()).then_some(domains)
}

fn build_domain(domain: &str, message: &mut Vec<u8>) {
    for label in domain.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(usize::from(LABEL_MAX))];
        message.push(label.len() as u8);
        message.extend(label);
    }
    message.push(0);
}

/// True for the characters of a name that is safe to log and to write to files.
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;
const ROUTER: u8 = 0x20;
const LABEL_MAX: u8 = 63;
/// Prefix lengths by their code.
const LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];
const UNITS_MAX: u32 = 8191;

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that `bytes` are `option`, both ways.
    #[track_caller]
    fn is(option: &RouterOption, bytes: &[u8]) {
        assert_eq!(RouterOption::parse(bytes).as_ref(), Some(option));
        let mut built = Vec::new();
        option.build(&mut built);
        assert_eq!(built, bytes);
    }

    fn pref64(prefix: &str, lifetime: u16) -> RouterOption {
        RouterOption::Pref64(Pref64Option {
            prefix: prefix.parse().unwrap(),
            lifetime,
        })
    }

    #[test]
    fn pd_14_pd_15_ra_13_a_nat64_prefix_of_each_length() {
        let wkp = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
        is(
            &pref64("64:ff9b::/96", 600),
            &[&[38, 2, 0x02, 0x58][..], &wkp].concat(),
        );
        is(
            &pref64("64:ff9b::/96", 65_528),
            &[&[38, 2, 0xff, 0xf8][..], &wkp].concat(),
        );
        is(
            &pref64("64:ff9b::/96", 0),
            &[&[38, 2, 0, 0][..], &wkp].concat(),
        );
        for (code, length) in [(1, 64), (2, 56), (3, 48), (4, 40), (5, 32)] {
            let bytes = [
                &[38, 2, 0, 8 | code][..],
                &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0],
            ]
            .concat();
            is(&pref64(&format!("2001:db8::/{length}"), 8), &bytes);
        }
    }

    #[test]
    fn pd_13_pd_14_pd_16_odd_nat64_prefixes() {
        let option = |length: u8, code: u8| {
            let mut option = vec![38, length, 0, 8 | code];
            option.extend([
                0x20, 1, 0x0d, 0xb8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ]);
            option.resize(usize::from(length) * 8, 0);
            option
        };
        for code in [6, 7] {
            assert_eq!(RouterOption::parse(&option(2, code)), None);
        }
        for length in [1, 3] {
            assert_eq!(RouterOption::parse(&option(length, 0)), None);
        }
        // Bits behind the prefix mean nothing.
        let masked = RouterOption::parse(&option(2, 5));
        assert_eq!(masked, Some(pref64("2001:db8::/32", 8)));
    }

    #[test]
    fn ra_14_ra_15_lifetimes_are_rounded_up_and_never_wrap() {
        for (seconds, units) in [
            (0, 0),
            (1, 1),
            (7, 1),
            (8, 1),
            (9, 2),
            (65_528, 8191),
            (65_529, 8191),
            (65_535, 8191),
            (u32::MAX, 8191),
        ] {
            assert_eq!(pref64_units(seconds), units, "{seconds}");
        }
        assert_eq!(usual_pref64_lifetime(600), 225 * 8);
        assert_eq!(usual_pref64_lifetime(u16::MAX), 65_528);
    }

    #[test]
    fn ra_11_prefix_and_mtu() {
        let prefix = PrefixInformation {
            prefix: "2001:db8:1::/64".parse().unwrap(),
            on_link: true,
            autonomous: true,
            router: None,
            valid: 2_592_000,
            preferred: 604_800,
        };
        let head = [
            3, 4, 64, 0xc0, 0, 0x27, 0x8d, 0, 0, 9, 0x3a, 0x80, 0, 0, 0, 0,
        ];
        let mut bytes = head.to_vec();
        bytes.extend([0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        is(&RouterOption::Prefix(prefix), &bytes);
        bytes[3] = 0xe0;
        bytes[31] = 1;
        let router = PrefixInformation {
            router: Some("2001:db8:1::1".parse().unwrap()),
            ..prefix
        };
        is(&RouterOption::Prefix(router), &bytes);
        bytes[2] = 129;
        assert_eq!(RouterOption::parse(&bytes), None);
        is(&RouterOption::Mtu(1400), &[5, 1, 0, 0, 0, 0, 5, 0x78]);
        is(
            &RouterOption::SourceLinkLayer([2, 0, 0, 0, 0, 1]),
            &[1, 1, 2, 0, 0, 0, 0, 1],
        );
    }

    #[test]
    fn routes_are_as_long_as_their_prefix_needs() {
        let route = |prefix: &str| {
            RouterOption::Route(RouteInformation {
                prefix: prefix.parse().unwrap(),
                preference: Preference::High,
                lifetime: 1800,
            })
        };
        is(&route("::/0"), &[24, 1, 0, 8, 0, 0, 7, 8]);
        let half = [24, 2, 32, 8, 0, 0, 7, 8, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0];
        is(&route("2001:db8::/32"), &half);
        let mut whole = vec![24, 3, 96, 8, 0, 0, 7, 8, 0, 0x64, 0xff, 0x9b];
        whole.resize(24, 0);
        is(&route("64:ff9b::/96"), &whole);
        assert_eq!(RouterOption::parse(&[24, 1, 32, 8, 0, 0, 7, 8]), None);
        let mut short = half;
        short[2] = 65;
        assert_eq!(RouterOption::parse(&short), None);
    }

    #[test]
    fn ra_12_dns_servers_and_domains_with_every_padding() {
        let servers = RouterOption::DnsServers {
            lifetime: 1800,
            servers: vec!["2001:db8::1".parse().unwrap(), "fe80::1".parse().unwrap()],
        };
        let mut bytes = vec![25, 5, 0, 0, 0, 0, 7, 8];
        bytes.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        is(&servers, &bytes);
        assert_eq!(
            RouterOption::parse(&[25, 2, 0, 0, 0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]),
            None
        );

        let search = RouterOption::DnsSearch {
            lifetime: u32::MAX,
            domains: vec!["lan.example".into(), "a".into()],
        };
        let mut bytes = vec![31, 3, 0, 0, 0xff, 0xff, 0xff, 0xff];
        bytes.extend(b"\x03lan\x07example\0\x01a\0");
        is(&search, &bytes);
        for length in 1..=8 {
            let search = RouterOption::DnsSearch {
                lifetime: 0,
                domains: vec!["x".repeat(length)],
            };
            let mut built = Vec::new();
            search.build(&mut built);
            assert_eq!(built.len() % 8, 0);
            assert_eq!(RouterOption::parse(&built), Some(search));
        }
    }

    #[test]
    fn se_25_names_that_are_cut_compressed_or_strange_are_no_domains() {
        for names in [
            &b"\x03la\0\0\0\0\0"[..],
            b"\x09example\0",
            b"\xc0\x0cexampl",
            b"\x03l\nn\0\0\0\0",
            b"\0\0\0\0\0\0\0\0",
        ] {
            let option = [&[31, 2, 0, 0, 0, 0, 0, 0][..], names].concat();
            assert_eq!(RouterOption::parse(&option), None, "{names:?}");
        }
    }
}
