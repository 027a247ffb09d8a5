//! The documents hold where readers would notice: their tables are well-formed, and the files that
//! they name exist.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "this test reads the tree")]

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_table_has_a_header_and_rows_of_its_width() {
    for file in documents() {
        let text = fs::read_to_string(&file).unwrap();
        let faults = broken_rows(&text);
        assert!(faults.is_empty(), "{}: {faults:#?}", file.display());
    }
}

#[test]
fn a_table_cut_in_two_by_a_blank_line_is_found() {
    let whole = "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4\\|5 |\n";
    assert_eq!(broken_rows(whole), Vec::<String>::new());
    let cut = "| a | b |\n|---|---|\n| 1 | 2 |\n\n| 3 | 4 |\n";
    assert_eq!(broken_rows(cut), ["line 5: no header: | 3 | 4 |"]);
    let narrow = "| a | b |\n|---|---|\n| 1 |\n";
    assert_eq!(broken_rows(narrow), ["line 3: 1 cells, not 2: | 1 |"]);
}

/// The pages about the sources, against the sources: a file that is moved takes its name along.
#[test]
fn every_file_that_is_named_exists() {
    let mut files = Vec::new();
    tree(&root(), "", &mut files);
    for page in [
        "docs/architecture.md",
        "docs/conformance.md",
        "CONTRIBUTING.md",
    ] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let missing: Vec<String> = named_files(&text)
            .filter(|name| !is_in(name, &files))
            .collect();
        assert!(missing.is_empty(), "{page} names {missing:?}");
    }
}

#[test]
fn a_file_that_does_not_exist_is_found() {
    let text = "`gro/{flow,tests}.rs`, `icmp/`, `a.b/96`, `/dev/net/tun`, `x y.rs`, `v6.rs`";
    let named: Vec<String> = named_files(text).collect();
    assert_eq!(named, ["gro/flow.rs", "gro/tests.rs", "icmp", "v6.rs"]);
    let files = ["crates/x/src/gro/flow.rs", "crates/x/src/icmp"].map(str::to_owned);
    let missing = named.iter().filter(|name| !is_in(name, &files));
    assert_eq!(missing.collect::<Vec<_>>(), ["gro/tests.rs", "v6.rs"]);
}

/// Files and folders that stand in backticks, with braces expanded.
fn named_files(text: &str) -> impl Iterator<Item = String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let paths = quoted.filter(|name| {
        let is_path = name.ends_with(".rs") || name.ends_with(".md") || name.contains('/');
        let may_be_path = |c: char| c.is_ascii_alphanumeric() || "_-./{},".contains(c);
        let last = name.rsplit('/').next().unwrap_or_default();
        let is_length = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
        is_path && name.chars().all(may_be_path) && !name.starts_with('/') && !is_length
    });
    paths.flat_map(|name| expand(name.trim_end_matches('/')))
}

/// `a{b,c}d` is `abd` and `acd`.
fn expand(name: &str) -> Vec<String> {
    let Some((head, rest)) = name.split_once('{') else {
        return vec![name.to_owned()];
    };
    let (choices, tail) = rest.split_once('}').unwrap();
    let each = choices.split(',').map(|one| format!("{head}{one}{tail}"));
    each.collect()
}

/// A page may leave out the folders in front.
fn is_in(name: &str, files: &[String]) -> bool {
    files.iter().any(|file| {
        let front = file.strip_suffix(name);
        front.is_some_and(|front| front.is_empty() || front.ends_with('/'))
    })
}

/// All files and folders below `folder`, from the root on.
fn tree(folder: &Path, front: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name == "target" || name == ".git" {
            continue;
        }
        let path = format!("{front}{name}");
        if entry.path().is_dir() {
            tree(&entry.path(), &format!("{path}/"), files);
        }
        files.push(path);
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// README, change log, contributing guide and everything in `docs/`.
fn documents() -> Vec<PathBuf> {
    let root = root();
    let docs = fs::read_dir(root.join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = docs
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect();
    files.extend(["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|name| root.join(name)));
    files
}

/// Rows that belong to no table, or have another number of cells than its header.
fn broken_rows(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut faults = Vec::new();
    let mut width = None;
    let mut is_code = false;
    for (number, line) in lines.iter().enumerate() {
        is_code ^= line.trim_start().starts_with("```");
        if is_code || !line.starts_with('|') {
            width = None;
            continue;
        }
        let place = number + 1;
        match width {
            None if lines.get(number + 1).is_some_and(|next| is_rule(next)) => {
                width = Some(cells(line));
            }
            None => faults.push(format!("line {place}: no header: {line}")),
            Some(width) if cells(line) != width => {
                let has = cells(line);
                faults.push(format!("line {place}: {has} cells, not {width}: {line}"));
            }
            Some(_) => {}
        }
    }
    faults
}

fn is_rule(line: &str) -> bool {
    line.starts_with("|-") && line.chars().all(|c| "|-: ".contains(c))
}

/// Cells of a row; `\|` is part of a cell.
fn cells(line: &str) -> usize {
    let bars = line.matches('|').count() - line.matches("\\|").count();
    bars.saturating_sub(1)
}
