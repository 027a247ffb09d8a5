//! Two NAT64s get the same packets, and one of them has an offload, which carries what it can: each
//! packet has the same result, and at each time the sessions, their ends and the events are the same.
#![allow(clippy::unwrap_used)]

mod world;

use std::net::{SocketAddrV4, SocketAddrV6};

use nat64::config::{Config, Destination};
use nat64::snapshot::{Cursor, SavedSession};
use nat64::{Counts, Protocol};
use pnet_packet::ip::IpNextHeaderProtocol;
use proptest::prelude::*;
use world::offload::FakeOffload;
use world::{ACK, FIN, RST, SESSIONS, SYN, TCP, UDP, World, config, sock4, sock6};
use xlat_core::mapper::{PacketHolder, PendingPacket};

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Send {
        tcp: bool,
        client: usize,
        server: usize,
        flags: u8,
        times: u8,
    },
    Receive {
        external: usize,
        server: usize,
        flags: u8,
        times: u8,
    },
    /// An ICMP error of a router about what the client sent.
    Error {
        external: usize,
        server: usize,
    },
    /// What the worker does after a batch.
    BatchEnds,
    /// Another configuration; the worker adopts it some steps later.
    Reload {
        denies: bool,
        udp: u64,
    },
    Adopt,
    /// Something outside the NAT64 changes what is refused.
    Recall,
    Refuse(bool),
}

/// One NAT64 with an offload and one without.
struct Pair {
    plain: World,
    carried: World,
    offload: FakeOffload,
    /// The view that the workers will adopt.
    views: Option<(nat64::View, nat64::View)>,
}

impl Pair {
    fn new(config: &Config, packets: u8, flows: u32) -> Self {
        let offload = FakeOffload::default();
        let (mut plain, mut carried) = (World::new(config.clone()), World::new(config.clone()));
        carried
            .nat
            .set_offload(Some(&offload.config(packets, flows)));
        plain.subscribe(SESSIONS);
        carried.subscribe(SESSIONS);
        Self {
            plain,
            carried,
            offload,
            views: None,
        }
    }

    fn send(
        &mut self,
        protocol: Protocol,
        flags: u8,
        client: &str,
        server: &str,
    ) -> Option<SocketAddrV4> {
        let number = number(protocol);
        let expected = self.plain.send(number, flags, client, server);
        let (from, to) = (sock6(client), sock4(server));
        let now = self.carried.now;
        let got = match self.offload.carry_out((protocol, flags), from, to, now) {
            Some(external) => Ok(external),
            None => self.carried.send(number, flags, client, server),
        };
        assert_eq!(got, expected);
        got.ok()
    }

    fn receive(
        &mut self,
        protocol: Protocol,
        flags: u8,
        server: &str,
        to: SocketAddrV4,
    ) -> Option<SocketAddrV6> {
        let number = number(protocol);
        let expected = self.plain.receive(number, flags, server, to);
        let now = self.carried.now;
        let got = match self
            .offload
            .carry_in((protocol, flags), sock4(server), to, now)
        {
            Some(client) => Ok(client),
            None => self.carried.receive(number, flags, server, to),
        };
        assert_eq!(got, expected);
        got.ok()
    }

    fn wait(&mut self, secs: u64) {
        for world in [&mut self.plain, &mut self.carried] {
            world.wait(secs);
            world.expire();
        }
    }

    fn reload(&mut self, config: &Config) {
        let [plain, carried] = [&self.plain, &self.carried]
            .map(|world| world.nat.reconfigure(config.clone(), world.now).unwrap());
        assert_eq!(self.offload.installed(), []);
        self.views = Some((plain, carried));
    }

    fn adopt(&mut self) {
        if let Some((plain, carried)) = self.views.take() {
            self.plain.worker.adopt(plain);
            self.carried.worker.adopt(carried);
        }
    }

    fn recall(&mut self) {
        let view = self.carried.nat.recall();
        assert_eq!(self.offload.installed(), []);
        match &mut self.views {
            Some((_, pending)) => *pending = view,
            None => self.carried.worker.adopt(view),
        }
    }

    fn compare(&mut self) {
        assert_eq!(pending(&mut self.plain), pending(&mut self.carried));
        assert_eq!(sessions(&self.plain), sessions(&self.carried));
        let counts = self.carried.counts();
        assert_eq!(counts.offloaded as usize, self.offload.installed().len());
        assert_eq!(
            Counts {
                offloaded: 0,
                ..counts
            },
            self.plain.counts()
        );
        assert_eq!(self.plain.events(), self.carried.events());
    }
}

fn sessions(world: &World) -> Vec<SavedSession> {
    let (mut all, mut next) = (Vec::new(), Some(Cursor::default()));
    while let Some(cursor) = next {
        let (part, then) = world.nat.sessions(cursor, 100, world.now, 0);
        all.extend(part);
        next = then;
    }
    all
}

/// The packets that the worker has to send by itself: probes.
fn pending(world: &mut World) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    while let Some(packet) = world.worker.poll_packet(world.now) {
        let PendingPacket::Send(probe) = packet else {
            panic!("{packet:?}");
        };
        packets.push(probe.to_vec());
    }
    packets
}

fn number(protocol: Protocol) -> IpNextHeaderProtocol {
    if protocol == Protocol::Tcp { TCP } else { UDP }
}

fn step() -> impl Strategy<Value = Step> {
    let flags = || prop::sample::select(vec![SYN, SYN | ACK, ACK, ACK, ACK, ACK, FIN | ACK, RST]);
    let times = 1..6u8;
    prop_oneof![
        3 => prop::sample::select(vec![0, 1, 30, 200, 299, 301, 7000, 8000]).prop_map(Step::Wait),
        8 => (any::<bool>(), 0..CLIENTS.len(), 0..SERVERS.len(), flags(), times.clone())
            .prop_map(|(tcp, client, server, flags, times)| Step::Send { tcp, client, server, flags, times }),
        8 => (any::<usize>(), 0..SERVERS.len(), flags(), times)
            .prop_map(|(external, server, flags, times)| Step::Receive { external, server, flags, times }),
        1 => (any::<usize>(), 0..SERVERS.len()).prop_map(|(external, server)| Step::Error { external, server }),
        4 => Just(Step::BatchEnds),
        1 => (any::<bool>(), prop::sample::select(vec![150, 300]))
            .prop_map(|(denies, udp)| Step::Reload { denies, udp }),
        1 => Just(Step::Adopt),
        1 => Just(Step::Recall),
        1 => any::<bool>().prop_map(Step::Refuse),
    ]
}

fn changed(config: &Config, denies: bool, udp: u64) -> Config {
    let mut config = config.clone();
    config.timers.udp = std::time::Duration::from_secs(udp);
    if denies {
        let prefix = "198.51.100.7/32".parse().unwrap();
        config.denied = vec![Destination {
            prefix,
            ports: None,
        }];
    }
    config
}

/// Returns how many packets the offload carried.
fn run(steps: &[Step], config: &Config, packets: u8, flows: u32) -> u64 {
    let mut pair = Pair::new(config, packets, flows);
    let mut seen: Vec<(Protocol, SocketAddrV4)> = Vec::new();
    for step in steps {
        match *step {
            Step::Wait(secs) => pair.wait(secs),
            Step::Send {
                tcp,
                client,
                server,
                flags,
                times,
            } => {
                let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
                let flags = if tcp { flags } else { 0 };
                for _ in 0..times {
                    let external = pair.send(protocol, flags, CLIENTS[client], SERVERS[server]);
                    seen.extend(external.map(|external| (protocol, external)));
                }
            }
            Step::Receive {
                external,
                server,
                flags,
                times,
            } if !seen.is_empty() => {
                let (protocol, external) = seen[external % seen.len()];
                let flags = if protocol == Protocol::Tcp { flags } else { 0 };
                for _ in 0..times {
                    pair.receive(protocol, flags, SERVERS[server], external);
                }
            }
            Step::Error { external, server } if !seen.is_empty() => {
                let (protocol, external) = seen[external % seen.len()];
                let number = number(protocol);
                let [plain, carried] = [&mut pair.plain, &mut pair.carried]
                    .map(|world| world.error_in(number, "203.0.113.99", external, SERVERS[server]));
                assert_eq!(plain, carried);
            }
            Step::Receive { .. } | Step::Error { .. } => {}
            Step::BatchEnds => pair.compare(),
            Step::Reload { denies, udp } => pair.reload(&changed(config, denies, udp)),
            Step::Adopt => pair.adopt(),
            Step::Recall => pair.recall(),
            Step::Refuse(refuses) => pair.offload.refuse(refuses),
        }
    }
    pair.compare();
    pair.wait(20_000);
    pair.wait(20_000);
    pair.compare();
    assert_eq!(pair.offload.installed(), []);
    pair.offload.carried()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn kf_01_with_an_offload_every_packet_and_every_end_is_as_without(
        steps in prop::collection::vec(step(), 1..150),
        packets in 1..5u8,
        flows in 1..6u32,
        shards in 1..3u32,
        refreshes in any::<bool>(),
    ) {
        let mut config = config("192.0.2.0/30");
        config.shards = shards;
        config.inbound.refreshes = refreshes;
        config.limits.subscriber_sessions = 8;
        run(&steps, &config, packets, flows);
    }
}

#[test]
fn kf_01_the_steps_of_the_comparison_use_the_offload() {
    let send = |flags, times| Step::Send {
        tcp: true,
        client: 0,
        server: 0,
        flags,
        times,
    };
    let receive = |flags, times| Step::Receive {
        external: 0,
        server: 0,
        flags,
        times,
    };
    let steps = [
        send(SYN, 1),
        receive(SYN | ACK, 1),
        send(ACK, 2),
        Step::BatchEnds,
        receive(ACK, 1),
        Step::BatchEnds,
        send(ACK, 5),
        receive(ACK, 5),
        send(FIN | ACK, 1),
        receive(ACK, 5),
    ];
    assert_eq!(run(&steps, &config("192.0.2.0/30"), 3, 2), 10);
}

const CLIENTS: [&str; 3] = [
    "[2001:db8::1]:1000",
    "[2001:db8::1]:1001",
    "[2001:db8:0:1::1]:1000",
];

const SERVERS: [&str; 3] = ["198.51.100.7:53", "198.51.100.7:80", "203.0.113.9:53"];
