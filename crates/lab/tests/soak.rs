//! A short soak of the stateful translator; `cargo lab soak` is the long one.

use std::time::Duration;

use anyhow::Result;
use lab::binaries::Binaries;
use lab::load::{Load, run};
use lab::suite::Test;

const TESTS: &[Test] =
    lab::tests![ten_thousand_sessions_of_a_hundred_subscribers_come_and_go_without_a_trace];

fn main() {
    lab::suite::run(TESTS)
}

fn ten_thousand_sessions_of_a_hundred_subscribers_come_and_go_without_a_trace() -> Result<()> {
    let load = Load {
        subscribers: 100,
        sessions: 10_000,
        time: Duration::from_secs(6),
        lifetime: Duration::from_secs(3),
        churn: 50,
    };
    let outcome = run(&Binaries::find()?, &load, |_| {})?;
    outcome.check(&load)
}
