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

    /// True if an error may be sent to a source now; `source` is its hash.
    pub(crate) fn allow(&mut self, response: Response, source: u64, now: Instant) -> bool {
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

/// A bucket for all, and one for each of the sources that share a place.
#[derive(Debug)]
struct Buckets {
    all: TokenBucket,
    each: Box<[TokenBucket]>,
}

impl Buckets {
    fn new(per_second: u32, burst: u32) -> Self {
        let one = TokenBucket::new(per_second.div_ceil(SHARE), burst.div_ceil(SHARE));
        Self {
            all: TokenBucket::new(per_second, burst),
            each: [one; PLACES].into(),
        }
    }

    /// The source's own comes first: what it is refused takes nothing from the others.
    fn take(&mut self, source: u64, now: Instant) -> bool {
        self.each[source as usize % PLACES].take(now) && self.all.take(now)
    }
}

/// What an IPv4 source is known by.
pub(crate) fn source_v4(source: Ipv4Addr, ids: &Identifications) -> u64 {
    ids.hash(u64::from(source.to_bits()))
}

/// What an IPv6 source is known by: a host has as many addresses as it likes, but one /64.
pub(crate) fn source_v6(source: Ipv6Addr, ids: &Identifications) -> u64 {
    ids.hash((source.to_bits() >> 64) as u64)
}

/// One source gets one in so many of all errors.
const SHARE: u32 = 4;
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
            let source = source_v4(Ipv4Addr::from_bits(source), &ids);
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
                .filter(|&source| limits.allow(Response::TimeExceeded, source, Instant::ZERO))
                .count()
        };
        assert_eq!(workers.iter_mut().map(told).sum::<usize>(), 40);
    }

    #[test]
    fn se_17_addresses_of_one_64_are_one_source() {
        let ids = Identifications::new([1, 2], 0, 1);
        let source = |text: &str| source_v6(text.parse().unwrap(), &ids);
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    }
}
