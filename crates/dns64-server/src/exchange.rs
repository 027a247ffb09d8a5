//! One query to one upstream resolver, with an unpredictable source port and id (RFC 5452).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use dns64::{Ask, refuses_opt};
use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::BinEncodable as _;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tracing::debug;
use xlat_host::daemon::state_dir::random;

use crate::config::Upstream;

/// Maximum size of an answer over UDP in bytes, to avoid fragments (RFC 9715).
const PAYLOAD: u16 = 1232;
/// Length of the message header in bytes.
const HEADER: usize = 12;

/// Why there is no answer from a resolver.
#[derive(Debug, Error)]
pub(crate) enum ExchangeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Encode(#[from] ProtoError),
    /// The message does not match the query.
    #[error("{0}")]
    Unrelated(&'static str),
    #[error("no TLS")]
    NoTls,
}

/// An encoded query.
#[derive(Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// Offset of the end of the question, in bytes.
    end: usize,
    has_opt: bool,
}

impl Request {
    /// Encodes a query, with an OPT record or without.
    pub(crate) fn new(ask: &Ask, has_opt: bool) -> Result<Self, ExchangeError> {
        let id = random()?[0] as u16;
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = ask.checking_disabled;
        message.add_query(ask.query.clone());
        if has_opt {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            edns.set_dnssec_ok(ask.dnssec_ok);
            message.set_edns(edns);
        }
        Ok(Self {
            bytes: message.to_vec()?,
            end: HEADER + ask.query.to_bytes()?.len(),
            has_opt,
        })
    }

    /// Parses a message. It is an answer only if its id and question match; if the rest of it is
    /// malformed, the resolver has failed.
    fn read(&self, bytes: &[u8]) -> Result<Message, ExchangeError> {
        if let Some(refusal) = self.bare_refusal(bytes) {
            return Ok(refusal);
        }
        ensure(bytes.len() >= self.end, "too short")?;
        ensure(bytes[..2] == self.bytes[..2], "another id")?;
        ensure(bytes[2] & 0x80 != 0, "no answer")?;
        ensure(bytes[4..6] == [0, 1], "not one question")?;
        let (ours, theirs) = (&self.bytes[HEADER..self.end], &bytes[HEADER..self.end]);
        ensure(ours.eq_ignore_ascii_case(theirs), "another question")?;
        match dns64::read(bytes) {
            Ok(answer) if answer.metadata.op_code == OpCode::Query => Ok(answer),
            Ok(_) => Ok(self.failure()),
            Err(_) => {
                debug!("an answer cannot be read");
                Ok(self.failure())
            }
        }
    }

    /// A header alone, with which a resolver refuses an OPT record that it does not know. It has
    /// fewer bytes that a forger must guess, but all that it brings about is the same query without
    /// that record.
    fn bare_refusal(&self, bytes: &[u8]) -> Option<Message> {
        let is_bare = self.has_opt && bytes.len() == HEADER && bytes[..2] == self.bytes[..2];
        let answer = dns64::read(is_bare.then_some(bytes)?).ok()?;
        let is_answer = answer.metadata.message_type == MessageType::Response;
        (is_answer && refuses_opt(&answer)).then_some(answer)
    }

    fn failure(&self) -> Message {
        let id = u16::from_be_bytes([self.bytes[0], self.bytes[1]]);
        Message::error_msg(id, OpCode::Query, ResponseCode::ServFail)
    }
}

fn ensure(condition: bool, otherwise: &'static str) -> Result<(), ExchangeError> {
    condition
        .then_some(())
        .ok_or(ExchangeError::Unrelated(otherwise))
}

/// What a resolver makes of a question that has an answer everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It says nothing, over UDP or TCP, or accepts no connection where it is asked over TLS.
    Silent,
    /// It answers, but without the A records of `ipv4only.arpa` (RFC 7050), which every resolver has:
    /// of IPv4-only names nothing can be made.
    WithoutA,
    /// It answers.
    Answers,
}

/// Asks a resolver for the A records of `ipv4only.arpa`, with so much time for each of three attempts.
/// A resolver over TLS is only connected to.
pub async fn probe(upstream: &Upstream, patience: Duration) -> Probe {
    let Ok(server) = upstream.target() else {
        return Probe::Silent;
    };
    if upstream.tls.is_some() {
        let connected = timeout(patience, TcpStream::connect(server)).await;
        return match connected {
            Ok(Ok(_)) => Probe::Answers,
            _ => Probe::Silent,
        };
    }
    let Ok(name) = Name::from_ascii("ipv4only.arpa.") else {
        return Probe::Silent;
    };
    let ask = Ask {
        query: Query::query(name, RecordType::A),
        dnssec_ok: false,
        checking_disabled: false,
    };
    let Ok(request) = Request::new(&ask, false) else {
        return Probe::Silent;
    };
    for over_tcp in [false, false, true] {
        let answer = async {
            match over_tcp {
                true => self::over_tcp(server, &request).await,
                false => over_udp(server, &request).await,
            }
        };
        if let Ok(Ok(answer)) = timeout(patience, answer).await {
            return judge(&answer);
        }
    }
    Probe::Silent
}

/// An error is about the resolver, or about this name alone, and says nothing of A records.
fn judge(answer: &Message) -> Probe {
    let code = answer.metadata.response_code;
    let has_a = answer
        .answers
        .iter()
        .any(|one| one.record_type() == RecordType::A);
    let says_none = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
    match says_none && !has_a && !answer.metadata.truncation {
        true => Probe::WithoutA,
        false => Probe::Answers,
    }
}

/// Queries over UDP, and again over TCP if the answer was truncated.
pub(crate) async fn over_udp_or_tcp(
    server: SocketAddr,
    request: &Request,
) -> Result<Message, ExchangeError> {
    let answer = over_udp(server, request).await?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    over_tcp(server, request).await
}

pub(crate) async fn over_tcp(
    server: SocketAddr,
    request: &Request,
) -> Result<Message, ExchangeError> {
    let mut stream = TcpStream::connect(server).await?;
    over_stream(&mut stream, request).await
}

async fn over_udp(server: SocketAddr, request: &Request) -> Result<Message, ExchangeError> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // The socket receives only from this server.
    socket.connect(server).await?;
    socket.send(&request.bytes).await?;
    loop {
        socket.readable().await?;
        match receive(&socket, request) {
            Ok(Ok(answer)) => return Ok(answer),
            // It may be forged; the answer may still arrive.
            Ok(Err(error)) => debug!("a message from {server} is ignored: {error}"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads a message that has arrived. Thousands of queries may wait: none of them holds a buffer.
fn receive(socket: &UdpSocket, request: &Request) -> io::Result<Result<Message, ExchangeError>> {
    let mut buffer = [0; 4096];
    let length = socket.try_recv(&mut buffer)?;
    Ok(request.read(&buffer[..length]))
}

/// Queries over a TCP or TLS connection (RFC 7766 section 8).
pub(crate) async fn over_stream(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &Request,
) -> Result<Message, ExchangeError> {
    let mut bytes = (request.bytes.len() as u16).to_be_bytes().to_vec();
    bytes.extend(&request.bytes);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    request.read(&buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use hickory_proto::rr::{Name, RecordType};

    fn ask() -> Ask {
        Ask {
            query: Query::query(Name::from_ascii("x.example.").unwrap(), RecordType::A),
            dnssec_ok: false,
            checking_disabled: true,
        }
    }

    /// The answer NXDOMAIN to a request, by hand.
    fn nxdomain(request: &Request) -> Vec<u8> {
        let mut bytes = request.bytes[..2].to_vec();
        bytes.extend([0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend(b"\x01x\x07example\0\0\x01\0\x01");
        bytes
    }

    #[test]
    fn dn_34_only_an_answer_to_the_question_is_believed() {
        let request = Request::new(&ask(), true).unwrap();
        // RD, CD.
        assert_eq!(request.bytes[2..4], [0x01, 0x10]);
        let answer = nxdomain(&request);
        let read = request.read(&answer).unwrap();
        assert_eq!(read.metadata.response_code, ResponseCode::NXDomain);
        // Another id, a question, two questions, another name, type and class.
        for (at, bits) in [
            (0, 1),
            (1, 0x80),
            (2, 0x80),
            (5, 3),
            (13, 1),
            (24, 1),
            (26, 2),
        ] {
            let mut other = answer.clone();
            other[at] ^= bits;
            assert!(request.read(&other).is_err(), "{at}");
        }
        assert!(request.read(&answer[..20]).is_err());
        assert!(request.read(&request.bytes).is_err());
        let mut spelled = answer.clone();
        spelled[13] = b'X';
        assert!(request.read(&spelled).is_ok());
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_a_failure_of_its_sender() {
        let request = Request::new(&ask(), true).unwrap();
        let mut answer = nxdomain(&request);
        answer[3] = 0x80;
        answer[7] = 1;
        // An address of three bytes; a name that is a circle.
        for record in [
            &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 3, 1, 2, 3][..],
            &[0xc0, 27, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4],
        ] {
            let mut bytes = answer.clone();
            bytes.extend(record);
            let read = request.read(&bytes).unwrap();
            assert_eq!(read.metadata.response_code, ResponseCode::ServFail);
        }
    }
}
