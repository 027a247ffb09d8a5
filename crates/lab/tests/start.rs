//! Starts of `plat` that fail half way: the host and the saved sessions are as they were.

use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::binaries::Binaries;
use lab::inspect::{difference, ensure_unchanged, inspect};
use lab::installed::{Installed, PATIENCE, Setup};
use lab::ip::ip;
use lab::namespace::Namespace;
use lab::nft::{NFT, nft};
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{PREF64, Plan, SERVER, Topology, embedded};
use lab::traffic::ping::ping;
use lab::wait::wait_until;

const TESTS: &[Test] = lab::tests![
    a_start_that_fails_half_way_leaves_the_host_as_it_was,
    nb_06_a_start_that_fails_keeps_the_saved_sessions,
    np_10_a_pool_with_an_address_of_this_host_is_refused,
    se_24_running_daemons_can_do_no_more_than_they_need,
    se_28_files_that_others_could_have_put_there_are_not_used,
    se_30_each_thread_has_what_it_needs_and_no_more,
    se_30_killed_threads_of_plat_are_reported_and_its_dns64_is_started_again,
    se_29_a_session_log_without_a_reader_does_not_keep_plat_from_its_start,
];

fn main() {
    lab::suite::run_with_programs(
        TESTS,
        &[
            ("a_start_that_fails_half_way_leaves_the_host_as_it_was", NFT),
            (
                "se_30_killed_threads_of_plat_are_reported_and_its_dns64_is_started_again",
                STRACE,
            ),
        ],
    )
}

fn a_start_that_fails_half_way_leaves_the_host_as_it_was() -> Result<()> {
    let topology = Topology::new(&Plan::with_routers())?;
    let edge = &topology.edge;
    for (key, value) in [("ipv4/ip_forward", "0"), ("ipv6/conf/all/forwarding", "0")] {
        edge.set_sysctl(key, value)?;
    }
    // Routes and sysctls are there before this name is found to be taken.
    nft(edge, "add table ip xlat_nat64")?;
    let before = inspect(edge)?;
    let directory = tempfile::tempdir()?;
    let flags = ["--pool=192.168.64.9", "--egress=masquerade:eth0"];
    let log = refused(edge, &flags, directory.path())?;
    ensure!(log.contains("nftables: "), "{log}");
    ensure_unchanged(&before, edge)?;
    ensure!(edge.sysctl("ipv4/ip_forward")? == "0");
    Ok(())
}

/// Its ports are the host's own: connections of both would be mixed up.
fn np_10_a_pool_with_an_address_of_this_host_is_refused() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let edge = &topology.edge;
    let before = inspect(edge)?;
    let directory = tempfile::tempdir()?;
    // The edge's own address on the server's link is 198.51.100.1.
    for pool in ["--pool=198.51.100.1", "--pool=198.51.100.0/29:2000-2999"] {
        let log = refused(edge, &[pool], directory.path())?;
        ensure!(log.contains("198.51.100.1"), "{pool}: {log}");
        let changed = difference(&before, &inspect(edge)?);
        ensure!(changed.is_empty(), "{pool}: {changed:?}");
    }
    Ok(())
}

fn nb_06_a_start_that_fails_keeps_the_saved_sessions() -> Result<()> {
    let setup = Setup::plat_alone(&["--pool=192.168.64.9"]);
    let topology = Topology::new(&Plan::default())?;
    let mut installed = Installed::with(&Binaries::find()?, topology, setup)?;
    let client = installed.topology.client();
    client.run(|| ping(embedded(SERVER), 56, PATIENCE))?;
    installed.plat.stop(PATIENCE)?;
    let file = installed.directory().join("plat/state/sessions");
    let saved = std::fs::read_to_string(&file)?;
    ensure!(saved.lines().count() == 3, "{saved}");

    let edge = &installed.topology.edge;
    let taken = edge.run(|| Ok(TcpListener::bind((Ipv6Addr::LOCALHOST, 0))?))?;
    let metrics = format!("--metrics={}", taken.local_addr()?);
    let flags = ["--pool=192.168.64.9", &metrics];
    let log = refused(edge, &flags, &installed.directory().join("plat"))?;
    ensure!(log.contains("--metrics"), "{log}");
    ensure!(std::fs::read_to_string(&file)? == saved, "another file");
    drop(taken);
    installed.restart_plat()?;
    let sessions = installed.ask_plat(&["sessions", "--json"])?;
    ensure!(sessions.lines().count() == 1, "{sessions}");
    ensure!(!file.exists(), "a crash would bring old sessions back");
    Ok(())
}

fn se_24_running_daemons_can_do_no_more_than_they_need() -> Result<()> {
    let flags = ["--pool=192.168.64.9", "--nice=-1", "--status-group=1"];
    let setup = Setup::plat_alone(&flags).with_clats();
    let topology = Topology::new(&Plan::default())?;
    let mut installed = Installed::with(&Binaries::find()?, topology, setup)?;
    // CAP_NET_BIND_SERVICE, CAP_NET_ADMIN and CAP_NET_RAW; CAP_SYS_NICE where it is needed.
    let network = 1 << 10 | 1 << 12 | 1 << 13;
    let clat = &installed.clats[0];
    for (daemon, needed) in [(clat, network), (&installed.plat, network | 1 << 23)] {
        for set in ["CapEff", "CapPrm"] {
            let has = u64::from_str_radix(&daemon.status(set)?, 16)?;
            ensure!(has == needed, "{set}: {has:x}");
        }
        for set in ["CapInh", "CapAmb"] {
            let has = daemon.status(set)?;
            ensure!(has.trim_matches('0').is_empty(), "{set}: {has}");
        }
        ensure!(daemon.status("NoNewPrivs")? == "1", "new privileges");
    }
    let socket = |name: &str| {
        let found = std::fs::metadata(installed.directory().join(name))?;
        Ok::<_, anyhow::Error>((found.mode() & 0o777, found.gid()))
    };
    let (mode, _) = socket("clat0/run/clat.sock")?;
    ensure!(mode == 0o600, "clat: {mode:o}");
    // In a user namespace there may be no such group.
    let (mode, group) = socket("plat/run/nat64.sock")?;
    let is_refused = installed.plat.log().contains("--status-group: only");
    ensure!(
        (mode, group) == (0o660, 1) || is_refused && mode == 0o600,
        "plat: {mode:o}"
    );
    // It is enough to take everything back, too.
    installed.clats[0].stop(PATIENCE)?;
    installed.plat.stop(PATIENCE)
}

fn se_28_files_that_others_could_have_put_there_are_not_used() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let edge = &topology.edge;
    let pool = "--pool=192.168.64.9";
    let directory = tempfile::tempdir()?;
    let target = directory.path().join("target");
    std::fs::write(&target, "untouched")?;
    let place = |name: &str| directory.path().join(name);
    let mode =
        |name: &str, mode| std::fs::set_permissions(place(name), PermissionsExt::from_mode(mode));
    for name in ["run", "state"] {
        std::fs::create_dir_all(place(name))?;
        mode(name, 0o777)?;
        let log = refused(edge, &[pool], directory.path())?;
        ensure!(log.contains("chmod go-w"), "{name}: {log}");
        mode(name, 0o755)?;
    }
    let link = place("sessions.log");
    std::fs::hard_link(&target, &link)?;
    let flag = format!("--session-log={}", link.display());
    let log = refused(edge, &[pool, &flag], directory.path())?;
    ensure!(log.contains("hard link"), "{log}");
    // Links in the state directory are no reason to end: a new secret is made beside them.
    for name in ["secret", "secret.new", "sessions", "sessions.new"] {
        let link = place("state").join(name);
        // The starts before have made a secret.
        let _ = std::fs::remove_file(&link);
        symlink(&target, link)?;
    }
    let journal = place("run").join("nat64.journal");
    symlink(&target, &journal)?;
    let log = refused(edge, &[pool], directory.path())?;
    ensure!(log.contains("symbolic link"), "{log}");
    std::fs::remove_file(&journal)?;
    let mut plat = start(edge, &[pool], directory.path())?;
    plat.wait_for_line("ready", PATIENCE)?;
    plat.stop(PATIENCE)?;
    ensure!(
        plat.log()
            .contains("secret is damaged (it is a symbolic link)"),
        "{}",
        plat.log()
    );
    for name in ["secret", "sessions"] {
        ensure!(
            place("state").join(name).symlink_metadata()?.is_file(),
            "{name}"
        );
    }
    ensure!(
        std::fs::read_to_string(&target)? == "untouched",
        "written to"
    );
    Ok(())
}

fn se_29_a_session_log_without_a_reader_does_not_keep_plat_from_its_start() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let directory = tempfile::tempdir()?;
    let pipe = directory.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU)?;
    let flag = format!("--session-log={}", pipe.display());
    let flags = ["--pool=192.168.64.9", &flag];
    let mut plat = start(&topology.edge, &flags, directory.path())?;
    plat.wait_for_line("ready", PATIENCE)?;
    plat.stop(PATIENCE)
}

fn se_30_each_thread_has_what_it_needs_and_no_more() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let directory = tempfile::tempdir()?;
    let log = format!("--session-log={}", directory.path().join("log").display());
    let flags = [
        "--pool=192.168.64.9",
        "--dns64=2001:db8:1::1",
        "--dns64-upstream=198.51.100.53",
        "--metrics=[::1]:9464",
        "--queues=2",
        &log,
    ];
    let mut plat = start(&topology.edge, &flags, directory.path())?;
    plat.wait_for_line("ready", PATIENCE)?;
    let mut clat = Installed::new(&Binaries::find()?, &Plan::default())?;
    for (daemon, control, expected) in [
        (
            &plat,
            "plat",
            &[
                "dns64",
                "dns64-0",
                "metrics",
                "session-log",
                "thread-watch",
                "tun-worker-0",
                "tun-worker-1",
            ][..],
        ),
        (&clat.clats[0], "clat", &["thread-watch", "tun-worker-0"]),
    ] {
        let effective = daemon.thread_status("CapEff")?;
        for name in expected {
            ensure!(
                effective.iter().any(|(of, _)| of == name),
                "no {name}: {effective:?}"
            );
        }
        for field in ["CapEff", "CapPrm"] {
            for (name, set) in daemon.thread_status(field)? {
                let set = u64::from_str_radix(&set, 16)?;
                // CAP_NET_BIND_SERVICE, CAP_NET_ADMIN and CAP_NET_RAW.
                let wanted = if name == control { 0x3400 } else { 0 };
                ensure!(set == wanted, "{field} of {name}: {set:x}");
            }
        }
        for (name, mode) in daemon.thread_status("Seccomp")? {
            ensure!(mode == "2", "{name} has no filter: {mode}");
        }
        for (name, filters) in daemon.thread_status("Seccomp_filters")? {
            let own = if name == control { 1 } else { 2 };
            ensure!(filters.parse::<u32>()? >= own, "{name}: {filters} filters");
        }
    }
    clat.clats[0].stop(PATIENCE)?;
    plat.stop(PATIENCE)
}

/// What an attacker in the thread would do: strace puts another call, getpgrp(2), in the place of the one
/// that the thread makes next.
fn se_30_killed_threads_of_plat_are_reported_and_its_dns64_is_started_again() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let directory = tempfile::tempdir()?;
    let flags = [
        "--pool=192.168.64.9",
        "--dns64=2001:db8:1::1",
        "--dns64-upstream=198.51.100.53",
        "--metrics=[::1]:9464",
        &format!("--session-log={}", directory.path().join("log").display()),
    ];
    let mut plat = start(&topology.edge, &flags, directory.path())?;
    plat.wait_for_line("ready", PATIENCE)?;
    wait_until(|| Ok(is_answered(topology.client())))?;
    for (name, what_follows) in [
        ("metrics", "no metrics until the next start"),
        (
            "session-log",
            "nothing is logged of sessions until the next start",
        ),
        (
            "dns64",
            "the DNS64 answers nobody until it is started again",
        ),
    ] {
        attack(&plat, name)?;
        let report = format!("the thread {name} made a system call that it may not make");
        plat.wait_for_line(&report, PATIENCE)?;
        plat.wait_for_line(what_follows, PATIENCE)?;
    }
    topology
        .client()
        .run(|| ping(embedded(SERVER), 56, PATIENCE))?;
    plat.wait_for_line("the DNS64 answers again", PATIENCE)?;
    wait_until(|| Ok(is_answered(topology.client())))?;
    // Nobody else reads a worker's queue: the daemon ends in order, and is started again by its service
    // manager.
    attack(&plat, "tun-worker-0")?;
    plat.wait_for_line("the thread tun-worker-0 made a system call", PATIENCE)?;
    let end = plat.wait(PATIENCE)?;
    ensure!(end.code() == Some(1), "{end}: {}", plat.log());
    let links = ip(&topology.edge, "-o link")?;
    ensure!(!links.contains("nat64"), "{links}");
    Ok(())
}

const STRACE: &str = "/usr/bin/strace";

fn attack(daemon: &Daemon, thread: &str) -> Result<()> {
    let threads = daemon.thread_status("Pid")?;
    let mut numbers = threads.iter().filter(|(name, _)| name == thread);
    let (_, number) = numbers.next().context("no such thread")?;
    let traced = Command::new(STRACE)
        .args(["-qq", "--output=/dev/null", "--attach", number])
        .arg("--inject=all:retval=0:syscall=getpgrp")
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&traced.stderr);
    ensure!(said.is_empty(), "strace: {said}");
    Ok(())
}

/// Whether the DNS64 has an IPv6 address for ipv4only.arpa.
fn is_answered(client: &Namespace) -> bool {
    let query = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x08ipv4only\x04arpa\0\0\x1c\0\x01";
    let asked = client.run(|| {
        let socket = UdpSocket::bind("[::]:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        socket.send_to(query, "[2001:db8:1::1]:53")?;
        let mut answer = [0; 512];
        let (length, _) = socket.recv_from(&mut answer)?;
        Ok(length > query.len() && answer[..2] == query[..2] && answer[3] & 0xf == 0)
    });
    asked.unwrap_or(false)
}

/// Starts `plat`, which must end with 1, and returns what it said.
fn refused(edge: &Namespace, flags: &[&str], directory: &Path) -> Result<String> {
    let mut plat = start(edge, flags, directory)?;
    let status = plat.wait(PATIENCE)?;
    let log = plat.log();
    ensure!(status.code() == Some(1), "{status}: {log}");
    Ok(log)
}

fn start(edge: &Namespace, flags: &[&str], directory: &Path) -> Result<Daemon> {
    let place = |name: &str| format!("--{name}-dir={}", directory.join(name).display());
    let mut all: Vec<String> = flags.iter().map(ToString::to_string).collect();
    all.extend([place("run"), place("state"), format!("--prefix={PREF64}")]);
    Daemon::start(edge, &Binaries::find()?.plat, &all)
}
