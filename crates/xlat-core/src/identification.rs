//! Identification numbers for IPv4 packets that may be fragmented behind us (RFC 7915 section
//! 5.1, RFC 6864): they must not repeat soon for the same source, destination and protocol, and
//! hosts must not be able to guess them (RFC 7739).
//!
//! A table of counters with random starts, picked by a keyed hash of the three: two tuples seldom
//! share a counter, and sharing one only makes it run faster. Each worker thread numbers in a lane
//! of its own, the high bits of the number, so two workers never give out the same one for a
//! tuple, and numbers of packets that follow each other count up by one.

use alloc::boxed::Box;
use core::net::Ipv4Addr;

use pnet_packet::ip::IpNextHeaderProtocol;

/// Counters of one worker: a power of two.
const COUNTERS: usize = 2048;

/// Gives out identifications.
#[derive(Clone, Debug)]
pub struct Identifications {
    key: [u64; 2],
    counters: Box<[u16]>,
    /// This worker's number, in the high bits.
    lane: u16,
    /// The low bits, which count.
    mask: u16,
    random: u64,
    workers: u16,
}

impl Identifications {
    /// A generator keyed with `seed`, a random number. `lane` is this worker's number among
    /// `lanes` workers that translate the same tuples; lanes are rounded up to a power of two.
    pub fn new(seed: [u64; 2], lane: u16, lanes: u16) -> Self {
        let mut random = seed[0] ^ seed[1].rotate_left(32) ^ u64::from(lane);
        let counters = (0..COUNTERS)
            .map(|_| split_mix(&mut random) as u16)
            .collect();
        let workers = lanes.max(1);
        let lanes = lanes.clamp(1, 1 << 12).next_power_of_two();
        let counting = u16::BITS - lanes.trailing_zeros();
        Self {
            key: seed,
            counters,
            lane: ((u32::from(lane % lanes)) << counting) as u16,
            mask: ((1u32 << counting) - 1) as u16,
            random,
            workers,
        }
    }

    /// The same where no more than `workers` of the lanes are those of workers, which share the rate
    /// of ICMP errors: the kernel's fast path numbers in another one.
    #[must_use]
    pub const fn shared_by(mut self, workers: u16) -> Self {
        self.workers = workers;
        self
    }

    /// How many workers there are, this one included.
    pub(crate) const fn workers(&self) -> u16 {
        self.workers
    }

    /// A hash that hosts cannot predict.
    pub(crate) fn hash(&self, word: u64) -> u64 {
        folded_multiply(
            folded_multiply(word ^ self.key[0], self.key[1] | 1) ^ self.key[1],
            self.key[0] | 1,
        )
    }

    /// The identification of the next packet, and of the `count - 1` ones behind it: a super-packet
    /// is cut into packets that count up from the one it carries. All of them lie in this worker's
    /// lane, as long as the lane has so many.
    #[inline]
    pub fn next(
        &mut self,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        protocol: IpNextHeaderProtocol,
        count: u16,
    ) -> u16 {
        let hash = keyed_hash(self.key, src, dst, protocol);
        // The tuple's own offset keeps two tuples on one counter from telling about each other.
        let offset = (hash >> 48) as u16;
        let counter = hash as usize % COUNTERS;
        let number = self.counters[counter];
        let place = number.wrapping_add(offset) & self.mask;
        let skipped = self.skipped(place, count);
        self.counters[counter] = number.wrapping_add(skipped).wrapping_add(count);
        self.lane | place.wrapping_add(skipped) & self.mask
    }

    /// Numbers to leave out so that `count` of them from `place` on do not count on into the next
    /// lane. With one lane the numbers after the last are the first.
    #[inline]
    fn skipped(&self, place: u16, count: u16) -> u16 {
        let left = self.mask - place;
        if count.saturating_sub(1) <= left || self.mask == u16::MAX {
            0
        } else {
            left + 1
        }
    }

    /// A number that is random enough to pick one of several addresses.
    pub fn random_u32(&mut self) -> u32 {
        (split_mix(&mut self.random) >> 32) as u32
    }
}

/// Two rounds of multiply-and-fold with secret operands: without the key neither the counter nor
/// the offset of a tuple can be told from those of others.
#[inline]
fn keyed_hash(key: [u64; 2], src: Ipv4Addr, dst: Ipv4Addr, protocol: IpNextHeaderProtocol) -> u64 {
    let addresses = u64::from(src.to_bits()) << 32 | u64::from(dst.to_bits());
    let first = folded_multiply(addresses ^ key[0], key[1] | 1);
    folded_multiply(first ^ u64::from(protocol.0) ^ key[1], key[0] | 1)
}

#[inline]
fn folded_multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// SplitMix64: a sequence of well mixed numbers from any start.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use pnet_packet::ip::IpNextHeaderProtocols::Udp;

    const SRC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const DST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

    #[test]
    fn x6_04_no_number_repeats_for_a_tuple_until_all_were_used_and_lanes_never_meet() {
        let lanes = 4;
        let mut seen = vec![false; 1 << 16];
        for lane in 0..lanes {
            let mut ids = Identifications::new([0x1234, 0x9876_5432_1fed_cba9], lane, lanes);
            for _ in 0..(1 << 16) / usize::from(lanes) {
                let id = ids.next(SRC, DST, Udp, 1);
                assert!(
                    !core::mem::replace(&mut seen[usize::from(id)], true),
                    "{id} twice"
                );
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }

    #[test]
    fn x6_04_a_super_packet_reserves_the_numbers_of_its_segments() {
        let mut ids = Identifications::new([1, 2], 0, 1);
        let first = ids.next(SRC, DST, Udp, 45);
        assert_eq!(ids.next(SRC, DST, Udp, 1), first.wrapping_add(45));
    }

    #[test]
    fn x6_04_a_super_packet_does_not_count_on_into_another_lane() {
        // 256 numbers in each of 256 lanes.
        for lane in [0, 7, 255] {
            let mut ids = Identifications::new([3, 4], lane, 256);
            let mut before = None;
            for count in [1, 45, 45, 45, 64, 63, 2, 256, 1, 200, 57, 255, 45].repeat(9) {
                let first = u32::from(ids.next(SRC, DST, Udp, count));
                let last = first + u32::from(count) - 1;
                assert_eq!((first >> 8, last >> 8), (lane.into(), lane.into()));
                // None is given out twice in a row.
                assert!(before.is_none_or(|before| first != before), "{first}");
                before = Some(last);
            }
        }
    }

    #[test]
    fn x6_04_numbers_of_two_destinations_tell_nothing_about_each_other() {
        let mut ids = Identifications::new([0xfeed_f00d_dead_beef, 0x0123_4567_89ab_cdef], 0, 1);
        let distances: Vec<u16> = (0..64)
            .map(|host| {
                let other = Ipv4Addr::new(198, 51, 100, host);
                ids.next(SRC, other, Udp, 1)
                    .wrapping_sub(ids.next(SRC, DST, Udp, 1))
            })
            .collect();
        let mut unique = distances.clone();
        unique.sort_unstable();
        unique.dedup();
        assert!(unique.len() > 56, "{distances:?}");
    }
}
