//! Asks a network's DNS servers for `ipv4only.arpa` (RFC 7050).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::atomic::Ordering;
use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::DecodeError;
use portable_atomic::AtomicU64;
use socket2::{Domain, Socket, Type};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};
use xlat_host::daemon::state_dir::random;
use xlat_host::host::Link;
use xlat_proto::discovery::{Answer, rfc7050};

use crate::resolvers;

/// Timeout of a server.
const PATIENCE: Duration = Duration::from_secs(2);
/// Maximum number of servers to try.
const SERVERS_MAX: usize = 3;
/// Maximum length of an answer, in bytes.
const MESSAGE_MAX: usize = 4096;
const PORT: u16 = 53;

/// Queries the servers in turn until one returns addresses: first those of the link, where the query
/// leaves, then those on this host. Messages that do not match it are counted in `ignored`.
///
/// A server that returns none may lack DNS64 while the next one has it. One on this host may ask
/// other networks: where the link has servers, it does not tell that there is no DNS64.
pub(crate) async fn ask(link: &Link, servers: &[Ipv6Addr], ignored: &AtomicU64) -> Answer {
    let (local, own): (Vec<Ipv6Addr>, Vec<Ipv6Addr>) =
        servers.iter().partition(|one| resolvers::is_local(**one));
    let mut answer = Answer::Failed;
    for server in own.iter().take(SERVERS_MAX).chain(&local) {
        match ask_one(link, *server, ignored).await {
            Ok(Answer::Absent) if resolvers::is_local(*server) && !own.is_empty() => {}
            Ok(Answer::Absent) => answer = Answer::Absent,
            Ok(addresses) => {
                if resolvers::is_local(*server) {
                    let server = server.to_canonical();
                    info!(
                        "{}: none of the network's DNS servers says where its NAT64 is, the \
                        resolver {server} on this host does",
                        link.name
                    );
                }
                return addresses;
            }
            Err(error) => debug!("DNS server {server}: {error}"),
        }
    }
    answer
}

/// Asks one server for the addresses of `ipv4only.arpa`.
///
/// # Errors
/// What it says instead of an answer.
pub(crate) async fn addresses(link: &Link, server: Ipv6Addr) -> Result<Vec<Ipv6Addr>, String> {
    match ask_one(link, server, &AtomicU64::new(0)).await {
        Ok(Answer::Addresses(addresses, _)) => Ok(addresses),
        Ok(Answer::Absent | Answer::Failed) => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    }
}

async fn ask_one(link: &Link, server: Ipv6Addr, ignored: &AtomicU64) -> Result<Answer, QueryError> {
    let scope = if server.is_unicast_link_local() {
        link.index
    } else {
        0
    };
    let server = match server.to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, PORT)),
        IpAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(v6, PORT, 0, scope)),
    };
    let socket = UdpSocket::from_std(open(link, server, Type::DGRAM)?.into())?;
    // The socket receives only from this server.
    let connected = socket.connect(server).await;
    connected.map_err(QueryError::NoRoute)?;
    let query = query(random()?[0] as u16)?;
    socket.send(&query.to_vec()?).await?;
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = vec![0; MESSAGE_MAX];
    loop {
        let received = timeout_at(deadline, socket.recv(&mut buffer)).await;
        let length = received.map_err(|_| QueryError::Silence)??;
        // A message that does not match may be forged; the answer may still arrive.
        match read(&query, &buffer[..length]) {
            Ok(Response::Answer(answer)) => return Ok(answer),
            Ok(Response::TooLong) => break,
            Ok(Response::Refusal(code)) => return Err(QueryError::Refusal(code)),
            Err(error) if ignored.fetch_add(1, Ordering::Relaxed) == 0 => {
                warn!("a DNS message from {server} is ignored: {error}");
            }
            Err(error) => debug!("a DNS message from {server} is ignored: {error}"),
        }
    }
    let whole = timeout_at(deadline + PATIENCE, ask_by_tcp(link, server, &query)).await;
    match whole.map_err(|_| QueryError::SilenceOverTcp)?? {
        Response::Answer(answer) => Ok(answer),
        Response::TooLong => Err(QueryError::Truncated),
        Response::Refusal(code) => Err(QueryError::Refusal(code)),
    }
}

/// Queries over TCP after a truncated answer (RFC 7766).
async fn ask_by_tcp(
    link: &Link,
    server: SocketAddr,
    query: &Message,
) -> Result<Response, QueryError> {
    let socket = TcpSocket::from_std_stream(open(link, server, Type::STREAM)?.into());
    let mut stream = socket.connect(server).await?;
    let bytes = query.to_vec()?;
    let length = (bytes.len() as u16).to_be_bytes();
    stream.write_all(&[&length[..], &bytes].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    if length > MESSAGE_MAX {
        return Err(QueryError::TooLong(length));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    read(query, &answer)
}

/// A socket for queries to `server`, which leave on `link` unless the server is on this host.
fn open(link: &Link, server: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(server), kind, None)?;
    socket.set_nonblocking(true)?;
    if !server.ip().is_loopback() {
        socket.bind_device(Some(link.name.as_bytes()))?;
    }
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // The kernel chooses the port.
    socket.bind(&SocketAddr::from((any, 0)).into())?;
    Ok(socket)
}

/// Why a server gave no answer.
#[derive(Debug, Error)]
enum QueryError {
    #[error("no route: {0}")]
    NoRoute(io::Error),
    #[error("no answer")]
    Silence,
    #[error("no answer over TCP")]
    SilenceOverTcp,
    #[error("its answer is cut off even over TCP")]
    Truncated,
    #[error("{0} bytes")]
    TooLong(usize),
    #[error("it says {0}")]
    Refusal(ResponseCode),
    /// The message does not match the query.
    #[error("{0}")]
    Unrelated(&'static str),
    #[error(transparent)]
    Encode(#[from] ProtoError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A server's response.
#[derive(Debug, PartialEq, Eq)]
enum Response {
    Answer(Answer),
    /// Truncated: it does not fit a datagram.
    TooLong,
    Refusal(ResponseCode),
}

/// PD-01: absolute name, class IN, RD set, CD not.
fn query(id: u16) -> Result<Message, QueryError> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii(rfc7050::NAME)?;
    message.add_query(Query::query(name, RecordType::AAAA));
    Ok(message)
}

/// Parses a message. An error if it is not the answer to `query`.
fn read(query: &Message, bytes: &[u8]) -> Result<Response, QueryError> {
    let message = Message::from_vec(bytes)?;
    if message.metadata.id != query.metadata.id {
        return Err(QueryError::Unrelated("another id"));
    }
    if message.metadata.message_type != MessageType::Response {
        return Err(QueryError::Unrelated("no answer"));
    }
    if message.queries != query.queries {
        return Err(QueryError::Unrelated("another question"));
    }
    Ok(interpret(&message))
}

fn interpret(message: &Message) -> Response {
    if message.metadata.truncation {
        return Response::TooLong;
    }
    match message.metadata.response_code {
        ResponseCode::NXDomain => return Response::Answer(Answer::Absent),
        ResponseCode::NoError => {}
        code => return Response::Refusal(code),
    }
    // The names along CNAME records do not matter, only the addresses.
    let addresses = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::AAAA(address) => Some((address.0, record.ttl)),
            _ => None,
        });
    let (addresses, lifetimes): (Vec<_>, Vec<_>) = addresses.unzip();
    Response::Answer(match lifetimes.into_iter().min() {
        Some(lifetime) => Answer::Addresses(addresses, lifetime),
        None => Answer::Absent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ipv4only.arpa` AAAA IN.
    const QUESTION: &[u8] = b"\x08ipv4only\x04arpa\0\0\x1c\0\x01";

    fn reply(id: u16, flags: u16, question: &[u8], answers: &[u8], count: u8) -> Vec<u8> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend(flags.to_be_bytes());
        message.extend([0, 1, 0, count, 0, 0, 0, 0]);
        message.extend(question);
        message.extend(answers);
        message
    }

    fn record(ttl: u8, last: u8) -> Vec<u8> {
        let mut record = b"\xc0\x0c\0\x1c\0\x01\0\0\0".to_vec();
        record.push(ttl);
        record.extend([
            0, 16, 0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 0, last,
        ]);
        record
    }

    fn asked() -> Message {
        query(0x1234).unwrap()
    }

    #[test]
    fn pd_01_the_query_byte_by_byte() {
        let mut expected = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
        expected.extend(QUESTION);
        assert_eq!(asked().to_vec().unwrap(), expected);
    }

    #[test]
    fn pd_08_all_addresses_count_with_the_least_lifetime() {
        let answers = [record(90, 170), record(60, 171)].concat();
        let answer = read(&asked(), &reply(0x1234, 0x8180, QUESTION, &answers, 2));
        let Response::Answer(Answer::Addresses(addresses, 60)) = answer.unwrap() else {
            panic!("addresses");
        };
        let prefixes = rfc7050::prefixes(addresses);
        assert_eq!(prefixes, ["64:ff9b::/96".parse().unwrap()]);
    }

    #[test]
    fn pd_09_no_name_and_no_address_mean_no_dns64_and_an_error_means_nothing() {
        let says = |flags| read(&asked(), &reply(0x1234, flags, QUESTION, &[], 0)).unwrap();
        assert_eq!(says(0x8183), Response::Answer(Answer::Absent));
        assert_eq!(says(0x8180), Response::Answer(Answer::Absent));
        assert_eq!(says(0x8182), Response::Refusal(ResponseCode::ServFail));
    }

    #[test]
    fn an_answer_that_was_cut_off_says_nothing() {
        let cut = read(&asked(), &reply(0x1234, 0x8380, QUESTION, &[], 0));
        assert_eq!(cut.unwrap(), Response::TooLong);
    }

    #[test]
    fn messages_that_are_no_answer_to_the_question_are_ignored() {
        let one = record(60, 170);
        let other = b"\x08ipv4only\x04arpb\0\0\x1c\0\x01";
        for message in [
            reply(0x1235, 0x8180, QUESTION, &one, 1),
            reply(0x1234, 0x0180, QUESTION, &one, 1),
            reply(0x1234, 0x8180, other, &one, 1),
            reply(0x1234, 0x8180, QUESTION, &one[..20], 1),
            vec![0x12, 0x34],
            Vec::new(),
        ] {
            assert!(read(&asked(), &message).is_err(), "{message:x?}");
        }
    }
}
