//! Answers that still hold.
//!
//! What is kept is what clients were told, by question: a synthetic address is never taken for a
//! real one, because nothing but an answer is made of it. Memory is bounded by a number of answers;
//! when it is full, those that end first make room.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::RData;
use xlat_core::Instant;

/// What an answer answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The name in lower case, type and class.
    question: Query,
    wants_signatures: bool,
    checks_itself: bool,
}

/// Answers by their questions.
#[derive(Debug)]
pub struct Cache {
    answers: HashMap<Key, Kept>,
    ends: BTreeSet<(Instant, u64)>,
    keys: HashMap<u64, Key>,
    next: u64,
    size: usize,
}

#[derive(Debug)]
struct Kept {
    reply: Message,
    since: Instant,
    until: Instant,
    number: u64,
}

impl Key {
    /// The key of a query; `None` for what is never kept.
    pub fn of(request: &Message) -> Option<Self> {
        let query = request.queries.first()?;
        let edns = request.edns.as_ref();
        let mut question = query.clone();
        question.name = query.name.to_lowercase();
        Some(Self {
            question,
            wants_signatures: edns.is_some_and(|edns| edns.flags().dnssec_ok),
            checks_itself: request.metadata.checking_disabled,
        })
    }
}

impl Cache {
    /// Room for so many answers.
    pub fn new(size: usize) -> Self {
        Self {
            answers: HashMap::new(),
            ends: BTreeSet::new(),
            keys: HashMap::new(),
            next: 0,
            size: size.max(1),
        }
    }

    /// The answer to `request`, if there is one that holds, with what is left of its lifetimes.
    pub fn find(&self, key: &Key, request: &Message, now: Instant) -> Option<Message> {
        let kept = self.answers.get(key)?;
        if kept.until <= now {
            return None;
        }
        let age = now.saturating_since(kept.since).as_secs() as u32;
        let mut reply = kept.reply.clone();
        reply.metadata.id = request.metadata.id;
        reply.metadata.recursion_desired = request.metadata.recursion_desired;
        // The name as this client has spelled it.
        reply.queries.clone_from(&request.queries);
        if request.edns.is_none() {
            reply.edns = None;
        } else if reply.edns.is_none() {
            reply.edns = crate::reply::answer_to(request, ResponseCode::NoError).edns;
        }
        let records = reply
            .answers
            .iter_mut()
            .chain(&mut reply.authorities)
            .chain(&mut reply.additionals);
        for record in records {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(reply)
    }

    /// Keeps an answer for as long as it holds.
    pub fn keep(&mut self, key: Key, reply: &Message, now: Instant) {
        let Some(lifetime) = lifetime(reply) else {
            return;
        };
        self.expire(now);
        while self.answers.len() >= self.size {
            let Some((_, number)) = self.ends.pop_first() else {
                return;
            };
            self.forget(number);
        }
        let until = now + Duration::from_secs(lifetime.into());
        let number = self.next;
        self.next += 1;
        let kept = Kept {
            reply: reply.clone(),
            since: now,
            until,
            number,
        };
        if let Some(before) = self.answers.insert(key.clone(), kept) {
            self.ends.remove(&(before.until, before.number));
            self.keys.remove(&before.number);
        }
        self.ends.insert((until, number));
        self.keys.insert(number, key);
    }

    /// Answers that are kept.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// True if nothing is kept.
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
        if let Some(key) = self.keys.remove(&number) {
            self.answers.remove(&key);
        }
    }
}

/// How long an answer holds, in seconds: the least of its records' lifetimes; for one without
/// records what the SOA says (RFC 2308). `None` for what is not kept.
fn lifetime(reply: &Message) -> Option<u32> {
    let code = reply.metadata.response_code;
    let is_known = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
    if !is_known || reply.metadata.truncation {
        return None;
    }
    let positive = reply.answers.iter().map(|record| record.ttl).min();
    let soa = reply
        .authorities
        .iter()
        .filter_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        });
    let lifetime = positive.into_iter().chain(soa).min()?;
    (lifetime > 0).then_some(lifetime.min(LIFETIME_MAX))
}

/// Nothing is believed for longer (RFC 8767 section 4), in seconds.
const LIFETIME_MAX: u32 = 86_400;
