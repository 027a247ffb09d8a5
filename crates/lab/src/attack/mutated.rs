//! Messages of every kind, changed at random: no parser fails, and who sent well is still served.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;

use super::floods::{advertisement, neighbour_solicitation, solicitation};
use super::net::{EDGE, Net, Program, VICTIM, attackers_host};
use super::slow::socket;
use super::{Found, Ground, Row};
use crate::fake_host::fake_host4;
use crate::fixture::SHARED;
use crate::random::Random;
use crate::topology::{CLAT4, SERVER, UPLINK, embedded};
use crate::traffic::dns::kind::{A, AAAA, HTTPS};
use crate::traffic::dns::{Act, Asked, Message};
use crate::traffic::fragments::{checksum, checksum_of};
use crate::traffic::packets::{
    ACK, Place, SYN, echo, error, piece_v4, piece_v6, tcp, udp, udp_datagram,
};
use crate::traffic::ra::{ALL_NODES, ALL_ROUTERS};
use crate::traffic::raw4::Raw4;
use crate::traffic::raw6::Raw6;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "mutated-packets-plat6",
        about: "changed IPv6 packets of a subscriber: UDP, TCP, echo, fragments, errors",
        run: plat6,
    },
    Row {
        name: "mutated-packets-plat4",
        about: "changed IPv4 packets from the Internet",
        run: plat4,
    },
    Row {
        name: "mutated-packets-clat6",
        about: "changed IPv6 packets to the CLAT",
        run: clat6,
    },
    Row {
        name: "mutated-packets-clat4",
        about: "changed IPv4 packets of a program behind clat",
        run: clat4,
    },
    Row {
        name: "mutated-discovery",
        about: "changed router solicitations, router advertisements and neighbour solicitations",
        run: discovery,
    },
    Row {
        name: "mutated-dns",
        about: "changed questions to the DNS64, and changed answers to it",
        run: dns,
    },
    Row {
        name: "mutated-pcp",
        about: "changed requests for external ports",
        run: pcp,
    },
    Row {
        name: "mutated-requests",
        about: "changed requests to metrics and control socket of both programs",
        run: requests,
    },
];

/// Sends so many changed messages, with a pause now and then: this is no flood.
fn many(
    count: u32,
    random: &mut Random,
    mut send: impl FnMut(&mut Random, u32) -> Result<()>,
) -> Result<String> {
    for number in 0..count {
        send(random, number)?;
        if number.is_multiple_of(32) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(format!("{count} messages"))
}

/// Runs an attack that ends by itself beside the flow.
fn beside(
    ground: &Ground<'_>,
    net: Net,
    attack: impl Fn(&Net, &mut Random) -> Result<String> + Sync,
) -> Result<Found> {
    let mut random = ground.random();
    net.beside(ground, |net: &Net, _: &AtomicBool| attack(net, &mut random))
}

/// Packets of every kind between two ends of one family, and errors about packets the other way.
fn kinds(from: SocketAddr, to: SocketAddr, number: u32) -> Vec<u8> {
    let data = [number as u8; 64];
    let place = |size| {
        let datagram = udp_datagram(from, to, &[7; 200]);
        (datagram, size)
    };
    let quoted = udp(to, from, &data);
    match number % 9 {
        0 => udp(from, to, &data),
        1 => tcp(from, to, SYN, (number, 0), b""),
        2 => tcp(from, to, ACK, (number, 1), &data),
        3 => echo(from.ip(), to.ip(), number as u16, &data),
        4 => fragment(from, to, &place(128).0, 0, number),
        5 => fragment(from, to, &place(128).0, 1, number),
        6 => error(
            from.ip(),
            to.ip(),
            [if to.is_ipv4() { 3 } else { 1 }, 0],
            &quoted,
        ),
        7 => error(
            from.ip(),
            to.ip(),
            [if to.is_ipv4() { 11 } else { 3 }, 0],
            &quoted,
        ),
        _ => error(
            from.ip(),
            to.ip(),
            [if to.is_ipv4() { 12 } else { 4 }, 0],
            &quoted,
        ),
    }
}

fn fragment(from: SocketAddr, to: SocketAddr, datagram: &[u8], at: usize, id: u32) -> Vec<u8> {
    let piece = Place::pieces(datagram, 128)[at];
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => piece_v4(from, to, 17, id as u16, piece),
        (IpAddr::V6(from), IpAddr::V6(to)) => piece_v6(from, to, 17, id, piece),
        _ => Vec::new(),
    }
}

/// Changes a packet, three times of four behind its IP header. The kernel on the way drops those whose IP
/// header is no longer one.
fn changed(random: &mut Random, mut packet: Vec<u8>) -> Vec<u8> {
    let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let spared = if random.below(4) == 0 { 1 } else { header };
    random.mutate(&mut packet, spared);
    if random.below(2) == 0 {
        mend(&mut packet, header);
    }
    packet
}

/// Gives a changed packet the lengths and the checksum that it should have, as far as there is one, so
/// that it comes further than to the first check.
fn mend(packet: &mut [u8], header: usize) {
    if packet.len() < header + 8 {
        return;
    }
    let (from, to, protocol) = match header {
        20 => {
            let address = |at: usize| Ipv4Addr::from([0, 1, 2, 3].map(|byte| packet[at + byte]));
            (
                IpAddr::from(address(12)),
                IpAddr::from(address(16)),
                packet[9],
            )
        }
        _ => {
            let length = (packet.len() - header) as u16;
            packet[4..6].copy_from_slice(&length.to_be_bytes());
            let address = |at: usize| {
                let bytes: [u8; 16] = std::array::from_fn(|byte| packet[at + byte]);
                Ipv6Addr::from(bytes)
            };
            (
                IpAddr::from(address(8)),
                IpAddr::from(address(24)),
                packet[6],
            )
        }
    };
    let place = header
        + match protocol {
            6 => 16,
            17 => 6,
            1 | 58 => 2,
            _ => return,
        };
    let Some(field) = packet.get_mut(place..place + 2) else {
        return;
    };
    field.fill(0);
    // ICMP has no pseudo header.
    let sum = match protocol {
        1 => checksum_of(&packet[header..]),
        _ => checksum(
            protocol,
            (from, 0).into(),
            (to, 0).into(),
            &packet[header..],
        ),
    };
    packet[place..place + 2].copy_from_slice(&sum.to_be_bytes());
}

fn plat6(ground: &Ground<'_>) -> Result<Found> {
    beside(ground, Net::new(ground)?, |net, random| {
        let raw = net.topology.clients[1].run(Raw6::new)?;
        let to = embedded(SERVER);
        many(ground.effort.messages, random, |random, number| {
            let from = (attackers_host((number % 50) as u16), 4000).into();
            let packet = changed(random, kinds(from, (to, 9).into(), number));
            let _ = raw.send_to(&packet, to);
            Ok(())
        })
    })
}

fn plat4(ground: &Ground<'_>) -> Result<Found> {
    beside(ground, Net::new(ground)?, |net, random| {
        let raw = net.topology.server.run(Raw4::new)?;
        many(ground.effort.messages, random, |random, number| {
            let from = (fake_host4(2 + (number % 50) as u8), 4000).into();
            let to = (SHARED, 1024 + (number % 60_000) as u16).into();
            let _ = raw.send_to(&changed(random, kinds(from, to, number)), SHARED);
            Ok(())
        })
    })
}

fn clat6(ground: &Ground<'_>) -> Result<Found> {
    let net = Net::new(ground)?;
    let clat = net.clat_address()?;
    beside(ground, net, |net, random| {
        let raw = net.topology.edge.run(Raw6::new)?;
        many(ground.effort.messages, random, |random, number| {
            let from = embedded(fake_host4(2 + (number % 50) as u8));
            let packet = kinds((from, 4000).into(), (clat, 4000).into(), number);
            let _ = raw.send_to(&changed(random, packet), clat);
            Ok(())
        })
    })
}

fn clat4(ground: &Ground<'_>) -> Result<Found> {
    beside(ground, Net::new(ground)?, |net, random| {
        let raw = net.topology.client().run(Raw4::new)?;
        many(ground.effort.messages, random, |random, number| {
            let packet = kinds((CLAT4, 4000).into(), (SERVER, 9).into(), number);
            let _ = raw.send_to(&changed(random, packet), SERVER);
            Ok(())
        })
    })
}

fn discovery(ground: &Ground<'_>) -> Result<Found> {
    let net = Net::new(ground)?;
    let clat = net.clat_address()?;
    beside(ground, net, |net, random| {
        let at_plat = net.topology.clients[1].run(|| Raw6::on(UPLINK))?;
        let at_clat = net.topology.edge.run(|| Raw6::on(VICTIM))?;
        many(ground.effort.messages, random, |random, number| {
            let (raw, to, packet) = match number % 3 {
                0 => (&at_plat, ALL_ROUTERS, solicitation(number)),
                1 => (&at_clat, ALL_NODES, advertisement(number)),
                _ => (&at_clat, clat, neighbour_solicitation(number, clat)),
            };
            let _ = raw.send_to(&changed(random, packet), to);
            Ok(())
        })
    })
}

fn dns(ground: &Ground<'_>) -> Result<Found> {
    let answers = std::sync::Mutex::new(ground.random());
    let upstream = move |asked: &Asked| {
        let right = asked.v4_only(SERVER);
        if asked.name.ends_with("right.example") {
            return right.into();
        }
        let mut bytes = right.to_bytes();
        let mut random = answers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // Number and question stay: it is believed to be the answer.
        let spared = if random.below(2) == 0 {
            2
        } else {
            bytes.len() - 20
        };
        random.mutate(&mut bytes, spared);
        vec![Act::Send(bytes)]
    };
    let net = Net::with_upstream(ground, upstream)?;
    beside(ground, net, |net, random| {
        let socket = net.topology.clients[1].run(|| {
            let socket = UdpSocket::bind("[::]:0")?;
            socket.connect((EDGE, 53))?;
            Ok(socket)
        })?;
        let said = many(ground.effort.messages, random, |random, number| {
            let name = format!("n{number}.changed.example");
            let kind = [A, AAAA, HTTPS][number as usize % 3];
            let mut query = Message::query(&name, kind)
                .with_edns(0, 1232, true)
                .to_bytes();
            if number % 2 == 0 {
                random.mutate(&mut query, 0);
            }
            let _ = socket.send(&query);
            Ok(())
        })?;
        net.honest_question("right.example")?;
        Ok(said)
    })
}

/// A MAP request of the attacker's (RFC 6887 section 11.1), for a port of its own.
fn map(client: Ipv6Addr) -> Vec<u8> {
    let any = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
    [
        &[2, 1, 0, 0][..],
        &120_u32.to_be_bytes(),
        &client.octets(),
        b"a nonce of a",
        &[17, 0, 0, 0],
        &6881_u16.to_be_bytes(),
        &[0, 0],
        &any.octets(),
    ]
    .concat()
}

fn pcp(ground: &Ground<'_>) -> Result<Found> {
    beside(ground, Net::new(ground)?, |net, random| {
        let own = crate::topology::Topology::client_address(1);
        let edge = Ipv6Addr::new(0x2001, 0xdb8, 1, 1, 0, 0, 0, 1);
        let socket = net.topology.clients[1].run(|| {
            let socket = UdpSocket::bind((own, 0))?;
            socket.connect((edge, 5351))?;
            Ok(socket)
        })?;
        many(ground.effort.messages, random, |random, number| {
            let mut request = map(own);
            // PREFER_FAILURE, and a filter.
            match number % 3 {
                0 => {}
                1 => request.extend([2, 0, 0, 0]),
                _ => request.extend(
                    [
                        &[3, 0, 0, 20, 0, 128, 0, 80][..],
                        &embedded(SERVER).octets(),
                    ]
                    .concat(),
                ),
            }
            random.mutate(&mut request, 0);
            let _ = socket.send(&request);
            Ok(())
        })
    })
}

fn requests(ground: &Ground<'_>) -> Result<Found> {
    // Each is a connection of its own.
    let count = ground.effort.messages / 20;
    beside(ground, Net::new(ground)?, |net, random| {
        for program in [Program::Clat, Program::Plat] {
            let path = socket(net, program)?;
            let address = program.metrics().parse()?;
            let host = net.host(program);
            many(count, random, |random, number| {
                let patience = Duration::from_secs(15);
                let mut reply = Vec::new();
                if number % 2 == 0 {
                    let mut request = b"{\"Status\":{\"json\":true}}\n".to_vec();
                    random.mutate(&mut request, 0);
                    let mut stream = UnixStream::connect(&path)?;
                    stream.set_read_timeout(Some(patience))?;
                    let _ = stream.write_all(&request);
                    stream.shutdown(std::net::Shutdown::Write)?;
                    let _ = stream.read_to_end(&mut reply);
                    return Ok(());
                }
                let mut request = b"GET /metrics HTTP/1.1\r\nHost: lab\r\n\r\n".to_vec();
                random.mutate(&mut request, 0);
                let mut stream =
                    host.run(|| Ok(TcpStream::connect_timeout(&address, patience)?))?;
                stream.set_read_timeout(Some(patience))?;
                let _ = stream.write_all(&request);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read_to_end(&mut reply);
                Ok(())
            })?;
            net.status(program)?;
        }
        Ok(format!("{} requests", 2 * count))
    })
}
