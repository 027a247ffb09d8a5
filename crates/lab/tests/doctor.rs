//! `clat doctor` and `plat doctor` in broken networks: they name the fault of each and no other, and
//! `status` knows of it and of its end.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use ipnet::Ipv4Net;
use lab::binaries::Binaries;
use lab::client_host::{ClientHost, announcing};
use lab::dns64_fixture::Dns64Fixture;
use lab::installed::{Installed, Setup};
use lab::link::{add_address, add_route, join, remove_route};
use lab::namespace::Namespace;
use lab::nft::{NFT, nft};
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology};
use lab::traffic::dns::Upstream;

const TESTS: &[Test] = lab::tests![
    dr_10_a_prefix_that_the_network_does_not_have_is_named,
    dr_10_a_chain_that_drops_is_named_on_both_sides,
    dr_10_large_packets_that_vanish_are_named,
    dr_10_dead_resolvers_and_those_without_a_records_are_told_apart,
    dr_10_a_gateway_without_egress_is_named,
    dr_10_a_clock_that_was_set_back_is_named,
    dr_10_a_strict_reverse_path_filter_is_named,
    dr_10_a_second_clat_is_named,
    dr_10_parameters_that_are_wrong_and_read_only_are_named,
    dr_11_a_daemon_that_hangs_or_is_old_is_named_in_time,
    dr_11_a_closed_pipe_is_no_error,
];

/// How soon the status has to know.
const SOON: Duration = Duration::from_secs(10);
/// The target of pings and TCP connections.
const TARGET: &str = "--target=198.51.100.2";

fn main() {
    lab::suite::run_with_programs(
        TESTS,
        &[
            ("dr_10_a_chain_that_drops_is_named_on_both_sides", NFT),
            ("dr_10_large_packets_that_vanish_are_named", NFT),
        ],
    )
}

/// Runs a doctor in a namespace, on a host without resolvers of its own. Returns its output and code.
fn doctor(namespace: &Namespace, program: &Path, flags: &[&str]) -> Result<(String, i32)> {
    let script = "mount --bind /dev/null /etc/resolv.conf && exec \"$@\"";
    let mut process = Command::new("unshare");
    process
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(program);
    process
        .args(["doctor", "--json", "--seconds=3"])
        .args(flags);
    process.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = namespace.spawn(process)?.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(complaint.is_empty(), "{complaint}");
    let code = output.status.code().unwrap_or(-1);
    Ok((String::from_utf8(output.stdout)?, code))
}

/// Waits until a doctor names these faults and no other: the machine may be slow to come to rest.
#[track_caller]
fn names(faults: &[&str], code: i32, run: impl Fn() -> Result<(String, i32)>) -> Result<String> {
    let quoted: Vec<String> = faults.iter().map(|fault| format!("\"{fault}\"")).collect();
    let wanted = format!("\"faults\":[{}]", quoted.join(","));
    let end = Instant::now() + 3 * SOON;
    loop {
        let (report, seen) = run()?;
        if report.contains(&wanted) && seen == code {
            return Ok(report);
        }
        ensure!(
            Instant::now() < end,
            "no {wanted}, code {code}: {seen} {report}"
        );
    }
}

/// Waits until the status has the word.
#[track_caller]
fn soon(word: &str, status: impl Fn() -> Result<String>) -> Result<()> {
    let end = Instant::now() + SOON;
    let word = format!("\"word\":\"{word}\"");
    loop {
        let status = status()?;
        if status.contains(&word) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "no {word}: {status}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The laboratory with both programs.
struct Net {
    installed: Installed,
    programs: Binaries,
}

impl Net {
    fn new(plan: &Plan, setup: Setup) -> Result<Self> {
        let programs = Binaries::find()?;
        let installed = Installed::with(&programs, Topology::new(plan)?, setup)?;
        Ok(Self {
            installed,
            programs,
        })
    }

    fn directory(&self, of: &str, kind: &str) -> String {
        let path = self.installed.directory().join(of).join(kind);
        path.display().to_string()
    }

    fn clat(&self, flags: &[&str]) -> Result<(String, i32)> {
        let (run, state) = (
            self.directory("clat0", "run"),
            self.directory("clat0", "state"),
        );
        let mut all = vec!["--run-dir", &run, "--state-dir", &state];
        all.extend(flags);
        doctor(self.installed.topology.client(), &self.programs.clat, &all)
    }

    fn plat(&self, flags: &[&str]) -> Result<(String, i32)> {
        let (run, state) = (
            self.directory("plat", "run"),
            self.directory("plat", "state"),
        );
        let mut all = vec!["--run-dir", &run, "--state-dir", &state];
        all.extend(flags);
        doctor(&self.installed.topology.edge, &self.programs.plat, &all)
    }

    fn clat_status(&self) -> Result<String> {
        self.installed.ask_clat(0, &["status", "--json"])
    }

    fn plat_status(&self) -> Result<String> {
        self.installed.ask_plat(&["status", "--json"])
    }
}

fn dr_10_a_prefix_that_the_network_does_not_have_is_named() -> Result<()> {
    let host = ClientHost::new()?;
    let _router = host.router(&announcing(600))?;
    let dirs = lab::client_host::directories(host.directory.path());
    let mut flags: Vec<&str> = dirs.iter().map(String::as_str).collect();
    flags.push(TARGET);
    let client = host.topology().client();
    let look = || doctor(client, &host.binaries.clat, &flags);
    // A look at a host where nothing runs.
    names(&["daemon"], 1, look)?;
    let mut clat = host.clat(&["--prefix=2001:db8:bad::/96", "--probe=198.51.100.2"])?;
    clat.wait_for_line("ready: ", lab::installed::PATIENCE)?;
    let report = names(&["prefix"], 2, look)?;
    ensure!(
        report.contains("the network announces 2001:db8:64::/96 by router fe80:"),
        "{report}"
    );
    let socket = client.run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((SERVER, 9))?;
        Ok(socket)
    })?;
    soon("degraded", || {
        let _ = socket.send(b"void");
        host.status_json()
    })?;
    clat.stop(lab::installed::PATIENCE)?;
    let clat = host.clat(&["--probe=198.51.100.2"])?;
    clat.wait_for_line("ready: ", lab::installed::PATIENCE)?;
    soon("ok", || host.status_json())?;
    names(&[], 0, look)?;
    Ok(())
}

fn dr_10_a_chain_that_drops_is_named_on_both_sides() -> Result<()> {
    let net = Net::new(
        &Plan::default(),
        Setup::clats_with(&["--probe=198.51.100.2"]),
    )?;
    let (clat, plat) = (|| net.clat(&[TARGET]), || net.plat(&[TARGET]));
    soon("ok", || net.clat_status())?;
    names(&[], 0, clat)?;
    names(&[], 0, plat)?;
    let chain = "{ type filter hook forward priority 0; policy drop; }";
    let network = &net.installed.topology;
    for namespace in [network.client(), &network.edge] {
        nft(namespace, "add table inet other")?;
        nft(namespace, &format!("add chain inet other forward {chain}"))?;
    }
    let report = names(&["forward-chains"], 2, clat)?;
    ensure!(
        report.contains("nft insert rule inet other forward iifname clat accept"),
        "{report}"
    );
    names(&["forward-chains"], 2, plat)?;
    soon("broken", || net.clat_status())?;
    soon("degraded", || net.plat_status())?;
    for namespace in [network.client(), &network.edge] {
        nft(namespace, "delete table inet other")?;
    }
    soon("ok", || net.clat_status())?;
    soon("ok", || net.plat_status())?;
    names(&[], 0, clat)?;
    names(&[], 0, plat)?;
    Ok(())
}

fn dr_10_large_packets_that_vanish_are_named() -> Result<()> {
    let net = Net::new(
        &Plan::with_routers(),
        Setup::clats_with(&["--probe=198.51.100.2"]),
    )?;
    let look = || net.clat(&[TARGET]);
    let report = names(&[], 0, look)?;
    ensure!(
        report.contains("198.51.100.2 answers packets of 1472 bytes"),
        "{report}"
    );
    let network = &net.installed.topology;
    // A smaller link, and no router that says so.
    network.set_middle6_mtu(1400)?;
    let report = names(&[], 0, look)?;
    ensure!(report.contains("a link on the way takes"), "{report}");
    let router = network
        .router6
        .as_ref()
        .ok_or_else(|| anyhow::anyhow!("no router6"))?;
    let chain = "{ type filter hook output priority 0; }";
    nft(router, "add table ip6 hole")?;
    nft(router, &format!("add chain ip6 hole output {chain}"))?;
    nft(
        router,
        "add rule ip6 hole output icmpv6 type packet-too-big drop",
    )?;
    let report = names(&["path-mtu"], 2, look)?;
    ensure!(report.contains("no router says why"), "{report}");
    nft(router, "delete table ip6 hole")?;
    names(&[], 0, look)?;
    Ok(())
}

fn dr_10_dead_resolvers_and_those_without_a_records_are_told_apart() -> Result<()> {
    let net = Dns64Fixture::with_upstreams(&["198.51.100.2:53", "198.51.100.2:5353"], &[])?;
    let programs = Binaries::find()?;
    let directory = |kind| {
        net.installed
            .directory()
            .join("plat")
            .join(kind)
            .display()
            .to_string()
    };
    let (run, state) = (directory("run"), directory("state"));
    let edge = &net.installed.topology.edge;
    let look = || {
        doctor(
            edge,
            &programs.plat,
            &["--run-dir", &run, "--state-dir", &state],
        )
    };
    let status = || net.installed.ask_plat(&["status", "--json"]);
    let good = |port| net.scripted_at(SERVER, port, |asked| asked.v4_only(SERVER).into());
    let empty = |port| net.scripted_at(SERVER, port, |asked| asked.nothing(60).into());
    let one = good(53)?;
    let report = names(&["upstreams"], 1, look)?;
    ensure!(
        report.contains("198.51.100.2:5353 does not answer"),
        "{report}"
    );
    soon("degraded", status)?;
    drop(one);
    names(&["upstreams"], 2, look)?;
    soon("broken", status)?;
    let without: [Upstream; 2] = [empty(53)?, empty(5353)?];
    let report = names(&["dns64"], 2, look)?;
    ensure!(
        report.contains("198.51.100.2:53 gives no A records"),
        "{report}"
    );
    soon("broken", status)?;
    drop(without);
    let _both = (good(53)?, good(5353)?);
    soon("ok", status)?;
    names(&[], 0, look)?;
    Ok(())
}

fn dr_10_a_gateway_without_egress_is_named() -> Result<()> {
    let net = Net::new(&Plan::with_routers(), Setup::plat_alone(&[]))?;
    let look = || net.plat(&[TARGET]);
    names(&[], 0, look)?;
    let edge = &net.installed.topology.edge;
    let default = Ipv4Net::default().into();
    let router = Ipv4Addr::new(203, 0, 113, 2).into();
    remove_route(edge, default, router)?;
    names(&["egress"], 2, look)?;
    soon("broken", || net.plat_status())?;
    add_route(edge, default, router, None)?;
    // The word waits for the first reply.
    soon("ok", || {
        look()?;
        net.plat_status()
    })?;
    names(&[], 0, look)?;
    Ok(())
}

fn dr_10_a_clock_that_was_set_back_is_named() -> Result<()> {
    let net = Net::new(&Plan::default(), Setup::default())?;
    let look = || net.clat(&[TARGET]);
    names(&[], 0, look)?;
    let file = File::create(Path::new(&net.directory("clat0", "state")).join("a"))?;
    file.set_modified(SystemTime::now() + Duration::from_secs(86400))?;
    names(&["clock"], 1, look)?;
    file.set_modified(SystemTime::now())?;
    names(&[], 0, look)?;
    Ok(())
}

/// A client with another way to IPv4: its own address there, and that of the way.
fn second_way(net: &Topology, own: &str, far: Ipv4Addr) -> Result<()> {
    let client = net.client();
    join((client, "second"), (&net.server, "second"), 1500)?;
    add_address((client, "second"), own.parse()?)?;
    add_route(client, Ipv4Net::default().into(), far.into(), None)
}

fn dr_10_a_strict_reverse_path_filter_is_named() -> Result<()> {
    let setup = Setup::clats_with(&["--always", "--probe=198.51.100.2"]);
    let net = Net::new(&Plan::default(), setup)?;
    let (network, look) = (&net.installed.topology, || net.clat(&[TARGET]));
    soon("ok", || net.clat_status())?;
    second_way(network, "10.9.9.1/24", Ipv4Addr::new(10, 9, 9, 2))?;
    names(&[], 0, look)?;
    soon("ok", || net.clat_status())?;
    let set = |value| {
        network
            .client()
            .set_sysctl("ipv4/conf/clat/rp_filter", value)
    };
    set("1")?;
    let report = names(&["rp-filter"], 2, look)?;
    ensure!(
        report.contains("sysctl net.ipv4.conf.clat.rp_filter=2"),
        "{report}"
    );
    soon("broken", || net.clat_status())?;
    set("2")?;
    soon("ok", || net.clat_status())?;
    names(&[], 0, look)?;
    Ok(())
}

fn dr_10_a_second_clat_is_named() -> Result<()> {
    let net = Net::new(
        &Plan::default(),
        Setup::clats_with(&["--probe=198.51.100.2"]),
    )?;
    let (network, look) = (&net.installed.topology, || net.clat(&[TARGET]));
    soon("ok", || net.clat_status())?;
    let far = Ipv4Addr::new(192, 0, 0, 6);
    second_way(network, "192.0.0.5/29", far)?;
    soon("degraded", || net.clat_status())?;
    let report = names(&["other-clat"], 1, look)?;
    ensure!(report.contains("192.0.0.5 on second"), "{report}");
    remove_route(network.client(), Ipv4Net::default().into(), far.into())?;
    soon("ok", || net.clat_status())?;
    names(&[], 0, look)?;
    Ok(())
}

/// As in a container.
const READ_ONLY: &str = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys";

fn dr_10_parameters_that_are_wrong_and_read_only_are_named() -> Result<()> {
    let host = ClientHost::new()?;
    let client = host.topology().client();
    let _router = host.router(&announcing(600))?;
    let dirs = lab::client_host::directories(host.directory.path()).join(" ");
    let program = host.binaries.clat.display();
    let script = |what: &str| format!("{READ_ONLY} && exec {program} {what} {dirs}");
    let look = || {
        let mut process = Command::new("unshare");
        let line = format!(
            "mount --bind /dev/null /etc/resolv.conf && {}",
            script("doctor --json --seconds=3")
        );
        process.args(["--mount", "sh", "-c", &line]);
        process.stdout(Stdio::piped());
        let output = client.spawn(process)?.wait_with_output()?;
        Ok((
            String::from_utf8(output.stdout)?,
            output.status.code().unwrap_or(-1),
        ))
    };
    let report = names(&["sysctls"], 2, look)?;
    ensure!(
        report.contains("--sysctl net.ipv6.conf.all.forwarding=1"),
        "{report}"
    );
    client.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    let line = script("run --probe=198.51.100.2");
    let unshare = Path::new("/usr/bin/unshare");
    let clat = Daemon::start(client, unshare, &["--mount", "sh", "-c", &line])?;
    clat.wait_for_line("ready: ", lab::installed::PATIENCE)?;
    soon("ok", || host.status_json())?;
    names(&[], 0, look)?;
    client.set_sysctl("ipv6/conf/all/forwarding", "0")?;
    names(&["sysctls"], 2, look)?;
    let end = Instant::now() + SOON;
    while host.status_json()?.contains("\"word\":\"ok\"") {
        ensure!(Instant::now() < end, "the status is ok");
        thread::sleep(Duration::from_millis(50));
    }
    client.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    soon("ok", || host.status_json())?;
    names(&[], 0, look)?;
    Ok(())
}

fn dr_11_a_daemon_that_hangs_or_is_old_is_named_in_time() -> Result<()> {
    let net = Net::new(&Plan::default(), Setup::default())?;
    let directory = tempfile::tempdir()?;
    let run_dir = directory.path().join("run");
    fs::create_dir(&run_dir)?;
    let socket = UnixListener::bind(run_dir.join("clat.sock"))?;
    let run = run_dir.display().to_string();
    let client = net.installed.topology.client();
    let look = || {
        doctor(
            client,
            &net.programs.clat,
            &[
                "--run-dir",
                &run,
                "--state-dir",
                &run,
                "--prefix=2001:db8:64::/96",
            ],
        )
    };
    // Nobody accepts.
    let started = Instant::now();
    let report = names(&["daemon"], 2, look)?;
    ensure!(report.contains("clat runs and does not answer"), "{report}");
    ensure!(started.elapsed() < 3 * SOON);
    // A version from before there was a number of the form.
    let answering = thread::spawn(move || {
        use std::io::{BufRead, BufReader, Write};
        for stream in socket.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            if line.contains("Stop") {
                return;
            }
            let _ =
                stream.write_all(b"ok\n{\"version\":\"0.1.0\",\"uptime_s\":3,\"state\":\"x\"}\n");
        }
    });
    let report = names(&["daemon"], 1, look)?;
    ensure!(report.contains("older than this program"), "{report}");
    let mut end = std::os::unix::net::UnixStream::connect(run_dir.join("clat.sock"))?;
    std::io::Write::write_all(&mut end, b"\"Stop\"\n")?;
    ensure!(answering.join().is_ok());
    Ok(())
}

fn dr_11_a_closed_pipe_is_no_error() -> Result<()> {
    let net = Net::new(&Plan::default(), Setup::default())?;
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let run = net.directory("clat0", "run");
    let mut process = Command::new(&net.programs.clat);
    process.args(["doctor", "--run-dir", &run]);
    process.stdout(writer).stderr(Stdio::piped());
    let output = net
        .installed
        .topology
        .client()
        .spawn(process)?
        .wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    ensure!(
        complaint.is_empty() && matches!(code, Some(0..=2)),
        "{code:?} {complaint}"
    );
    Ok(())
}
