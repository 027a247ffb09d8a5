//! Translates until told to stop.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, Result, anyhow};
use tokio::sync::mpsc;
use tracing::{info, warn};
use xlat_core::Translator;
use xlat_core::identification::Identifications;
use xlat_core::mappers::Clat;
use xlat_linux::daemon::notify;
use xlat_linux::daemon::signals::{Request, Signals};
use xlat_linux::daemon::state_dir::{StateDir, random};
use xlat_linux::host::{Applied, Error, Host};
use xlat_linux::tun::{self, Failure, Handle, Tun};
use xlat_proto::clat::address::{Candidate, choose_prefix, stable_address};

use crate::neighbours::{Customer, Questions, Responder, channel};
use crate::plan::{Uplink, plan};
use crate::settings::Settings;

/// Addresses to try when other hosts have the first ones (RFC 7217 section 6).
const ATTEMPTS: u8 = 3;

type Workers = Handle<Customer>;

pub(crate) async fn run(settings: Settings) -> Result<()> {
    let host = Host::connect()?;
    if settings.run.flags.no_host_setup {
        return translate_only(settings).await;
    }
    if !settings.run.flags.dry_run {
        take_back_leftovers(&host, &settings).await?;
    }
    let uplink = Uplink::find(&host, &settings).await?;
    let secret = secret(&settings)?;
    if settings.run.flags.dry_run {
        let address = choose_address(&host, &settings, &uplink, 0, secret).await?;
        return print(&plan(&host, &settings, &uplink, address).await?.to_string());
    }

    let mut signals = Signals::catch()?;
    let address = choose_address(&host, &settings, &uplink, 0, secret).await?;
    let (workers, failures, questions) =
        start(&settings, uplink.mtu, uplink.mtu4(&settings), address)?;
    let (applied, address) = set_up(&host, &settings, &uplink, &workers, secret).await?;
    let link = host.link(&uplink.name).await?;
    let _responder = Responder::start(&link, address, questions)?;
    let line = format!(
        "this host is {} on IPv4 and reaches IPv4 through {} as {address} on {}",
        settings.ipv4, settings.pref64, uplink.name
    );
    info!(
        "IPv4 default route via {} (metric {}, mtu {})",
        settings.run.place.tun,
        settings.run.metric,
        uplink.mtu4(&settings)
    );
    info!("ready: {line}");
    notify::ready(&line);

    let end = wait(&mut signals, failures, &workers).await;
    notify::stopping();
    applied
        .undo()
        .await
        .context("not everything could be put back; try `clat recover`")?;
    let counters = workers.stop();
    info!(
        "stopped, the host is as it was\n{}",
        counters.to_string().trim_end()
    );
    end
}

/// A plan says what is to be changed, so what a killed run changed is taken back before it is
/// made.
async fn take_back_leftovers(host: &Host, settings: &Settings) -> Result<()> {
    let place = &settings.run.place;
    let count = host.recover(&place.run_dir, &place.tun).await?;
    if count > 0 {
        info!("{count} changes of a killed run were taken back");
    }
    Ok(())
}

/// Takes back what a killed run left.
pub(crate) async fn recover(place: &crate::cli::Place) -> Result<()> {
    let count = Host::connect()?.recover(&place.run_dir, &place.tun).await?;
    match count {
        0 => info!("nothing was left behind"),
        count => info!("{count} changes of a killed run were taken back"),
    }
    Ok(())
}

/// With `--no-host-setup`: only the TUN and the translation.
async fn translate_only(settings: Settings) -> Result<()> {
    let address = settings.ipv6.context("--ipv6 is missing")?;
    let mtu = settings.run.mtu.unwrap_or(1500);
    let mtu4 = settings.run.mtu4.unwrap_or(mtu - crate::settings::GROWTH);
    if settings.run.flags.dry_run {
        return Ok(());
    }
    let mut signals = Signals::catch()?;
    let (workers, failures, _) = start(&settings, mtu, mtu4, address)?;
    let line = format!(
        "translating {} to {address}; the host is yours to set up",
        settings.ipv4
    );
    info!("ready: {line}");
    notify::ready(&line);
    let end = wait(&mut signals, failures, &workers).await;
    notify::stopping();
    info!("stopped\n{}", workers.stop().to_string().trim_end());
    end
}

/// Opens the TUN and starts to translate; no packet comes before the routes are there.
fn start(
    settings: &Settings,
    mtu6: u16,
    mtu4: u16,
    address: Ipv6Addr,
) -> Result<(Workers, mpsc::UnboundedReceiver<Failure>, Questions)> {
    let mapper = Clat::new(settings.ipv4, address, settings.pref64)?;
    let mut policy = settings
        .run
        .policy
        .policy(settings.hop, address, mtu4, mtu6);
    policy.answer_v6 = false;
    policy.validate()?;
    let seed = random().context("no random numbers from the kernel")?;
    let options = tun::Options::new(&settings.run.place.tun);
    let tun = Tun::open(&options.queues(settings.run.flags.queue_count()))?;
    let lanes = tun.queues() as u16;
    let mut engines = (0..lanes).map(|lane| {
        let ids = Identifications::new(seed, lane, lanes);
        Translator::new(mapper.clone(), policy.clone(), ids)
    });
    let engines = engines.by_ref().collect::<Result<Vec<_>, _>>()?;
    let (asked, questions) = channel();
    let mut engines = engines
        .into_iter()
        .map(move |engine| Customer::new(engine, asked.clone()));
    let (sender, failures) = mpsc::unbounded_channel();
    let make = move |_| {
        engines
            .next()
            .unwrap_or_else(|| unreachable!("one engine per queue"))
    };
    let workers = tun::start(tun, make, move |failure| drop(sender.send(failure)))
        .context("the worker threads did not start")?;
    Ok((workers, failures, questions))
}

/// Changes the host; takes another address where the one chosen turns out to be somebody else's.
async fn set_up(
    host: &Host,
    settings: &Settings,
    uplink: &Uplink,
    workers: &Workers,
    secret: [u64; 2],
) -> Result<(Applied, Ipv6Addr)> {
    let place = &settings.run.place;
    for attempt in 0.. {
        let address = choose_address(host, settings, uplink, attempt, secret).await?;
        if attempt > 0 {
            readdress(workers, settings, address)?;
        }
        let plan = plan(host, settings, uplink, address).await?;
        match host.apply(&plan, &place.run_dir, &place.tun).await {
            Ok(applied) => return Ok((applied, address)),
            Err(error @ Error::Duplicate { .. })
                if settings.ipv6.is_none() && attempt + 1 < ATTEMPTS =>
            {
                warn!("{error}; trying another address");
            }
            Err(error) => return Err(error.into()),
        }
    }
    unreachable!("the last attempt returns")
}

fn readdress(workers: &Workers, settings: &Settings, address: Ipv6Addr) -> Result<()> {
    let mapper = Clat::new(settings.ipv4, address, settings.pref64)?;
    workers.update(move |customer| {
        let translator = &mut customer.translator;
        let policy = xlat_core::Policy {
            own_v6: address,
            ..translator.policy().clone()
        };
        *translator.mapper_mut() = mapper.clone();
        if let Err(error) = translator.set_policy(policy) {
            warn!("the policy stays as it was: {error}");
        }
    });
    Ok(())
}

/// The address that was asked for, or a stable one in the uplink's prefix that this host does not
/// use yet.
async fn choose_address(
    host: &Host,
    settings: &Settings,
    uplink: &Uplink,
    attempt: u8,
    secret: [u64; 2],
) -> Result<Ipv6Addr> {
    if let Some(address) = settings.ipv6 {
        return Ok(address);
    }
    let index = host.link(&uplink.name).await?.index;
    let assigned = host.addresses().await?;
    let candidates: Vec<Candidate> = assigned
        .iter()
        .filter(|assigned| assigned.index == index)
        .filter_map(|assigned| match assigned.address {
            IpAddr::V6(address) => Some(Candidate {
                address,
                len: assigned.len,
                deprecated: assigned.deprecated,
                temporary: assigned.temporary,
                unusable: assigned.tentative || assigned.duplicate,
            }),
            IpAddr::V4(_) => None,
        })
        .collect();
    let prefix = choose_prefix(&candidates, settings.pref64).ok_or_else(|| {
        anyhow!(
            "{} has no global IPv6 address with a /64 prefix to take the CLAT's address from; \
             wait for one, or give an address that is routed to this host with --ipv6",
            uplink.name
        )
    })?;
    Ok(stable_address(prefix, &uplink.name, attempt, secret))
}

/// The key of stable addresses. A dry run by somebody who may not read it makes one up.
fn secret(settings: &Settings) -> Result<[u64; 2]> {
    if settings.ipv6.is_some() {
        return Ok([0, 0]);
    }
    let secret = StateDir::open(&settings.run.state_dir).and_then(|dir| dir.secret());
    match secret {
        Err(error) if settings.run.flags.dry_run => {
            warn!("{error}: the IPv6 address below is only an example");
            Ok(random()?)
        }
        secret => Ok(secret?),
    }
}

/// Waits for the end: a signal, or a data path that broke.
async fn wait(
    signals: &mut Signals,
    mut failures: mpsc::UnboundedReceiver<Failure>,
    workers: &Workers,
) -> Result<()> {
    loop {
        tokio::select! {
            request = signals.next() => match request {
                Request::Stop => return Ok(()),
                Request::Reload => info!("{}", workers.counters().to_string().trim_end()),
            },
            Some(failure) = failures.recv() => return Err(anyhow!("the data path broke: {failure}")),
        }
    }
}

#[expect(clippy::print_stdout, reason = "the plan is what was asked for")]
fn print(text: &str) -> Result<()> {
    print!("{text}");
    Ok(())
}
