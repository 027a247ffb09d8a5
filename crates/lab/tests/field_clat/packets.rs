//! What programs send that a CLAT does not translate: they are told, and do not wait in vain.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::binaries::Binaries;
use lab::installed::Installed;
use lab::suite::Test;
use lab::topology::{Plan, SERVER};
use lab::traffic::PATIENCE;
use lab::traffic::icmp::{IcmpSocket, identifier};

pub(crate) const TESTS: &[Test] = lab::tests![
    x4_17_a_ping_that_is_sent_in_fragments_is_refused_aloud,
    eg_09_a_connection_to_the_clats_next_hop_fails_at_once,
];

/// `ping -s 3000`: the checksum of ICMPv6 needs all of the message (RFC 7915 section 1.2).
fn x4_17_a_ping_that_is_sent_in_fragments_is_refused_aloud() -> Result<()> {
    let installed = Installed::new(&Binaries::find()?, &Plan::default())?;
    installed.topology.client().run(|| {
        let socket = IcmpSocket::open(SERVER.into())?;
        socket.send_echo(SERVER.into(), identifier(), 1, 3000)?;
        let deadline = Instant::now() + PATIENCE;
        let refusal = loop {
            let message = socket.next_message(deadline)?.context("no answer")?;
            if message.quoted(1).is_some() {
                break message;
            }
        };
        ensure!(refusal.kind() == (3, 13), "{:?}", refusal.kind());
        Ok(())
    })
}

/// The next hop of the IPv4 default route is `clat` itself, which a browser or a discovery of routers
/// tries: it has no TCP, and says so.
fn eg_09_a_connection_to_the_clats_next_hop_fails_at_once() -> Result<()> {
    const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);
    let installed = Installed::new(&Binaries::find()?, &Plan::default())?;
    let begin = Instant::now();
    let end = installed.topology.client().run(|| {
        Ok(TcpStream::connect_timeout(
            &SocketAddr::from((NEXT_HOP, 80)),
            PATIENCE,
        ))
    })?;
    let error = end.err().context("somebody answered")?;
    // The kernel's words for ICMPv4 3/2.
    ensure!(error.raw_os_error() == Some(92), "{error}");
    ensure!(begin.elapsed() < Duration::from_secs(5), "{error}");
    Ok(())
}
