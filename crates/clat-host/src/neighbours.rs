//! Answers the uplink's neighbours for the CLAT's address.
//!
//! The address is not assigned to the host: the kernel would deliver its packets instead of routing
//! them to the TUN, and would use it as a source of its own solicitations without receiving the
//! answers. The kernel only has a route for it, so this module answers the neighbours, and announces
//! the address when its link-layer address may be another one than neighbours know.

use std::future::pending;
use std::io::ErrorKind;
use std::net::Ipv6Addr;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};
use xlat_host::host::Link;
use xlat_host::icmp6::Solicitations;
use xlat_proto::ndp::{Solicitation, announcement, solicited_node};
use xlat_proto::ra::ALL_NODES;

/// How often a link-layer address is announced (RFC 4861 section 10,
/// `MAX_NEIGHBOR_ADVERTISEMENT`).
const ANNOUNCEMENTS: u8 = 3;
/// Interval between announcements (RFC 4861 section 10, `RETRANS_TIMER`).
const ANNOUNCEMENT_INTERVAL: Duration = Duration::from_secs(1);
/// Pause after the socket refused to receive.
const PAUSE: Duration = Duration::from_secs(1);

/// The sockets for solicitations could not be opened.
#[derive(Debug, Error)]
#[error("cannot answer for {address} on {link}; run as root or with CAP_NET_RAW")]
pub struct ResponderError {
    address: Ipv6Addr,
    link: String,
    source: std::io::Error,
}

/// Answers for one address until it is dropped.
#[derive(Debug)]
pub struct Responder {
    address: Ipv6Addr,
    link_layer: watch::Sender<[u8; 6]>,
    task: JoinHandle<()>,
}

impl Responder {
    /// Starts to answer for `address` on `link`, and announces it there. `None` if the link has no
    /// link-layer addresses: no neighbour asks for one.
    ///
    /// # Errors
    /// If the kernel refuses the sockets.
    pub fn start(link: &Link, address: Ipv6Addr) -> Result<Option<Self>, ResponderError> {
        let Some(mac) = link.mac else {
            debug!(
                "{} has no link-layer addresses: no neighbour discovery is needed",
                link.name
            );
            return Ok(None);
        };
        let socket =
            Solicitations::listen(link, address, solicited_node(address)).map_err(|source| {
                ResponderError {
                    address,
                    link: link.name.clone(),
                    source,
                }
            })?;
        let (sender, receiver) = watch::channel(mac);
        Ok(Some(Self {
            address,
            link_layer: sender,
            task: tokio::spawn(serve(socket, address, receiver)),
        }))
    }

    /// Answers with the present link-layer address of `link` from now on. If it is another one than
    /// before (bonds, bridges and administrators change it), neighbours are told at once.
    pub fn follow(&self, link: &Link) {
        let Some(mac) = link.mac else {
            return;
        };
        let is_changed = self.link_layer.send_if_modified(|have| {
            let is_other = *have != mac;
            *have = mac;
            is_other
        });
        if is_changed {
            let [a, b, c, d, e, f] = mac;
            info!(
                "{} has the link-layer address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} \
                 now: its neighbours are told, for {}",
                link.name, self.address
            );
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: Solicitations, address: Ipv6Addr, mut mac: watch::Receiver<[u8; 6]>) {
    let mut announcements = Announcements::begin();
    let mut is_broken = false;
    loop {
        tokio::select! {
            changed = mac.changed() => {
                if changed.is_err() {
                    return;
                }
                announcements = Announcements::begin();
            }
            () = announcements.next() => {
                let message = announcement(address, *mac.borrow());
                if let Err(error) = socket.send(ALL_NODES, &message).await {
                    debug!("{address} is not announced: {error}");
                }
            }
            received = socket.recv() => match received {
                Ok(packet) => {
                    is_broken = false;
                    let mac = *mac.borrow();
                    answer(&socket, address, &packet, mac).await;
                }
                // It goes on when the link is up again.
                Err(error) if error.kind() == ErrorKind::NetworkDown => {
                    debug!("the link of {address} is down");
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_broken, true) {
                        warn!("neighbours that ask for {address} get no answer for now: {error}");
                    }
                    sleep(PAUSE).await;
                }
            },
        }
    }
}

async fn answer(socket: &Solicitations, address: Ipv6Addr, packet: &[u8], mac: [u8; 6]) {
    let asked = Solicitation::parse(packet).filter(|asked| asked.target == address);
    let Some(asked) = asked else {
        return;
    };
    if let Err(error) = socket.send(asked.answer_to(), &asked.answer(mac)).await {
        debug!("no answer to {}: {error}", asked.from);
    }
}

/// The announcements of one link-layer address.
struct Announcements {
    left: u8,
    at: Instant,
}

impl Announcements {
    fn begin() -> Self {
        Self {
            left: ANNOUNCEMENTS,
            at: Instant::now(),
        }
    }

    /// Waits until one is due.
    async fn next(&mut self) {
        if self.left == 0 {
            pending::<()>().await;
        }
        sleep_until(self.at).await;
        self.left -= 1;
        self.at = Instant::now() + ANNOUNCEMENT_INTERVAL;
    }
}
