//! Advertisements that no honest router sends, thousands of them a second.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use ipnet::Ipv6Net;
use lab::client_host::{ClientHost, LAN, advertisement, announcing};
use lab::suite::Test;
use lab::topology::{PREF64, SERVER};
use lab::traffic::ping::ping;
use lab::traffic::ra::{ALL_NODES, RaOption};
use lab::wait::wait_until;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) const TESTS: &[Test] =
    lab::tests![fc_64_a_flood_of_forged_advertisements_changes_nothing];

/// Contradicting, flapping and absurd advertisements of a hundred routers: with more, the kernel itself
/// runs out of neighbour entries.
fn fc_64_a_flood_of_forged_advertisements_changes_nothing() -> Result<()> {
    let net = ClientHost::new()?;
    let edge = &net.topology().edge;
    let _router = net.router(&announcing(600))?;
    let clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()?;
    let lines = clat.log().lines().count();
    let (used, begin) = (clat.processor_time()?, Instant::now());
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| -> Result<u64> {
        let flood = scope.spawn(|| edge.run(|| flood(&stop)));
        let mut seen = Ok(String::new());
        while seen.is_ok() && begin.elapsed() < Duration::from_secs(3) {
            seen = net.status();
        }
        stop.store(true, Ordering::Relaxed);
        let sent = flood.join().map_err(|_| anyhow!("the flood ended"))?;
        seen.with_context(|| clat.log())?;
        sent
    })?;
    let (used, took) = (clat.processor_time()?.saturating_sub(used), begin.elapsed());
    ensure!(sent > 10_000, "only {sent} advertisements in {took:?}");
    // A tenth of a processor is what it may take, and a third without optimisation.
    let share = if cfg!(debug_assertions) { 3 } else { 10 };
    ensure!(
        used < took / share,
        "{used:?} of {took:?}, {sent} advertisements"
    );
    let status = net.status()?;
    ensure!(status.contains("2001:db8:64::/96, announced"), "{status}");
    let log = clat.log();
    let new = log.lines().count() - lines;
    ensure!(
        new <= 8 && !log.contains("IPv4 goes on"),
        "{new} lines:{log}"
    );
    // A packet may be lost, a translation not.
    let client = net.topology().client();
    wait_until(|| {
        Ok(client
            .run(|| ping(SERVER, 56, Duration::from_millis(500)))
            .is_ok())
    })
}

/// Sends eight thousand advertisements a second until it is to stop. Returns their number.
fn flood(stop: &AtomicBool) -> Result<u64> {
    // Whole packets, IPv6 header included.
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(255)))?;
    socket.bind_device(Some(LAN.as_bytes()))?;
    let to = SocketAddrV6::new(ALL_NODES, 0, 0, if_nametoindex(LAN)?);
    let to = std::net::SocketAddr::from(to).into();
    let messages = messages()?;
    let (begin, mut sent) = (Instant::now(), 0_u64);
    while !stop.load(Ordering::Relaxed) {
        let due = begin.elapsed().as_millis() as u64 * 8;
        while sent < due {
            let message = &messages[(sent % messages.len() as u64) as usize];
            let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xbad, (sent % 97) as u16);
            // A full queue drops it.
            let _ = socket.send_to(&packet(source, message), &to);
            sent += 1;
        }
        thread::sleep(Duration::from_micros(500));
    }
    Ok(sent)
}

fn messages() -> Result<Vec<Vec<u8>>> {
    let prefixes: Vec<Ipv6Net> = vec![
        "2001:db8:63::/96".parse()?,
        "2001:db8:1::/48".parse()?,
        "fe80::/64".parse()?,
        "64:ff9b::/96".parse()?,
    ];
    let mut all = Vec::new();
    for lifetime in [0, 8, 65528] {
        let options = prefixes
            .iter()
            .map(|prefix| RaOption::pref64(*prefix, lifetime));
        let options: Vec<_> = options.chain([RaOption::pref64(PREF64, 0)]).collect();
        let mut message = advertisement(&options).build();
        message[5] |= 0x08;
        all.push(message);
        let mut not_default = announcing(lifetime);
        not_default.lifetime = 0;
        all.push(not_default.build());
    }
    let mut zero = announcing(600).build();
    zero.extend([5, 0, 0, 0, 0, 0, 0, 0]);
    all.push(zero);
    Ok(all)
}

/// An IPv6 packet with this ICMPv6 message and its checksum (RFC 4443 section 2.3).
fn packet(source: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((message.len() as u16).to_be_bytes());
    packet.extend([58, 255]);
    packet.extend(source.octets());
    packet.extend(ALL_NODES.octets());
    packet.extend(message);
    let pseudo = packet[8..40].iter().chain(&packet[40..]);
    let words: Vec<u8> = pseudo.copied().collect();
    let mut sum = message.len() as u32 + 58;
    for pair in words.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[42..44].copy_from_slice(&(!sum as u16).to_be_bytes());
    packet
}
