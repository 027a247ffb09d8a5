//! Runs the namespace tests of a test target (`harness = false`).
//!
//! Where the laboratory cannot be built, each test is reported as ignored, with the reason in front
//! of its name: the standard harness cannot decide that while it runs.
//!
//! A test that fails is run once more while no other runs: these tests share two processors with
//! each other, and what one of them waits for may come late. The first failure is printed whole, so
//! that it is seen. [`ONCE`] in the environment makes it count.

use std::env;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};

use crate::privilege;
use crate::process::become_daemon_if_asked;

/// A test: its name, and what to run.
pub type Test = (&'static str, fn() -> Result<()>);

/// The environment variable with which the first failure of a test is final.
pub const ONCE: &str = "LAB_ONCE";

/// Tests run beside each other with a read lock, a second attempt alone with the write lock.
static RUNNING: RwLock<()> = RwLock::new(());

/// Makes a list of [`Test`]s from functions.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), $name as fn() -> anyhow::Result<()>)),*]
    };
}

/// The whole `main` of a test target.
pub fn run(tests: &'static [Test]) -> ! {
    run_groups(&[tests], &[])
}

/// The `main` of a test target that consists of several modules: the tests of each, and what
/// [`run_with_programs`] takes.
pub fn run_groups(
    groups: &[&'static [Test]],
    needed: &'static [(&'static str, &'static str)],
) -> ! {
    become_daemon_if_asked();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert_with(threads);
    let missing = privilege::acquire().err();
    let tests = groups.iter().copied().flatten();
    let trials = tests.map(|(name, test)| {
        let trial = Trial::test(*name, move || {
            Ok(attempt(name, *test).map_err(|error| format!("{error:#}"))?)
        });
        let absent = needed
            .iter()
            .find(|(test, program)| test == name && !Path::new(program).is_file());
        match (&missing, absent) {
            (Some(reason), _) => trial.with_kind(reason.to_string()).with_ignored_flag(true),
            (None, Some((_, program))) => trial
                .with_kind(format!("{program} is not installed"))
                .with_ignored_flag(true),
            (None, None) => trial,
        }
    });
    libtest_mimic::run(&arguments, trials.collect()).exit()
}

/// Twice as many as processors: these tests wait for daemons and timers more than they compute.
fn threads() -> usize {
    2 * std::thread::available_parallelism().map_or(1, usize::from)
}

#[expect(clippy::print_stderr, reason = "a test's first failure")]
fn attempt(name: &str, test: fn() -> Result<()>) -> Result<()> {
    let first = {
        let _beside_others = RUNNING.read().unwrap_or_else(PoisonError::into_inner);
        test()
    };
    let Err(error) = first else {
        return Ok(());
    };
    if env::var_os(ONCE).is_some() {
        return Err(error);
    }
    eprintln!("{name} failed and is run once more, alone: {error:#}");
    let _alone = RUNNING.write().unwrap_or_else(PoisonError::into_inner);
    test()
}

/// The same, with tests that need a program of the system: the test's name, and where the program
/// is. Where it is not, the test is ignored and its name says why.
pub fn run_with_programs(tests: &'static [Test], needed: &'static [(&str, &str)]) -> ! {
    run_groups(&[tests], needed)
}
