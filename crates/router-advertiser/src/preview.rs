//! What would be advertised on a link: for a dry run.

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use serde::Serialize;
use xlat_host::host::Host;
use xlat_proto::advertise::{Announcement, Config, Reach};
use xlat_proto::ra::{Advertisement, Preference, RouterOption};
use xlat_tun::now;

use crate::Error;
use crate::lan::on_link;

/// The first advertisement on a link.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    /// Name of the interface.
    pub interface: String,
    /// Longest time between two of them, in seconds.
    pub interval_s: u16,
    /// How long this host is a default router, in seconds; 0 where it is none.
    pub router_lifetime_s: u16,
    /// `low`, `medium` or `high`.
    pub preference: &'static str,
    /// Addresses are to be had by DHCPv6.
    pub managed: bool,
    /// Other things are to be had by DHCPv6.
    pub other: bool,
    /// MTU of the network in bytes, if it is announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Prefixes of the link.
    pub prefixes: Vec<Prefix>,
    /// Networks that this router leads to.
    pub routes: Vec<Timed>,
    /// NAT64 prefixes. Without a way to IPv4 their lifetime is 0: hosts are told that there is none.
    pub pref64s: Vec<Timed>,
    /// DNS servers.
    pub dns_servers: Vec<Ipv6Addr>,
    /// Domains to search.
    pub search: Vec<String>,
}

/// A prefix of a link.
#[derive(Clone, Debug, Serialize)]
pub struct Prefix {
    prefix: String,
    on_link: bool,
    autonomous: bool,
    valid_s: u32,
    preferred_s: u32,
}

/// A prefix that is announced for a time.
#[derive(Clone, Debug, Serialize)]
pub struct Timed {
    /// The prefix.
    prefix: String,
    /// For how long, in seconds.
    lifetime_s: u32,
}

impl Preview {
    /// What would be advertised on the interface `name` now.
    ///
    /// # Errors
    /// The host cannot be read, or has no such interface.
    pub async fn new(host: &Host, name: &str, config: Config, reach: Reach) -> Result<Self, Error> {
        let link = host.link(name).await?;
        let addresses = host.addresses().await?;
        let own = addresses.iter().filter(|have| have.index == link.index);
        let mut announcement = Announcement::new(config, reach);
        announcement.set_prefixes(on_link(own, now()), now());
        let interval_s = announcement.config().interval;
        let advertisement = announcement.advertisement(now());
        Ok(Self::of(name, interval_s, &advertisement))
    }

    fn of(name: &str, interval_s: u16, advertisement: &Advertisement) -> Self {
        let mut preview = Self {
            interface: name.to_owned(),
            interval_s,
            router_lifetime_s: advertisement.lifetime,
            preference: match advertisement.preference {
                Preference::Low => "low",
                Preference::Medium => "medium",
                Preference::High => "high",
            },
            managed: advertisement.managed,
            other: advertisement.other,
            mtu: None,
            prefixes: Vec::new(),
            routes: Vec::new(),
            pref64s: Vec::new(),
            dns_servers: Vec::new(),
            search: Vec::new(),
        };
        for option in &advertisement.options {
            preview.add(option);
        }
        preview
    }

    fn add(&mut self, option: &RouterOption) {
        match option {
            RouterOption::SourceLinkLayer(_) => {}
            RouterOption::Mtu(mtu) => self.mtu = Some(*mtu),
            RouterOption::Prefix(one) => self.prefixes.push(Prefix {
                prefix: one.prefix.to_string(),
                on_link: one.on_link,
                autonomous: one.autonomous,
                valid_s: one.valid,
                preferred_s: one.preferred,
            }),
            RouterOption::Route(route) => self.routes.push(Timed {
                prefix: route.prefix.to_string(),
                lifetime_s: route.lifetime,
            }),
            RouterOption::Pref64(one) => self.pref64s.push(Timed {
                prefix: one.prefix.to_string(),
                lifetime_s: one.lifetime.into(),
            }),
            RouterOption::DnsServers { servers, .. } => self.dns_servers.extend(servers),
            RouterOption::DnsSearch { domains, .. } => self.search.extend(domains.iter().cloned()),
        }
    }
}

impl fmt::Display for Preview {
    /// Lines for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let router = match self.router_lifetime_s {
            0 => "not as a default router".to_owned(),
            seconds => format!(
                "as a default router for {} (preference {})",
                time(seconds.into()),
                self.preference
            ),
        };
        let (name, interval) = (&self.interface, time(self.interval_s.into()));
        writeln!(
            f,
            "advertises on {name}, every {interval} at the latest, {router}:"
        )?;
        for one in &self.prefixes {
            let (valid, preferred) = (time(one.valid_s), time(one.preferred_s));
            let link = if one.on_link { ", on link" } else { "" };
            let slaac = if one.autonomous { ", SLAAC" } else { "" };
            let prefix = &one.prefix;
            writeln!(
                f,
                "  prefix {prefix}{link}{slaac}, valid for {valid}, preferred for {preferred}"
            )?;
        }
        if self.prefixes.is_empty() {
            writeln!(f, "  no prefix: the interface has no global IPv6 /64")?;
        }
        for one in &self.pref64s {
            match one.lifetime_s {
                0 => writeln!(f, "  no NAT64 prefix {}: IPv4 is not reached", one.prefix)?,
                seconds => writeln!(f, "  NAT64 prefix {} for {}", one.prefix, time(seconds))?,
            }
        }
        for server in &self.dns_servers {
            writeln!(f, "  DNS server {server}")?;
        }
        for domain in &self.search {
            writeln!(f, "  domain {domain}")?;
        }
        for route in &self.routes {
            writeln!(f, "  route {} for {}", route.prefix, time(route.lifetime_s))?;
        }
        if let Some(mtu) = self.mtu {
            writeln!(f, "  MTU {mtu}")?;
        }
        if self.managed || self.other {
            let what = if self.managed {
                "addresses"
            } else {
                "other configuration"
            };
            writeln!(f, "  {what} by DHCPv6")?;
        }
        Ok(())
    }
}

fn time(seconds: u32) -> String {
    match seconds {
        u32::MAX => "ever".to_owned(),
        seconds => humantime::format_duration(Duration::from_secs(seconds.into())).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ui_14_a_preview_says_what_hosts_are_told() {
        let config = Config {
            pref64s: vec!["64:ff9b::/96".parse().unwrap()],
            dns_servers: vec!["2001:db8:1::1".parse().unwrap()],
            search: vec!["example".into()],
            mtu: Some(1400),
            ..Config::default()
        };
        let text = |ipv4| {
            let reach = Reach { ipv4, ipv6: true };
            let announcement = Announcement::new(config.clone(), reach);
            let advertisement = announcement.advertisement(now());
            Preview::of("lan0", 600, &advertisement).to_string()
        };
        let expected = "\
advertises on lan0, every 10m at the latest, as a default router for 30m (preference medium):
  no prefix: the interface has no global IPv6 /64
  NAT64 prefix 64:ff9b::/96 for 30m
  DNS server 2001:db8:1::1
  domain example
  MTU 1400
";
        assert_eq!(text(true), expected);
        assert!(text(false).contains("  no NAT64 prefix 64:ff9b::/96: IPv4 is not reached\n"));
    }
}
