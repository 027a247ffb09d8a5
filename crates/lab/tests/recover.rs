//! A daemon's host after trouble: an address or a TUN name that is taken, `recover`, a panic.

use std::net::Ipv6Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::binaries::Binaries;
use lab::inspect::{Facts, difference, inspect};
use lab::installed::{Installed, PATIENCE};
use lab::link::add_address;
use lab::suite::Test;
use lab::topology::{Plan, Topology, UPLINK};

const TESTS: &[Test] = lab::tests![
    clat_takes_another_address_when_the_first_is_taken,
    the_recover_commands_put_the_hosts_back,
    a_tun_name_in_use_ends_a_daemon_with_one_line,
    nothing_is_left_of_a_laboratory_that_panics,
];

fn main() {
    lab::suite::run(TESTS)
}

#[track_caller]
fn assert_same(before: &Facts, after: &Facts) {
    assert_eq!(difference(before, after), [""; 0]);
}

/// The address in a line of the log like `... reaches IPv4 through ... as ADDRESS on eth0`.
fn clat_address(log: &str) -> Option<Ipv6Addr> {
    let line = log
        .lines()
        .find(|line| line.contains("ready: this host is"))?;
    line.split(" as ").nth(1)?.split(' ').next()?.parse().ok()
}

fn clat_takes_another_address_when_the_first_is_taken() -> Result<()> {
    let mut installed = Installed::new(&Binaries::find()?, &Plan::default())?;
    let log = installed.clats[0].log();
    let Some(first) = clat_address(&log) else {
        panic!("no address in:{log}")
    };
    installed.clats[0].stop(PATIENCE)?;
    let client = installed.topology.client();
    client.set_sysctl("ipv6/conf/all/accept_dad", "1")?;
    client.set_sysctl("ipv6/conf/eth0/accept_dad", "1")?;
    // The edge is the client's neighbour.
    let edge = &installed.topology.edge;
    add_address((edge, "client0"), format!("{first}/128").parse()?)?;
    installed.restart_clat(0)?;
    let log = installed.clats[0].log();
    let second = clat_address(&log).expect("the log names the address");
    assert_ne!(first, second);
    assert!(log.contains("trying another address"), "{log}");
    Ok(())
}

fn the_recover_commands_put_the_hosts_back() -> Result<()> {
    let binaries = Binaries::find()?;
    let network = Topology::new(&Plan::default())?;
    let before = [inspect(network.client())?, inspect(&network.edge)?];
    let mut installed = Installed::on(&binaries, network)?;
    installed.clats[0].kill(PATIENCE)?;
    installed.plat.kill(PATIENCE)?;
    let run_dir = |daemon: &lab::process::Daemon| {
        let mut words = daemon
            .command()
            .split(' ')
            .skip_while(|word| *word != "--run-dir");
        words.nth(1).unwrap_or_default().to_owned()
    };
    let network = &installed.topology;
    for (namespace, program, daemon) in [
        (network.client(), &binaries.clat, &installed.clats[0]),
        (&network.edge, &binaries.plat, &installed.plat),
    ] {
        let mut command = Command::new(program);
        command.args(["recover", "--json", "--run-dir", &run_dir(daemon)]);
        command.stdout(Stdio::piped());
        let output = namespace.spawn(command)?.wait_with_output()?;
        ensure!(output.status.success(), "{program:?}: {}", output.status);
        let text = String::from_utf8(output.stdout)?;
        ensure!(
            text.starts_with("{\"schema\":1,\"taken_back\":[\"")
                && text.contains("sysctl net.ipv6.conf."),
            "{text}"
        );
    }
    let after = [inspect(network.client())?, inspect(&network.edge)?];
    assert_same(&before[0], &after[0]);
    assert_same(&before[1], &after[1]);
    Ok(())
}

fn a_tun_name_in_use_ends_a_daemon_with_one_line() -> Result<()> {
    let binaries = Binaries::find()?;
    let installed = Installed::new(&binaries, &Plan::default())?;
    let client = installed.topology.client();
    let before = inspect(client)?;
    let other = tempfile::tempdir()?;
    let mut command = Command::new(&binaries.clat);
    command
        .args([
            "--prefix",
            "2001:db8:64::/96",
            "--uplink",
            UPLINK,
            "--run-dir",
        ])
        .arg(other.path())
        .arg("--state-dir")
        .arg(other.path())
        .stderr(std::process::Stdio::piped());
    let output = client.spawn(command)?.wait_with_output()?;
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{text}");
    let complaint: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("clat: "))
        .collect();
    assert!(
        complaint.len() == 1 && complaint[0].contains("an interface clat exists"),
        "{text}"
    );
    assert_same(&before, &inspect(client)?);
    Ok(())
}

fn nothing_is_left_of_a_laboratory_that_panics() -> Result<()> {
    let binaries = Binaries::find()?;
    let marker = tempfile::tempdir()?;
    let path = marker.path().display().to_string();
    let scenario = std::thread::spawn(move || {
        let network = Topology::new(&Plan::default()).expect("a network");
        let words = [
            "--prefix",
            "2001:db8:64::/96",
            "--uplink",
            UPLINK,
            "--run-dir",
            &path,
        ];
        let state = ["--state-dir", &path];
        let words = [&words[..], &state].concat();
        let daemon = lab::process::Daemon::start(network.client(), &binaries.clat, &words);
        let daemon = daemon.expect("a daemon");
        daemon.wait_for_line("ready", PATIENCE).expect("ready");
        panic!("this is the panic of the test");
    });
    assert!(scenario.join().is_err());
    let needle = marker.path().display().to_string();
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while processes_with(&needle)? > 0 {
        ensure!(
            std::time::Instant::now() < deadline,
            "a daemon is still there"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Processes that have `needle` on their command line.
fn processes_with(needle: &str) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc")? {
        let words = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        count += usize::from(String::from_utf8_lossy(&words).contains(needle));
    }
    Ok(count)
}
