//! The classic topology of `examples/`: one file on the gateway, nothing on the client.

use anyhow::{Context, Result};
use lab::binaries::Binaries;
use lab::classic::{CHECKS, Classic};
use lab::suite::Test;

const TESTS: &[Test] = lab::tests![everything_of_the_how_to_works_with_two_programs];

fn main() {
    lab::suite::run(TESTS)
}

fn everything_of_the_how_to_works_with_two_programs() -> Result<()> {
    let network = Classic::new(&Binaries::find()?)?;
    for (what, check) in CHECKS {
        check(&network).with_context(|| format!("{what}: {}", network.plat.log()))?;
    }
    Ok(())
}
