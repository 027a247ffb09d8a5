//! What else a `plat` has the kernel translate: static maps, streams that go one way, pings. The host's
//! own routing applies to it as to all packets.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Instant;

use anyhow::{Result, ensure};
use lab::binaries::Binaries;
use lab::fast_path::{Download, Flow, carried, connect, ensure_exact, in_kernel, traffic};
use lab::installed::{Installed, Setup};
use lab::ip::ip;
use lab::nft::{NFT, nft};
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology, embedded};
use lab::traffic::PATIENCE;
use lab::traffic::icmp::{IcmpSocket, identifier};
use lab::traffic::ping::ping;
use lab::wait::wait_until;

const TESTS: &[Test] = lab::tests![
    kf_02_streams_that_go_one_way_and_pings_are_carried_in_the_kernel,
    kf_19_a_smaller_path_in_the_middle_of_a_download_breaks_nothing,
    kf_20_marks_and_rules_of_the_host_apply_to_what_the_kernel_translates,
    kp_18_static_maps_are_carried_both_ways_and_counted_to_the_packet,
];

/// The one address that clients share, or that one of them has.
const SHARED: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 9);
const POOL: &str = "--pool=192.168.64.9";
const REQUIRED: &str = "--fast-path=required";

/// Tests that need a program of the system.
const NEEDED: &[(&str, &str)] = &[(
    "kf_20_marks_and_rules_of_the_host_apply_to_what_the_kernel_translates",
    NFT,
)];

fn main() {
    lab::suite::run_with_programs(TESTS, NEEDED)
}

fn kf_02_streams_that_go_one_way_and_pings_are_carried_in_the_kernel() -> Result<()> {
    let installed = install(&Plan::default(), &[POOL, REQUIRED])?;
    let [up, down] = [Flow::start(&installed)?, Flow::start(&installed)?];
    let target = embedded(SERVER).into();
    let socket = installed
        .topology
        .client()
        .run(|| IcmpSocket::open(target))?;
    let (id, mut sequence) = (identifier(), 0);
    let mut trip = || {
        sequence += 1;
        socket.send_echo(target, id, sequence, 56)?;
        let end = Instant::now() + PATIENCE;
        socket.wait_for_echo(id, sequence, end).map(drop)
    };
    let mut ways: [(&mut dyn FnMut() -> Result<()>, u64); 3] = [
        (&mut || up.there(), 1),
        (&mut || down.back(), 1),
        (&mut trip, 2),
    ];
    for (number, (way, packets)) in ways.iter_mut().enumerate() {
        wait_until(|| {
            for _ in 0..8 {
                way()?;
            }
            Ok(in_kernel(&installed)? == number as u64 + 1)
        })?;
        let before = carried(&installed)?;
        for _ in 0..5 {
            way()?;
        }
        let grown = carried(&installed)? - before;
        ensure!(grown == 5 * *packets, "{number}: {grown} in the kernel");
    }
    Ok(())
}

fn kf_19_a_smaller_path_in_the_middle_of_a_download_breaks_nothing() -> Result<()> {
    let plan = Plan {
        router6: Some(1500),
        ..Plan::default()
    };
    let installed = install(&plan, &[POOL, REQUIRED])?;
    let mut download = Download::start(&installed, embedded(SERVER).into())?;
    download.parts(&installed, 2)?;
    ensure!(in_kernel(&installed)? == 1, "it is not in the kernel");
    installed.topology.set_middle6_mtu(1280)?;
    let before = carried(&installed)?;
    download.parts(&installed, 4)?;
    ensure!(carried(&installed)? > before, "the workers carried it");
    ensure!(in_kernel(&installed)? == 1, "it has left the kernel");
    Ok(())
}

fn kf_20_marks_and_rules_of_the_host_apply_to_what_the_kernel_translates() -> Result<()> {
    let installed = install(&Plan::default(), &[POOL, REQUIRED])?;
    let flow = Flow::start(&installed)?;
    flow.warm_up(&installed)?;
    let edge = &installed.topology.edge;
    let table = "table inet test { chain routed { type filter hook prerouting priority -150; \
                 iifname != \"nat64\" meta nfproto ipv6 meta mark set 9; \
                 iifname \"nat64\" meta mark 9 counter; \
                 iifname \"nat64\" meta nfproto ipv4 counter meta mark set 7; }; }";
    nft(edge, table)?;
    ip(edge, "route add blackhole default table 77")?;
    ip(edge, "rule add fwmark 7 table 77")?;
    let before = carried(&installed)?;
    flow.client.send(&[0; 50])?;
    wait_until(|| Ok(nft(edge, "list table inet test")?.contains("counter packets 1 bytes 78")))?;
    ip(edge, "rule del fwmark 7 table 77")?;
    // The next one to arrive has 100 bytes.
    flow.there()?;
    flow.back()?;
    let grown = carried(&installed)? - before;
    ensure!(grown == 3, "{grown} of 3 in the kernel");
    let rules = nft(edge, "list table inet test")?;
    ensure!(
        rules.contains("counter packets 0 bytes 0"),
        "a mark came through: {rules}"
    );
    Ok(())
}

fn kp_18_static_maps_are_carried_both_ways_and_counted_to_the_packet() -> Result<()> {
    let own = Topology::client_address(0);
    let installed = install(
        &Plan::default(),
        &[&format!("--map={SHARED}={own}"), REQUIRED],
    )?;
    let flow = Flow::start(&installed)?;
    let (before, in_kernel) = (traffic(&installed)?, carried(&installed)?);
    for _ in 0..100 {
        flow.there()?;
        flow.back()?;
    }
    for _ in 0..10 {
        let client = installed.topology.client();
        client.run(|| ping(embedded(SERVER), 72, PATIENCE))?;
    }
    let after = traffic(&installed)?;
    let grown: Vec<u64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    // 100 bytes of data in UDP, 72 in echoes, whose header has as many bytes.
    let [v4, v6] = [20, 40].map(|header| 100 * (100 + 8 + header) + 10 * (72 + 8 + header));
    ensure_exact(&grown, &[110, v4, 110, v6, 110, v4, 110, v6])?;
    let grown = carried(&installed)? - in_kernel;
    ensure!(grown == 220, "{grown} of 220 packets in the kernel");

    let mut download = Download::start(&installed, embedded(SERVER).into())?;
    download.parts(&installed, 4)?;
    let listener = installed
        .topology
        .client()
        .run(|| Ok(TcpListener::bind((own, 0))?))?;
    let port = listener.local_addr()?.port();
    let sending = installed
        .topology
        .server
        .run(|| connect((SHARED, port).into()))?;
    let (receiving, _) = listener.accept()?;
    let before = carried(&installed)?;
    Download::of(receiving, sending).parts(&installed, 4)?;
    // Super-packets, both of data and of acknowledgements.
    let packets = carried(&installed)? - before;
    ensure!(
        (64..2000).contains(&packets),
        "{packets} packets in the kernel"
    );
    Ok(())
}

fn install(plan: &Plan, flags: &[&str]) -> Result<Installed> {
    let setup = Setup::plat_alone(flags);
    Installed::with(&Binaries::find()?, Topology::new(plan)?, setup)
}
