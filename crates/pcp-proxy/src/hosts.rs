//! The socket that the IPv4 hosts of one network ask. It is opened again for as long as another
//! program has its port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use xlat_core::addr::Ipv4Prefix;
use xlat_proto::pcp::proxy::Arrival;
use xlat_proto::pcp::{CLIENT_PORT, LENGTH_MAX, SERVER_PORT};

/// All hosts on a link that have been given ports (RFC 6886 section 3.2.1).
const ALL_CLIENTS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), CLIENT_PORT);
/// Pause after the kernel refused a socket.
const PAUSE: Duration = Duration::from_secs(5);

/// Where hosts ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Name of the link from which they ask, and from no other one.
    pub link: String,
    /// Its interface number.
    pub index: u32,
    /// Name of the link by which all of them are told something.
    pub announce_by: String,
    /// This host's address there, which is their gateway.
    pub address: Ipv4Addr,
    /// Their addresses.
    pub hosts: Ipv4Prefix,
}

/// A datagram of a host.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) arrival: Arrival,
    pub(crate) datagram: Vec<u8>,
}

/// What a host is to be sent.
#[derive(Debug)]
pub(crate) enum Answer {
    To(SocketAddrV4, Vec<u8>),
    All(Vec<u8>),
}

/// Serves one network until the other end of a channel is gone.
pub(crate) async fn serve(
    number: usize,
    listen: Listen,
    questions: mpsc::Sender<Question>,
    mut answers: mpsc::Receiver<Answer>,
) {
    let mut is_refused = false;
    loop {
        let announcer = match &listen.announce_by {
            same if *same == listen.link => None,
            other => open(other, &listen).ok(),
        };
        match open(&listen.link, &listen) {
            Ok(socket) => {
                let sockets = (&socket, announcer.as_ref().unwrap_or(&socket));
                if std::mem::take(&mut is_refused) {
                    info!("hosts on {} can ask for ports now", listen.link);
                }
                if carry(number, &listen, sockets, &questions, &mut answers).await {
                    return;
                }
            }
            Err(error) => {
                let Listen { link, address, .. } = &listen;
                if !std::mem::replace(&mut is_refused, true) {
                    warn!(
                        "hosts on {link} cannot ask for ports at {address}, UDP port \
                         {SERVER_PORT}: {error}; stop the other PCP or NAT-PMP server \
                         (miniupnpd?), or start with --pcp off"
                    );
                }
            }
        }
        sleep(PAUSE).await;
    }
}

/// Carries questions and answers. True if the other end is gone, false if the socket is broken.
async fn carry(
    number: usize,
    listen: &Listen,
    (socket, announcer): (&UdpSocket, &UdpSocket),
    questions: &mpsc::Sender<Question>,
    answers: &mut mpsc::Receiver<Answer>,
) -> bool {
    let mut buffer = [0; LENGTH_MAX + 1];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                let (length, from) = match received {
                    Ok((length, SocketAddr::V4(from))) => (length, from),
                    Ok(_) => continue,
                    Err(error) => {
                        debug!("no questions from {}: {error}", listen.link);
                        return false;
                    }
                };
                // A host of another network, or one that pretends to be.
                if !listen.hosts.contains(*from.ip()) {
                    continue;
                }
                let question = Question {
                    arrival: Arrival { socket: number, from },
                    datagram: buffer[..length].to_vec(),
                };
                // A flood loses its own questions.
                let _ = questions.try_send(question);
                if questions.is_closed() {
                    return true;
                }
            }
            answer = answers.recv() => {
                let (socket, message, to) = match answer {
                    None => return true,
                    Some(Answer::To(to, message)) => (socket, message, to),
                    Some(Answer::All(message)) => (announcer, message, ALL_CLIENTS),
                };
                if let Err(error) = socket.send_to(&message, to).await {
                    debug!("no answer to {to} on {}: {error}", listen.link);
                }
            }
        }
    }
}

/// A socket with this host's address, on one link.
fn open(link: &str, listen: &Listen) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(link.as_bytes()))?;
    socket.set_nonblocking(true)?;
    socket.set_multicast_ttl_v4(1)?;
    socket.bind(&SocketAddrV4::new(listen.address, SERVER_PORT).into())?;
    UdpSocket::from_std(socket.into())
}

/// True if this host has no socket of its own at this port of one of these addresses.
pub(crate) fn is_free(addresses: &[std::net::IpAddr], protocol: u8, port: u16) -> bool {
    const TCP: u8 = 6;
    let kind = match protocol {
        TCP => Type::STREAM,
        _ => Type::DGRAM,
    };
    addresses.iter().all(|address| {
        let address = SocketAddr::new(*address, port);
        let socket = Socket::new(Domain::for_address(address), kind, None);
        // What cannot be tried is not known to be used.
        let Ok(socket) = socket else { return true };
        let bound = socket.bind(&address.into());
        bound.err().map(|error| error.kind()) != Some(io::ErrorKind::AddrInUse)
    })
}
