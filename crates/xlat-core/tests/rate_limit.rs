//! The token bucket never lets more pass than it was told to, whatever the clock does.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;
use xlat_core::Instant;
use xlat_core::bucket::TokenBucket;

const SECOND: u64 = 1_000_000_000;

/// Steps of a clock in nanoseconds: bursts, pauses, and now and then a jump back.
fn steps() -> impl Strategy<Value = Vec<i64>> {
    let second = SECOND as i64;
    let step = prop_oneof![
        4 => Just(0),
        4 => 0..second / 1000,
        2 => 0..second,
        1 => 0..100 * second,
        1 => -10 * second..0,
    ];
    vec(step, 1..150)
}

fn times(steps: &[i64]) -> impl Iterator<Item = u64> {
    steps.iter().scan(0, |now: &mut u64, step| {
        *now = now.saturating_add_signed(*step);
        Some(*now)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn eg_05_no_span_of_time_sees_more_than_the_burst_and_the_rate(
        rate in 1u32..2_000_000, burst in 0u32..60, steps in steps(),
    ) {
        let mut bucket = TokenBucket::new(rate, burst);
        let mut latest = 0;
        let mut passed: Vec<u64> = Vec::new();
        for now in times(&steps) {
            // Time that went back has not passed twice.
            latest = latest.max(now);
            if bucket.take(Instant::from_nanos(now)) {
                passed.push(latest);
            }
        }
        for (first, from) in passed.iter().enumerate() {
            for (last, until) in passed.iter().enumerate().skip(first) {
                let refilled = u128::from(until - from) * u128::from(rate) / u128::from(SECOND);
                let most = u128::from(burst) + refilled;
                prop_assert!((last - first + 1) as u128 <= most, "{rate}/s, {burst} at once");
            }
        }
    }

    #[test]
    fn eg_05_what_was_asked_for_no_faster_than_the_rate_passes(
        rate in 1u32..10_000, burst in 1u32..60, jitter in vec(0..SECOND, 1..200),
    ) {
        let gap = SECOND.div_ceil(u64::from(rate));
        let mut bucket = TokenBucket::new(rate, burst);
        let mut now = 0;
        for late in jitter {
            prop_assert!(bucket.take(Instant::from_nanos(now)));
            now += gap + late;
        }
    }

    #[test]
    fn eg_05_the_bucket_is_the_one_that_counts_by_hand(
        rate in prop::sample::select(vec![1u32, 2, 4, 5, 8, 10, 100, 1000]),
        burst in 0u32..20, steps in steps(),
    ) {
        // At most `burst` events whose credit is not back yet; each takes its turn to come back.
        let mut bucket = TokenBucket::new(rate, burst);
        let cost = SECOND / u64::from(rate);
        let mut back: VecDeque<u64> = VecDeque::new();
        let mut latest = 0;
        for now in times(&steps) {
            latest = latest.max(now);
            while back.front().is_some_and(|time| *time <= latest) {
                back.pop_front();
            }
            let passes = back.len() < burst as usize;
            if passes {
                back.push_back(back.back().copied().unwrap_or(latest) + cost);
            }
            prop_assert_eq!(bucket.take(Instant::from_nanos(now)), passes);
        }
    }
}

#[test]
fn eg_05_a_rate_that_does_not_divide_a_second_is_not_exceeded() {
    let mut bucket = TokenBucket::new(1_500_000, 1);
    let ten_millis = (0..10_000_000).step_by(2);
    let passed = ten_millis
        .filter(|nanos| bucket.take(Instant::from_nanos(*nanos)))
        .count();
    assert!((14_900..=15_000).contains(&passed), "{passed}");
}
