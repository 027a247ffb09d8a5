//! Sessions of the stateful NAT64 whose packets the kernel translates: they move there and back, end in
//! time, and nothing else notices.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::binaries::Binaries;
use lab::capture::Capture;
use lab::command::output;
use lab::fast_path::{
    Download, Flow, PART, bind6, carried, connect, ensure_exact, in_kernel, in_prefix, traffic,
};
use lab::installed::{Installed, Setup};
use lab::ip::ip;
use lab::nft::{NFT, nft};
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology, embedded};
use lab::traffic::PATIENCE;
use lab::wait::wait_until;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv6RecvErr;

const TESTS: &[Test] = lab::tests![
    kf_10_what_is_not_possible_is_required_in_vain,
    kf_11_a_download_goes_on_while_its_session_moves_into_the_kernel_and_out,
    kf_12_a_session_lives_by_packets_in_the_kernel_and_ends_after_the_last,
    kf_13_counters_are_exact_to_the_packet,
    kf_14_a_denial_is_effective_within_one_packet,
    kf_14_limits_of_a_reload_are_effective_while_sessions_are_in_the_kernel,
    kf_15_a_port_forward_is_carried_in_the_kernel,
    kf_16_the_firewall_and_masquerading_see_what_the_kernel_translates,
    kf_17_a_program_that_was_detached_is_attached_again_but_not_at_once_if_it_does_not_stay,
    kf_18_a_capture_on_the_tun_sees_both_sides_of_each_packet,
    kp_19_what_an_administrator_writes_into_the_tables_costs_no_packet,
];

/// The one address that clients share.
const SHARED: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 9);
const POOL: &str = "--pool=192.168.64.9";
const REQUIRED: &str = "--fast-path=required";

fn main() {
    lab::suite::run_with_programs(TESTS, NEEDED)
}

fn kf_10_what_is_not_possible_is_required_in_vain() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let directory = tempfile::tempdir()?;
    let plat = Binaries::find()?.plat.display().to_string();
    let run_dir = format!("--run-dir={}", directory.path().display());
    // All but CAP_SYS_ADMIN, CAP_PERFMON and CAP_BPF.
    let limited = ["--bounding-set=-cap_21,-cap_38,-cap_39", &plat];
    let flags = [POOL, REQUIRED, "--no-host-setup", &run_dir];
    let outcome = output(
        &topology.edge,
        SETPRIV,
        &[&limited[..], &flags].concat(),
        "",
    );
    let error = format!("{:#}", outcome.err().context("it has started")?);
    ensure!(error.contains("CAP_BPF"), "{error}");
    Ok(())
}

fn kf_11_a_download_goes_on_while_its_session_moves_into_the_kernel_and_out() -> Result<()> {
    let mut installed = install(&[POOL, REQUIRED])?;
    let mut download = Download::start(&installed, embedded(SERVER).into())?;
    download.parts(&installed, 2)?;
    ensure!(
        in_kernel(&installed)? == 1,
        "the session is not in the kernel"
    );
    let before = carried(&installed)?;
    download.parts(&installed, 4)?;
    // Super-packets, of 64 KiB at the most.
    let packets = carried(&installed)? - before;
    ensure!(
        packets > 4 * (PART as u64 >> 16),
        "{packets} packets in the kernel"
    );
    for _ in 0..4 {
        installed.ask_plat(&["reload"]).err();
        installed.plat.signal(rustix::process::Signal::HUP)?;
        download.parts(&installed, 1)?;
    }
    wait_until(|| {
        download.parts(&installed, 1)?;
        Ok(in_kernel(&installed)? == 1)
    })?;
    installed.plat.stop(PATIENCE)?;
    installed.restart_plat()?;
    download.parts(&installed, 2).context("after a restart")?;
    ensure!(
        in_kernel(&installed)? == 1,
        "it is not there after a restart"
    );
    installed.plat.kill(PATIENCE)?;
    let links = output(
        &installed.topology.edge,
        "/usr/sbin/ip",
        &["-o", "link"],
        "",
    )?;
    ensure!(!links.contains("nat64"), "{links}");
    Ok(())
}

/// What the list says that the kernel has carried of the one session: packets and bytes out and in.
fn load(installed: &Installed) -> Result<[u64; 4]> {
    let list = installed.ask_plat(&["sessions", "--json"])?;
    let figure = |name: &str| -> Result<u64> {
        let rest = list.split(&format!("\"{name}\":")).nth(1);
        let rest = rest.with_context(|| format!("{name} in {list}"))?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse()?)
    };
    Ok([
        figure("packets_out")?,
        figure("bytes_out")?,
        figure("packets_in")?,
        figure("bytes_in")?,
    ])
}

fn kf_12_a_session_lives_by_packets_in_the_kernel_and_ends_after_the_last() -> Result<()> {
    let flags = [POOL, REQUIRED, "--udp-timeout=1s", "--allow-short-timeouts"];
    let installed = install(&flags)?;
    let flow = Flow::start(&installed)?;
    flow.warm_up(&installed)?;
    let (before, mut sent) = (carried(&installed)?, 0);
    let at_first = load(&installed)?;
    ensure!(at_first[3] == at_first[2] * 128, "{at_first:?}");
    let begin = Instant::now();
    let mut last = begin;
    while begin.elapsed() < Duration::from_millis(2500) {
        last = Instant::now();
        flow.there()?;
        sent += 1;
        // One direction alone, slower than a few packets in a lifetime.
        thread::sleep(Duration::from_millis(400));
    }
    let carried = carried(&installed)? - before;
    ensure!(carried == sent, "{carried} of {sent} in the kernel");
    // Packets of 100 bytes: IPv6 and UDP headers there, IPv4 and UDP headers back.
    let after = load(&installed)?;
    let there = [after[0] - at_first[0], after[1] - at_first[1]];
    ensure!(there == [sent, sent * 148], "{there:?} of {sent}");
    ensure!(after[2..] == at_first[2..], "{after:?}");
    ensure!(
        installed
            .ask_plat(&["sessions"])?
            .contains(&flow.outside.to_string())
    );
    wait_until(|| {
        Ok(!installed
            .ask_plat(&["sessions"])?
            .contains(&flow.outside.to_string()))
    })?;
    let lived = last.elapsed();
    ensure!(
        lived >= Duration::from_secs(1),
        "it has lived for {lived:?} only"
    );
    ensure!(
        lived < Duration::from_millis(3500),
        "it has lived for {lived:?}"
    );
    // Its timer looks twice a second.
    wait_until(|| Ok(in_kernel(&installed)? == 0))
}

fn kf_13_counters_are_exact_to_the_packet() -> Result<()> {
    let installed = install(&[POOL, REQUIRED])?;
    let flow = Flow::start(&installed)?;
    flow.warm_up(&installed)?;
    let (before, in_kernel) = (traffic(&installed)?, carried(&installed)?);
    for _ in 0..500 {
        flow.there()?;
        flow.back()?;
    }
    let after = traffic(&installed)?;
    let grown: Vec<u64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    // IPv4 in, IPv6 in, IPv4 out, IPv6 out, in packets and bytes: 100 bytes of data.
    let [v4, v6] = [500 * (100 + 8 + 20), 500 * (100 + 8 + 40)];
    ensure_exact(&grown, &[500, v4, 500, v6, 500, v4, 500, v6])?;
    let grown = carried(&installed)? - in_kernel;
    ensure!(grown == 1000, "{grown} of 1000 packets in the kernel");
    Ok(())
}

fn kf_14_a_denial_is_effective_within_one_packet() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file: PathBuf = directory.path().join("plat.toml");
    let text = "pool = \"192.168.64.9\"\nfast-path = \"required\"\n";
    std::fs::write(&file, text)?;
    let installed = install(&["--config", &file.display().to_string()])?;
    let flow = Flow::start(&installed)?;
    flow.warm_up(&installed)?;
    setsockopt(&flow.client, Ipv6RecvErr, &true)?;
    std::fs::write(&file, format!("{text}deny = \"198.51.100.0/24\"\n"))?;
    installed.ask_plat(&["reload"])?;
    flow.client.send(&[0; 100])?;
    let told = flow
        .client
        .recv(&mut [0; 16])
        .err()
        .context("it was not refused")?;
    // ICMPv6 1/1, administratively prohibited.
    ensure!(told.kind() == ErrorKind::PermissionDenied, "{told}");
    ensure!(in_kernel(&installed)? == 0, "it is still in the kernel");
    // A limit leaves what is there alone, and lets in nothing else.
    std::fs::write(&file, format!("{text}subscriber-sessions = 1\n"))?;
    installed.ask_plat(&["reload"])?;
    flow.warm_up(&installed)?;
    let second = bind6(&installed)?;
    setsockopt(&second, Ipv6RecvErr, &true)?;
    second.connect(in_prefix(flow.server.local_addr()?))?;
    second.send(b"?")?;
    let told = second
        .recv(&mut [0; 16])
        .err()
        .context("there is a second session")?;
    ensure!(told.kind() == ErrorKind::HostUnreachable, "{told}");
    flow.there()?;
    flow.back()
}

fn kf_14_limits_of_a_reload_are_effective_while_sessions_are_in_the_kernel() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file: PathBuf = directory.path().join("plat.toml");
    let text = "pool = \"192.168.64.9\"\nfast-path = \"required\"\n";
    std::fs::write(&file, text)?;
    let installed = install(&["--config", &file.display().to_string()])?;
    let flow = Flow::start(&installed)?;
    flow.warm_up(&installed)?;
    std::fs::write(&file, format!("{text}subscriber-rate = 1\n"))?;
    installed.ask_plat(&["reload"])?;
    // The next packet of a session that is there is no new session.
    flow.there()?;
    flow.back()?;
    let server = &installed.topology.server;
    let other = server.run(|| Ok(UdpSocket::bind((SERVER, 0))?))?;
    let sockets = (0..40).map(|_| {
        let socket = bind6(&installed)?;
        setsockopt(&socket, Ipv6RecvErr, &true)?;
        socket.connect(in_prefix(other.local_addr()?))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let sockets = sockets.collect::<Result<Vec<_>>>()?;
    for socket in &sockets {
        socket.send(b"?")?;
    }
    wait_until(|| {
        let told = |socket: &UdpSocket| {
            let told = socket.recv(&mut [0; 16]).err();
            told.is_some_and(|told| told.kind() == ErrorKind::HostUnreachable)
        };
        Ok(sockets.iter().any(told))
    })
    .context("there are 40 new sessions at once")?;
    flow.warm_up(&installed)?;
    // Clients of another network alone, from now on.
    let before = carried(&installed)?;
    setsockopt(&flow.client, Ipv6RecvErr, &true)?;
    std::fs::write(&file, format!("{text}client = \"2001:db8:ffff::/48\"\n"))?;
    installed.ask_plat(&["reload"])?;
    flow.client.send(&[0; 100])?;
    let told = flow.client.recv(&mut [0; 16]).err();
    let told = told.context("it was not refused")?;
    ensure!(told.kind() == ErrorKind::PermissionDenied, "{told}");
    ensure!((carried(&installed)?, in_kernel(&installed)?) == (before, 0));
    Ok(())
}

fn kf_15_a_port_forward_is_carried_in_the_kernel() -> Result<()> {
    let own = Topology::client_address(0);
    let bind = format!("--bind=tcp:192.168.64.9:443=[{own}]:8443");
    let installed = install(&[POOL, REQUIRED, &bind])?;
    let listener = installed
        .topology
        .client()
        .run(|| Ok(TcpListener::bind((own, 8443))?))?;
    let stream = installed
        .topology
        .server
        .run(|| connect((SHARED, 443).into()))?;
    let (sending, _) = listener.accept()?;
    let mut download = Download::of(stream, sending);
    download.parts(&installed, 4)?;
    ensure!(in_kernel(&installed)? == 1, "it is not in the kernel");
    let before = carried(&installed)?;
    download.parts(&installed, 2)?;
    ensure!(
        carried(&installed)? > before,
        "it is not carried in the kernel"
    );
    Ok(())
}

fn kf_16_the_firewall_and_masquerading_see_what_the_kernel_translates() -> Result<()> {
    let installed = install(&[POOL, REQUIRED, "--egress=masquerade"])?;
    let flow = Flow::start(&installed)?;
    let edge = &installed.topology.edge;
    ensure!(
        flow.outside.ip() == Ipv4Addr::new(198, 51, 100, 1),
        "{}",
        flow.outside
    );
    flow.warm_up(&installed)?;
    let table = "table ip test { chain forward { type filter hook forward priority 0; \
                 iifname \"nat64\" ct state established counter accept; \
                 iifname \"nat64\" counter drop; }; }";
    nft(edge, table)?;
    let before = carried(&installed)?;
    for _ in 0..10 {
        flow.there()?;
        flow.back()?;
    }
    ensure!(
        carried(&installed)? - before == 20,
        "not all were carried in the kernel"
    );
    let rules = nft(edge, "list table ip test")?;
    ensure!(
        rules.contains("counter packets 10 bytes 1280 accept"),
        "{rules}"
    );
    ensure!(rules.contains("counter packets 0 bytes 0 drop"), "{rules}");
    nft(
        edge,
        "insert rule ip test forward iifname \"nat64\" counter drop",
    )?;
    flow.client.send(&[0; 100])?;
    wait_until(|| {
        Ok(nft(edge, "list table ip test")?.contains("counter packets 1 bytes 128 drop"))
    })?;
    nft(edge, "delete table ip test")?;
    flow.there()
}

fn kf_17_a_program_that_was_detached_is_attached_again_but_not_at_once_if_it_does_not_stay()
-> Result<()> {
    let installed = install(&[POOL])?;
    let flow = Flow::start(&installed)?;
    flow.warm_up(&installed)?;
    detach(&installed, "attached again")?;
    let before = carried(&installed)?;
    flow.there()?;
    flow.back()?;
    ensure!(
        (carried(&installed)?, in_kernel(&installed)?) == (before + 2, 1),
        "the session is no longer in the kernel"
    );
    detach(&installed, "again; the workers translate all packets")?;
    flow.there()?;
    flow.back()?;
    let status = installed.ask_plat(&["status"])?;
    ensure!(
        status.contains("fast path off (detached by another program)"),
        "{status}"
    );
    ensure!(in_kernel(&installed)? == 0, "{status}");
    let before = traffic(&installed)?;
    flow.there()?;
    flow.back()?;
    let after = traffic(&installed)?;
    ensure!(after[0] == before[0] + 1, "{before:?} {after:?}");
    Ok(())
}

fn kf_18_a_capture_on_the_tun_sees_both_sides_of_each_packet() -> Result<()> {
    let installed = install(&[POOL, REQUIRED])?;
    let flow = Flow::start(&installed)?;
    flow.warm_up(&installed)?;
    let capture = Capture::start(&[(&installed.topology.edge, "nat64")], 128)?;
    let status = || installed.ask_plat(&["status"]);
    wait_until(|| Ok(status()?.contains("a program captures packets on nat64")))
        .with_context(|| status().unwrap_or_default())?;
    for _ in 0..5 {
        flow.there()?;
        flow.back()?;
    }
    let packets = capture.stop()?.packets;
    // 100 bytes of data in UDP over IPv6 and IPv4, into the TUN and out of it.
    for (length, outgoing) in [(148, true), (128, false), (128, true), (148, false)] {
        let seen = packets.iter();
        let seen = seen.filter(|packet| (packet.length, packet.outgoing) == (length, outgoing));
        let seen = seen.count();
        ensure!(
            seen >= 5,
            "{seen} packets of {length} bytes, outgoing: {outgoing}"
        );
    }
    wait_until(|| Ok(status()?.contains("fast path on")))?;
    let before = carried(&installed)?;
    flow.there()?;
    ensure!(
        carried(&installed)? == before + 1,
        "it stays with the workers"
    );
    Ok(())
}

fn kp_19_what_an_administrator_writes_into_the_tables_costs_no_packet() -> Result<()> {
    // So few that each table is one bucket.
    let installed = install(&[POOL, REQUIRED, "--fast-path-sessions=4"])?;
    let flow = Flow::start(&installed)?;
    flow.warm_up(&installed)?;
    let edge = &installed.topology.edge;
    let bpftool = |arguments: &[&str]| output(edge, BPFTOOL, arguments, "");
    let program = described(&installed, "prog_id:")?;
    let shown = bpftool(&["--json", "prog", "show", "id", &program])?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    let maps = shown["map_ids"].as_array().context("no maps")?;
    let mut written = 0;
    for map in maps {
        let map = map.to_string();
        let about = bpftool(&["--json", "map", "show", "id", &map])?;
        let about: serde_json::Value = serde_json::from_str(&about)?;
        if !about["name"]
            .as_str()
            .unwrap_or_default()
            .starts_with("flows")
        {
            continue;
        }
        let bytes = about["bytes_value"].as_u64().context("no size")?;
        let key = [
            "map", "update", "id", &map, "key", "0", "0", "0", "0", "value",
        ];
        let value = vec!["0xff"; usize::try_from(bytes)?];
        bpftool(&[&key[..], &value].concat())?;
        written += 1;
    }
    ensure!(written == 2, "{shown}");
    let before = carried(&installed)?;
    for _ in 0..20 {
        flow.there()?;
        flow.back()?;
    }
    ensure!(carried(&installed)? == before, "it is still in the kernel");
    installed.ask_plat(&["sessions"])?;
    Ok(())
}

/// Detaches the program from the TUN, as an administrator would, and waits for what `plat` says.
fn detach(installed: &Installed, line: &str) -> Result<()> {
    let link = described(installed, "link_id:");
    let link = link.context("the program has no link: Linux before 6.6?")?;
    let edge = &installed.topology.edge;
    output(edge, BPFTOOL, &["link", "detach", "id", &link], "")?;
    // Any event makes it look; without one it looks every few seconds.
    ip(edge, "link set nat64 promisc on")?;
    ip(edge, "link set nat64 promisc off")?;
    wait_until(|| {
        let log = installed.plat.log();
        let mut lines = log.lines();
        Ok(lines.any(|one| one.contains("was detached from nat64") && one.contains(line)))
    })
}

/// What the kernel says under a heading about one of the descriptors of `plat`.
fn described(installed: &Installed, heading: &str) -> Result<String> {
    let pid = installed.plat.status("Pid")?;
    let descriptors = std::fs::read_dir(format!("/proc/{}/fdinfo", pid.trim()))?;
    let found = descriptors.flatten().find_map(|descriptor| {
        let text = std::fs::read_to_string(descriptor.path()).ok()?;
        let found = text.lines().find_map(|line| line.strip_prefix(heading))?;
        Some(found.trim().to_owned())
    });
    found.with_context(|| format!("no descriptor has {heading}"))
}

/// Tests that need a program of the system.
const NEEDED: &[(&str, &str)] = &[
    ("kf_10_what_is_not_possible_is_required_in_vain", SETPRIV),
    (
        "kf_16_the_firewall_and_masquerading_see_what_the_kernel_translates",
        NFT,
    ),
    (
        "kf_17_a_program_that_was_detached_is_attached_again_but_not_at_once_if_it_does_not_stay",
        BPFTOOL,
    ),
    (
        "kp_19_what_an_administrator_writes_into_the_tables_costs_no_packet",
        BPFTOOL,
    ),
];

const SETPRIV: &str = "/usr/bin/setpriv";
const BPFTOOL: &str = "/usr/sbin/bpftool";

fn install(flags: &[&str]) -> Result<Installed> {
    let setup = Setup::plat_alone(flags);
    Installed::with(&Binaries::find()?, Topology::new(&Plan::default())?, setup)
}
