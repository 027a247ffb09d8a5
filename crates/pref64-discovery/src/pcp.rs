//! Asks a network's PCP servers for the NAT64 prefix (RFC 7225): an ANNOUNCE request changes nothing
//! there, and its response has the option.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;
use xlat_core::addr::Pref64;
use xlat_host::host::Link;
use xlat_proto::discovery::PcpAnswer;
use xlat_proto::pcp::{ClientRequest, LENGTH_MAX, Operation, Options, Response, SERVER_PORT};

/// How long a server may take (RFC 6887 section 8.1.1). The next request is the caller's.
const PATIENCE: Duration = Duration::from_secs(3);
/// Maximum number of servers to ask.
const SERVERS_MAX: usize = 3;

/// Asks the servers all at once. Among those that tell prefixes the first one of the list counts.
pub(crate) async fn ask(link: &Link, servers: &[Ipv6Addr]) -> PcpAnswer {
    let mut asked = JoinSet::new();
    for (place, server) in servers.iter().copied().take(SERVERS_MAX).enumerate() {
        let link = link.clone();
        asked.spawn(async move {
            let told = timeout(PATIENCE, ask_one(&link, server)).await;
            let told = told.unwrap_or_else(|silence| Err(silence.into()));
            (place, server, told)
        });
    }
    let mut best: Option<(usize, Ipv6Addr, Vec<Pref64>)> = None;
    let mut answer = PcpAnswer::Failed;
    while let Some(Ok((place, server, told))) = asked.join_next().await {
        match told {
            Ok(prefixes) if prefixes.is_empty() => answer = PcpAnswer::Absent,
            Ok(prefixes) if best.as_ref().is_none_or(|(before, ..)| place < *before) => {
                best = Some((place, server, prefixes));
            }
            Ok(_) => {}
            Err(error) => debug!("PCP server {server}: {error}"),
        }
        // Nobody who may still answer is preferred.
        if best.as_ref().is_some_and(|(place, ..)| *place == 0) {
            break;
        }
    }
    match best {
        Some((_, server, prefixes)) => PcpAnswer::Told(server, prefixes),
        None => answer,
    }
}

/// The prefixes that a server tells; none if it knows none.
async fn ask_one(link: &Link, server: Ipv6Addr) -> io::Result<Vec<Pref64>> {
    let scope = if server.is_unicast_link_local() {
        link.index
    } else {
        0
    };
    let socket = open(link)?;
    // The socket receives only from this server, and has the address that the request must name.
    socket
        .connect(SocketAddrV6::new(server, SERVER_PORT, 0, scope))
        .await?;
    let SocketAddr::V6(client) = socket.local_addr()? else {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    };
    let options = Options {
        prefix64: true,
        ..Options::default()
    };
    let request = ClientRequest {
        lifetime: 0,
        client: *client.ip(),
        operation: Operation::Announce,
        options: &options,
    };
    socket.send(&request.emit()).await?;
    let mut buffer = [0; LENGTH_MAX + 1];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What cannot be read may be forged; the response may still come.
        let Some(response) = Response::parse(&buffer[..length]) else {
            continue;
        };
        if response.operation == Operation::Announce {
            let is_success = response.result == 0;
            return Ok(if is_success {
                response.pref64s
            } else {
                Vec::new()
            });
        }
    }
}

fn open(link: &Link) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(link.name.as_bytes()))?;
    UdpSocket::from_std(socket.into())
}
