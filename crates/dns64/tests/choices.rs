//! The administrator's choices: who gets synthetic addresses for which names, and names that are
//! answered here. Messages are bytes, as they are on the wire.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use dns64::{Domain, Lookup, Next, Question, Rules, read};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use support::{a, aaaa, addresses, ask, look_up, reply, rules, run};

use ResponseCode::{NXDomain, NoError};

fn domains(texts: &[&str]) -> dns64::Domains {
    let domains = texts.iter().map(|text| text.parse::<Domain>().unwrap());
    domains.collect()
}

fn with(choose: impl FnOnce(&mut Rules)) -> Rules {
    let mut rules = rules();
    choose(&mut rules);
    rules
}

/// A query for AAAA records of `v4.example` with the identifier 0x1234, as a stub resolver sends it.
const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\
                       \x02v4\x07example\x00\x00\x1c\x00\x01";

/// The end of the lookup of a query that nobody else is asked about, in bytes.
fn at_once(rules: &Rules, query: &[u8]) -> Vec<u8> {
    let request = read(query).unwrap();
    let question = Question::of(&request).unwrap();
    match Lookup::start(rules, &question) {
        (_, Next::Done(answer)) => answer.to(&request, 0).to_vec().unwrap(),
        (_, Next::Ask(ask)) => panic!("asks {ask:?}"),
    }
}

#[test]
fn dn_36_a_domain_that_is_skipped_has_what_resolvers_say() {
    let rules = with(|rules| rules.skipped = domains(&["example"]));
    let request = read(QUERY).unwrap();
    let none = reply(NoError, vec![], Some(300));
    let answer = run(
        &rules,
        request.clone(),
        vec![(RecordType::AAAA, none.clone())],
    );
    assert!(addresses(&answer).is_empty() && answer.authorities.len() == 1);
    // The name beside it.
    let v4 = reply(NoError, vec![a("v4.test.", 60, [198, 51, 100, 2])], None);
    let script = vec![(RecordType::AAAA, none), (RecordType::A, v4)];
    let answer = run(&rules, ask("v4.test.", RecordType::AAAA), script);
    assert_eq!(addresses(&answer), [("2001:db8:64::c633:6402".into(), 60)]);
}

#[test]
fn dn_36_a_domain_that_always_gets_addresses_keeps_its_own_without_ipv4() {
    let rules = with(|rules| rules.always = domains(&["example"]));
    let own = || reply(NoError, vec![aaaa("v4.example.", 60, "2001:db8::1")], None);
    let v4 = reply(NoError, vec![a("v4.example.", 50, [198, 51, 100, 2])], None);
    let none = reply(NoError, vec![], Some(300));
    for (said, expected) in [
        (v4, ("2001:db8:64::c633:6402", 50)),
        (none, ("2001:db8::1", 60)),
        (
            reply(ResponseCode::ServFail, vec![], None),
            ("2001:db8::1", 60),
        ),
        (None, ("2001:db8::1", 60)),
    ] {
        let script = vec![(RecordType::AAAA, own()), (RecordType::A, said)];
        let answer = run(&rules, read(QUERY).unwrap(), script);
        assert_eq!(addresses(&answer), [(expected.0.into(), expected.1)]);
        assert!(!answer.metadata.authentic_data);
    }
    // Others are not asked about twice.
    let other = reply(NoError, vec![aaaa("v6.test.", 60, "2001:db8::1")], None);
    let answer = run(
        &rules,
        ask("v6.test.", RecordType::AAAA),
        vec![(RecordType::AAAA, other)],
    );
    assert_eq!(answer.metadata.response_code, NoError);
}

#[test]
fn dn_32_dn_36_a_client_without_dns64_has_a_view_of_its_own() {
    let request = read(QUERY).unwrap();
    let question = Question::of(&request).unwrap();
    let plain = question.clone().plain();
    assert_ne!(question, plain);
    let none = reply(NoError, vec![], Some(300));
    let answer = look_up(&rules(), &plain, vec![(RecordType::AAAA, none)]);
    assert!(addresses(&answer.to(&request, 0)).is_empty());
    // RFC 7050: such a host finds no prefix, and no name of a synthetic address is an alias.
    let found = |text, kind| {
        let request = ask(text, kind);
        let question = Question::of(&request).unwrap().plain();
        match Lookup::start(&rules(), &question).1 {
            Next::Done(answer) => Some(answer.to(&request, 0)),
            Next::Ask(_) => None,
        }
    };
    let prefixes = found("ipv4only.arpa.", RecordType::AAAA).unwrap();
    assert!(addresses(&prefixes).is_empty() && prefixes.metadata.response_code == NoError);
    let pointer = "2.0.4.6.3.3.6.c.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
    assert!(found(pointer, RecordType::PTR).is_none());
}

#[test]
fn dn_38_a_name_of_ours_is_answered_byte_by_byte() {
    let rules = with(|rules| {
        rules.local.add("v4.example=198.51.100.2".parse().unwrap());
        rules
            .local
            .add("both.example=198.51.100.3".parse().unwrap());
        rules.local.add("both.example=2001:db8::3".parse().unwrap());
    });
    // The identifier, QR, RD and RA; the question; an address that was made, for 300 seconds.
    let expected = b"\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\
                     \x02v4\x07example\x00\x00\x1c\x00\x01\
                     \xc0\x0c\x00\x1c\x00\x01\x00\x00\x01\x2c\x00\x10\
                     \x20\x01\x0d\xb8\x00\x64\x00\x00\x00\x00\x00\x00\xc6\x33\x64\x02";
    assert_eq!(at_once(&rules, QUERY), expected);
    // DNS 0x20: the spelling of the client.
    let mut query = QUERY.to_vec();
    query[13..15].copy_from_slice(b"V4");
    let mut spelt = expected.to_vec();
    spelt[13..15].copy_from_slice(b"V4");
    assert_eq!(at_once(&rules, &query), spelt);
    let own = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\
                \x04both\x07example\x00\x00\x1c\x00\x01";
    let answer = at_once(&rules, own);
    assert_eq!(
        answer[30 + 12..],
        *b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x03"
    );
    // The name behind the synthetic address.
    let pointer = "2.0.4.6.3.3.6.c.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
    let query = ask(pointer, RecordType::PTR).to_vec().unwrap();
    let answer = Message::from_vec(&at_once(&rules, &query)).unwrap();
    assert_eq!(answer.answers[1].data.to_string(), "v4.example.");
}

#[test]
fn dn_39_a_minimal_answer_has_what_was_asked_for() {
    let rules = with(|rules| rules.minimal = true);
    let mut said = reply(
        NoError,
        vec![a("x.example.", 60, [198, 51, 100, 1])],
        Some(300),
    );
    let glue = a("ns.example.", 60, [198, 51, 100, 7]);
    said.as_mut().unwrap().additionals.push(glue);
    let answer = run(
        &rules,
        ask("x.example.", RecordType::A),
        vec![(RecordType::A, said.clone())],
    );
    assert_eq!(answer.answers.len(), 1);
    assert!(answer.authorities.is_empty() && answer.additionals.is_empty());
    // RFC 2308 section 3: the SOA record is what a negative answer lives by.
    for code in [NoError, NXDomain] {
        let none = reply(code, vec![], Some(300));
        let asked = ask("x.example.", RecordType::MX);
        let answer = run(&rules, asked, vec![(RecordType::MX, none)]);
        assert_eq!(answer.authorities.len(), 1);
    }
}
