//! Hosts that share a /64: the fragments and ICMP errors of one leave the others theirs.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::fake_host::{fake_host4, fake_host6};
use lab::fixture::{Fixture, shown};
use lab::suite::Test;
use lab::topology::embedded;
use lab::traffic::packets::{Place, Seen, piece_v6, udp, udp_datagram};

pub(crate) const TESTS: &[Test] = lab::tests![
    fp_05_fragments_of_one_host_leave_its_neighbours_room,
    fp_05_fragments_of_one_link_leave_others_room,
    fp_05_errors_to_one_host_leave_its_neighbours_theirs,
    cg_14_forged_addresses_of_one_network_leave_ports_to_another,
];

/// A host of the link with this number.
fn host(network: u16, number: u16) -> Ipv6Addr {
    fake_host6(network, number)
}

fn server(port: u16) -> SocketAddr {
    (fake_host4(1), port).into()
}

/// More than any share of a mebibyte.
const MANY: u32 = 6000;

/// Sends first or other fragments of datagrams that never become whole, each from the host that
/// `from` names, and waits until some of them are refused.
fn flood(fixture: &mut Fixture, from: impl Fn(u32) -> Ipv6Addr, is_first: bool) -> Result<()> {
    let content = [7; 200];
    for number in 0..MANY {
        let source = from(number);
        let datagram = udp_datagram((source, 4000).into(), shown(server(53)), &content);
        let pieces = Place::pieces(&datagram, 128);
        let piece = if is_first { pieces[0] } else { pieces[1] };
        let packet = piece_v6(source, embedded(fake_host4(1)), 17, number, piece);
        fixture.inside.send(&packet)?;
        if number.is_multiple_of(64) {
            fixture.outside.forget()?;
            thread::sleep(Duration::from_micros(500));
        }
    }
    fixture.wait_for_count("fragment-limit", 100)?;
    fixture.outside.forget().map(drop)
}

/// A datagram in two fragments, the last one first.
fn crosses(fixture: &mut Fixture, from: Ipv6Addr) -> Result<()> {
    let datagram = udp_datagram((from, 5000).into(), shown(server(53)), &[9; 2000]);
    for piece in Place::pieces(&datagram, 1200).into_iter().rev() {
        let packet = piece_v6(from, embedded(fake_host4(1)), 17, 77, piece);
        fixture.inside.send(&packet)?;
    }
    let is_it =
        |length: usize| move |seen: &Seen| seen.fragment.is_some() && seen.body.len() == length;
    fixture.outside.expect(is_it(1200))?;
    fixture.outside.expect(is_it(808)).map(drop)
}

fn fp_05_fragments_of_one_host_leave_its_neighbours_room() -> Result<()> {
    for is_first in [true, false] {
        let mut fixture = Fixture::new(&["--fragment-memory=1"])?;
        flood(&mut fixture, |_| host(7, 1), is_first)?;
        crosses(&mut fixture, host(7, 2))?;
    }
    Ok(())
}

/// A host has as many addresses in its /64 as it likes.
fn fp_05_fragments_of_one_link_leave_others_room() -> Result<()> {
    let mut fixture = Fixture::new(&["--fragment-memory=1"])?;
    flood(&mut fixture, |number| host(7, number as u16), false)?;
    crosses(&mut fixture, host(8, 1))
}

fn fp_05_errors_to_one_host_leave_its_neighbours_theirs() -> Result<()> {
    // Slow enough that nothing comes back in the time of the test.
    let mut fixture = Fixture::new(&["--icmp-error-rate=16", "--queues=1"])?;
    // At the gateway nothing is left of the hop limit.
    let expires = |from: Ipv6Addr| {
        let mut packet = udp((from, 5000).into(), shown(server(53)), b"traceroute");
        packet[7] = 3;
        packet
    };
    let is_told = |from: Ipv6Addr| {
        move |seen: &Seen| seen.kind() == Some([3, 0]) && seen.destination == IpAddr::V6(from)
    };
    let (greedy, neighbour) = (host(7, 1), host(7, 2));
    for _ in 0..300 {
        fixture.inside.send(&expires(greedy))?;
    }
    fixture.wait_for_count("hop-limit", 300)?;
    fixture.inside.send(&expires(neighbour))?;
    let mut got = 0;
    let seen = fixture.inside.expect(|seen| {
        got += u32::from(is_told(greedy)(seen));
        is_told(neighbour)(seen)
    });
    ensure!((1..=4).contains(&got), "{got} errors to one host");
    seen.map(drop)
}

/// A host has as many addresses in its /64 as it likes, and the limits of one are those of an address.
fn cg_14_forged_addresses_of_one_network_leave_ports_to_another() -> Result<()> {
    let mut fixture = Fixture::with_pool(&["--pool=192.168.64.9:2000-2999"])?;
    for number in 0..1500 {
        let from = SocketAddr::from((host(7, number), 4000));
        fixture
            .inside
            .send(&udp(from, shown(server(53)), b"flood"))?;
        if number.is_multiple_of(64) {
            fixture.outside.forget()?;
            thread::sleep(Duration::from_micros(500));
        }
    }
    fixture.wait_for_count("subscriber-limit", 500)?;
    ensure!(fixture.counted("pool-exhausted")? == 0);
    fixture.outside.forget()?;
    fixture
        .bind((host(8, 1), 5000).into(), server(53))
        .map(drop)
}
