//! The documents against the tree: every requirement has its row in `docs/conformance.md`, and
//! every test that is named there exists.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "this test reads the tree")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// The ids at the beginning of table rows: two characters, a dash, two digits.
fn ids(text: &str) -> Vec<&str> {
    let cells = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    cells
        .filter(|cell| {
            let bytes = cell.as_bytes();
            bytes.len() == 5
                && bytes[0].is_ascii_uppercase()
                && bytes[2] == b'-'
                && bytes[3..].iter().all(u8::is_ascii_digit)
        })
        .collect()
}

fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_requirement_has_its_row_once() {
    let requirements = document("requirements.md");
    let wanted = ids(&requirements);
    let unique: BTreeSet<_> = wanted.iter().copied().collect();
    assert_eq!(unique.len(), wanted.len(), "an id is given twice");
    assert!(unique.len() >= 348, "{}", unique.len());
    let conformance = document("conformance.md");
    let tables = conformance.split_once("\n## AD").unwrap().1;
    let rows = ids(tables);
    let missing: Vec<_> = unique.iter().filter(|id| !rows.contains(id)).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    assert_eq!(rows.len(), unique.len(), "a row too many");
}

#[test]
fn every_test_that_is_named_exists() {
    let mut text = String::new();
    sources(&root().join("crates"), &mut text);
    sources(&root().join("fuzz"), &mut text);
    let conformance = document("conformance.md");
    let tables = conformance.split_once("\n## AD").unwrap().1;
    let rows = tables
        .lines()
        .filter(|line| line.starts_with("| ") && line.matches('|').count() == 6);
    let mut named = 0;
    for row in rows {
        let shown_by = row.rsplit('|').nth(1).unwrap();
        for name in shown_by.split('`').skip(1).step_by(2) {
            assert!(
                text.contains(&format!("fn {name}(")),
                "{name} does not exist"
            );
            named += 1;
        }
    }
    assert!(named > 150, "{named}");
}

#[test]
fn what_is_done_names_a_test_or_a_reason() {
    let conformance = document("conformance.md");
    for row in conformance.lines().filter(|line| line.contains("| yes |")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert!(cells[5] != "-" || cells[4].contains(' '), "{row}");
    }
}

/// The rows of the table of drop reasons: those with the same explanation are in one.
fn reason_rows() -> Vec<String> {
    let mut rows: Vec<(xlat_core::Explanation, Vec<String>)> = Vec::new();
    for reason in xlat_core::DropReason::ALL {
        let (explanation, name) = (reason.explain(), format!("`{}`", reason.name()));
        match rows.iter_mut().find(|(known, _)| *known == explanation) {
            Some((_, names)) => names.push(name),
            None => rows.push((explanation, vec![name])),
        }
    }
    let row = |(explanation, names): &(xlat_core::Explanation, Vec<String>)| {
        let (meaning, remedy) = (explanation.meaning, explanation.remedy);
        format!("| {} | {meaning} | {remedy} |", names.join(", "))
    };
    rows.iter().map(row).collect()
}

#[test]
fn ui_07_the_table_of_drop_reasons_is_what_status_explains() {
    let operations = document("operations.md");
    let table = operations
        .split_once("| Reason | What it means | What to do |")
        .unwrap()
        .1;
    let rows = table.lines().skip(2).take_while(|line| !line.is_empty());
    let rows: Vec<&str> = rows.collect();
    let expected = reason_rows();
    assert_eq!(
        rows,
        expected,
        "the table is to be:\n{}",
        expected.join("\n")
    );
}

/// The metrics that the sources define, by how they are defined: `Metric::counter("name", ...)`.
fn metrics(text: &str) -> BTreeSet<&str> {
    ["counter", "gauge", "histogram"]
        .into_iter()
        .flat_map(|kind| {
            let definitions = text.split(kind).skip(1).filter_map(|behind| {
                let arguments = behind.strip_prefix('(')?.trim_start();
                arguments.strip_prefix('"')?.split('"').next()
            });
            definitions.filter(|name| is_metric(name))
        })
        .collect()
}

fn is_metric(name: &str) -> bool {
    let is_ours = ["xlat_", "clat_", "plat_"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    is_ours
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// So that a new metric takes its line in a table of counters and its row here, and nothing else.
#[test]
fn every_metric_is_explained_to_operators_and_no_other() {
    let mut text = String::new();
    sources(&root().join("crates"), &mut text);
    let defined = metrics(&text);
    assert!(defined.len() > 20, "{defined:?}");

    let operations = document("operations.md");
    let table = operations.split_once("| metric | labels |").unwrap().1;
    let rows = table.lines().take_while(|line| !line.is_empty()).skip(2);
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`'));
    let documented: BTreeSet<&str> = names.filter(|name| is_metric(name)).collect();

    let missing: Vec<_> = defined.difference(&documented).collect();
    assert!(missing.is_empty(), "{missing:?} not in docs/operations.md");
    let unknown: Vec<_> = documented.difference(&defined).collect();
    assert!(unknown.is_empty(), "no metrics: {unknown:?}");
}

/// An alert on a metric that nobody has would never fire.
#[test]
fn ui_09_alert_rules_ask_for_metrics_that_there_are() {
    let mut text = String::new();
    sources(&root().join("crates"), &mut text);
    let defined = metrics(&text);
    let folder = root().join("examples/prometheus");
    let rules = std::fs::read_to_string(folder.join("xlat.rules.yml")).unwrap();
    let expressions: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "))
        .collect();
    assert_eq!(expressions.len(), rules.matches("- alert: ").count());
    for expression in expressions {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let names = expression
            .split(|c| !is_name(c))
            .filter(|word| is_metric(word));
        let names: Vec<&str> = names.collect();
        assert!(!names.is_empty(), "{expression}");
        for name in names {
            assert!(defined.contains(name), "{name} in {expression}");
        }
    }
}
