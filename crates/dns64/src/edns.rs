//! Resolvers without EDNS: asked again without an OPT record, and remembered (RFC 6891 section
//! 6.2.2).

use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use xlat_core::Instant;

/// How long what is known about a resolver holds. Then it is tried with EDNS again.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// Number of queries in a row that must be answered without EDNS and not with it. One may be the
/// loss of a datagram or, where EDNS has worked, a failure of another kind.
const SILENT_MIN: u8 = 2;

/// What is known about the support of EDNS by one resolver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdnsSupport {
    state: State,
    /// Number of queries in a row that were answered only without EDNS.
    silent: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Unknown,
    /// Answers queries with an OPT record.
    Present { until: Instant },
    /// Answers only queries without.
    Absent { until: Instant },
}

/// A query that was sent to a resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// With an OPT record.
    WithOpt,
    /// Without one, after the resolver refused the same with it.
    AfterRefusal,
    /// Without one, because the same with it is unanswered, or from memory.
    Without,
}

impl EdnsSupport {
    /// True if the next query has an OPT record. `unanswered` is the number of times that the same
    /// has been sent in vain. One for signatures is never sent without by guess: the answer would
    /// look forged to a client that validates.
    pub fn wants_opt(&self, unanswered: usize, dnssec_ok: bool, now: Instant) -> bool {
        match self.state {
            State::Absent { until } if now < until => false,
            State::Present { until } if now < until => true,
            _ => unanswered == 0 || dnssec_ok,
        }
    }

    /// True if it was found to have none, and not to have it since.
    pub fn is_absent(&self) -> bool {
        matches!(self.state, State::Absent { .. })
    }

    /// Learns from an answer. True if the resolver turns out to have no EDNS.
    pub fn learn(&mut self, sent: Sent, answer: &Message, now: Instant) -> bool {
        let until = now + MEMORY;
        if sent == Sent::WithOpt && !refuses_opt(answer) || answer.edns.is_some() {
            self.state = State::Present { until };
            self.silent = 0;
            return false;
        }
        let is_refused_anyway = refuses_opt(answer);
        let is_remembered = matches!(self.state, State::Absent { until } if now < until);
        if sent == Sent::WithOpt || is_refused_anyway || is_remembered {
            return false;
        }
        let is_known = matches!(self.state, State::Present { until } if now < until);
        self.silent = match sent {
            Sent::AfterRefusal if !is_known => SILENT_MIN,
            _ => self.silent.saturating_add(1),
        };
        if self.silent < SILENT_MIN {
            return false;
        }
        let is_news = !self.is_absent();
        self.state = State::Absent { until };
        is_news
    }
}

/// True if the answer may mean that the resolver does not understand an OPT record (RFC 6891
/// section 7).
pub fn refuses_opt(answer: &Message) -> bool {
    use ResponseCode as C;
    matches!(
        answer.metadata.response_code,
        C::FormErr | C::NotImp | C::BADVERS
    )
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Edns, MessageType, OpCode};

    use super::*;

    fn answer(code: ResponseCode, has_opt: bool) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        if has_opt {
            message.set_edns(Edns::new());
        }
        message
    }

    const START: Instant = Instant::from_secs(1000);

    #[test]
    fn fp_06_a_resolver_that_refuses_edns_is_asked_without_for_a_quarter_of_an_hour() {
        let mut one = EdnsSupport::default();
        assert!(one.wants_opt(0, true, START));
        let good = answer(ResponseCode::NXDomain, false);
        assert!(one.learn(Sent::AfterRefusal, &good, START));
        let almost = Instant::from_secs(1899);
        assert!(!one.wants_opt(0, true, START) && !one.wants_opt(3, false, almost));
        // Then once with EDNS; the same finding is no news.
        let later = Instant::from_secs(1900);
        assert!(one.wants_opt(0, false, later));
        assert!(!one.learn(Sent::AfterRefusal, &good, later));
        assert!(!one.wants_opt(0, false, later));
        // Or it has learned.
        let later = Instant::from_secs(2800);
        one.learn(Sent::WithOpt, &answer(ResponseCode::NoError, true), later);
        assert!(one.wants_opt(2, false, later));
    }

    #[test]
    fn fp_06_a_refusal_without_edns_too_says_nothing_about_it() {
        let mut one = EdnsSupport::default();
        for code in [ResponseCode::FormErr, ResponseCode::NotImp] {
            assert!(refuses_opt(&answer(code, false)));
            assert!(!one.learn(Sent::AfterRefusal, &answer(code, false), START));
            assert!(!one.learn(Sent::WithOpt, &answer(code, false), START));
        }
        assert_eq!(one, EdnsSupport::default());
        assert!(!refuses_opt(&answer(ResponseCode::ServFail, false)));
    }

    /// Else one strange answer would cost all clients their signatures.
    #[test]
    fn fp_06_a_resolver_whose_edns_has_worked_must_refuse_it_twice_in_a_row() {
        let mut one = EdnsSupport::default();
        let (good, plain) = (
            answer(ResponseCode::NoError, true),
            answer(ResponseCode::NoError, false),
        );
        for _ in 0..5 {
            one.learn(Sent::WithOpt, &good, START);
            assert!(!one.learn(Sent::AfterRefusal, &plain, START));
            assert!(one.wants_opt(0, true, START));
        }
        assert!(one.learn(Sent::AfterRefusal, &plain, START));
        assert!(!one.wants_opt(0, true, START));
    }

    #[test]
    fn fp_06_one_lost_datagram_is_no_lack_of_edns() {
        let mut one = EdnsSupport::default();
        let plain = answer(ResponseCode::NoError, false);
        assert!(!one.wants_opt(1, false, START) && one.wants_opt(1, true, START));
        assert!(!one.learn(Sent::Without, &plain, START));
        assert!(one.wants_opt(0, false, START));
        let mut other = one;
        assert!(other.learn(Sent::Without, &plain, START));
        assert!(!other.wants_opt(0, true, START));
        // An answer to a query with an OPT record ends the suspicion, even if it has none itself.
        one.learn(Sent::WithOpt, &plain, START);
        assert!(one.wants_opt(2, false, START));
        assert!(!one.learn(Sent::Without, &plain, START));
        // A resolver that stops to answer those is found out when that is forgotten.
        let later = Instant::from_secs(1900);
        assert!(!one.wants_opt(1, false, later));
    }
}
