//! The configuration of a CLAT's host.

use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use xlat_core::Policy;
use xlat_core::addr::{Eam, Ipv4Prefix, Ipv6Prefix};
use xlat_host::host::Host;
use xlat_proto::clat::{Clat, Side4};

/// Bytes by which the IPv4 MTU is smaller than the IPv6 MTU: the difference of the headers (20) and
/// a Fragment header (8).
pub const GROWTH: u16 = 28;

/// How to set up a host for a CLAT. It stays the same while the [`Clat`] changes with the network.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The TUN interface to open.
    pub tun: xlat_tun::Options,
    /// Directory of the journal that records changes to undo.
    pub run_dir: PathBuf,
    /// IPv4 addresses and the metric of the default route.
    pub side4: Side4,
    /// MTU of the IPv4 side in bytes; `None` for [`GROWTH`] less than the IPv6 MTU.
    pub mtu4: Option<u16>,
    /// Policy of the translators. Its MTUs and own addresses are replaced by those of the CLAT.
    pub policy: Policy,
    /// IPv4 networks on other interfaces for which this host is the router.
    pub lan: Vec<Ipv4Prefix>,
    /// IPv6 prefix of at most 96 bits in which hosts of `lan` have addresses; `None` if they share
    /// this host's IPv4 address.
    pub lan_prefix6: Option<Ipv6Prefix>,
    /// Ports of the CLAT at an IPv6 address that it shares with this host.
    pub shared_ports: RangeInclusive<u16>,
    /// Enable forwarding on the uplink and the TUN only, if the kernel supports it (Linux 6.17).
    pub prefer_interface_forwarding: bool,
}

/// The value of a kernel parameter as it is without the CLAT.
pub(crate) type Sysctl<'a> = &'a dyn Fn(&str) -> Option<String>;

impl HostConfig {
    /// MTU of the IPv4 side in bytes, for `mtu` bytes on the IPv6 side.
    pub fn mtu4(&self, mtu: u16) -> u16 {
        self.mtu4.unwrap_or(mtu - GROWTH).min(mtu - 20)
    }

    /// The IPv6 prefixes of the networks of `lan`; none if these share this host's address.
    pub(crate) fn lan_maps(&self) -> Vec<Eam> {
        let Some(prefix) = self.lan_prefix6 else {
            return Vec::new();
        };
        let maps = self.lan.iter().filter_map(|lan| lan_map(*lan, prefix));
        maps.collect()
    }

    /// True if the hosts of `lan` share this host's IPv4 address.
    pub(crate) fn masquerades_lan(&self) -> bool {
        !self.lan.is_empty() && self.lan_prefix6.is_none()
    }

    /// True if IPv6 forwarding is enabled per interface, and not for the whole host.
    pub(crate) fn forwards_by_interface(&self, host: &Host) -> bool {
        self.prefer_interface_forwarding
            && host.has_force_forwarding()
            && !host.has_read_only_sysctls()
    }

    pub(crate) fn policy(&self, clat: &Clat) -> Policy {
        Policy {
            mtu4: self.mtu4(clat.mtu),
            mtu6: clat.mtu,
            own_v4: self.side4.hop,
            own_v6: clat.address,
            // Packets to the CLAT's address are translated.
            answer_v6: false,
            ..self.policy.clone()
        }
    }
}

/// Maps `lan` into `prefix`: its IPv4 addresses are the low bits of the IPv6 addresses. `None` if
/// `prefix` is too long for that.
pub fn lan_map(lan: Ipv4Prefix, prefix: Ipv6Prefix) -> Option<Eam> {
    let address = prefix.address().to_bits() | u128::from(lan.address().to_bits());
    let v6 = Ipv6Prefix::new(Ipv6Addr::from_bits(address), 96 + lan.len()).ok()?;
    Eam::new(lan, v6).ok()
}
