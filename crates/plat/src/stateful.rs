//! Flags of the stateful translator, and the configuration that they make.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use nat64::PoolSpec;
use nat64::config::{
    Config, Destination, Filtering, Inbound, Limits, PortBlocks, PortPolicy, StaticBinding,
    StoreSyns, Timers,
};
use nat64_host::LogLevel;
use plat_host::{Forward, Pool};
use xlat_core::addr::Ipv6Prefix;
use xlat_core::mapper::Unreachable;
use xlat_host::daemon::flags::{RELOADABLE, Switch};

/// What a stateful translator can be told.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Stateful NAT64")]
pub(crate) struct StatefulFlags {
    /// IPv4 addresses that all clients share; several times
    ///
    /// An address, a range or a prefix, with or without a range of ports; or the address of an interface of this host, which clients share with the host:
    /// theirs are ports 10000 to 32767 unless others are given
    #[arg(long, value_name = "SPEC|IFACE[:LOW-HIGH]")]
    pub(crate) pool: Vec<Pool>,
    /// Port forward from an IPv4 address, or the address of an interface that is the pool, and port to
    /// a client; several times
    #[arg(long, group = RELOADABLE, value_name = "PROTO:V4|IFACE:PORT=[V6]:PORT")]
    pub(crate) bind: Vec<Forward>,
    /// Let hosts on the interfaces of --lan ask for external ports by PCP (RFC 6887) [default: on,
    /// where the pool can be reached from outside]
    #[arg(long, value_enum, value_name = "on|off")]
    pub(crate) pcp: Option<Switch>,
    /// IPv6 hosts that may ask by PCP for ports of others (THIRD_PARTY), as a router does for those
    /// behind it; several times [default: none]
    #[arg(long, value_name = "PREFIX")]
    pub(crate) pcp_third_party: Vec<Ipv6Prefix>,
    /// Serve only IPv6 sources of this prefix; several times; ::/0 serves all [default: those of
    /// this host's own networks]
    #[arg(long, group = RELOADABLE, value_name = "PREFIX")]
    pub(crate) client: Vec<Ipv6Prefix>,
    /// IPv4 destination that is blocked for all clients, all ports or some; several times
    #[arg(long, group = RELOADABLE, value_name = "V4[/N][:PORT[-PORT]]")]
    pub(crate) deny: Vec<Destination>,
    /// Which IPv4 hosts can send to a client through its binding
    #[arg(long, value_enum, value_name = "WAY", default_value_t = FilteringFlag::EndpointIndependent)]
    pub(crate) filtering: FilteringFlag,
    /// Packets from the IPv4 side refresh UDP and ICMP sessions
    #[arg(long, group = RELOADABLE, value_enum, value_name = "on|off", default_value_t = Switch::On)]
    pub(crate) inbound_refresh: Switch,
    /// IPv4 hosts may open TCP connections through a client's binding
    #[arg(long, group = RELOADABLE, value_enum, value_name = "on|off", default_value_t = Switch::On)]
    pub(crate) inbound_tcp: Switch,
    /// Hold a SYN that the filter blocks for six seconds in case the client sends its own, and answer
    /// it then; `all`: those to ports without a binding, too
    #[arg(long, group = RELOADABLE, value_enum, value_name = "on|all|off", default_value_t = Syns::On)]
    pub(crate) store_syns: Syns,
    /// Translate TCP segments without a session by an existing binding
    #[arg(long, group = RELOADABLE, value_enum, value_name = "on|off", default_value_t = Switch::On)]
    pub(crate) stray_tcp: Switch,
    /// Lifetime of a UDP session after its last packet; from 2m
    #[arg(long, group = RELOADABLE, value_name = "TIME", default_value = "5m")]
    pub(crate) udp_timeout: humantime::Duration,
    /// Lifetime of an ICMP query session after its last packet; from 60s
    #[arg(long, group = RELOADABLE, value_name = "TIME", default_value = "60s")]
    pub(crate) icmp_timeout: humantime::Duration,
    /// Lifetime of an idle established TCP connection; from 2h 4m
    #[arg(long, group = RELOADABLE, value_name = "TIME", default_value = "2h 4m")]
    pub(crate) tcp_est_timeout: humantime::Duration,
    /// Lifetime of a TCP connection that opens or closes; from 4m
    #[arg(long, group = RELOADABLE, value_name = "TIME", default_value = "4m")]
    pub(crate) tcp_trans_timeout: humantime::Duration,
    /// The same for a connection that opens
    #[arg(long, group = RELOADABLE, value_name = "TIME")]
    pub(crate) tcp_open_timeout: Option<humantime::Duration>,
    /// How long to wait for the fragments of a datagram; 2s to 1m
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub(crate) fragment_timeout: humantime::Duration,
    /// Hold-down: how long a UDP port is not reused by another client
    #[arg(
        long,
        group = RELOADABLE,
        visible_alias = "port-rest",
        value_name = "TIME",
        default_value = "2m"
    )]
    pub(crate) port_hold_down: humantime::Duration,
    /// Accept timeouts below the RFCs' minimum
    #[arg(long, group = RELOADABLE, visible_alias = "allow-short-timers")]
    pub(crate) allow_short_timeouts: bool,
    /// Maximum number of sessions; IPv4 hosts can open seven eighths of them
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    pub(crate) max_sessions: u32,
    /// Prefix length of a subscriber
    #[arg(long, value_name = "BITS", default_value_t = 128,
          value_parser = clap::value_parser!(u8).range(..=128))]
    pub(crate) subscriber_prefix: u8,
    /// Prefix length of a network: all subscribers of one together get at most three times as many
    /// ports as are left for others, so that a host with forged addresses cannot take all; 0: no such
    /// limit
    #[arg(long, value_name = "BITS", default_value_t = 64,
          value_parser = clap::value_parser!(u8).range(..=128))]
    pub(crate) subscriber_network: u8,
    /// Maximum sessions of one subscriber
    #[arg(long, group = RELOADABLE, value_name = "N", default_value_t = 1 << 16)]
    pub(crate) subscriber_sessions: u32,
    /// Maximum ports of one subscriber and protocol [default: no limit]
    #[arg(long, group = RELOADABLE, value_name = "N")]
    pub(crate) subscriber_ports: Option<u32>,
    /// Maximum new bindings of one subscriber per second, on average [default: no limit]
    #[arg(long, group = RELOADABLE, value_name = "N")]
    pub(crate) subscriber_rate: Option<u32>,
    /// Memory for incomplete datagrams, in MiB; one source gets 1/32 of it
    #[arg(long, value_name = "MIB", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=2047))]
    pub(crate) fragment_memory: u32,
    /// Keep even ports even and odd ones odd (RFC 4787)
    #[arg(long, group = RELOADABLE, value_enum, value_name = "on|off", default_value_t = Switch::On)]
    pub(crate) port_parity: Switch,
    /// Hand out ports in blocks, so that one log record covers many: size of a block, and how many
    /// a subscriber can have, as in 512x4; the size alone means four
    #[arg(long, value_name = "SIZE[xCOUNT]")]
    pub(crate) port_block: Option<PortBlocks>,
    /// Give each subscriber of --client a block of ports that follows from its prefix (RFC 7422):
    /// no log is needed to know who had which port; see `plat whose`
    #[arg(long)]
    pub(crate) deterministic: bool,
    /// Parts that the state is cut into, so that workers do not wait for each other
    /// [default: 1 for one queue, else two for each]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) shards: Option<u32>,
    /// Sessions whose packets the kernel translates, at the most; the least recently used one makes
    /// place
    #[arg(long, value_name = "N", default_value_t = 1 << 16,
          value_parser = clap::value_parser!(u32).range(2..=1 << 22))]
    pub(crate) fast_path_sessions: u32,
    /// Packets of a session, whichever way they go, before the kernel translates them
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) fast_path_after: u8,
    /// What a client is told when a limit or the end of the pool is reached
    #[arg(long, value_enum, value_name = "ANSWER", default_value_t = ExhaustionAnswer::AddressUnreachable)]
    pub(crate) exhaustion_answer: ExhaustionAnswer,
    /// Write down bindings as lines of JSON: a file, or `syslog`
    #[arg(long, value_name = "FILE|syslog")]
    pub(crate) session_log: Option<PathBuf>,
    /// What is written down; `sessions` says with whom each client talks
    #[arg(long, group = RELOADABLE, value_enum, value_name = "WHAT", default_value_t = LogFlag::Bindings)]
    pub(crate) session_log_level: LogFlag,
}

impl StatefulFlags {
    /// The configuration of a translator with this pool, these port forwards and so many workers; not
    /// checked yet.
    pub(crate) fn config(
        &self,
        pool: Vec<PoolSpec>,
        bindings: Vec<StaticBinding>,
        workers: usize,
    ) -> Config {
        let on = |switch| switch == Switch::On;
        let mut config = Config {
            bindings,
            timers: self.timers(),
            filtering: self.filtering.into(),
            inbound: Inbound {
                refreshes: on(self.inbound_refresh),
                opens_tcp: on(self.inbound_tcp),
                stores_syns: self.store_syns.into(),
                stray_tcp: on(self.stray_tcp),
            },
            limits: Limits {
                sessions: self.max_sessions,
                subscriber_prefix: self.subscriber_prefix,
                network_prefix: Some(self.subscriber_network).filter(|len| *len > 0),
                subscriber_sessions: self.subscriber_sessions,
                subscriber_ports: self.subscriber_ports.unwrap_or(u32::MAX),
                subscriber_rate: self.subscriber_rate,
                fragment_memory: self.fragment_memory << 20,
            },
            ports: PortPolicy {
                parity: on(self.port_parity),
                blocks: self.port_block,
                deterministic: self.deterministic,
            },
            clients: self.client.clone(),
            denied: self.deny.clone(),
            exhaustion_answer: self.exhaustion_answer.into(),
            shards: self
                .shards
                .unwrap_or_else(|| Config::sensible_shards(&pool, workers)),
            ..Config::new(pool)
        };
        if self.deterministic && self.port_block.is_none() {
            // The widest that there is for all of them; none is an error with a message.
            let size = config.widest_block().unwrap_or(64);
            config.ports.blocks = Some(PortBlocks {
                size,
                per_subscriber: 1,
            });
        }
        config
    }

    /// Which sessions the kernel is offered.
    pub(crate) fn offers(&self) -> Offers {
        Offers {
            packets: self.fast_path_after,
            flows: self.fast_path_sessions,
        }
    }

    /// Where the session log goes, and what it records.
    pub(crate) fn session_log(&self) -> SessionLog {
        SessionLog {
            target: self.session_log.clone(),
            level: self.session_log_level.into(),
        }
    }

    fn timers(&self) -> Timers {
        let closing: Duration = self.tcp_trans_timeout.into();
        Timers {
            udp: self.udp_timeout.into(),
            icmp: self.icmp_timeout.into(),
            tcp_established: self.tcp_est_timeout.into(),
            tcp_opening: self.tcp_open_timeout.map_or(closing, Into::into),
            tcp_closing: closing,
            port_hold_down: self.port_hold_down.into(),
            fragment: self.fragment_timeout.into(),
            allow_short: self.allow_short_timeouts,
        }
    }
}

/// Which sessions are offered to the kernel's fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offers {
    /// Packets after which one is.
    pub(crate) packets: u8,
    /// Most that it has.
    pub(crate) flows: u32,
}

/// The session log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionLog {
    /// A file, or `syslog`; `None` if there is no log.
    pub(crate) target: Option<PathBuf>,
    pub(crate) level: LogLevel,
}

impl SessionLog {
    /// Target and level, if there is a log.
    pub(crate) fn open_as(&self) -> Option<(&Path, LogLevel)> {
        Some((self.target.as_deref()?, self.level))
    }
}

/// Who gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FilteringFlag {
    /// Everybody
    #[value(alias = "eif")]
    EndpointIndependent,
    /// Only addresses that the client has sent to
    #[value(alias = "adf")]
    AddressDependent,
}

impl From<FilteringFlag> for Filtering {
    fn from(flag: FilteringFlag) -> Self {
        match flag {
            FilteringFlag::EndpointIndependent => Self::EndpointIndependent,
            FilteringFlag::AddressDependent => Self::AddressDependent,
        }
    }
}

/// Which SYNs from outside wait for one of the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Syns {
    /// Those that the filter blocks
    On,
    /// Those to ports without a binding, too
    All,
    /// None
    Off,
}

impl From<Syns> for StoreSyns {
    fn from(flag: Syns) -> Self {
        match flag {
            Syns::On => Self::Filtered,
            Syns::All => Self::All,
            Syns::Off => Self::Off,
        }
    }
}

/// What a client without a port is told (RFC 6888 REQ-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExhaustionAnswer {
    /// ICMPv6 1/3
    AddressUnreachable,
    /// ICMPv6 1/1
    Prohibited,
    /// Nothing
    None,
}

impl From<ExhaustionAnswer> for Option<Unreachable> {
    fn from(flag: ExhaustionAnswer) -> Self {
        match flag {
            ExhaustionAnswer::AddressUnreachable => Some(Unreachable::Address),
            ExhaustionAnswer::Prohibited => Some(Unreachable::Prohibited),
            ExhaustionAnswer::None => None,
        }
    }
}

/// What is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFlag {
    /// Bindings, or blocks of ports; never destinations
    Bindings,
    /// Sessions too, with their destinations
    Sessions,
}

impl From<LogFlag> for LogLevel {
    fn from(flag: LogFlag) -> Self {
        match flag {
            LogFlag::Bindings => Self::Bindings,
            LogFlag::Sessions => Self::Sessions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        stateful: StatefulFlags,
    }

    fn flags(flags: &[&str]) -> Result<StatefulFlags, clap::Error> {
        Ok(Cli::try_parse_from([&["x"], flags].concat())?.stateful)
    }

    fn config(args: &[&str], workers: usize) -> Config {
        let flags = flags(args).unwrap();
        let pool = flags.pool.iter().map(|pool| match pool {
            Pool::Addresses(spec) => spec.clone(),
            Pool::Interface(_) => panic!("{pool:?}"),
        });
        flags.config(pool.collect(), Vec::new(), workers)
    }

    #[test]
    fn without_flags_the_configuration_is_the_default_one() {
        let pool = "--pool=192.0.2.0/28";
        let without = config(&[pool], 1);
        let default = Config::new(vec!["192.0.2.0/28".parse().unwrap()]);
        assert_eq!(format!("{without:?}"), format!("{default:?}"));
        let shards = |pool, workers| config(&[pool], workers).shards;
        assert_eq!(shards(pool, 4), 8);
        assert_eq!(shards("--pool=192.0.2.1", 32), 4);
        assert_eq!(shards("--pool=192.0.2.1:2000-2003", 4), 1);
    }

    #[test]
    fn names_of_the_first_design_are_understood() {
        let flags = flags(&[
            "--pool=192.0.2.1",
            "--filtering=adf",
            "--port-block=512",
            "--allow-short-timers",
        ])
        .unwrap();
        assert_eq!(flags.filtering, FilteringFlag::AddressDependent);
        assert!(flags.allow_short_timeouts);
        let blocks = flags.port_block.unwrap();
        assert_eq!((blocks.size, blocks.per_subscriber), (512, 4));
    }
}
