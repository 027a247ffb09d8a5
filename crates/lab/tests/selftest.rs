//! The laboratory itself, against plain kernel forwarding: what the end-to-end tests rely on.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use lab::capture::Capture;
use lab::link::set_mtu;
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology, UPLINK};
use lab::traffic::PATIENCE;
use lab::traffic::ping::ping;
use lab::traffic::pmtu::{PathMtu, discover};
use lab::traffic::tcp::{Way, transfer};
use lab::traffic::traceroute::traceroute;
use lab::traffic::udp::{Echo, exchange, refused};

const TESTS: &[Test] = lab::tests![
    a_namespace_has_only_its_own_links,
    a_process_is_born_in_the_namespace,
    a_daemon_is_followed_from_its_first_line_to_its_end,
    a_daemon_that_ends_too_early_is_reported_with_its_log,
    a_dropped_daemon_and_a_daemon_without_parent_are_killed,
    the_edge_is_reached_over_ipv6_and_the_server_over_ipv4,
    routers_forward_in_the_middle,
    clients_do_not_reach_the_server_without_translation,
    tcp_carries_the_content_both_ways,
    a_tcp_transfer_to_nowhere_ends_with_an_error,
    udp_of_every_size_comes_back_and_large_ones_in_fragments,
    a_closed_port_is_reported_as_refused,
    a_traceroute_names_router_and_target,
    a_small_mtu_in_the_middle_is_discovered,
    a_black_hole_is_reported,
    a_capture_shows_both_directions_of_its_interfaces_only,
];

fn main() {
    lab::suite::run(TESTS)
}

fn a_namespace_has_only_its_own_links() -> Result<()> {
    let namespace = Namespace::new("alone")?;
    let names = namespace.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?))?;
    let names = names.lines().skip(2).map(|line| line.split(':').next());
    let names = names.flatten().map(str::trim).collect::<Vec<_>>();
    assert_eq!(names, ["lo"]);
    Ok(())
}

fn a_process_is_born_in_the_namespace() -> Result<()> {
    let namespace = Namespace::new("home")?;
    let inside = namespace.run(|| Ok(std::fs::read_link("/proc/thread-self/ns/net")?))?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "readlink /proc/self/ns/net >&2"]);
    command.stderr(std::process::Stdio::piped());
    let output = namespace.spawn(command)?.wait_with_output()?;
    let seen = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert_eq!(seen, inside.to_string_lossy());
    assert_ne!(inside, std::fs::read_link("/proc/self/ns/net")?);
    Ok(())
}

fn a_daemon_is_followed_from_its_first_line_to_its_end() -> Result<()> {
    let namespace = Namespace::new("home")?;
    let script =
        "trap 'echo bye >&2; exit 0' TERM; echo now ready >&2; while :; do sleep 0.01; done";
    let mut daemon = Daemon::start(&namespace, Path::new("/bin/sh"), &["-c", script])?;
    daemon.wait_for_line("ready", PATIENCE)?;
    let error = daemon.wait_for_line("never said", Duration::from_millis(10));
    assert!(error.is_err());
    daemon.stop(PATIENCE)?;
    assert_eq!(daemon.log(), "\n    now ready\n    bye");
    Ok(())
}

fn a_daemon_that_ends_too_early_is_reported_with_its_log() -> Result<()> {
    let namespace = Namespace::new("home")?;
    let script = "echo no such interface >&2; exit 1";
    let mut daemon = Daemon::start(&namespace, Path::new("/bin/sh"), &["-c", script])?;
    let error = daemon.wait_for_line("ready", PATIENCE).expect_err("ended");
    assert!(error.to_string().ends_with("no such interface"), "{error}");
    assert_eq!(daemon.wait(PATIENCE)?.code(), Some(1));
    Ok(())
}

fn a_dropped_daemon_and_a_daemon_without_parent_are_killed() -> Result<()> {
    let namespace = Namespace::new("home")?;
    let start = || {
        Daemon::start(
            &namespace,
            Path::new("/bin/sh"),
            &["-c", "echo $$ >&2; exec sleep 60"],
        )
    };
    let dropped = start()?;
    let pid = first_line(&dropped)?;
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    drop(dropped);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());

    let mut orphan = start()?;
    first_line(&orphan)?;
    // Ends the thread that is the parent of the process.
    drop(namespace);
    assert_eq!(orphan.wait(PATIENCE)?.signal(), Some(9));
    Ok(())
}

/// The number that the shell of the test above prints first.
fn first_line(daemon: &Daemon) -> Result<String> {
    daemon.wait_for_line("", PATIENCE)?;
    Ok(daemon.log().trim().to_owned())
}

fn the_edge_is_reached_over_ipv6_and_the_server_over_ipv4() -> Result<()> {
    let network = Topology::new(&Plan::default())?;
    network
        .client()
        .run(|| ping(network.edge_address(), 56, PATIENCE))?;
    network.edge.run(|| ping(SERVER, 1472, PATIENCE))?;
    Ok(())
}

fn routers_forward_in_the_middle() -> Result<()> {
    let plan = Plan {
        clients: 3,
        ..Plan::with_routers()
    };
    let network = Topology::new(&plan)?;
    for client in &network.clients {
        client.run(|| ping(network.edge_address(), 1400, PATIENCE))?;
    }
    for number in 0..3 {
        let client = Topology::client_address(number);
        network.edge.run(|| ping(client, 0, PATIENCE))?;
    }
    network.edge.run(|| ping(SERVER, 56, PATIENCE))?;
    Ok(())
}

fn clients_do_not_reach_the_server_without_translation() -> Result<()> {
    let network = Topology::new(&Plan::with_routers())?;
    assert!(lab::link::exists(network.client(), UPLINK)?);
    let error = network.client().run(|| ping(SERVER, 56, PATIENCE));
    let error = format!("{:#}", error.expect_err("an IPv6-only client"));
    assert!(error.contains("unreachable"), "{error}");
    Ok(())
}

fn tcp_carries_the_content_both_ways() -> Result<()> {
    let network = Topology::new(&Plan::with_routers())?;
    for way in [Way::Download, Way::Upload] {
        for bytes in [0, 1, 5_000_001] {
            let target = SERVER.into();
            let done = transfer(&network.edge, &network.server, target, way, bytes, PATIENCE)?;
            assert_eq!(done.bytes, bytes);
            assert_eq!(done.peer.to_string(), "203.0.113.1");
        }
    }
    Ok(())
}

fn a_tcp_transfer_to_nowhere_ends_with_an_error() -> Result<()> {
    let network = Topology::new(&Plan::default())?;
    let (client, server) = (network.client(), &network.server);
    let soon = Duration::from_millis(200);
    let outcome = transfer(client, server, SERVER.into(), Way::Upload, 10, soon);
    let error = format!("{:#}", outcome.expect_err("an IPv6-only client"));
    assert!(
        error.contains("no TCP connection to 198.51.100.2"),
        "{error}"
    );
    Ok(())
}

fn udp_of_every_size_comes_back_and_large_ones_in_fragments() -> Result<()> {
    let network = Topology::new(&Plan::with_routers())?;
    let echo = Echo::start(&network.server, SERVER.into())?;
    let sizes = (0..=1472).step_by(64).chain([1472, 1473, 4000, 60_000]);
    let edge = &network.edge;
    edge.run(|| exchange(echo.address(), sizes, PATIENCE))?;
    let echo6 = Echo::start(&network.edge, network.edge_address().into())?;
    let client = network.client();
    client.run(|| exchange(echo6.address(), [0, 1452, 4000], PATIENCE))?;
    Ok(())
}

fn a_closed_port_is_reported_as_refused() -> Result<()> {
    let network = Topology::new(&Plan::with_routers())?;
    network.edge.run(|| refused(SERVER.into(), PATIENCE))?;
    Ok(())
}

fn a_traceroute_names_router_and_target() -> Result<()> {
    let network = Topology::new(&Plan::with_routers())?;
    let hops = network.edge.run(|| traceroute(SERVER, PATIENCE))?;
    let seen = hops.iter().map(|hop| (hop.source.to_string(), hop.last));
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [
            ("203.0.113.2".to_owned(), false),
            (SERVER.to_string(), true)
        ]
    );
    Ok(())
}

fn a_small_mtu_in_the_middle_is_discovered() -> Result<()> {
    let plan = Plan {
        router4: Some(1400),
        ..Plan::default()
    };
    let network = Topology::new(&plan)?;
    let edge = Ipv4Addr::new(203, 0, 113, 1);
    let echo = Echo::start(&network.edge, edge.into())?;
    let target = SocketAddrV4::new(edge, echo.address().port());
    let found = network.server.run(|| discover(target, PATIENCE))?;
    let expected = PathMtu {
        first: 1500,
        path: 1400,
        rounds: 1,
    };
    assert_eq!(found, expected);
    Ok(())
}

fn a_black_hole_is_reported() -> Result<()> {
    let network = Topology::new(&Plan::default())?;
    // What is larger than the receiving end takes is dropped without a word.
    set_mtu(&network.server, UPLINK, 1400)?;
    let echo = Echo::start(&network.server, SERVER.into())?;
    let target = SocketAddrV4::new(SERVER, echo.address().port());
    let soon = Duration::from_millis(300);
    let outcome = network.edge.run(|| discover(target, soon));
    let error = format!("{:#}", outcome.expect_err("a black hole"));
    assert!(error.contains("black hole"), "{error}");
    Ok(())
}

fn a_capture_shows_both_directions_of_its_interfaces_only() -> Result<()> {
    let network = Topology::new(&Plan::with_routers())?;
    let router = network.router4.as_ref().expect("in the plan");
    let ends = [(router, "edge"), (&network.server, UPLINK)];
    let capture = Capture::start(&ends, 64)?;
    network.edge.run(|| ping(SERVER, 100, PATIENCE))?;
    let captured = capture.stop()?;
    let icmp = captured.packets.iter().filter(|packet| {
        let ip = packet.ip();
        ip.len() > 20 && ip[0] == 0x45 && ip[9] == 1
    });
    let seen = icmp.map(|packet| {
        assert_eq!((packet.length, packet.bytes.len()), (14 + 20 + 8 + 100, 64));
        (packet.interface, packet.outgoing, packet.ip()[20])
    });
    let (request, reply) = (8, 0);
    let mut seen = seen.collect::<Vec<_>>();
    seen.sort_unstable();
    let expected = [
        (0, false, request),
        (0, true, reply),
        (1, false, request),
        (1, true, reply),
    ];
    assert_eq!(seen, expected);
    Ok(())
}
