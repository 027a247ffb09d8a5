//! Command-line definitions.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fast_path::Unavailable;
use xlat_core::DropReason;
use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix, Pref64};
use xlat_host::daemon::check::CheckFlags;
use xlat_host::daemon::fast_path::KernelPath;
use xlat_host::daemon::flags::{LogFlags, PolicyFlags, RunFlags, interface_name};
use xlat_host::daemon::import::ImportFlags;
use xlat_host::daemon::{exit, explain, help};
use xlat_host::examine::Target;

use crate::ports;
use crate::settings::Pcp;

/// Flags of `run` that `-h` shows.
const FREQUENT: &[&str] = &[
    "prefix", "probe", "uplink", "always", "lan", "mtu", "config", "metrics", "dry_run",
];

/// Gives IPv4 to an IPv6-only host: the customer side of 464XLAT (RFC 6877)
#[derive(Debug, Parser)]
#[command(version, long_version = help::version(env!("CARGO_PKG_VERSION"), &[]), max_term_width = 100,
          args_conflicts_with_subcommands = true, after_long_help = exit::CODES,
          mut_args = help::short(FREQUENT))]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: Run,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon (the default without a command)
    #[command(after_long_help = exit::CODES, mut_args = help::short(FREQUENT))]
    Run(Box<Run>),
    /// Show what clat detects about the network, and how, without changing anything
    #[command(after_help = exit::CODES)]
    Detect(Detect),
    /// Find what keeps this host from IPv4, and say what to do
    #[command(after_help = exit::DOCTOR_CODES)]
    Doctor(Doctor),
    /// Show the status of the running daemon
    #[command(after_help = exit::CODES)]
    Status(Status),
    /// Check a configuration file and print the effective values
    #[command(after_help = exit::CODES)]
    Check(CheckFlags),
    /// Make a configuration file of that of clatd, or of Tundra as a CLAT
    #[command(after_help = exit::CODES)]
    Import(ImportFlags),
    /// Undo the changes that a killed run left behind
    #[command(after_help = exit::CODES)]
    Recover(Recover),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Run {
    /// NAT64 prefix of the network: IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits [default:
    /// announced by routers (PREF64), else learned from the network's PCP server or DNS64]
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<Pref64>,
    /// Use a discovered prefix only if this IPv4 address answers a ping through it
    #[arg(long, value_name = "ADDR")]
    pub(crate) probe: Option<Ipv4Addr>,
    /// Ignore prefixes that are known from DNS or PCP only, whose answers are not validated
    #[arg(long)]
    pub(crate) require_secure: bool,
    /// Interface towards the IPv6-only network [default: the one with the route]
    #[arg(long, value_name = "IFACE", value_parser = interface_name)]
    pub(crate) uplink: Option<String>,
    /// Run beside native IPv4 too; without it clat waits while this host has native IPv4
    #[arg(long)]
    pub(crate) always: bool,
    /// IPv4 address of this host [default: a free one of 192.0.0.0/29]
    #[arg(long, value_name = "ADDR")]
    pub(crate) ipv4: Option<Ipv4Addr>,
    /// IPv6 address of the CLAT; the uplink's own address is shared with this host [default: a
    /// stable one in a delegated prefix or in the uplink's /64, else the uplink's own, shared]
    #[arg(long, value_name = "ADDR")]
    pub(crate) ipv6: Option<Ipv6Addr>,
    /// MTU towards the IPv6-only network, in bytes; from 1280 [default: the uplink's]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1280..))]
    pub(crate) mtu: Option<u16>,
    /// MTU of the IPv4 side, in bytes [default: 28 less than --mtu]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(68..))]
    pub(crate) mtu4: Option<u16>,
    /// Act as the IPv4 router of this network on another interface of this host; several times
    #[arg(long = "lan-network", alias = "lan", value_name = "CIDR")]
    pub(crate) lan: Vec<Ipv4Prefix>,
    /// IPv6 prefix, at most 96 bits long, that is routed to this host for the hosts of --lan-network:
    /// each gets an address of its own in it [default: all share this host's IPv4 address]
    #[arg(long, value_name = "PREFIX", requires = "lan")]
    pub(crate) lan_prefix6: Option<Ipv6Prefix>,
    /// Who gives external ports to IPv4 programs and hosts that ask by NAT-PMP or PCP: the routers
    /// of the network, these PCP servers, or no one
    #[arg(long, value_name = "auto|off|ADDR[,ADDR]", default_value = "auto")]
    pub(crate) pcp: Pcp,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) policy: PolicyFlags,
    #[command(flatten)]
    pub(crate) log: LogFlags,
    /// Directory for state that survives a restart
    #[arg(long, help_heading = help::HOW, value_name = "DIR", default_value = "/var/lib/clat")]
    pub(crate) state_dir: PathBuf,
    #[command(flatten)]
    pub(crate) flags: RunFlags,
    /// Ports that the CLAT uses of an address that it shares with this host
    #[arg(long, help_heading = help::RARE, value_name = "LOW-HIGH", default_value = "61000-65535", value_parser = ports::range)]
    pub(crate) shared_ports: RangeInclusive<u16>,
    /// Which interfaces forward IPv6 packets: only uplink and TUN, where the kernel supports it
    /// (Linux 6.17), or all of the host's
    #[arg(long, help_heading = help::RARE, value_name = "interfaces|host", default_value = "interfaces")]
    pub(crate) forwarding: Forwarding,
    /// Choose a CLAT address that keeps checksums the same (NAT64 prefixes of 32 or 96 bits)
    #[arg(long, help_heading = help::RARE)]
    pub(crate) checksum_neutral: bool,
    /// Metric of the IPv4 default route; lower is preferred [default: 2048, or the next free one]
    #[arg(long, help_heading = help::RARE, value_name = "N")]
    pub(crate) metric: Option<u32>,
}

impl Run {
    /// Loads the kernel's fast path, or says why there is none. To be called with all capabilities.
    pub(crate) fn kernel_path(&self) -> Result<KernelPath, Unavailable> {
        let mode = self.flags.fast_path;
        if self.flags.dry_run {
            return KernelPath::rehearse(mode);
        }
        // The mapping is the same for all flows.
        KernelPath::load(mode, self.flags.queue_count(), 0)
    }
}

/// What forwards IPv6 packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Forwarding {
    Interfaces,
    Host,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Recover {
    /// Print what was taken back, as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) log: LogFlags,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Detect {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// NAT64 prefix of the network, instead of asking for it
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<Pref64>,
    /// Where `clat` keeps the secret of its address
    #[arg(long, value_name = "DIR", default_value = "/var/lib/clat")]
    pub(crate) state_dir: PathBuf,
    /// Interface towards the IPv6-only network [default: the one with the route]
    #[arg(long, value_name = "IFACE", value_parser = interface_name)]
    pub(crate) uplink: Option<String>,
    /// How long routers and DNS servers have to answer, in seconds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) seconds: u64,
    #[command(flatten)]
    pub(crate) log: LogFlags,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Doctor {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// NAT64 prefix to compare the network with, where no daemon runs
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<Pref64>,
    /// Interface towards the IPv6-only network [default: the daemon's, or the one with the route]
    #[arg(long, value_name = "IFACE", value_parser = interface_name)]
    pub(crate) uplink: Option<String>,
    /// IPv4 host that answers pings and, with a port, TCP connections [default: 192.0.0.8, which a plat
    /// answers for]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub(crate) target: Option<Target>,
    /// How long it may take, in seconds
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) seconds: u64,
    /// Directory for state that survives a restart
    #[arg(long, value_name = "DIR", default_value = "/var/lib/clat")]
    pub(crate) state_dir: PathBuf,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Status {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Say what a reason of dropped packets means and what to do; no daemon needs to run
    #[arg(long, value_name = "REASON", conflicts_with = "json", value_parser = explain::reason(),
          hide_possible_values = true)]
    pub(crate) explain: Option<DropReason>,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Which instance is meant.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// Name of the TUN interface
    #[arg(long, value_name = "NAME", default_value = "clat", value_parser = interface_name)]
    pub(crate) tun: String,
    /// Directory for the journal of changes to undo, and the control socket
    #[arg(long, value_name = "DIR", default_value = "/run/clat")]
    pub(crate) run_dir: PathBuf,
}
