//! `plat doctor`: finds what keeps the clients of a gateway from IPv4, and changes nothing.
//!
//! The running daemon is asked for what it knows, its resolvers are asked one by one, and packets are sent
//! through its prefix. Each part has a deadline, and all of them together the one of `--seconds`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use dns64_server::{Probe, Upstream};
use doctor::{Finding, Report, checks};
use router_advertiser::low_neighbour_limits;
use serde_json::Value;
use tokio::task::JoinSet;
use xlat_core::addr::Pref64;
use xlat_host::examine::{self, Asked, Echo, Target, Way};
use xlat_host::host::Host;
use xlat_host::icmp6;

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
    let (daemon, chains) = tokio::join!(status, chains);
    let status = daemon.status();
    let directories = [&*asked.state_dir, &*place.run_dir];
    let mut found = vec![
        examine::privileges(),
        examine::tun(),
        sysctls(&host, status.is_some()),
        examine::clock(&directories),
        examine::conntrack(&host),
        prefix(&daemon),
        routers(status),
        limits(&host, status),
        examine::fast_path(status),
    ];
    found.extend(examine::state_files(&directories));
    found.extend(chains);
    found.extend(rp_filter(&host, &place.tun).await);
    if status.is_none() {
        found.push(egress(&host).await);
    }
    let way = way(&host, asked, status).await;
    let (packets, resolvers) = tokio::join!(
        packets(asked, status, way, patience),
        resolvers(status, patience)
    );
    found.extend(packets);
    found.extend(resolvers);
    found.extend(daemon.findings(NAME, VERSION, &examine::looked_at(&found)));
    if let Some(status) = status {
        found.push(checks::HOST_SETUP.ok("nothing is missing"));
        found.push(checks::POOL.ok("no packet found it full"));
        let by = status["reach"]["ipv4_by"].as_str().unwrap_or("a route");
        found.push(checks::EGRESS.ok(format!("IPv4 packets leave by {by}")));
    }
    Ok(Report::new(NAME, VERSION, found))
}

/// The first NAT64 prefix of the daemon.
fn prefix_of(status: Option<&Value>) -> Option<Pref64> {
    status?["prefixes"][0].as_str()?.parse().ok()
}

fn prefix(daemon: &Asked) -> Finding {
    let check = &checks::PREFIX;
    let prefixes = daemon
        .status()
        .and_then(|status| status["prefixes"].as_array());
    match prefixes {
        None => check.skipped("no daemon that tells"),
        Some(all) if all.is_empty() => check.skipped("static maps alone"),
        Some(all) => {
            let all: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
            check.ok(all.join(", "))
        }
    }
}

fn sysctls(host: &Host, runs: bool) -> Finding {
    let keys = [
        "net.ipv4.conf.all.forwarding",
        "net.ipv6.conf.all.forwarding",
    ];
    let wanted: Vec<(String, &str)> = keys.iter().map(|key| ((*key).to_owned(), "1")).collect();
    examine::sysctls(host, &wanted, runs)
}

/// Links with IPv4 default routes: answers may arrive on each of them, and leave by the preferred one.
async fn rp_filter(host: &Host, tun: &str) -> Option<Finding> {
    let check = &checks::RP_FILTER;
    let (routes, links) = (host.ipv4_routes().await.ok()?, host.links().await.ok()?);
    let defaults = routes.iter().filter(|route| route.is_default);
    let preferred = defaults.clone().min_by_key(|route| route.metric)?;
    let others = defaults.flat_map(|route| &route.links);
    let others: Vec<&u32> = others
        .filter(|link| !preferred.links.contains(link))
        .collect();
    let is_strict = |name: &str| name != tun && host.has_strict_filter(name);
    let strict = links
        .iter()
        .find(|link| others.contains(&&link.index) && is_strict(&link.name));
    Some(match strict {
        None => check.ok("it is not strict where answers may arrive by another way"),
        Some(link) => check
            .warn(format!(
                "it is strict on {}, and the preferred IPv4 default route leaves by another interface",
                link.name
            ))
            .remedy(format!("sysctl net.ipv4.conf.{}.rp_filter=2", link.name)),
    })
}

/// The way out, where no daemon watches it.
async fn egress(host: &Host) -> Finding {
    let check = &checks::EGRESS;
    match host.ipv4_defaults().await {
        Ok(defaults) if defaults.native => check.ok("there is an IPv4 default route"),
        Ok(_) => check.fail("no IPv4 default route leads further than this host"),
        Err(error) => check.skipped(error.to_string()),
    }
}

fn routers(status: Option<&Value>) -> Finding {
    let check = &checks::ROUTERS;
    let Some(status) = status else {
        return check.skipped("no daemon that tells");
    };
    let others = status["router_programs"].as_array();
    let others: Vec<&str> = others
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match (&others[..], status.get("advertisements")) {
        ([], None) => check.skipped("plat advertises on no link"),
        ([], Some(_)) => check.ok("plat alone advertises on its links"),
        (links, _) => check.warn(format!(
            "another program advertises on {}",
            links.join(", ")
        )),
    }
}

fn limits(host: &Host, status: Option<&Value>) -> Finding {
    let check = &checks::LIMITS;
    if status.is_none_or(|status| status.get("advertisements").is_none()) {
        return check.skipped("plat is the router of no LAN");
    }
    match &low_neighbour_limits(host)[..] {
        [] => check.ok("the neighbour tables are those of a router"),
        low => check
            .warn("the neighbour table is small for a router")
            .remedy(format!(
                "{}, and gc_thresh2 to half of it",
                low.join(" and ")
            )),
    }
}

async fn way(host: &Host, asked: &Doctor, status: Option<&Value>) -> Result<Way, String> {
    // The translator answers for its own address, which is another one where a pool gives it one.
    let own = status.and_then(|status| status["ipv4"].as_str()?.parse().ok());
    let given = asked.target.map(|target| target.address);
    let target: Ipv4Addr = given
        .or(own)
        .ok_or("no --target, and no daemon that tells its address")?;
    let prefix = prefix_of(status).ok_or("no daemon translates here")?;
    let far = prefix.embed(target);
    let way = host
        .way(far.into())
        .await
        .map_err(|error| error.to_string())?;
    let Some(IpAddr::V6(source)) = way.src else {
        return Err("this host has no IPv6 address to send from".into());
    };
    let tun = host
        .link(&asked.place.tun)
        .await
        .map_err(|error| error.to_string())?;
    let echo = icmp6::Echo::open(source, far).map_err(|error| format!("no ping: {error}"))?;
    Ok(Way {
        echo: Echo::V6(echo),
        target: target.to_string(),
        is_known: given.is_some(),
        mtu: u16::try_from(tun.mtu).unwrap_or(u16::MAX),
    })
}

async fn packets(
    asked: &Doctor,
    status: Option<&Value>,
    way: Result<Way, String>,
    patience: Duration,
) -> Vec<Finding> {
    let way = match way {
        Ok(way) => way,
        Err(why) => return vec![checks::PATH.skipped(why)],
    };
    let tcp = async {
        let target = asked.target?;
        let Target { address, port } = target;
        let far = prefix_of(status)?.embed(address);
        Some(examine::tcp(SocketAddr::new(far.into(), port?), patience).await)
    };
    let (small, large) = (
        examine::ping(&way, patience),
        examine::sizes(&way, patience),
    );
    let (small, large, tcp) = tokio::join!(small, large, tcp);
    [small, large].into_iter().chain(tcp).collect()
}

/// Asks the resolvers of the DNS64 one by one.
async fn resolvers(status: Option<&Value>, patience: Duration) -> Vec<Finding> {
    let all = status.and_then(|status| status["dns64"]["resolvers"].as_array());
    let all: Vec<&str> = all
        .into_iter()
        .flatten()
        .filter_map(|one| one["address"].as_str())
        .collect();
    if all.is_empty() {
        let why = "no DNS64 runs here";
        return vec![checks::UPSTREAMS.skipped(why), checks::DNS64.skipped(why)];
    }
    // Three attempts each.
    let each = patience / 3;
    let mut asked = JoinSet::new();
    for name in all {
        let name = name.to_owned();
        asked.spawn(async move {
            let probed = match name.parse::<Upstream>() {
                Ok(upstream) => Some(dns64_server::probe(&upstream, each).await),
                Err(_) => None,
            };
            (name, probed)
        });
    }
    let mut probed: Vec<(String, Option<Probe>)> = asked.join_all().await;
    probed.sort_by(|(one, _), (other, _)| one.cmp(other));
    let are_all = |wanted: Probe| probed.iter().all(|(_, probe)| *probe == Some(wanted));
    let (all_silent, none_gives_a) = (are_all(Probe::Silent), are_all(Probe::WithoutA));
    let mut found = Vec::new();
    for (name, probe) in &probed {
        let (upstreams, dns64) = (&checks::UPSTREAMS, &checks::DNS64);
        found.push(match probe {
            None => upstreams.skipped(format!("{name} is not asked")),
            Some(Probe::Silent) if all_silent => upstreams.fail(format!("{name} does not answer")),
            Some(Probe::Silent) => upstreams.warn(format!("{name} does not answer")),
            Some(_) => upstreams.ok(format!("{name} answers")),
        });
        found.push(match probe {
            Some(Probe::WithoutA) if none_gives_a => {
                dns64.fail(format!("{name} gives no A records for ipv4only.arpa"))
            }
            Some(Probe::WithoutA) => {
                dns64.warn(format!("{name} gives no A records for ipv4only.arpa"))
            }
            Some(Probe::Answers) => {
                dns64.ok(format!("{name} gives A records, or was not asked for any"))
            }
            _ => dns64.skipped(format!("{name} says nothing")),
        });
    }
    found
}
