//! How many ICMP errors of its own a translator sends: in total, and to one source (RFC 4443
//! section
//! 2.4f).
//!
//! Workers do not share a count: each has its part of the rate. Sources are distinguished by a
//! keyed hash of their prefix in a small table, so that no host can choose to share a bucket with
//! another else, and no flood can make the table larger.

use alloc::boxed::Box;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::bucket::TokenBucket;
use crate::identification::Identifications;
use crate::policy::ErrorRate;
use crate::reject::Response;
use crate::time::Instant;

/// The rate limits of one family. Errors that path MTU discovery needs have buckets of their own.
#[derive(Debug)]
pub(crate) struct Limits {
    rate: ErrorRate,
    errors: Buckets,
    too_big: Buckets,
}

impl Limits {
    /// The part of a rate that one of so many workers has.
    pub(crate) fn new(rate: ErrorRate, workers: u16) -> Self {
        let buckets = || match rate {
            ErrorRate::Limited { per_second, burst } => {
                let part = |whole: u32| whole.div_ceil(u32::from(workers.max(1)));
                Buckets::new(part(per_second), part(burst))
            }
            ErrorRate::Off | ErrorRate::Unlimited => Buckets::new(0, 0),
        };
        Self {
            rate,
            errors: buckets(),
            too_big: buckets(),
        }
    }

    /// True if an error may be sent to a source now.
    pub(crate) fn allow(&mut self, response: Response, source: Source, now: Instant) -> bool {
        match self.rate {
            ErrorRate::Off => false,
            ErrorRate::Unlimited => true,
            ErrorRate::Limited { .. } => match response {
                Response::TooBig { .. } => self.too_big.take(source, now),
                _ => self.errors.take(source, now),
            },
        }
    }
}

/// A bucket for all, and one for each of the sources and of the networks that share a place.
#[derive(Debug)]
struct Buckets {
    all: TokenBucket,
    each: Box<[TokenBucket]>,
    networks: Box<[TokenBucket]>,
}

impl Buckets {
    fn new(per_second: u32, burst: u32) -> Self {
        let part = |share: u32| {
            let one = TokenBucket::new(per_second.div_ceil(share), burst.div_ceil(share));
            [one; PLACES].into()
        };
        Self {
            all: TokenBucket::new(per_second, burst),
            each: part(SHARE),
            networks: part(NETWORK_SHARE),
        }
    }

    /// The source's own comes first: what it is refused takes nothing from the others. What its
    /// network is refused takes nothing from the place that it may share with a host elsewhere.
    fn take(&mut self, source: Source, now: Instant) -> bool {
        let own = &mut self.each[place(source.own)];
        if !own.take(now) {
            return false;
        }
        if let Some(network) = source.network
            && !self.networks[place(network)].take(now)
        {
            own.give_back();
            return false;
        }
        self.all.take(now)
    }
}

fn place(hash: u64) -> usize {
    hash as usize % PLACES
}

/// What a source is known by, as hashes: its address and, for IPv6, its /64. A host has as many
/// addresses in it as it likes, but it may share it with all the hosts of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    own: u64,
    network: Option<u64>,
}

impl Source {
    pub(crate) fn v4(source: Ipv4Addr, ids: &Identifications) -> Self {
        Self {
            own: ids.hash(u64::from(source.to_bits())),
            network: None,
        }
    }

    pub(crate) fn v6(source: Ipv6Addr, ids: &Identifications) -> Self {
        let bits = source.to_bits();
        let network = ids.hash((bits >> 64) as u64);
        Self {
            own: ids.hash(network ^ bits as u64),
            network: Some(network),
        }
    }
}

/// One source gets one in so many of all errors, and one IPv6 /64 one in so many.
const SHARE: u32 = 4;
const NETWORK_SHARE: u32 = 2;
/// Sources that are distinguished.
const PLACES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITED: ErrorRate = ErrorRate::Limited {
        per_second: 100,
        burst: 40,
    };

    #[test]
    fn se_17_one_source_gets_its_share_and_all_together_the_rate() {
        let ids = Identifications::new([1, 2], 0, 1);
        let mut limits = Limits::new(LIMITED, 1);
        let mut told = |source: u32, count: usize| {
            let source = Source::v4(Ipv4Addr::from_bits(source), &ids);
            (0..count)
                .filter(|_| limits.allow(Response::TimeExceeded, source, Instant::ZERO))
                .count()
        };
        assert_eq!(told(1, 1000), 10);
        assert_eq!(told(2, 5), 5);
        let others: usize = (3..10_000).map(|source| told(source, 1)).sum();
        assert_eq!(others, 25);
    }

    #[test]
    fn se_17_workers_share_the_rate() {
        let mut workers = [0; 4].map(|_| Limits::new(LIMITED, 4));
        let told = |limits: &mut Limits| {
            (0..1000)
                .filter(|&own| {
                    let source = Source { own, network: None };
                    limits.allow(Response::TimeExceeded, source, Instant::ZERO)
                })
                .count()
        };
        assert_eq!(workers.iter_mut().map(told).sum::<usize>(), 40);
    }

    /// One host of a link does not use up what all of them have.
    #[test]
    fn fp_05_se_17_addresses_of_one_64_have_their_own_share_and_half_together() {
        let ids = Identifications::new([0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9], 0, 1);
        let mut limits = Limits::new(LIMITED, 1);
        let net: u128 = 0x2001_0db8 << 96;
        let mut told = |bits: u128, count: usize| {
            let source = Source::v6(Ipv6Addr::from_bits(bits), &ids);
            (0..count)
                .filter(|_| limits.allow(Response::TimeExceeded, source, Instant::ZERO))
                .count()
        };
        assert_eq!(told(net | 1, 1000), 10);
        assert_eq!(told(net | 2, 3), 3);
        let many = (0x1000..0x2000).map(|host| told(net | host, 1));
        assert_eq!(many.sum::<usize>(), 7);
        assert_eq!(told(net | 1 << 64 | 1, 1000), 10);
    }
}
