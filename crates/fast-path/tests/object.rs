//! The object in the repository stems from the source beside it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::fmt::Write;
use std::path::Path;

use ring::digest::{SHA256, digest};

#[test]
fn kp_07_the_object_was_compiled_from_this_source() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bpf");
    let recorded = std::fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let mut names = Vec::new();
    for line in recorded.lines() {
        let (wanted, name) = line.split_once("  ").unwrap();
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let mut found = String::new();
        for byte in digest(&SHA256, &bytes).as_ref() {
            write!(found, "{byte:02x}").unwrap();
        }
        assert_eq!(
            found, wanted,
            "{name} has changed: run crates/fast-path/bpf/build"
        );
        names.push(name);
    }
    assert_eq!(
        names,
        ["addresses.h", "maps.h", "fast_path.bpf.c", "fast_path.o"]
    );
}
