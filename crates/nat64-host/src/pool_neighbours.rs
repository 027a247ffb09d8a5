//! The neighbours on the link whose subnet the pool lies in (proxy ARP): they are told where its
//! addresses are, and one that has such an address itself is found.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
use xlat_host::arp::ArpSocket;
use xlat_host::host::Link;
use xlat_proto::arp::{Mac, announcement, probe, sender};
use xlat_tun::counters::Metric;

/// Addresses that are asked for or announced at once, and the pause before the next ones.
const BURST: usize = 64;
const BURST_PAUSE: Duration = Duration::from_millis(10);
/// How long hosts that have an address may take to say so before it is announced.
const ANSWERS: Duration = Duration::from_millis(300);
/// Announcements (RFC 5227 section 1.1, `ANNOUNCE_NUM` and `ANNOUNCE_INTERVAL`).
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCEMENT_INTERVAL: Duration = Duration::from_secs(2);
/// Conflicts that are remembered.
const CONFLICTS_MAX: usize = 256;

/// Addresses of the pool that other hosts have: where, and their link-layer addresses.
#[derive(Clone, Debug, Default)]
pub struct Conflicts(Arc<Mutex<BTreeMap<Ipv4Addr, Mac>>>);

/// A conflict, for the status.
#[derive(Clone, Debug, Serialize)]
pub struct Conflict {
    /// The address.
    pub address: Ipv4Addr,
    /// Link-layer address of the host that has it, too.
    pub link_layer: String,
}

impl Conflicts {
    /// The conflicts that were found.
    pub fn list(&self) -> Vec<Conflict> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let conflicts = found.iter().map(|(address, mac)| Conflict {
            address: *address,
            link_layer: text(*mac),
        });
        conflicts.collect()
    }

    /// Their number, as a gauge.
    pub fn metric() -> Metric {
        Metric::gauge(
            "plat_address_conflicts",
            "Addresses of the pool that another host on the link was seen to have.",
        )
    }

    /// True if it is a new one.
    fn add(&self, address: Ipv4Addr, mac: Mac) -> bool {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= CONFLICTS_MAX && !found.contains_key(&address) {
            return false;
        }
        found.insert(address, mac) != Some(mac)
    }

    fn has(&self, address: Ipv4Addr) -> bool {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.contains_key(&address)
    }
}

/// Announces the pool on its link and listens for others, as long as it lives.
#[derive(Debug, Default)]
pub struct PoolNeighbours {
    conflicts: Conflicts,
    present: Option<Present>,
    task: Option<JoinHandle<()>>,
}

/// What is announced, and on which link: another one is announced anew.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Present {
    index: u32,
    mac: Mac,
    carrier_changes: u32,
    addresses: Vec<Ipv4Addr>,
}

impl PoolNeighbours {
    /// The conflicts, for status and metrics.
    pub fn conflicts(&self) -> Conflicts {
        self.conflicts.clone()
    }

    /// Announces `addresses` (sorted) on `link` unless that has been done: the link is another one,
    /// has another link-layer address or was without a carrier, or the addresses are others. A link
    /// without carrier or link-layer addresses has no neighbours to tell.
    pub fn follow(&mut self, link: Option<&Link>, addresses: Vec<Ipv4Addr>) {
        let link = link.filter(|link| link.running && !addresses.is_empty());
        let present = link.and_then(|link| {
            Some(Present {
                index: link.index,
                mac: link.mac?,
                carrier_changes: link.carrier_changes,
                addresses,
            })
        });
        if present == self.present {
            return;
        }
        self.end();
        self.present = present.clone();
        let (Some(present), Some(link)) = (present, link) else {
            return;
        };
        let (Some(first), Some(last)) = (present.addresses.first(), present.addresses.last())
        else {
            return;
        };
        match ArpSocket::open(link, &(*first..=*last)) {
            Ok(socket) => {
                let count = present.addresses.len();
                info!("announcing {count} addresses of the pool on {}", link.name);
                let (conflicts, name) = (self.conflicts.clone(), link.name.clone());
                self.task = Some(tokio::spawn(serve(socket, present, conflicts, name)));
            }
            Err(error) => warn!(
                "the pool is not announced on {}, and hosts there that have its addresses are not \
                 found: {error}",
                link.name
            ),
        }
    }

    fn end(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for PoolNeighbours {
    fn drop(&mut self) {
        self.end();
    }
}

async fn serve(socket: ArpSocket, present: Present, conflicts: Conflicts, link: String) {
    let listen = async {
        loop {
            match socket.recv().await {
                Ok(frame) => on_frame(&frame, &present, &conflicts, &link),
                // The link went down; it is followed when it comes back.
                Err(error) => {
                    debug!("{link}: {error}");
                    sleep_until(Instant::now() + ANNOUNCEMENT_INTERVAL).await;
                }
            }
        }
    };
    let announce = async {
        let (mac, addresses) = (present.mac, &present.addresses);
        send(&socket, addresses.iter().map(|one| probe(mac, *one))).await;
        sleep_until(Instant::now() + ANSWERS).await;
        for number in 0..ANNOUNCEMENTS {
            if number > 0 {
                sleep_until(Instant::now() + ANNOUNCEMENT_INTERVAL).await;
            }
            let free = addresses.iter().filter(|one| !conflicts.has(**one));
            send(&socket, free.map(|one| announcement(mac, *one))).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::join!(listen, announce);
}

async fn send<const N: usize>(socket: &ArpSocket, frames: impl Iterator<Item = [u8; N]>) {
    for (number, frame) in frames.enumerate() {
        if number > 0 && number % BURST == 0 {
            sleep_until(Instant::now() + BURST_PAUSE).await;
        }
        if let Err(error) = socket.send(&frame).await {
            debug!("an ARP message could not be sent: {error}");
        }
    }
}

/// A host with one of the addresses is logged once.
fn on_frame(frame: &[u8], present: &Present, conflicts: &Conflicts, link: &str) {
    let Some((mac, address)) = sender(frame) else {
        return;
    };
    let is_other = mac != present.mac && present.addresses.binary_search(&address).is_ok();
    if is_other && conflicts.add(address, mac) {
        warn!(
            "{address} of the pool is in use by another host on {link}, {}: packets of clients and \
             of that host get lost; give the host another address, or take this one out of the pool",
            text(mac)
        );
    }
}

fn text(mac: Mac) -> String {
    let mut text = String::new();
    for (place, byte) in mac.iter().enumerate() {
        let separator = if place == 0 { "" } else { ":" };
        // Writing into a string does not fail.
        let _ = write!(text, "{separator}{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp_10_a_host_with_an_address_of_the_pool_is_found_and_we_are_not() {
        let pool: Vec<Ipv4Addr> = (8..12).map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
        let (ours, theirs) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let present = Present {
            index: 1,
            mac: ours,
            carrier_changes: 0,
            addresses: pool.clone(),
        };
        let conflicts = Conflicts::default();
        let other = Ipv4Addr::new(192, 0, 2, 12);
        for frame in [
            announcement(ours, pool[0]),
            announcement(theirs, other),
            probe(theirs, pool[0]),
        ] {
            on_frame(&frame, &present, &conflicts, "eth0");
            assert!(conflicts.list().is_empty());
        }
        on_frame(&announcement(theirs, pool[3]), &present, &conflicts, "eth0");
        let list = conflicts.list();
        assert_eq!(list.len(), 1);
        assert_eq!(
            (list[0].address, list[0].link_layer.as_str()),
            (pool[3], "02:00:00:00:00:02")
        );
        assert!(conflicts.has(pool[3]) && !conflicts.has(pool[0]));
    }
}
