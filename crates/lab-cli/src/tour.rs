//! The tour of `cargo lab`: builds the network, starts the binaries, tries everything once.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::binaries::Binaries;
use lab::capture::Capture;
use lab::installed::Installed;
use lab::topology::{CLAT4, POOL, PREF64, Plan, SERVER, Topology, UPLINK};
use lab::traffic::PATIENCE;
use lab::traffic::ping::ping;
use lab::traffic::pmtu::{PathMtu, discover};
use lab::traffic::tcp::{Way, transfer};
use lab::traffic::traceroute::traceroute;
use lab::traffic::udp::{Echo, exchange, refused};

use crate::cli::Cli;
use crate::report::Report;

/// The name `clat` gives to its TUN device.
const TUN: &str = "clat";

/// Bytes kept of each captured packet: headers, and the beginning of the content.
pub(crate) const SNAPSHOT: usize = 512;

/// MTU of the link in the middle for the last checks, bytes.
const SMALL_MTU: u32 = 1400;
/// What it carries of IPv4: the IPv6 header is 20 bytes longer.
const IPV4_OF_SMALL_LINK: u32 = SMALL_MTU - 20;

/// Runs the whole tour; `false` when a check has failed.
///
/// # Errors
/// When the network cannot be built or a binary does not get ready.
pub(crate) fn run(cli: &Cli, binaries: &Binaries) -> Result<bool> {
    let mut report = Report::default();
    let installed = set_up(&report, binaries)?;
    let network = &installed.topology;
    let client = network.client();
    let capture = cli.capture.as_ref().map(|file| {
        let ends = [(client, TUN), (client, UPLINK)];
        Ok::<_, anyhow::Error>((file, Capture::start(&ends, SNAPSHOT)?))
    });
    let capture = capture.transpose()?;

    if cli.shell {
        shell(&report, network)?;
    } else {
        check_all(&mut report, network, cli.mib << 20);
    }

    if let Some((file, capture)) = capture {
        let captured = capture.stop()?;
        captured.write(file)?;
        let count = captured.packets.len();
        report.step(format_args!("{count} packets in {}", file.display()));
    }
    if !report.passed() {
        report.heading("What the daemons said");
        report.step(format_args!("plat:{}", installed.plat.log()));
        for clat in &installed.clats {
            report.step(format_args!("clat:{}", clat.log()));
        }
    }
    if !cli.shell {
        report.finish();
    }
    Ok(report.passed())
}

fn set_up(report: &Report, binaries: &Binaries) -> Result<Installed> {
    report.heading("Network");
    let topology = Topology::new(&Plan::with_routers())?;
    let address = Topology::client_address(0);
    report.step(format_args!("client   {address}/64 on {UPLINK}, no IPv4"));
    report.step("router6  forwards IPv6 between client and edge");
    report.step(format_args!(
        "edge     {PREF64} towards the client, {POOL} towards IPv4"
    ));
    report.step("router4  forwards IPv4 between edge and server");
    report.step(format_args!("server   {SERVER}, no IPv6"));
    report.heading("Daemons");
    let installed = Installed::on(binaries, topology)?;
    report.step(format_args!("edge     {}", installed.plat.command()));
    for clat in &installed.clats {
        report.step(format_args!("client   {}", clat.command()));
    }
    Ok(installed)
}

fn check_all(report: &mut Report, network: &Topology, bytes: u64) {
    report.heading("What works from the client");
    check_icmp(report, network);
    check_tcp(report, network, bytes);
    check_udp(report, network);
    check_path_mtu(report, network);
}

fn shell(report: &Report, network: &Topology) -> Result<()> {
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    report.heading("A shell in the client; the network goes when it ends");
    report.step(format_args!(
        "the server is {SERVER} ($SERVER), or {} ($SERVER6)",
        embedded(SERVER)
    ));
    let mut command = Command::new(shell);
    command.env("SERVER", SERVER.to_string());
    command.env("SERVER6", embedded(SERVER).to_string());
    let mut child = network.client().spawn(command)?;
    child.wait()?;
    Ok(())
}

fn check_icmp(report: &mut Report, network: &Topology) {
    let client = network.client();
    report.check("ping", || {
        let times = (0..5).map(|_| client.run(|| ping(SERVER, 56, PATIENCE)));
        let times = times.collect::<Result<Vec<_>>>()?;
        let best = times.iter().min().context("five pings")?;
        Ok(format!("{SERVER}: 5 of 5 replies, {} at best", show(*best)))
    });
    report.check("traceroute", || {
        let hops = client.run(|| traceroute(SERVER, PATIENCE))?;
        ensure!(hops.len() > 1, "no router on the way: {hops:?}");
        let hops = hops
            .iter()
            .map(|hop| format!("{} {}", hop.source, show(hop.time)));
        Ok(hops.collect::<Vec<_>>().join(", "))
    });
}

fn check_tcp(report: &mut Report, network: &Topology, bytes: u64) {
    for (what, way) in [("TCP download", Way::Download), ("TCP upload", Way::Upload)] {
        report.check(what, || tcp(network, way, bytes));
    }
}

fn tcp(network: &Topology, way: Way, bytes: u64) -> Result<String> {
    let (client, server) = (network.client(), &network.server);
    let done = transfer(client, server, SERVER.into(), way, bytes, PATIENCE)?;
    let from_pool = matches!(done.peer, IpAddr::V4(peer) if POOL.contains(&peer));
    ensure!(
        from_pool,
        "the server saw {}, which is not in {POOL}",
        done.peer
    );
    Ok(format!(
        "{} MiB, {:.0} Mbit/s, checksum {:016x} at both ends",
        bytes >> 20,
        done.rate(),
        done.checksum
    ))
}

fn check_udp(report: &mut Report, network: &Topology) {
    let (client, server) = (network.client(), &network.server);
    let sizes = || (0..=1472).chain([4000, 4000, 4000]);
    report.check("UDP from the client", || {
        let echo = Echo::start(server, SERVER.into())?;
        let time = client.run(|| exchange(echo.address(), sizes(), PATIENCE))?;
        Ok(format!(
            "0 to 1472 and 4000 bytes (fragments) there and back in {}",
            show(time)
        ))
    });
    report.check("UDP from the server", || {
        let echo = Echo::start(client, CLAT4.into())?;
        let target = SocketAddr::from((pool_address(network)?, echo.address().port()));
        server.run(|| exchange(target, sizes(), PATIENCE))?;
        Ok(format!("the same sizes to {} and back", target.ip()))
    });
    report.check("UDP to a closed port", || {
        let time = client.run(|| refused(SERVER.into(), PATIENCE))?;
        Ok(format!("connection refused after {}", show(time)))
    });
}

fn check_path_mtu(report: &mut Report, network: &Topology) {
    let (client, server) = (network.client(), &network.server);
    if let Err(error) = network.set_middle6_mtu(SMALL_MTU) {
        report.check("path MTU", || Err(error));
        return;
    }
    report.step(format_args!(
        "(the link between router6 and edge gets an MTU of {SMALL_MTU})"
    ));
    report.check("path MTU from the client", || {
        let echo = Echo::start(server, SERVER.into())?;
        let target = SocketAddrV4::new(SERVER, echo.address().port());
        no_black_hole(client.run(|| discover(target, PATIENCE))?)
    });
    report.check("path MTU from the server", || {
        let echo = Echo::start(client, CLAT4.into())?;
        let target = SocketAddrV4::new(pool_address(network)?, echo.address().port());
        no_black_hole(server.run(|| discover(target, PATIENCE))?)
    });
    report.check("TCP through the small link", || {
        tcp(network, Way::Download, 4 << 20)
    });
}

/// The small link must have been found: a translator that cut packets which may not be cut would
/// hide it.
fn no_black_hole(found: PathMtu) -> Result<String> {
    let (path, first) = (found.path, found.first);
    anyhow::ensure!(
        path == IPV4_OF_SMALL_LINK,
        "the path carries {path} bytes and not {IPV4_OF_SMALL_LINK}: somebody cut what may not be cut"
    );
    Ok(format!("{path} bytes instead of {first}, no black hole"))
}

/// The address under which the server sees the client.
fn pool_address(network: &Topology) -> Result<std::net::Ipv4Addr> {
    let (client, server) = (network.client(), &network.server);
    let done = transfer(client, server, SERVER.into(), Way::Upload, 1, PATIENCE)?;
    match done.peer {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => anyhow::bail!("the server saw {address}"),
    }
}

/// The IPv6 address of an IPv4 host under [`PREF64`] (RFC 6052, /96).
fn embedded(address: std::net::Ipv4Addr) -> std::net::Ipv6Addr {
    (PREF64.network().to_bits() | u128::from(address.to_bits())).into()
}

fn show(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
