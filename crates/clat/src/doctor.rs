//! `clat doctor`: finds what keeps a host from IPv4, and changes nothing.
//!
//! The running daemon is asked for what it knows, the network for what it offers, and then packets are sent
//! through the prefix. Each part has a deadline, and all of them together the one of `--seconds`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use clat_host::{GROWTH, TARGET, Wanted, look};
use doctor::judge::Prefixes;
use doctor::{Finding, Report, checks};
use pref64_discovery::{Survey, survey};
use serde_json::Value;
use xlat_core::addr::Pref64;
use xlat_host::examine::{self, Asked, Echo, Target, Way};
use xlat_host::host::{Host, Link, device_key};
use xlat_host::{icmp4, icmp6};
use xlat_proto::clat::{Lead, View};

use crate::NAME;
use crate::cli::Doctor;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Looks at everything.
pub(crate) async fn run(asked: &Doctor) -> Result<Report> {
    let host = Host::connect()?;
    // Two parts, one after the other, and some time for what is quick.
    let patience = Duration::from_secs(asked.seconds).mul_f64(0.45);
    let place = &asked.place;
    let status = examine::ask_status(&place.run_dir, &place.tun, patience);
    let chains = examine::forward_chains(&place.tun);
    let network = look_at_network(&host, asked, patience);
    let (daemon, chains, network) = tokio::join!(status, chains, network);
    let (view, link, survey) = network?;
    let known = Known::new(daemon.status(), asked, survey.as_ref().ok());
    let directories = [&*asked.state_dir, &*place.run_dir];
    let mut found = vec![
        examine::privileges(),
        examine::tun(),
        sysctls(&host, asked, &known, &view),
        examine::clock(&directories),
        examine::conntrack(&host),
        uplink(&view),
        rp_filter(&host, asked, &view),
        examine::fast_path(daemon.status()),
    ];
    found.extend(examine::state_files(&directories));
    found.extend(chains);
    found.extend(other_clat(&view));
    found.extend(policy_rules(&host, &known, &view).await);
    match &survey {
        Ok(survey) => {
            found.push(prefixes(&known, survey));
            found.extend(dns(survey));
        }
        Err(why) => {
            found.push(match &known.prefix {
                Some((prefix, how)) => checks::PREFIX.ok(format!("{prefix}, {how}")),
                None => checks::PREFIX.skipped(why.clone()),
            });
            found.push(checks::DNS.skipped(why.clone()));
        }
    }
    let target = asked.target.map_or(TARGET, |target| target.address);
    let ways = [0, 1].map(|_| way(&host, asked, &known, link.as_ref(), target));
    let [small, large] = ways;
    let ways = (small.await, large.await);
    found.extend(packets(asked, &known, ways, patience).await);
    found.extend(of_daemon(&daemon, &view, &found));
    Ok(Report::new(NAME, VERSION, found))
}

/// What is known of the CLAT, from the daemon or the command line.
struct Known {
    /// The daemon translates.
    runs: bool,
    /// The prefix in use, and how it was found.
    prefix: Option<(Pref64, String)>,
    /// This host's IPv4 address.
    ipv4: Option<Ipv4Addr>,
    /// MTU towards IPv6, in bytes.
    mtu: Option<u16>,
    /// Nobody has said the prefix: it was found on the link just now.
    is_found: bool,
}

impl Known {
    fn new(status: Option<&Value>, asked: &Doctor, survey: Option<&Survey>) -> Self {
        let parse = |status: &Value, name: &str| status[name].as_str()?.parse().ok();
        let of_daemon = status.and_then(|status| Some((parse(status, "prefix")?, told_by(status))));
        let given = asked.prefix.map(|prefix| (prefix, "as given".to_owned()));
        let prefix = of_daemon.or(given);
        let is_found = prefix.is_none();
        let found = || survey?.routers.values().flatten().next().copied();
        let of_dns = || survey?.servers.values().flatten().flatten().next().copied();
        let found = || Some((found().or_else(of_dns)?, "as the network says".to_owned()));
        Self {
            runs: status.is_some_and(|status| status["running"] == true),
            prefix: prefix.or_else(found),
            ipv4: status.and_then(|status| status["ipv4"].as_str()?.parse().ok()),
            mtu: status.and_then(|status| status["mtu"].as_u64()?.try_into().ok()),
            is_found,
        }
    }
}

/// Who says the prefix of a daemon with this status.
fn told_by(status: &Value) -> String {
    let from = status["prefix_from"].as_str().unwrap_or_default();
    match status["prefix_source"].as_str() {
        Some("given") => "given by --prefix".into(),
        Some("router") => format!("announced by router {from}"),
        Some("pcp") => format!("told by PCP server {from}"),
        Some("dns") => "told by the network's DNS64".into(),
        // A daemon before 0.2.0 has a sentence there.
        other => other.unwrap_or("the daemon's").to_owned(),
    }
}

/// What the host looks like, and who says what on the link of the uplink.
async fn look_at_network(
    host: &Host,
    asked: &Doctor,
    patience: Duration,
) -> Result<(View, Option<Link>, Result<Survey, String>)> {
    let wanted = Wanted {
        uplink: asked.uplink.clone(),
        prefix: asked.prefix,
        tun: asked.place.tun.clone(),
        ..Wanted::default()
    };
    let (view, link) = look(host, &wanted).await?;
    let survey = match &link {
        None => Err("no uplink".to_owned()),
        Some(link) => survey(link, patience)
            .await
            .map_err(|error| format!("{}: {error}", link.name)),
    };
    Ok((view, link, survey))
}

fn sysctls(host: &Host, asked: &Doctor, known: &Known, view: &View) -> Finding {
    const ALL: &str = "net.ipv6.conf.all.forwarding";
    let force = |name: &str| device_key("ipv6", name, "force_forwarding");
    let mut wanted = Vec::new();
    if host.sysctl(ALL).is_none_or(|value| value == "0") {
        match &view.uplink {
            // The daemon chose to let its two interfaces forward alone.
            Some(uplink) if known.runs && host.has_force_forwarding() => {
                wanted.extend([&*uplink.name, &*asked.place.tun].map(|name| (force(name), "1")));
            }
            _ => wanted.push((ALL.to_owned(), "1")),
        }
    }
    examine::sysctls(host, &wanted, known.runs)
}

fn uplink(view: &View) -> Finding {
    let check = &checks::UPLINK;
    match (&view.uplink, &view.missing_uplink) {
        (Some(uplink), _)
            if uplink
                .addresses
                .iter()
                .all(|one| one.address.is_unicast_link_local()) =>
        {
            check.fail(format!("{} has no global IPv6 address", uplink.name))
        }
        (Some(uplink), _) => check.ok(format!("{}, MTU {}", uplink.name, uplink.mtu)),
        (None, Some(missing)) => check.fail(missing.to_string()),
        (None, None) => check.fail("no interface leads to IPv6: there is no IPv6 default route"),
    }
}

fn other_clat(view: &View) -> Option<Finding> {
    let check = &checks::OTHER_CLAT;
    Some(match &view.other_clat {
        None => check.ok("there is none"),
        Some(other) => check.warn(format!(
            "{} on {} has the IPv4 default route",
            other.address, other.dev
        )),
    })
}

fn rp_filter(host: &Host, asked: &Doctor, view: &View) -> Finding {
    let (check, tun) = (&checks::RP_FILTER, &asked.place.tun);
    if !host.has_strict_filter(tun) {
        return check.ok("it is not strict on the TUN");
    }
    match view.native_ipv4 {
        false => check.ok("it is strict, and answers arrive where the default route is"),
        true => check
            .fail(format!(
                "it is strict on {tun}, and this host has another IPv4 default route"
            ))
            .remedy(format!("sysctl net.ipv4.conf.{tun}.rp_filter=2")),
    }
}

/// Whether the kernel would send packets for the prefix to the uplink.
async fn policy_rules(host: &Host, known: &Known, view: &View) -> Option<Finding> {
    let check = &checks::POLICY_RULES;
    let (uplink, (prefix, _)) = (view.uplink.as_ref()?, known.prefix.as_ref()?);
    let far = prefix.embed(TARGET);
    let way = host.way(far.into()).await.ok();
    Some(match (way, uplink.lead) {
        (None, Lead::Nowhere) => check.fail(format!("no route leads to {prefix}")),
        (Some(way), _) if way.index == uplink.index => {
            check.ok(format!("packets to {prefix} leave by {}", uplink.name))
        }
        _ if known.runs => check.ok(format!(
            "this host's routes lead {prefix} elsewhere, and clat leads its packets to {}",
            uplink.name
        )),
        _ => check.ok(format!(
            "this host's routes lead {prefix} elsewhere; clat would lead its packets to {}",
            uplink.name
        )),
    })
}

fn prefixes(known: &Known, survey: &Survey) -> Finding {
    let of_routers = survey.routers.iter().flat_map(|(router, prefixes)| {
        let told = move |prefix: &Pref64| (format!("router {router}"), prefix.to_string());
        prefixes.iter().map(told)
    });
    let of_servers = survey.servers.iter().flat_map(|(server, prefixes)| {
        let told = move |prefix: &Pref64| (format!("DNS64 {server}"), prefix.to_string());
        prefixes.iter().flatten().map(told)
    });
    let used = known.prefix.as_ref().filter(|_| !known.is_found);
    let used = used.map(|(prefix, how)| (prefix.to_string(), how.clone()));
    let told = of_routers.chain(of_servers).collect();
    Prefixes { used, told }.judge()
}

fn dns(survey: &Survey) -> Vec<Finding> {
    let check = &checks::DNS;
    if survey.servers.is_empty() {
        return vec![check.skipped("no DNS server is known for the link")];
    }
    let all_fail = survey.servers.values().all(Result::is_err);
    let of_server = |(server, answer): (&IpAddr, &Result<Vec<Pref64>, String>)| match answer {
        Ok(prefixes) if prefixes.is_empty() => {
            check.ok(format!("{server} answers, and is no DNS64"))
        }
        Ok(prefixes) => {
            let prefixes: Vec<String> = prefixes.iter().map(Pref64::to_string).collect();
            check.ok(format!("{server} is a DNS64 for {}", prefixes.join(", ")))
        }
        Err(why) if all_fail => check.fail(format!("{server}: {why}")),
        Err(why) => check.warn(format!("{server}: {why}")),
    };
    survey.servers.iter().map(of_server).collect()
}

/// By what packets are sent: through the TUN of the daemon, or into the prefix without one.
async fn way(
    host: &Host,
    asked: &Doctor,
    known: &Known,
    link: Option<&Link>,
    target: Ipv4Addr,
) -> Result<Way, String> {
    let (prefix, _) = known.prefix.as_ref().ok_or("no prefix is known")?;
    let refused = |error: std::io::Error| format!("no ping: {error}");
    let mtu = known.mtu.unwrap_or(1280);
    let (echo, mtu) = if known.runs
        && let Some(own) = known.ipv4
    {
        let echo = icmp4::Echo::open(&asked.place.tun, own, target).map_err(refused)?;
        let gone = || format!("{} has no address {own}", asked.place.tun);
        (Echo::V4(echo.ok_or_else(gone)?), mtu.saturating_sub(GROWTH))
    } else {
        let far = prefix.embed(target);
        let way = match link {
            Some(link) => host.way_by(far.into(), link.index).await,
            None => host.way(far.into()).await,
        };
        let way = way.map_err(|error| error.to_string())?;
        let Some(IpAddr::V6(source)) = way.src else {
            return Err("this host has no IPv6 address for the way to the prefix".into());
        };
        (
            Echo::V6(icmp6::Echo::open(source, far).map_err(refused)?),
            mtu,
        )
    };
    Ok(Way {
        echo,
        target: target.to_string(),
        is_known: asked.target.is_some_and(|given| given.address == target),
        mtu,
    })
}

async fn packets(
    asked: &Doctor,
    known: &Known,
    (small, large): (Result<Way, String>, Result<Way, String>),
    patience: Duration,
) -> Vec<Finding> {
    let small = async {
        match small {
            Ok(way) => examine::ping(&way, patience).await,
            Err(why) => checks::PATH.skipped(why),
        }
    };
    let large = async {
        match large {
            Ok(way) => examine::sizes(&way, patience).await,
            Err(why) => checks::PATH_MTU.skipped(why),
        }
    };
    let tcp = async {
        let Some(Target {
            address,
            port: Some(port),
        }) = asked.target
        else {
            return None;
        };
        let prefix = known.prefix.as_ref().map(|(prefix, _)| prefix);
        let target: IpAddr = match prefix {
            Some(prefix) if !known.runs => prefix.embed(address).into(),
            _ => address.into(),
        };
        Some(examine::tcp(SocketAddr::new(target, port), patience).await)
    };
    let (small, large, tcp) = tokio::join!(small, large, tcp);
    [small, large].into_iter().chain(tcp).collect()
}

/// What the daemon says, as far as it was not looked at.
fn of_daemon(daemon: &Asked, view: &View, found: &[Finding]) -> Vec<Finding> {
    if *daemon == Asked::NotRunning && view.native_ipv4 {
        let text = "no clat runs, and none is needed: this host has native IPv4";
        return vec![checks::DAEMON.ok(text)];
    }
    let mut findings = daemon.findings(NAME, VERSION, &examine::looked_at(found));
    if daemon.status().is_some() {
        findings.push(checks::HOST_SETUP.ok("nothing is missing"));
    }
    findings
}
