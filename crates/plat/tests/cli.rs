//! The command line of `plat` from outside: what it prints and how it ends. Nothing here needs
//! privileges, and nothing changes the host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::path::Path;
use std::process::{Command, Output};

fn plat(args: &[&str]) -> Output {
    let state = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_plat"))
        .args(args)
        .arg("--state-dir")
        .arg(state.path())
        .output()
        .unwrap()
}

/// Runs `plat`, which must end with `code` and one line that contains `words`.
#[track_caller]
fn complains(args: &[&str], code: i32, words: &str) {
    // What a dry run says of the fast path is no complaint.
    let output = plat(&[args, &["--quiet"]].concat());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    assert!(text.starts_with("plat: ") && text.contains(words), "{text}");
    assert!(output.stdout.is_empty());
}

const PREFIX: &str = "--prefix=2001:db8:64::/96";

#[test]
fn an_unusable_flag_ends_with_code_2_and_one_line() {
    let bind = "--bind=tcp:192.0.2.1:80=[2001:db8::1]:80";
    complains(&[bind], 2, "--bind needs --pool");
    complains(
        &["--prefix=2001:db8::/97"],
        2,
        "32, 40, 48, 56, 64 or 96 bits long, not 97",
    );
    complains(&[PREFIX, "--dynamic-pool=192.168.64.1/24"], 2, "host bits");
    complains(&[PREFIX, "--dynamic-pool=192.168.64.0/30"], 2, "too small");
    complains(&["--dynamic-pool=192.168.64.0/24"], 2, "needs --prefix");
    complains(
        &[PREFIX, "--map=192.0.2.0/24=2001:db8::/121"],
        2,
        "has room for",
    );
    complains(
        &[PREFIX, "--map=192.0.2.1=2001:db8:64::1"],
        2,
        "overlaps --prefix",
    );
    complains(
        &[
            PREFIX,
            "--map=192.0.2.1=2001:db8::1",
            "--map=192.0.2.1=2001:db8::2",
        ],
        2,
        "twice",
    );
    complains(
        &[PREFIX, "--map=192.0.2.1=2001:db8::1", "--mtu=1279"],
        2,
        "1279",
    );
    complains(
        &[PREFIX, "--map=192.0.2.1=2001:db8::1", "--mtu4=67"],
        2,
        "67",
    );
}

#[test]
fn a_pool_that_holds_an_address_of_this_host_ends_with_code_1() {
    // 127.0.0.1 is the one address that every host has.
    let flags = [
        "--map=127.0.0.0/8=2001:db8:1::/104",
        "--ipv6=2001:db8:2::1",
        "--dry-run",
    ];
    complains(&flags, 1, "overlaps the address 127.0.0.1 of this host");
}

#[test]
fn a_file_is_checked_and_its_effect_printed() {
    let good =
        check("prefix = [\"64:ff9b::/96\"]\npool = [\"192.0.2.0/28\"]\n[ra]\ninterval = 10\n");
    let text = String::from_utf8(good.stdout).unwrap();
    assert_eq!(good.status.code(), Some(0));
    for line in [
        "prefix = [\"64:ff9b::/96\"]",
        "ra-interval = 10",
        "udp-timeout = \"5m\"",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in {text}");
    }
    for (text, expected) in [
        (
            "pol = [\"192.0.2.0/28\"]\n",
            "line 1: there is no `pol`; did you mean `pool`?",
        ),
        (
            "\nudp-timeout = \"soon\"\n",
            "line 2: udp-timeout: invalid value 'soon'",
        ),
        ("pool = [\"192.0.2.0/28\"]\n", "a pool needs --prefix"),
    ] {
        let bad = check(text);
        let complaint = String::from_utf8(bad.stderr).unwrap();
        assert_eq!(bad.status.code(), Some(2), "{complaint}");
        assert!(complaint.contains(expected), "{complaint}");
        assert_eq!(complaint.trim_end().lines().count(), 1, "{complaint}");
    }
}

/// `plat check` of a file with this text.
fn check(text: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plat.toml");
    std::fs::write(&file, text).unwrap();
    check_file(&file)
}

fn check_file(file: &Path) -> Output {
    let mut plat = Command::new(env!("CARGO_BIN_EXE_plat"));
    plat.arg("check").arg(file).output().unwrap()
}

#[test]
fn a_check_refuses_what_a_start_would() {
    const POOL: &str = "prefix = \"2001:db8:64::/96\"\npool = \"192.0.2.0/28\"\n";
    let wide = "egress = \"proxy-arp:eth0\"\npool = \"10.0.0.0/19\"\n";
    for (text, expected) in [
        (
            format!("{POOL}udp-timeout = \"5s\"\n"),
            "below the RFC's minimum",
        ),
        (
            format!("prefix = \"2001:db8:64::/96\"\n{wide}"),
            "answers for 4096 addresses at most",
        ),
        (
            format!("{POOL}dns64 = \"2001:db8::1\"\ndns64-upstream = \"2001:db8::1\"\n"),
            "is this DNS64 itself",
        ),
        ("udp-timeout = \"5s\"\n".into(), "below the RFC's minimum"),
        (
            "bind = \"tcp:192.0.2.1:80=[2001:db8::1]:80\"\n".into(),
            "--bind needs --pool",
        ),
        (
            "[ra]\ninterval = 600\nlifetime = 7\n".into(),
            "shorter than",
        ),
        (
            format!("{POOL}[[bind]]\nfrom = 80\n"),
            "line 3: bind: a list has plain values",
        ),
    ] {
        let output = check(&text);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}: {complaint}");
        assert!(complaint.contains(expected), "{text}: {complaint}");
    }
}

#[test]
fn a_check_tells_what_a_start_chooses() {
    let lines = |text: &str| {
        let output = check(text);
        assert_eq!(output.status.code(), Some(0), "{text}");
        String::from_utf8(output.stdout).unwrap()
    };
    let all = lines("ra = \"lan0\"\n");
    for line in [
        "lan = [\"lan0\"]",
        "# prefix: 64:ff9b::/96",
        "# ipv6: an address of this host, chosen at the start",
        "# ra-lifetime: 1800",
    ] {
        assert!(all.lines().any(|one| one == line), "{line} in {all}");
    }
    assert!(
        all.contains(
            "\n# pool: the IPv4 address of the interface of the IPv4 default route, ports \
             10000-32767, "
        ),
        "{all}"
    );
    let hidden = lines("egress = \"masquerade\"\n");
    assert!(
        hidden.contains("\n# pool: the first of 192.168.64.0/28, ")
            && hidden
                .contains("\n# egress masquerade: filtering and external ports are those of the"),
        "{hidden}"
    );
    let some = lines("prefix = \"2001:db8:64::/96\"\npool = \"192.0.2.0/28\"\n");
    for line in [
        "# egress: route",
        "# ipv4: 192.0.2.0",
        "# ipv6: 2001:db8:64::c000:200",
    ] {
        assert!(some.lines().any(|one| one == line), "{line} in {some}");
    }
    // What it prints can be checked again.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("again.toml");
    std::fs::write(&file, &some).unwrap();
    assert_eq!(String::from_utf8(check_file(&file).stdout).unwrap(), some);
}

#[test]
fn the_example_files_are_right() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    for example in [
        "examples/classic-topology/plat.toml",
        "examples/plat-carrier/plat.toml",
        "packaging/plat.toml",
    ] {
        let output = check_file(&root.join(example));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{example}: {complaint}");
    }
}

/// An administrator takes the `#` in front of a key away, never that in front of a sentence.
#[test]
fn what_the_packaged_file_suggests_is_right() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/plat.toml");
    let text = std::fs::read_to_string(file).unwrap();
    let suggested = text.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => format!("{key}\n"),
        _ => format!("{line}\n"),
    });
    let suggested = suggested.collect::<String>();
    assert!(suggested.contains("\nlisten = "), "{suggested}");
    let dir = tempfile::tempdir().unwrap();
    let changed = dir.path().join("plat.toml");
    std::fs::write(&changed, suggested).unwrap();
    let output = check_file(&changed);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{complaint}");
}

#[test]
fn a_dry_run_prints_the_plan_as_commands() {
    let flags = [
        PREFIX,
        "--dynamic-pool=192.168.64.0/24",
        "--map=192.0.2.1=2001:db8:1::1",
    ];
    let output = plat(&[&flags[..], &["--dry-run"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let host_specific = |line: &&str| !line.contains("net.ipv6.conf") || line.contains("nat64");
    let lines: Vec<&str> = text.lines().filter(host_specific).collect();
    let expected = [
        "ip tuntap add mode tun nat64 && ip link set nat64 mtu 1500 group 464 addrgenmode none",
        "sysctl -w net.ipv6.conf.nat64.disable_ipv6=0",
        "ip link set nat64 up",
        "ip neighbour replace 0.0.0.0 dev nat64 nud permanent",
        "ip neighbour replace fe80::1 dev nat64 nud permanent",
        "sysctl -w net.ipv4.ip_forward=1",
        "sysctl -w net.ipv4.conf.nat64.forwarding=1",
        "ip -6 route add 2001:db8:64::/96 via fe80::1 dev nat64 onlink proto 64",
        "ip route add 192.168.64.0/24 dev nat64 proto 64",
        "ip route add 192.0.2.1/32 dev nat64 proto 64",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn help_names_every_flag() {
    let output = Command::new(env!("CARGO_BIN_EXE_plat"))
        .arg("--help")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for flag in [
        "prefix",
        "map",
        "translatable",
        "dynamic-pool",
        "ipv4",
        "ipv6",
        "mtu",
        "mtu4",
        "wkp-strict",
        "hairpin",
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
    let output = Command::new(env!("CARGO_BIN_EXE_plat"))
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
        let flag = flag.trim_end_matches([',', '.', ';', ')', ']']);
        assert!(
            page.contains(flag),
            "{flag} is not in docs/configuration.md"
        );
    }
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let mut plat = Command::new(env!("CARGO_BIN_EXE_plat"));
    let output = plat.args(args).output().unwrap();
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
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["sessions"],
        &["sessions", "--follow"],
        &["reload"],
        &["whose", "192.0.2.1:4096"],
    ] {
        let (code, out, complaint) = run(&[command, &["--run-dir", dir]].concat());
        assert_eq!(code, Some(3), "{command:?}: {complaint}");
        assert!(out.is_empty(), "{out}");
        let expected = format!(
            "plat: no daemon runs there: {dir}/nat64.sock does not answer; the --tun and --run-dir of \
             the running daemon are needed\n"
        );
        assert_eq!(complaint, expected);
    }
}

#[test]
fn ui_01_a_filter_that_is_none_is_refused_before_anybody_is_asked() {
    for (flags, words) in [
        (&["--protocol", "sctp"][..], "--protocol"),
        (&["--client", "192.0.2.1"], "not an IPv6 address"),
        (&["--remote", "2001:db8::1"], "not an IPv4 address"),
        (&["--external", "192.0.2.1/24"], "not an IPv4 address"),
        (&["--state", "open"], "invalid value 'open'"),
        (&["--sort", "age"], "invalid value 'age'"),
        (&["--follow", "--sort", "bytes"], "cannot be used with"),
    ] {
        let (code, out, complaint) = run(&[&["sessions"], flags].concat());
        assert_eq!(code, Some(2), "{complaint}");
        assert!(out.is_empty() && complaint.contains(words), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
}

#[test]
fn ui_07_a_reason_is_explained_without_a_daemon() {
    let (code, text, _) = run(&["status", "--explain", "pool-exhausted"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        text,
        "pool-exhausted: no free address or port in the pool\n\
         what to do: enlarge the pool (`--pool`, `--dynamic-pool`); `plat status` names who has most\n"
    );
    let (code, _, complaint) = run(&["status", "--explain", "bad-luck"]);
    assert_eq!(code, Some(2), "{complaint}");
    assert!(
        complaint.contains("invalid value 'bad-luck'"),
        "{complaint}"
    );
}

#[test]
fn ui_05_the_help_of_each_command_has_its_exit_codes() {
    for command in [
        "run", "whose", "recover", "check", "reload", "status", "sessions",
    ] {
        let (code, text, _) = run(&[command, "--help"]);
        assert_eq!(code, Some(0));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("3 nothing there"), "{command}: {text}");
    }
}

#[test]
fn ui_08_output_into_a_closed_pipe_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plat.toml");
    std::fs::write(
        &file,
        "prefix = \"64:ff9b::/96\"\npool = \"192.0.2.0/28\"\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    for args in [
        &["check", file][..],
        &["status", "--explain", "filtered"],
        &["--help"],
        &["--version"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut plat = Command::new(env!("CARGO_BIN_EXE_plat"));
        let output = plat.args(args).stdout(writer).output().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {complaint}");
        assert!(complaint.is_empty(), "{complaint}");
    }
}

#[test]
fn ui_09_promtool_accepts_the_alert_rules() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/prometheus");
    for arguments in [
        ["check", "rules", "xlat.rules.yml"],
        ["test", "rules", "xlat.rules.test.yml"],
    ] {
        let mut promtool = Command::new("promtool");
        match promtool.args(arguments).current_dir(folder).output() {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(error) => eprintln!("the rules are not checked by promtool: {error}"),
        }
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
    std::fs::write(
        run_dir.join("nat64.journal"),
        forged(&format!("//.//{key}")),
    )
    .unwrap();
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plat"));
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
    let journal = run_dir.join("nat64.journal");
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
