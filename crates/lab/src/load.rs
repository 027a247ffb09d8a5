//! Many subscribers with many sessions through the stateful `plat`, for a while.
//!
//! Behind the client's namespace stand any number of subscribers: their packets are made here and
//! written into a TUN, and what comes back to them is read from it. Each datagram says who sent it,
//! and the server sends everything back, so that an answer that reaches somebody else is seen.
//! Sessions come and go at random, and so do subscribers. In the end everything must be over: no
//! session, no binding, no subscriber, each port free again, no growth.

use std::net::{Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipnet::{IpNet, Ipv6Net};
use serde_json::Value;

use crate::binaries::Binaries;
use crate::installed::{Installed, Setup};
use crate::link::{add_address, add_route};
use crate::topology::{Plan, SERVER, Topology, embedded};
use crate::traffic::fragments::udp;
use crate::traffic::udp::Echo;
use crate::tun::Tun;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Subscribers, each with a /64.
    pub subscribers: u32,
    /// Sessions of all of them together at any time.
    pub sessions: u32,
    /// How long.
    pub time: Duration,
    /// How long a session lives after its last packet.
    pub lifetime: Duration,
    /// Of so many packets one begins a new session in place of an old one.
    pub churn: u32,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Datagrams sent by subscribers.
    pub sent: u64,
    /// Those that came back to whom they belong.
    pub returned: u64,
    /// Sessions that began.
    pub begun: u64,
    /// Most sessions at a look.
    pub most: u64,
    /// Subscribers that began, the first ones included.
    pub came: u64,
    /// What is left a while after the end: nothing, or how `plat` says it.
    pub left: Option<String>,
    /// Memory of `plat` in KiB at each look, from when all sessions were there.
    pub memory: Vec<u64>,
}

/// The subscribers' prefix.
const SUBSCRIBERS: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 0), 48);
const TUN: &str = "load";
/// First port of a subscriber's sessions.
const FIRST_PORT: u16 = 1024;

/// Runs it. `look` is told how things are from time to time.
///
/// # Errors
/// When the network cannot be built, when `plat` ends, or when an answer reached somebody else.
pub fn run(binaries: &Binaries, load: &Load, mut look: impl FnMut(&Outcome)) -> Result<Outcome> {
    let topology = Topology::new(&Plan::default())?;
    let tun = attach(&topology)?;
    let lifetime = format!("{}ms", load.lifetime.as_millis());
    let sessions = (2 * load.sessions).to_string();
    let setup = Setup::plat_alone(&[
        "--pool=192.168.64.8/29",
        "--subscriber-prefix=64",
        "--udp-timeout",
        &lifetime,
        "--port-hold-down",
        &lifetime,
        "--allow-short-timeouts",
        "--max-sessions",
        &sessions,
    ]);
    let installed = Installed::with(binaries, topology, setup)?;
    let echo = Echo::start(&installed.topology.server, SERVER.into())?;
    let mut generator = Generator::new(load, echo.address(), tun);
    let mut outcome = Outcome::default();
    let (begin, mut next_look) = (Instant::now(), Instant::now());
    while begin.elapsed() < load.time {
        generator.round()?;
        if Instant::now() >= next_look {
            next_look += load.time / 12;
            generator.tell(&mut outcome);
            watch(&installed, load, &mut outcome)?;
            look(&outcome);
        }
    }
    generator.listen(Instant::now() + Duration::from_millis(500))?;
    generator.tell(&mut outcome);
    outcome.left = wait_until_empty(&installed, load)?;
    look(&outcome);
    Ok(outcome)
}

impl Outcome {
    /// Says what is not as it should be.
    ///
    /// # Errors
    /// The first thing.
    pub fn check(&self, load: &Load) -> Result<()> {
        if let Some(left) = &self.left {
            bail!("not everything is over: {left}");
        }
        ensure!(
            self.most >= u64::from(load.sessions) * 95 / 100,
            "there were never more than {} sessions",
            self.most
        );
        ensure!(
            self.returned * 100 >= self.sent * 90,
            "{} of {} datagrams came back",
            self.returned,
            self.sent
        );
        let middle = self.memory.get(self.memory.len() / 2);
        let (Some(middle), Some(last)) = (middle, self.memory.last()) else {
            bail!("the memory was never looked at");
        };
        ensure!(
            *last <= middle + middle / 20 + 1024,
            "memory grows: {:?} KiB",
            self.memory
        );
        Ok(())
    }
}

/// A TUN behind the client, and the way there from the edge.
fn attach(topology: &Topology) -> Result<Tun> {
    let client = topology.client();
    client.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    let tun = Tun::open(client, TUN)?;
    let last = Ipv6Addr::from_bits(SUBSCRIBERS.broadcast().to_bits());
    add_address((client, TUN), IpNet::new_assert(last.into(), 48))?;
    let gateway = Topology::client_address(0).into();
    add_route(&topology.edge, SUBSCRIBERS.into(), gateway, None)?;
    Ok(tun)
}

/// Sessions and memory of the running `plat`.
fn watch(installed: &Installed, load: &Load, outcome: &mut Outcome) -> Result<()> {
    let sessions = sessions(installed)?;
    outcome.most = outcome.most.max(sessions);
    if sessions >= u64::from(load.sessions) * 95 / 100 {
        outcome.memory.push(installed.plat.resident()?);
    }
    Ok(())
}

fn sessions(installed: &Installed) -> Result<u64> {
    let status: Value = serde_json::from_str(&installed.ask_plat(&["status", "--json"])?)?;
    let sessions = status["stateful"]["sessions"]["udp"].as_u64();
    sessions.context("no sessions in the status")
}

/// Waits until sessions, bindings and subscribers are gone and no port rests any more.
fn wait_until_empty(installed: &Installed, load: &Load) -> Result<Option<String>> {
    let end = Instant::now() + 2 * load.lifetime + Duration::from_secs(10);
    loop {
        let text = installed.ask_plat(&["status", "--json"])?;
        let status: Value = serde_json::from_str(&text)?;
        let figures = &status["stateful"];
        let is_over = figures["sessions"]["udp"] == 0
            && figures["bindings"] == 0
            && figures["subscribers"] == 0
            && figures["ports"].is_object()
            && figures["ports"] == figures["free_ports"];
        if is_over {
            return Ok(None);
        }
        if Instant::now() > end {
            return Ok(Some(text));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// All subscribers.
struct Generator {
    server: SocketAddr,
    tun: Tun,
    /// The port of each session, subscriber by subscriber.
    ports: Vec<u16>,
    per_subscriber: u32,
    /// Who has the place of each subscriber now.
    subscribers: Vec<u16>,
    next_subscriber: u16,
    came: u64,
    churn: u32,
    next: u32,
    /// Packets that may be sent in a round, so that each session is refreshed in time.
    burst: u32,
    pause: Duration,
    random: u64,
    sent: u64,
    returned: u64,
    begun: u64,
}

/// Of so many rounds through all sessions a subscriber leaves in one.
const STAYS: u64 = 20;

/// Time of a round.
const ROUND: Duration = Duration::from_millis(5);

impl Generator {
    fn new(load: &Load, server: SocketAddr, tun: Tun) -> Self {
        let per_subscriber = load.sessions / load.subscribers;
        let ports = (0..load.subscribers * per_subscriber)
            .map(|number| FIRST_PORT + (number % per_subscriber) as u16)
            .collect::<Vec<_>>();
        // Three packets in a lifetime.
        let rounds = load.lifetime.as_secs_f64() / 3.0 / ROUND.as_secs_f64();
        Self {
            server: (embedded(SERVER), server.port()).into(),
            tun,
            begun: ports.len() as u64,
            burst: (ports.len() as f64 / rounds).ceil() as u32,
            ports,
            per_subscriber,
            subscribers: (0..load.subscribers).map(|number| number as u16).collect(),
            next_subscriber: load.subscribers as u16,
            came: load.subscribers.into(),
            churn: load.churn,
            next: 0,
            pause: ROUND,
            random: 0x2545_f491_4f6c_dd1d,
            sent: 0,
            returned: 0,
        }
    }

    /// Sends a burst and reads what has come, for the time of a round.
    fn round(&mut self) -> Result<()> {
        let end = Instant::now() + self.pause;
        for _ in 0..self.burst {
            let session = self.next;
            self.next = (self.next + 1) % self.ports.len() as u32;
            if self.draw().is_multiple_of(u64::from(self.churn)) {
                self.ports[session as usize] = self.fresh_port();
                self.begun += 1;
            }
            self.change_subscriber(session);
            self.send(session)?;
            if self.sent.is_multiple_of(32) {
                self.read()?;
            }
        }
        self.listen(end)
    }

    fn listen(&mut self, end: Instant) -> Result<()> {
        loop {
            self.read()?;
            if Instant::now() >= end {
                return Ok(());
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Now and then somebody else comes to a subscriber's place, with sessions of its own.
    fn change_subscriber(&mut self, session: u32) {
        let is_first = session.is_multiple_of(self.per_subscriber);
        if !is_first || !self.draw().is_multiple_of(STAYS) {
            return;
        }
        let place = (session / self.per_subscriber) as usize;
        self.subscribers[place] = self.next_subscriber;
        self.next_subscriber = self.next_subscriber.wrapping_add(1);
        self.came += 1;
        self.begun += u64::from(self.per_subscriber);
    }

    fn send(&mut self, session: u32) -> Result<()> {
        let place = (session / self.per_subscriber) as usize;
        let subscriber = u32::from(self.subscribers[place]);
        let port = self.ports[session as usize];
        let from = SocketAddr::from((address(subscriber), port));
        let mark = [&b"soak"[..], &subscriber.to_be_bytes(), &port.to_be_bytes()].concat();
        let datagram = udp(from, self.server, &mark);
        let mut packet = vec![0x60, 0, 0, 0, 0, datagram.len() as u8, 17, 64];
        packet.extend(address(subscriber).octets());
        packet.extend(embedded(SERVER).octets());
        packet.extend(datagram);
        self.tun.send(&packet)?;
        self.sent += 1;
        Ok(())
    }

    /// Takes what has come back, and looks whether it reached the right one.
    fn read(&mut self) -> Result<()> {
        while let Some(packet) = self.tun.recv()? {
            // The kernel's own neighbour and router messages pass here too.
            if packet.len() < 58 || packet[6] != 17 {
                continue;
            }
            let (source, to) = (&packet[8..24], &packet[24..40]);
            let (to_port, mark) = (&packet[42..44], &packet[48..58]);
            let subscriber = u32::from_be_bytes([mark[4], mark[5], mark[6], mark[7]]);
            ensure!(
                mark[..4] == *b"soak"
                    && source == embedded(SERVER).octets()
                    && to == address(subscriber).octets()
                    && to_port == &mark[8..10],
                "an answer for subscriber {subscriber} reached {to:x?} port {to_port:x?}"
            );
            self.returned += 1;
        }
        Ok(())
    }

    fn tell(&self, outcome: &mut Outcome) {
        outcome.sent = self.sent;
        outcome.returned = self.returned;
        outcome.begun = self.begun;
        outcome.came = self.came;
    }

    fn fresh_port(&mut self) -> u16 {
        FIRST_PORT + (self.draw() % u64::from(u16::MAX - FIRST_PORT)) as u16
    }

    /// Marsaglia's xorshift.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

fn address(subscriber: u32) -> Ipv6Addr {
    (SUBSCRIBERS.network().to_bits() | u128::from(subscriber) << 64 | 1).into()
}
