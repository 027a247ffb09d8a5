//! Flags of both binaries: how they run, and the administrator's choices about translation
//! ([`Policy`]).

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, ArgGroup, Args, Command, ValueEnum};
use fast_path::Mode;
use nix::unistd::Group;
use xlat_core::Policy;
use xlat_core::addr::Ipv4Prefix;
use xlat_core::mappers::Hairpin;
use xlat_core::policy::{ErrorRate, MssClamp, TrafficClass, UdpZeroChecksum, UnmappedSource};

use super::help::{HOW, RARE};
use super::logging::LogFormat;

/// Marks a flag that a reload may change: `#[arg(long, group = RELOADABLE)]`. All others need a
/// restart. The group comes with [`PolicyFlags`].
pub const RELOADABLE: &str = "reloadable";

/// Long names of the flags of `command` that are marked [`RELOADABLE`].
pub fn reloadable(command: &Command) -> BTreeSet<String> {
    let mut command = command.clone();
    command.build();
    let marked = command
        .get_groups()
        .find(|group| group.get_id() == RELOADABLE);
    let ids: Vec<_> = marked.into_iter().flat_map(ArgGroup::get_args).collect();
    let arguments = command.get_arguments();
    let marked = arguments.filter(|argument| ids.contains(&argument.get_id()));
    marked
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .collect()
}

/// How a daemon runs.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = HOW)]
pub struct RunFlags {
    /// Configuration file (TOML); its keys are the names of flags, which override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Serve Prometheus metrics over HTTP on this address and port; IPv6 addresses in brackets
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Let the members of this group ask for the status (`status`, not `sessions` or `reload`)
    #[arg(long, value_name = "GROUP")]
    pub status_group: Option<StatusGroup>,
    /// Threads that make system calls which they have no use for: killed, or only named in the kernel's
    /// log
    #[arg(long, help_heading = RARE, value_enum, value_name = "enforce|log|off", default_value_t)]
    pub confine: Confine,
    /// Number of TUN queues, each with a thread of its own [default: number of processors]
    #[arg(long, help_heading = RARE, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub queues: Option<u16>,
    /// Pin each of these threads to a CPU of its own
    #[arg(long, help_heading = RARE)]
    pub pin: bool,
    /// Nice value of these threads, -20 to 19; below 0 it takes CAP_SYS_NICE [default: the
    /// process's]
    #[arg(long, help_heading = RARE, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i8).range(-20..=19))]
    pub nice: Option<i8>,
    /// Packets that one TUN queue holds for its thread [default: the kernel's, 500]
    #[arg(long, help_heading = RARE, value_name = "N", value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub tun_queue_length: Option<u32>,
    /// Translate established traffic in the kernel, by an eBPF program at the TUN: where kernel and
    /// privileges allow, never, or not without
    #[arg(long, value_name = "auto|off|required", default_value_t)]
    pub fast_path: Mode,
    /// Print the changes of this host as commands, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the dry run as JSON
    #[arg(long, requires = "dry_run")]
    pub json: bool,
    /// Only open the TUN and translate; addresses, routes and sysctls are left to the administrator
    #[arg(long)]
    pub no_host_setup: bool,
}

impl RunFlags {
    /// Options of the TUN interface with this name.
    pub fn tun(&self, name: &str) -> xlat_tun::Options {
        xlat_tun::Options {
            queues: self.queue_count(),
            pin: self.pin,
            nice: self.nice,
            queue_length: self.tun_queue_length,
            ..xlat_tun::Options::new(name)
        }
    }

    /// The number of queues given, or the number of processors.
    pub fn queue_count(&self) -> usize {
        let processors = || {
            std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(256)
        };
        self.queues.map_or_else(processors, usize::from)
    }
}

/// Whether threads are confined to what they need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Confine {
    /// They are.
    #[default]
    Enforce,
    /// They have no capabilities, and the kernel logs the system calls that would have been refused.
    Log,
    /// They are not.
    Off,
}

impl From<Confine> for confinement::Mode {
    fn from(confine: Confine) -> Self {
        match confine {
            Confine::Enforce => Self::Enforce,
            Confine::Log => Self::Log,
            Confine::Off => Self::Off,
        }
    }
}

/// The number of the group that may ask for the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusGroup(pub(crate) u32);

impl FromStr for StatusGroup {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(id) = number(text) {
            return Ok(Self(id));
        }
        match Group::from_name(text) {
            Ok(Some(group)) => Ok(Self(group.gid.as_raw())),
            Ok(None) => Err(format!("there is no group {text}; `groupadd` makes one")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What a daemon logs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = HOW)]
pub struct LogFlags {
    /// Format of the log lines on standard error
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        global = true
    )]
    pub log_format: LogFormat,
    /// Log more; twice for everything
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
    /// Log less; twice for errors only
    #[arg(short, long, action = ArgAction::Count)]
    pub quiet: u8,
}

impl LogFlags {
    /// Sets up logging as the flags say.
    pub fn init(&self) {
        let verbosity = i16::from(self.verbose) - i16::from(self.quiet);
        super::logging::init(self.log_format, verbosity.clamp(-2, 2) as i8);
    }
}

/// Choices about translation. The names are those of the requirements; the defaults are the RFCs'.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Translation", group = ArgGroup::new(RELOADABLE).multiple(true))]
pub struct PolicyFlags {
    /// Longest IPv6 packet made from an IPv4 packet without DF, in bytes; from 1280
    #[arg(long, group = RELOADABLE, value_name = "BYTES", default_value_t = 1280,
          value_parser = clap::value_parser!(u16).range(1280..))]
    pub lowest_ipv6_mtu: u16,
    /// Traffic class of IPv6 packets: copied from the IPv4 packet, or a number
    #[arg(long, group = RELOADABLE, value_name = "copy|N", default_value = "copy", value_parser = traffic_class)]
    pub traffic_class: TrafficClass,
    /// Type of service of IPv4 packets: copied from the IPv6 packet, or a number
    #[arg(long, group = RELOADABLE, value_name = "copy|N", default_value = "copy", value_parser = traffic_class)]
    pub tos: TrafficClass,
    /// UDP datagrams without a checksum
    #[arg(long, group = RELOADABLE, value_enum, value_name = "WAY", default_value_t = ZeroChecksum::Compute)]
    pub udp_zero_checksum: ZeroChecksum,
    /// Lower the maximum segment size of TCP connections to what fits, or to a number
    #[arg(long, group = RELOADABLE, value_name = "auto|N|off", default_value = "off", value_parser = mss_clamp)]
    pub mss_clamp: MssClamp,
    /// IPv4 addresses that represent routers without one (RFC 6791), instead of 192.0.0.8 and an
    /// ICMP extension that names the router
    #[arg(long, group = RELOADABLE, value_name = "CIDR")]
    pub rfc6791_pool: Option<Ipv4Prefix>,
    /// ICMP errors that the translator sends per second and address family
    #[arg(long, group = RELOADABLE, value_name = "N|off|unlimited", default_value = "100", value_parser = error_rate)]
    pub icmp_error_rate: ErrorRate,
    /// The same for ICMPv4 alone
    #[arg(long, group = RELOADABLE, value_name = "N|off|unlimited", value_parser = error_rate)]
    pub icmpv4_error_rate: Option<ErrorRate>,
    /// The same for ICMPv6 alone
    #[arg(long, group = RELOADABLE, value_name = "N|off|unlimited", value_parser = error_rate)]
    pub icmpv6_error_rate: Option<ErrorRate>,
    /// Drop ICMP errors that quote an IPv4 header with a wrong checksum (RFC 5508 REQ-3a)
    #[arg(long, group = RELOADABLE, conflicts_with = "tolerate_quoted_checksum")]
    pub verify_quoted_checksum: bool,
    /// Translate ICMP errors that quote an IPv4 header with a wrong checksum: the default
    #[arg(long, group = RELOADABLE, hide = true)]
    pub tolerate_quoted_checksum: bool,
    /// Longest ICMPv4 error, in bytes; from 576
    #[arg(long, group = RELOADABLE, value_name = "BYTES", default_value_t = 576,
          value_parser = clap::value_parser!(u16).range(576..))]
    pub icmpv4_error_size: u16,
}

impl PolicyFlags {
    /// The policy of a translator with these addresses of its own, and these MTUs of the IPv4 and
    /// the IPv6 side in bytes.
    pub fn policy(&self, own_v4: Ipv4Addr, own_v6: Ipv6Addr, mtu4: u16, mtu6: u16) -> Policy {
        Policy {
            mtu4,
            mtu6,
            lowest_ipv6_mtu: self.lowest_ipv6_mtu,
            traffic_class: self.traffic_class,
            tos: self.tos,
            udp_zero_checksum: self.udp_zero_checksum.into(),
            mss_clamp: self.mss_clamp,
            icmpv4_errors: self.icmpv4_error_rate.unwrap_or(self.icmp_error_rate),
            icmpv6_errors: self.icmpv6_error_rate.unwrap_or(self.icmp_error_rate),
            unmapped_source: self
                .rfc6791_pool
                .map_or(UnmappedSource::NodeIdentification, UnmappedSource::Pool),
            icmpv4_error_size: self.icmpv4_error_size,
            tolerate_quoted_checksum: !self.verify_quoted_checksum,
            ..Policy::new(own_v4, own_v6)
        }
    }
}

/// How UDP datagrams without a checksum are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ZeroChecksum {
    /// Computed towards IPv6, dropped towards IPv4
    Compute,
    /// Dropped
    Drop,
    /// Forwarded without one
    Forward,
}

impl From<ZeroChecksum> for UdpZeroChecksum {
    fn from(way: ZeroChecksum) -> Self {
        match way {
            ZeroChecksum::Compute => Self::Compute,
            ZeroChecksum::Drop => Self::Drop,
            ZeroChecksum::Forward => Self::Forward,
        }
    }
}

/// A switch on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes
    On,
    /// No
    Off,
}

/// How IPv6 nodes with static maps reach each other by their IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HairpinMode {
    /// The translator hairpins their packets
    Intrinsic,
    /// Another router sends them back
    Simple,
    /// Their packets leave to IPv4 like all others
    Off,
}

impl From<HairpinMode> for Hairpin {
    fn from(mode: HairpinMode) -> Self {
        match mode {
            HairpinMode::Intrinsic => Self::Intrinsic,
            HairpinMode::Simple => Self::Simple,
            HairpinMode::Off => Self::Off,
        }
    }
}

/// Parses the name of a network interface.
///
/// # Errors
/// An error message of one line.
pub fn interface_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 15 {
        return Err("an interface name has 1 to 15 characters".into());
    }
    let forbidden = |c: char| matches!(c, '/' | '%' | ':') || c.is_whitespace();
    if text == "." || text == ".." || text.contains(forbidden) {
        return Err("an interface name has no slash, percent sign, colon or white space".into());
    }
    Ok(text.into())
}

/// The run directory: `given`, or `/run/NAME`.
pub fn run_dir(given: Option<&PathBuf>, name: &str) -> PathBuf {
    given
        .cloned()
        .unwrap_or_else(|| PathBuf::from("/run").join(name))
}

fn traffic_class(text: &str) -> Result<TrafficClass, String> {
    if text == "copy" {
        return Ok(TrafficClass::Copy);
    }
    number(text)
        .map(TrafficClass::Fixed)
        .ok_or_else(|| "`copy` or 0 to 255".into())
}

fn mss_clamp(text: &str) -> Result<MssClamp, String> {
    match text {
        "off" => Ok(MssClamp::Off),
        "auto" => Ok(MssClamp::Auto),
        _ => number(text)
            .filter(|size: &u16| *size >= 64)
            .map(MssClamp::To)
            .ok_or_else(|| "`auto`, `off`, or a number of bytes from 64".into()),
    }
}

fn error_rate(text: &str) -> Result<ErrorRate, String> {
    match text {
        "off" => Ok(ErrorRate::Off),
        "unlimited" => Ok(ErrorRate::Unlimited),
        _ => number(text)
            .filter(|rate: &u32| *rate > 0)
            .map(|per_second| ErrorRate::Limited {
                per_second,
                burst: (per_second / 2).max(1),
            })
            .ok_or_else(|| "`off`, `unlimited`, or a number a second".into()),
    }
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        policy: PolicyFlags,
    }

    fn policy(flags: &[&str]) -> Result<Policy, clap::Error> {
        let cli = Cli::try_parse_from([&["x"], flags].concat())?;
        let own = (Ipv4Addr::new(192, 0, 0, 2), "2001:db8::1".parse().unwrap());
        Ok(cli.policy.policy(own.0, own.1, 1500, 1500))
    }

    #[test]
    fn without_flags_the_policy_is_the_default_one() {
        let own = (Ipv4Addr::new(192, 0, 0, 2), "2001:db8::1".parse().unwrap());
        assert_eq!(policy(&[]).unwrap(), Policy::new(own.0, own.1));
    }

    #[test]
    fn every_choice_has_a_flag() {
        let flags = [
            "--lowest-ipv6-mtu=1400",
            "--traffic-class=8",
            "--tos=0",
            "--udp-zero-checksum=drop",
            "--mss-clamp=1200",
            "--rfc6791-pool=192.0.2.0/28",
            "--icmp-error-rate=off",
            "--icmpv6-error-rate=unlimited",
            "--verify-quoted-checksum",
            "--icmpv4-error-size=1280",
        ];
        let policy = policy(&flags).unwrap();
        assert_eq!(policy.lowest_ipv6_mtu, 1400);
        assert_eq!(policy.traffic_class, TrafficClass::Fixed(8));
        assert_eq!(policy.tos, TrafficClass::Fixed(0));
        assert_eq!(policy.udp_zero_checksum, UdpZeroChecksum::Drop);
        assert_eq!(policy.mss_clamp, MssClamp::To(1200));
        let pool = "192.0.2.0/28".parse().unwrap();
        assert_eq!(policy.unmapped_source, UnmappedSource::Pool(pool));
        let rates = (policy.icmpv4_errors, policy.icmpv6_errors);
        assert_eq!(rates, (ErrorRate::Off, ErrorRate::Unlimited));
        assert!(!policy.tolerate_quoted_checksum);
        assert_eq!(policy.icmpv4_error_size, 1280);
    }

    #[test]
    fn x4_12_values_below_what_the_rfcs_allow_are_refused() {
        for flag in [
            "--lowest-ipv6-mtu=1279",
            "--icmpv4-error-size=575",
            "--mss-clamp=9",
        ] {
            assert!(policy(&[flag]).is_err(), "{flag}");
        }
    }

    #[test]
    fn se_29_a_group_is_given_by_name_or_number() {
        assert_eq!("root".parse(), Ok(StatusGroup(0)));
        assert_eq!("4711".parse(), Ok(StatusGroup(4711)));
        let unknown = "no-such-group".parse::<StatusGroup>();
        assert!(unknown.unwrap_err().contains("groupadd"));
    }

    #[test]
    fn interface_names_are_those_the_kernel_takes() {
        assert!(interface_name("clat").is_ok() && interface_name("fifteen-letters").is_ok());
        for bad in ["", "sixteen--letters", "a/b", "a b", "clat%d", ".."] {
            assert!(interface_name(bad).is_err(), "{bad}");
        }
    }
}
