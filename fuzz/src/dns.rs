//! The DNS64: a client's query and what comes back from upstream.

use std::net::Ipv6Addr;

use dns64::{
    Age, Answer, Asked, Cache, Lookup, Next, Question, Rules, encode, payload_limit, read,
};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{DNSClass, RData, RecordType};
use xlat_core::Instant;
use xlat_core::addr::Pref64;

/// Questions upstream that a lookup takes at most.
const QUESTIONS_MAX: usize = 3;

/// Messages, each behind its length in two bytes: a query first, then the answers from upstream.
/// What cannot be read or is not there is silence.
///
/// # Panics
/// If a lookup goes on for ever, shows an address that it must not, or says more than its client has
/// room for.
pub fn dns64(data: &[u8]) {
    let mut messages = Messages(data);
    let Some(request) = messages.next().flatten() else {
        return;
    };
    let question = match Question::of(&request) {
        Ok(question) => question,
        Err(code) => return check(&Answer::empty(code), &request),
    };
    let rules = Rules::new(vec![Pref64::WELL_KNOWN]);
    let (mut lookup, mut next) = Lookup::start(&rules, &question);
    for asked in 0.. {
        match next {
            Next::Ask(_) => {
                assert!(asked < QUESTIONS_MAX, "it asks for ever");
                next = lookup.on_reply(&rules, messages.next().flatten());
            }
            Next::Done(answer) => return finish(answer, &question, &request),
        }
    }
}

fn finish(answer: Answer, question: &Question, request: &Message) {
    check(&answer, request);
    let mut cache = Cache::new(4);
    cache.keep(question, &answer, Instant::from_secs(1));
    assert!(cache.len() <= 1);
    let (Some(key), Some(asked)) = (question.key(), Asked::of(request)) else {
        return;
    };
    if let Some(found) = cache.find(&key, Instant::from_secs(100)) {
        assert_eq!(found.age(), Age::Fresh(99));
        for limit in [payload_limit(request), usize::from(u16::MAX)] {
            let mut bytes = Vec::new();
            assert!(found.write(&asked, limit, &mut bytes), "another question");
            assert!(bytes.len() <= limit, "{} of {limit} bytes", bytes.len());
            let kept = read(&bytes).expect("an answer that can be read");
            let fresh = encode(&answer.to(request, 99), limit).expect("it was kept");
            let fresh = read(&fresh).expect("an answer that can be read");
            assert_eq!(kept.queries, fresh.queries);
            // Names may be shorter in what is kept.
            if !fresh.metadata.truncation {
                assert_eq!(kept.metadata, fresh.metadata);
                assert_eq!(kept.answers, fresh.answers);
            }
        }
    }
}

/// What the client is told.
fn check(answer: &Answer, request: &Message) {
    let reply = answer.to(request, 7);
    for limit in [payload_limit(request), usize::from(u16::MAX)] {
        let Some(bytes) = encode(&reply, limit) else {
            continue;
        };
        assert!(bytes.len() <= limit, "{} of {limit} bytes", bytes.len());
        assert_eq!(bytes[..2], request.metadata.id.to_be_bytes());
        assert!(bytes[2] & 0x80 != 0, "no answer");
        assert!(read(&bytes).is_ok(), "an answer that cannot be read");
    }
    let edns = request.edns.as_ref();
    let validates =
        request.metadata.checking_disabled && edns.is_some_and(|edns| edns.flags().dnssec_ok);
    let is_ours =
        |query: &Query| (query.query_type, query.query_class) == (RecordType::AAAA, DNSClass::IN);
    if validates || !request.queries.iter().any(is_ours) {
        return;
    }
    for record in &reply.answers {
        if let RData::AAAA(address) = &record.data {
            let is_mapped = Ipv6Addr::to_ipv4_mapped(&address.0).is_some();
            assert!(!is_mapped, "an excluded address is shown");
        }
    }
}

/// The messages in some bytes; `None` for one that cannot be read.
struct Messages<'a>(&'a [u8]);

impl Iterator for Messages<'_> {
    type Item = Option<Message>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        self.0 = rest;
        Some(read(bytes).ok())
    }
}
