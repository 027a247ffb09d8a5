//! Runs the namespace tests of a test target (`harness = false`).
//!
//! Where the laboratory cannot be built, each test is reported as ignored, with the reason in front
//! of its name: the standard harness cannot decide that while it runs.

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};

use crate::privilege;
use crate::process::become_daemon_if_asked;

/// A test: its name, and what to run.
pub type Test = (&'static str, fn() -> Result<()>);

/// Makes a list of [`Test`]s from functions.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), $name as fn() -> anyhow::Result<()>)),*]
    };
}

/// The whole `main` of a test target.
pub fn run(tests: &'static [Test]) -> ! {
    become_daemon_if_asked();
    let arguments = Arguments::from_args();
    let missing = privilege::acquire().err();
    let trials = tests.iter().map(|(name, test)| {
        let trial = Trial::test(*name, move || {
            Ok(test().map_err(|error| format!("{error:#}"))?)
        });
        match &missing {
            Some(reason) => trial.with_kind(reason.to_string()).with_ignored_flag(true),
            None => trial,
        }
    });
    libtest_mimic::run(&arguments, trials.collect()).exit()
}
