//! Packets without end, from the Internet, from a subscriber, and from a host on the link.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::net::{EDGE, Net, VICTIM, attackers_host};
use super::{Found, Ground, Row};
use crate::fake_host::fake_host4;
use crate::fixture::SHARED;
use crate::flood::RATE;
use crate::topology::{PREF64, SERVER, UPLINK, embedded};
use crate::traffic::dns::{Message, kind};
use crate::traffic::fragments::checksum;
use crate::traffic::packets::{Place, SYN, error, piece_v4, piece_v6, tcp, udp, udp_datagram};
use crate::traffic::ra::{ALL_NODES, ALL_ROUTERS, Advertisement, RaOption};
use crate::traffic::raw4::Raw4;
use crate::traffic::raw6::Raw6;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "flood-syn-in",
        about: "SYNs from 200 addresses in the Internet to all ports of the pool",
        run: |ground| flood(ground, From::Internet, RATE, syn_in),
    },
    Row {
        name: "flood-syn-out",
        about: "SYNs from 200 addresses of a subscriber",
        run: |ground| flood(ground, From::Subscriber, RATE, syn_out),
    },
    Row {
        name: "flood-udp-out",
        about: "a new UDP session with every packet of a subscriber",
        run: |ground| flood(ground, From::Subscriber, RATE, udp_out),
    },
    Row {
        name: "flood-fragments-in",
        about: "last fragments without first ones from the Internet",
        run: |ground| flood(ground, From::Internet, RATE, fragments_in),
    },
    Row {
        name: "flood-fragments-out",
        about: "first fragments without last ones from a subscriber",
        run: |ground| flood(ground, From::Subscriber, RATE, fragments_out),
    },
    Row {
        name: "flood-errors-in",
        about: "ICMP errors from the Internet about packets that nobody sent",
        run: |ground| flood(ground, From::Internet, RATE, errors_in),
    },
    Row {
        name: "flood-errors-clat",
        about: "ICMPv6 errors to the CLAT about packets that nobody sent",
        run: errors_clat,
    },
    Row {
        name: "flood-rs",
        about: "router solicitations to plat from 97 hosts on the link",
        run: |ground| flood(ground, From::LinkOfPlat, RATE, solicitation),
    },
    Row {
        name: "flood-ns",
        about: "neighbour solicitations for the CLAT's address from 97 hosts on the link",
        run: neighbours,
    },
    Row {
        name: "flood-ra",
        about: "contradicting router advertisements to clat from 97 routers on the link",
        run: |ground| flood(ground, From::LinkOfClat, RATE, advertisement),
    },
    Row {
        name: "flood-dns",
        about: "questions for names that nobody has asked for, from 200 addresses of a subscriber",
        run: questions,
    },
];

/// Where the attacker is.
#[derive(Debug, Clone, Copy)]
enum From {
    Internet,
    Subscriber,
    LinkOfClat,
    LinkOfPlat,
}

fn flood(
    ground: &Ground<'_>,
    place: From,
    rate: u64,
    make: impl Fn(u32) -> Vec<u8> + Send + Sync,
) -> Result<Found> {
    Net::new(ground)?.beside(ground, |net, is_over| send(net, place, rate, is_over, make))
}

/// Sends at a rate until it is over.
fn send(
    net: &Net,
    place: From,
    rate: u64,
    is_over: &AtomicBool,
    make: impl Fn(u32) -> Vec<u8> + Send + Sync,
) -> Result<String> {
    let topology = &net.topology;
    let begin = Instant::now();
    let sent = match place {
        From::Internet => topology.server.run(|| {
            let raw = Raw4::new()?;
            Ok(pace(rate, is_over, |number| {
                let _ = raw.send_to(&make(number), SHARED);
            }))
        }),
        From::Subscriber => topology.clients[1].run(|| {
            let raw = Raw6::new()?;
            Ok(pace(rate, is_over, |number| {
                let _ = raw.send(&make(number));
            }))
        }),
        From::LinkOfClat | From::LinkOfPlat => {
            let (namespace, link) = match place {
                From::LinkOfClat => (&topology.edge, VICTIM),
                _ => (&topology.clients[1], UPLINK),
            };
            namespace.run(|| {
                let raw = Raw6::on(link)?;
                Ok(pace(rate, is_over, |number| {
                    let _ = raw.send(&make(number));
                }))
            })
        }
    }?;
    let least = rate * begin.elapsed().as_millis() as u64 / 1000 / 8;
    ensure!(sent >= least, "only {sent} packets: no flood");
    let seconds = begin.elapsed().as_secs_f64();
    Ok(format!("{:.0} packets a second", sent as f64 / seconds))
}

/// Calls `send` at a rate until it is over. What the link does not take is lost.
fn pace(rate: u64, is_over: &AtomicBool, mut send: impl FnMut(u32)) -> u64 {
    let begin = Instant::now();
    let mut sent = 0;
    while !is_over.load(Ordering::Relaxed) {
        let due = begin.elapsed().as_micros() as u64 * rate / 1_000_000;
        // A machine that was busy does not catch up in one burst.
        sent = sent.max(due.saturating_sub(rate / 50));
        for number in sent..due {
            send(number as u32);
        }
        sent = due;
        thread::sleep(Duration::from_micros(500));
    }
    sent
}

/// An attacker in the Internet: one of 200.
fn stranger(number: u32) -> SocketAddr {
    let port = 1024 + (number / 200 % 60_000) as u16;
    (fake_host4(2 + (number % 200) as u8), port).into()
}

/// An attacker among the subscribers: one of 200 addresses of one network.
fn subscriber(number: u32) -> SocketAddr {
    let port = 1024 + (number / 200 % 60_000) as u16;
    (attackers_host((number % 200) as u16), port).into()
}

fn syn_in(number: u32) -> Vec<u8> {
    let to = (SHARED, 1024 + (number % 64_000) as u16).into();
    tcp(stranger(number), to, SYN, (number, 0), b"")
}

fn syn_out(number: u32) -> Vec<u8> {
    let to = (embedded(SERVER), 443).into();
    tcp(subscriber(number), to, SYN, (number, 0), b"")
}

fn udp_out(number: u32) -> Vec<u8> {
    udp(subscriber(number), (embedded(SERVER), 9).into(), b"flood")
}

fn fragments_in(number: u32) -> Vec<u8> {
    let (from, to) = (stranger(number), (SHARED, 1).into());
    let datagram = udp_datagram(from, to, &[7; 600]);
    let last = Place::pieces(&datagram, 400)[1];
    let IpAddr::V4(from) = from.ip() else {
        return Vec::new();
    };
    piece_v4(from, SHARED, 17, number as u16, last)
}

fn fragments_out(number: u32) -> Vec<u8> {
    let (from, to) = (subscriber(number), embedded(SERVER));
    let datagram = udp_datagram(from, (to, 53).into(), &[7; 600]);
    let first = Place::pieces(&datagram, 400)[0];
    let IpAddr::V6(from) = from.ip() else {
        return Vec::new();
    };
    piece_v6(from, to, 17, number, first)
}

fn errors_in(number: u32) -> Vec<u8> {
    let from = (SHARED, 1024 + (number % 64_000) as u16).into();
    let quoted = udp(from, (SERVER, 9).into(), b"never sent");
    error(stranger(number).ip(), SHARED.into(), [3, 1], &quoted)
}

fn errors_clat(ground: &Ground<'_>) -> Result<Found> {
    let net = Net::new(ground)?;
    let clat = net.clat_address()?;
    net.beside(ground, |net, is_over| {
        send(net, From::Subscriber, RATE, is_over, |number| {
            let from = (clat, 1024 + (number % 64_000) as u16).into();
            let quoted = udp(from, (embedded(SERVER), 9).into(), b"never sent");
            error(subscriber(number).ip(), clat.into(), [1, 0], &quoted)
        })
    })
}

/// A host on the link, and its link-layer address. More of them would fill the kernel's table of
/// neighbours, which all namespaces share.
fn neighbour(number: u32) -> (Ipv6Addr, [u8; 6]) {
    let low = (number % 97) as u16;
    let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xbad, low);
    (address, [2, 0, 0, 0xba, 0xd0, low as u8])
}

/// A message of neighbour discovery with its checksum.
pub(super) fn discovery(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((message.len() as u16).to_be_bytes());
    packet.extend([58, 255]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(message);
    packet[42..44].fill(0);
    let sum = checksum(58, (from, 0).into(), (to, 0).into(), &packet[40..]);
    packet[42..44].copy_from_slice(&sum.to_be_bytes());
    packet
}

pub(super) fn solicitation(number: u32) -> Vec<u8> {
    let (from, link) = neighbour(number);
    let message = [&[133, 0, 0, 0, 0, 0, 0, 0, 1, 1][..], &link].concat();
    discovery(from, ALL_ROUTERS, &message)
}

/// Of those that fc_64 has: other prefixes, and the right one withdrawn.
pub(super) fn advertisement(number: u32) -> Vec<u8> {
    let (from, _) = neighbour(number);
    let prefixes = ["2001:db8:63::/96", "2001:db8:1::/48", "64:ff9b::/96"];
    let lifetime = [0, 8, 65528][number as usize / 4 % 3];
    let option = match prefixes.get(number as usize % 4) {
        Some(prefix) => RaOption::pref64(prefix.parse().unwrap_or(PREF64), lifetime),
        None => RaOption::pref64(PREF64, 0),
    };
    let message = Advertisement {
        lifetime: 1800,
        options: vec![option],
        ..Advertisement::default()
    };
    discovery(from, ALL_NODES, &message.build())
}

/// Who asks for the link-layer address of `target`, and the group that hears it.
pub(super) fn neighbour_solicitation(number: u32, target: Ipv6Addr) -> Vec<u8> {
    let (from, link) = neighbour(number);
    let message = [
        &[135, 0, 0, 0, 0, 0, 0, 0][..],
        &target.octets(),
        &[1, 1],
        &link,
    ];
    discovery(from, solicited_node(target), &message.concat())
}

fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).to_bits();
    (group | target.to_bits() & 0xff_ffff).into()
}

fn neighbours(ground: &Ground<'_>) -> Result<Found> {
    let net = Net::new(ground)?;
    let clat = net.clat_address()?;
    net.beside(ground, |net, is_over| {
        send(net, From::LinkOfClat, RATE, is_over, |number| {
            neighbour_solicitation(number, clat)
        })
    })
}

fn questions(ground: &Ground<'_>) -> Result<Found> {
    Net::new(ground)?.beside(ground, |net, is_over| {
        let said = send(net, From::Subscriber, RATE / 4, is_over, question)?;
        net.honest_question("honest.example")?;
        Ok(said)
    })
}

fn question(number: u32) -> Vec<u8> {
    let name = format!("n{number}.flood.example");
    let mut query = Message::query(&name, kind::AAAA);
    query.id = number as u16;
    let from = subscriber(number);
    udp(from, (EDGE, 53).into(), &query.to_bytes())
}
