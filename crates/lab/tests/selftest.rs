//! The laboratory itself, against plain kernel forwarding: what the end-to-end tests rely on.
//!
//! Where namespaces cannot be made each test is reported as ignored, with the reason in front of
//! its name.

use std::process::Command;

use anyhow::Result;
use lab::namespace::Namespace;
use lab::topology::{Plan, SERVER, Topology, UPLINK};
use lab::traffic::PATIENCE;
use lab::traffic::ping::ping;
use libtest_mimic::{Arguments, Trial};

type Test = (&'static str, fn() -> Result<()>);

const TESTS: &[Test] = &[
    (
        "a_namespace_has_only_its_own_links",
        a_namespace_has_only_its_own_links,
    ),
    (
        "a_process_is_born_in_the_namespace",
        a_process_is_born_in_the_namespace,
    ),
    (
        "the_edge_is_reached_over_ipv6_and_the_server_over_ipv4",
        the_edge_is_reached_over_ipv6_and_the_server_over_ipv4,
    ),
    (
        "routers_forward_in_the_middle",
        routers_forward_in_the_middle,
    ),
    (
        "clients_do_not_reach_the_server_without_translation",
        clients_do_not_reach_the_server_without_translation,
    ),
];

fn main() {
    let arguments = Arguments::from_args();
    let missing = lab::privilege::acquire().err();
    let trials = TESTS.iter().map(|(name, test)| {
        let trial = Trial::test(*name, move || {
            Ok(test().map_err(|error| format!("{error:#}"))?)
        });
        match &missing {
            Some(reason) => trial.with_kind(reason.to_string()).with_ignored_flag(true),
            None => trial,
        }
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
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
