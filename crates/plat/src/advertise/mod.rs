//! Router advertisements on the LAN interfaces: what is in them, and sending them. When they are
//! sent is decided in [`xlat_proto::advertise`].

pub(crate) mod flags;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use xlat_core::addr::{Ipv6Prefix, Pref64};
use xlat_linux::daemon::state_dir::random;
use xlat_linux::host::{Changes, Host, Link};
use xlat_linux::icmp6::RouterMessages;
use xlat_linux::tun::now;
use xlat_proto::advertise::{Due, Schedule};
use xlat_proto::ra::{
    ALL_NODES, Advertisement, Pref64Option, PrefixInformation, RouteInformation, RouterOption,
    Solicitation, pref64_units,
};

use crate::settings::Settings;
use flags::AdvertiseFlags;

/// Advertisements that say goodbye (MAX_FINAL_RTR_ADVERTISEMENTS), and the pause between them.
const FINAL: u32 = 3;
const FINAL_PAUSE: Duration = Duration::from_millis(50);
/// What one option has at most, so that it fits into the smallest MTU.
const SERVERS_MAX: usize = 32;
const DOMAINS_MAX: usize = 4;
const IPV6_HEADER: usize = 40;
/// How long the addresses of a prefix that went may still be used (RFC 4862 section 5.5.3), in
/// seconds.
const FAREWELL: u32 = 7200;

/// What is the same on all LANs.
#[derive(Clone, Debug)]
struct Content {
    flags: AdvertiseFlags,
    pref64s: Vec<Pref64>,
    dns_servers: Vec<Ipv6Addr>,
}

/// What is counted on all LANs together.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent: AtomicU64,
    solicited: AtomicU64,
    ignored: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    /// Advertisements that were sent.
    pub(crate) sent: u64,
    /// Solicitations that were heard.
    pub(crate) solicited: u64,
    /// Solicitations that are none.
    pub(crate) ignored: u64,
}

impl Counters {
    pub(crate) fn figures(&self) -> Figures {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            sent: value(&self.sent),
            solicited: value(&self.solicited),
            ignored: value(&self.ignored),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Content {
    fn new(settings: &Settings, dns_servers: Vec<Ipv6Addr>) -> Self {
        let flags = settings.run.advertise.clone();
        let has_pref64 = flags.ra_pref64 == xlat_linux::daemon::flags::Switch::On;
        let pref64s = settings.pref64s.iter().copied();
        Self {
            dns_servers: if flags.ra_dns.is_empty() {
                dns_servers
            } else {
                flags.ra_dns.clone()
            },
            pref64s: pref64s.filter(|_| has_pref64).collect(),
            flags,
        }
    }
}

/// The advertising on all LANs. Ends, with a word to the hosts, by [`Advertising::stop`].
#[derive(Debug)]
pub(crate) struct Advertising {
    content: watch::Sender<Content>,
    /// False while IPv4 cannot be reached.
    open: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Advertising {
    /// Begins to advertise on each LAN; `open` as in [`Self::set_open`].
    pub(crate) async fn start(
        host: &Host,
        settings: &Settings,
        dns_servers: Vec<Ipv6Addr>,
        counters: Arc<Counters>,
        open: bool,
    ) -> Result<Self> {
        let content = Content::new(settings, dns_servers);
        let (open, is_open) = watch::channel(open);
        let (content, is_changed) = watch::channel(content);
        let (stop, is_over) = watch::channel(false);
        let mut tasks = Vec::new();
        for name in &settings.run.advertise.lan {
            let link = host.link(name).await?;
            let mut lan = Lan::new(host, link, is_changed.clone(), Arc::clone(&counters)).await?;
            lan.open = *is_open.borrow();
            tasks.push(tokio::spawn(lan.run(is_open.clone(), is_over.clone())));
        }
        Ok(Self {
            content,
            open,
            stop,
            tasks,
        })
    }

    /// Refuses to be a second router program on a link of this host.
    pub(crate) async fn check(host: &Host, settings: &Settings) -> Result<()> {
        for name in &settings.run.advertise.lan {
            let link = host.link(name).await?;
            if host.has_router_program(&link) {
                bail!(
                    "another program of this host (radvd?) answers router solicitations on {name} \
                     already; stop it, or leave --lan {name} out"
                );
            }
        }
        Ok(())
    }

    /// Says other things from now on, and says them soon.
    pub(crate) fn update(&self, settings: &Settings, dns_servers: Vec<Ipv6Addr>) {
        self.content
            .send_replace(Content::new(settings, dns_servers));
    }

    /// Whether IPv4 can be reached: without it this host is neither a NAT64 nor a default router.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.send_if_modified(|before| {
            let is_news = *before != open;
            *before = open;
            is_news
        });
    }

    /// Tells the hosts that this router goes.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

/// One LAN.
struct Lan {
    host: Host,
    link: Link,
    content: Content,
    changes: watch::Receiver<Content>,
    counters: Arc<Counters>,
    hosts: RouterMessages,
    routers: RouterMessages,
    schedule: Schedule,
    prefixes: Vec<Ipv6Prefix>,
    /// Prefixes that were advertised and have gone.
    gone: Vec<Ipv6Prefix>,
    open: bool,
    warned: bool,
}

impl Lan {
    async fn new(
        host: &Host,
        link: Link,
        changes: watch::Receiver<Content>,
        counters: Arc<Counters>,
    ) -> Result<Self> {
        let content = changes.borrow().clone();
        let failed = || {
            format!(
                "cannot advertise on {}; run as root or with CAP_NET_RAW",
                link.name
            )
        };
        let interval = Duration::from_secs(content.flags.ra_interval.into());
        let mut lan = Self {
            host: host.clone(),
            hosts: RouterMessages::of_hosts(&link).with_context(failed)?,
            routers: RouterMessages::of_routers(&link).with_context(failed)?,
            schedule: Schedule::new(interval, now()),
            link,
            content,
            changes,
            counters,
            prefixes: Vec::new(),
            gone: Vec::new(),
            open: true,
            warned: false,
        };
        lan.look().await?;
        let name = &lan.link.name;
        if lan.prefixes.is_empty() {
            warn!("{name} has no global IPv6 /64: hosts there can make no addresses yet");
        }
        info!("advertising on {name}: {}", join(&lan.prefixes));
        Ok(lan)
    }

    async fn run(mut self, mut is_open: watch::Receiver<bool>, mut is_over: watch::Receiver<bool>) {
        let changes = match Changes::listen() {
            Ok(changes) => changes,
            Err(error) => return warn!("{}: {error}", self.link.name),
        };
        loop {
            while let Some(due) = self.schedule.poll(now(), random_number()) {
                let to = match due {
                    Due::All => ALL_NODES,
                    Due::Host(host) => host,
                };
                self.send(to, &self.advertisement()).await;
            }
            let wait = self.schedule.next_timeout().saturating_since(now());
            tokio::select! {
                () = sleep(wait + Duration::from_millis(1)) => {}
                received = self.hosts.recv() => match received {
                    Ok((from, message)) => self.asked(from, &message),
                    Err(_) => sleep(Duration::from_secs(1)).await,
                },
                Ok((router, message)) = self.routers.recv() => self.compare(router, &message),
                () = changes.next() => self.follow().await,
                Ok(()) = is_open.changed() => {
                    self.open = *is_open.borrow_and_update();
                    self.schedule.on_change(now());
                }
                Ok(()) = self.changes.changed() => {
                    self.content = self.changes.borrow_and_update().clone();
                    let interval = Duration::from_secs(self.content.flags.ra_interval.into());
                    self.schedule = Schedule::new(interval, now());
                }
                _ = is_over.changed() => return self.say_goodbye().await,
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
        let Ok(other) = Advertisement::parse(router, 255, message) else {
            return;
        };
        if self.warned {
            return;
        }
        let name = &self.link.name;
        let differences = differences(&self.advertisement(), &other);
        if !differences.is_empty() {
            let list = differences.join("; ");
            warn!("router {router} on {name} says otherwise than we do: {list}");
        } else if other.lifetime > 0 {
            info!("{router} is a default router on {name} too");
        } else {
            return;
        }
        self.warned = true;
    }

    async fn follow(&mut self) {
        match self.look().await {
            Ok(true) => {
                info!(
                    "advertising on {}: {}",
                    self.link.name,
                    join(&self.prefixes)
                );
                self.schedule.on_change(now());
            }
            Ok(false) => {}
            Err(error) => debug!("{}: {error:#}", self.link.name),
        }
    }

    /// Looks which prefixes the interface has. True if they are others than before.
    async fn look(&mut self) -> Result<bool> {
        let addresses = self.host.addresses().await?;
        let own = addresses
            .iter()
            .filter(|have| have.index == self.link.index);
        let mut prefixes: Vec<Ipv6Prefix> = Vec::new();
        for have in own.filter(|have| have.len == 64 && !have.deprecated) {
            if let IpAddr::V6(address) = have.address
                && !address.is_unicast_link_local()
            {
                let prefix = Ipv6Prefix::containing(address, 64);
                if !prefixes.contains(&prefix) {
                    prefixes.push(prefix);
                }
            }
        }
        if prefixes == self.prefixes {
            return Ok(false);
        }
        let went = self.prefixes.iter().filter(|one| !prefixes.contains(one));
        self.gone.extend(went.copied().collect::<Vec<_>>());
        self.gone.retain(|one| !prefixes.contains(one));
        self.prefixes = prefixes;
        Ok(true)
    }

    fn advertisement(&self) -> Advertisement {
        let flags = &self.content.flags;
        let interval = 3 * u32::from(flags.ra_interval);
        let lifetime = flags.lifetime();
        let closed = Lifetimes {
            router: 0,
            pref64: 0,
            rest: interval,
        };
        if !self.open {
            return self.with(closed);
        }
        self.with(Lifetimes {
            router: lifetime,
            // As long as the router, or three intervals where that is none.
            pref64: pref64_units(interval.max(lifetime.into())) * 8,
            ..closed
        })
    }

    fn with(&self, lifetimes: Lifetimes) -> Advertisement {
        let flags = &self.content.flags;
        Advertisement {
            hop_limit: 64,
            managed: flags.ra_managed,
            other: flags.ra_other,
            preference: flags.ra_preference.into(),
            lifetime: lifetimes.router,
            reachable: 0,
            retransmit: 0,
            options: self.options(lifetimes),
        }
    }

    fn options(&self, lifetimes: Lifetimes) -> Vec<RouterOption> {
        let Content {
            flags,
            pref64s,
            dns_servers,
        } = &self.content;
        let mut options = Vec::new();
        options.extend(self.link.mac.map(RouterOption::SourceLinkLayer));
        options.extend(flags.ra_mtu.map(RouterOption::Mtu));
        let (valid, preferred) = (flags.ra_prefix_valid, flags.ra_prefix_preferred);
        let prefixes = self.prefixes.iter();
        options.extend(prefixes.map(|one| prefix_option(*one, valid, preferred)));
        let gone = self.gone.iter();
        options.extend(gone.map(|one| prefix_option(*one, FAREWELL, 0)));
        options.extend(flags.ra_route.iter().map(|prefix| {
            RouterOption::Route(RouteInformation {
                prefix: *prefix,
                preference: flags.ra_preference.into(),
                lifetime: lifetimes.rest,
            })
        }));
        let servers = dns_servers.chunks(SERVERS_MAX);
        options.extend(servers.map(|servers| RouterOption::DnsServers {
            lifetime: lifetimes.rest,
            servers: servers.to_vec(),
        }));
        let domains = flags.ra_search.chunks(DOMAINS_MAX);
        options.extend(domains.map(|domains| RouterOption::DnsSearch {
            lifetime: lifetimes.rest,
            domains: domains.iter().map(|domain| domain.0.clone()).collect(),
        }));
        options.extend(pref64s.iter().map(|prefix| {
            RouterOption::Pref64(Pref64Option {
                prefix: *prefix,
                lifetime: lifetimes.pref64,
            })
        }));
        options
    }

    async fn send(&self, to: Ipv6Addr, advertisement: &Advertisement) {
        let limit = (self.link.mtu as usize).saturating_sub(IPV6_HEADER);
        for message in advertisement.build_pieces(limit) {
            match self.hosts.send(to, &message).await {
                Ok(()) => count(&self.counters.sent),
                Err(error) => debug!("no advertisement on {}: {error}", self.link.name),
            }
        }
    }

    /// No router, no NAT64, no DNS here any more.
    async fn say_goodbye(self) {
        let last = self.with(Lifetimes::default());
        for number in 0..FINAL {
            if number > 0 {
                sleep(FINAL_PAUSE).await;
            }
            self.send(ALL_NODES, &last).await;
        }
    }
}

/// What two routers on a link should say alike, and do not (RFC 4861 section 6.2.7, RFC 8781 section
/// 5.2).
fn differences(ours: &Advertisement, theirs: &Advertisement) -> Vec<String> {
    let mut list = Vec::new();
    let mut note = |what: &str, ours: u32, theirs: u32| {
        if ours != theirs {
            list.push(format!("{what} {theirs} instead of {ours}"));
        }
    };
    if theirs.hop_limit != 0 {
        note("hop limit", ours.hop_limit.into(), theirs.hop_limit.into());
    }
    note(
        "DHCPv6 for addresses",
        ours.managed.into(),
        theirs.managed.into(),
    );
    note("DHCPv6 for others", ours.other.into(), theirs.other.into());
    let mtu = |one: &Advertisement| {
        one.options.iter().find_map(|option| match option {
            RouterOption::Mtu(mtu) => Some(*mtu),
            _ => None,
        })
    };
    if let (Some(ours), Some(theirs)) = (mtu(ours), mtu(theirs)) {
        note("MTU", ours, theirs);
    }
    for other in prefixes(theirs) {
        if let Some(own) = prefixes(ours).find(|own| own.prefix == other.prefix) {
            let prefix = own.prefix;
            note(&format!("{prefix} valid for"), own.valid, other.valid);
            note(
                &format!("{prefix} preferred for"),
                own.preferred,
                other.preferred,
            );
        }
    }
    let is_ours = |prefix: &Pref64| ours.pref64s().any(|own| own.prefix == *prefix);
    let strange = theirs.pref64s().map(|option| option.prefix);
    list.extend(
        strange
            .filter(|prefix| !is_ours(prefix))
            .map(|prefix| format!("the NAT64 prefix {prefix}, which is not ours")),
    );
    list
}

fn prefixes(advertisement: &Advertisement) -> impl Iterator<Item = &PrefixInformation> {
    advertisement
        .options
        .iter()
        .filter_map(|option| match option {
            RouterOption::Prefix(prefix) => Some(prefix),
            _ => None,
        })
}

/// Lifetimes in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Lifetimes {
    router: u16,
    pref64: u16,
    /// Of DNS servers, domains and routes.
    rest: u32,
}

fn prefix_option(prefix: Ipv6Prefix, valid: u32, preferred: u32) -> RouterOption {
    RouterOption::Prefix(PrefixInformation {
        prefix,
        on_link: true,
        autonomous: true,
        router: None,
        valid,
        preferred,
    })
}

fn join(prefixes: &[Ipv6Prefix]) -> String {
    let texts: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
    if texts.is_empty() {
        return "no prefix".into();
    }
    texts.join(", ")
}

fn random_number() -> u64 {
    random().map_or(0, |numbers| numbers[0])
}
