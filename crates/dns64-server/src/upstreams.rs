//! Sends a query to the upstream resolvers in turn, and again, until one answers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use dns64::{Ask, EdnsSupport, Sent, refuses_opt};
use hickory_proto::op::{Message, ResponseCode};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, warn};
use xlat_tun::now;

use crate::Trust;
use crate::config::Upstream;
use crate::exchange::{self, ExchangeError, Request};
use crate::status::Resolvers;
#[cfg(feature = "tls")]
use crate::tls::Tls;
#[cfg(not(feature = "tls"))]
use crate::without_tls::Tls;

/// Times of the sends, as fractions of the time that the query may take.
const SENDS: [f64; 3] = [0.0, 1.0 / 6.0, 0.5];
/// Maximum number of sockets that one query uses at the same time.
/// The last send goes over UDP and TCP.
pub(crate) const SOCKETS: u64 = SENDS.len() as u64 + 1;
/// How long a resolver that answered over TCP alone is asked over TCP first.
const TCP_FIRST: Duration = Duration::from_secs(900);
/// A resolver that answered over UDP this lately answers over it: what was late was lost.
const LATELY: Duration = Duration::from_secs(10);

/// Whether a resolver is asked over UDP or TCP first.
#[derive(Debug, Clone, Default)]
struct Preferred {
    tcp_until: Option<Instant>,
    udp_answered: Option<Instant>,
}

impl Preferred {
    fn is_tcp(&self, now: Instant) -> bool {
        self.tcp_until.is_some_and(|until| now < until)
    }

    /// Whether from now on TCP comes first, and did not before.
    fn learn(&mut self, over: Over, now: Instant) -> bool {
        match over {
            Over::Udp => {
                (self.tcp_until, self.udp_answered) = (None, Some(now));
                false
            }
            Over::Tcp if self.udp_answered.is_some_and(|at| now < at + LATELY) => false,
            Over::Tcp => self.tcp_until.replace(now + TCP_FIRST).is_none(),
        }
    }
}

/// The upstream resolvers.
pub(crate) struct Upstreams {
    servers: Vec<Upstream>,
    tls: Option<Rc<Tls>>,
    edns: RefCell<Vec<EdnsSupport>>,
    /// For each, how it is asked first.
    preferred: RefCell<Vec<Preferred>>,
    status: Resolvers,
    /// Index of the resolver that answered last.
    good: Cell<usize>,
}

impl Upstreams {
    /// Resolvers over TLS are authenticated by the certificates of `trust`.
    pub(crate) fn new(servers: Vec<Upstream>, trust: Option<&Trust>, status: Resolvers) -> Self {
        for server in &servers {
            if let Err(error) = server.target() {
                warn!("the resolver {server} is asked when its interface is there: {error}");
            }
        }
        Self {
            edns: RefCell::new(vec![EdnsSupport::default(); servers.len()]),
            preferred: RefCell::new(vec![Preferred::default(); servers.len()]),
            servers,
            status,
            tls: trust.map(|trust| Rc::new(Tls::new(trust))),
            good: Cell::new(0),
        }
    }

    /// The first good answer within `patience`, or else a failure that a resolver reported; `None`
    /// if none answered.
    pub(crate) async fn ask(&self, ask: &Ask, patience: Duration) -> Option<Message> {
        if self.servers.is_empty() {
            return None;
        }
        let begin = Instant::now();
        let mut sends = Sends::new(self.servers.len(), self.good.get(), patience);
        let mut under_way = JoinSet::new();
        let mut refusal = None;
        loop {
            if let Some(number) = sends.due(begin.elapsed()) {
                for over in self.ways(number, &sends) {
                    // Silence over UDP says nothing about EDNS over TCP.
                    let unanswered = match over {
                        Over::Udp => sends.unanswered[number],
                        Over::Tcp => 0,
                    };
                    let edns = &self.edns.borrow()[number];
                    let has_opt = edns.wants_opt(unanswered, ask.dnssec_ok, now());
                    let (server, tls) = (self.servers[number].clone(), self.tls.clone());
                    let ask = ask.clone();
                    under_way.spawn_local(async move {
                        let answer = exchange(&server, tls.as_deref(), over, &ask, has_opt).await;
                        (number, over, answer)
                    });
                }
                sends.unanswered[number] += 1;
            }
            let next = sends.next().map(|(_, at)| at);
            let until = begin + next.unwrap_or(patience).min(patience);
            match timeout_at(until, under_way.join_next()).await {
                Ok(Some(Ok((number, over, Ok((sent, answer)))))) => {
                    self.status.set_answers(&self.servers[number], true);
                    self.prefer(number, over);
                    self.learn(number, sent, &answer);
                    if is_answer(&answer) {
                        self.good.set(number);
                        return Some(answer);
                    }
                    let code = answer.metadata.response_code;
                    debug!("{} says {code}", self.servers[number]);
                    refusal = Some(answer);
                    sends.on_refusal(number);
                }
                Ok(Some(Ok((number, _, Err(error))))) => {
                    debug!("{}: {error}", self.servers[number]);
                    sends.on_error(number);
                }
                Ok(Some(Err(_))) => {}
                // No query is pending and none will be sent.
                Ok(None) if next.is_none() => return refusal,
                Ok(None) => sleep_until(until).await,
                Err(_) if begin.elapsed() >= patience => return refusal,
                Err(_) => {}
            }
        }
    }

    /// How to send to a server: where UDP has met silence the last send goes over TCP as well (RFC
    /// 7766 section 5).
    fn ways(&self, number: usize, sends: &Sends) -> Vec<Over> {
        let is_known = self.preferred.borrow()[number].is_tcp(Instant::now());
        let is_last = sends.made == SENDS.len() && sends.unanswered[number] > 0;
        match (is_known, is_last && self.servers[number].tls.is_none()) {
            // UDP gets another chance where TCP fails.
            (true, false) if sends.unanswered[number] == 0 => vec![Over::Tcp],
            (true, _) | (false, true) => vec![Over::Udp, Over::Tcp],
            (false, false) => vec![Over::Udp],
        }
    }

    /// Learns from an answer how to ask this server first.
    fn prefer(&self, number: usize, over: Over) {
        if self.preferred.borrow_mut()[number].learn(over, Instant::now()) {
            let server = &self.servers[number];
            warn!("the resolver {server} answers over TCP alone: asked over TCP first");
        }
    }

    fn learn(&self, number: usize, sent: Sent, answer: &Message) {
        let one = &mut self.edns.borrow_mut()[number];
        let was_absent = one.is_absent();
        let is_news = one.learn(sent, answer, now());
        let server = &self.servers[number];
        if one.is_absent() != was_absent {
            self.status.set_edns(server, was_absent);
        }
        if is_news {
            warn!("the resolver {server} has no EDNS: asked without it, and so not for signatures");
        }
    }
}

/// What a query to a resolver without TLS is sent over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// And again over TCP if the answer was truncated.
    Udp,
    Tcp,
}

/// True if the response code is about the name, not about the resolver.
fn is_answer(message: &Message) -> bool {
    matches!(
        message.metadata.response_code,
        ResponseCode::NoError | ResponseCode::NXDomain | ResponseCode::YXDomain
    )
}

/// The schedule of sends: three times in the time that the query may take, to the servers in turn.
/// A server that refuses is not used again, and one that has not failed yet replaces it at once.
#[derive(Debug)]
struct Sends {
    patience: Duration,
    /// Index of the next server.
    turn: usize,
    /// Number of scheduled sends made.
    made: usize,
    is_hurried: bool,
    has_refused: Vec<bool>,
    has_failed: Vec<bool>,
    /// Number of sends to each server.
    unanswered: Vec<usize>,
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
            unanswered: vec![0; servers],
        }
    }

    /// The next server, and the time of the send.
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

    /// The server to send to now, if a send is due.
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

/// One query to one server. If it may not understand the OPT record, the same without.
async fn exchange(
    server: &Upstream,
    tls: Option<&Tls>,
    over: Over,
    ask: &Ask,
    has_opt: bool,
) -> Result<(Sent, Message), ExchangeError> {
    let answer = send(server, tls, over, &Request::new(ask, has_opt)?).await?;
    if !has_opt {
        return Ok((Sent::Without, answer));
    }
    if refuses_opt(&answer)
        && let Ok(plain) = send(server, tls, over, &Request::new(ask, false)?).await
    {
        return Ok((Sent::AfterRefusal, plain));
    }
    Ok((Sent::WithOpt, answer))
}

async fn send(
    server: &Upstream,
    tls: Option<&Tls>,
    over: Over,
    request: &Request,
) -> Result<Message, ExchangeError> {
    let target = server.target()?;
    if let (Some(name), Some(tls)) = (&server.tls, tls) {
        return tls.exchange(target, name, request).await;
    }
    // A resolver over TLS is never queried without it.
    if server.tls.is_some() {
        return Err(ExchangeError::NoTls);
    }
    match over {
        Over::Udp => exchange::over_udp_or_tcp(target, request).await,
        Over::Tcp => exchange::over_tcp(target, request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn dn_05_one_lost_answer_does_not_mean_that_udp_is_blocked() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut preferred = Preferred::default();
        assert!(!preferred.learn(Over::Udp, at(0)));
        assert!(!preferred.learn(Over::Tcp, at(9)) && !preferred.is_tcp(at(9)));
        assert!(preferred.learn(Over::Tcp, at(10)) && preferred.is_tcp(at(10)));
        assert!(!preferred.learn(Over::Tcp, at(11)), "said once");
        assert!(!preferred.learn(Over::Udp, at(12)) && !preferred.is_tcp(at(12)));
    }

    #[test]
    fn dn_05_who_never_answered_over_udp_is_asked_over_tcp_at_once() {
        let now = Instant::now();
        let mut preferred = Preferred::default();
        assert!(preferred.learn(Over::Tcp, now) && preferred.is_tcp(now));
        assert!(!preferred.is_tcp(now + TCP_FIRST));
    }
}
