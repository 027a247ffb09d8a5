//! Fetching what packets will be looked up by, for several of them at once.
//!
//! In a table of millions of sessions each look-up waits twice for memory: for a line of the index
//! and for the session. The waits of one look-up come one after the other, but those of several
//! have nothing to do with each other. So when a worker has read several packets, all their lines
//! are touched, then all their sessions, and only then are they translated, out of the cache. What
//! was found on the way is a hint for the look-up itself, which believes it only when it is true.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use xlat_core::mapper::{Flow, PREFETCH_BATCH, Prefetch, UpcomingFlow};

use super::Worker;
use super::tuples::{client_tuple, external_tuple};
use crate::shared::lock;
use crate::table::slab::NONE;
use crate::tuple::{Hint, Outside, Tuple};

/// What was found for the upcoming packets, in their order.
#[derive(Debug, Default)]
pub(super) struct Hints {
    hints: Vec<Hint>,
    next: AtomicUsize,
}

impl Hints {
    /// The session that a packet may belong to; [`NONE`] if nothing is known.
    #[inline]
    pub(super) fn of(&self, tuple: Tuple) -> u32 {
        let next = self.next.load(Ordering::Relaxed);
        match self.hints.get(next) {
            Some(hint) if hint.tuple == tuple => {
                self.next.store(next + 1, Ordering::Relaxed);
                hint.handle
            }
            _ => NONE,
        }
    }
}

impl Prefetch for Worker {
    #[inline]
    fn wants_prefetch(&self) -> bool {
        self.shared.is_large.load(Ordering::Relaxed)
    }

    fn prefetch(&mut self, upcoming: &[UpcomingFlow]) {
        self.fetch(upcoming);
    }
}

impl Worker {
    /// Fetches what the sessions of these packets will be found by.
    fn fetch(&mut self, upcoming: &[UpcomingFlow]) {
        let mut shards = [u32::MAX; PREFETCH_BATCH];
        let mut hints = std::mem::take(&mut self.hints.hints);
        hints.clear();
        for flow in &upcoming[..upcoming.len().min(PREFETCH_BATCH)] {
            let known = match flow {
                UpcomingFlow::V6(flow) => self.client(flow),
                UpcomingFlow::V4(flow) => self.external(flow),
            };
            if let Some((number, tuple)) = known {
                shards[hints.len()] = number;
                hints.push(Hint {
                    tuple,
                    handle: NONE,
                });
            }
        }
        for first in 0..hints.len() {
            let number = shards[first];
            if !shards[..first].contains(&number) {
                let shard = lock(&self.shared.shards[number as usize]);
                shard.fetch(&mut hints, |place| shards[place] == number);
            }
        }
        self.hints = Hints {
            hints,
            next: AtomicUsize::new(0),
        };
    }

    fn client(&self, flow: &Flow<Ipv6Addr>) -> Option<(u32, Tuple)> {
        let (remote, _) = self.remote(flow.dst).ok()?;
        let tuple = client_tuple(flow, remote).ok()?;
        let number = self.view.layout.shard_of_client(flow.src);
        Some((number, Tuple::Client(tuple)))
    }

    fn external(&self, flow: &Flow<Ipv4Addr>) -> Option<(u32, Tuple)> {
        let tuple = external_tuple(flow).ok()?;
        let outside = Outside {
            protocol: tuple.protocol,
            external: tuple.external,
            port: tuple.external_port,
        };
        let number = self.view.layout.shard_of_external(outside)?;
        Some((number, Tuple::External(tuple)))
    }
}

#[cfg(test)]
mod tests {
    use xlat_core::addr::Pref64s;
    use xlat_core::mapper::{Pass, Ports};
    use xlat_core::{Instant, Mapper};

    use super::*;
    use crate::Nat64;
    use crate::config::Config;

    fn flow(number: u16) -> Flow<Ipv6Addr> {
        Flow {
            src: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number % 50),
            dst: "2001:db8:64::198.51.100.7".parse().unwrap(),
            protocol: pnet_packet::ip::IpNextHeaderProtocols::Udp,
            ports: Some(Ports {
                src: 1024 + number,
                dst: 53,
            }),
            tcp_flags: 0,
            fragment: None,
        }
    }

    #[test]
    fn prefetching_changes_nothing_whatever_comes_after_it() {
        for shards in [1, 3] {
            let mut config = Config::new(vec!["192.0.2.0/28".parse().unwrap()]);
            config.shards = shards;
            let pref64s = Pref64s::single("2001:db8:64::/96".parse().unwrap());
            let plain = Nat64::new(config.clone(), pref64s.clone(), [1, 2]).unwrap();
            let mut one_by_one = plain.worker();
            let fetching = Nat64::new(config, pref64s, [1, 2]).unwrap();
            let mut together = fetching.worker();
            for round in 0..40_u16 {
                let now = Instant::from_secs(10 + u64::from(round) * 20);
                // Known and new ones, more than are looked at, in another order than they come.
                let numbers: Vec<u16> = (0..20).map(|one| (round * 7 + one * 3) % 100).collect();
                let upcoming: Vec<UpcomingFlow> = numbers
                    .iter()
                    .map(|one| UpcomingFlow::V6(flow(*one)))
                    .collect();
                together.prefetch(&upcoming);
                for number in numbers.iter().rev().chain(&numbers) {
                    let flow = flow(*number);
                    let expected = one_by_one.map_v6(&flow, now).unwrap();
                    assert_eq!(together.map_v6(&flow, now), Ok(expected));
                    let back = Flow {
                        src: expected.dst,
                        dst: expected.src,
                        protocol: flow.protocol,
                        ports: expected.ports.map(|ports| Ports {
                            src: ports.dst,
                            dst: ports.src,
                        }),
                        tcp_flags: 0,
                        fragment: None,
                    };
                    together.prefetch(&[UpcomingFlow::V4(back)]);
                    let inward = one_by_one.map_v4(&back, Pass::First, now);
                    assert_eq!(together.map_v4(&back, Pass::First, now), inward);
                }
                plain.expire(now, 1000);
                fetching.expire(now, 1000);
                assert_eq!(plain.counts(), fetching.counts());
            }
        }
    }
}
