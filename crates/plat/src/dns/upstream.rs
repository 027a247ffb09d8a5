//! Questions to the resolvers upstream: in turn and again until one answers, each from a port and
//! with a number that nobody can guess (RFC 5452).

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use dns64::Ask;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::serialize::binary::BinEncodable as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::debug;
use xlat_host::daemon::state_dir::random;

use super::flags::Upstream;
use super::tls::{Tls, Trust};

/// When a question is sent, in parts of the time that there is for it.
const SENDS: [f64; 3] = [0.0, 1.0 / 6.0, 0.5];
/// Sockets that one question may need at the same time.
pub(super) const SOCKETS: u64 = SENDS.len() as u64;
/// What we take over UDP: no fragments (RFC 9715).
const PAYLOAD: u16 = 1232;
/// Bytes of a message before its first question.
const HEADER: usize = 12;

/// The resolvers.
pub(super) struct Upstreams {
    servers: Vec<Upstream>,
    tls: Option<Rc<Tls>>,
    /// The one that answered last.
    good: Cell<usize>,
}

impl Upstreams {
    /// Those over TLS prove their names to `trust`.
    pub(super) fn new(servers: Vec<Upstream>, trust: Option<&Trust>) -> Self {
        Self {
            servers,
            tls: trust.map(|trust| Rc::new(Tls::new(trust))),
            good: Cell::new(0),
        }
    }

    /// The first good answer within this time. If all that is said is that a server could or would
    /// not answer, that; `None` for silence.
    pub(super) async fn ask(&self, ask: &Ask, patience: Duration) -> Option<Message> {
        let begin = Instant::now();
        let mut sends = Sends::new(self.servers.len(), self.good.get(), patience);
        let mut under_way = JoinSet::new();
        let mut refusal = None;
        loop {
            if let Some(number) = sends.due(begin.elapsed()) {
                let (server, tls) = (self.servers[number].clone(), self.tls.clone());
                let ask = ask.clone();
                under_way.spawn_local(async move {
                    let answer = exchange(&server, tls.as_deref(), &ask).await;
                    (number, answer)
                });
            }
            let next = sends.next().map(|(_, at)| at);
            let until = begin + next.unwrap_or(patience).min(patience);
            match timeout_at(until, under_way.join_next()).await {
                Ok(Some(Ok((number, Ok(answer))))) if is_answer(&answer) => {
                    self.good.set(number);
                    return Some(answer);
                }
                Ok(Some(Ok((number, Ok(answer))))) => {
                    let code = answer.metadata.response_code;
                    debug!("{} says {code}", self.servers[number].address);
                    refusal = Some(answer);
                    sends.on_refusal(number);
                }
                Ok(Some(Ok((number, Err(error))))) => {
                    debug!("{}: {error:#}", self.servers[number].address);
                    sends.on_error(number);
                }
                Ok(Some(Err(_))) => {}
                // Nothing more can come.
                Ok(None) if next.is_none() => return refusal,
                Ok(None) => sleep_until(until).await,
                Err(_) if begin.elapsed() >= patience => return refusal,
                Err(_) => {}
            }
        }
    }
}

/// True for what a resolver says about a name, not about itself.
fn is_answer(message: &Message) -> bool {
    matches!(
        message.metadata.response_code,
        ResponseCode::NoError | ResponseCode::NXDomain | ResponseCode::YXDomain
    )
}

/// Whom to send a question to, and when: three times in the time that there is, to the servers in
/// turn. One that refuses is not asked again, and whoever has not failed yet is asked at once in its
/// place.
#[derive(Debug)]
struct Sends {
    patience: Duration,
    /// Whose turn it is.
    turn: usize,
    /// Sends that were made for their time.
    made: usize,
    is_hurried: bool,
    has_refused: Vec<bool>,
    has_failed: Vec<bool>,
}

impl Sends {
    fn new(servers: usize, first: usize, patience: Duration) -> Self {
        Self {
            patience,
            turn: first,
            made: 0,
            is_hurried: false,
            has_refused: vec![false; servers],
            has_failed: vec![false; servers],
        }
    }

    /// The next server, and when it is its turn.
    fn next(&self) -> Option<(usize, Duration)> {
        let servers = self.has_refused.len();
        let mut turns = (self.turn..self.turn + servers).map(|turn| turn % servers);
        if self.is_hurried
            && let Some(other) = turns.clone().find(|server| !self.has_failed[*server])
        {
            return Some((other, Duration::ZERO));
        }
        let server = turns.find(|server| !self.has_refused[*server])?;
        let at = self.patience.mul_f64(*SENDS.get(self.made)?);
        Some((server, at))
    }

    /// The server that a question is to be sent to now.
    fn due(&mut self, elapsed: Duration) -> Option<usize> {
        let (server, at) = self.next()?;
        if at > elapsed {
            return None;
        }
        if !self.is_hurried || self.has_failed[server] {
            self.made += 1;
        }
        self.is_hurried = false;
        self.turn = server + 1;
        Some(server)
    }

    fn on_refusal(&mut self, server: usize) {
        self.has_refused[server] = true;
        self.on_error(server);
    }

    fn on_error(&mut self, server: usize) {
        self.has_failed[server] = true;
        self.is_hurried = true;
    }
}

/// A question as it is sent.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
    /// Where the question ends.
    end: usize,
}

impl Request {
    fn new(ask: &Ask) -> Result<Self> {
        let id = random()?[0] as u16;
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = ask.checking_disabled;
        message.add_query(ask.query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        edns.set_dnssec_ok(ask.dnssec_ok);
        message.set_edns(edns);
        Ok(Self {
            bytes: message.to_vec()?,
            end: HEADER + ask.query.to_bytes()?.len(),
        })
    }

    /// Reads what came back. Only what has our number and question is an answer; if the rest of it
    /// cannot be read, its sender has failed.
    fn read(&self, bytes: &[u8]) -> Result<Message> {
        ensure!(bytes.len() >= self.end, "too short");
        ensure!(bytes[..2] == self.bytes[..2], "another id");
        ensure!(bytes[2] & 0x80 != 0, "no answer");
        ensure!(bytes[4..6] == [0, 1], "not one question");
        let (ours, theirs) = (&self.bytes[HEADER..self.end], &bytes[HEADER..self.end]);
        ensure!(ours.eq_ignore_ascii_case(theirs), "another question");
        match Message::from_vec(bytes) {
            Ok(answer) if answer.metadata.op_code == OpCode::Query => Ok(answer),
            Ok(_) => Ok(self.failure()),
            Err(error) => {
                debug!("an answer cannot be read: {error}");
                Ok(self.failure())
            }
        }
    }

    fn failure(&self) -> Message {
        let id = u16::from_be_bytes([self.bytes[0], self.bytes[1]]);
        Message::error_msg(id, OpCode::Query, ResponseCode::ServFail)
    }
}

async fn exchange(server: &Upstream, tls: Option<&Tls>, ask: &Ask) -> Result<Message> {
    let request = Request::new(ask)?;
    if let (Some(name), Some(tls)) = (&server.tls, tls) {
        return tls.exchange(server.address, name, &request).await;
    }
    // What is to be asked over TLS is asked in no other way.
    ensure!(server.tls.is_none(), "no TLS");
    let answer = over_udp(server.address, &request).await?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let mut stream = TcpStream::connect(server.address).await?;
    over_stream(&mut stream, &request).await
}

async fn over_udp(server: SocketAddr, request: &Request) -> Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Only what comes from there is heard.
    socket.connect(server).await?;
    socket.send(&request.bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match request.read(&buffer[..length]) {
            Ok(answer) => return Ok(answer),
            // It may be forged; the answer may still come.
            Err(error) => debug!("a message from {server} is ignored: {error:#}"),
        }
    }
}

/// RFC 7766 section 8.
pub(super) async fn over_stream(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &Request,
) -> Result<Message> {
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

    const PATIENCE: Duration = Duration::from_millis(1200);

    /// What is sent when nobody says anything.
    fn silence(servers: usize, first: usize) -> Vec<(usize, u128)> {
        let mut sends = Sends::new(servers, first, PATIENCE);
        let mut sent = Vec::new();
        while let Some((server, at)) = sends.next() {
            assert_eq!(sends.due(at), Some(server));
            sent.push((server, at.as_millis()));
        }
        sent
    }

    #[test]
    fn dn_05_a_question_is_sent_three_times_in_the_time_there_is() {
        assert_eq!(silence(1, 0), [(0, 0), (0, 200), (0, 600)]);
        assert_eq!(silence(2, 1), [(1, 0), (0, 200), (1, 600)]);
        assert_eq!(silence(5, 4), [(4, 0), (0, 200), (1, 600)]);
    }

    #[test]
    fn dn_05_who_refuses_is_passed_over_and_not_asked_again() {
        let mut sends = Sends::new(3, 0, PATIENCE);
        let early = Duration::from_millis(1);
        assert_eq!(sends.due(Duration::ZERO), Some(0));
        assert_eq!(sends.due(early), None);
        sends.on_refusal(0);
        assert_eq!(sends.due(early), Some(1));
        assert_eq!(sends.due(early), None);
        sends.on_error(1);
        assert_eq!(sends.due(early), Some(2));
        // All have failed. Only the one that could not be reached gets another chance, in time.
        sends.on_refusal(2);
        assert_eq!(sends.due(early), None);
        let later = Duration::from_millis(200);
        assert_eq!(sends.next(), Some((1, later)));
        assert_eq!(sends.due(later), Some(1));
        sends.on_refusal(1);
        assert_eq!(sends.next(), None);
    }

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
        let request = Request::new(&ask()).unwrap();
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
        let request = Request::new(&ask()).unwrap();
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
