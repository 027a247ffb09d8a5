//! The word in `status`: it says what is, within ten seconds of a fault and of its end.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipnet::Ipv4Net;
use lab::binaries::Binaries;
use lab::client_host::{ClientHost, announcing};
use lab::dns64_fixture::Dns64Fixture;
use lab::installed::{Installed, PATIENCE, Setup};
use lab::link::{add_route, remove_route, set_down};
use lab::nft::{NFT, nft};
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology};
use lab::traffic::dns::Upstream;

const TESTS: &[Test] = lab::tests![
    he_03_a_dead_plat_is_broken_for_an_idle_clat_and_a_live_one_is_ok,
    he_03_packets_into_the_void_are_degraded,
    he_05_without_egress_a_gateway_is_broken_and_not_ready,
    he_05_dead_resolvers_are_named_one_by_one,
    he_05_a_chain_that_drops_is_named_in_both_programs,
    he_06_a_clat_without_prefix_is_broken_until_one_is_announced,
    he_06_what_others_take_down_is_ok_as_soon_as_it_is_repaired,
    he_07_json_says_which_form_it_has,
];

/// How soon the word has to be right.
const SOON: Duration = Duration::from_secs(10);
const METRICS: &str = "127.0.0.1:9464";

fn main() {
    lab::suite::run_with_programs(
        TESTS,
        &[("he_05_a_chain_that_drops_is_named_in_both_programs", NFT)],
    )
}

/// Asks for the status in JSON until it has the word, and each of these texts; returns it.
#[track_caller]
fn soon(word: &str, texts: &[&str], status: impl Fn() -> Result<String>) -> Result<String> {
    let end = Instant::now() + SOON;
    let word = format!("\"word\":\"{word}\"");
    loop {
        let status = status()?;
        if status.contains(&word) && texts.iter().all(|text| status.contains(text)) {
            return Ok(status);
        }
        ensure!(Instant::now() < end, "no {word} with {texts:?}: {status}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn clat_status(installed: &Installed) -> impl Fn() -> Result<String> {
    || installed.ask_clat(0, &["status", "--json"])
}

fn plat_status(installed: &Installed) -> impl Fn() -> Result<String> {
    || installed.ask_plat(&["status", "--json"])
}

fn install(plan: &Plan, setup: Setup) -> Result<Installed> {
    Installed::with(&Binaries::find()?, Topology::new(plan)?, setup)
}

fn he_03_a_dead_plat_is_broken_for_an_idle_clat_and_a_live_one_is_ok() -> Result<()> {
    let setup = Setup::clats_with(&["--probe=198.51.100.2"]);
    let mut installed = install(&Plan::default(), setup)?;
    soon("ok", &[], clat_status(&installed))?;
    installed.plat.kill(PATIENCE)?;
    let text = "nothing comes back through 2001:db8:64::/96";
    let status = soon("broken", &[text], clat_status(&installed))?;
    ensure!(status.contains("\"from\":\"ok\""), "{status}");
    installed.restart_plat()?;
    soon("ok", &["\"warnings\":[]"], clat_status(&installed))?;
    installed.clats[0].wait_for_line("health: ok, before broken", PATIENCE)
}

fn he_03_packets_into_the_void_are_degraded() -> Result<()> {
    // The address that is pinged does not answer: only the host's own packets tell.
    let mut installed = install(
        &Plan::default(),
        Setup::clats_with(&["--probe=198.51.100.77"]),
    )?;
    soon("ok", &[], clat_status(&installed))?;
    installed.plat.kill(PATIENCE)?;
    let socket = installed.topology.client().run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((SERVER, 9))?;
        Ok(socket)
    })?;
    let status = || {
        // The kernel reports what routers say about the one before.
        let _ = socket.send(b"void");
        clat_status(&installed)()
    };
    soon("degraded", &["and none comes back"], status)?;
    Ok(())
}

fn he_05_without_egress_a_gateway_is_broken_and_not_ready() -> Result<()> {
    let setup = Setup::plat_alone(&["--metrics", METRICS]);
    let installed = install(&Plan::with_routers(), setup)?;
    let edge = &installed.topology.edge;
    let page = |path: &str| {
        edge.run(|| {
            let mut stream = TcpStream::connect(METRICS)?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    };
    soon("ok", &["\"warnings\":[]"], plat_status(&installed))?;
    ensure!(page("/readyz")?.starts_with("HTTP/1.1 200 "));
    let (default, router) = (
        Ipv4Net::default().into(),
        Ipv4Addr::new(203, 0, 113, 2).into(),
    );
    remove_route(edge, default, router)?;
    let text = "IPv4 is not reached: no IPv4 default route";
    soon("broken", &[text], plat_status(&installed))?;
    let (ready, healthy) = (page("/readyz")?, page("/healthz")?);
    ensure!(
        ready.starts_with("HTTP/1.1 503 ") && ready.contains(text),
        "{ready}"
    );
    ensure!(
        healthy.starts_with("HTTP/1.1 200 ") && healthy.contains("broken\n"),
        "{healthy}"
    );
    ensure!(page("/metrics")?.contains("xlat_health{word=\"broken\"} 1"));
    add_route(edge, default, router, None)?;
    soon(
        "ok",
        &["no longer: the routes of prefix and pool are withdrawn"],
        plat_status(&installed),
    )?;
    ensure!(page("/metrics")?.contains("xlat_health_changes_total 2"));
    installed
        .plat
        .wait_for_line("health: ok, before broken", PATIENCE)
}

fn he_05_dead_resolvers_are_named_one_by_one() -> Result<()> {
    let (first, second) = ("198.51.100.2:53", "198.51.100.2:5353");
    let net = Dns64Fixture::with_upstreams(&[first, second], &[])?;
    let resolver = |port| -> Result<Upstream> {
        net.scripted_at(SERVER, port, |asked| asked.v4_only(SERVER).into())
    };
    let status = || net.installed.ask_plat(&["status", "--json"]);
    let one = resolver(53)?;
    let text = "the resolver 198.51.100.2:5353 does not answer";
    let seen = soon("degraded", &[text], status)?;
    ensure!(!seen.contains("the resolver 198.51.100.2:53 "), "{seen}");
    drop(one);
    let other = "the resolver 198.51.100.2:53 does not answer";
    soon("broken", &[text, other], status)?;
    let _both = (resolver(53)?, resolver(5353)?);
    soon("ok", &["\"warnings\":[]"], status)?;
    Ok(())
}

fn he_05_a_chain_that_drops_is_named_in_both_programs() -> Result<()> {
    let installed = install(&Plan::default(), Setup::default())?;
    let network = &installed.topology;
    let chain = "{ type filter hook forward priority 0; policy drop; }";
    for namespace in [&network.edge, network.client()] {
        nft(namespace, "add table inet other")?;
        nft(namespace, &format!("add chain inet other forward {chain}"))?;
    }
    let text = "chain forward of table inet other";
    soon("degraded", &[text], plat_status(&installed))?;
    soon("degraded", &[text], clat_status(&installed))?;
    for namespace in [&network.edge, network.client()] {
        nft(namespace, "delete table inet other")?;
    }
    soon("ok", &[], plat_status(&installed))?;
    soon("ok", &[], clat_status(&installed))?;
    Ok(())
}

fn he_06_a_clat_without_prefix_is_broken_until_one_is_announced() -> Result<()> {
    let host = ClientHost::new()?;
    let clat = host.clat(&[])?;
    clat.wait_for_line("waiting: ", PATIENCE)?;
    soon("broken", &["\"what\":\"state\""], || host.status_json())?;
    let _router = host.router(&announcing(600))?;
    soon("ok", &["\"warnings\":[]"], || host.status_json())?;
    Ok(())
}

fn he_06_what_others_take_down_is_ok_as_soon_as_it_is_repaired() -> Result<()> {
    let setup = Setup::clats_with(&["--probe=198.51.100.2"]);
    let installed = install(&Plan::default(), setup)?;
    let network = &installed.topology;
    soon("ok", &[], clat_status(&installed))?;
    set_down(network.client(), "clat")?;
    soon("ok", &["\"repairs\":{\"links\":1"], clat_status(&installed))?;
    set_down(&network.edge, "nat64")?;
    soon("ok", &["\"repairs\":{\"links\":1"], plat_status(&installed))?;
    // Both were measured.
    let client = network.client();
    client.run(|| lab::traffic::ping::ping(SERVER, 56, PATIENCE))?;
    Ok(())
}

fn he_07_json_says_which_form_it_has() -> Result<()> {
    let installed = install(&Plan::default(), Setup::default())?;
    for status in [clat_status(&installed)()?, plat_status(&installed)()?] {
        ensure!(status.starts_with("{\"schema\":1,"), "{status}");
    }
    Ok(())
}
