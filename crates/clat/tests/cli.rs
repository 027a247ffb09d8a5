//! The command line of `clat` from outside: what it prints and how it ends. Nothing here needs
//! privileges, and nothing changes the host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::process::{Command, Output};

fn clat(args: &[&str]) -> Output {
    let state = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_clat"))
        .args(args)
        .arg("--state-dir")
        .arg(state.path())
        .output()
        .unwrap()
}

/// Runs `clat`, which must end with `code` and one line that contains `words`.
#[track_caller]
fn complains(args: &[&str], code: i32, words: &str) {
    // What a dry run says of the fast path is no complaint.
    let output = clat(&[args, &["--quiet"]].concat());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    assert!(text.starts_with("clat: ") && text.contains(words), "{text}");
    assert!(output.stdout.is_empty());
}

#[test]
fn an_unusable_flag_ends_with_code_2_and_one_line() {
    complains(&["--no-host-setup"], 2, "--no-host-setup needs --prefix");
    complains(
        &["--prefix=2001:db8::/97"],
        2,
        "32, 40, 48, 56, 64 or 96 bits long, not 97",
    );
    complains(&["--prefix=2001:db8::1/96"], 2, "host bits");
    complains(&["--prefix=2001:db8::/96", "--mtu=1279"], 2, "1279");
    complains(
        &["--prefix=2001:db8::/96", "--mtu=1300", "--mtu4=1290"],
        2,
        "at most 1280",
    );
    complains(
        &["--prefix=2001:db8::/96", "--ipv6=2001:db8::1"],
        2,
        "lies in the NAT64 prefix",
    );
    complains(
        &["--prefix=2001:db8::/96", "--tun=sixteen--letters"],
        2,
        "1 to 15 characters",
    );
    complains(
        &["--prefix=2001:db8::/96", "--frobnicate"],
        2,
        "--frobnicate",
    );
}

#[test]
fn an_unknown_interface_ends_with_code_1_and_says_where_to_look() {
    let flags = [
        "--prefix=2001:db8:64::/96",
        "--uplink=nowhere0",
        "--ipv6=2001:db8::1",
        "--dry-run",
    ];
    complains(&flags, 1, "no interface nowhere0; `ip link` lists");
}

#[test]
fn a_dry_run_prints_the_plan_as_commands() {
    let flags = [
        "--prefix=2001:db8:64::/96",
        "--uplink=lo",
        "--ipv6=2001:db8:1::c1a7",
    ];
    let output = clat(&[&flags[..], &["--mtu=1400", "--metric=77", "--dry-run"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // What the kernel at hand takes to forward is another matter.
    let forwarding = |line: &&str| {
        !["forwarding", "accept_ra", "nft "]
            .iter()
            .any(|word| line.contains(word))
    };
    let lines: Vec<&str> = text.lines().filter(forwarding).collect();
    let expected = [
        "ip tuntap add mode tun clat && ip link set clat mtu 1400 group 464 addrgenmode none",
        "sysctl -w net.ipv6.conf.clat.disable_ipv6=0",
        "ip link set clat up",
        "ip neighbour replace 0.0.0.0 dev clat nud permanent",
        "ip address add 192.0.0.1/32 dev clat",
        "ip -6 address add 2001:db8:1::c1a7/128 dev lo && \
         ip -6 address del 2001:db8:1::c1a7/128 dev lo",
        "ip neighbour replace 2001:db8:1::c1a7 dev clat nud permanent",
        "ip -6 route add 2001:db8:1::c1a7/128 dev clat proto 64",
        "ip route add default dev clat src 192.0.0.1 metric 77 mtu 1372 proto 64",
    ];
    assert_eq!(lines, expected);
    assert!(text.contains("forwarding=1"), "{text}");
}

#[test]
fn help_names_every_flag() {
    let output = Command::new(env!("CARGO_BIN_EXE_clat"))
        .arg("--help")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for flag in [
        "prefix",
        "uplink",
        "ipv4",
        "ipv6",
        "mtu",
        "mtu4",
        "metric",
        "always",
        "tun",
        "run-dir",
        "state-dir",
        "queues",
        "dry-run",
        "no-host-setup",
        "lowest-ipv6-mtu",
        "traffic-class",
        "tos",
        "udp-zero-checksum",
        "mss-clamp",
        "rfc6791-pool",
        "icmp-error-rate",
        "icmpv4-error-rate",
        "icmpv6-error-rate",
        "verify-quoted-checksum",
        "icmpv4-error-size",
        "log-format",
        "verbose",
        "quiet",
    ] {
        assert!(
            text.contains(&format!("--{flag}")),
            "--{flag} is not in --help"
        );
    }
}

#[test]
fn every_flag_of_help_is_in_the_documentation() {
    let output = Command::new(env!("CARGO_BIN_EXE_clat"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let page = std::fs::read_to_string(page).unwrap();
    let flags = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"));
    for flag in flags.filter(|flag| !["--help", "--version"].contains(flag)) {
        let flag = flag.trim_end_matches([',', '.', ';', ':', ')', ']']);
        assert!(
            page.contains(flag),
            "{flag} is not in docs/configuration.md"
        );
    }
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let mut clat = Command::new(env!("CARGO_BIN_EXE_clat"));
    let output = clat.args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn ui_05_where_no_daemon_runs_commands_end_with_code_3() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let (code, out, complaint) = run(&["status", "--run-dir", dir]);
    assert_eq!(code, Some(3), "{complaint}");
    assert!(out.is_empty(), "{out}");
    let expected = format!(
        "clat: no daemon runs there: {dir}/clat.sock does not answer; the --tun and --run-dir of the \
         running daemon are needed\n"
    );
    assert_eq!(complaint, expected);
}

#[test]
fn ui_05_a_dry_run_that_would_wait_ends_with_code_3() {
    // Nothing leads to IPv6 by the loopback interface of this host.
    let flags = ["--uplink=lo", "--dry-run", "--prefix=64:ff9b::/96"];
    let output = clat(&flags);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{complaint}");
    assert!(output.stdout.is_empty());
}

#[test]
fn ui_07_a_reason_is_explained_without_a_daemon() {
    let (code, text, _) = run(&["status", "--explain", "igmp"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        text,
        "igmp: IGMP, which has no counterpart\nwhat to do: nothing: it is harmless\n"
    );
}

#[test]
fn ui_05_the_help_of_each_command_has_its_exit_codes() {
    for command in ["run", "detect", "status", "recover"] {
        let (code, text, _) = run(&[command, "--help"]);
        assert_eq!(code, Some(0));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("3 nothing there"), "{command}: {text}");
    }
}

#[test]
fn ui_08_output_into_a_closed_pipe_is_no_error() {
    let uplink = [
        "--prefix=2001:db8:64::/96",
        "--uplink=lo",
        "--ipv6=2001:db8:1::c1a7",
        "--dry-run",
    ];
    for args in [&uplink[..], &["--help"], &["status", "--explain", "igmp"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut clat = Command::new(env!("CARGO_BIN_EXE_clat"));
        let output = clat.args(args).stdout(writer).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {complaint}");
        assert!(!complaint.contains("panicked"), "{complaint}");
    }
}

/// A journal as another program would write it: each line is whole, its checksum is right.
fn forged(key: &str) -> String {
    let json = format!("0 {{\"Sysctl\":{{\"key\":\"{key}\",\"ours\":\"1\",\"was\":\"0\"}}}}");
    format!("2 {:08x} {json}\n", crc32(json.as_bytes()))
}

/// CRC-32 (IEEE 802.3), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[test]
fn se_28_recover_writes_nothing_outside_of_the_network_parameters() {
    let dir = tempfile::tempdir().unwrap();
    let (run_dir, target) = (dir.path().join("run"), dir.path().join("x"));
    std::fs::create_dir(&run_dir).unwrap();
    std::fs::write(&target, "1").unwrap();
    // `.` and `/` change places in a key, as in sysctl(8).
    let swapped = target.display().to_string().replace('.', "\0");
    let key = swapped.replace('/', ".").replace('\0', "/");
    std::fs::write(run_dir.join("clat.journal"), forged(&format!("//.//{key}"))).unwrap();
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clat"));
        command.args(["recover", "--run-dir"]).arg(&run_dir);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    let (code, text) = run();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("is damaged in line 1"), "{text}");
    assert_eq!(std::fs::read(&target).unwrap(), b"1");

    // And none that others could have written is read.
    let journal = run_dir.join("clat.journal");
    std::os::unix::fs::symlink(&target, &journal).unwrap();
    let (code, text) = run();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("symbolic link"), "{text}");
    std::fs::remove_file(&journal).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&run_dir, mode).unwrap();
    let (code, text) = run();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("chmod go-w"), "{text}");
    assert_eq!(std::fs::read(&target).unwrap(), b"1");
}

#[test]
fn im_10_clat_import_makes_a_file_that_clat_accepts() {
    let sample = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../import/samples/clatd/clatd.conf"
    );
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("clat.toml");
    let run = |args: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_clat"))
            .args(args)
            .output()
            .unwrap()
    };
    let ended = run(&["import", sample, "--output", output.to_str().unwrap()]);
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{errors}");
    let text = std::fs::read_to_string(&output).unwrap();
    assert!(text.contains("\nuplink = \"wlan0\"  # "), "{text}");
    // A flag that contradicts the file shows that it was read as a whole.
    std::fs::write(&output, text + "\nfoo = 1\n").unwrap();
    let ended = run(&["--config", output.to_str().unwrap(), "--dry-run"]);
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(errors.contains("there is no `foo`"), "{errors}");
    let wrong = run(&[
        "import",
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../import/samples/tayga/tayga.conf"
        ),
    ]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("`plat import` reads it"));
}

#[test]
fn ui_16_the_short_help_is_one_screen_and_the_long_one_has_groups() {
    for args in [&["-h"][..], &["run", "-h"]] {
        let (code, text, _) = run(args);
        assert_eq!(code, Some(0));
        assert!(
            text.lines().count() <= 40,
            "{} lines: {text}",
            text.lines().count()
        );
        assert!(
            text.contains("--prefix") && text.contains("--config"),
            "{text}"
        );
        assert!(!text.contains("--icmpv4-error-size"), "{text}");
    }
    let (_, text, _) = run(&["--help"]);
    let headings: Vec<&str> = text
        .lines()
        .filter(|line| line.ends_with(':') && !line.starts_with(' '))
        .collect();
    assert!(headings.contains(&"Translation:"), "{headings:?}");
    assert_eq!(headings.last(), Some(&"Rarely used:"));
    let (_, rare) = text.split_once("Rarely used:").unwrap();
    assert!(
        rare.contains("--tun-queue-length") && !rare.contains("--dry-run"),
        "{rare}"
    );
}

#[test]
fn ui_17_the_long_version_says_for_what_it_was_compiled() {
    let (code, short, _) = run(&["-V"]);
    assert_eq!((code, short.lines().count()), (Some(0), 1), "{short}");
    let (code, long, _) = run(&["--version"]);
    assert_eq!(code, Some(0));
    assert!(
        long.starts_with(short.trim_end()) && long.contains("\ncommit    "),
        "{long}"
    );
    assert!(
        long.contains(std::env::consts::ARCH) && long.contains("\nfeatures  "),
        "{long}"
    );
}

#[test]
fn ui_18_older_names_of_flags_go_on_to_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("clat.toml");
    for name in ["lan", "lan-network"] {
        std::fs::write(&file, format!("{name} = [\"192.168.1.0/24\"]\n")).unwrap();
        let (code, text, complaint) = run(&["check", file.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{complaint}");
        assert!(
            text.contains("\nlan-network = [\"192.168.1.0/24\"]\n"),
            "{text}"
        );
    }
    std::fs::write(&file, "prefix = 64:ff9b::/96\n").unwrap();
    let (code, _, complaint) = run(&["check", file.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(
        complaint.contains("prefix = \"64:ff9b::/96\""),
        "{complaint}"
    );
}
