//! A NAT64 in virtual time, and packets as short lines: what goes out, what comes back.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

pub mod offload;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use nat64::config::Config;
use nat64::event::{Event, EventKind};
use nat64::feed::Subscribe;
use nat64::{Counts, Nat64, Subscription, Worker};
use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use xlat_core::addr::Pref64s;
use xlat_core::mapper::{ErrorFlow, ErrorRewrite, Flow, Pass, Ports, Refusal, Unreachable};
use xlat_core::{DropReason, Instant, Mapper};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

pub const UDP: IpNextHeaderProtocol = IpNextHeaderProtocols::Udp;
pub const TCP: IpNextHeaderProtocol = IpNextHeaderProtocols::Tcp;
pub const ICMP: IpNextHeaderProtocol = IpNextHeaderProtocols::Icmp;
pub const ICMPV6: IpNextHeaderProtocol = IpNextHeaderProtocols::Icmpv6;

/// What the session log asks for with `bindings`, without and with port blocks, and `sessions`.
pub const BINDINGS: Subscribe = Subscribe {
    bindings: true,
    refusals: true,
    ..Subscribe::NONE
};
pub const BLOCKS: Subscribe = Subscribe {
    blocks: true,
    refusals: true,
    ..Subscribe::NONE
};
pub const SESSIONS: Subscribe = Subscribe {
    sessions: true,
    ..BINDINGS
};

pub struct World {
    pub nat: Nat64,
    pub worker: Worker,
    pub now: Instant,
    pub subscription: Option<Subscription>,
}

impl World {
    /// A NAT64 behind 2001:db8:64::/96 at second 1000.
    pub fn new(config: Config) -> Self {
        let pref64s = Pref64s::new(["2001:db8:64::/96".parse().unwrap()], true);
        Self::behind(pref64s, config)
    }

    /// A NAT64 behind these prefixes at second 1000.
    pub fn behind(pref64s: Pref64s, config: Config) -> Self {
        let nat = Nat64::new(config, pref64s, [1, 2]).unwrap();
        Self {
            worker: nat.worker(),
            nat,
            now: Instant::from_secs(1000),
            subscription: None,
        }
    }

    /// A NAT64 with this pool and the defaults otherwise.
    pub fn with_pool(pool: &str) -> Self {
        Self::new(config(pool))
    }

    pub fn wait_ms(&mut self, millis: u64) {
        self.now = Instant::from_nanos(self.now.as_nanos() + millis * 1_000_000);
    }

    pub fn wait(&mut self, secs: u64) {
        self.wait_ms(secs * 1000);
    }

    pub fn expire(&mut self) {
        while self.nat.expire(self.now, 100_000) {}
    }

    pub fn counts(&self) -> Counts {
        self.nat.counts()
    }

    /// Follows these changes from now on.
    pub fn subscribe(&mut self, wanted: Subscribe) {
        self.subscription = Some(self.nat.subscribe(wanted));
    }

    pub fn events(&self) -> Vec<EventKind> {
        let mut events: Vec<Event> = Vec::new();
        let subscription = self.subscription.as_ref().unwrap();
        assert_eq!(subscription.drain(&mut events), 0);
        events.into_iter().map(|event| event.kind).collect()
    }

    /// A packet from IPv6: what its source becomes.
    pub fn send(
        &mut self,
        protocol: IpNextHeaderProtocol,
        flags: u8,
        client: &str,
        server: &str,
    ) -> Result<SocketAddrV4, Refusal> {
        let (client, server) = (sock6(client), sock4(server));
        let flow = flow6(protocol, flags, client, embed(server));
        let rewrite = self.worker.map_v6(&flow, self.now)?;
        assert_eq!(rewrite.dst, *server.ip());
        let ports = rewrite.ports.unwrap();
        let is_icmp = protocol == ICMPV6;
        assert!(is_icmp && ports.src == ports.dst || !is_icmp && ports.dst == server.port());
        Ok(SocketAddrV4::new(rewrite.src, ports.src))
    }

    /// A packet from IPv4: what its destination becomes.
    pub fn receive(
        &mut self,
        protocol: IpNextHeaderProtocol,
        flags: u8,
        server: &str,
        to: SocketAddrV4,
    ) -> Result<SocketAddrV6, Refusal> {
        let server = sock4(server);
        let flow = flow4(protocol, flags, server, to);
        let rewrite = self.worker.map_v4(&flow, Pass::First, self.now)?;
        assert_eq!(rewrite.src, *embed(server).ip());
        let ports = rewrite.ports.unwrap();
        let is_icmp = protocol == ICMP;
        assert!(is_icmp && ports.src == ports.dst || !is_icmp && ports.src == server.port());
        Ok(SocketAddrV6::new(rewrite.dst, ports.dst, 0, 0))
    }

    /// A packet on the second pass of a hairpin: what its destination becomes.
    pub fn turn(
        &mut self,
        protocol: IpNextHeaderProtocol,
        flags: u8,
        from: SocketAddrV4,
        to: SocketAddrV4,
    ) -> Result<SocketAddrV6, Refusal> {
        let flow = flow4(protocol, flags, from, to);
        let rewrite = self.worker.map_v4(&flow, Pass::Hairpin, self.now)?;
        assert_eq!(rewrite.src, *embed(from).ip());
        Ok(SocketAddrV6::new(
            rewrite.dst,
            rewrite.ports.unwrap().dst,
            0,
            0,
        ))
    }

    pub fn udp_out(&mut self, client: &str, server: &str) -> Result<SocketAddrV4, Refusal> {
        self.send(UDP, 0, client, server)
    }

    pub fn udp_in(&mut self, server: &str, to: SocketAddrV4) -> Result<SocketAddrV6, Refusal> {
        self.receive(UDP, 0, server, to)
    }

    pub fn tcp_out(
        &mut self,
        flags: u8,
        client: &str,
        server: &str,
    ) -> Result<SocketAddrV4, Refusal> {
        self.send(TCP, flags, client, server)
    }

    pub fn tcp_in(
        &mut self,
        flags: u8,
        server: &str,
        to: SocketAddrV4,
    ) -> Result<SocketAddrV6, Refusal> {
        self.receive(TCP, flags, server, to)
    }

    /// An echo request; the port of `client` is the identifier.
    pub fn ping_out(&mut self, client: &str, server: &str) -> Result<SocketAddrV4, Refusal> {
        self.send(ICMPV6, 0, client, &format!("{server}:0"))
    }

    pub fn ping_in(&mut self, server: &str, to: SocketAddrV4) -> Result<SocketAddrV6, Refusal> {
        self.receive(ICMP, 0, &format!("{server}:0"), to)
    }

    /// An ICMPv4 error from `router` about a packet that went from `from` to `server`.
    pub fn error_in(
        &mut self,
        protocol: IpNextHeaderProtocol,
        router: &str,
        from: SocketAddrV4,
        server: &str,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        let error = ErrorFlow {
            src: router.parse().unwrap(),
            dst: *from.ip(),
            quoted: flow4(protocol, 0, from, sock4(server)),
        };
        self.worker.map_v4_error(&error, Pass::First, self.now)
    }

    /// An ICMPv6 error from `router` about a packet that went from `server` to `client`.
    pub fn error_out(
        &mut self,
        protocol: IpNextHeaderProtocol,
        router: &str,
        server: &str,
        client: &str,
    ) -> Result<ErrorRewrite<Ipv4Addr>, Refusal> {
        let server = embed(sock4(server));
        let error = ErrorFlow {
            src: router.parse().unwrap(),
            dst: *server.ip(),
            quoted: flow6(protocol, 0, server, sock6(client)),
        };
        self.worker.map_v6_error(&error, self.now)
    }
}

/// The defaults, but that clients of one network may have all ports: most tests have no other.
pub fn config(pool: &str) -> Config {
    let mut config = Config::new(vec![pool.parse().unwrap()]);
    config.limits.network_prefix = None;
    config
}

/// An ICMP query has its identifier in both places.
fn flow_ports(protocol: IpNextHeaderProtocol, src: u16, dst: u16) -> Option<Ports> {
    Some(match protocol {
        ICMP | ICMPV6 => Ports::identifier(src | dst),
        _ => Ports { src, dst },
    })
}

pub fn flow6(
    protocol: IpNextHeaderProtocol,
    flags: u8,
    src: SocketAddrV6,
    dst: SocketAddrV6,
) -> Flow<Ipv6Addr> {
    Flow {
        src: *src.ip(),
        dst: *dst.ip(),
        protocol,
        ports: flow_ports(protocol, src.port(), dst.port()),
        tcp_flags: flags,
        fragment: None,
    }
}

pub fn flow4(
    protocol: IpNextHeaderProtocol,
    flags: u8,
    src: SocketAddrV4,
    dst: SocketAddrV4,
) -> Flow<Ipv4Addr> {
    Flow {
        src: *src.ip(),
        dst: *dst.ip(),
        protocol,
        ports: flow_ports(protocol, src.port(), dst.port()),
        tcp_flags: flags,
        fragment: None,
    }
}

/// RFC 6052 by hand.
pub fn embed(server: SocketAddrV4) -> SocketAddrV6 {
    let ip = format!("2001:db8:64::{}", server.ip()).parse().unwrap();
    SocketAddrV6::new(ip, server.port(), 0, 0)
}

pub fn sock4(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

pub fn sock6(text: &str) -> SocketAddrV6 {
    text.parse().unwrap()
}

pub fn silent<T>(reason: DropReason) -> Result<T, Refusal> {
    Err(Refusal::Silent(reason))
}

pub fn answer<T>(reason: DropReason, how: Unreachable) -> Result<T, Refusal> {
    Err(Refusal::Answer(reason, how))
}
