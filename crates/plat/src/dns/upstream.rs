//! Questions to the resolvers upstream: one after the other until one answers, each from a port and
//! with a number that nobody can guess (RFC 5452).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};
use tracing::debug;
use xlat_linux::daemon::state_dir::random;

/// How long one resolver may take.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Resolvers that are tried for one question.
const TRIES: usize = 3;
/// What we take over UDP: no fragments (RFC 9715).
const PAYLOAD: u16 = 1232;

/// The resolvers.
#[derive(Debug)]
pub(crate) struct Upstreams {
    servers: Vec<SocketAddr>,
    /// The one that answered last.
    good: AtomicUsize,
}

/// What the client wants to be asked along.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    pub(crate) dnssec_ok: bool,
    pub(crate) checking_disabled: bool,
}

impl Upstreams {
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Self {
        Self {
            servers,
            good: AtomicUsize::new(0),
        }
    }

    /// The answer of the first that gives one.
    pub(crate) async fn ask(&self, query: &Query, wishes: Wishes) -> Option<Message> {
        let first = self.good.load(Ordering::Relaxed);
        for number in first..first + self.servers.len().min(TRIES) {
            let number = number % self.servers.len();
            match ask_one(self.servers[number], query, wishes).await {
                Ok(answer) => {
                    self.good.store(number, Ordering::Relaxed);
                    return Some(answer);
                }
                Err(error) => debug!("{}: {error:#}", self.servers[number]),
            }
        }
        None
    }
}

async fn ask_one(server: SocketAddr, query: &Query, wishes: Wishes) -> Result<Message> {
    let request = request(query, wishes)?;
    let deadline = Instant::now() + PATIENCE;
    let answer = timeout_at(deadline, over_udp(server, &request));
    let answer = answer.await.context("no answer")??;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let answer = timeout_at(deadline + PATIENCE, over_tcp(server, &request));
    answer.await.context("no answer over TCP")?
}

fn request(query: &Query, wishes: Wishes) -> Result<Message> {
    let id = random()?[0] as u16;
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = wishes.checking_disabled;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    edns.set_dnssec_ok(wishes.dnssec_ok);
    message.set_edns(edns);
    Ok(message)
}

async fn over_udp(server: SocketAddr, request: &Message) -> Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Only what comes from there is heard.
    socket.connect(server).await?;
    socket.send(&request.to_vec()?).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match read(request, &buffer[..length]) {
            Ok(answer) => return Ok(answer),
            // It may be forged; the answer may still come.
            Err(error) => debug!("a message from {server} is ignored: {error:#}"),
        }
    }
}

async fn over_tcp(server: SocketAddr, request: &Message) -> Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let bytes = request.to_vec()?;
    stream.write_u16(bytes.len() as u16).await?;
    stream.write_all(&bytes).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    read(request, &buffer)
}

fn read(request: &Message, bytes: &[u8]) -> Result<Message> {
    let answer = Message::from_vec(bytes)?;
    ensure!(answer.metadata.id == request.metadata.id, "another id");
    ensure!(
        answer.metadata.message_type == MessageType::Response,
        "no answer"
    );
    ensure!(answer.queries == request.queries, "another question");
    Ok(answer)
}

/// The resolvers of `/etc/resolv.conf`, but for those that are `own`.
pub(crate) fn of_resolv_conf(text: &str, own: &[Ipv6Addr]) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next())?
    });
    servers
        .filter_map(|server| server.parse::<IpAddr>().ok())
        .filter(|server| !own.iter().any(|own| *server == IpAddr::V6(*own)))
        .map(|server| (server, 53).into())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::ResponseCode;
    use hickory_proto::rr::{Name, RecordType};

    fn query() -> Query {
        Query::query(Name::from_ascii("x.example.").unwrap(), RecordType::A)
    }

    #[test]
    fn dn_34_only_an_answer_to_the_question_is_believed() {
        let wishes = Wishes {
            dnssec_ok: false,
            checking_disabled: true,
        };
        let asked = request(&query(), wishes).unwrap();
        assert!(asked.metadata.checking_disabled);
        let mut answer = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.response_code = ResponseCode::NXDomain;
        answer.add_query(query());
        assert!(read(&asked, &answer.to_vec().unwrap()).is_ok());
        let mut other = answer.clone();
        other.metadata.id = other.metadata.id.wrapping_add(1);
        assert!(read(&asked, &other.to_vec().unwrap()).is_err());
        let mut other = answer.clone();
        other.queries[0].query_type = RecordType::AAAA;
        assert!(read(&asked, &other.to_vec().unwrap()).is_err());
        assert!(read(&asked, &asked.to_vec().unwrap()).is_err());
        assert!(read(&asked, &[0; 5]).is_err());
    }

    #[test]
    fn dn_33_our_own_address_is_no_upstream() {
        let text = "nameserver 192.0.2.53\nnameserver 2001:db8::1\nnameserver 2001:db8::2\n";
        let servers = of_resolv_conf(text, &["2001:db8::1".parse().unwrap()]);
        let expected = ["192.0.2.53:53", "[2001:db8::2]:53"];
        assert_eq!(servers, expected.map(|server| server.parse().unwrap()));
    }
}
