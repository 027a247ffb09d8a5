//! A cache of answers to clients, by question.
//!
//! Synthetic addresses in it only go to clients and are never input to a synthesis. The number of
//! answers and their bytes are bounded; a full cache evicts the answers that would go first. Whoever
//! reads needs no more than a shared reference, so several threads can.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use portable_atomic::{AtomicBool, AtomicU64, Ordering};
use xlat_core::Instant;

use crate::answer::Answer;
use crate::asked::{Asked, Key};
use crate::encoded::{Age, Encoded};
use crate::question::Question;

/// Average size of an answer in bytes for which the byte limit is computed.
const BYTES_EACH: usize = 2048;
/// What the maps and the heap take for an answer besides its bytes: an entry of each with the room that
/// they leave free, and what the allocator adds to each of four pieces.
const OVERHEAD: usize = 2 * size_of::<Kept>() + 160;

/// Answers by question.
#[derive(Debug)]
pub struct Cache {
    answers: HashMap<Arc<[u8]>, Kept>,
    /// By the time when they go.
    ends: BTreeMap<(Instant, u64), Arc<[u8]>>,
    next: u64,
    size: usize,
    bytes: usize,
    /// How long answers stay behind their lifetime.
    stale: Duration,
    prefetches: bool,
}

#[derive(Debug)]
struct Kept {
    answer: Encoded,
    since: Instant,
    until: Instant,
    number: u64,
    bytes: usize,
    /// The first client towards its end has been noticed.
    is_noticed: AtomicBool,
    /// Until when nobody is asked again, in nanoseconds.
    rests: AtomicU64,
}

/// An answer that was found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    kept: &'a Kept,
    age: Age,
    wants_refresh: bool,
    rests: bool,
}

impl Found<'_> {
    /// Writes the message to a client, of at most `limit` bytes.
    pub fn write(&self, asked: &Asked<'_>, limit: usize, out: &mut Vec<u8>) -> bool {
        self.kept.answer.write(asked, self.age, limit, out)
    }

    /// True if it has synthetic IPv6 addresses.
    pub fn is_made(&self) -> bool {
        self.kept.answer.is_made
    }

    /// How old it is.
    pub fn age(&self) -> Age {
        self.age
    }

    /// True if it is the answer without asking anybody: it is fresh, or resolvers have failed just now.
    pub fn is_final(&self) -> bool {
        self.age != Age::Stale || self.rests
    }

    /// True if it is asked for towards its end, for the first time: time to ask again.
    pub fn wants_refresh(&self) -> bool {
        self.wants_refresh
    }
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
            ends: BTreeMap::new(),
            next: 0,
            size: size.max(1),
            bytes: 0,
            stale: Duration::ZERO,
            prefetches: false,
        }
    }

    /// Keeps answers for so long behind their lifetime (RFC 8767).
    #[must_use]
    pub fn with_stale(self, stale: Duration) -> Self {
        Self { stale, ..self }
    }

    /// Tells of answers that are asked for in the last tenth of their lifetime.
    #[must_use]
    pub fn with_prefetch(self, prefetches: bool) -> Self {
        Self { prefetches, ..self }
    }

    /// The answer to a question.
    pub fn find(&self, key: &Key, now: Instant) -> Option<Found<'_>> {
        let kept = self.answers.get(key.as_bytes())?;
        if kept.until <= now {
            return (now < kept.until + self.stale).then(|| Found {
                kept,
                age: Age::Stale,
                wants_refresh: false,
                rests: now.as_nanos() < kept.rests.load(Ordering::Relaxed),
            });
        }
        let age = now.saturating_since(kept.since);
        let left = kept.until.saturating_since(now);
        let is_late = self.prefetches && left * 9 <= age;
        Some(Found {
            kept,
            age: Age::Fresh(age.as_secs() as u32),
            wants_refresh: is_late && !kept.is_noticed.swap(true, Ordering::Relaxed),
            rests: false,
        })
    }

    /// Resolvers have not answered a question: a stale answer is final for a while (RFC 8767 section 5).
    pub fn rest(&self, key: &Key, now: Instant) {
        if let Some(kept) = self.answers.get(key.as_bytes()) {
            let until = (now + REST).as_nanos();
            kept.rests.store(until, Ordering::Relaxed);
        }
    }

    /// Stores an answer until it expires.
    pub fn keep(&mut self, question: &Question, answer: &Answer, now: Instant) {
        let (Some(lifetime), Some(key)) = (lifetime(question, answer), question.key()) else {
            return;
        };
        let Some(answer) = Encoded::new(question, answer) else {
            return;
        };
        let key: Arc<[u8]> = key.as_bytes().into();
        let bytes = key.len() + answer.heap() + OVERHEAD;
        self.expire(now);
        if let Some(before) = self.answers.remove(&key) {
            self.bytes -= before.bytes;
            self.ends.remove(&self.end(&before));
        }
        let most = self.size.saturating_mul(BYTES_EACH);
        if bytes > most {
            return;
        }
        while self.answers.len() >= self.size || self.bytes + bytes > most {
            if !self.forget_first() {
                return;
            }
        }
        let kept = Kept {
            answer,
            since: now,
            until: now + Duration::from_secs(lifetime.into()),
            number: self.next,
            bytes,
            is_noticed: AtomicBool::new(false),
            rests: AtomicU64::new(0),
        };
        self.next += 1;
        self.bytes += bytes;
        self.ends.insert(self.end(&kept), Arc::clone(&key));
        self.answers.insert(key, kept);
    }

    /// Number of answers.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// True if there are no answers.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    fn end(&self, kept: &Kept) -> (Instant, u64) {
        (kept.until + self.stale, kept.number)
    }

    fn expire(&mut self, now: Instant) {
        while self
            .ends
            .first_key_value()
            .is_some_and(|((end, _), _)| *end <= now)
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) -> bool {
        let Some((_, key)) = self.ends.pop_first() else {
            return false;
        };
        if let Some(kept) = self.answers.remove(&key) {
            self.bytes -= kept.bytes;
        }
        true
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
/// How long resolvers that have not answered a question are not asked it again.
const REST: Duration = Duration::from_secs(30);
