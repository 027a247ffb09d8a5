//! The workspace against itself: nothing is declared that nothing uses, and no test is forgotten.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "a test of files reads files")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn members() -> Vec<PathBuf> {
    let mut members = children(&root().join("crates"));
    members.push(root().join("fuzz"));
    members.retain(|member| member.join("Cargo.toml").is_file());
    assert!(members.len() > 5);
    members
}

/// The names in the tables of a manifest whose heading ends like this.
fn declared(manifest: &str, heading: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with(heading);
        } else if inside && line.starts_with(|first: char| first.is_ascii_alphabetic()) {
            names.extend(line.split([' ', '.', '=']).next().map(str::to_owned));
        }
    }
    names
}

/// All Rust sources below a folder, without comments: a name in prose is no use of a crate.
fn sources(folder: &Path, text: &mut String) {
    for path in children(folder) {
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = read(&path);
            let code = source
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            code.for_each(|line| *text += &format!("{line}\n"));
        }
    }
}

fn mentions(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut words = text.split(|c| !is_part(c));
    words.any(|word| word == name)
}

#[test]
fn every_dependency_is_used() {
    let mut unused = Vec::new();
    let mut wanted = BTreeSet::new();
    for member in members() {
        let manifest = read(&member.join("Cargo.toml"));
        let names = declared(&manifest, "dependencies]");
        let mut text = String::new();
        sources(&member, &mut text);
        if manifest.contains("../../examples") {
            sources(&root().join("examples"), &mut text);
        }
        // The macro names it.
        if text.contains("xlat_tun::counters!") {
            text += "serde";
        }
        let crates = names
            .iter()
            .filter(|name| !mentions(&text, &name.replace('-', "_")));
        unused.extend(crates.map(|name| format!("{name} of {}", member.display())));
        wanted.extend(names);
    }
    let workspace = declared(
        &read(&root().join("Cargo.toml")),
        "[workspace.dependencies]",
    );
    assert!(workspace.len() > 20);
    let nobodys = workspace.difference(&wanted);
    unused.extend(nobodys.map(|name| format!("{name} of the workspace")));
    assert!(unused.is_empty(), "unused: {unused:#?}");
}

/// Who adds a dependency says why; who takes one away takes the reason with it.
#[test]
fn every_dependency_has_a_reason_in_the_document() {
    let mut named = BTreeSet::new();
    let mut own = BTreeSet::new();
    for member in members() {
        let manifest = read(&member.join("Cargo.toml"));
        named.extend(declared(&manifest, "dependencies]"));
        own.extend(
            member
                .file_name()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    let foreign: BTreeSet<String> = named.difference(&own).cloned().collect();
    let document = read(&root().join("docs/dependencies.md"));
    let mut explained = BTreeSet::new();
    for line in document.lines() {
        let Some((name, reason)) = line
            .strip_prefix("| `")
            .and_then(|row| row.split_once("` | "))
        else {
            continue;
        };
        assert!(reason.trim_end_matches([' ', '|']).len() > 10, "{line}");
        assert!(explained.insert(name.to_owned()), "{name} is there twice");
    }
    assert!(foreign.len() > 30);
    assert_eq!(foreign, explained);
}

/// The DNS library reads names in other scripts by the crate `idna`; no program here asks it to. Version
/// 1.0 of its back end has no tables (`cargo update -p idna_adapter --precise 1.0.0`), which are
/// larger than all of the DNS64.
#[test]
fn no_tables_of_other_scripts_are_linked() {
    let lock = read(&root().join("Cargo.lock"));
    assert!(lock.contains("name = \"idna_adapter\"\nversion = \"1.0."));
    assert!(!lock.contains("\nname = \"icu_"));
}

#[test]
fn every_package_has_the_version_of_the_workspace() {
    let manifest = read(&root().join("Cargo.toml"));
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = \""));
    let version = version.unwrap().trim_end_matches('"');
    for (path, line) in [
        (
            "packaging/openwrt/Makefile",
            format!("PKG_VERSION:={version}\n"),
        ),
        (
            "packaging/nixos/package.nix",
            format!("version = \"{version}\";\n"),
        ),
        ("packaging/arch/PKGBUILD", format!("pkgver={version}\n")),
        ("README.md", format!("clat_{version}_amd64.deb")),
        ("CHANGELOG.md", format!("\n## {version}\n")),
    ] {
        assert!(read(&root().join(path)).contains(&line), "{path}: {line}");
    }
}

/// crates.io refuses a library without these, and one that needs a library which is not there.
#[test]
fn libraries_to_publish_have_what_the_registry_asks_for() {
    let workspace = read(&root().join("Cargo.toml"));
    let is_published = |manifest: &str| manifest.contains("\npublish = true\n");
    let mut published = BTreeSet::new();
    for member in members() {
        let manifest = read(&member.join("Cargo.toml"));
        if !is_published(&manifest) {
            continue;
        }
        let path = member.display();
        for field in [
            "description = ",
            "license",
            "keywords = [",
            "categories = [",
        ] {
            assert!(manifest.contains(&format!("\n{field}")), "{path}: {field}");
        }
        for name in declared(&manifest, "[dependencies]") {
            let directory = root().join("crates").join(&name);
            if !directory.is_dir() {
                continue;
            }
            let needed = read(&directory.join("Cargo.toml"));
            assert!(is_published(&needed), "{path} needs {name}");
            let line = format!("\n{name} = {{ version = ");
            assert!(workspace.contains(&line), "{name} has no version");
        }
        published.insert(member.file_name().unwrap().to_string_lossy().into_owned());
    }
    let expected = ["dns64", "nat64", "xlat-core", "xlat-proto"];
    assert_eq!(published, expected.map(str::to_owned).into());
}

/// A test of the laboratory that lacks its `harness = false` would be run by the standard harness,
/// which finds no test in it and passes.
#[test]
fn every_test_with_a_main_of_its_own_is_declared() {
    for member in members() {
        let manifest = read(&member.join("Cargo.toml"));
        for test in children(&member.join("tests")) {
            let source = match test.is_dir() {
                true => test.join("main.rs"),
                false => test.clone(),
            };
            let is_source = source
                .extension()
                .is_some_and(|extension| extension == "rs");
            if !is_source || !source.is_file() || !read(&source).contains("\nfn main()") {
                continue;
            }
            let name = test.file_stem().unwrap().to_string_lossy();
            let entry = format!("[[test]]\nname = \"{name}\"\nharness = false\n");
            assert!(
                manifest.contains(&entry),
                "{} lacks {entry}",
                member.display()
            );
        }
    }
}

#[test]
fn every_row_of_a_table_is_in_one_with_a_heading() {
    for path in children(&root().join("docs")) {
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = read(&path);
        let lines: Vec<&str> = text.lines().collect();
        for (number, pair) in lines.windows(3).enumerate() {
            let [before, first, second] = pair else {
                continue;
            };
            let begins = !before.starts_with('|') && first.starts_with('|');
            let place = format!("{}:{}", path.display(), number + 2);
            assert!(!begins || second.starts_with("|-"), "{place}: {first}");
        }
    }
}
