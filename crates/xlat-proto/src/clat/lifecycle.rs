//! Decides when a CLAT runs, and with which parameters, from the host's state and the NAT64 prefix.
//!
//! The input is the host's complete state and never a change, so that a lost or reordered message
//! cannot leave the CLAT in a wrong state.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::addr::{Ipv6Prefix, Pref64};

use super::address::{
    Candidate, checksum_neutral, choose_delegated, choose_source, private_prefix, stable_address,
    still_fits,
};
use super::state::{Clat, Origin, State};
use super::view::{Lead, Prefix, Uplink, View};

/// The configuration of a CLAT.
#[derive(Clone, Debug)]
pub struct Config {
    /// Run beside native IPv4 too.
    pub always: bool,
    /// The CLAT's address; `None` for a stable one in the uplink's prefix. An address of the uplink
    /// is shared with it.
    pub address: Option<Ipv6Addr>,
    /// The key of stable addresses.
    pub secret: [u64; 2],
    /// Choose a checksum-neutral address for this IPv4 address.
    pub neutral_to: Option<Ipv4Addr>,
}

/// Computes the desired state. It remembers the running CLAT and duplicate addresses.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    config: Config,
    running: Option<Clat>,
    /// The current prefix, and the number of its addresses that were duplicates.
    taken: Option<(Ipv6Prefix, u8)>,
}

/// Maximum number of addresses to try if there are duplicates (RFC 7217 section 6).
const ATTEMPTS: u8 = 3;

impl Lifecycle {
    /// A lifecycle without a running CLAT.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            running: None,
            taken: None,
        }
    }

    /// The desired state for this host and this NAT64 prefix.
    pub fn decide(&mut self, view: &View, prefix: impl Into<Prefix>) -> State {
        let prefix = prefix.into();
        if view.uplink.is_none() {
            // Duplicates in one network say nothing about another.
            self.forgive();
        }
        let state = self.judge(view, prefix);
        self.running = match &state {
            State::Running(clat) => Some(clat.clone()),
            _ => None,
        };
        state
    }

    /// Records that another host has `address`. The next decision avoids it.
    pub fn conflict(&mut self, address: Ipv6Addr) {
        let prefix = Ipv6Prefix::containing(address, 64);
        let count = match self.taken {
            Some((before, count)) if before == prefix => count,
            _ => 0,
        };
        self.taken = Some((prefix, count.saturating_add(1)));
        self.running = None;
    }

    /// Forgets duplicate addresses: the other hosts may be gone.
    pub fn forgive(&mut self) {
        self.taken = None;
    }

    fn judge(&self, view: &View, prefix: Prefix) -> State {
        let Some(uplink) = &view.uplink else {
            let missing = view.missing_uplink.clone();
            return missing.map_or(State::WaitingForIpv6, State::WaitingForUplink);
        };
        if !self.config.always {
            if view.native_ipv4 {
                return State::NativeIpv4;
            }
            if let Some(other) = &view.other_clat {
                return State::OtherClat(other.clone());
            }
        }
        let prefix = match prefix {
            Prefix::Known(prefix) => prefix,
            Prefix::Asking => return State::AskingForPrefix(uplink.name.clone()),
            Prefix::Unknown => return State::WaitingForPrefix,
        };
        if uplink
            .addresses
            .iter()
            .any(|have| prefix.contains(have.address))
        {
            return State::PrefixIsLocal(prefix);
        }
        if let Some(lan) = view.missing_lan {
            return State::WaitingForLan(lan);
        }
        if uplink.lead == Lead::Nowhere {
            return State::WaitingForRoute(uplink.name.clone(), prefix);
        }
        let (address, origin) = match self.address(view, uplink, prefix) {
            Ok(address) => address,
            Err(state) => return *state,
        };
        State::Running(Clat {
            prefix,
            uplink: uplink.name.clone(),
            index: uplink.index,
            address,
            origin,
            mtu: uplink.mtu,
            lead: uplink.lead,
            elsewhere: uplink.elsewhere.clone(),
        })
    }

    fn address(
        &self,
        view: &View,
        uplink: &Uplink,
        pref64: Pref64,
    ) -> Result<(Ipv6Addr, Origin), Box<State>> {
        if let Some(address) = self.config.address {
            if uplink.addresses.iter().any(|have| have.address == address) {
                return Ok(self.shared(uplink, address));
            }
            return match self.taken {
                Some((prefix, _)) if prefix.contains(address) => {
                    Err(State::NoFreeAddress(uplink.name.clone()).into())
                }
                _ => Ok((address, Origin::Given)),
            };
        }
        if let Some(kept) = self.kept(view, uplink, pref64) {
            return Ok(kept);
        }
        if let Some(prefix) = choose_delegated(&view.delegated, pref64) {
            return Ok((self.stable(prefix, uplink, 0, pref64), Origin::Delegated));
        }
        let source = choose_source(&uplink.addresses, pref64)
            .ok_or_else(|| State::WaitingForAddress(uplink.name.clone()))?;
        if let Some(network) = source.network {
            let attempt = match self.taken {
                Some((taken, count)) if taken == network => count,
                _ => 0,
            };
            if attempt < ATTEMPTS {
                return Ok((self.stable(network, uplink, attempt, pref64), Origin::Link));
            }
        }
        // A single address (DHCPv6), or a link on which all tried addresses are duplicates.
        Ok(self.shared(uplink, source.address))
    }

    fn shared(&self, uplink: &Uplink, with: Ipv6Addr) -> (Ipv6Addr, Origin) {
        let secret = self.config.secret;
        let address = stable_address(private_prefix(secret), &uplink.name, 0, secret);
        (address, Origin::Shared(with))
    }

    fn stable(&self, prefix: Ipv6Prefix, uplink: &Uplink, attempt: u8, pref64: Pref64) -> Ipv6Addr {
        let address = stable_address(prefix, &uplink.name, attempt, self.config.secret);
        match self.config.neutral_to {
            Some(v4) => checksum_neutral(address, v4, pref64),
            None => address,
        }
    }

    /// The current address, while its prefix is usable for new connections: changing to a better
    /// one would break existing connections.
    fn kept(&self, view: &View, uplink: &Uplink, pref64: Pref64) -> Option<(Ipv6Addr, Origin)> {
        let running = self.running.as_ref()?;
        let prefix = Ipv6Prefix::containing(running.address, 64);
        let fits = |is_of: &dyn Fn(&Candidate) -> bool| {
            let addresses = uplink.addresses.iter();
            let used: Vec<_> = addresses.filter(|have| is_of(have)).collect();
            still_fits(&used, &uplink.addresses, pref64)
        };
        let lives = match running.origin {
            Origin::Delegated => view.delegated.contains(&prefix),
            Origin::Given | Origin::Link => {
                fits(&|have| have.len == 64 && prefix.contains(have.address))
            }
            Origin::Shared(with) => fits(&|have| have.address == with),
        };
        let is_same = running.index == uplink.index && lives;
        is_same.then_some((running.address, running.origin))
    }
}

#[cfg(test)]
mod tests {
    use xlat_core::addr::Ipv4Prefix;

    use super::super::view::{Lack, MissingUplink, OtherClat};
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
                elsewhere: None,
            }),
            native_ipv4: false,
            other_clat: None,
            missing_uplink: None,
            routers: Vec::new(),
            delegated: Vec::new(),
            missing_lan: None,
            local: Vec::new(),
        }
    }

    fn lifecycle() -> Lifecycle {
        Lifecycle::new(Config {
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
    fn running(state: State) -> Clat {
        match state {
            State::Running(clat) => clat,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cl_10_cl_11_it_runs_exactly_while_uplink_prefix_and_address_are_there() {
        let mut lifecycle = lifecycle();
        let (none, whole) = (View::default(), view(&["2001:db8:1::5"]));
        assert_eq!(lifecycle.decide(&none, None), State::WaitingForIpv6);
        assert_eq!(lifecycle.decide(&none, wkp()), State::WaitingForIpv6);
        assert_eq!(lifecycle.decide(&whole, None), State::WaitingForPrefix);
        let no_address = lifecycle.decide(&view(&["fe80::5"]), wkp());
        assert_eq!(no_address, State::WaitingForAddress("eth0".into()));
        let clat = running(lifecycle.decide(&whole, wkp()));
        assert_eq!((clat.prefix, clat.mtu), (wkp().unwrap(), 1500));
        assert_eq!(lifecycle.decide(&whole, None), State::WaitingForPrefix);
        assert_eq!(running(lifecycle.decide(&whole, wkp())), clat);
        assert_eq!(lifecycle.decide(&none, wkp()), State::WaitingForIpv6);
    }

    #[test]
    fn fc_13_another_clat_goes_first_unless_told_otherwise() {
        let other = OtherClat {
            dev: "eth0".into(),
            address: Ipv4Addr::new(192, 0, 0, 5),
        };
        let view = View {
            other_clat: Some(other.clone()),
            ..view(&["2001:db8:1::5"])
        };
        let state = lifecycle().decide(&view, wkp());
        assert!(state.to_string().contains("192.0.0.5 on eth0"), "{state}");
        assert_eq!(state, State::OtherClat(other));
        let mut always = lifecycle();
        always.config.always = true;
        running(always.decide(&view, wkp()));
    }

    #[test]
    fn fc_20_the_waiting_line_names_the_uplink_that_was_asked_for() {
        for (lack, line) in [
            (
                Lack::Interface,
                "waiting: there is no interface eth9 (--uplink)",
            ),
            (Lack::Up, "waiting: eth9 (--uplink) is down"),
            (Lack::Carrier, "waiting: eth9 (--uplink) has no carrier"),
        ] {
            let name = "eth9".into();
            let view = View {
                missing_uplink: Some(MissingUplink { name, lack }),
                ..View::default()
            };
            assert_eq!(lifecycle().decide(&view, wkp()).to_string(), line);
        }
    }

    #[test]
    fn cl_09_native_ipv4_goes_first_unless_told_otherwise() {
        let native = View {
            native_ipv4: true,
            ..view(&["2001:db8:1::5"])
        };
        assert_eq!(lifecycle().decide(&native, wkp()), State::NativeIpv4);
        let mut always = Lifecycle::new(Config {
            always: true,
            ..lifecycle().config
        });
        running(always.decide(&native, wkp()));
    }

    #[test]
    fn cl_12_another_prefix_keeps_the_address() {
        let mut lifecycle = lifecycle();
        let host = view(&["2001:db8:1::5"]);
        let before = running(lifecycle.decide(&host, wkp()));
        let after = running(lifecycle.decide(&host, "2001:db8:64::/96".parse().ok()));
        assert_eq!(after.address, before.address);
        assert_ne!(after.prefix, before.prefix);
    }

    #[test]
    fn a_better_address_does_not_break_what_runs_but_a_deprecated_one_is_left() {
        let mut lifecycle = lifecycle();
        let prefix: Pref64 = "2001:db8:64::/96".parse().unwrap();
        let before = running(lifecycle.decide(&view(&["2001:db8:ffff::5"]), Some(prefix)));
        let mut both = view(&["2001:db8:ffff::5", "2001:db8:65::5"]);
        let same = running(lifecycle.decide(&both, Some(prefix)));
        assert_eq!(same.address, before.address);
        if let Some(uplink) = &mut both.uplink {
            uplink.addresses[0].deprecated = true;
        }
        let after = running(lifecycle.decide(&both, Some(prefix)));
        let expected: Ipv6Prefix = "2001:db8:65::/64".parse().unwrap();
        assert!(expected.contains(after.address));
    }

    #[test]
    fn cl_05_a_conflict_leads_to_another_address_three_times() {
        let mut lifecycle = lifecycle();
        let host = view(&["2001:db8:1::5"]);
        let mut seen = Vec::new();
        for _ in 0..ATTEMPTS {
            let clat = running(lifecycle.decide(&host, wkp()));
            assert!(!seen.contains(&clat.address));
            seen.push(clat.address);
            lifecycle.conflict(clat.address);
        }
        // Then this host's own has to do.
        let end = running(lifecycle.decide(&host, wkp()));
        assert_eq!(end.outer(), "2001:db8:1::5".parse::<Ipv6Addr>().unwrap());
        // Another network is another matter.
        let other = running(lifecycle.decide(&view(&["2001:db8:2::5"]), wkp()));
        assert_eq!(other.origin, Origin::Link);
    }

    #[test]
    fn a_host_that_comes_to_another_network_tries_its_first_address_again() {
        let mut lifecycle = lifecycle();
        let host = view(&["2001:db8:1::5"]);
        let first = running(lifecycle.decide(&host, wkp())).address;
        lifecycle.conflict(first);
        assert_ne!(running(lifecycle.decide(&host, wkp())).address, first);
        lifecycle.decide(&View::default(), wkp());
        assert_eq!(running(lifecycle.decide(&host, wkp())).address, first);
        lifecycle.conflict(first);
        lifecycle.forgive();
        assert_eq!(running(lifecycle.decide(&host, wkp())).address, first);
    }

    #[test]
    fn cl_14_packets_are_led_to_the_uplink_or_not_made() {
        let mut lifecycle = lifecycle();
        let mut host = view(&["2001:db8:1::5"]);
        let router = "fe80::1".parse().ok();
        host.uplink.as_mut().unwrap().lead = Lead::Own(router);
        assert_eq!(
            running(lifecycle.decide(&host, wkp())).lead,
            Lead::Own(router)
        );
        host.uplink.as_mut().unwrap().lead = Lead::Nowhere;
        let waiting = State::WaitingForRoute("eth0".into(), wkp().unwrap());
        assert_eq!(lifecycle.decide(&host, wkp()), waiting);
    }

    #[test]
    fn a_router_waits_for_its_lan() {
        let lan: Ipv4Prefix = "192.168.1.0/24".parse().unwrap();
        let mut host = view(&["2001:db8:1::5"]);
        host.missing_lan = Some(lan);
        assert_eq!(lifecycle().decide(&host, wkp()), State::WaitingForLan(lan));
    }

    #[test]
    fn an_address_that_was_asked_for_is_taken_or_none() {
        let address = "2001:db8:9::1".parse().unwrap();
        let mut lifecycle = Lifecycle::new(Config {
            address: Some(address),
            ..lifecycle().config
        });
        let host = view(&["fe80::5"]);
        assert_eq!(running(lifecycle.decide(&host, wkp())).address, address);
        lifecycle.conflict(address);
        let end = lifecycle.decide(&host, wkp());
        assert_eq!(end, State::NoFreeAddress("eth0".into()));
    }

    #[test]
    fn cl_02_a_delegated_prefix_goes_first_and_needs_no_address_on_the_link() {
        let mut lifecycle = lifecycle();
        let delegated: Vec<Ipv6Prefix> = vec!["2001:db8:7:ff::/64".parse().unwrap()];
        let host = View {
            delegated: delegated.clone(),
            ..view(&["fe80::5"])
        };
        let clat = running(lifecycle.decide(&host, wkp()));
        assert_eq!(clat.origin, Origin::Delegated);
        assert!(delegated[0].contains(clat.address));
        // It comes too late for one that runs, and that one ends with its own prefix.
        let mut other = self::lifecycle();
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
        let link = running(lifecycle.decide(&view(&["2001:db8:1::5"]), wkp()));
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
        let mut lifecycle = lifecycle();
        let host = single("2001:db8:1::5");
        let clat = running(lifecycle.decide(&host, wkp()));
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
        assert_eq!(running(lifecycle.decide(&both, wkp())), clat);
        let moved = running(lifecycle.decide(&single("2001:db8:9::5"), wkp()));
        assert_eq!(moved.address, clat.address);
        assert_eq!(moved.outer(), "2001:db8:9::5".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn fc_03_a_local_network_is_left_as_soon_as_the_global_address_is_there() {
        let mut lifecycle = lifecycle();
        let mut host = view(&["fd00:1::5"]);
        let before = running(lifecycle.decide(&host, wkp()));
        assert_eq!(before.origin, Origin::Link);
        let global = Candidate {
            len: 128,
            tentative: true,
            ..candidate("2001:db8:1::5")
        };
        host.uplink.as_mut().unwrap().addresses.push(global);
        assert_eq!(running(lifecycle.decide(&host, wkp())), before);
        host.uplink.as_mut().unwrap().addresses[1].tentative = false;
        let after = running(lifecycle.decide(&host, wkp()));
        assert_eq!(after.origin, Origin::Shared(global.address));
        // The other way round, the one that does not fit changes nothing.
        host.uplink.as_mut().unwrap().addresses.reverse();
        assert_eq!(running(lifecycle.decide(&host, wkp())), after);
        // A NAT64 of the site's own is reached from the site's own network.
        let local = running(lifecycle.decide(&host, "fd00:64::/96".parse().ok()));
        assert_eq!(
            (local.address, local.origin),
            (before.address, Origin::Link)
        );
    }

    #[test]
    fn an_address_is_not_shared_while_a_prefix_is_on_its_way() {
        let mut host = view(&["2001:db8:1::5", "2001:db8:2::7"]);
        if let Some(uplink) = &mut host.uplink {
            uplink.addresses[0].len = 128;
            uplink.addresses[1].tentative = true;
        }
        let waiting = lifecycle().decide(&host, wkp());
        assert_eq!(waiting, State::WaitingForAddress("eth0".into()));
        if let Some(uplink) = &mut host.uplink {
            uplink.addresses[1].tentative = false;
        }
        assert_eq!(
            running(lifecycle().decide(&host, wkp())).origin,
            Origin::Link
        );
    }

    #[test]
    fn an_address_of_the_uplinks_that_was_asked_for_is_shared() {
        let address = "2001:db8:1::5".parse().unwrap();
        let mut lifecycle = Lifecycle::new(Config {
            address: Some(address),
            ..lifecycle().config
        });
        let clat = running(lifecycle.decide(&view(&["2001:db8:1::5"]), wkp()));
        assert_eq!(clat.origin, Origin::Shared(address));
    }

    #[test]
    fn pd_21_a_prefix_that_the_host_lives_in_is_refused() {
        let prefix: Pref64 = "2001:db8:1::/64".parse().unwrap();
        let state = lifecycle().decide(&view(&["2001:db8:1::5"]), Some(prefix));
        assert_eq!(state, State::PrefixIsLocal(prefix));
    }
}
