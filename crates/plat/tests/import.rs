//! `plat import` from outside: what it makes of the samples is accepted by `plat check`, and what is
//! refused leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn plat(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plat"))
        .args(args)
        .output()
        .unwrap()
}

fn samples(names: &[&str]) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../import/samples");
    let paths = names.iter().map(|name| folder.join(name));
    paths.map(|path| path.display().to_string()).collect()
}

/// Imports these samples into a new file of a new directory.
fn import(names: &[&str], more: &[&str]) -> (tempfile::TempDir, PathBuf, Output) {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("plat.toml");
    let files = samples(names);
    let mut args: Vec<&str> = vec!["import", "--output", output.to_str().unwrap()];
    args.extend(files.iter().map(String::as_str));
    args.extend(more);
    let ended = plat(&args);
    (dir, output, ended)
}

#[track_caller]
fn accepted(names: &[&str], more: &[&str]) -> String {
    let (_dir, output, ended) = import(names, more);
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{names:?}: {errors}");
    let text = fs::read_to_string(&output).unwrap();
    let checked = plat(&["check", output.to_str().unwrap()]);
    let errors = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{names:?}: {errors}\n{text}");
    text
}

#[test]
fn im_10_every_sample_becomes_a_file_that_plat_check_accepts() {
    for names in [
        &["tayga/tayga.conf"][..],
        &["tayga-siit/tayga.conf"],
        &["jool/nat64.json"],
        &["jool/nat64.json", "jool/bib.csv"],
        &["jool-siit/siit.json"],
        &["jool-commands/jool.sh"],
        &["tundra/tundra-nat64.conf"],
        &["radvd/radvd.conf"],
        &["unbound/unbound.conf"],
        &["named/named.conf.options"],
        // A gateway of four programs.
        &[
            "tayga/tayga.conf",
            "radvd/radvd.conf",
            "unbound/unbound.conf",
        ],
        &[
            "jool/nat64.json",
            "jool/bib.csv",
            "radvd/radvd.conf",
            "named/named.conf.options",
        ],
    ] {
        accepted(names, &[]);
    }
}

#[test]
fn im_03_leases_go_where_plat_will_look_for_them() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().to_str().unwrap();
    let names = ["tayga/tayga.conf", "tayga/dynamic.map"];
    let (_dir, output, ended) = import(&names, &[]);
    assert_eq!(ended.status.code(), Some(2));
    let text = String::from_utf8(ended.stderr).unwrap();
    assert!(text.contains("2 leases: name the directory"), "{text}");
    assert!(!output.exists());

    accepted(&names, &["--state-dir", dir]);
    let leases = fs::read_to_string(state.path().join("dynamic.map")).unwrap();
    assert!(leases.starts_with("464xlat dynamic.map 2\n"), "{leases}");
    assert!(
        leases.contains("\n192.168.255.78 2001:db8:1::78 1790000100\n"),
        "{leases}"
    );
    let (_dir, output, ended) = import(&names, &["--state-dir", dir]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        String::from_utf8(ended.stderr)
            .unwrap()
            .contains("is there already")
    );
    assert!(!output.exists());
}

#[test]
fn im_09_what_is_refused_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let conf = path("tayga.conf");
    fs::write(
        &conf,
        "tun-device nat64\nipv4-addr 192.0.2.1\nprefx 2001:db8::/96\n",
    )
    .unwrap();
    let output = path("plat.toml");
    let refused = plat(&["import", &conf, "--output", &output]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(
        text.contains(
            "tayga.conf:3:1: there is no directive of TAYGA `prefx`; did you mean `prefix`?"
        ),
        "{text}"
    );
    assert!(
        text.ends_with("plat: nothing is imported: 1 errors\n"),
        "{text}"
    );
    assert!(!Path::new(&output).exists() && refused.stdout.is_empty());

    // Right for TAYGA, and nothing that plat could run with.
    fs::write(
        &conf,
        "tun-device nat64\nipv4-addr 192.0.2.1\nprefix 2001:db8::/96\n\
                      map 192.0.2.1 2001:db8:9::1\n",
    )
    .unwrap();
    let refused = plat(&["import", &conf, "--output", &output]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(
        text.starts_with("plat: plat would not start with what was imported: "),
        "{text}"
    );
    assert!(!Path::new(&output).exists());

    for (args, code, words) in [
        (&["import"][..], 2, "required"),
        (
            &["import", "/nowhere/x.conf"],
            1,
            "/nowhere/x.conf: No such file",
        ),
        (
            &["import", &conf, "--format", "foo"],
            2,
            "possible values: tayga, ",
        ),
        (
            &["import", &samples(&["clatd/clatd.conf"])[0]],
            1,
            "`clat import` reads it",
        ),
    ] {
        let ended = plat(args);
        let text = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{text}");
        assert!(text.contains(words), "{text}");
    }

    // A file that is there stays.
    let own = path("own.toml");
    fs::write(&own, "mine").unwrap();
    let ended = plat(&[
        "import",
        &samples(&["tayga/tayga.conf"])[0],
        "--output",
        &own,
    ]);
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
}
