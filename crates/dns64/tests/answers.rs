//! Answers: what each client is told, in how many bytes, and how long they are kept.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use dns64::{Age, Answer, Asked, Cache, Key, Question, Rules, encode, payload_limit, read};
use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::{Record, RecordType};
use support::{a, aaaa, ask, look_up, reply, rules, run};
use xlat_core::Instant;

use ResponseCode::{NoError, ServFail};

#[test]
fn dn_22_an_answer_that_is_too_long_says_so() {
    let mut request = ask("x.example.", RecordType::AAAA);
    assert_eq!(payload_limit(&request), 512);
    let many: Vec<Record> = (0..40)
        .map(|last| a("x.example.", 60, [198, 51, 100, last]))
        .collect();
    let script = || {
        vec![
            (RecordType::AAAA, reply(NoError, vec![], None)),
            (RecordType::A, reply(NoError, many.clone(), None)),
        ]
    };
    let answer = run(&rules(), request.clone(), script());
    let short = encode(&answer, payload_limit(&request)).unwrap();
    assert!(short.len() <= 512 && short[2] & 2 != 0);
    let whole = encode(&answer, 65_535).unwrap();
    assert!(whole.len() > 40 * 28 && whole[2] & 2 == 0);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    request.set_edns(edns);
    assert_eq!(payload_limit(&request), 1232);
}

/// More than a message has room for: no addresses are better than half of them without a word.
#[test]
fn dn_22_addresses_that_no_message_has_room_for_are_not_cut() {
    let many: Vec<Record> = (0..4000_u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            a("x.example.", 60, [198, 51, high, low])
        })
        .collect();
    let script = vec![
        (RecordType::AAAA, reply(NoError, vec![], None)),
        (RecordType::A, reply(NoError, many, None)),
    ];
    let answer = run(&rules(), ask("x.example.", RecordType::AAAA), script);
    let bytes = encode(&answer, 65_535).unwrap();
    assert!(bytes.len() <= 65_535 && bytes[2] & 2 != 0);
}

fn question(request: &Message) -> Question {
    Question::of(request).unwrap()
}

fn key(request: &Message) -> Key {
    question(request).key().unwrap()
}

/// What the cache tells a client, and how old it is.
fn told(cache: &Cache, request: &Message, now: Instant) -> Option<(Message, Age)> {
    let found = cache.find(&key(request), now)?;
    let mut bytes = Vec::new();
    let asked = Asked::of(request).unwrap();
    assert!(found.write(&asked, payload_limit(request), &mut bytes));
    Some((read(&bytes).unwrap(), found.age()))
}

fn known(rules: &Rules, request: &Message, answers: Vec<Record>) -> Answer {
    let kind = request.queries[0].query_type;
    let script = vec![(kind, reply(NoError, answers, None))];
    look_up(rules, &question(request), script)
}

#[test]
fn dn_32_the_cache_counts_down_and_forgets() {
    let mut cache = Cache::new(2);
    let now = Instant::from_secs(1000);
    let later = |seconds: u64| Instant::from_secs(1000 + seconds);
    let request = ask("X.example.", RecordType::AAAA);
    let own = vec![aaaa("x.example.", 60, "2001:db8::1")];
    let answer = known(&rules(), &request, own);
    cache.keep(&question(&request), &answer, now);
    let lower = ask("x.example.", RecordType::AAAA);
    let (message, age) = told(&cache, &lower, later(59)).unwrap();
    assert_eq!((message.answers[0].ttl, message.metadata.id), (1, 77));
    assert_eq!(age, Age::Fresh(59));
    assert!(told(&cache, &request, later(60)).is_none());
    for other in ["a.", "b.", "c."] {
        let request = ask(other, RecordType::A);
        let answer = known(&rules(), &request, vec![a(other, 60, [198, 51, 100, 1])]);
        cache.keep(&question(&request), &answer, now);
        assert!(cache.len() <= 2);
        assert!(cache.find(&key(&request), now).is_some());
    }
    let request = ask("d.", RecordType::A);
    for nothing in [
        Answer::empty(ServFail),
        // Nobody says how long there is nothing.
        Answer::empty(NoError),
    ] {
        cache.keep(&question(&request), &nothing, now);
        assert!(cache.find(&key(&request), now).is_none());
    }
}

#[test]
fn dn_05_what_rests_on_silence_is_hardly_kept() {
    let v4 = reply(NoError, vec![a("x.example.", 600, [198, 51, 100, 1])], None);
    let request = ask("x.example.", RecordType::AAAA);
    let script = vec![(RecordType::AAAA, None), (RecordType::A, v4)];
    let answer = look_up(&rules(), &question(&request), script);
    let mut cache = Cache::new(2);
    cache.keep(&question(&request), &answer, Instant::from_secs(10));
    let is_there = |second| {
        let now = Instant::from_secs(second);
        cache.find(&key(&request), now).is_some()
    };
    assert!(is_there(14) && !is_there(15));
}

#[test]
fn dn_33_the_memory_of_the_cache_is_bounded_in_bytes() {
    let mut cache = Cache::new(10);
    let now = Instant::from_secs(10);
    let many = |owner: &str| -> Vec<Record> {
        (0..200)
            .map(|last| a(owner, 60, [198, 51, 100, last]))
            .collect()
    };
    for number in 0..10 {
        let owner = format!("x{number}.example.");
        let request = ask(&owner, RecordType::A);
        let answer = known(&rules(), &request, many(&owner));
        cache.keep(&question(&request), &answer, now);
        assert!(cache.find(&key(&request), now).is_some());
    }
    // Each takes more than 200 records of 16 bytes, and there is room for 20 KiB.
    assert!((1..10).contains(&cache.len()), "{}", cache.len());
}

/// What one client has said about itself is not told to another.
#[test]
fn dn_23_dn_32_each_client_gets_a_message_of_its_own() {
    let plain = ask("X.example.", RecordType::A);
    let mut other = ask("x.EXAMPLE.", RecordType::A);
    other.metadata.id = 78;
    other.metadata.recursion_desired = false;
    other.set_edns(Edns::new());
    assert_eq!(question(&plain), question(&other));
    let address = a("x.example.", 60, [198, 51, 100, 1]);
    let answer = known(&rules(), &plain, vec![address]);
    for request in [&plain, &other] {
        let told = answer.to(request, 0);
        assert_eq!(told.metadata.id, request.metadata.id);
        assert_eq!(
            told.queries[0].name.to_ascii(),
            request.queries[0].name.to_ascii()
        );
        assert_eq!(told.edns.is_some(), request.edns.is_some());
        let asked = request.metadata.recursion_desired;
        assert_eq!(told.metadata.recursion_desired, asked);
    }
    // Signatures and their absence are kept apart.
    let mut signed = plain.clone();
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true);
    signed.set_edns(edns);
    let mut unchecked = plain.clone();
    unchecked.metadata.checking_disabled = true;
    assert_ne!(question(&plain), question(&signed));
    assert_ne!(question(&plain), question(&unchecked));
}

/// From the cache and without it a client is told the same, whatever it asks with.
#[test]
fn dn_22_dn_32_dn_40_what_is_kept_is_what_was_told() {
    let now = Instant::from_secs(10);
    for (count, extras) in [(1, false), (3, true), (28, true), (40, true), (0, false)] {
        let answers = (0..count).map(|last| a("x.example.", 60, [198, 51, 100, last]));
        let mut said = reply(NoError, answers.collect(), Some(50));
        let message = said.as_mut().unwrap();
        if extras {
            let glue = (0..4).map(|last| a("ns.example.", 70, [198, 51, 100, last]));
            message.additionals = glue.collect();
        }
        for (dnssec_ok, payload) in [(false, None), (false, Some(600)), (true, Some(1232))] {
            let mut request = ask("x.example.", RecordType::A);
            request.metadata.checking_disabled = dnssec_ok;
            if let Some(payload) = payload {
                let mut edns = Edns::new();
                edns.set_max_payload(payload).set_dnssec_ok(dnssec_ok);
                request.set_edns(edns);
            }
            let script = vec![(RecordType::A, said.clone())];
            let answer = look_up(&rules(), &question(&request), script);
            let mut cache = Cache::new(2);
            cache.keep(&question(&request), &answer, now);
            let limit = payload_limit(&request);
            let fresh = encode(&answer.to(&request, 7), limit).unwrap();
            let mut kept = Vec::new();
            let bytes = request.to_vec().unwrap();
            let asked = Asked::read(&bytes).unwrap();
            let found = cache
                .find(&asked.key(false), Instant::from_secs(17))
                .unwrap();
            assert!(found.write(&asked, asked.limit(), &mut kept) && kept.len() <= limit);
            assert_eq!(
                read(&kept).unwrap().to_vec().unwrap(),
                read(&fresh).unwrap().to_vec().unwrap()
            );
            // DNS 0x20: the spelling of the client.
            let mut spelt = bytes.clone();
            spelt[13] = b'X';
            let asked = Asked::read(&spelt).unwrap();
            assert!(found.write(&asked, asked.limit(), &mut kept));
            assert_eq!(kept[12..23], *b"\x01X\x07example\0");
        }
    }
}

/// RFC 8767: an answer that has expired is told when resolvers fail, for 30 seconds.
#[test]
fn dn_41_what_has_expired_is_kept_for_when_resolvers_fail() {
    let mut cache = Cache::new(2).with_stale(std::time::Duration::from_secs(1000));
    let request = ask("x.example.", RecordType::A);
    let own = known(
        &rules(),
        &request,
        vec![a("x.example.", 60, [198, 51, 100, 1])],
    );
    let at = |second| Instant::from_secs(second);
    cache.keep(&question(&request), &own, at(100));
    assert_eq!(told(&cache, &request, at(159)).unwrap().1, Age::Fresh(59));
    let (message, age) = told(&cache, &request, at(160)).unwrap();
    assert_eq!((age, message.answers[0].ttl), (Age::Stale, 30));
    // Resolvers are asked first, and have half a minute after a failure.
    let is_final =
        |cache: &Cache, second| cache.find(&key(&request), at(second)).unwrap().is_final();
    assert!(!is_final(&cache, 160));
    cache.rest(&key(&request), at(160));
    assert!(is_final(&cache, 189) && !is_final(&cache, 190));
    assert!(
        told(&cache, &request, at(1159)).is_some() && told(&cache, &request, at(1160)).is_none()
    );
    cache.keep(&question(&request), &own, at(1000));
    assert!(is_final(&cache, 1001) && cache.len() == 1);
}

#[test]
fn dn_42_the_first_client_in_the_last_tenth_makes_an_answer_anew() {
    let request = ask("x.example.", RecordType::A);
    let own = known(
        &rules(),
        &request,
        vec![a("x.example.", 60, [198, 51, 100, 1])],
    );
    let wants = |cache: &Cache, second| {
        let found = cache.find(&key(&request), Instant::from_secs(second));
        found.unwrap().wants_refresh()
    };
    let mut cache = Cache::new(2).with_prefetch(true);
    cache.keep(&question(&request), &own, Instant::from_secs(100));
    assert!(!wants(&cache, 153) && wants(&cache, 154) && !wants(&cache, 155));
    let mut cache = Cache::new(2);
    cache.keep(&question(&request), &own, Instant::from_secs(100));
    assert!(!wants(&cache, 159));
}
