//! Several gateways: routing daemons carry the truth about each to its neighbours.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::binaries::Binaries;
use lab::command::output;
use lab::installed::{Installed, PATIENCE, Setup};
use lab::ip::{IP, ip, ip6};
use lab::link::{add_address, join, make_router};
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::scale_out::{BIRD, PREFIX, ScaleOut, ZEBRA, example};
use lab::suite::Test;
use lab::topology::{MTU, Plan, SERVER, Topology, embedded};
use lab::traffic::ping::ping;
use lab::wait::wait_until;

const SHARED: &str = "sc_07_keepalived_puts_the_other_gateway_in_service";
const HASHED: &str = "sc_06_resilient_next_hops_leave_the_flows_of_other_gateways_alone";
const ROUTED: &str = "sc_02_bird_and_frr_announce_what_each_gateway_can_serve";

const TESTS: &[Test] = lab::tests![
    sc_02_bird_and_frr_announce_what_each_gateway_can_serve,
    sc_04_no_download_breaks_while_a_gateway_is_drained,
    sc_05_connections_go_on_at_another_gateway,
    sc_06_resilient_next_hops_leave_the_flows_of_other_gateways_alone,
    sc_07_keepalived_puts_the_other_gateway_in_service,
];

const NEEDED: &[(&str, &str)] = &[
    (ROUTED, BIRD),
    (ROUTED, ZEBRA),
    (ROUTED, IP),
    (HASHED, IP),
    (SHARED, KEEPALIVED),
    (SHARED, CURL),
    (SHARED, IP),
];
/// FRR's daemons become another user, and keepalived runs scripts as one.
const NEEDED_BY_USERS: &[(&str, &str)] = &[
    (ROUTED, "FRR, for which root is needed,"),
    (SHARED, "keepalived, for which root is needed,"),
    (HASHED, IP),
];
const KEEPALIVED: &str = "/usr/sbin/keepalived";
const CURL: &str = "/usr/bin/curl";

fn main() {
    match nix::unistd::geteuid().is_root() {
        true => lab::suite::run_with_programs(TESTS, NEEDED),
        false => lab::suite::run_with_programs(TESTS, NEEDED_BY_USERS),
    }
}

fn sc_02_bird_and_frr_announce_what_each_gateway_can_serve() -> Result<()> {
    let mut network = ScaleOut::new()?;
    network.start_routers()?;
    network.start_bird_on_gateway(0)?;
    network.start_frr_on_gateway(1)?;
    network.start_plats()?;
    let is_served_by = |network: &ScaleOut, gateways: &[usize]| {
        wait_until(|| {
            let seen = (network.served_by()?, network.pools_in_core()?);
            Ok(seen.0 == gateways && seen.1 == gateways)
        })
        .with_context(|| format!("served by {:?}", network.served_by()))
        .with_context(|| network.routing_logs())
    };
    is_served_by(&network, &[0, 1])?;
    let reach = |patience| network.client.run(|| ping(embedded(SERVER), 56, patience));
    reach(PATIENCE).context("through two gateways")?;

    network.withhold_default_from(&[0])?;
    network.plats[0].wait_for_line("routes of prefix and pool are withdrawn", PATIENCE)?;
    is_served_by(&network, &[1])?;
    reach(PATIENCE).context("through the other gateway")?;
    let gateway = &network.gateways[0];
    ensure!(!ip6(gateway, "route show")?.contains(PREFIX));
    ensure!(!ip(gateway, "route show")?.contains("dev nat64"));
    // What comes all the same is translated, and does not go back where it came from.
    let way = ip6(gateway, "route get 2001:db8:64::c633:6402")?;
    ensure!(way.contains("dev nat64"), "{way}");
    let status = network.ask(0, &["status"])?;
    ensure!(
        status.contains("routes    withdrawn: prefix and pool"),
        "{status}"
    );
    ensure!(status.contains("broken"), "{status}");

    network.withhold_default_from(&[0, 1])?;
    network.plats[1].wait_for_line("routes of prefix and pool are withdrawn", PATIENCE)?;
    is_served_by(&network, &[])?;
    ensure!(reach(Duration::from_millis(200)).is_err());

    network.withhold_default_from(&[])?;
    is_served_by(&network, &[0, 1])?;
    reach(PATIENCE).context("through two gateways again")?;
    ensure!(ip(&network.gateways[0], "rule show")?.lines().count() == 3);

    network.plats[1].kill(PATIENCE)?;
    is_served_by(&network, &[0])?;
    reach(PATIENCE).context("after a gateway was killed")?;
    Ok(())
}

/// Downloads at the same time, and bytes of each half of one.
const DOWNLOADS: usize = 200;
const HALF: usize = 20_000;

fn sc_04_no_download_breaks_while_a_gateway_is_drained() -> Result<()> {
    let topology = Topology::new(&Plan {
        clients: 2,
        ..Plan::with_routers()
    })?;
    let flags = ["--pool=192.168.64.0/28", "--egress=route:0.0.0.0/0"];
    let installed = Installed::with(&Binaries::find()?, topology, Setup::plat_alone(&flags))?;
    let network = &installed.topology;
    let listener = network.server.run(|| Ok(TcpListener::bind((SERVER, 0))?))?;
    let address = SocketAddr::from((embedded(SERVER), listener.local_addr()?.port()));
    let connect = |client: usize| {
        let client = &network.clients[client];
        client.run(|| Ok(TcpStream::connect_timeout(&address, PATIENCE)?))
    };
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for _ in 0..DOWNLOADS {
        near.push(connect(0)?);
        far.push(listener.accept()?.0);
    }
    send_half(&mut far, &mut near)?;

    let begun = installed.ask_plat(&["drain"])?;
    ensure!(begun.contains("200 sessions are left"), "{begun}");
    let edge = &network.edge;
    ensure!(
        ip6(edge, "route show")?.contains(PREFIX),
        "sessions need it"
    );
    let stranger = connect(1).map_err(|error| {
        let io = error.root_cause().downcast_ref::<std::io::Error>();
        io.map(std::io::Error::kind)
    });
    ensure!(
        matches!(stranger, Err(Some(ErrorKind::HostUnreachable))),
        "{stranger:?}"
    );
    installed.ask_plat(&["drain", "--now"])?;
    ensure!(
        !ip6(edge, "route show")?.contains(PREFIX),
        "a drain with --now"
    );
    ensure!(ip(edge, "route show")?.contains("192.168.64.0/28 dev nat64"));
    let status = installed.ask_plat(&["status"])?;
    ensure!(status.contains("200 sessions are left of 200"), "{status}");
    ensure!(status.contains("degraded"), "{status}");
    send_half(&mut far, &mut near)?;
    // Each side closes, and sees that the other does.
    drop(far);
    for stream in &mut near {
        ensure!(stream.read(&mut [0])? == 0);
    }
    drop(near);
    let done = installed.ask_plat(&["drain", "--wait=1m"])?;
    ensure!(
        done.contains("drained: no session is left of 200"),
        "{done}"
    );
    ensure!(!ip(edge, "route show")?.contains("dev nat64"));

    installed.ask_plat(&["resume"])?;
    ensure!(ip6(edge, "route show")?.contains(PREFIX));
    ensure!(
        installed.ask_plat(&["resume"]).is_err(),
        "nothing to resume"
    );
    let near = connect(1)?;
    let late = installed.ask_plat(&["drain", "--wait=100ms"]);
    ensure!(
        format!("{late:?}").contains("not drained: 1 sessions are left"),
        "{late:?}"
    );
    ensure!(!ip(edge, "route show")?.contains("dev nat64"));
    drop(near);
    Ok(())
}

/// Connections that move.
const MOVED: usize = 50;

fn sc_05_connections_go_on_at_another_gateway() -> Result<()> {
    let topology = Topology::new(&Plan::with_routers())?;
    let flags = ["--pool=192.168.64.0/28", "--queues=2"];
    let mut installed = Installed::with(&Binaries::find()?, topology, Setup::plat_alone(&flags))?;
    let (mut near, mut far) = (Vec::new(), Vec::new());
    let network = &installed.topology;
    let listener = network.server.run(|| Ok(TcpListener::bind((SERVER, 0))?))?;
    let address = SocketAddr::from((embedded(SERVER), listener.local_addr()?.port()));
    for _ in 0..MOVED {
        let connect = || Ok(TcpStream::connect_timeout(&address, PATIENCE)?);
        near.push(network.client().run(connect)?);
        far.push(listener.accept()?.0);
    }
    send_half(&mut far, &mut near)?;
    let stream = installed.ask_plat(&["export"])?;
    let none = installed.ask_plat(&["export", "--client=2001:db8:ffff::/48"])?;
    ensure!(
        none.contains("\ntotal 0\n") && stream.contains("\ntotal 50\n"),
        "{stream}"
    );
    // It leaves no file of sessions behind: what comes next is another gateway with the same secret.
    installed.plat.kill(PATIENCE)?;
    installed.restart_plat()?;
    let give = |text: &str| installed.give_plat(&["import-sessions"], text);
    let refused = give(&stream.replacen("tcp", "udp", 1));
    ensure!(
        format!("{refused:?}").contains("nothing is taken up"),
        "{refused:?}"
    );
    ensure!(installed.sessions()?.is_empty());
    ensure!(give(&stream)?.contains("50 sessions taken up"));
    let again = give(&stream)?;
    ensure!(
        again.contains("50 sessions not taken up: one of its"),
        "{again}"
    );
    send_half(&mut far, &mut near)
}

/// Subscribers whose gateway is looked up.
const SUBSCRIBERS: usize = 240;

fn sc_06_resilient_next_hops_leave_the_flows_of_other_gateways_alone() -> Result<()> {
    let access = Namespace::new("access")?;
    let others = Namespace::new("others")?;
    make_router(&access)?;
    for (name, net) in [
        ("client", "2001:db8:1000::1/64"),
        ("gw1", "2001:db8:0:1::1/64"),
        ("gw2", "2001:db8:0:2::1/64"),
        ("gw3", "2001:db8:0:3::1/64"),
    ] {
        join((&access, name), (&others, name), MTU)?;
        add_address((&access, name), net.parse()?)?;
    }
    access.set_sysctl("ipv6/fib_multipath_hash_policy", "3")?;
    access.set_sysctl("ipv6/fib_multipath_hash_fields", "1")?;
    for number in 1..=3 {
        let hop = format!("nexthop add id {number} via 2001:db8:0:{number}::2 dev gw{number}");
        ip6(&access, &hop)?;
    }
    // A bucket in use stays with its gateway for as long as that is there.
    const RESILIENT: &str = "type resilient buckets 128 idle_timer 3600";
    for (group, others_move) in [(RESILIENT, false), ("", true)] {
        ip(&access, &format!("nexthop add id 10 group 1/2 {group}"))?;
        ip6(&access, &format!("route add {PREFIX} nhid 10"))?;
        let two = gateways(&access)?;
        ip(
            &access,
            &format!("nexthop replace id 10 group 1/2/3 {group}"),
        )?;
        let three = gateways(&access)?;
        let joined = moved(&two, &three, None);
        ensure!((joined > 0) == others_move, "{group}: {joined} moved");
        ip(&access, &format!("nexthop replace id 10 group 2/3 {group}"))?;
        let left = gateways(&access)?;
        ensure!(!left.contains(&1), "{group}");
        let of_others = moved(&three, &left, Some(1));
        ensure!((of_others > 0) == others_move, "{group}: {of_others} moved");
        ip6(&access, &format!("route del {PREFIX}"))?;
        ip(&access, "nexthop del id 10")?;
    }
    Ok(())
}

/// The gateway of each subscriber.
fn gateways(access: &Namespace) -> Result<Vec<u8>> {
    let question = |number: usize| {
        format!("route get 2001:db8:64::1 from 2001:db8:1000:{number:x}::1 iif client\n")
    };
    let questions: String = (1..=SUBSCRIBERS).map(question).collect();
    let answers = output(access, IP, &["-6", "-batch", "-"], &questions)?;
    let found = answers.split("dev gw").skip(1);
    let found: Vec<u8> = found.map(|rest| rest.as_bytes()[0] - b'0').collect();
    ensure!(found.len() == SUBSCRIBERS, "{answers}");
    Ok(found)
}

/// Subscribers that have another gateway than before, but for those of one that has left.
fn moved(before: &[u8], after: &[u8], left: Option<u8>) -> usize {
    let pairs = before.iter().zip(after);
    pairs
        .filter(|(before, after)| before != after && Some(**before) != left)
        .count()
}

/// Where the static routes of the routers lead: to what keepalived moves.
const SHARED6: &str = "2001:db8:0:1::64";
const SHARED4: &str = "203.0.113.20";

fn sc_07_keepalived_puts_the_other_gateway_in_service() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (client, access) = (Namespace::new("client")?, Namespace::new("access")?);
    let (core, server) = (Namespace::new("core")?, Namespace::new("server")?);
    let gateways = [Namespace::new("gateway1")?, Namespace::new("gateway2")?];
    for router in [&access, &core, &gateways[0], &gateways[1]] {
        make_router(router)?;
    }
    join((&client, "eth0"), (&access, "client"), MTU)?;
    join((&server, "eth0"), (&core, "server"), MTU)?;
    for router in [&access, &core] {
        ip(router, "link add lan type bridge")?;
        ip(router, "link set lan up")?;
    }
    for (number, gateway) in gateways.iter().enumerate() {
        let port = format!("gw{number}");
        for (name, router) in [("access", &access), ("core", &core)] {
            join((gateway, name), (router, &port), MTU)?;
            ip(router, &format!("link set {port} master lan"))?;
        }
        let host = 18 + number;
        add_address((gateway, "core"), format!("203.0.113.{host}/28").parse()?)?;
        add_address(
            (gateway, "access"),
            format!("2001:db8:0:1::{host}/64").parse()?,
        )?;
        ip(gateway, "route add default via 203.0.113.17")?;
        ip6(gateway, "route add 2001:db8:1000::/36 via 2001:db8:0:1::1")?;
    }
    for (end, address) in [
        ((&client, "eth0"), "2001:db8:1000::2/64"),
        ((&access, "client"), "2001:db8:1000::1/64"),
        ((&access, "lan"), "2001:db8:0:1::1/64"),
        ((&core, "lan"), "203.0.113.17/28"),
        ((&core, "server"), "198.51.100.1/24"),
        ((&server, "eth0"), "198.51.100.2/24"),
    ] {
        add_address(end, address.parse()?)?;
    }
    ip6(&client, "route add default via 2001:db8:1000::1")?;
    ip(&server, "route add default via 198.51.100.1")?;
    ip6(&access, &format!("route add {PREFIX} via {SHARED6}"))?;
    ip(&core, &format!("route add 192.0.2.0/25 via {SHARED4}"))?;

    let plat = Binaries::find()?.plat;
    let (mut plats, mut keepers) = (Vec::new(), Vec::new());
    for (number, gateway) in gateways.iter().enumerate() {
        let run_dir = path(&format!("run{number}"));
        let flags = [
            "--prefix=2001:db8:64::/96",
            "--pool=192.0.2.0/25:1024-65535",
            "--egress=route:0.0.0.0/0",
            "--client=2001:db8:1000::/36",
            "--metrics=[::1]:9464",
            &format!("--run-dir={run_dir}"),
            &format!("--state-dir={}", path(&format!("state{number}"))),
        ];
        let daemon = Daemon::start(gateway, &plat, &flags)?;
        daemon.wait_for_line("ready: ", PATIENCE)?;
        plats.push(daemon);
        let notify = path(&format!("notify{number}"));
        let script = example("keepalived/plat-notify")?;
        let place = format!(" --run-dir={run_dir}");
        let script = script
            .replace("plat resume", &format!("{} resume{place}", plat.display()))
            .replace("plat drain", &format!("{} drain{place}", plat.display()));
        fs::write(&notify, script)?;
        fs::set_permissions(&notify, fs::Permissions::from_mode(0o755))?;
        let config = example("keepalived/keepalived.conf")?
            .replace("    enable_script_security\n", "")
            .replace("priority 100", &format!("priority {}", 100 - 10 * number))
            .replace("/etc/keepalived/plat-notify", &notify);
        fs::write(path(&format!("conf{number}")), config)?;
        let flags = [
            "-n".into(),
            "-l".into(),
            "-P".into(),
            format!("-f{}", path(&format!("conf{number}"))),
            format!("-p{}", path(&format!("pid{number}"))),
            format!("-r{}", path(&format!("vrrp{number}"))),
        ];
        keepers.push(Daemon::start(gateway, Path::new(KEEPALIVED), &flags)?);
    }
    let logs = || keepers.iter().map(Daemon::log).collect::<String>();
    let is_in_service = |number: usize| -> Result<bool> {
        let gateway = &gateways[number];
        let has_address = ip6(gateway, "address show dev access")?.contains(SHARED6);
        Ok(has_address && ip6(gateway, "route show")?.contains(PREFIX))
    };
    // Who comes first has them; the other one withdraws its routes.
    let first = || Ok(is_in_service(0)? != is_in_service(1)?);
    let stands_by = |number: usize| Ok(!ip6(&gateways[number], "route show")?.contains(PREFIX));
    wait_until(first).with_context(logs)?;
    let (now, next) = if is_in_service(0)? { (0, 1) } else { (1, 0) };
    wait_until(|| stands_by(next)).with_context(logs)?;
    let reach = || client.run(|| ping(embedded(SERVER), 56, Duration::from_secs(1)));
    wait_until(|| Ok(reach().is_ok())).with_context(logs)?;

    plats[now].kill(PATIENCE)?;
    wait_until(|| is_in_service(next)).with_context(logs)?;
    wait_until(|| Ok(reach().is_ok())).with_context(logs)
}

fn send_half(far: &mut [TcpStream], near: &mut [TcpStream]) -> Result<()> {
    let content: Vec<u8> = (0..HALF).map(|at| (at % 251) as u8).collect();
    for stream in far {
        stream.write_all(&content)?;
    }
    for (number, stream) in near.iter_mut().enumerate() {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut got = vec![0; HALF];
        let read = stream.read_exact(&mut got);
        read.with_context(|| format!("download {number}"))?;
        ensure!(got == content, "download {number}");
    }
    Ok(())
}
