//! Every fuzz target on its corpus and on ten thousand random inputs, on any compiler.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::path::Path;

use fuzz::{TARGETS, Target};

const RANDOM_INPUTS: u64 = 10_000;

/// Each line of a file is parsed as a command line.
const RANDOM_FILES: u64 = 1_000;

/// Each input is read in several formats.
const RANDOM_IMPORTS: u64 = 40;

/// A script stands for dozens of packets.
const RANDOM_SCRIPTS: u64 = 2_000;

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.0 == name).unwrap()
}

/// SplitMix64: the same inputs in every run.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// Replays the corpus, then changes it at random places.
fn smoke(name: &str, inputs: u64) {
    let (_, body) = target(name);
    let seeds = corpus(name);
    assert!(!seeds.is_empty(), "no seeds for {name}");
    seeds.iter().for_each(|seed| body(seed));
    let mut state = 0x464;
    for number in 0..inputs {
        let mut input = seeds[random(&mut state) as usize % seeds.len()].clone();
        for _ in 0..=number % 8 {
            let value = random(&mut state);
            let at = (value >> 16) as usize % input.len();
            match value % 4 {
                0 => input[at] = value as u8 >> 2,
                1 => input[at] ^= 1 << (value >> 8 & 7),
                2 => input.truncate(at.max(1)),
                _ => input.extend_from_within(..at),
            }
            input.truncate(9000);
        }
        body(&input);
    }
}

#[test]
fn v4_to_v6() {
    smoke("v4_to_v6", RANDOM_INPUTS);
}

#[test]
fn v6_to_v4() {
    smoke("v6_to_v4", RANDOM_INPUTS);
}

#[test]
fn icmp_errors() {
    smoke("icmp_errors", RANDOM_INPUTS);
}

#[test]
fn offload() {
    smoke("offload", RANDOM_INPUTS);
}

#[test]
fn stateful() {
    smoke("stateful", RANDOM_SCRIPTS);
}

#[test]
fn parsers() {
    smoke("parsers", RANDOM_INPUTS);
}

#[test]
fn se_01_router_messages() {
    smoke("routers", RANDOM_INPUTS);
}

#[test]
fn se_01_configuration_files() {
    smoke("config", RANDOM_FILES);
}

#[test]
fn dns64() {
    smoke("dns64", RANDOM_INPUTS);
}

#[test]
fn se_01_requests_for_external_ports() {
    smoke("pcp_server", RANDOM_INPUTS);
}

#[test]
fn se_01_what_hosts_and_servers_say_to_the_pcp_proxy() {
    smoke("pcp_proxy", RANDOM_INPUTS);
}

#[test]
fn se_01_files_of_the_run_before() {
    smoke("files", RANDOM_INPUTS);
}

#[test]
fn se_01_requests_to_the_control_socket() {
    smoke("control", RANDOM_INPUTS);
}

/// Each target has a file, a line in the manifest, seeds, and a place in the command that the documents
/// give.
#[test]
fn the_documented_command_names_every_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let (manifest, document) = (read("Cargo.toml"), read("../docs/security.md"));
    let command = document
        .lines()
        .skip_while(|line| !line.starts_with("for target in"));
    let command: Vec<&str> = command
        .take_while(|line| !line.starts_with("done"))
        .collect();
    let (list, body) = command.split_at(
        command
            .iter()
            .position(|line| line.contains("; do"))
            .unwrap()
            + 1,
    );
    let list = list.join(" ").replace('\\', " ");
    let list = list
        .strip_prefix("for target in")
        .unwrap()
        .replace("; do", "");
    let named: Vec<&str> = list.split_whitespace().collect();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.0).collect();
    assert_eq!(named, names);
    let body = body.join(" ");
    assert!(
        body.contains("RUSTC_BOOTSTRAP=1 cargo fuzz run") && body.contains("--features libfuzzer")
    );
    for name in names {
        assert!(manifest.contains(&format!(
            "name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\""
        )));
        let target = read(&format!("fuzz_targets/{name}.rs"));
        assert!(target.contains(&format!("fuzz::{name}(data)")), "{name}");
    }
}

#[test]
fn im_02_configurations_of_other_programs() {
    let imports = TARGETS
        .iter()
        .filter(|(name, _)| name.starts_with("import_"));
    imports.for_each(|(name, _)| smoke(name, RANDOM_IMPORTS));
}
