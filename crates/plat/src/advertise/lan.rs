//! One LAN: looking at its interface, hearing hosts and other routers, sending.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use xlat_core::Instant;
use xlat_core::addr::Ipv6Prefix;
use xlat_host::daemon::state_dir::random;
use xlat_host::host::{Assigned, Changes, Host, Link};
use xlat_host::icmp6::RouterMessages;
use xlat_proto::advertise::{Due, Schedule};
use xlat_proto::ra::{ALL_NODES, Advertisement, Solicitation};
use xlat_tun::now;

use super::compare::{News, Told};
use super::content::{Announcement, Content, OnLink};
use super::{Counters, count};

/// Advertisements that say goodbye (MAX_FINAL_RTR_ADVERTISEMENTS), and the pause between them.
const FINAL: u32 = 3;
const FINAL_PAUSE: Duration = Duration::from_millis(50);
const IPV6_HEADER: usize = 40;

/// What is announced, as it changes.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) content: watch::Receiver<Content>,
    /// False while IPv4 cannot be reached.
    pub(super) open: watch::Receiver<bool>,
}

/// The advertising on one interface.
pub(super) struct Lan {
    host: Host,
    /// Listens since before the interface was looked at.
    changes: Changes,
    link: Link,
    /// Where advertisements come from; `None` while the interface is down or has no such address
    /// yet.
    link_local: Option<Ipv6Addr>,
    orders: Orders,
    counters: Arc<Counters>,
    sockets: Sockets,
    schedule: Schedule,
    announcement: Announcement,
    told: Told,
}

/// What is heard on a link.
struct Sockets {
    hosts: RouterMessages,
    routers: RouterMessages,
}

impl Sockets {
    fn open(link: &Link) -> Result<Self> {
        let open = || {
            Ok::<_, std::io::Error>(Self {
                hosts: RouterMessages::of_hosts(link)?,
                routers: RouterMessages::of_routers(link)?,
            })
        };
        open().with_context(|| {
            format!(
                "cannot advertise on {}; run as root or with CAP_NET_RAW",
                link.name
            )
        })
    }
}

impl Lan {
    pub(super) async fn new(link: Link, orders: Orders, counters: Arc<Counters>) -> Result<Self> {
        let content = orders.content.borrow().clone();
        let is_open = *orders.open.borrow();
        let mut lan = Self {
            // A connection answers one question at a time, and all look at the same changes.
            host: Host::connect()?,
            changes: Changes::listen()?,
            sockets: Sockets::open(&link)?,
            schedule: Schedule::new(content.interval(), now()),
            link_local: None,
            announcement: Announcement::new(content, is_open),
            link,
            orders,
            counters,
            told: Told::default(),
        };
        lan.look().await?;
        if lan.announcement.prefixes().is_empty() {
            let name = &lan.link.name;
            warn!("{name} has no global IPv6 /64: hosts there can make no addresses yet");
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
                    Ok((from, message)) => self.asked(from, &message),
                    Err(_) => sleep(Duration::from_secs(1)).await,
                },
                Ok((router, message)) = self.sockets.routers.recv() => {
                    self.compare(router, &message);
                }
                () = self.changes.next() => self.follow().await,
                Ok(()) = self.orders.open.changed() => {
                    self.announcement.open = *self.orders.open.borrow_and_update();
                    self.schedule.on_change(now());
                }
                Ok(()) = self.orders.content.changed() => {
                    let content = self.orders.content.borrow_and_update().clone();
                    self.schedule.restart(content.interval(), now());
                    self.announcement.set_content(content, now());
                }
                _ = is_over.changed() => return self.say_goodbye().await,
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

    fn asked(&mut self, from: Ipv6Addr, message: &[u8]) {
        // The filter of the socket has seen the hop limit.
        match Solicitation::parse(from, 255, message) {
            Ok(_) => {
                count(&self.counters.solicited);
                self.schedule.on_solicitation(from, now(), random_number());
            }
            Err(invalid) => {
                count(&self.counters.ignored);
                debug!("a solicitation of {from} is ignored: {invalid}");
            }
        }
    }

    /// Another router on the link should say the same (RFC 4861 section 6.2.7).
    fn compare(&mut self, router: Ipv6Addr, message: &[u8]) {
        let Ok(theirs) = Advertisement::parse(router, 255, message) else {
            return;
        };
        let ours = self.announcement.advertisement(now());
        let name = &self.link.name;
        match self.told.hear(router, &ours, &theirs) {
            Some(News::Differs(list)) => {
                warn!("router {router} on {name} says otherwise than we do: {list}");
            }
            Some(News::IsThere) => info!("{router} is a default router on {name} too"),
            None => {}
        }
    }

    async fn follow(&mut self) {
        match self.look().await {
            Ok(true) => self.log_prefixes(),
            Ok(false) => {}
            Err(error) => debug!("{}: {error:#}", self.link.name),
        }
    }

    /// Looks at the interface. True if it has other prefixes than before.
    async fn look(&mut self) -> Result<bool> {
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
            // An interface that begins to advertise (RFC 4861 section 6.2.8).
            let interval = self.announcement.content.interval();
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
        let limit = (self.link.mtu as usize).saturating_sub(IPV6_HEADER);
        for message in advertisement.build_pieces(limit) {
            match self.sockets.hosts.send(to, &message).await {
                Ok(()) => count(&self.counters.sent),
                Err(error) => debug!("no advertisement on {}: {error}", self.link.name),
            }
        }
    }

    async fn say_goodbye(self) {
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

/// The /64s that hosts can make addresses in.
fn on_link<'a>(own: impl Iterator<Item = &'a Assigned>, now: Instant) -> Vec<OnLink> {
    let end = |left: u32| (left < u32::MAX).then(|| now + Duration::from_secs(left.into()));
    let mut prefixes: Vec<OnLink> = Vec::new();
    for have in own.filter(|have| have.len == 64 && !have.deprecated) {
        let IpAddr::V6(router) = have.address else {
            continue;
        };
        if router.is_unicast_link_local() {
            continue;
        }
        let prefix = Ipv6Prefix::containing(router, 64);
        let (valid, preferred) = (end(have.valid), end(have.preferred));
        // With several addresses in it the one that stays longest counts; `None` is for ever.
        match prefixes.iter_mut().find(|one| one.prefix == prefix) {
            Some(one) => {
                one.valid = one.valid.zip(valid).map(|(one, other)| one.max(other));
                let both = one.preferred.zip(preferred);
                one.preferred = both.map(|(one, other)| one.max(other));
            }
            None => prefixes.push(OnLink {
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
