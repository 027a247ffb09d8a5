//! The documents are well-formed Markdown where readers would notice: their tables.

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

/// README, change log, contributing guide and everything in `docs/`.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
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
