//! The NAT64 against a model that searches plain lists: random packets and waits, the same answers,
//! the same sessions, and nobody's packets at anybody else's door.
#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeMap;
use std::net::{SocketAddrV4, SocketAddrV6};

use nat64::config::{Filtering, PortBlocks};
use nat64::{Protocol, TcpState};
use proptest::prelude::*;
use world::{ACK, FIN, ICMP, ICMPV6, RST, SYN, TCP, UDP, World, config, sock4, sock6};

/// What is known of one session.
#[derive(Clone, Copy, Debug)]
struct Session {
    state: TcpState,
    /// Last second of its life.
    until: u64,
}

type Key = (Protocol, SocketAddrV6, SocketAddrV4);

#[derive(Default)]
struct Model {
    filter: bool,
    /// Most sessions of a subscriber, and most ports of one and protocol.
    limits: (usize, usize),
    bindings: BTreeMap<(Protocol, SocketAddrV6), SocketAddrV4>,
    sessions: BTreeMap<Key, Session>,
    now: u64,
}

impl Model {
    fn wait(&mut self, secs: u64) {
        self.now += secs;
        for session in self.sessions.values_mut() {
            if session.state == TcpState::Established && session.until < self.now {
                session.state = TcpState::Trans;
                session.until += 240;
            }
        }
        self.sessions.retain(|_, session| session.until >= self.now);
        let sessions = &self.sessions;
        self.bindings.retain(|(protocol, client), _| {
            sessions
                .keys()
                .any(|key| (key.0, key.1) == (*protocol, *client))
        });
    }

    fn owner(&self, protocol: Protocol, external: SocketAddrV4) -> Option<SocketAddrV6> {
        self.bindings
            .iter()
            .find(|((of, _), bound)| *of == protocol && **bound == external)
            .map(|((_, client), _)| *client)
    }

    /// Sessions of the client's subscriber.
    fn held(&self, client: SocketAddrV6) -> usize {
        let its = self.sessions.keys().filter(|key| is_one(key.1, client));
        its.count()
    }

    /// A packet of the client's; true if it must pass.
    fn send(&mut self, key: Key, flags: u8) -> bool {
        let opens = key.0 != Protocol::Tcp || flags & SYN != 0;
        let is_bound = self.bindings.contains_key(&(key.0, key.1));
        if !self.sessions.contains_key(&key) {
            if !opens {
                return is_bound;
            }
            let ports = self.bindings.keys();
            let ports =
                ports.filter(|(protocol, client)| *protocol == key.0 && is_one(*client, key.1));
            if self.held(key.1) >= self.limits.0 || !is_bound && ports.count() >= self.limits.1 {
                return false;
            }
        }
        self.step(key, flags, true);
        true
    }

    /// A packet of the server's to `client`; true if it must pass.
    fn receive(&mut self, key: Key, flags: u8) -> bool {
        if !self.sessions.contains_key(&key) {
            let knows =
                |other: &Key| (other.0, other.1) == (key.0, key.1) && other.2.ip() == key.2.ip();
            if self.filter && !self.sessions.keys().any(knows) {
                return false;
            }
            if key.0 == Protocol::Tcp && flags & SYN == 0 {
                return true;
            }
            // An eighth is the client's own.
            if self.held(key.1) >= self.limits.0 - self.limits.0 / 8 {
                return false;
            }
        }
        self.step(key, flags, false);
        true
    }

    fn step(&mut self, key: Key, flags: u8, from_client: bool) {
        let now = self.now;
        let life = match key.0 {
            Protocol::Udp => Some(300),
            Protocol::Icmp => Some(60),
            Protocol::Tcp => None,
        };
        if let Some(life) = life {
            let state = TcpState::V4Init;
            self.sessions.insert(
                key,
                Session {
                    state,
                    until: now + life,
                },
            );
            return;
        }
        let Some(session) = self.sessions.get_mut(&key) else {
            let state = if from_client {
                TcpState::V6Init
            } else {
                TcpState::V4Init
            };
            self.sessions.insert(
                key,
                Session {
                    state,
                    until: now + 240,
                },
            );
            return;
        };
        let (next, life) = tcp(session.state, flags, from_client);
        session.state = next;
        if let Some(life) = life {
            session.until = now + life;
        }
    }
}

/// Two addresses of one /64.
fn is_one(one: SocketAddrV6, other: SocketAddrV6) -> bool {
    one.ip().to_bits() >> 64 == other.ip().to_bits() >> 64
}

/// RFC 6146 section 3.5.2.2 as its prose says it, but for NC-13 (a RST behind one FIN) and NC-14 (a
/// SYN without ACK after the end begins the session anew).
fn tcp(state: TcpState, flags: u8, v6: bool) -> (TcpState, Option<u64>) {
    use TcpState::{Established, Trans, V4Fin, V4Init, V4V6Fin, V6Fin, V6Init};
    let (syn, fin, rst) = (flags & SYN != 0, flags & FIN != 0, flags & RST != 0);
    match state {
        V4Init if syn && v6 => (Established, Some(7440)),
        V6Init if syn && v6 => (V6Init, Some(240)),
        V6Init if syn => (Established, Some(7440)),
        V4V6Fin | Trans if flags == SYN && v6 => (V6Init, Some(240)),
        V4V6Fin if flags == SYN => (V4Init, Some(240)),
        V4Init | V6Init | V4V6Fin => (state, None),
        Established | V4Fin | V6Fin if rst => (Trans, Some(240)),
        Established if fin && v6 => (V6Fin, None),
        Established if fin => (V4Fin, None),
        V4Fin if fin && v6 => (V4V6Fin, Some(240)),
        V6Fin if fin && !v6 => (V4V6Fin, Some(240)),
        Established | V4Fin | V6Fin => (state, Some(7440)),
        Trans if rst => (Trans, None),
        Trans => (Established, Some(7440)),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Send {
        protocol: Protocol,
        client: usize,
        server: usize,
        flags: u8,
    },
    Receive {
        external: usize,
        server: usize,
        flags: u8,
    },
    /// A client's packet to an external address of another one's.
    Turn {
        client: usize,
        external: usize,
        flags: u8,
    },
    /// The keeper comes by.
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let protocol = prop::sample::select(&Protocol::ALL[..]);
    let flags = prop::sample::select(vec![SYN, SYN, ACK, FIN | ACK, RST, SYN | ACK]);
    prop_oneof![
        2 => prop_oneof![0..10u64, 50..70u64, 230..310u64, 7000..8000u64].prop_map(Step::Wait),
        5 => (protocol, 0..CLIENTS.len(), 0..SERVERS.len(), flags.clone()).prop_map(
            |(protocol, client, server, flags)| Step::Send { protocol, client, server, flags }
        ),
        5 => (0..64usize, 0..SERVERS.len(), flags.clone()).prop_map(|(external, server, flags)| {
            Step::Receive { external, server, flags }
        }),
        2 => (0..CLIENTS.len(), 0..64usize, flags).prop_map(|(client, external, flags)| {
            Step::Turn { client, external, flags }
        }),
        2 => Just(Step::Expire),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_packet_goes_where_the_model_says(
        steps in prop::collection::vec(step(), 1..120),
        filter in any::<bool>(),
        shards in 1..4u32,
        blocks in any::<bool>(),
        sessions_limit in prop::sample::select(vec![8usize, 1000]),
        ports_limit in prop::sample::select(vec![1usize, 1000]),
    ) {
        let mut config = config("192.0.2.0/30");
        config.shards = shards;
        config.limits.subscriber_prefix = 64;
        config.limits.subscriber_sessions = sessions_limit as u32;
        config.limits.subscriber_ports = ports_limit as u32;
        if blocks {
            config.ports.blocks = Some(PortBlocks { size: 64, per_subscriber: 3 });
        }
        if filter {
            config.filtering = Filtering::AddressDependent;
        }
        let mut world = World::new(config);
        let limits = (sessions_limit, ports_limit);
        let mut model = Model { filter, limits, ..Model::default() };
        let mut seen: Vec<(Protocol, SocketAddrV4)> = Vec::new();
        for step in steps {
            match step.clone() {
                Step::Wait(secs) => {
                    world.wait(secs);
                    model.wait(secs);
                }
                Step::Send { protocol, client, server, flags } => {
                    let (client, server) = (CLIENTS[client], server_for(protocol, SERVERS[server]));
                    let key = (protocol, sock6(client), sock4(&server));
                    let known = model.bindings.get(&(protocol, key.1)).copied();
                    let got = world.send(v6_number(protocol), flags_of(protocol, flags), client, &server);
                    prop_assert_eq!(got.is_ok(), model.send(key, flags), "{:?}", got);
                    let Ok(external) = got else { continue };
                    if let Some(known) = known {
                        prop_assert_eq!(external, known);
                    } else {
                        prop_assert_eq!(model.owner(protocol, external), None);
                        model.bindings.insert((protocol, key.1), external);
                        seen.push((protocol, external));
                    }
                }
                Step::Receive { external, server, flags } => {
                    if seen.is_empty() {
                        continue;
                    }
                    let (protocol, external) = seen[external % seen.len()];
                    let server = server_for(protocol, SERVERS[server]);
                    let got = world.receive(v4_number(protocol), flags_of(protocol, flags), &server, external);
                    let owner = model.owner(protocol, external);
                    let passes = owner.is_some_and(|client| {
                        model.receive((protocol, client, sock4(&server)), flags)
                    });
                    prop_assert_eq!(got.ok(), owner.filter(|_| passes));
                }
                Step::Turn { client, external, flags } => {
                    let targets = seen.iter().filter(|(protocol, _)| *protocol != Protocol::Icmp);
                    let targets: Vec<_> = targets.copied().collect();
                    if targets.is_empty() {
                        continue;
                    }
                    let (protocol, target) = targets[external % targets.len()];
                    let (client, flags) = (CLIENTS[client], flags_of(protocol, flags));
                    let key = (protocol, sock6(client), target);
                    let known = model.bindings.get(&(protocol, key.1)).copied();
                    let got = world.send(v6_number(protocol), flags, client, &target.to_string());
                    prop_assert_eq!(got.is_ok(), model.send(key, flags), "{:?}", got);
                    let Ok(external) = got else { continue };
                    prop_assert_eq!(external, known.unwrap_or(external));
                    if known.is_none() {
                        prop_assert_eq!(model.owner(protocol, external), None);
                        model.bindings.insert((protocol, key.1), external);
                        seen.push((protocol, external));
                    }
                    let got = world.turn(v4_number(protocol), flags, external, target);
                    let owner = model.owner(protocol, target);
                    let passes = owner.is_some_and(|client| {
                        model.receive((protocol, client, external), flags)
                    });
                    prop_assert_eq!(got.ok(), owner.filter(|_| passes));
                }
                Step::Expire => world.expire(),
            }
            // Packets must not see that the keeper is late, and figures may.
            if !matches!(step, Step::Expire) {
                continue;
            }
            let counts = world.counts();
            prop_assert_eq!(counts.bindings as usize, model.bindings.len());
            for protocol in Protocol::ALL {
                let expected = model.sessions.keys().filter(|key| key.0 == protocol).count();
                prop_assert_eq!(counts.sessions[protocol as usize] as usize, expected);
            }
            for state in TcpState::ALL {
                let expected = model
                    .sessions
                    .iter()
                    .filter(|(key, session)| key.0 == Protocol::Tcp && session.state == state)
                    .count();
                prop_assert_eq!(counts.tcp[state as usize] as usize, expected, "{:?}", state);
            }
        }
        world.wait(8000);
        world.expire();
        world.wait(8000);
        world.expire();
        let counts = world.counts();
        prop_assert_eq!((counts.bindings, counts.sessions, counts.subscribers), (0, [0; 3], 0));
        prop_assert_eq!(counts.free_ports, [4 * 65_535, 4 * 65_535, 4 * 65_536]);
    }
}

/// Echo has no server port.
fn server_for(protocol: Protocol, server: &str) -> String {
    match protocol {
        Protocol::Icmp => server.replace(":53", ":0").replace(":80", ":0"),
        Protocol::Udp | Protocol::Tcp => server.to_owned(),
    }
}

fn flags_of(protocol: Protocol, flags: u8) -> u8 {
    if protocol == Protocol::Tcp { flags } else { 0 }
}

fn v6_number(protocol: Protocol) -> pnet_packet::ip::IpNextHeaderProtocol {
    match protocol {
        Protocol::Udp => UDP,
        Protocol::Tcp => TCP,
        Protocol::Icmp => ICMPV6,
    }
}

fn v4_number(protocol: Protocol) -> pnet_packet::ip::IpNextHeaderProtocol {
    match protocol {
        Protocol::Icmp => ICMP,
        Protocol::Udp | Protocol::Tcp => v6_number(protocol),
    }
}

const CLIENTS: [&str; 5] = [
    "[2001:db8::1]:1000",
    "[2001:db8::1]:1001",
    "[2001:db8::2]:1000",
    "[2001:db8:0:1::1]:1000",
    "[2001:db8:0:2::1]:80",
];

const SERVERS: [&str; 4] = [
    "198.51.100.7:53",
    "198.51.100.7:80",
    "203.0.113.9:53",
    "203.0.113.10:80",
];
