//! What can be typed.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum};
use fast_path::Unavailable;
use nat64::{Protocol, TcpState};
use nat64_host::{FilterError, Side, SortBy};
use plat_host::{Egress, OnNoEgress};
use serde::{Deserialize, Serialize};
use xlat_core::DropReason;
use xlat_core::addr::{Eam, Ipv4Prefix, Ipv6Prefix, Pref64};
use xlat_host::daemon::check::CheckFlags;
use xlat_host::daemon::fast_path::KernelPath;
use xlat_host::daemon::flags::{
    HairpinMode, LogFlags, PolicyFlags, RELOADABLE, RunFlags, Switch, interface_name,
};
use xlat_host::daemon::import::ImportFlags;
use xlat_host::daemon::{exit, explain, help};
use xlat_host::examine::Target;

use crate::advertise::flags::AdvertiseFlags;
use crate::dns::DnsFlags;
use crate::stateful::StatefulFlags;

/// Flags of `run` that `-h` shows.
const FREQUENT: &[&str] = &["prefix", "pool", "lan", "dns64", "config", "dry_run"];

/// What it was compiled with.
const FEATURES: &[&str] = if cfg!(feature = "tls") { &["tls"] } else { &[] };

/// Translates between an IPv6-only network and IPv4: the provider side of 464XLAT (RFC 6877)
#[derive(Debug, Parser)]
#[command(version, long_version = help::version(env!("CARGO_PKG_VERSION"), FEATURES), max_term_width = 100,
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
    /// Name the subscriber of an IPv4 address and port (with --deterministic)
    #[command(after_help = exit::CODES)]
    Whose(Whose),
    /// Undo the changes that a killed run left behind
    #[command(after_help = exit::CODES)]
    Recover(Recover),
    /// Check a configuration file and print the effective values
    #[command(after_help = exit::CODES)]
    Check(CheckFlags),
    /// Make a configuration file of those of other programs
    ///
    /// TAYGA, Jool, Tundra, radvd, unbound and BIND.
    #[command(after_help = exit::CODES)]
    Import(Import),
    /// Make the running daemon read its configuration file again
    #[command(after_help = exit::CODES)]
    Reload(Reload),
    /// Take the running gateway out of service: sessions that run finish
    ///
    /// New subscribers are refused meanwhile.
    #[command(after_help = exit::CODES)]
    Drain(Drain),
    /// Put a gateway that is being drained back into service
    #[command(after_help = exit::CODES)]
    Resume(Resume),
    /// Write the sessions of the running daemon, for another gateway
    ///
    /// To standard output.
    #[command(after_help = exit::CODES)]
    Export(Export),
    /// Take up the sessions that `plat export` of another gateway wrote
    ///
    /// From standard input.
    #[command(after_help = exit::CODES)]
    ImportSessions(ImportSessions),
    /// Find what keeps clients from IPv4, and say what to do
    #[command(after_help = exit::DOCTOR_CODES)]
    Doctor(Doctor),
    /// Show the status of the running daemon
    #[command(after_help = exit::CODES)]
    Status(Status),
    /// List the sessions of the running daemon
    #[command(after_help = exit::CODES)]
    Sessions(Sessions),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Run {
    /// NAT64 prefix of 32, 40, 48, 56, 64 or 96 bits; several times
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Vec<Pref64>,
    /// Static map between IPv4 and IPv6 addresses or prefixes (RFC 7757); several times
    #[arg(long, group = RELOADABLE, value_name = "V4[/N]=V6[/M]")]
    pub(crate) map: Vec<Eam>,
    /// Serve the hosts of this part of the NAT64 prefix by the IPv4 addresses in their own (RFC 6052);
    /// several times
    #[arg(long, value_name = "PREFIX")]
    pub(crate) translatable: Vec<Ipv6Prefix>,
    /// Give each IPv6 source an IPv4 address of this prefix
    #[arg(long, value_name = "CIDR")]
    pub(crate) dynamic_pool: Option<Ipv4Prefix>,
    /// IPv4 address of the translator [default: the first of a pool, or 192.0.0.8]
    #[arg(long, value_name = "ADDR")]
    pub(crate) ipv4: Option<Ipv4Addr>,
    /// IPv6 address of the translator [default: its IPv4 address in the NAT64 prefix, or an
    /// address of this host]
    #[arg(long, value_name = "ADDR")]
    pub(crate) ipv6: Option<Ipv6Addr>,
    /// MTU of the TUN and of the IPv6 side, in bytes; from 1280
    #[arg(long, value_name = "BYTES", default_value_t = 1500,
          value_parser = clap::value_parser!(u16).range(1280..))]
    pub(crate) mtu: u16,
    /// MTU of the IPv4 side, in bytes [default: that of the TUN]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(68..))]
    pub(crate) mtu4: Option<u16>,
    /// Do not translate non-global IPv4 addresses in the well-known prefix 64:ff9b::/96 (RFC 6052)
    #[arg(long, value_enum, value_name = "on|off", default_value_t = Switch::On)]
    pub(crate) wkp_strict: Switch,
    /// How IPv6 nodes reach each other by their IPv4 addresses (RFC 7757)
    #[arg(long, value_enum, value_name = "MODE", default_value_t = HairpinMode::Intrinsic)]
    pub(crate) hairpin: HairpinMode,
    /// How IPv4 packets leave and return: the pool is routed to this host; it lies in the subnet of
    /// an interface and plat answers ARP for it; or it is masqueraded behind the address of the
    /// interface by which packets leave, which can be any or one of those given; several times.
    /// With a PREFIX, IPv4 counts as reached while a route leads to all of it [default: route]
    #[arg(
        long,
        value_name = "route[:PREFIX]|proxy-arp:IFACE|masquerade[:IFACE,...]"
    )]
    pub(crate) egress: Vec<Egress>,
    /// What becomes of the routes to the prefix and the pool, which a routing daemon may announce,
    /// while IPv4 is not reached
    #[arg(long, group = RELOADABLE, value_enum, value_name = "withdraw|keep",
          default_value_t = NoEgress::Withdraw)]
    pub(crate) on_no_egress: NoEgress,
    /// Let clients reach the IPv4 addresses of this host through the prefix
    #[arg(long, group = RELOADABLE)]
    pub(crate) expose_host: bool,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) stateful: StatefulFlags,
    #[command(flatten)]
    pub(crate) advertise: AdvertiseFlags,
    #[command(flatten)]
    pub(crate) dns: DnsFlags,
    #[command(flatten)]
    pub(crate) policy: PolicyFlags,
    #[command(flatten)]
    pub(crate) log: LogFlags,
    /// Directory for state that survives a restart
    #[arg(long, help_heading = help::HOW, value_name = "DIR", default_value = "/var/lib/plat")]
    pub(crate) state_dir: PathBuf,
    #[command(flatten)]
    pub(crate) flags: RunFlags,
}

impl Run {
    /// Loads the fast path, or says why there is none. To be called with all capabilities.
    pub(crate) fn fast_path(&self) -> Result<KernelPath, Unavailable> {
        let mode = self.flags.fast_path;
        if self.flags.dry_run {
            return KernelPath::rehearse(mode);
        }
        let has_clients_of_its_own = !self.map.is_empty() || self.dynamic_pool.is_some();
        let flows = match self.stateful.pool.is_empty() && has_clients_of_its_own {
            true => 0,
            false => self.stateful.fast_path_sessions,
        };
        KernelPath::load(mode, self.flags.queue_count(), flows)
    }
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
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) files: ImportFlags,
    /// Interface of radvd.conf to carry over; several times [default: all]
    #[arg(long, value_name = "IFACE", value_parser = interface_name)]
    pub(crate) lan: Vec<String>,
    /// IPv6 address of this host to answer on, where unbound or BIND answers on all; several times
    #[arg(long, value_name = "ADDR")]
    pub(crate) dns64: Vec<Ipv6Addr>,
    /// Directory where plat keeps its state: for the leases of TAYGA's dynamic.map
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Whose {
    /// IPv4 address and port, as in 192.0.2.1:4096
    #[arg(value_name = "ADDR:PORT")]
    pub(crate) external: SocketAddrV4,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Reload {
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Drain {
    /// Wait until no session is left, at most so long, and show how far it is; the routes to prefix and
    /// pool go after this time in any case
    #[arg(long, value_name = "TIME")]
    pub(crate) wait: Option<humantime::Duration>,
    /// Withdraw the route to the prefix at once, and what routers of --lan announce, instead of when no
    /// session is left: packets of sessions that run go to another gateway then
    #[arg(long)]
    pub(crate) now: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Export {
    /// Only those of this IPv6 address or prefix
    #[arg(long, value_name = "ADDR[/N]", value_parser = side::<Ipv6Prefix>)]
    pub(crate) client: Option<String>,
    /// Only those with this address or prefix of the pool
    #[arg(long, value_name = "ADDR[/N]", value_parser = side::<Ipv4Prefix>)]
    pub(crate) external: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ImportSessions {
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Resume {
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Doctor {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// IPv4 host that answers pings and, with a port, TCP connections [default: the
    /// translator itself]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub(crate) target: Option<Target>,
    /// How long it may take, in seconds
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) seconds: u64,
    /// Directory for state that survives a restart
    #[arg(long, value_name = "DIR", default_value = "/var/lib/plat")]
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

#[derive(Args, Clone, Debug)]
pub(crate) struct Sessions {
    /// As JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Only those of this protocol
    #[arg(
        long,
        value_enum,
        value_name = "udp|tcp|icmp",
        hide_possible_values = true
    )]
    pub(crate) protocol: Option<OfProtocol>,
    /// Only those of this IPv6 address or prefix, or [address]:port
    #[arg(long, value_name = "ADDR[/N]", value_parser = side::<Ipv6Prefix>)]
    pub(crate) client: Option<String>,
    /// Only those with this IPv4 node or prefix, or address:port
    #[arg(long, value_name = "ADDR[/N]", value_parser = side::<Ipv4Prefix>)]
    pub(crate) remote: Option<String>,
    /// Only those with this address or prefix of the pool, or address:port
    #[arg(long, value_name = "ADDR[/N]", value_parser = side::<Ipv4Prefix>)]
    pub(crate) external: Option<String>,
    /// Only TCP sessions in these states: established, trans, v4-init, v6-init, v4-fin, v6-fin,
    /// v4-v6-fin
    #[arg(
        long,
        value_enum,
        value_name = "STATE[,...]",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub(crate) state: Vec<InState>,
    /// Sort them: most packets or bytes first, what ends last first, or by address
    #[arg(
        long,
        value_enum,
        value_name = "client|remote|external|expires|packets|bytes",
        hide_possible_values = true
    )]
    pub(crate) sort: Option<SortedBy>,
    /// Show so many at the most [default: 1000 with --sort, else all]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Show sessions as they come, change and go, until interrupted
    #[arg(long, conflicts_with_all = ["sort", "limit"])]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// What becomes of routes that lead to IPv4, without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NoEgress {
    /// They leave the main table, and return when IPv4 has been reached for a while.
    Withdraw,
    /// They stay.
    Keep,
}

impl From<NoEgress> for OnNoEgress {
    fn from(choice: NoEgress) -> Self {
        match choice {
            NoEgress::Withdraw => Self::Withdraw,
            NoEgress::Keep => Self::Keep,
        }
    }
}

/// A protocol of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OfProtocol {
    Udp,
    Tcp,
    Icmp,
}

impl From<OfProtocol> for Protocol {
    fn from(protocol: OfProtocol) -> Self {
        match protocol {
            OfProtocol::Udp => Self::Udp,
            OfProtocol::Tcp => Self::Tcp,
            OfProtocol::Icmp => Self::Icmp,
        }
    }
}

/// A state of TCP sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InState(pub(crate) TcpState);

impl ValueEnum for InState {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [InState; 7] = {
            let mut all = [InState(TcpState::Trans); 7];
            let mut at = 0;
            while at < all.len() {
                all[at] = InState(TcpState::ALL[at]);
                at += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}

/// An order of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SortedBy {
    Client,
    Remote,
    External,
    Expires,
    Packets,
    Bytes,
}

impl From<SortedBy> for SortBy {
    fn from(by: SortedBy) -> Self {
        match by {
            SortedBy::Client => Self::Client,
            SortedBy::Remote => Self::Remote,
            SortedBy::External => Self::External,
            SortedBy::Expires => Self::Expires,
            SortedBy::Packets => Self::Packets,
            SortedBy::Bytes => Self::Bytes,
        }
    }
}

/// The text of one side of a session, as the daemon will read it.
fn side<P>(text: &str) -> Result<String, FilterError>
where
    Side<P>: FromStr<Err = FilterError>,
{
    text.parse::<Side<P>>().map(|_| text.to_owned())
}

/// Which instance is meant.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// Name of the TUN interface
    #[arg(long, value_name = "NAME", default_value = "nat64", value_parser = interface_name)]
    pub(crate) tun: String,
    /// Directory for the journal of changes to undo, and the control socket
    #[arg(long, value_name = "DIR", default_value = "/run/plat")]
    pub(crate) run_dir: PathBuf,
}
