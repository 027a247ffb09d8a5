//! The address of an interface of this host, whose ports clients share with the host.
//!
//! Clients share a private address that is seen nowhere; the kernel exchanges it for the interface's
//! address and keeps the ports. So mapping and filtering are the translator's, connection tracking
//! and the chains of the host stay as they are, and all other ports are the host's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use nat64::Protocol;
use nat64::config::StaticBinding;
use tracing::{info, warn};
use xlat_core::addr::special;
use xlat_host::daemon::exit::Usage;
use xlat_host::daemon::flags::interface_name;
use xlat_host::host::{Error, Host, Link, Listening, Plan, listening, reserved_ports};
use xlat_host::nft::{Interface, Ports, Table};

use super::SOMEWHERE;

/// Ports below those that Linux gives to programs which choose none.
pub const PORTS: RangeInclusive<u16> = 10_000..=32_767;

/// Ephemeral ports that the host keeps in any case.
const LEFT_MIN: usize = 1024;

/// The address of an interface as a pool: `wan0` or `wan0:10000-32767`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfacePool {
    /// Name of the interface.
    pub interface: String,
    /// Ports for clients.
    pub ports: RangeInclusive<u16>,
}

impl FromStr for InterfacePool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (interface, ports) = match text.split_once(':') {
            None => (text, PORTS),
            Some((interface, ports)) => {
                let bounds = ports.split_once('-');
                let number = |text: &str| text.trim().parse::<u16>().ok();
                let bounds = bounds.and_then(|(low, high)| Some(number(low)?..=number(high)?));
                (
                    interface,
                    bounds.ok_or("the ports are not of the form LOW-HIGH")?,
                )
            }
        };
        if ports.is_empty() || *ports.start() == 0 {
            return Err("the ports end before they begin, or begin with 0".into());
        }
        let interface = interface_name(interface)?;
        Ok(Self { interface, ports })
    }
}

impl fmt::Display for InterfacePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (self.ports.start(), self.ports.end());
        write!(f, "{}:{low}-{high}", self.interface)
    }
}

/// The address of an interface that clients share with this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    /// The interfaces whose address it may be; that of the IPv4 default route if there are none.
    pub interfaces: Vec<String>,
    /// The address in its place inside this host.
    pub inner: Ipv4Addr,
    /// Ports of clients.
    pub ranges: Vec<RangeInclusive<u16>>,
    /// Ports that the administrator forwards to clients.
    pub forwards: Vec<(Protocol, u16)>,
    /// Ports that are left out, because services of this host have them.
    pub left_out: Vec<Listening>,
    /// What the kernel gives to the sockets of this host.
    pub ephemeral: Ephemeral,
}

/// The kernel's ports for programs that choose none, as they were before the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ephemeral {
    /// `net.ipv4.ip_local_port_range`
    pub range: String,
    /// `net.ipv4.ip_local_reserved_ports`
    pub reserved: String,
}

impl Default for Ephemeral {
    /// Linux without other settings.
    fn default() -> Self {
        Self {
            range: "32768 60999".into(),
            reserved: String::new(),
        }
    }
}

impl Ephemeral {
    /// What this host has.
    pub fn of(host: &Host) -> Self {
        let default = Self::default();
        Self {
            range: host.sysctl(RANGE).unwrap_or(default.range),
            reserved: host.sysctl(RESERVED).unwrap_or_default(),
        }
    }
}

/// Where clients are seen now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Name of the interface.
    pub interface: String,
    /// Its address.
    pub address: Ipv4Addr,
}

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.address, self.interface)
    }
}

impl OwnAddress {
    /// Takes it that the host keeps enough ports for its own connections.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self) -> Result<(), Usage> {
        let left = reserved_ports::left(&self.ephemeral.range, &self.reserved());
        if left >= LEFT_MIN {
            return Ok(());
        }
        let range = self.ephemeral.range.replace(char::is_whitespace, "-");
        Err(Usage(format!(
            "the ports of the pool leave this host {left} of the ports {range} for its own \
             connections (net.ipv4.ip_local_port_range); choose others, for example {}-{}",
            PORTS.start(),
            PORTS.end()
        )))
    }

    /// What adds its part to the plan: ports that no socket of this host gets by chance, and the
    /// table that exchanges the addresses.
    pub(super) fn plan(&self, plan: &mut Plan) {
        let reserved = self.reserved();
        if reserved != self.ephemeral.reserved {
            plan.sysctl(RESERVED, reserved);
        }
    }

    /// The ports that no socket of this host shall get, as the kernel writes them.
    fn reserved(&self) -> String {
        let handed_out = &self.ephemeral.range;
        let forwards = self.forwards.iter().map(|(_, port)| *port..=*port);
        let ours = self.ranges.iter().cloned().chain(forwards);
        ours.filter(|ours| reserved_ports::overlaps(handed_out, ours))
            .fold(self.ephemeral.reserved.clone(), |others, ours| {
                reserved_ports::with(&others, &ours)
            })
    }

    pub(super) fn table(&self, name: &str, tun: &str, outer: Option<&Outer>) -> Table {
        let elsewhere = Interface::AnyBut(tun.into());
        let hidden = [self.inner..=self.inner];
        let table = match outer {
            None => Table::masquerade(name, &[], &[]),
            Some(outer) => {
                let out = if self.interfaces.is_empty() {
                    elsewhere.clone()
                } else {
                    Interface::Only(outer.interface.clone())
                };
                Table::exchange(name, self.inner, outer.address, &self.ports(), &out)
            }
        };
        table.hide(&hidden, &[elsewhere], tun)
    }

    fn ports(&self) -> Vec<Ports> {
        let ranges = self.ranges.iter().map(|range| (None, range.clone()));
        let is_outside = |port: &u16| !self.ranges.iter().any(|range| range.contains(port));
        let forwards = self.forwards.iter().filter(|(_, port)| is_outside(port));
        let forwards = forwards.map(|(protocol, port)| (Some(number(*protocol)), *port..=*port));
        ranges.chain(forwards).collect()
    }

    /// The ports of clients, for people.
    pub fn describe(&self) -> String {
        let one = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let ranges: Vec<String> = self.ranges.iter().map(one).collect();
        format!("ports {}", ranges.join(", "))
    }

    /// Says in the log where clients are seen.
    pub(super) fn say(&self, outer: Option<&Outer>) {
        let Some(outer) = outer else {
            return warn!("there is no {self} yet: clients reach IPv4 when there is one");
        };
        info!("clients share {outer} with this host: {}", self.describe());
        for service in &self.left_out {
            info!("left out: {service}, which a service of this host has");
        }
        if !special::is_global_v4(outer.address) {
            warn!(
                "{outer} is no public address: another NAT stands before this host, and what it lets \
                 in and which ports clients get there is its matter"
            );
        }
    }

    /// Refuses forwards from ports that a service of this host has.
    ///
    /// # Errors
    /// The first one.
    pub fn check_services(&self, outer: &Outer) -> Result<(), Usage> {
        for service in listening().iter().filter(|one| one.is_at(outer.address)) {
            let mut forwards = self.forwards.iter();
            let taken = forwards.find(|(protocol, port)| {
                number(*protocol) == service.protocol && *port == service.port
            });
            if let Some((protocol, port)) = taken {
                let (protocol, interface) = (protocol.name(), &outer.interface);
                return Err(Usage(format!(
                    "--bind {protocol}:{interface}:{port}: a service of this host listens on \
                     {service}; stop it or choose another port"
                )));
            }
        }
        Ok(())
    }

    /// Services of this host that wait on ports of clients. They began after the start.
    pub fn late_services(&self, outer: &Outer) -> Vec<Listening> {
        let is_ours = |one: &Listening| {
            let mut forwards = self.forwards.iter();
            self.ranges.iter().any(|range| range.contains(&one.port))
                || forwards
                    .any(|&(protocol, port)| (number(protocol), port) == (one.protocol, one.port))
        };
        let mut all = listening();
        all.retain(|one| one.is_at(outer.address) && is_ours(one));
        all
    }

    /// The interface and the address that clients are seen by now; `None` if there is none.
    ///
    /// # Errors
    /// The host cannot be read.
    pub async fn find(&self, host: &Host, tun: &str) -> Result<Option<Outer>, Error> {
        let links = host.links().await?;
        let named: Vec<&Link> = match self.interfaces.as_slice() {
            [] => links.iter().filter(|link| link.name != tun).collect(),
            names => links
                .iter()
                .filter(|one| names.contains(&one.name))
                .collect(),
        };
        let default = match host.way(SOMEWHERE.into()).await {
            Ok(way) => named.iter().find(|link| link.index == way.index),
            Err(Error::NoRoute(_)) => None,
            Err(error) => return Err(error),
        };
        let addresses = host.addresses().await?;
        let first = |link: &Link| {
            addresses.iter().find_map(|have| match have.address {
                IpAddr::V4(v4) if have.index == link.index && !v4.is_link_local() => Some(v4),
                _ => None,
            })
        };
        let one = match (default, self.interfaces.as_slice()) {
            (Some(link), _) => Some(*link),
            (None, []) => None,
            (None, _) => named.into_iter().find(|link| first(link).is_some()),
        };
        let Some(link) = one else {
            return Ok(None);
        };
        // What the host's own packets have, as far as the interface has it.
        let chosen = match host.way_by(SOMEWHERE.into(), link.index).await {
            Ok(way) => way.src,
            Err(Error::NoRoute(_)) => None,
            Err(error) => return Err(error),
        };
        let chosen = chosen.filter(|src| addresses.iter().any(|have| have.address == *src));
        let address = match chosen {
            Some(IpAddr::V4(address)) => Some(address),
            _ => first(link),
        };
        Ok(address.map(|address| Outer {
            interface: link.name.clone(),
            address,
        }))
    }
}

impl fmt::Display for OwnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.interfaces.as_slice() {
            [] => f.write_str("IPv4 address of the interface of the IPv4 default route"),
            names => write!(f, "IPv4 address of {}", names.join(" or ")),
        }
    }
}

/// The parts of `ports` that no service of this host has.
pub fn without(ports: &RangeInclusive<u16>, busy: &[Listening]) -> Vec<RangeInclusive<u16>> {
    let mut taken: Vec<u16> = busy.iter().map(|one| one.port).collect();
    taken.sort_unstable();
    taken.dedup();
    let mut parts = Vec::new();
    let mut first = u32::from(*ports.start());
    for port in taken.into_iter().filter(|port| ports.contains(port)) {
        if first < u32::from(port) {
            parts.push(first as u16..=port - 1);
        }
        first = u32::from(port) + 1;
    }
    if first <= u32::from(*ports.end()) {
        parts.push(first as u16..=*ports.end());
    }
    parts
}

/// A port forward as it is written: from an address, or from the address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The interface, if one is named.
    pub interface: Option<String>,
    /// The binding; its external address counts only without an interface.
    pub binding: StaticBinding,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.parse::<StaticBinding>();
        let error = match plain {
            Ok(binding) => {
                return Ok(Self {
                    interface: None,
                    binding,
                });
            }
            Err(error) => error.to_string(),
        };
        let named = || {
            let (protocol, rest) = text.split_once(':')?;
            let (interface, rest) = rest.split_once(':')?;
            let is_address = interface.chars().all(|c| c.is_ascii_digit() || c == '.');
            let interface = interface_name(interface).ok().filter(|_| !is_address)?;
            let binding = format!("{protocol}:{}:{rest}", Ipv4Addr::UNSPECIFIED);
            Some((interface, binding))
        };
        let (interface, binding) = named().ok_or(error)?;
        let binding: StaticBinding = binding.parse().map_err(|error| format!("{error}"))?;
        if binding.protocol == Protocol::Icmp {
            return Err("only TCP and UDP ports of an interface can be forwarded".into());
        }
        Ok(Self {
            interface: Some(interface),
            binding,
        })
    }
}

const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Icmp => 1,
    }
}

const RANGE: &str = "net.ipv4.ip_local_port_range";
const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oa_01_a_pool_is_an_interface_with_or_without_ports() {
        let pool: InterfacePool = "wan0".parse().unwrap();
        assert_eq!(pool.to_string(), "wan0:10000-32767");
        let pool: InterfacePool = "eth0.7:20000-29999".parse().unwrap();
        assert_eq!(
            (pool.interface.as_str(), pool.ports),
            ("eth0.7", 20_000..=29_999)
        );
        for wrong in [
            "",
            "wan0:",
            "wan0:5",
            "wan0:9-5",
            "wan0:0-9",
            "a/b",
            "wan0:1-70000",
        ] {
            assert!(wrong.parse::<InterfacePool>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn oa_06_a_forward_names_an_address_or_an_interface() {
        let forward: Forward = "tcp:wan0:443=[2001:db8::10]:8443".parse().unwrap();
        assert_eq!(forward.interface.as_deref(), Some("wan0"));
        assert_eq!(forward.binding.external_port, 443);
        let forward: Forward = "udp:192.0.2.1:53=[2001:db8::10]:53".parse().unwrap();
        assert_eq!(forward.interface, None);
        for wrong in [
            "tcp:wan0:0=[2001:db8::10]:8443",
            "icmp:wan0:9=[2001:db8::10]:9",
            "tcp:192.0.2:443=[2001:db8::10]:8443",
            "tcp:443=[2001:db8::10]:8443",
        ] {
            assert!(wrong.parse::<Forward>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn oa_04_ports_of_services_are_left_out() {
        let busy = |ports: &[u16]| -> Vec<Listening> {
            let one = |port: &u16| Listening {
                protocol: 17,
                address: Ipv4Addr::UNSPECIFIED.into(),
                port: *port,
            };
            ports.iter().map(one).collect()
        };
        assert_eq!(without(&(5..=9), &busy(&[])), [5..=9]);
        assert_eq!(without(&(5..=9), &busy(&[22, 7, 7])), [5..=6, 8..=9]);
        assert_eq!(without(&(5..=9), &busy(&[5, 6, 9])), [7..=8]);
        assert_eq!(
            without(&(65_534..=65_535), &busy(&[65_535])),
            [65_534..=65_534]
        );
        assert!(without(&(5..=5), &busy(&[5])).is_empty());
    }

    #[test]
    fn oa_05_the_host_keeps_ports_for_its_own_connections() {
        let own = |ranges: &[RangeInclusive<u16>]| OwnAddress {
            interfaces: Vec::new(),
            inner: Ipv4Addr::new(192, 168, 64, 1),
            ranges: ranges.to_vec(),
            forwards: vec![(Protocol::Tcp, 443), (Protocol::Udp, 40_000)],
            left_out: Vec::new(),
            ephemeral: Ephemeral {
                range: "32768\t60999".into(),
                reserved: "8080".into(),
            },
        };
        assert_eq!(own(&[PORTS]).reserved(), "8080,40000");
        assert!(own(&[PORTS]).check().is_ok());
        let much = own(&[32_768..=59_999]);
        assert_eq!(much.reserved(), "8080,32768-59999");
        let error = much.check().unwrap_err().0;
        assert!(
            error.contains("leave this host 1000 of the ports 32768-60999"),
            "{error}"
        );
    }
}
