//! What a `clat` has the kernel translate: everything that is plain. Nothing else notices, whatever
//! happens to the program.

use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use lab::binaries::Binaries;
use lab::capture::Capture;
use lab::command::output;
use lab::installed::{Installed, Setup};
use lab::ip::ip;
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology};
use lab::traffic::PATIENCE;
use lab::traffic::ping::ping;
use lab::traffic::tcp::{Way, transfer};
use lab::traffic::udp::{Echo, exchange};
use lab::wait::wait_until;
use serde_json::Value;

const TESTS: &[Test] = lab::tests![
    kp_11_transfers_are_carried_in_super_packets_both_ways,
    kp_11_datagrams_and_pings_are_carried_and_counted_to_the_packet,
    kp_12_a_smaller_path_in_the_middle_of_a_transfer_breaks_nothing,
    kp_13_a_capture_on_the_tun_sees_both_sides,
    kp_14_a_program_that_was_detached_is_attached_again_but_not_at_once_if_it_does_not_stay,
    kp_15_without_the_privilege_the_workers_translate_and_a_line_says_why,
    kp_16_off_is_off,
    kp_17_nothing_is_left_of_a_killed_one,
];

const REQUIRED: &str = "--fast-path=required";
const BPFTOOL: &str = "/usr/sbin/bpftool";

fn main() {
    lab::suite::run_with_programs(TESTS, &[("bpftool", BPFTOOL)])
}

fn kp_11_transfers_are_carried_in_super_packets_both_ways() -> Result<()> {
    let installed = install(&[REQUIRED])?;
    for (way, direction) in [(Way::Download, "v6_to_v4"), (Way::Upload, "v4_to_v6")] {
        let before = Carried::of(&installed, direction)?;
        tcp(&installed.topology, way, BYTES)?;
        let after = Carried::of(&installed, direction)?;
        let (packets, bytes) = (after.packets - before.packets, after.bytes - before.bytes);
        ensure!(bytes > BYTES * 99 / 100, "{way:?}: {bytes} bytes");
        ensure!(
            bytes / packets > 8000,
            "{way:?}: {packets} packets of {bytes} bytes"
        );
    }
    Ok(())
}

fn kp_11_datagrams_and_pings_are_carried_and_counted_to_the_packet() -> Result<()> {
    let installed = install(&[REQUIRED])?;
    let (client, server) = (installed.topology.client(), &installed.topology.server);
    let before = Carried::both(&installed)?;
    for size in [0, 56, 1232] {
        client.run(|| ping(SERVER, size, PATIENCE))?;
    }
    let echo = Echo::start(server, SERVER.into())?;
    let address = echo.address();
    client.run(|| exchange(address, [0, 1, 100, 500, 1200], PATIENCE).map(drop))?;
    let after = Carried::both(&installed)?;
    let packets = [0, 1].map(|way| after[way].packets - before[way].packets);
    ensure!(packets == [8, 8], "{packets:?} of 8 there and 8 back");
    let seen = status(&installed)?["packets"]["ipv4_in"]["packets"].clone();
    ensure!(
        seen.as_u64() >= Some(8),
        "the sums do not include them: {seen}"
    );
    Ok(())
}

fn kp_12_a_smaller_path_in_the_middle_of_a_transfer_breaks_nothing() -> Result<()> {
    let plan = Plan {
        router6: Some(1500),
        ..Plan::default()
    };
    let setup = Setup::clats_with(&[REQUIRED]);
    let installed = Installed::with(&Binaries::find()?, Topology::new(&plan)?, setup)?;
    let network = &installed.topology;
    thread::scope(|scope| {
        let running = scope.spawn(|| tcp(network, Way::Upload, 8 * BYTES));
        wait_until(|| Ok(Carried::of(&installed, "v4_to_v6")?.bytes > BYTES / 4))?;
        network.set_middle6_mtu(1280)?;
        running.join().map_err(|_| anyhow::anyhow!("it panicked"))?
    })?;
    let bytes = Carried::of(&installed, "v4_to_v6")?.bytes;
    ensure!(bytes > 8 * BYTES * 9 / 10, "{bytes} bytes in the kernel");
    tcp(network, Way::Download, BYTES)
}

fn kp_13_a_capture_on_the_tun_sees_both_sides() -> Result<()> {
    let installed = install(&[REQUIRED])?;
    let client = installed.topology.client();
    let capture = Capture::start(&[(client, "clat")], 128)?;
    // As tcpdump does; the kernel tells of it.
    ip(client, "link set clat promisc on")?;
    wait_until(|| Ok(why_not(&installed)?.contains("captures packets on clat")))?;
    client.run(|| ping(SERVER, 56, PATIENCE))?;
    let captured = capture.stop()?;
    let seen = |outgoing: bool, version: u8| {
        let mut packets = captured.packets.iter();
        packets.any(|packet| {
            packet.outgoing == outgoing
                && packet.ip().first().map(|first| first >> 4) == Some(version)
        })
    };
    for (outgoing, version) in [(true, 4), (false, 6), (true, 6), (false, 4)] {
        ensure!(
            seen(outgoing, version),
            "outgoing: {outgoing}, IPv{version}"
        );
    }
    ip(client, "link set clat promisc off")?;
    wait_until(|| Ok(why_not(&installed)?.is_empty()))?;
    let before = Carried::both(&installed)?;
    client.run(|| ping(SERVER, 56, PATIENCE))?;
    ensure!(Carried::both(&installed)?[0].packets > before[0].packets);
    Ok(())
}

fn kp_14_a_program_that_was_detached_is_attached_again_but_not_at_once_if_it_does_not_stay()
-> Result<()> {
    let installed = install(&[])?;
    let client = installed.topology.client();
    client.run(|| ping(SERVER, 56, PATIENCE))?;
    let detach = |line: &str| {
        let links = installed.clats[0].bpf_links()?;
        let link = links.first().context("it has no link")?.to_string();
        output(client, BPFTOOL, &["link", "detach", "id", &link], "")?;
        client.run(|| ping(SERVER, 56, PATIENCE))?;
        // Any event makes it look; without one it looks every few seconds.
        ip(client, "link set clat promisc on")?;
        ip(client, "link set clat promisc off")?;
        wait_until(|| {
            let log = installed.clats[0].log();
            let mut lines = log.lines();
            Ok(lines.any(|one| one.contains("was detached from clat") && one.contains(line)))
        })
    };
    detach("attached again")?;
    ensure!(why_not(&installed)?.is_empty());
    let before = Carried::both(&installed)?;
    client.run(|| ping(SERVER, 56, PATIENCE))?;
    ensure!(Carried::both(&installed)?[0].packets > before[0].packets);
    detach("again; the workers translate all packets")?;
    ensure!(why_not(&installed)?.contains("detached"));
    tcp(&installed.topology, Way::Download, 1 << 20)
}

fn kp_15_without_the_privilege_the_workers_translate_and_a_line_says_why() -> Result<()> {
    // A network of its own in a user namespace of its own.
    let user = ["/usr/bin/unshare", "--user", "--map-root-user", "--net"];
    // All but CAP_PERFMON, without which the kernel believes the program less.
    let bound = "--bounding-set=-all,+bpf,+net_admin,+net_raw";
    let bounded = ["/usr/bin/setpriv", bound];
    for words in [&user[..], &bounded] {
        let (program, arguments) = words.split_first().context("a program")?;
        let topology = Topology::new(&Plan::default())?;
        let directory = tempfile::tempdir()?;
        let start = |flag| restricted(&topology, directory.path(), program, arguments, flag);
        let without = start("--fast-path=auto")?;
        without.wait_for_line("no fast path in the kernel: no permission", PATIENCE)?;
        without.wait_for_line("ready: ", PATIENCE)?;
        drop(without);
        let mut refused = start(REQUIRED)?;
        let end = refused.wait(PATIENCE)?;
        let log = refused.log();
        ensure!(!end.success() && log.contains("CAP_PERFMON"), "{log}");
    }
    Ok(())
}

/// A `clat` without some of its privileges.
fn restricted(
    topology: &Topology,
    directory: &Path,
    program: &str,
    arguments: &[&str],
    flag: &str,
) -> Result<Daemon> {
    let clat = Binaries::find()?.clat.display().to_string();
    let directory = directory.display().to_string();
    let flags = [
        clat.as_str(),
        "--prefix=2001:db8:64::/96",
        "--ipv6=2001:db8:1::c1a7",
        "--no-host-setup",
        "--run-dir",
        &directory,
        "--state-dir",
        &directory,
        flag,
    ];
    let all = [arguments, &flags].concat();
    Daemon::start(topology.client(), Path::new(program), &all)
}

fn kp_16_off_is_off() -> Result<()> {
    let installed = install(&["--fast-path=off"])?;
    tcp(&installed.topology, Way::Download, 1 << 20)?;
    ensure!(why_not(&installed)? == "--fast-path off");
    let [out, back] = Carried::both(&installed)?;
    ensure!(out.packets + back.packets == 0);
    ensure!(installed.clats[0].bpf_links()?.is_empty());
    Ok(())
}

fn kp_17_nothing_is_left_of_a_killed_one() -> Result<()> {
    let mut installed = install(&[REQUIRED])?;
    tcp(&installed.topology, Way::Download, 1 << 20)?;
    let link = installed.clats[0].bpf_links()?;
    let link = link.first().context("it has no link")?.to_string();
    installed.clats[0].kill(PATIENCE)?;
    let client = installed.topology.client();
    ensure!(!ip(client, "-o link")?.contains("clat"));
    let show = || output(client, BPFTOOL, &["link", "show", "id", &link], "");
    wait_until(|| Ok(show().is_err()))?;
    installed.restart_clat(0)?;
    tcp(&installed.topology, Way::Download, 1 << 20)?;
    Ok(())
}

/// Enough to be seen in counters.
const BYTES: u64 = 16 << 20;

fn install(flags: &[&str]) -> Result<Installed> {
    let topology = Topology::new(&Plan::default())?;
    Installed::with(&Binaries::find()?, topology, Setup::clats_with(flags))
}

fn tcp(network: &Topology, way: Way, bytes: u64) -> Result<()> {
    let (client, server) = (network.client(), &network.server);
    transfer(client, server, SERVER.into(), way, bytes, PATIENCE)?;
    Ok(())
}

fn status(installed: &Installed) -> Result<Value> {
    Ok(serde_json::from_str(
        &installed.ask_clat(0, &["status", "--json"])?,
    )?)
}

/// Why nothing is carried in the kernel; empty while it is.
fn why_not(installed: &Installed) -> Result<String> {
    let status = status(installed)?;
    let why_not = status["fast_path"]["why_not"].as_str();
    Ok(why_not.unwrap_or_default().to_owned())
}

/// What the kernel has carried in one direction.
#[derive(Clone, Copy)]
struct Carried {
    packets: u64,
    bytes: u64,
}

impl Carried {
    fn of(installed: &Installed, direction: &str) -> Result<Self> {
        let traffic = &status(installed)?["fast_path"][direction];
        let number = |what: &str| traffic[what].as_u64().context("no such figure");
        Ok(Self {
            packets: number("packets")?,
            bytes: number("bytes")?,
        })
    }

    fn both(installed: &Installed) -> Result<[Self; 2]> {
        Ok([
            Self::of(installed, "v4_to_v6")?,
            Self::of(installed, "v6_to_v4")?,
        ])
    }
}
