//! Router advertisements of the real `plat`: what is in them, who takes them up, and when they end.

use std::net::Ipv6Addr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv6Net};
use lab::binaries::Binaries;
use lab::capture::{Capture, wait_for as wait_for_packet};
use lab::inspect::{ensure_unchanged, inspect};
use lab::installed::{Installed, PATIENCE, Setup};
use lab::link::{
    add_address, add_route, join, lend_address, remove, remove_address, remove_route, set_down,
    set_up,
};
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::router::Router;
use lab::suite::Test;
use lab::topology::{MTU, PREF64, Plan, Topology, UPLINK};
use lab::traffic::ra::{Advertisement, RaOption, is_advertisement};

const TESTS: &[Test] = lab::tests![
    ra_01_ra_13_the_advertisement_byte_by_byte,
    ra_06_a_host_that_asks_is_answered_and_configures_itself,
    ra_08_ra_22_a_stopped_plat_says_goodbye,
    ra_22_without_a_way_out_nat64_and_router_are_withdrawn_and_come_back,
    ra_22_without_a_way_out_at_the_start_nothing_is_promised,
    ra_20_a_removed_prefix_is_deprecated,
    ra_20_a_borrowed_prefix_is_not_promised_for_longer_than_it_is_ours,
    ra_20_an_interface_that_went_down_or_was_made_anew_is_served_again,
    ra_18_what_does_not_fit_comes_in_several_advertisements,
    ra_19_a_router_that_says_otherwise_is_named,
    another_router_program_is_found_before_anything_is_changed,
    rdisc6_understands_it,
];

const RDISC6: &str = "/usr/bin/rdisc6";
const LAN: &str = "client0";
const FLAGS: [&str; 9] = [
    "--lan=client0",
    "--ra-interval=4",
    "--ra-mtu=1400",
    "--ra-dns=2001:db8:1::1",
    "--ra-search=lan.example",
    "--ra-preference=high",
    "--ra-prefix-valid=7200",
    "--ra-prefix-preferred=3600",
    "--pool=192.168.64.9",
];

fn main() {
    lab::suite::run_with_programs(TESTS, &[("rdisc6_understands_it", RDISC6)])
}

fn ra_01_ra_13_the_advertisement_byte_by_byte() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let installed = on(topology, &FLAGS)?;
    let packet = advertisement(installed.topology.client(), |_| true)?;
    // Hop limit 255, from a link-local address, to all nodes.
    ensure!(
        packet[7] == 255 && packet[8..10] == [0xfe, 0x80],
        "{packet:x?}"
    );
    ensure!(
        packet[24..40] == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        "{packet:x?}"
    );
    let message = &packet[40..];
    ensure!(
        message[4..16] == [64, 0x08, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0],
        "{message:x?}"
    );
    ensure!(message[16..18] == [1, 1], "{message:x?}");
    let mut expected = vec![5, 1, 0, 0, 0, 0, 5, 0x78];
    expected.extend([
        3, 4, 64, 0xc0, 0, 0, 0x1c, 0x20, 0, 0, 0x0e, 0x10, 0, 0, 0, 0,
    ]);
    expected.extend([0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([25, 3, 0, 0, 0, 0, 0, 12]);
    expected.extend([0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    expected.extend(b"\x1f\x03\0\0\0\0\0\x0c\x03lan\x07example\0\0\0\0");
    // 16 seconds in units of 8, and 0 for a /96.
    expected.extend([38, 2, 0, 16, 0x20, 1, 0x0d, 0xb8, 0, 0x64, 0, 0, 0, 0, 0, 0]);
    ensure!(
        message[24..] == expected,
        "{:x?}\n{expected:x?}",
        &message[24..]
    );
    Ok(())
}

fn ra_06_a_host_that_asks_is_answered_and_configures_itself() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    forget_ipv6(topology.client())?;
    let installed = on(topology, &FLAGS)?;
    let client = installed.topology.client();
    let begin = Instant::now();
    ask(client)?;
    wait_for(|| is_configured(client))?;
    ensure!(
        begin.elapsed() < Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
    ensure!(client.sysctl("ipv6/conf/eth0/mtu")? == "1400");
    Ok(())
}

fn ra_08_ra_22_a_stopped_plat_says_goodbye() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    forget_ipv6(topology.client())?;
    let mut installed = on(topology, &FLAGS)?;
    ask(installed.topology.client())?;
    wait_for(|| is_configured(installed.topology.client()))?;
    let capture = Capture::start(&[(installed.topology.client(), UPLINK)], 512)?;
    installed.plat.stop(PATIENCE)?;
    let client = installed.topology.client();
    wait_for(|| Ok(!has_default_route(client)?))?;
    let captured = capture.stop()?;
    let last = captured.packets.iter().map(|packet| packet.ip().to_vec());
    let last = last
        .filter(|packet| is_advertisement(packet))
        .collect::<Vec<_>>();
    ensure!(last.len() >= 3, "{} advertisements", last.len());
    for packet in &last[last.len() - 3..] {
        // RDNSS and DNSSL with a lifetime of 0 (RFC 8106).
        for option in [[25, 3, 0, 0, 0, 0, 0, 0], [31, 3, 0, 0, 0, 0, 0, 0]] {
            let mut places = packet[56..].chunks(8);
            ensure!(places.any(|eight| eight == option), "{packet:x?}");
        }
        // Router lifetime, and in the last option the lifetime of the NAT64 prefix.
        let pref64 = &packet[packet.len() - 16..][..4];
        ensure!(
            packet[46..48] == [0, 0] && pref64 == [38, 2, 0, 0],
            "{packet:x?}"
        );
    }
    Ok(())
}

fn ra_22_without_a_way_out_nat64_and_router_are_withdrawn_and_come_back() -> Result<()> {
    let topology = Topology::new(&Plan::with_routers())?;
    // Here the edge's own link is a LAN.
    let flags = ["--lan=access", "--ra-interval=4"];
    let installed = Installed::with(&Binaries::find()?, topology, Setup::plat_alone(&flags))?;
    let router = installed.topology.router6.as_ref().context("router6")?;
    set_down(&installed.topology.edge, UPLINK)?;
    let lifetime = |packet: &[u8]| u16::from_be_bytes([packet[46], packet[47]]);
    advertisement(router, |packet| lifetime(packet) == 0).context("withdrawn")?;
    set_up(&installed.topology.edge, UPLINK)?;
    let far = "203.0.113.2".parse()?;
    let everywhere = IpNet::from(ipnet::Ipv4Net::default());
    add_route(&installed.topology.edge, everywhere, far, None)?;
    advertisement(router, |packet| lifetime(packet) == 12).context("back again")?;
    // A drain that finds no session is over at once.
    installed.ask_plat(&["drain"])?;
    advertisement(router, |packet| lifetime(packet) == 0).context("drained")?;
    installed.ask_plat(&["resume"])?;
    advertisement(router, |packet| lifetime(packet) == 12).context("resumed")?;
    Ok(())
}

fn ra_22_without_a_way_out_at_the_start_nothing_is_promised() -> Result<()> {
    for egress in [&["--egress=masquerade:eth0"][..], &[]] {
        let topology = Topology::new(&Plan::with_routers())?;
        set_down(&topology.edge, UPLINK)?;
        let flags = ["--lan=access", "--ra-interval=4", "--pool=192.168.64.9"];
        let flags = [&flags[..], egress].concat();
        let setup = Setup::plat_alone(&flags);
        let capture = Capture::start(
            &[(topology.router6.as_ref().context("router6")?, UPLINK)],
            512,
        )?;
        let installed = Installed::with(&Binaries::find()?, topology, setup)?;
        let (router, edge) = (&installed.topology.router6, &installed.topology.edge);
        let router = router.as_ref().context("router6")?;
        advertisement(router, |_| true)?;
        let packets = capture.stop()?.packets;
        let mut packets = packets.iter().map(|packet| packet.ip());
        let is_promise = |packet: &&[u8]| is_advertisement(packet) && packet[46..48] != [0, 0];
        ensure!(
            packets.find(is_promise).is_none(),
            "a router without a way out"
        );
        set_up(edge, UPLINK)?;
        let everywhere = IpNet::from(ipnet::Ipv4Net::default());
        add_route(edge, everywhere, "203.0.113.2".parse()?, None)?;
        advertisement(router, |packet| packet[46..48] == [0, 12]).context("a way out")?;
    }
    Ok(())
}

fn ra_20_an_interface_that_went_down_or_was_made_anew_is_served_again() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let installed = on(topology, &["--lan=client0", "--pool=192.168.64.9"])?;
    let (client, edge) = (installed.topology.client(), &installed.topology.edge);
    let address = |group: u16| Ipv6Addr::new(0x2001, 0xdb8, group, 0, 0, 0, 0, 1);
    let net = |group: u16| IpNet::new_assert(address(group).into(), 64);
    set_down(edge, LAN)?;
    set_up(edge, LAN)?;
    add_address((edge, LAN), net(8))?;
    advertisement(client, |packet| has(packet, prefix(8)))
        .with_context(|| format!("up again: {}", installed.plat.log()))?;

    remove(edge, LAN)?;
    join((client, UPLINK), (edge, LAN), MTU)?;
    add_address((edge, LAN), net(9))?;
    advertisement(client, |packet| has(packet, prefix(9)))
        .with_context(|| format!("made anew: {}", installed.plat.log()))?;
    Ok(())
}

fn prefix(group: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, group, 0, 0, 0, 0, 0)
}

fn ra_20_a_removed_prefix_is_deprecated() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    forget_ipv6(topology.client())?;
    let installed = on(topology, &FLAGS)?;
    let (client, edge) = (installed.topology.client(), &installed.topology.edge);
    ask(client)?;
    wait_for(|| is_configured(client))?;
    let net = |group: u16| {
        IpNet::new_assert(
            Ipv6Addr::new(0x2001, 0xdb8, group, 0, 0, 0, 0, 1).into(),
            64,
        )
    };
    add_address((edge, LAN), net(9))?;
    remove_address((edge, LAN), net(1))?;
    // 20 is the flag of a deprecated address.
    let has = |prefix: &str, flag: &str| -> Result<bool> {
        let facts = inspect(client)?;
        Ok(facts.iter().any(|fact| {
            let words: Vec<&str> = fact.split_whitespace().collect();
            words.len() == 6 && words[0].starts_with(prefix) && words[4] == flag
        }))
    };
    wait_for(|| Ok(has("20010db800090000", "00")? && has("20010db800010000", "20")?))
}

fn ra_20_a_borrowed_prefix_is_not_promised_for_longer_than_it_is_ours() -> Result<()> {
    let installed = on(Topology::new(&Plan::default())?, &FLAGS)?;
    let (client, edge) = (installed.topology.client(), &installed.topology.edge);
    let net = "2001:db8:7::1/64".parse()?;
    lend_address((edge, LAN), net, 1000, 500)?;
    let packet = advertisement(client, |packet| has(packet, prefix(7)))?;
    // Type, length, prefix length, flags, valid and preferred lifetime, and so on.
    let options = packet[56..].windows(32);
    let mut options = options
        .filter(|option| option[..4] == [3, 4, 64, 0xc0] && option[16..] == prefix(7).octets());
    let option = options.next().context("the option")?;
    let seconds = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|byte| option[at + byte]));
    let (valid, preferred) = (seconds(4), seconds(8));
    ensure!((900..=1000).contains(&valid), "{valid}");
    ensure!((400..=500).contains(&preferred), "{preferred}");
    Ok(())
}

fn ra_18_what_does_not_fit_comes_in_several_advertisements() -> Result<()> {
    let servers: Vec<Ipv6Addr> = (1..=90)
        .map(|number| Ipv6Addr::new(0x2001, 0xdb8, 0x53, 0, 0, 0, 0, number))
        .collect();
    let mut flags: Vec<String> = FLAGS.map(str::to_owned).into();
    flags.extend(servers.iter().map(|server| format!("--ra-dns={server}")));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let installed = on(Topology::new(&Plan::default())?, &flags)?;
    let client = installed.topology.client();
    let mut left = servers;
    // A fragment would be no advertisement to `is_advertisement`.
    wait_for(|| {
        let packet = advertisement(client, |packet| {
            left.iter().any(|server| has(packet, *server))
        })?;
        ensure!(packet.len() <= 1500, "{} bytes", packet.len());
        left.retain(|server| !has(&packet, *server));
        Ok(left.is_empty())
    })
}

fn has(packet: &[u8], server: Ipv6Addr) -> bool {
    packet.windows(16).any(|bytes| bytes == server.octets())
}

fn ra_19_a_router_that_says_otherwise_is_named() -> Result<()> {
    let installed = on(Topology::new(&Plan::default())?, &FLAGS)?;
    let prefix = "2001:db8:6464::/96".parse()?;
    let other = Advertisement {
        hop_limit: 32,
        managed: true,
        lifetime: 600,
        options: vec![RaOption::mtu(1300), RaOption::pref64(prefix, 600)],
    };
    let _router = Router::start(installed.topology.client(), UPLINK, &other)?;
    let line = "announces other values: hop limit 32 instead of 64; DHCPv6 for addresses 1 \
                instead of 0; MTU 1300 instead of 1400; the NAT64 prefix 2001:db8:6464::/96, \
                which is not ours";
    installed.plat.wait_for_line(line, PATIENCE)
}

fn another_router_program_is_found_before_anything_is_changed() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let quiet = Advertisement {
        hop_limit: 64,
        ..Advertisement::default()
    };
    let _other = Router::start(&topology.edge, LAN, &quiet)?;
    let before = inspect(&topology.edge)?;
    let directory = tempfile::tempdir()?;
    let place = |name: &str| format!("--{name}={}", directory.path().display());
    let mut flags: Vec<String> = FLAGS.map(str::to_owned).into();
    flags.extend([
        place("run-dir"),
        place("state-dir"),
        format!("--prefix={PREF64}"),
    ]);
    let mut plat = Daemon::start(&topology.edge, &Binaries::find()?.plat, &flags)?;
    let status = plat.wait(PATIENCE)?;
    let log = plat.log();
    ensure!(status.code() == Some(1), "{status}");
    ensure!(
        log.contains("answers router solicitations on client0 already"),
        "{log}"
    );
    ensure_unchanged(&before, &topology.edge)
}

fn rdisc6_understands_it() -> Result<()> {
    let flags = [&FLAGS[..], &["--ra-route=2001:db8:2::/48"]].concat();
    let installed = on(Topology::new(&Plan::default())?, &flags)?;
    let mut process = Command::new(RDISC6);
    process.args(["-1", "-w", "3000", UPLINK]);
    process.args(["-r", "3"]);
    process.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = installed
        .topology
        .client()
        .spawn(process)?
        .wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    for part in [
        "2001:db8:1::/64",
        "2001:db8:2::/48",
        "2001:db8:1::1",
        "lan.example",
    ] {
        ensure!(text.contains(part), "{part} in {text}");
    }
    Ok(())
}

/// The next advertisement of this kind that arrives on the uplink: IPv6 packet.
fn advertisement(namespace: &Namespace, is_it: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
    wait_for_packet((namespace, UPLINK), PATIENCE, |packet| {
        is_advertisement(packet) && is_it(packet)
    })
}

fn on(topology: Topology, flags: &[&str]) -> Result<Installed> {
    Installed::with(&Binaries::find()?, topology, Setup::plat_alone(flags))
}

/// Takes away what the laboratory has configured: the kernel shall do it by itself.
fn forget_ipv6(client: &Namespace) -> Result<()> {
    let own = IpNet::new_assert(Topology::client_address(0).into(), 64);
    let gateway = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
    remove_route(client, Ipv6Net::default().into(), gateway.into())?;
    remove_address((client, UPLINK), own)?;
    client.set_sysctl("ipv6/conf/eth0/accept_ra", "1")
}

/// A link that comes up asks for routers.
fn ask(client: &Namespace) -> Result<()> {
    set_down(client, UPLINK)?;
    set_up(client, UPLINK)
}

fn is_configured(client: &Namespace) -> Result<bool> {
    let facts = inspect(client)?;
    let has_address = facts
        .iter()
        .any(|fact| fact.starts_with("20010db800010000"));
    Ok(has_address && has_default_route(client)?)
}

fn has_default_route(client: &Namespace) -> Result<bool> {
    let facts = inspect(client)?;
    Ok(facts
        .iter()
        .any(|fact| fact.starts_with("route Inet6 Unicast proto Ra len 0")))
}

fn wait_for(mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !done()? {
        ensure!(Instant::now() < end, "it did not come");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
