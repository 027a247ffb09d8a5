//! The command blocks of the documentation: what a page says one types and sees is what happens.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::binaries::Binaries;
use lab::installed::PATIENCE;
use lab::pages::scene::PROGRAMS;
use lab::pages::{blocks, run};
use lab::suite::Test;

const TESTS: &[Test] = lab::tests![
    laptop,
    gateway,
    router,
    carrier,
    concepts,
    readme,
    no_page_is_left_out,
    a_page_that_shows_something_else_fails,
];

fn main() {
    let pairs = TESTS
        .iter()
        .flat_map(|(test, _)| PROGRAMS.iter().map(|program| (*test, *program)));
    let needed: Vec<(&str, &str)> = pairs.collect();
    lab::suite::run_with_programs(TESTS, Vec::leak(needed))
}

fn laptop() -> Result<()> {
    page("docs/start-laptop.md")
}

fn gateway() -> Result<()> {
    page("docs/start-gateway.md")
}

fn router() -> Result<()> {
    page("docs/start-router.md")
}

fn carrier() -> Result<()> {
    page("docs/start-carrier.md")
}

fn concepts() -> Result<()> {
    page("docs/concepts.md")
}

fn readme() -> Result<()> {
    page("README.md")
}

/// Each page with a block that is to be run has its test above.
fn no_page_is_left_out() -> Result<()> {
    let tested = include_str!("pages.rs");
    let mut pages = vec![PathBuf::from("README.md")];
    for folder in ["docs", "examples", "packaging"] {
        below(Path::new(folder), &mut pages)?;
    }
    for page in pages {
        let all = blocks(&std::fs::read_to_string(root().join(&page))?);
        let is_run = all.iter().any(|one| one.value("run").is_some());
        let is_tested = tested.contains(&format!("page(\"{}\")", page.display()));
        ensure!(is_run == is_tested, "{}: no test", page.display());
    }
    Ok(())
}

fn below(folder: &Path, pages: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(root().join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            below(&path, pages)?;
        } else if path.extension().is_some_and(|ending| ending == "md") {
            pages.push(path);
        }
    }
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> Result<()> {
    let path = root().join(name);
    let text = std::fs::read_to_string(&path)?;
    let all = blocks(&text);
    let count = all.iter().filter(|one| one.value("run").is_some()).count();
    ensure!(count > 0, "{name} has nothing that is run");
    run(&path, &Binaries::find()?, PATIENCE, &mut |_| {})
}

fn a_page_that_shows_something_else_fails() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("page.md");
    let shown = "```console run=carrier\n$ echo one\none\n$ echo two\nthree\n```\n";
    std::fs::write(&path, shown)?;
    let mut told = Vec::new();
    let tell = &mut |line: &str| told.push(line.trim().to_owned());
    let error = run(&path, &Binaries::find()?, Duration::ZERO, tell).err();
    let error = format!("{:#}", error.context("nothing was missed")?);
    ensure!(error.contains("page.md:1"), "{error}");
    ensure!(error.contains("without the line\n    three"), "{error}");
    ensure!(told == ["$ echo one", "one", "$ echo two"], "{told:?}");
    Ok(())
}
