//! When a CLAT runs, and as what: the host as it is and the prefix that was found go in, what
//! should be comes out.
//!
//! Nothing here is told what has changed. Each look at the host is whole, so that a message that
//! was lost, or that came in another order, cannot leave the CLAT in a state that no look at the
//! host would give.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix, Pref64};

use super::address::{
    Candidate, checksum_neutral, choose_address, choose_delegated, choose_prefix, private_prefix,
    stable_address,
};

/// The administrator's choices.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Run beside native IPv4 too.
    pub always: bool,
    /// The CLAT's address; a stable one in the uplink's prefix otherwise. An address that the uplink
    /// has itself is shared with it.
    pub address: Option<Ipv6Addr>,
    /// The key of stable addresses.
    pub secret: [u64; 2],
    /// Choose the address so that checksums are the same on both sides for this IPv4 address.
    pub neutral_to: Option<Ipv4Addr>,
}

/// The host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The interface that leads to the prefix, or to IPv6 at all while none is known.
    pub uplink: Option<Uplink>,
    /// Something else than a CLAT gives this host an IPv4 default route.
    pub native_ipv4: bool,
    /// The /64s that are routed to this host and that nobody uses.
    pub delegated: Vec<Ipv6Prefix>,
    /// A network whose router we are to be, and that no interface is in.
    pub missing_lan: Option<Ipv4Prefix>,
}

/// The interface that leads to the IPv6-only network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// MTU for IPv6 in bytes, as routers and link have it.
    pub mtu: u16,
    /// Its addresses.
    pub addresses: Vec<Candidate>,
    /// How packets to the NAT64 prefix leave by it.
    pub lead: Lead,
}

/// How packets to the NAT64 prefix come to leave by the uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lead {
    /// By themselves: the host's routes lead there.
    #[default]
    Ordinary,
    /// The host's routes lead them to another interface. A route of their own has to lead them here,
    /// to this router or, without one, onto the link (RFC 8781 section 5: a prefix belongs to the
    /// interface that it came by).
    Own(Option<Ipv6Addr>),
    /// The uplink does not lead there.
    Nowhere,
}

/// What a running CLAT is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clat {
    /// The NAT64 prefix.
    pub prefix: Pref64,
    /// Name of the uplink.
    pub uplink: String,
    /// Number of the uplink.
    pub index: u32,
    /// The IPv6 address that it translates to and from.
    pub address: Ipv6Addr,
    /// Where that is from, and how others reach it.
    pub origin: Origin,
    /// MTU towards the IPv6-only network in bytes.
    pub mtu: u16,
    /// How its packets come to leave by the uplink.
    pub lead: Lead,
}

/// Where a CLAT's address is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The administrator.
    Given,
    /// A prefix that is routed to this host: no neighbour has to be told.
    Delegated,
    /// The uplink's own /64: neighbours ask for it, and others may have it.
    Link,
    /// Nobody else sees the address: its packets leave as those of this address of the uplink.
    Shared(Ipv6Addr),
}

impl Clat {
    /// The address that the network sees.
    pub fn outer(&self) -> Ipv6Addr {
        match self.origin {
            Origin::Shared(with) => with,
            Origin::Given | Origin::Delegated | Origin::Link => self.address,
        }
    }

    /// True if this host has the address too.
    pub fn is_shared(&self) -> bool {
        matches!(self.origin, Origin::Shared(_))
    }

    /// True if neighbours on the uplink ask for the CLAT's address, and may have it themselves.
    pub fn is_on_link(&self) -> bool {
        matches!(self.origin, Origin::Given | Origin::Link)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given => "as given",
            Self::Delegated => "in a delegated prefix",
            Self::Link => "in the uplink's prefix",
            Self::Shared(_) => "shared with this host, by ports",
        })
    }
}

/// How things should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No interface leads to IPv6.
    WaitingForIpv6,
    /// The host has IPv4 without us.
    NativeIpv4,
    /// The network tells no NAT64 prefix (yet).
    WaitingForPrefix,
    /// There is no address on the uplink to take a prefix from (yet).
    WaitingForAddress(String),
    /// The uplink has no route to the NAT64 prefix (yet).
    WaitingForRoute(String, Pref64),
    /// No interface is in the network that we are to be the router of (yet).
    WaitingForLan(Ipv4Prefix),
    /// The NAT64 prefix is one that the host itself lives in.
    PrefixIsLocal(Pref64),
    /// Other hosts had all addresses that were tried.
    NoFreeAddress(String),
    /// Translating.
    Running(Clat),
}

/// The part that remembers: which addresses other hosts had, and what runs.
#[derive(Clone, Debug)]
pub struct Life {
    wishes: Wishes,
    running: Option<Clat>,
    /// Addresses tried in this prefix that other hosts had.
    taken: Option<(Ipv6Prefix, u8)>,
}

/// Addresses to try when other hosts have the first ones (RFC 7217 section 6).
const ATTEMPTS: u8 = 3;

impl Life {
    /// Nothing runs yet.
    pub fn new(wishes: Wishes) -> Self {
        Self {
            wishes,
            running: None,
            taken: None,
        }
    }

    /// How things should be with the host like this and this prefix.
    pub fn decide(&mut self, view: &View, prefix: Option<Pref64>) -> Standing {
        if view.uplink.is_none() {
            // The next network has other hosts.
            self.forgive();
        }
        let standing = self.judge(view, prefix);
        self.running = match &standing {
            Standing::Running(clat) => Some(clat.clone()),
            _ => None,
        };
        standing
    }

    /// Another host has the address that was decided on. The next decision is another one.
    pub fn conflict(&mut self, address: Ipv6Addr) {
        let prefix = Ipv6Prefix::containing(address, 64);
        let count = match self.taken {
            Some((before, count)) if before == prefix => count,
            _ => 0,
        };
        self.taken = Some((prefix, count.saturating_add(1)));
        self.running = None;
    }

    /// Forgets what other hosts had: they may be gone.
    pub fn forgive(&mut self) {
        self.taken = None;
    }

    fn judge(&self, view: &View, prefix: Option<Pref64>) -> Standing {
        let Some(uplink) = &view.uplink else {
            return Standing::WaitingForIpv6;
        };
        if view.native_ipv4 && !self.wishes.always {
            return Standing::NativeIpv4;
        }
        let Some(prefix) = prefix else {
            return Standing::WaitingForPrefix;
        };
        if uplink
            .addresses
            .iter()
            .any(|have| prefix.contains(have.address))
        {
            return Standing::PrefixIsLocal(prefix);
        }
        if let Some(lan) = view.missing_lan {
            return Standing::WaitingForLan(lan);
        }
        if uplink.lead == Lead::Nowhere {
            return Standing::WaitingForRoute(uplink.name.clone(), prefix);
        }
        let (address, origin) = match self.address(view, uplink, prefix) {
            Ok(address) => address,
            Err(standing) => return standing,
        };
        Standing::Running(Clat {
            prefix,
            uplink: uplink.name.clone(),
            index: uplink.index,
            address,
            origin,
            mtu: uplink.mtu,
            lead: uplink.lead,
        })
    }

    fn address(
        &self,
        view: &View,
        uplink: &Uplink,
        pref64: Pref64,
    ) -> Result<(Ipv6Addr, Origin), Standing> {
        if let Some(address) = self.wishes.address {
            if uplink.addresses.iter().any(|have| have.address == address) {
                return Ok(self.shared(uplink, address));
            }
            return match self.taken {
                Some((prefix, _)) if prefix.contains(address) => {
                    Err(Standing::NoFreeAddress(uplink.name.clone()))
                }
                _ => Ok((address, Origin::Given)),
            };
        }
        if let Some(kept) = self.kept(view, uplink) {
            return Ok(kept);
        }
        if let Some(prefix) = choose_delegated(&view.delegated, pref64) {
            return Ok((self.stable(prefix, uplink, 0, pref64), Origin::Delegated));
        }
        if let Some(prefix) = choose_prefix(&uplink.addresses, pref64) {
            let attempt = match self.taken {
                Some((taken, count)) if taken == prefix => count,
                _ => 0,
            };
            if attempt < ATTEMPTS {
                return Ok((self.stable(prefix, uplink, attempt, pref64), Origin::Link));
            }
        }
        // A single address (DHCPv6), or a link where others have all that were tried.
        let own = choose_address(&uplink.addresses, pref64)
            .ok_or_else(|| Standing::WaitingForAddress(uplink.name.clone()))?;
        Ok(self.shared(uplink, own))
    }

    fn shared(&self, uplink: &Uplink, with: Ipv6Addr) -> (Ipv6Addr, Origin) {
        let secret = self.wishes.secret;
        let address = stable_address(private_prefix(secret), &uplink.name, 0, secret);
        (address, Origin::Shared(with))
    }

    fn stable(&self, prefix: Ipv6Prefix, uplink: &Uplink, attempt: u8, pref64: Pref64) -> Ipv6Addr {
        let address = stable_address(prefix, &uplink.name, attempt, self.wishes.secret);
        match self.wishes.neutral_to {
            Some(v4) => checksum_neutral(address, v4, pref64),
            None => address,
        }
    }

    /// The address that the CLAT has, as long as its prefix is good for new connections: a better
    /// one would break those that there are.
    fn kept(&self, view: &View, uplink: &Uplink) -> Option<(Ipv6Addr, Origin)> {
        let running = self.running.as_ref()?;
        let prefix = Ipv6Prefix::containing(running.address, 64);
        let lives = match running.origin {
            Origin::Delegated => view.delegated.contains(&prefix),
            Origin::Given | Origin::Link => uplink.addresses.iter().any(|have| {
                let is_good = have.len == 64 && !have.deprecated && !have.tentative;
                is_good && prefix.contains(have.address)
            }),
            Origin::Shared(with) => uplink.addresses.iter().any(|have| {
                let is_good = !have.deprecated && !have.tentative;
                is_good && have.address == with
            }),
        };
        let is_same = running.index == uplink.index && lives;
        is_same.then_some((running.address, running.origin))
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitingForIpv6 => f.write_str("waiting: no interface leads to IPv6"),
            Self::NativeIpv4 => {
                f.write_str("waiting: this host has native IPv4 (--always runs beside it)")
            }
            Self::WaitingForPrefix => {
                f.write_str("waiting: neither routers nor DNS tell a NAT64 prefix")
            }
            Self::WaitingForAddress(uplink) => write!(
                f,
                "waiting: {uplink} has no global IPv6 address; or give one that is routed to this \
                 host with --ipv6"
            ),
            Self::WaitingForRoute(uplink, prefix) => {
                write!(
                    f,
                    "waiting: {uplink} has no route to the NAT64 prefix {prefix}"
                )
            }
            Self::WaitingForLan(lan) => write!(
                f,
                "waiting: no interface of this host has an address of --lan {lan}"
            ),
            Self::PrefixIsLocal(prefix) => write!(
                f,
                "waiting: this host has an address in the NAT64 prefix {prefix}"
            ),
            Self::NoFreeAddress(uplink) => write!(
                f,
                "waiting: other hosts on {uplink} have the addresses that were tried; give one \
                 with --ipv6"
            ),
            Self::Running(clat) => write!(
                f,
                "reaching IPv4 through {} as {} on {} ({})",
                clat.prefix,
                clat.outer(),
                clat.uplink,
                clat.origin
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(address: &str) -> Candidate {
        Candidate {
            address: address.parse().unwrap(),
            len: 64,
            deprecated: false,
            temporary: false,
            tentative: false,
        }
    }

    fn view(addresses: &[&str]) -> View {
        View {
            uplink: Some(Uplink {
                index: 2,
                name: "eth0".into(),
                mtu: 1500,
                addresses: addresses.iter().map(|address| candidate(address)).collect(),
                lead: Lead::Ordinary,
            }),
            native_ipv4: false,
            delegated: Vec::new(),
            missing_lan: None,
        }
    }

    fn life() -> Life {
        Life::new(Wishes {
            always: false,
            address: None,
            secret: [1, 2],
            neutral_to: None,
        })
    }

    fn wkp() -> Option<Pref64> {
        "64:ff9b::/96".parse().ok()
    }

    #[track_caller]
    fn running(standing: Standing) -> Clat {
        match standing {
            Standing::Running(clat) => clat,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cl_10_cl_11_it_runs_exactly_while_uplink_prefix_and_address_are_there() {
        let mut life = life();
        let (none, whole) = (View::default(), view(&["2001:db8:1::5"]));
        assert_eq!(life.decide(&none, None), Standing::WaitingForIpv6);
        assert_eq!(life.decide(&none, wkp()), Standing::WaitingForIpv6);
        assert_eq!(life.decide(&whole, None), Standing::WaitingForPrefix);
        let no_address = life.decide(&view(&["fe80::5"]), wkp());
        assert_eq!(no_address, Standing::WaitingForAddress("eth0".into()));
        let clat = running(life.decide(&whole, wkp()));
        assert_eq!((clat.prefix, clat.mtu), (wkp().unwrap(), 1500));
        assert_eq!(life.decide(&whole, None), Standing::WaitingForPrefix);
        assert_eq!(running(life.decide(&whole, wkp())), clat);
        assert_eq!(life.decide(&none, wkp()), Standing::WaitingForIpv6);
    }

    #[test]
    fn cl_09_native_ipv4_goes_first_unless_told_otherwise() {
        let native = View {
            native_ipv4: true,
            ..view(&["2001:db8:1::5"])
        };
        assert_eq!(life().decide(&native, wkp()), Standing::NativeIpv4);
        let mut always = Life::new(Wishes {
            always: true,
            ..life().wishes
        });
        running(always.decide(&native, wkp()));
    }

    #[test]
    fn cl_12_another_prefix_keeps_the_address() {
        let mut life = life();
        let host = view(&["2001:db8:1::5"]);
        let before = running(life.decide(&host, wkp()));
        let after = running(life.decide(&host, "2001:db8:64::/96".parse().ok()));
        assert_eq!(after.address, before.address);
        assert_ne!(after.prefix, before.prefix);
    }

    #[test]
    fn a_better_address_does_not_break_what_runs_but_a_deprecated_one_is_left() {
        let mut life = life();
        let prefix: Pref64 = "2001:db8:64::/96".parse().unwrap();
        let before = running(life.decide(&view(&["2001:db8:ffff::5"]), Some(prefix)));
        let mut both = view(&["2001:db8:ffff::5", "2001:db8:65::5"]);
        let same = running(life.decide(&both, Some(prefix)));
        assert_eq!(same.address, before.address);
        if let Some(uplink) = &mut both.uplink {
            uplink.addresses[0].deprecated = true;
        }
        let after = running(life.decide(&both, Some(prefix)));
        let expected: Ipv6Prefix = "2001:db8:65::/64".parse().unwrap();
        assert!(expected.contains(after.address));
    }

    #[test]
    fn cl_05_a_conflict_leads_to_another_address_three_times() {
        let mut life = life();
        let host = view(&["2001:db8:1::5"]);
        let mut seen = Vec::new();
        for _ in 0..ATTEMPTS {
            let clat = running(life.decide(&host, wkp()));
            assert!(!seen.contains(&clat.address));
            seen.push(clat.address);
            life.conflict(clat.address);
        }
        // Then this host's own has to do.
        let end = running(life.decide(&host, wkp()));
        assert_eq!(end.outer(), "2001:db8:1::5".parse::<Ipv6Addr>().unwrap());
        // Another network is another matter.
        let other = running(life.decide(&view(&["2001:db8:2::5"]), wkp()));
        assert_eq!(other.origin, Origin::Link);
    }

    #[test]
    fn a_host_that_comes_to_another_network_tries_its_first_address_again() {
        let mut life = life();
        let host = view(&["2001:db8:1::5"]);
        let first = running(life.decide(&host, wkp())).address;
        life.conflict(first);
        assert_ne!(running(life.decide(&host, wkp())).address, first);
        life.decide(&View::default(), wkp());
        assert_eq!(running(life.decide(&host, wkp())).address, first);
        life.conflict(first);
        life.forgive();
        assert_eq!(running(life.decide(&host, wkp())).address, first);
    }

    #[test]
    fn cl_14_packets_are_led_to_the_uplink_or_not_made() {
        let mut life = life();
        let mut host = view(&["2001:db8:1::5"]);
        let router = "fe80::1".parse().ok();
        host.uplink.as_mut().unwrap().lead = Lead::Own(router);
        assert_eq!(running(life.decide(&host, wkp())).lead, Lead::Own(router));
        host.uplink.as_mut().unwrap().lead = Lead::Nowhere;
        let waiting = Standing::WaitingForRoute("eth0".into(), wkp().unwrap());
        assert_eq!(life.decide(&host, wkp()), waiting);
    }

    #[test]
    fn a_router_waits_for_its_lan() {
        let lan: Ipv4Prefix = "192.168.1.0/24".parse().unwrap();
        let mut host = view(&["2001:db8:1::5"]);
        host.missing_lan = Some(lan);
        assert_eq!(life().decide(&host, wkp()), Standing::WaitingForLan(lan));
    }

    #[test]
    fn an_address_that_was_asked_for_is_taken_or_none() {
        let address = "2001:db8:9::1".parse().unwrap();
        let mut life = Life::new(Wishes {
            address: Some(address),
            ..life().wishes
        });
        let host = view(&["fe80::5"]);
        assert_eq!(running(life.decide(&host, wkp())).address, address);
        life.conflict(address);
        let end = life.decide(&host, wkp());
        assert_eq!(end, Standing::NoFreeAddress("eth0".into()));
    }

    #[test]
    fn cl_02_a_delegated_prefix_goes_first_and_needs_no_address_on_the_link() {
        let mut life = life();
        let delegated: Vec<Ipv6Prefix> = vec!["2001:db8:7:ff::/64".parse().unwrap()];
        let host = View {
            delegated: delegated.clone(),
            ..view(&["fe80::5"])
        };
        let clat = running(life.decide(&host, wkp()));
        assert_eq!(clat.origin, Origin::Delegated);
        assert!(delegated[0].contains(clat.address));
        // It comes too late for one that runs, and that one ends with its own prefix.
        let mut other = self::life();
        let before = running(other.decide(&view(&["2001:db8:1::5"]), wkp()));
        assert_eq!(before.origin, Origin::Link);
        let both = View {
            delegated,
            ..view(&["2001:db8:1::5"])
        };
        assert_eq!(running(other.decide(&both, wkp())), before);
        let after = running(other.decide(&host, wkp()));
        assert_eq!(after.address, clat.address);
        // And the other way round.
        let link = running(life.decide(&view(&["2001:db8:1::5"]), wkp()));
        assert_eq!((link.address, link.origin), (before.address, Origin::Link));
    }

    #[test]
    fn a_single_address_is_shared_for_as_long_as_it_is_good() {
        let single = |address| {
            let mut host = view(&["fe80::5", address]);
            if let Some(uplink) = &mut host.uplink {
                uplink.addresses[1].len = 128;
            }
            host
        };
        let mut life = life();
        let host = single("2001:db8:1::5");
        let clat = running(life.decide(&host, wkp()));
        assert_eq!(
            clat.origin,
            Origin::Shared("2001:db8:1::5".parse().unwrap())
        );
        assert!(!clat.is_on_link());
        // What it translates to is an address that only this host knows (RFC 4193).
        assert_eq!(clat.address.octets()[0], 0xfd);
        // A prefix that comes later does not break what runs.
        let mut both = host.clone();
        if let Some(uplink) = &mut both.uplink {
            uplink.addresses.push(candidate("2001:db8:2::5"));
        }
        assert_eq!(running(life.decide(&both, wkp())), clat);
        let moved = running(life.decide(&single("2001:db8:9::5"), wkp()));
        assert_eq!(moved.address, clat.address);
        assert_eq!(moved.outer(), "2001:db8:9::5".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn an_address_is_not_shared_while_a_prefix_is_on_its_way() {
        let mut host = view(&["2001:db8:1::5", "2001:db8:2::7"]);
        if let Some(uplink) = &mut host.uplink {
            uplink.addresses[0].len = 128;
            uplink.addresses[1].tentative = true;
        }
        let waiting = life().decide(&host, wkp());
        assert_eq!(waiting, Standing::WaitingForAddress("eth0".into()));
        if let Some(uplink) = &mut host.uplink {
            uplink.addresses[1].tentative = false;
        }
        assert_eq!(running(life().decide(&host, wkp())).origin, Origin::Link);
    }

    #[test]
    fn an_address_of_the_uplinks_that_was_asked_for_is_shared() {
        let address = "2001:db8:1::5".parse().unwrap();
        let mut life = Life::new(Wishes {
            address: Some(address),
            ..life().wishes
        });
        let clat = running(life.decide(&view(&["2001:db8:1::5"]), wkp()));
        assert_eq!(clat.origin, Origin::Shared(address));
    }

    #[test]
    fn pd_21_a_prefix_that_the_host_lives_in_is_refused() {
        let prefix: Pref64 = "2001:db8:1::/64".parse().unwrap();
        let standing = life().decide(&view(&["2001:db8:1::5"]), Some(prefix));
        assert_eq!(standing, Standing::PrefixIsLocal(prefix));
    }
}
