//! Answers the uplink's neighbours for the CLAT's address.
//!
//! The address is not assigned to the host: the kernel would deliver its packets instead of routing
//! them to the TUN, and would use it as a source of its own solicitations without receiving the
//! answers. The kernel only has a route for it, so this module answers the neighbours. They solicit
//! in two ways: by multicast, which a raw socket receives, or by unicast to the host that had the
//! address last (RFC 4861 section 7.3.3). Unicast solicitations are routed to the TUN, as all
//! packets for the address are.

use std::net::Ipv6Addr;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tracing::{debug, warn};
use xlat_core::mappers::Clat;
use xlat_core::wire::{IpNextHeaderProtocols, ipv6, version};
use xlat_core::{DropReason, Frame, Instant, Translator, Verdict};
use xlat_host::host::Link;
use xlat_host::icmp6::Solicitations;
use xlat_proto::ndp::{Solicitation, solicited_node};
use xlat_tun::Engine;

/// Maximum number of queued solicitations. Others are dropped, and neighbours repeat them.
const WAITING_MAX: usize = 16;

/// A worker's engine: translates, and passes on the solicitations among the packets.
#[derive(Debug)]
pub struct ClatEngine {
    /// The translator, which may be changed between packets.
    pub translator: Translator<Clat>,
    questions: mpsc::Sender<Solicitation>,
}

/// The receiver of the workers' solicitations. One responder at a time holds it.
pub type Questions = Arc<Mutex<mpsc::Receiver<Solicitation>>>;

/// The channel from the workers to the responder.
pub fn questions() -> (mpsc::Sender<Solicitation>, Questions) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (sender, Arc::new(Mutex::new(receiver)))
}

impl ClatEngine {
    /// An engine that passes solicitations on to `questions`.
    pub fn new(translator: Translator<Clat>, questions: mpsc::Sender<Solicitation>) -> Self {
        Self {
            translator,
            questions,
        }
    }
}

impl Engine for ClatEngine {
    #[inline]
    fn translate(&mut self, frame: &mut Frame<'_>, now: Instant) -> Verdict {
        let verdict = self.translator.translate(frame, now);
        if let Verdict::Drop(DropReason::IcmpType) = verdict
            && let Some(question) = solicitation(frame.packet())
        {
            // If the channel is full, the solicitation is dropped: the neighbour repeats it.
            let _ = self.questions.try_send(question);
        }
        verdict
    }

    #[inline]
    fn wants_prefetch(&self) -> bool {
        self.translator.wants_prefetch()
    }

    fn prefetch<'a>(&mut self, packets: impl Iterator<Item = &'a [u8]>) {
        self.translator.prefetch(packets);
    }

    #[inline]
    fn poll_packet(&mut self, frame: &mut Frame<'_>, now: Instant) -> Option<Verdict> {
        self.translator.poll_packet(frame, now)
    }
}

/// The solicitation in an IPv6 packet that was forwarded once, from the uplink to the TUN: its hop
/// limit was 255, so it came from the link itself (RFC 4861 section 7.1.1).
fn solicitation(packet: &[u8]) -> Option<Solicitation> {
    const FORWARDED_ONCE: u8 = 254;
    let (header, message) = packet.split_first_chunk()?;
    let ip = ipv6::Header::parse(header);
    let is_icmp = ip.next_header == IpNextHeaderProtocols::Icmpv6;
    if version(header[0]) != 6 || !is_icmp || ip.hop_limit != FORWARDED_ONCE {
        return None;
    }
    let asked = Solicitation::parse(ip.src, message)?;
    (asked.target == ip.dst).then_some(asked)
}

/// The raw socket for solicitations could not be opened.
#[derive(Debug, Error)]
#[error("cannot answer for {address} on {link}; run as root or with CAP_NET_RAW")]
pub struct ResponderError {
    address: Ipv6Addr,
    link: String,
    source: std::io::Error,
}

/// Answers for one address until it is dropped.
#[derive(Debug)]
pub struct Responder(JoinHandle<()>);

impl Responder {
    /// Starts to answer for `address` on `link`, including the solicitations that the workers
    /// receive. A link without link-layer addresses needs no answers.
    ///
    /// # Errors
    /// If the kernel refuses the raw socket.
    pub fn start(
        link: &Link,
        address: Ipv6Addr,
        questions: Questions,
    ) -> Result<Self, ResponderError> {
        let Some(mac) = link.mac else {
            debug!(
                "{} has no link-layer addresses: no neighbour discovery is needed",
                link.name
            );
            return Ok(Self(tokio::spawn(async {})));
        };
        let socket =
            Solicitations::listen(link, address, solicited_node(address)).map_err(|source| {
                ResponderError {
                    address,
                    link: link.name.clone(),
                    source,
                }
            })?;
        Ok(Self(tokio::spawn(answer(socket, address, mac, questions))))
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn answer(socket: Solicitations, address: Ipv6Addr, mac: [u8; 6], questions: Questions) {
    // The previous responder releases the lock when it ends.
    let mut questions = questions.lock().await;
    loop {
        let asked = tokio::select! {
            Some(asked) = questions.recv() => Some(asked),
            received = socket.recv() => match received {
                Ok((from, message)) => Solicitation::parse(from, &message),
                Err(error) => {
                    warn!("neighbour solicitations for {address} are no longer answered: {error}");
                    return;
                }
            },
        };
        let Some(asked) = asked.filter(|asked| asked.target == address) else {
            continue;
        };
        if let Err(error) = socket.send(asked.answer_to(), &asked.answer(mac)).await {
            debug!("no answer to {}: {error}", asked.from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAT: [u8; 16] = [
        0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xc1, 0xa7,
    ];

    fn packet(hop_limit: u8, to: [u8; 16]) -> Vec<u8> {
        let from = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let header = [0x60, 0, 0, 0, 0, 24, 58, hop_limit];
        let message = [135, 0, 0, 0, 0, 0, 0, 0];
        [&header[..], &from, &to, &message, &CLAT].concat()
    }

    #[test]
    fn cl_08_a_probe_for_the_address_is_recognised_on_its_way_to_the_tun() {
        let asked = solicitation(&packet(254, CLAT)).unwrap();
        assert_eq!(asked.target, Ipv6Addr::from(CLAT));
        assert_eq!(asked.from, "fe80::1".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn a_probe_from_behind_a_router_or_for_another_address_is_not() {
        assert_eq!(solicitation(&packet(253, CLAT)), None);
        assert_eq!(solicitation(&packet(254, [0x20; 16])), None);
        let whole = packet(254, CLAT);
        for len in 0..whole.len() {
            assert_eq!(solicitation(&whole[..len]), None);
        }
    }
}
