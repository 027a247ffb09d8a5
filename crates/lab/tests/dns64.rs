//! The DNS64 of the real `plat`: an IPv6-only client reaches a server that has only an IPv4 address
//! by its name.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::binaries::Binaries;
use lab::dns64_fixture::{Dns64Fixture, RESOLVER};
use lab::inspect::{difference, inspect};
use lab::installed::PATIENCE;
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{PREF64, Plan, SERVER, Topology, embedded};
use lab::traffic::dns::{AAAA, addresses, over_tcp, question};

const TESTS: &[Test] = lab::tests![
    dn_10_a_server_with_only_ipv4_is_reached_by_its_name,
    dn_22_dn_33_long_answers_come_over_tcp,
    an_upstream_that_is_silent_is_passed_over,
    dn_29_ipv4only_arpa_is_answered_without_asking,
    dn_35_strangers_get_no_answer,
    garbage_and_slow_clients_are_survived,
    a_port_that_is_taken_is_found_before_anything_is_changed,
    dn_33_the_dns64_is_no_upstream_of_itself,
];

fn main() {
    lab::suite::run(TESTS)
}

fn dn_10_a_server_with_only_ipv4_is_reached_by_its_name() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.upstream(1)?;
    let addresses = net.ask("v4.example", AAAA)?;
    ensure!(addresses == [embedded(SERVER)], "{addresses:?}");
    let listener = net
        .topology()
        .server
        .run(|| Ok(TcpListener::bind((SERVER, 0))?))?;
    let target = SocketAddr::from((addresses[0], listener.local_addr()?.port()));
    let stream = net
        .topology()
        .client()
        .run(|| Ok(TcpStream::connect_timeout(&target, PATIENCE)?))?;
    listener.accept()?.0.write_all(b"by its name")?;
    let mut text = String::new();
    (&stream).take(11).read_to_string(&mut text)?;
    ensure!(text == "by its name", "{text}");
    // AAAA and A were asked for once; the second time the answer is kept.
    let asked = upstream.asked();
    net.ask("V4.Example", AAAA)?;
    ensure!(
        asked == 2 && upstream.asked() == 2,
        "{asked} {}",
        upstream.asked()
    );
    let status = net.installed.ask_plat(&["status"])?;
    ensure!(
        status.contains("2 queries, 1 answered from the cache"),
        "{status}"
    );
    Ok(())
}

fn dn_22_dn_33_long_answers_come_over_tcp() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.upstream(25)?;
    let short = net.exchange("v4.example", AAAA)?;
    ensure!(
        short.len() <= 512 && short[2] & 2 != 0,
        "{} bytes",
        short.len()
    );
    let client = net.topology().client();
    let whole = client.run(|| over_tcp(RESOLVER, &question("v4.example", AAAA)))?;
    ensure!(addresses(&whole).len() == 25 && whole[2] & 2 == 0);
    Ok(())
}

fn an_upstream_that_is_silent_is_passed_over() -> Result<()> {
    let silent = "198.51.100.77".to_owned();
    let net = Dns64Fixture::with_upstreams(&[&silent, &SERVER.to_string()], &[])?;
    let _upstream = net.upstream(1)?;
    let addresses = net.ask("v4.example", AAAA)?;
    ensure!(addresses == [embedded(SERVER)], "{addresses:?}");
    Ok(())
}

fn dn_29_ipv4only_arpa_is_answered_without_asking() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.upstream(1)?;
    let found = net.ask("ipv4only.arpa", AAAA)?;
    let expected = [170, 171].map(|last| embedded([192, 0, 0, last].into()));
    ensure!(found == expected && upstream.asked() == 0, "{found:?}");
    Ok(())
}

fn dn_35_strangers_get_no_answer() -> Result<()> {
    let net = Dns64Fixture::new(&["--dns64-allow=2001:db8:7777::/48"])?;
    let _upstream = net.upstream(1)?;
    let refused = net.topology().client().run(|| {
        let socket = UdpSocket::bind("[::]:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        socket.send_to(&question("v4.example", AAAA), (RESOLVER, 53))?;
        Ok(socket.recv(&mut [0; 512]).is_err())
    })?;
    ensure!(refused, "a stranger was answered");
    let status = net.installed.ask_plat(&["status"])?;
    ensure!(status.contains("refused 1,"), "{status}");
    Ok(())
}

fn garbage_and_slow_clients_are_survived() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.upstream(1)?;
    let slow = net.topology().client().run(|| {
        let socket = UdpSocket::bind("[::]:0")?;
        let mut loop_of_pointers = question("x", AAAA)[..12].to_vec();
        loop_of_pointers.extend([0xc0, 12, 0, 28, 0, 1]);
        let long = vec![0xff; 1200];
        for bytes in [&[][..], &[1], &loop_of_pointers, &long] {
            socket.send_to(bytes, (RESOLVER, 53))?;
        }
        // Connections that say nothing, and one that promises 64 KiB.
        let mut slow = Vec::new();
        for _ in 0..20 {
            slow.push(TcpStream::connect_timeout(
                &(RESOLVER, 53).into(),
                PATIENCE,
            )?);
        }
        slow[0].write_all(&[0xff, 0xff, 1, 2, 3])?;
        Ok(slow)
    })?;
    let found = net.ask("v4.example", AAAA)?;
    ensure!(found == [embedded(SERVER)], "{found:?}");
    let status = net.installed.ask_plat(&["status"])?;
    ensure!(status.contains("malformed 4"), "{status}");
    drop(slow);
    Ok(())
}

fn a_port_that_is_taken_is_found_before_anything_is_changed() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let _other = topology.edge.run(|| Ok(UdpSocket::bind((RESOLVER, 53))?))?;
    let before = inspect(&topology.edge)?;
    let directory = tempfile::tempdir()?;
    let run = directory.path().display().to_string();
    let prefix = PREF64.to_string();
    let flags = [
        "--prefix",
        &prefix,
        "--pool=192.168.64.9",
        "--dns64=2001:db8:1::1",
        "--dns64-upstream=198.51.100.2",
        "--run-dir",
        &run,
        "--state-dir",
        &run,
    ];
    let mut plat = Daemon::start(&topology.edge, &Binaries::find()?.plat, &flags)?;
    let status = plat.wait(PATIENCE)?;
    let log = plat.log();
    ensure!(status.code() == Some(1), "{status}");
    ensure!(log.contains("does no other DNS server run there?"), "{log}");
    let after = inspect(&topology.edge)?;
    ensure!(
        difference(&before, &after).is_empty(),
        "{:?}",
        difference(&before, &after)
    );
    Ok(())
}

fn dn_33_the_dns64_is_no_upstream_of_itself() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let flags = [
        "--prefix",
        "2001:db8:64::/96",
        "--pool=192.168.64.9",
        "--dns64=2001:db8:1::1",
        "--dns64-upstream=2001:db8:1::1",
    ];
    let mut plat = Daemon::start(&topology.edge, &Binaries::find()?.plat, &flags)?;
    let status = plat.wait(PATIENCE)?;
    let log = plat.log();
    ensure!(status.code() == Some(2), "{status}: {log}");
    ensure!(log.contains("is this DNS64 itself"), "{log}");
    Ok(())
}
