//! `plat reload` and SIGHUP: the configuration file is read again while packets go on.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::binaries::Binaries;
use lab::capture::Capture;
use lab::deployment::{Deployment, Setup};

use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology, UPLINK, embedded};
use lab::traffic::PATIENCE;
use lab::traffic::dns::question;
use lab::traffic::ping::ping;
use lab::traffic::udp::{Echo, exchange};
use rustix::process::Signal;

const TESTS: &[Test] = lab::tests![
    a_reload_under_traffic_loses_no_packet,
    port_forwards_and_denials_come_and_go_with_the_file,
    static_maps_come_and_go_with_their_routes,
    advertisements_and_dns64_follow_the_file,
    a_bad_file_changes_nothing,
];

fn main() {
    lab::suite::run(TESTS)
}

/// The one address that clients share.
const SHARED: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 9);
/// The edge on the clients' link.
const RESOLVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const POOL: &str = "pool = \"192.168.64.9\"\n";
const FORWARD: &str = "bind = \"tcp:192.168.64.9:8080=[2001:db8:1:1::2]:80\"\n";
const DENIED: &str = "deny = \"198.51.100.0/24\"\n";

fn a_reload_under_traffic_loses_no_packet() -> Result<()> {
    let fixture = Fixture::new(POOL)?;
    let network = &fixture.deployment.topology;
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
    let sessions = fixture.deployment.ask_plat(&["sessions", "--json"])?;
    ensure!(sessions.lines().count() == 2, "{sessions}");
    Ok(())
}

fn port_forwards_and_denials_come_and_go_with_the_file() -> Result<()> {
    let fixture = Fixture::new(POOL)?;
    let network = &fixture.deployment.topology;
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
    ensure!(answer.trim() == "taken up: bind", "{answer}");
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
    let network = &fixture.deployment.topology;
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
    let client = fixture.deployment.topology.client();
    let answers = || {
        client.run(|| {
            let socket = UdpSocket::bind("[::]:0")?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            socket.send_to(&question("ipv4only.arpa", 28), (RESOLVER, 53))?;
            Ok(socket.recv(&mut [0; 512]).is_ok())
        })
    };
    ensure!(answers()?, "no answer");
    let more = "dns64-allow = \"2001:db8:7777::/48\"\nra-mtu = 1423\n";
    let answer = fixture.reload(&format!("{base}{more}"))?;
    ensure!(answer.trim() == "taken up: dns64-allow, ra-mtu", "{answer}");
    ensure!(!answers()?, "a stranger is answered");
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
    ensure!(answers()?, "no answer after the second reload");
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
        ("pool = \"192.168.64.10\"\n", "another pool takes a restart"),
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
    fixture.deployment.plat.signal(Signal::HUP)?;
    let log = "WARN nothing has changed";
    fixture.deployment.plat.wait_for_line(log, PATIENCE)?;

    // All is as before.
    let network = &fixture.deployment.topology;
    network
        .client()
        .run(|| ping(embedded(SERVER), 56, PATIENCE))?;
    let answer = fixture.reload(&good)?;
    ensure!(answer.trim() == "nothing has changed", "{answer}");
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
    deployment: Deployment,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Fixture {
    fn new(text: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("plat.toml");
        std::fs::write(&file, text)?;
        let setup = Setup::plat_alone(&["--config", &file.display().to_string()]);
        let topology = Topology::new(&Plan::default())?;
        Ok(Self {
            deployment: Deployment::with(&Binaries::find()?, topology, setup)?,
            file,
            _directory: directory,
        })
    }

    /// What the running one says to another file.
    fn reload(&self, text: &str) -> Result<String> {
        std::fs::write(&self.file, text)?;
        self.deployment.ask_plat(&["reload"])
    }
}
