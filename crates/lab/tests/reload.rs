//! `plat reload` and SIGHUP: the configuration file is read again while packets go on.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::binaries::Binaries;
use lab::capture::Capture;
use lab::installed::{Installed, Setup};

use lab::suite::Test;
use lab::topology::{MTU, Plan, SERVER, Topology, UPLINK, embedded};
use lab::traffic::PATIENCE;
use lab::traffic::dns::{self, AAAA, Upstream, question};
use lab::traffic::ping::ping;
use lab::traffic::tcp::{Way, transfer};
use lab::traffic::udp::{Echo, exchange};
use rustix::process::Signal;

const TESTS: &[Test] = lab::tests![
    a_reload_under_traffic_loses_no_packet,
    maps_that_change_behind_a_masquerade_show_nobody_and_break_nothing,
    port_forwards_and_denials_come_and_go_with_the_file,
    static_maps_come_and_go_with_their_routes,
    advertisements_and_dns64_follow_the_file,
    a_bad_file_changes_nothing,
];

fn main() {
    lab::suite::run(TESTS)
}

/// The edge towards the IPv4 router, and that router.
const WAN: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// The one address that clients share.
const SHARED: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 9);
/// The edge on the clients' link.
const RESOLVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const POOL: &str = "pool = \"192.168.64.9\"\n";
const FORWARD: &str = "bind = \"tcp:192.168.64.9:8080=[2001:db8:1:1::2]:80\"\n";
const DENIED: &str = "deny = \"198.51.100.0/24\"\n";

fn a_reload_under_traffic_loses_no_packet() -> Result<()> {
    let fixture = Fixture::new(POOL)?;
    let network = &fixture.installed.topology;
    let echo = Echo::start(&network.server, SERVER.into())?;
    let target = SocketAddr::new(embedded(SERVER).into(), echo.address().port());
    let over = AtomicBool::new(false);
    let reloads = thread::scope(|scope| -> Result<u32> {
        let over = &over;
        // A datagram that does not come back ends the exchange with an error.
        let flow = |size: usize| {
            let client = network.client();
            let sizes = std::iter::repeat_n(size, usize::MAX);
            let sizes = sizes.take_while(|_| !over.load(Ordering::Relaxed));
            client.run(|| exchange(target, sizes, Duration::from_secs(2)))
        };
        let flows = [100, 1200].map(|size| scope.spawn(move || flow(size)));
        let end = Instant::now() + Duration::from_secs(2);
        let mut reloads = 0;
        while Instant::now() < end {
            let others = ["", FORWARD, "udp-timeout = \"7m\"\n", "[ra]\nmtu = 1400\n"];
            let outcome = fixture.reload(&format!("{POOL}{}", others[reloads as usize % 4]));
            if let Err(error) = outcome {
                over.store(true, Ordering::Relaxed);
                return Err(error);
            }
            reloads += 1;
        }
        over.store(true, Ordering::Relaxed);
        for flow in flows {
            flow.join().ok().context("the flow's thread panicked")??;
        }
        Ok(reloads)
    })?;
    ensure!(reloads >= 4, "{reloads} reloads");
    let sessions = fixture.installed.ask_plat(&["sessions", "--json"])?;
    ensure!(sessions.lines().count() == 2, "{sessions}");
    Ok(())
}

fn maps_that_change_behind_a_masquerade_show_nobody_and_break_nothing() -> Result<()> {
    let base = format!(
        "{POOL}egress = \"masquerade:eth0\"\nlan = \"client0\"\nra-interval = 4\n\
         dns64 = \"{RESOLVER}\"\ndns64-upstream = \"{FAR}\"\n"
    );
    let plan = Plan {
        router4: Some(MTU),
        ..Plan::default()
    };
    let fixture = Fixture::on(&plan, &base, true)?;
    let network = &fixture.installed.topology;
    let router = network.router4.as_ref().context("router4")?;
    let _names = Upstream::start(router, FAR, SERVER, 1)?;
    let server = network.server.run(|| Ok(UdpSocket::bind((SERVER, 0))?))?;
    let target = SocketAddr::new(embedded(SERVER).into(), server.local_addr()?.port());
    let over = AtomicBool::new(false);
    let (flows, strangers, transferred) = thread::scope(|scope| -> Result<_> {
        let over = &over;
        let mirror = scope.spawn(move || mirror(&server, over));
        // Each flow is a new one: none can live on what the kernel remembers.
        let flows = scope.spawn(move || -> Result<u32> {
            let mut flows = 0;
            while !over.load(Ordering::Relaxed) {
                let client = network.client();
                client.run(|| exchange(target, [100], Duration::from_secs(2)))?;
                flows += 1;
            }
            Ok(flows)
        });
        let (client, server) = (network.client(), &network.server);
        let connection = scope.spawn(move || {
            transfer(
                client,
                server,
                SERVER.into(),
                Way::Download,
                1 << 25,
                PATIENCE,
            )
        });
        let outcome = reload_and_ask(&fixture, &base);
        let transferred = connection.join();
        over.store(true, Ordering::Relaxed);
        outcome?;
        let flows = flows.join().ok().context("the flows panicked")??;
        let strangers = mirror.join().ok().context("the mirror panicked")??;
        let transferred = transferred.ok().context("the connection panicked")??;
        Ok((flows, strangers, transferred))
    })?;
    ensure!(flows > 10, "{flows} flows");
    ensure!(strangers.is_empty(), "the server has seen {strangers:?}");
    ensure!(transferred.peer == WAN, "{}", transferred.peer);
    Ok(())
}

/// For two seconds: another map, and a name by the DNS64.
fn reload_and_ask(fixture: &Fixture, base: &str) -> Result<()> {
    let maps = ["", "map = \"192.168.64.77=2001:db8:1::77\"\n"];
    let end = Instant::now() + Duration::from_secs(2);
    let mut reloads = 0;
    while Instant::now() < end || reloads < 6 {
        reloads += 1;
        fixture.reload(&format!("{base}{}", maps[reloads % 2]))?;
        let client = fixture.installed.topology.client();
        let answer = client.run(|| dns::exchange(RESOLVER, "a.example", AAAA))?;
        let addresses = dns::addresses(&answer);
        ensure!(addresses == [embedded(SERVER)], "{addresses:?}");
    }
    Ok(())
}

/// Sends all datagrams back until it is over. Returns the senders that were not the gateway.
fn mirror(server: &UdpSocket, over: &AtomicBool) -> Result<BTreeSet<IpAddr>> {
    let mut strangers = BTreeSet::new();
    let mut datagram = [0; 2048];
    server.set_read_timeout(Some(Duration::from_millis(50)))?;
    while !over.load(Ordering::Relaxed) {
        if let Ok((length, from)) = server.recv_from(&mut datagram) {
            server.send_to(&datagram[..length], from)?;
            if from.ip() != WAN {
                strangers.insert(from.ip());
            }
        }
    }
    Ok(strangers)
}

fn port_forwards_and_denials_come_and_go_with_the_file() -> Result<()> {
    let fixture = Fixture::new(POOL)?;
    let network = &fixture.installed.topology;
    let listener = network
        .client()
        .run(|| Ok(TcpListener::bind((Topology::client_address(0), 80))?))?;
    let address = Topology::client_address(0);
    let forward = format!("{POOL}bind = \"tcp:{SHARED}:8080=[{address}]:80\"\n");
    let call = || {
        let to = SocketAddr::from((SHARED, 8080));
        let patience = Duration::from_secs(2);
        network
            .server
            .run(|| Ok(TcpStream::connect_timeout(&to, patience)?))
    };
    ensure!(call().is_err(), "a port forward that was not asked for");
    let answer = fixture.reload(&forward)?;
    ensure!(answer.trim() == "applied: bind", "{answer}");
    drop(call().context("through the port forward")?);
    listener.accept()?;
    fixture.reload(POOL)?;
    ensure!(call().is_err(), "the port forward is still there");

    let client = network.client();
    client.run(|| ping(embedded(SERVER), 56, PATIENCE))?;
    fixture.reload(&format!("{POOL}{DENIED}"))?;
    let denied = client.run(|| ping(embedded(SERVER), 56, Duration::from_millis(300)));
    ensure!(denied.is_err(), "a destination that is denied answers");
    fixture.reload(POOL)?;
    client.run(|| ping(embedded(SERVER), 56, PATIENCE))?;
    Ok(())
}

fn static_maps_come_and_go_with_their_routes() -> Result<()> {
    let fixture = Fixture::new(POOL)?;
    let network = &fixture.installed.topology;
    let own = Ipv4Addr::new(192, 168, 64, 77);
    let map = format!("map = \"{own}={}\"\n", Topology::client_address(0));
    let reaches = |patience| network.server.run(|| ping(own, 56, patience));
    ensure!(reaches(Duration::from_millis(300)).is_err(), "no map yet");
    fixture.reload(&format!("{POOL}{map}"))?;
    reaches(PATIENCE).context("through the static map")?;
    fixture.reload(POOL)?;
    ensure!(
        reaches(Duration::from_millis(300)).is_err(),
        "the map stays"
    );
    Ok(())
}

fn advertisements_and_dns64_follow_the_file() -> Result<()> {
    let base = format!("{POOL}lan = \"client0\"\ndns64 = \"{RESOLVER}\"\n");
    let base = format!("{base}dns64-upstream = \"{SERVER}\"\nra-interval = 4\n");
    let fixture = Fixture::new(&base)?;
    let client = fixture.installed.topology.client();
    let answers = || {
        client.run(|| {
            let socket = UdpSocket::bind("[::]:0")?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            socket.send_to(&question("ipv4only.arpa", 28), (RESOLVER, 53))?;
            Ok(socket.recv(&mut [0; 512]).is_ok())
        })
    };
    // The thread of the DNS64 takes its orders up when its turn comes.
    let wait_for = |wanted: bool| -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while answers()? != wanted {
            ensure!(Instant::now() < end, "answered: {}", !wanted);
        }
        Ok(())
    };
    wait_for(true)?;
    let more = "dns64-allow = \"2001:db8:7777::/48\"\nra-mtu = 1423\n";
    let answer = fixture.reload(&format!("{base}{more}"))?;
    ensure!(answer.trim() == "applied: dns64-allow, ra-mtu", "{answer}");
    wait_for(false).context("a stranger")?;
    // The option by its bytes: type 5, one unit of eight bytes, reserved, 32 bits of MTU.
    let option = [5, 1, 0, 0, 0, 0, 0x05, 0x8f];
    let end = Instant::now() + PATIENCE;
    let is_said = || -> Result<bool> {
        let capture = Capture::start(&[(client, UPLINK)], 512)?;
        thread::sleep(Duration::from_millis(500));
        let packets = capture.stop()?.packets;
        let mut packets = packets.iter().map(|packet| packet.ip());
        Ok(packets.any(|packet| packet.windows(8).any(|bytes| bytes == option)))
    };
    while !is_said()? {
        ensure!(Instant::now() < end, "the MTU is not announced");
    }
    fixture.reload(&base)?;
    wait_for(true).context("after the second reload")?;
    Ok(())
}

fn a_bad_file_changes_nothing() -> Result<()> {
    let forward = format!(
        "bind = \"tcp:{SHARED}:8080=[{}]:80\"\n",
        Topology::client_address(0)
    );
    let good = format!("{POOL}{forward}");
    let fixture = Fixture::new(&good)?;
    for (text, expected) in [
        ("pool = 7\n", "line 1: pool"),
        (
            "pool = \"192.168.64.9\"\nbindd = 1\n",
            "did you mean `bind`?",
        ),
        (
            "pool = \"192.168.64.10\"\n",
            "a changed pool needs a restart",
        ),
        (
            "pool = \"192.168.64.9\"\nudp-timeout = \"5s\"\n",
            "below the RFC's minimum",
        ),
        (
            "pool = \"192.168.64.9\"\nmap = \"198.51.100.1=2001:db8:1::9\"\n",
            "overlaps the address 198.51.100.1 of this host",
        ),
        ("pool = [", "line 1: "),
    ] {
        let refused = match fixture.reload(text) {
            Ok(answer) => bail!("{text}: {answer}"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(refused.contains("nothing has changed"), "{refused}");
        ensure!(refused.contains(expected), "{refused}");
    }
    std::fs::write(&fixture.file, "pool = [")?;
    fixture.installed.plat.signal(Signal::HUP)?;
    let log = "WARN nothing has changed";
    fixture.installed.plat.wait_for_line(log, PATIENCE)?;

    // All is as before.
    let network = &fixture.installed.topology;
    network
        .client()
        .run(|| ping(embedded(SERVER), 56, PATIENCE))?;
    let answer = fixture.reload(&good)?;
    ensure!(
        answer.trim() == "the configuration has not changed",
        "{answer}"
    );
    let listener = network
        .client()
        .run(|| Ok(TcpListener::bind((Topology::client_address(0), 80))?))?;
    let to = SocketAddr::from((SHARED, 8080));
    network
        .server
        .run(|| Ok(TcpStream::connect_timeout(&to, PATIENCE)?))?;
    listener.accept()?;
    Ok(())
}

/// A `plat` with a configuration file.
struct Fixture {
    installed: Installed,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Fixture {
    fn new(text: &str) -> Result<Self> {
        Self::on(&Plan::default(), text, false)
    }

    fn on(plan: &Plan, text: &str, clats: bool) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("plat.toml");
        std::fs::write(&file, text)?;
        let setup = Setup {
            clats,
            ..Setup::plat_alone(&["--config", &file.display().to_string()])
        };
        let topology = Topology::new(plan)?;
        Ok(Self {
            installed: Installed::with(&Binaries::find()?, topology, setup)?,
            file,
            _directory: directory,
        })
    }

    /// What the running one says to another file.
    fn reload(&self, text: &str) -> Result<String> {
        std::fs::write(&self.file, text)?;
        self.installed.ask_plat(&["reload"])
    }
}
