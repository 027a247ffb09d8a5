//! `cargo lab page`: the command blocks of pages of the documentation.

#![expect(clippy::print_stdout, reason = "standard output is what this is for")]

use anyhow::Result;
use lab::binaries::Binaries;
use lab::installed::PATIENCE;

use crate::cli::Page;

/// Runs each page in networks of its own and prints what there is to see.
///
/// # Errors
/// When a page cannot be read, or does not say what happens.
pub(crate) fn run(page: &Page, binaries: &Binaries) -> Result<bool> {
    for file in &page.files {
        println!("{}", file.display());
        lab::pages::run(file, binaries, PATIENCE, &mut |line| println!("  {line}"))?;
    }
    Ok(true)
}
