//! The dynamic pool as an address policy: explicit mappings first, then leases, RFC 6052 for
//! the hosts behind the NAT64 prefix.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xlat_core::addr::{EamTable, Pref64s};
use xlat_core::mapper::{
    ErrorFlow, ErrorRewrite, Flow, PacketByPacket, Pass, Refusal, Rewrite, Unreachable,
};
use xlat_core::mappers::Hairpin;
use xlat_core::{DropReason, Instant, Mapper};

use super::cache::Cache;
use super::config::PoolConfig;
use super::pool::DynamicPool;
use crate::siphash::SipKey;

/// Maps by explicit mappings, the leases of a shared [`DynamicPool`], and RFC 6052.
///
/// Each worker has one of its own; a clone shares the pool and starts with an empty memory.
#[derive(Debug)]
pub struct Dynamic {
    eams: EamTable,
    pref64s: Pref64s,
    hairpin: Hairpin,
    pool: Arc<Mutex<DynamicPool>>,
    config: PoolConfig,
    key: SipKey,
    by_client: Cache<Ipv6Addr, Ipv4Addr>,
    by_address: Cache<Ipv4Addr, Ipv6Addr>,
}

impl Dynamic {
    /// A mapper with these tables and this pool.
    ///
    /// The pool must know the IPv4 sides of `eams` as [`reserved`](PoolConfig::reserved), and all
    /// workers must count time from the same origin. After a change of static maps call
    /// [`DynamicPool::set_reserved`] once and [`set_eams`](Self::set_eams) for each worker.
    pub fn new(
        eams: EamTable,
        pref64s: Pref64s,
        hairpin: Hairpin,
        pool: Arc<Mutex<DynamicPool>>,
    ) -> Self {
        let (config, key, capacity) = {
            let pool = lock(&pool);
            (pool.config().clone(), pool.key(), pool.capacity())
        };
        Self {
            eams,
            pref64s,
            hairpin,
            pool,
            config,
            key,
            by_client: Cache::new(capacity),
            by_address: Cache::new(capacity),
        }
    }

    /// The pool that all workers share.
    pub fn pool(&self) -> &Arc<Mutex<DynamicPool>> {
        &self.pool
    }

    /// The explicit mappings.
    pub fn eams(&self) -> &EamTable {
        &self.eams
    }

    /// Maps by other explicit mappings from now on; see [`new`](Self::new).
    pub fn set_eams(&mut self, eams: EamTable) {
        let pool = Arc::clone(&self.pool);
        *self = Self::new(eams, self.pref64s.clone(), self.hairpin, pool);
    }

    /// The NAT64 prefixes.
    pub fn pref64s(&self) -> &Pref64s {
        &self.pref64s
    }

    /// True if `client` has a static map or may have a lease.
    pub fn serves(&self, client: Ipv6Addr) -> bool {
        let may_lease = || self.config.is_host(client) && self.config.is_client(client);
        self.eams.lookup_v6(client).is_some() || may_lease()
    }

    /// Source of a packet from IPv6. The last thing that is decided about it, because it may
    /// make a lease.
    fn source_v6(&mut self, client: Ipv6Addr, now: Instant) -> Result<Ipv4Addr, Refusal> {
        if let Some(address) = self.eams.lookup_v6(client) {
            return Ok(address);
        }
        if self.pref64s.lookup(client).is_some() {
            return Err(Refusal::Silent(DropReason::SourceInPref64));
        }
        let hash = self.hash_client(client);
        if let Some(address) = self.by_client.fresh(hash, client, now) {
            return Ok(address);
        }
        let address = lock(&self.pool).address_for(client, now)?;
        self.remember(client, address, now);
        Ok(address)
    }

    fn destination_v6(&self, dst: Ipv6Addr) -> Result<Ipv4Addr, DropReason> {
        match self.eams.lookup_v6(dst) {
            Some(address) => Ok(address),
            None => Ok(self.pref64s.destination(dst)?.0),
        }
    }

    /// Source of a packet from IPv4. A client of the pool is shown by its IPv4 address, so that
    /// the answer comes back here (RFC 7757 section 4.2.1).
    fn source_v4(&self, src: Ipv4Addr, suppress: bool) -> Result<Ipv6Addr, DropReason> {
        let explicit = if suppress {
            None
        } else {
            self.eams.lookup_v4(src)
        };
        match explicit {
            Some(address) => Ok(address),
            None => {
                let pref64 = self.pref64s.first().ok_or(DropReason::UnmappedSource)?;
                self.pref64s.embed_source(pref64, src)
            }
        }
    }

    /// Destination of a packet from IPv4.
    fn destination_v4(&mut self, dst: Ipv4Addr, now: Instant) -> Result<Ipv6Addr, Refusal> {
        if let Some(address) = self.eams.lookup_v4(dst) {
            return Ok(address);
        }
        if !self.config.prefix.contains(dst) {
            return Err(prohibited(DropReason::UnmappedDestination));
        }
        if let Some(client) = self.by_address.fresh(hash_address(dst), dst, now) {
            return Ok(client);
        }
        let client = lock(&self.pool)
            .client_of(dst, now)
            .ok_or(Refusal::Answer(DropReason::NoBinding, Unreachable::Address))?;
        self.remember(client, dst, now);
        Ok(client)
    }

    fn remember(&mut self, client: Ipv6Addr, address: Ipv4Addr, now: Instant) {
        let hash = self.hash_client(client);
        self.by_client.confirm(hash, client, address, now);
        self.by_address
            .confirm(hash_address(address), address, client, now);
    }

    /// One of our nodes by its IPv4 address, without making, prolonging or ending a lease.
    fn node_v4(&self, address: Ipv4Addr, now: Instant) -> Option<Ipv6Addr> {
        let leased = || {
            self.by_address
                .fresh(hash_address(address), address, now)
                .or_else(|| lock(&self.pool).peek_client(address, now))
        };
        self.eams.lookup_v4(address).or_else(leased)
    }

    /// One of our nodes by its IPv6 address, without making, prolonging or ending a lease.
    fn node_v6(&self, address: Ipv6Addr, now: Instant) -> Option<Ipv4Addr> {
        let leased = || {
            self.by_client
                .fresh(self.hash_client(address), address, now)
                .or_else(|| lock(&self.pool).peek_address(address, now))
        };
        self.eams.lookup_v6(address).or_else(leased)
    }

    fn packet_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        suppress: bool,
        now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        let src = self.source_v4(flow.src, suppress).map_err(prohibited)?;
        let dst = self.destination_v4(flow.dst, now)?;
        Ok(Rewrite::new(src, dst))
    }

    fn error_v4(
        &self,
        error: &ErrorFlow<Ipv4Addr>,
        suppress: bool,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        let quoted = Rewrite::new(
            self.node_v4(error.quoted.src, now)
                .ok_or(Refusal::Silent(DropReason::QuotedUnmapped))?,
            self.source_v4(error.quoted.dst, suppress)
                .map_err(|_| Refusal::Silent(DropReason::QuotedUnmapped))?,
        );
        let dst = self
            .node_v4(error.dst, now)
            .ok_or(Refusal::Silent(DropReason::UnmappedDestination))?;
        // Whoever complains, however illegal its address, is shown for troubleshooting (RFC 7915
        // section 4.1). The quoted packet's destination is shown as the quoted packet shows it.
        let is_peer = suppress && error.src == error.quoted.dst;
        let explicit = if is_peer {
            None
        } else {
            self.eams.lookup_v4(error.src)
        };
        let embedded = || Some(self.pref64s.first()?.embed(error.src));
        Ok(ErrorRewrite {
            src: explicit.or_else(embedded),
            dst,
            quoted,
            hairpin: false,
        })
    }

    /// True if no source is shown by an explicit mapping.
    #[inline]
    fn suppresses(&self, pass: Pass) -> bool {
        pass == Pass::Hairpin || self.hairpin == Hairpin::Simple
    }

    /// True if a packet to the IPv6 address `to`, which stands for the IPv4 address `address`, must
    /// turn round: it is that of one of our nodes, and not called by its IPv6 name.
    #[inline]
    pub(crate) fn is_hairpin(&self, to: Ipv6Addr, address: Ipv4Addr) -> bool {
        self.hairpin == Hairpin::Intrinsic
            && self.is_ours(address)
            && self.eams.lookup_v6(to).is_none()
    }

    /// True if `address` belongs to one of our nodes, or would if it had one.
    pub(crate) fn is_ours(&self, address: Ipv4Addr) -> bool {
        let is_leasable = || {
            self.config.prefix.contains(address)
                && !self.config.is_kept_back(address)
                && !self.config.reserved.iter().any(|own| own.contains(address))
        };
        is_leasable() || self.eams.lookup_v4(address).is_some()
    }

    fn hash_client(&self, client: Ipv6Addr) -> u64 {
        self.key.hash_address(client.to_bits())
    }
}

impl Clone for Dynamic {
    fn clone(&self) -> Self {
        Self::new(
            self.eams.clone(),
            self.pref64s.clone(),
            self.hairpin,
            Arc::clone(&self.pool),
        )
    }
}

impl PacketByPacket for Dynamic {}

impl Mapper for Dynamic {
    #[inline]
    fn map_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        now: Instant,
    ) -> Result<Rewrite<Ipv4Addr>, Refusal> {
        let dst = self.destination_v6(flow.dst).map_err(prohibited)?;
        let src = self.source_v6(flow.src, now)?;
        Ok(Rewrite {
            hairpin: self.is_hairpin(flow.dst, dst),
            ..Rewrite::new(src, dst)
        })
    }

    #[inline]
    fn map_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        pass: Pass,
        now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        self.packet_v4(flow, self.suppresses(pass), now)
    }

    fn map_v6_error(
        &mut self,
        error: &ErrorFlow<Ipv6Addr>,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv4Addr>, Refusal> {
        let quoted_src = match self.eams.lookup_v6(error.quoted.src) {
            Some(address) => Some(address),
            None => self
                .pref64s
                .source(error.quoted.src)
                .ok()
                .map(|(address, _)| address),
        };
        let quoted = Rewrite::new(
            quoted_src.ok_or(Refusal::Silent(DropReason::QuotedUnmapped))?,
            self.node_v6(error.quoted.dst, now)
                .ok_or(Refusal::Silent(DropReason::QuotedUnmapped))?,
        );
        let dst = self.destination_v6(error.dst).map_err(Refusal::Silent)?;
        let embedded = || self.pref64s.source(error.src).ok();
        let src = self
            .node_v6(error.src, now)
            .or_else(|| embedded().map(|(address, _)| address));
        Ok(ErrorRewrite {
            src,
            dst,
            quoted,
            hairpin: self.is_hairpin(error.quoted.src, quoted.src),
        })
    }

    fn map_v4_error(
        &mut self,
        error: &ErrorFlow<Ipv4Addr>,
        pass: Pass,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        self.error_v4(error, self.suppresses(pass), now)
    }
}

/// A worker that panicked inside the pool cannot have left it half changed in a way that matters
/// more than all other workers standing still.
fn lock(pool: &Mutex<DynamicPool>) -> MutexGuard<'_, DynamicPool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Neighbouring addresses of the pool lie in neighbouring sets; outsiders cannot choose them.
fn hash_address(address: Ipv4Addr) -> u64 {
    u64::from(address.to_bits())
}

/// Refuses a packet whose addresses cannot be mapped (RFC 7915 sections 4.4 and 5.4). What is
/// illegal to begin with gets no answer.
fn prohibited(reason: DropReason) -> Refusal {
    match reason {
        DropReason::IllegalSource | DropReason::SourceInPref64 => Refusal::Silent(reason),
        _ => Refusal::Answer(reason, Unreachable::Prohibited),
    }
}
