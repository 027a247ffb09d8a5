//! `plat`: the provider side of 464XLAT (RFC 6877).

use std::process::ExitCode;

fn main() -> ExitCode {
    plat::main()
}
