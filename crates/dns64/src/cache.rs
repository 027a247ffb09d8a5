//! A cache of answers to clients, by question.
//!
//! Synthetic addresses in it only go to clients and are never input to a synthesis. The number of
//! answers and their bytes are bounded; a full cache evicts the answers that expire first.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use xlat_core::Instant;

use crate::answer::Answer;
use crate::question::Question;

/// Average size of an answer in bytes for which the byte limit is computed.
const BYTES_EACH: usize = 2048;

/// Answers by question.
#[derive(Debug)]
pub struct Cache {
    answers: HashMap<Question, Kept>,
    ends: BTreeSet<(Instant, u64)>,
    questions: HashMap<u64, Question>,
    next: u64,
    size: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    answer: Rc<Answer>,
    since: Instant,
    until: Instant,
    number: u64,
    bytes: usize,
}

impl Cache {
    /// A cache for at most this number of answers.
    #[expect(
        clippy::disallowed_methods,
        reason = "clients choose the names, so they must not know the hasher; its order shows nowhere"
    )]
    pub fn new(size: usize) -> Self {
        Self {
            answers: HashMap::new(),
            ends: BTreeSet::new(),
            questions: HashMap::new(),
            next: 0,
            size: size.max(1),
            bytes: 0,
        }
    }

    /// The unexpired answer to a question, and its age in seconds.
    pub fn find(&self, question: &Question, now: Instant) -> Option<(&Answer, u32)> {
        let kept = self.answers.get(question)?;
        if kept.until <= now {
            return None;
        }
        let age = now.saturating_since(kept.since).as_secs() as u32;
        Some((&kept.answer, age))
    }

    /// Stores an answer until it expires.
    pub fn keep(&mut self, question: &Question, answer: &Rc<Answer>, now: Instant) {
        let (Some(lifetime), Some(bytes)) = (lifetime(question, answer), answer.weight(question))
        else {
            return;
        };
        self.expire(now);
        if let Some(before) = self.answers.get(question) {
            let (until, number) = (before.until, before.number);
            self.ends.remove(&(until, number));
            self.forget(number);
        }
        let most = self.size.saturating_mul(BYTES_EACH);
        if bytes > most {
            return;
        }
        while self.answers.len() >= self.size || self.bytes + bytes > most {
            let Some((_, number)) = self.ends.pop_first() else {
                return;
            };
            self.forget(number);
        }
        let until = now + Duration::from_secs(lifetime.into());
        let number = self.next;
        self.next += 1;
        let kept = Kept {
            answer: Rc::clone(answer),
            since: now,
            until,
            number,
            bytes,
        };
        self.bytes += bytes;
        self.answers.insert(question.clone(), kept);
        self.ends.insert((until, number));
        self.questions.insert(number, question.clone());
    }

    /// Number of answers.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// True if there are no answers.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    fn expire(&mut self, now: Instant) {
        while let Some((until, number)) = self.ends.first().copied()
            && until <= now
        {
            self.ends.pop_first();
            self.forget(number);
        }
    }

    fn forget(&mut self, number: u64) {
        if let Some(question) = self.questions.remove(&number)
            && let Some(kept) = self.answers.remove(&question)
        {
            self.bytes -= kept.bytes;
        }
    }
}

/// Lifetime of an answer in seconds: the least of its records' lifetimes, or that of a negative
/// answer's SOA record (RFC 2308 section 5). `None` if the answer is not cached.
fn lifetime(question: &Question, answer: &Answer) -> Option<u32> {
    if !matches!(answer.code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return None;
    }
    let soa = answer
        .authorities
        .iter()
        .filter_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        })
        .min();
    let kind = question.query.query_type;
    let is_found = answer
        .answers
        .iter()
        .any(|record| record.record_type() == kind || kind == RecordType::ANY);
    if !is_found && soa.is_none() {
        return None;
    }
    let records = answer.answers.iter().map(|record| record.ttl);
    let longest = if answer.is_unsure {
        UNSURE_MAX
    } else {
        LIFETIME_MAX
    };
    let lifetime = records.chain(soa).min()?.min(longest);
    (lifetime > 0).then_some(lifetime)
}

/// Maximum lifetime (RFC 8767 section 4), in seconds.
const LIFETIME_MAX: u32 = 86_400;
/// Maximum lifetime in seconds if an upstream resolver did not answer: the name may have IPv6
/// addresses after all.
const UNSURE_MAX: u32 = 5;
