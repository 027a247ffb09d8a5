//! The configuration of a dynamic pool, and which hosts may be its clients.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix, special};

/// A lease holds this long after the last packet: 2 hours 4 minutes, so that no TCP connection
/// loses its address between two keep-alives (RFC 5382 REQ-5).
pub const LEASE: Duration = Duration::from_secs(7440);

/// A client gets its old address back if it returns within this time: 14 days.
pub const REMEMBER: Duration = Duration::from_secs(14 * 24 * 3600);

/// The administrator's choices about a dynamic pool.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// The addresses of the pool. Its lowest address, and its broadcast address unless it is a /31,
    /// are never handed out.
    pub prefix: Ipv4Prefix,
    /// Reserved addresses of the pool: the translator's own address, static
    /// maps. Those outside the pool do not matter.
    pub reserved: Vec<Ipv4Prefix>,
    /// Sources that are served. Empty means all. Addresses that cannot belong to a client are
    /// never served, whatever stands here.
    pub clients: Vec<Ipv6Prefix>,
    /// Sources that are never served: the NAT64 prefixes, the translator's own address.
    pub excluded: Vec<Ipv6Prefix>,
    /// At most so many leases per IPv6 prefix.
    pub limit: Option<PrefixLimit>,
    /// How long a lease holds after the last packet; [`LEASE`] unless a test wants less.
    pub lease: Duration,
    /// How long a client's old address is remembered after the last packet.
    pub remember: Duration,
}

/// A limit against a host that drains the pool by changing its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixLimit {
    /// Length of the prefixes that are counted together, 64 for one link.
    pub prefix_len: u8,
    /// Leases that such a prefix can hold at once. Those of clients that have been silent for
    /// longer than the lease time do not count.
    pub leases: u32,
}

impl PoolConfig {
    /// A pool of these addresses that serves everybody, with the documented times and no limit.
    pub fn new(prefix: Ipv4Prefix) -> Self {
        Self {
            prefix,
            reserved: Vec::new(),
            clients: Vec::new(),
            excluded: Vec::new(),
            limit: None,
            lease: LEASE,
            remember: REMEMBER,
        }
    }

    /// True if `address` is a unicast address of some host at all, rather than one that never
    /// crosses a router or belongs to the translator.
    pub(super) fn is_host(&self, address: Ipv6Addr) -> bool {
        special::is_legal_v6_source(address)
            && !self.excluded.iter().any(|prefix| prefix.contains(address))
    }

    /// True if `address`, which [`is_host`](Self::is_host), may have a lease.
    pub(super) fn is_client(&self, address: Ipv6Addr) -> bool {
        self.clients.is_empty() || self.clients.iter().any(|prefix| prefix.contains(address))
    }

    /// True if `address` of the pool is kept back because of its place in the pool.
    pub(super) fn is_kept_back(&self, address: Ipv4Addr) -> bool {
        let is_broadcast = self.prefix.len() < 31 && address == self.prefix.last();
        address == self.prefix.address() || is_broadcast
    }
}

/// A pool that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Larger than a /8.
    #[error("dynamic pool {0} is larger than a /8")]
    TooLarge(Ipv4Prefix),
    /// Every address is reserved.
    #[error("dynamic pool {0} has no address to hand out")]
    NoAddress(Ipv4Prefix),
    /// Leases would be forgotten while they still hold.
    #[error("leases of {lease:?} cannot be forgotten after {remember:?}")]
    Times {
        /// Time a lease holds.
        lease: Duration,
        /// Time it is remembered.
        remember: Duration,
    },
    /// A limit counted over prefixes longer than an address.
    #[error("there are no IPv6 prefixes of length {0}")]
    LimitLength(u8),
}
