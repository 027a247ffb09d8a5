//! Advertises on one link: its interface, sockets, solicitations and other routers.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use xlat_core::Instant;
use xlat_core::addr::Ipv6Prefix;
use xlat_core::wire::ipv6;
use xlat_host::daemon::state_dir::random;
use xlat_host::host::{Assigned, Changes, Host, Link};
use xlat_host::icmp6::RouterMessages;
use xlat_proto::advertise::{
    Announcement, Config, Due, Finding, OnLinkPrefix, Reach, Reported, Schedule,
};
use xlat_proto::ra::{ALL_NODES, Advertisement, Solicitation};
use xlat_tun::now;

use crate::counters::Counters;
use crate::error::Error;

/// Advertisements that withdraw this router (MAX_FINAL_RTR_ADVERTISEMENTS), and the pause between
/// them.
const FINAL: u32 = 3;
const FINAL_PAUSE: Duration = Duration::from_millis(50);

/// The current announcement, which may change.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) config: watch::Receiver<Config>,
    pub(super) reach: watch::Receiver<Reach>,
}

/// The advertising on one link.
#[derive(Debug)]
pub(super) struct Lan {
    host: Host,
    /// Subscribed before the interface is read, so that no change is missed.
    changes: Changes,
    link: Link,
    /// Source address of advertisements; `None` while the interface is down or has no link-local
    /// address.
    link_local: Option<Ipv6Addr>,
    input: Input,
    counters: Arc<Counters>,
    sockets: Sockets,
    schedule: Schedule,
    announcement: Announcement,
    reported: Reported,
}

/// The sockets of a link.
#[derive(Debug)]
struct Sockets {
    hosts: RouterMessages,
    routers: RouterMessages,
}

impl Sockets {
    fn open(link: &Link) -> Result<Self, Error> {
        let open = || {
            Ok::<_, std::io::Error>(Self {
                hosts: RouterMessages::of_hosts(link)?,
                routers: RouterMessages::of_routers(link)?,
            })
        };
        open().map_err(|source| Error::Socket {
            link: link.name.clone(),
            source,
        })
    }
}

impl Lan {
    pub(super) async fn new(
        link: Link,
        input: Input,
        counters: Arc<Counters>,
    ) -> Result<Self, Error> {
        let config = input.config.borrow().clone();
        let reach = *input.reach.borrow();
        let mut lan = Self {
            // A netlink connection answers one request at a time, and all links see the same
            // changes.
            host: Host::connect()?,
            changes: Changes::listen()?,
            sockets: Sockets::open(&link)?,
            schedule: Schedule::new(config.longest_interval(), now()),
            link_local: None,
            announcement: Announcement::new(config, reach),
            link,
            input,
            counters,
            reported: Reported::new(now()),
        };
        lan.look().await?;
        if lan.announcement.prefixes().is_empty() {
            let name = &lan.link.name;
            warn!("{name} has no global IPv6 /64: hosts there cannot configure addresses yet");
        }
        lan.log_prefixes();
        Ok(lan)
    }

    pub(super) async fn run(mut self, mut is_over: watch::Receiver<bool>) {
        loop {
            self.send_what_is_due().await;
            let wait = self.schedule.next_timeout().saturating_since(now());
            tokio::select! {
                () = sleep(wait + Duration::from_millis(1)) => {}
                received = self.sockets.hosts.recv() => match received {
                    Ok((from, message)) => self.on_solicitation(from, &message),
                    Err(_) => sleep(Duration::from_secs(1)).await,
                },
                Ok((router, message)) = self.sockets.routers.recv() => {
                    self.compare(router, &message);
                }
                () = self.changes.next() => self.look_again().await,
                Ok(()) = self.input.reach.changed() => {
                    self.announcement.reach = *self.input.reach.borrow_and_update();
                    self.schedule.on_change(now());
                }
                Ok(()) = self.input.config.changed() => {
                    let config = self.input.config.borrow_and_update().clone();
                    self.schedule.restart(config.longest_interval(), now());
                    self.announcement.set_config(config, now());
                }
                _ = is_over.changed() => return self.withdraw().await,
            }
        }
    }

    async fn send_what_is_due(&mut self) {
        while let Some(due) = self.schedule.poll(now(), random_number()) {
            let to = match due {
                Due::All => ALL_NODES,
                Due::Host(host) => host,
            };
            if self.link_local.is_some() {
                self.send(to, &self.announcement.advertisement(now())).await;
            }
        }
    }

    fn on_solicitation(&mut self, from: Ipv6Addr, message: &[u8]) {
        // The socket's filter has checked the hop limit.
        match Solicitation::parse(from, 255, message) {
            Ok(_) => {
                self.counters.solicited.add(1);
                self.schedule.on_solicitation(from, now(), random_number());
            }
            Err(invalid) => {
                self.counters.ignored.add(1);
                debug!("a solicitation of {from} is ignored: {invalid}");
            }
        }
    }

    /// Logs how another router on the link contradicts this one (RFC 4861 section 6.2.7).
    fn compare(&mut self, router: Ipv6Addr, message: &[u8]) {
        let Ok(theirs) = Advertisement::parse(router, 255, message) else {
            return;
        };
        let ours = self.announcement.advertisement(now());
        let name = &self.link.name;
        match self.reported.compare(router, &ours, &theirs, now()) {
            Some(Finding::Contradicts(list)) => {
                warn!("router {router} on {name} announces other values: {list}");
            }
            Some(Finding::DefaultRouter) => info!("{router} is a default router on {name} too"),
            None => return,
        }
        match self.reported.take_unsaid() {
            0 => {}
            count => warn!(
                "{count} advertisements of other routers on {name} that also differ were not reported: \
                 too many at once"
            ),
        }
    }

    async fn look_again(&mut self) {
        match self.look().await {
            Ok(true) => self.log_prefixes(),
            Ok(false) => {}
            Err(error) => debug!("{}: {error}", self.link.name),
        }
    }

    /// Reads the state of the interface. True if its prefixes have changed.
    async fn look(&mut self) -> Result<bool, Error> {
        let links = self.host.links().await?;
        let link = links.into_iter().find(|link| link.name == self.link.name);
        let Some(link) = link.filter(|link| link.running) else {
            self.link_local = None;
            return Ok(false);
        };
        if link.index != self.link.index {
            self.sockets = Sockets::open(&link)?;
        }
        let is_other = (link.mac, link.mtu) != (self.link.mac, self.link.mtu);
        self.announcement.link_layer = link.mac;
        self.link = link;
        let addresses = self.host.addresses().await?;
        let index = self.link.index;
        let own = || addresses.iter().filter(move |have| have.index == index);
        let link_local = own().find_map(usable_link_local);
        let prefixes = on_link(own(), now());
        let has_others = self.announcement.set_prefixes(prefixes, now());
        if link_local.is_some() && link_local != self.link_local {
            // The interface starts to advertise (RFC 4861 section 6.2.8).
            let interval = self.announcement.config().longest_interval();
            self.schedule.restart(interval, now());
        } else if has_others || is_other {
            self.schedule.on_change(now());
        }
        self.link_local = link_local;
        Ok(has_others)
    }

    fn log_prefixes(&self) {
        let prefixes = self.announcement.prefixes().iter();
        let texts: Vec<String> = prefixes.map(|one| one.prefix.to_string()).collect();
        let list = match texts.as_slice() {
            [] => "no prefix".into(),
            texts => texts.join(", "),
        };
        info!("advertising on {}: {list}", self.link.name);
    }

    async fn send(&self, to: Ipv6Addr, advertisement: &Advertisement) {
        let limit = (self.link.mtu as usize).saturating_sub(ipv6::HEADER);
        for message in advertisement.build_pieces(limit) {
            match self.sockets.hosts.send(to, &message).await {
                Ok(()) => self.counters.sent.add(1),
                Err(error) => debug!("no advertisement on {}: {error}", self.link.name),
            }
        }
    }

    async fn withdraw(self) {
        let last = self.announcement.farewell(now());
        for number in 0..FINAL {
            if number > 0 {
                sleep(FINAL_PAUSE).await;
            }
            self.send(ALL_NODES, &last).await;
        }
    }
}

fn usable_link_local(have: &Assigned) -> Option<Ipv6Addr> {
    match have.address {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            (!have.tentative && !have.duplicate).then_some(address)
        }
        _ => None,
    }
}

/// The /64 prefixes in which hosts can form addresses.
pub(crate) fn on_link<'a>(
    own: impl Iterator<Item = &'a Assigned>,
    now: Instant,
) -> Vec<OnLinkPrefix> {
    let end = |left: u32| (left < u32::MAX).then(|| now + Duration::from_secs(left.into()));
    let mut prefixes: Vec<OnLinkPrefix> = Vec::new();
    for have in own.filter(|have| have.len == 64 && !have.deprecated) {
        let IpAddr::V6(router) = have.address else {
            continue;
        };
        if router.is_unicast_link_local() {
            continue;
        }
        let prefix = Ipv6Prefix::containing(router, 64);
        let (valid, preferred) = (end(have.valid), end(have.preferred));
        // The longest lifetime of the addresses in it counts; `None` is infinite.
        match prefixes.iter_mut().find(|one| one.prefix == prefix) {
            Some(one) => {
                one.valid = one.valid.zip(valid).map(|(one, other)| one.max(other));
                let both = one.preferred.zip(preferred);
                one.preferred = both.map(|(one, other)| one.max(other));
            }
            None => prefixes.push(OnLinkPrefix {
                prefix,
                router,
                valid,
                preferred,
            }),
        }
    }
    prefixes
}

fn random_number() -> u64 {
    random().map_or(0, |numbers| numbers[0])
}
