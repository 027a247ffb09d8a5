//! The IPv4 side of a CLAT (RFC 7335): which addresses of 192.0.0.0/29 an instance takes.

use std::net::Ipv4Addr;

/// Metric of the first instance's IPv4 default route: worse than those of DHCP clients.
const METRIC: u32 = 2048;

/// The IPv4 side of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side4 {
    /// Address of this host.
    pub host: Ipv4Addr,
    /// Source address of ICMPv4 errors of the CLAT: the hop behind the host.
    pub hop: Ipv4Addr,
    /// Metric of the IPv4 default route.
    pub metric: u32,
}

impl Side4 {
    /// The given address, or else the first pair that is not in `taken` and for which `reserve`
    /// returns true; `None` if there is none. Each pair has its own metric unless one is given.
    pub fn choose(
        given: Option<Ipv4Addr>,
        metric: Option<u32>,
        taken: &[Ipv4Addr],
        reserve: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Self> {
        if let Some(host) = given {
            return Some(Self {
                host,
                hop: hop(host),
                metric: metric.unwrap_or(METRIC),
            });
        }
        let (number, (host, hop)) = (0..).zip(PAIRS).find(|(_, (host, hop))| {
            !taken.contains(host) && !taken.contains(hop) && reserve(*host)
        })?;
        Some(Self {
            host,
            hop,
            metric: metric.unwrap_or(METRIC + number),
        })
    }
}

/// Pairs of 192.0.0.0/29: the host and the hop behind it. Each instance uses one.
const PAIRS: [(Ipv4Addr, Ipv4Addr); 3] = [
    (Ipv4Addr::new(192, 0, 0, 1), Ipv4Addr::new(192, 0, 0, 2)),
    (Ipv4Addr::new(192, 0, 0, 3), Ipv4Addr::new(192, 0, 0, 4)),
    (Ipv4Addr::new(192, 0, 0, 5), Ipv4Addr::new(192, 0, 0, 6)),
];

/// The first address of 192.0.0.0/29 behind its lowest one that the host does not use.
fn hop(host: Ipv4Addr) -> Ipv4Addr {
    let [first, second] = [Ipv4Addr::new(192, 0, 0, 1), Ipv4Addr::new(192, 0, 0, 2)];
    if host == second { first } else { second }
}
