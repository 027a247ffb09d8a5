//! Starts: after crashes and full disks that damaged files, and at boot, where everything comes in
//! any order.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use lab::binaries::Binaries;
use lab::inspect::{ensure_unchanged, inspect};
use lab::installed::{Installed, PATIENCE, Setup};
use lab::link::{add_address, join, lend_address, remove_address};
use lab::process::Daemon;
use lab::restarts::Restarts;
use lab::suite::Test;
use lab::topology::{PREF64, Plan, Topology, UPLINK};
use rustix::process::Signal;
use tempfile::TempDir;

pub(crate) const TESTS: &[Test] = lab::tests![
    fp_14_damaged_state_files_stop_no_start,
    fp_14_of_damaged_state_files_every_start_succeeds_and_nothing_altered_is_taken_up,
    fp_14_a_damaged_journal_is_undone_as_far_as_it_is_whole,
    fp_14_a_clat_with_a_damaged_secret_starts,
    fp_15_a_gateway_that_boots_waits_for_its_interface_and_its_address,
    fp_15_a_dns64_waits_for_a_resolver_in_resolv_conf,
    fp_15_a_host_without_a_free_pool_is_no_usage_error,
    fp_40_a_state_directory_that_cannot_be_written_stops_no_start,
    fp_41_an_address_that_another_host_has_is_waited_for,
    pk_07_plat_runs_where_kernel_parameters_are_read_only_and_right,
];

/// Kinds of damage, each for each file.
const KINDS: usize = 8;
/// As `plat` wrote it before its files had a checksum.
const OLD_SECRET: &str = "0123456789abcdef fedcba9876543210\n";

fn fp_14_damaged_state_files_stop_no_start() -> Result<()> {
    let flags = [
        "--pool=192.168.64.9",
        "--dynamic-pool=192.168.65.0/24",
        "--queues=1",
    ];
    let topology = Topology::new(&Plan::default())?;
    let mut installed = Installed::with(&Binaries::find()?, topology, Setup::plat_alone(&flags))?;
    installed.plat.stop(PATIENCE)?;

    // Files of the version before are read.
    let state = installed.directory().join("plat/state");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let header = "# IPv4 IPv6 last-use (seconds since 1970)";
    let map = format!("{header}\n192.168.65.7 2001:db8:1::77 {now}\n");
    std::fs::write(state.join("dynamic.map"), map)?;
    std::fs::write(state.join("secret"), OLD_SECRET)?;
    let session = "udp 2001:db8:1::7 2000 192.168.64.9 2000 198.51.100.2 53 2001:db8:64::/96 -";
    let sessions = format!("plat sessions 1\n{session} {}\nend 1\n", now + 250);
    std::fs::write(state.join("sessions"), sessions)?;
    installed.restart_plat()?;
    let taken_up = |log: &str| {
        let has = |what: &str| log.contains(what);
        (has(" 1 leases restored"), has(" 1 sessions restored"))
    };
    let log = installed.plat.log();
    ensure!(taken_up(&log) == (true, true), "{log}");
    installed.plat.stop(PATIENCE)?;

    let names = ["secret", "dynamic.map", "sessions"];
    let whole = names.map(|name| std::fs::read(state.join(name)));
    for how in 0..KINDS {
        for (name, bytes) in names.iter().zip(&whole) {
            let bytes = bytes
                .as_ref()
                .map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
            ensure!(
                bytes.starts_with(format!("464xlat {name} 2\n").as_bytes()),
                "{name}"
            );
            std::fs::write(state.join(name), bytes)?;
            damage(&state.join(name), how)?;
        }
        installed.restart_plat()?;
        let log = installed.plat.log();
        for name in names {
            let named = log.matches(&format!("{name} is damaged (")).count();
            ensure!(named == 1, "{how}, {name}: {log}");
            let aside = state.join(format!("{name}.damaged"));
            ensure!(aside.exists(), "{how}, {name}");
        }
        ensure!(taken_up(&log) == (false, false), "{how}: {log}");
        installed.plat.stop(PATIENCE)?;
    }
    Ok(())
}

/// `cargo lab restarts` does it with 500.
fn fp_14_of_damaged_state_files_every_start_succeeds_and_nothing_altered_is_taken_up() -> Result<()>
{
    let soak = Restarts {
        files: 120,
        networks: 6,
        seed: 0x4641_7453,
    };
    let outcome = lab::restarts::run(&Binaries::find()?, &soak)?;
    ensure!(outcome.files >= 120 && outcome.journals > 0, "{outcome:?}");
    Ok(())
}

/// What disks, crashes and editors do to a file.
fn damage(path: &Path, how: usize) -> Result<()> {
    let mut bytes = std::fs::read(path)?;
    let middle = bytes.len() / 2;
    match how {
        // One digit is another one.
        0 => {
            let mut digits = bytes.iter().skip(20);
            let at = digits.position(u8::is_ascii_digit).context("a digit")?;
            bytes[20 + at] ^= 1;
        }
        // Two wrong bytes that are no text.
        1 => bytes[middle..middle + 2].fill(0xff),
        2 => bytes.truncate(middle),
        3 => bytes.clear(),
        // A crash before the data was on disk.
        4 => bytes.fill(0),
        5 => bytes[0] ^= 0x20,
        6 => bytes.extend_from_within(middle..),
        _ => bytes.push(b'\n'),
    }
    Ok(std::fs::write(path, bytes)?)
}

fn fp_14_a_damaged_journal_is_undone_as_far_as_it_is_whole() -> Result<()> {
    let topology = Topology::new(&Plan::with_routers())?;
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        topology.edge.set_sysctl(key, "0")?;
    }
    let setup = Setup::plat_alone(&["--pool=192.168.64.9"]);
    let mut installed = Installed::with(&Binaries::find()?, topology, setup)?;
    let journal = installed.directory().join("plat/run/nat64.journal");
    let cripple = |installed: &mut Installed| {
        installed.plat.kill(PATIENCE)?;
        let mut bytes = std::fs::read(&journal)?;
        let key = b"net.ipv4.ip_forward";
        let at = bytes.windows(key.len()).position(|window| window == key);
        let at = at.context("an entry of ip_forward")?;
        bytes[at..at + 2].fill(0xff);
        let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
        std::fs::write(&journal, bytes)?;
        Ok::<_, anyhow::Error>(line)
    };
    let line = cripple(&mut installed)?;
    let told = installed.ask_plat(&["recover", "--json"])?;
    let named = format!("\"unreadable\":[\"line {line}: ");
    ensure!(told.contains(&named), "{told}");
    ensure!(told.contains("net.ipv6.conf.all.forwarding=1"), "{told}");
    let edge = &installed.topology.edge;
    ensure!(
        edge.sysctl("ipv6/conf/all/forwarding")? == "0",
        "not undone"
    );
    ensure!(edge.sysctl("ipv4/ip_forward")? == "1", "of a damaged line");

    edge.set_sysctl("ipv4/ip_forward", "0")?;
    installed.restart_plat()?;
    let line = cripple(&mut installed)?;
    installed.restart_plat()?;
    let log = installed.plat.log();
    let named = format!("nat64.journal is damaged in line {line}: ");
    ensure!(log.contains(&named), "{log}");
    installed.plat.stop(PATIENCE)?;
    ensure!(installed.topology.edge.sysctl("ipv6/conf/all/forwarding")? == "0");
    Ok(())
}

fn fp_14_a_clat_with_a_damaged_secret_starts() -> Result<()> {
    let mut installed = Installed::new(&Binaries::find()?, &Plan::default())?;
    let path = installed.directory().join("clat0/state/secret");
    for how in [0, 1] {
        installed.clats[0].stop(PATIENCE)?;
        damage(&path, how)?;
        installed.restart_clat(0)?;
        let log = installed.clats[0].log();
        ensure!(log.contains("secret is damaged ("), "{log}");
    }
    Ok(())
}

fn fp_15_a_gateway_that_boots_waits_for_its_interface_and_its_address() -> Result<()> {
    let start = Start::new(&Plan::default())?;
    let edge = &start.topology.edge;
    let before = inspect(edge)?;
    let path = start.directory.path().join("notify");
    let notify = UnixDatagram::bind(&path)?;
    notify.set_read_timeout(Some(PATIENCE))?;
    let flags = [
        "--lan=lan9",
        "--dns64=2001:db8:9::1",
        "--dns64-upstream=198.51.100.2",
    ];
    let notify_socket = format!("NOTIFY_SOCKET={}", path.display());
    let pool = "--pool=192.168.64.9";
    let mut plat = start.plat_in(&[&notify_socket], &[&[pool][..], &flags].concat())?;

    let no_link = "there is no interface lan9";
    plat.wait_for_line(&format!("the start waits: {no_link}"), PATIENCE)?;
    let mut message = [0; 1024];
    let length = notify.recv(&mut message)?;
    let message = String::from_utf8_lossy(&message[..length]);
    ensure!(
        message.contains(&format!("STATUS=waiting: {no_link}\n")),
        "{message}"
    );
    ensure!(message.contains("EXTEND_TIMEOUT_USEC="), "{message}");
    drop(notify);
    let status = start.ask_until(&["status"], no_link)?;
    ensure!(status.starts_with("plat waits: "), "{status}");
    let json = start.ask_until(
        &["status", "--json"],
        "\"waits_for\":\"there is no interface lan9\"",
    )?;
    ensure!(json.contains("\"word\":\"broken\""), "{json}");
    ensure!(json.contains("\"schema\":1"), "{json}");
    ensure_unchanged(&before, edge)?;

    join((edge, "lan9"), (start.topology.client(), "far9"), 1500)?;
    plat.wait_for_line(
        "the start waits: 2001:db8:9::1 is no address of this host",
        PATIENCE,
    )?;
    for (key, value) in [("accept_dad", "1"), ("dad_transmits", "2")] {
        edge.set_sysctl(&format!("ipv6/conf/lan9/{key}"), value)?;
    }
    let address = "2001:db8:9::1/64".parse()?;
    lend_address((edge, "lan9"), address, 3600, 3600)?;
    let tentative = "the start waits: 2001:db8:9::1 is in duplicate address detection";
    plat.wait_for_line(tentative, PATIENCE)?;
    plat.wait_for_line("ready: ", PATIENCE)?;
    let log = plat.log();
    ensure!(log.matches("the start waits: ").count() == 3, "{log}");
    let status = start.ask_until(&["status"], "plat ")?;
    ensure!(status.contains("running for"), "{status}");
    plat.stop(PATIENCE)
}

fn fp_15_a_dns64_waits_for_a_resolver_in_resolv_conf() -> Result<()> {
    let start = Start::new(&Plan::default())?;
    let file = start.directory.path().join("resolv.conf");
    std::fs::write(&file, "# written later\n")?;
    let mount = format!("mount --bind {} /etc/resolv.conf", file.display());
    let run = format!("{mount} && exec \"$@\"");
    let unshare = ["unshare", "-m", "sh", "-c", &run, "sh"];
    let flags = ["--pool=192.168.64.9", "--dns64=2001:db8:1::1"];
    let mut plat = start.plat_in(&unshare, &flags)?;
    let waits = "/etc/resolv.conf names no resolver";
    plat.wait_for_line(waits, PATIENCE)?;
    // Neither signal has anything to undo.
    plat.signal(Signal::HUP)?;
    start.ask_until(&["status"], waits)?;
    plat.stop(PATIENCE)?;

    let mut plat = start.plat_in(&unshare, &flags)?;
    plat.wait_for_line(waits, PATIENCE)?;
    std::fs::write(&file, "nameserver 198.51.100.2\n")?;
    plat.wait_for_line("ready: ", PATIENCE)?;
    plat.stop(PATIENCE)
}

fn fp_15_a_host_without_a_free_pool_is_no_usage_error() -> Result<()> {
    let start = Start::new(&Plan::with_routers())?;
    for taken in ["192.168.64.1/28", "172.31.64.1/28", "10.64.64.1/28"] {
        add_address((&start.topology.edge, UPLINK), taken.parse()?)?;
    }
    let mut plat = start.plat_in(&[], &[])?;
    let status = plat.wait(PATIENCE)?;
    ensure!(status.code() == Some(1), "{status}: {}", plat.log());
    ensure!(plat.log().contains("give --pool"), "{}", plat.log());
    Ok(())
}

/// A full disk, or a root file system that is mounted read-only.
fn fp_40_a_state_directory_that_cannot_be_written_stops_no_start() -> Result<()> {
    let start = Start::new(&Plan::default())?;
    let state = start.directory.path().join("state");
    std::fs::create_dir(&state)?;
    let state = state.display();
    let mount = format!("mount --bind {state} {state} && mount -o remount,bind,ro {state}");
    let run = format!("{mount} && exec \"$@\"");
    let unshare = ["unshare", "-m", "sh", "-c", &run, "sh"];
    let flags = ["--pool=192.168.64.9", "--dynamic-pool=192.168.65.0/24"];
    let mut plat = start.plat_in(&unshare, &flags)?;
    plat.wait_for_line("ready: ", PATIENCE)?;
    let log = plat.log();
    ensure!(
        log.contains("the next start will have another secret"),
        "{log}"
    );
    plat.stop(PATIENCE)?;
    let log = plat.log();
    for what in ["the leases are not saved", "the sessions are not saved"] {
        ensure!(log.contains(what), "{what}: {log}");
    }
    Ok(())
}

/// A container: `/proc/sys` is read-only, and what is missing is named as the runtime calls it.
fn pk_07_plat_runs_where_kernel_parameters_are_read_only_and_right() -> Result<()> {
    let start = Start::new(&Plan::default())?;
    let edge = &start.topology.edge;
    let mount = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys";
    let run = format!("{mount} && exec \"$@\"");
    let container = ["unshare", "-m", "sh", "-c", &run, "sh"];
    let flags = ["--pool=192.168.64.9"];
    edge.set_sysctl("ipv4/ip_forward", "0")?;
    let mut plat = start.plat_in(&container, &flags)?;
    let status = plat.wait(PATIENCE)?;
    let log = plat.log();
    ensure!(status.code() == Some(1), "{status}: {log}");
    let remedy = "give the container --sysctl net.ipv4.ip_forward=1";
    ensure!(log.contains(remedy), "{log}");
    edge.set_sysctl("ipv4/ip_forward", "1")?;
    edge.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    let mut plat = start.plat_in(&container, &flags)?;
    plat.wait_for_line("ready: ", PATIENCE)?;
    plat.stop(PATIENCE)
}

fn fp_41_an_address_that_another_host_has_is_waited_for() -> Result<()> {
    let start = Start::new(&Plan::default())?;
    let (edge, client) = (&start.topology.edge, start.topology.client());
    join((edge, "lan9"), (client, "far9"), 1500)?;
    let address = "2001:db8:9::1/64".parse()?;
    add_address((client, "far9"), address)?;
    edge.set_sysctl("ipv6/conf/lan9/accept_dad", "1")?;
    lend_address((edge, "lan9"), address, u32::MAX, u32::MAX)?;
    let flags = ["--dns64=2001:db8:9::1", "--dns64-upstream=198.51.100.2"];
    let mut plat = start.plat_in(&[], &[&["--pool=192.168.64.9"][..], &flags].concat())?;
    let line = "the start waits: 2001:db8:9::1 is used by another host on the link";
    plat.wait_for_line(line, PATIENCE)?;
    remove_address((client, "far9"), address)?;
    remove_address((edge, "lan9"), address)?;
    add_address((edge, "lan9"), address)?;
    plat.wait_for_line("ready: ", PATIENCE)?;
    plat.stop(PATIENCE)
}

/// A `plat` that is started before its host is complete.
struct Start {
    topology: Topology,
    binaries: Binaries,
    directory: TempDir,
}

impl Start {
    fn new(plan: &Plan) -> Result<Self> {
        Ok(Self {
            topology: Topology::new(plan)?,
            binaries: Binaries::find()?,
            directory: tempfile::tempdir()?,
        })
    }

    /// Starts `plat` with these flags by `env` and the words `before`.
    fn plat_in(&self, before: &[&str], flags: &[&str]) -> Result<Daemon> {
        let place = self.directory.path().display();
        let prefix = format!("--prefix={PREF64}");
        let places = [
            format!("--run-dir={place}/run"),
            format!("--state-dir={place}/state"),
        ];
        let program = self.binaries.plat.display().to_string();
        let mut words = [before, &[&*program, &prefix], flags].concat();
        words.extend(places.iter().map(String::as_str));
        Daemon::start(&self.topology.edge, Path::new("/usr/bin/env"), &words)
    }

    /// What `plat COMMAND` says as soon as `part` is in it.
    fn ask_until(&self, command: &[&str], part: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut process = Command::new(&self.binaries.plat);
            process.args(command).arg("--run-dir");
            process.arg(self.directory.path().join("run"));
            process.stdout(Stdio::piped()).stderr(Stdio::piped());
            let output = self.topology.edge.spawn(process)?.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if said.contains(part) {
                return Ok(said);
            }
            ensure!(Instant::now() < deadline, "no {part:?} in {said:?}");
            sleep(Duration::from_millis(20));
        }
    }
}
