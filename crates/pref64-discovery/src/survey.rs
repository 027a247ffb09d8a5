//! What everybody on a link says: all routers, and each DNS server by itself.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use xlat_core::addr::Pref64;
use xlat_host::host::Link;
use xlat_host::icmp6::RouterMessages;
use xlat_proto::discovery::rfc7050;
use xlat_proto::ra::{ALL_ROUTERS, Advertisement, Solicitation};

use crate::link::HOP_LIMIT_SEEN;
use crate::{query, resolvers};

/// What was said on a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Each router that was heard, and the NAT64 prefixes that it announces.
    pub routers: BTreeMap<Ipv6Addr, Vec<Pref64>>,
    /// Each DNS server that was asked, and the prefixes that its answer for `ipv4only.arpa` shows (none:
    /// it is no DNS64), or why there is no answer.
    pub servers: BTreeMap<IpAddr, Result<Vec<Pref64>, String>>,
}

/// Most servers that are asked.
const SERVERS_MAX: usize = 8;

/// Solicits the routers of a link and asks the DNS servers that they announce, and those that this host
/// has for the link, until `patience` is over: there may always be one more router. Must be called
/// within a tokio runtime.
///
/// # Errors
/// If the system gives no raw socket; it needs CAP_NET_RAW.
pub async fn survey(link: &Link, patience: Duration) -> io::Result<Survey> {
    let routers = RouterMessages::of_routers(link)?;
    let link_layer = link.mac;
    // Without an address of its own the link cannot be asked, only listened to.
    let _ = routers
        .send(ALL_ROUTERS, &Solicitation { link_layer }.build())
        .await;
    let end = Instant::now() + patience;
    let mut survey = Survey::default();
    let mut asked = JoinSet::new();
    let mut servers = Vec::new();
    let mut ask = |server: Ipv6Addr, asked: &mut JoinSet<_>| {
        if servers.len() < SERVERS_MAX && !servers.contains(&server) {
            servers.push(server);
            let link = link.clone();
            asked.spawn(async move { (server, query::addresses(&link, server).await) });
        }
    };
    for server in resolvers::to_ask(link.index) {
        ask(server, &mut asked);
    }
    loop {
        tokio::select! {
            received = timeout_at(end, routers.recv()) => {
                let Ok(received) = received else { break };
                let (router, message) = received?;
                let Ok(said) = Advertisement::parse(router, HOP_LIMIT_SEEN, &message) else {
                    continue;
                };
                let alive = said.pref64s().filter(|option| option.lifetime > 0);
                survey.routers.insert(router, alive.map(|option| option.prefix).collect());
                for (server, _) in said.dns_servers().filter(|(_, lifetime)| *lifetime > 0) {
                    ask(server, &mut asked);
                }
            }
            Some(Ok((server, answer))) = asked.join_next() => {
                let prefixes = answer.map(|addresses| rfc7050::prefixes(addresses.into_iter()));
                survey.servers.insert(server.to_canonical(), prefixes);
            }
        }
    }
    for server in servers {
        let silent = || Err("no answer".to_owned());
        survey
            .servers
            .entry(server.to_canonical())
            .or_insert_with(silent);
    }
    Ok(survey)
}
