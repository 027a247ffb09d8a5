//! The administrator's choices about a stateful NAT64, with the RFCs' defaults.
//!
//! One file, as it is the list of all of them: each value with its meaning, unit, default and
//! limit, and one check that they make sense together. How they are written as text is
//! `config_text.rs`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix};
use xlat_core::mapper::Unreachable;

use crate::clock::Ticks;
use crate::ports::deterministic;
use crate::ports::pool_spec::PoolSpec;

use crate::tuple::{Inside, Outside, Protocol};

/// The administrator's choices about a stateful NAT64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The external addresses. An address that stands in several specs has the ports of all.
    pub pool: Vec<PoolSpec>,
    /// Bindings that the administrator makes.
    pub bindings: Vec<StaticBinding>,
    /// How long sessions live.
    pub timers: Timers,
    /// Who gets in through a binding.
    pub filtering: Filtering,
    /// What inbound packets may do.
    pub inbound: Inbound,
    /// Limits of memory and fairness.
    pub limits: Limits,
    /// How ports are handed out.
    pub ports: PortPolicy,
    /// IPv6 sources that are served; all if empty.
    pub clients: Vec<Ipv6Prefix>,
    /// IPv4 destinations that are blocked for all clients.
    pub denied: Vec<Destination>,
    /// ICMPv6 error to a client when a limit is reached or the pool is exhausted; none if `None`.
    pub exhaustion_answer: Option<Unreachable>,
    /// Number of independent parts that the state is cut into; a worker holds one at a time.
    pub shards: u32,
}

/// A binding that the administrator makes: a port forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticBinding {
    /// Its protocol.
    pub protocol: Protocol,
    /// The address that the IPv4 side sees.
    pub external: Ipv4Addr,
    /// The port or identifier that the IPv4 side sees.
    pub external_port: u16,
    /// The IPv6 node behind it.
    pub client: Ipv6Addr,
    /// That node's port or identifier.
    pub client_port: u16,
}

impl StaticBinding {
    pub(crate) fn inside(&self) -> Inside {
        Inside {
            protocol: self.protocol,
            client: self.client,
            port: self.client_port,
        }
    }

    pub(crate) fn outside(&self) -> Outside {
        Outside {
            protocol: self.protocol,
            external: self.external.to_bits(),
            port: self.external_port,
        }
    }
}

/// How long sessions live after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// UDP_DEFAULT: 5 minutes.
    pub udp: Duration,
    /// ICMP_DEFAULT: 60 seconds.
    pub icmp: Duration,
    /// TCP_EST: 2 hours 4 minutes.
    pub tcp_established: Duration,
    /// TCP_TRANS while a connection is being set up: 4 minutes.
    pub tcp_opening: Duration,
    /// TCP_TRANS while a connection is going away: 4 minutes.
    pub tcp_closing: Duration,
    /// How long a UDP port or ICMP identifier rests before another client may have it: 2 minutes
    /// (RFC 6888 REQ-8).
    pub port_hold_down: Duration,
    /// FRAGMENT_MIN: how long the fragments of a datagram may take to come, 2 seconds to a minute.
    pub fragment: Duration,
    /// Accept lifetimes below the RFCs' minimum.
    pub allow_short: bool,
}

/// Who gets in through a binding (RFC 6146 section 3.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    /// Everybody.
    EndpointIndependent,
    /// Only addresses that the client has sent to.
    AddressDependent,
}

/// What packets from the IPv4 side may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// They prolong UDP and ICMP sessions. Otherwise only packets from the client do (RFC 4787
    /// REQ-6).
    pub refreshes: bool,
    /// They may open TCP connections through a binding.
    pub opens_tcp: bool,
    /// Which SYNs wait six seconds for one of the client's, and are answered then. Others are
    /// dropped.
    pub stores_syns: StoreSyns,
    /// TCP segments that belong to no session pass through an existing binding, in both directions.
    pub stray_tcp: bool,
}

/// SYNs from outside that wait for one of the client's (RFC 5382 REQ-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreSyns {
    /// None.
    Off,
    /// Those to a binding that the address-dependent filter keeps out.
    Filtered,
    /// Those to ports of the pool without a binding, too.
    All,
}

/// Limits of memory and fairness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions in total, and so bindings in total. Outsiders can open seven eighths of them.
    pub sessions: u32,
    /// Prefix length of a subscriber.
    pub subscriber_prefix: u8,
    /// Prefix length of a network, whose addresses one host may have, or forge. All subscribers of
    /// one together get at most [`Limits::NETWORK_SHARE`] times as many ports as are left for
    /// others; `None`: no such limit.
    pub network_prefix: Option<u8>,
    /// Sessions of one subscriber. Outsiders can open seven eighths of them.
    pub subscriber_sessions: u32,
    /// Bindings, which are external ports and identifiers, of one subscriber and protocol.
    pub subscriber_ports: u32,
    /// New bindings of one subscriber per second, on average.
    pub subscriber_rate: Option<u32>,
    /// Memory for incomplete datagrams, in bytes; one source gets 1/32 of it.
    pub fragment_memory: u32,
}

impl Limits {
    /// Ports of a network for each one that is free.
    pub const NETWORK_SHARE: u32 = 3;
}

/// How ports are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortPolicy {
    /// Keep the parity of UDP ports (RFC 4787 REQ-4).
    pub parity: bool,
    /// Hand out blocks of ports.
    pub blocks: Option<PortBlocks>,
    /// Which block a subscriber has follows from its prefix (RFC 7422). It has one, and the
    /// clients must be known.
    pub deterministic: bool,
}

/// Blocks of ports per subscriber (RFC 6888 REQ-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortBlocks {
    /// Ports in a block: a power of two from 64 to 32768.
    pub size: u32,
    /// Blocks that one subscriber can have.
    pub per_subscriber: u32,
}

/// IPv4 destinations, all ports or some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The addresses.
    pub prefix: Ipv4Prefix,
    /// The ports; all if `None`, which then includes ICMP.
    pub ports: Option<RangeInclusive<u16>>,
}

impl Config {
    /// The documented defaults with this pool.
    pub fn new(pool: Vec<PoolSpec>) -> Self {
        Self {
            pool,
            bindings: Vec::new(),
            timers: Timers::default(),
            filtering: Filtering::EndpointIndependent,
            inbound: Inbound {
                refreshes: true,
                opens_tcp: true,
                stores_syns: StoreSyns::Filtered,
                stray_tcp: true,
            },
            limits: Limits {
                sessions: 1 << 20,
                subscriber_prefix: 128,
                network_prefix: Some(64),
                subscriber_sessions: 1 << 16,
                subscriber_ports: u32::MAX,
                subscriber_rate: None,
                fragment_memory: 32 << 20,
            },
            ports: PortPolicy {
                parity: true,
                blocks: None,
                deterministic: false,
            },
            clients: Vec::new(),
            denied: Vec::new(),
            exhaustion_answer: Some(Unreachable::Address),
            shards: 1,
        }
    }

    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// The first value that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.pool.is_empty() {
            return Err(ConfigError::NoPool);
        }
        if let Some(spec) = self
            .pool
            .iter()
            .find(|spec| spec.is_larger_than(MAX_ADDRESSES))
        {
            return Err(ConfigError::PoolSize(spec.clone()));
        }
        if self.limits.subscriber_prefix > 128 {
            return Err(ConfigError::SubscriberPrefix(self.limits.subscriber_prefix));
        }
        if self.shards == 0 || self.limits.sessions < self.shards {
            return Err(ConfigError::Shards(self.shards));
        }
        if self.limits.sessions > MAX_SESSIONS {
            return Err(ConfigError::Sessions(self.limits.sessions));
        }
        if let Some(blocks) = self.ports.blocks {
            let is_size = blocks.size.is_power_of_two() && (64..=32_768).contains(&blocks.size);
            if !is_size || blocks.per_subscriber == 0 {
                return Err(ConfigError::Blocks(blocks.size, blocks.per_subscriber));
            }
        }
        self.check_deterministic()?;
        self.check_bindings()?;
        self.timers.validate()
    }

    /// The largest block size with which each subscriber of the clients has one; `None` if they are
    /// too many for this pool.
    pub fn widest_block(&self) -> Option<u32> {
        let sizes = (6..=15).rev().map(|bits| 1_u32 << bits);
        sizes.into_iter().find(|size| {
            let (subscribers, blocks) = deterministic::counts(self, *size);
            subscribers <= blocks
        })
    }

    fn check_deterministic(&self) -> Result<(), ConfigError> {
        if !self.ports.deterministic {
            return Ok(());
        }
        let one = self
            .ports
            .blocks
            .filter(|blocks| blocks.per_subscriber == 1);
        let Some(blocks) = one.filter(|_| !self.clients.is_empty()) else {
            return Err(ConfigError::Deterministic);
        };
        for (index, prefix) in self.clients.iter().enumerate() {
            let overlaps = |other: &&Ipv6Prefix| other.overlaps(prefix);
            if prefix.len() > self.limits.subscriber_prefix
                || self.clients[..index].iter().any(|other| overlaps(&other))
            {
                return Err(ConfigError::DeterministicClient(*prefix));
            }
        }
        let (subscribers, have) = deterministic::counts(self, blocks.size);
        if subscribers > have {
            return Err(ConfigError::Subscribers(subscribers, have));
        }
        Ok(())
    }

    fn check_bindings(&self) -> Result<(), ConfigError> {
        for (index, one) in self.bindings.iter().enumerate() {
            let clashes = |other: &&StaticBinding| {
                let outside = (other.external, other.external_port);
                let inside = (other.client, other.client_port);
                other.protocol == one.protocol
                    && (outside == (one.external, one.external_port)
                        || inside == (one.client, one.client_port))
            };
            if let Some(other) = self.bindings[..index].iter().find(clashes) {
                return Err(ConfigError::Binding(*other, *one));
            }
        }
        Ok(())
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            udp: Duration::from_secs(300),
            icmp: Duration::from_secs(60),
            tcp_established: Duration::from_secs(7440),
            tcp_opening: Duration::from_secs(240),
            tcp_closing: Duration::from_secs(240),
            port_hold_down: Duration::from_secs(120),
            fragment: Duration::from_secs(2),
            allow_short: false,
        }
    }
}

impl Timers {
    /// Checks that no lifetime is below its RFC's minimum.
    ///
    /// # Errors
    /// The first one that is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let minima = [
            ("udp-timeout", self.udp, 120),
            ("icmp-timeout", self.icmp, 60),
            ("tcp-est-timeout", self.tcp_established, 7440),
            ("tcp-trans-timeout", self.tcp_opening, 240),
            ("tcp-trans-timeout", self.tcp_closing, 240),
            ("fragment-timeout", self.fragment, 2),
        ];
        let short = minima.iter().find(|(_, value, minimum)| {
            *value == Duration::ZERO || (!self.allow_short && value.as_secs() < *minimum)
        });
        if self.fragment > FRAGMENT_MAX {
            return Err(ConfigError::Fragment(self.fragment));
        }
        match short {
            Some(&(name, value, minimum)) => Err(ConfigError::Timer {
                name,
                value,
                minimum,
            }),
            None => Ok(()),
        }
    }
}

/// The timers in the unit that sessions count in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    pub(crate) udp: Ticks,
    pub(crate) icmp: Ticks,
    pub(crate) established: Ticks,
    pub(crate) opening: Ticks,
    pub(crate) closing: Ticks,
    pub(crate) port_hold_down: Ticks,
}

impl Lifetimes {
    pub(crate) fn new(timers: &Timers) -> Self {
        let rest = match timers.port_hold_down {
            Duration::ZERO => Ticks::ZERO,
            rest => Ticks::covering(rest),
        };
        Self {
            udp: Ticks::covering(timers.udp),
            icmp: Ticks::covering(timers.icmp),
            established: Ticks::covering(timers.tcp_established),
            opening: Ticks::covering(timers.tcp_opening),
            closing: Ticks::covering(timers.tcp_closing),
            port_hold_down: rest,
        }
    }
}

/// No reassembly waits longer (RFC 8200 section 4.5).
const FRAGMENT_MAX: Duration = Duration::from_secs(60);

/// An address costs 25 KiB, whether it is used or not.
const MAX_ADDRESSES: u32 = 1 << 16;

/// Handles use 31 bits.
const MAX_SESSIONS: u32 = (1 << 31) - 2;

/// A choice that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No address to share.
    #[error("the NAT64 pool is empty")]
    NoPool,
    /// More addresses than a machine has memory for.
    #[error("NAT64 pool {0} has more than 65536 addresses")]
    PoolSize(PoolSpec),
    /// A subscriber prefix longer than an address.
    #[error("there are no IPv6 prefixes of length {0}")]
    SubscriberPrefix(u8),
    /// No shard, or more shards than sessions.
    #[error("state for {0} shards cannot be made")]
    Shards(u32),
    /// More sessions than can be counted.
    #[error("{0} sessions are more than can be counted")]
    Sessions(u32),
    /// An impossible port block.
    #[error("blocks of {0} ports, {1} per subscriber: a block has 64, 128, ... or 32768 ports")]
    Blocks(u32, u32),
    /// A lifetime below its RFC's minimum.
    #[error("{name} of {value:?} is below the RFC's minimum of {minimum} s")]
    Timer {
        /// The timer's name.
        name: &'static str,
        /// Its value.
        value: Duration,
        /// The least value in seconds.
        minimum: u64,
    },
    /// No NAT64 prefix, or more than 255.
    #[error("{0} NAT64 prefixes: there must be one, and no more than 255")]
    Prefixes(usize),
    /// A static binding that the tables have no room for.
    #[error("no room for the static binding {0:?}")]
    NoRoom(StaticBinding),
    /// Fragments whose datagram has timed out.
    #[error("fragment-timeout of {0:?} is above a minute (RFC 8200)")]
    Fragment(Duration),
    /// Blocks that follow from prefixes need to know these.
    #[error(
        "deterministic ports need the clients' prefixes and one port block for each subscriber"
    )]
    Deterministic,
    /// A prefix without whole subscribers, or one that overlaps another.
    #[error("{0} has no whole subscribers, or overlaps other clients")]
    DeterministicClient(Ipv6Prefix),
    /// Fewer blocks than subscribers.
    #[error("{0} subscribers, but only {1} blocks of ports")]
    Subscribers(u64, u64),
    /// Two static bindings of one transport address.
    #[error("static bindings {0:?} and {1:?} share a transport address")]
    Binding(StaticBinding, StaticBinding),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nu_02_nu_07_lifetimes_below_the_minimum_need_permission() {
        let too_short: [fn(&mut Timers); 6] = [
            |timers| timers.udp = Duration::from_secs(119),
            |timers| timers.icmp = Duration::from_secs(59),
            |timers| timers.tcp_established = Duration::from_secs(7439),
            |timers| timers.tcp_opening = Duration::from_secs(239),
            |timers| timers.tcp_closing = Duration::from_millis(239_999),
            |timers| timers.fragment = Duration::from_millis(1999),
        ];
        for shorten in too_short {
            let mut config = config();
            shorten(&mut config.timers);
            let error = config.validate();
            assert!(matches!(error, Err(ConfigError::Timer { .. })), "{error:?}");
            config.timers.allow_short = true;
            assert_eq!(config.validate(), Ok(()));
        }
        let mut config = config();
        config.timers.udp = Duration::from_secs(120);
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        let mut none = config();
        none.pool.clear();
        assert_eq!(none.validate(), Err(ConfigError::NoPool));
        let mut large = config();
        large.pool.push("10.0.0.0/15".parse().unwrap());
        assert!(matches!(large.validate(), Err(ConfigError::PoolSize(_))));
        let mut blocks = config();
        for (size, per_subscriber) in [(0, 1), (63, 1), (100, 1), (65_536, 1), (128, 0)] {
            blocks.ports.blocks = Some(PortBlocks {
                size,
                per_subscriber,
            });
            assert_eq!(
                blocks.validate(),
                Err(ConfigError::Blocks(size, per_subscriber))
            );
        }
        let mut shards = config();
        shards.shards = 0;
        assert_eq!(shards.validate(), Err(ConfigError::Shards(0)));
    }

    #[test]
    fn two_static_bindings_of_one_transport_address_clash() {
        let one = StaticBinding {
            protocol: Protocol::Tcp,
            external: Ipv4Addr::new(192, 0, 2, 1),
            external_port: 443,
            client: Ipv6Addr::LOCALHOST,
            client_port: 8443,
        };
        let mut config = config();
        config.bindings = vec![
            one,
            StaticBinding {
                protocol: Protocol::Udp,
                ..one
            },
        ];
        assert_eq!(config.validate(), Ok(()));
        let same_inside = StaticBinding {
            external_port: 444,
            ..one
        };
        config.bindings.push(same_inside);
        assert_eq!(
            config.validate(),
            Err(ConfigError::Binding(one, same_inside))
        );
    }

    fn config() -> Config {
        Config::new(vec!["192.0.2.0/28".parse().unwrap()])
    }
}
