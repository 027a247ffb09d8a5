//! Whole lookups: a client's query, what is asked upstream, and the answer (RFC 6147).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use dns64::{Answer, Cache, Lookup, Next, Question, Rules, encode, payload_limit};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use xlat_core::Instant;

fn rules() -> Rules {
    Rules::new(vec!["2001:db8:64::/96".parse().unwrap()])
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn ask(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), kind));
    message
}

fn reply(code: ResponseCode, answers: Vec<Record>, soa: Option<u32>) -> Option<Message> {
    let mut message = Message::new(1, MessageType::Response, OpCode::Query);
    message.metadata.response_code = code;
    message.metadata.authentic_data = true;
    message.answers = answers;
    if let Some(lifetime) = soa {
        let soa = SOA::new(
            name("ns.example."),
            name("x.example."),
            1,
            2,
            3,
            4,
            lifetime,
        );
        let record = Record::from_rdata(name("example."), 9999, RData::SOA(soa));
        message.authorities.push(record);
    }
    Some(message)
}

fn a(owner: &str, ttl: u32, v4: [u8; 4]) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A(Ipv4Addr::from(v4))))
}

fn aaaa(owner: &str, ttl: u32, v6: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::AAAA(AAAA(v6.parse().unwrap())))
}

fn cname(owner: &str, to: &str) -> Record {
    Record::from_rdata(name(owner), 300, RData::CNAME(CNAME(name(to))))
}

/// Plays upstream: what is asked, in order, and what is said to it.
#[track_caller]
fn look_up(
    rules: &Rules,
    question: &Question,
    script: Vec<(RecordType, Option<Message>)>,
) -> Answer {
    let (mut lookup, mut next) = Lookup::start(rules, question);
    for (kind, said) in script {
        match next {
            Next::Ask(ask) => assert_eq!(ask.query.query_type, kind),
            Next::Done(answer) => panic!("done before {kind} was asked: {answer:?}"),
        }
        next = lookup.on_reply(rules, said);
    }
    match next {
        Next::Done(answer) => answer,
        Next::Ask(ask) => panic!("asks more: {ask:?}"),
    }
}

#[track_caller]
fn run(rules: &Rules, request: Message, script: Vec<(RecordType, Option<Message>)>) -> Message {
    let answer = match Question::of(&request) {
        Ok(question) => look_up(rules, &question, script),
        Err(code) => Answer::empty(code),
    };
    answer.to(&request, 0)
}

fn addresses(message: &Message) -> Vec<(String, u32)> {
    let records = message.answers.iter();
    records
        .filter_map(|record| match &record.data {
            RData::AAAA(address) => Some((Ipv6Addr::to_string(&address.0), record.ttl)),
            _ => None,
        })
        .collect()
}

use ResponseCode::{NXDomain, NoError, Refused, ServFail};

#[test]
fn dn_02_dn_19_dn_20_what_has_addresses_of_its_own_is_passed_on() {
    let own = reply(NoError, vec![aaaa("x.example.", 60, "2001:db8::1")], None);
    let answer = run(
        &rules(),
        ask("x.example.", RecordType::AAAA),
        vec![(RecordType::AAAA, own)],
    );
    assert_eq!(addresses(&answer), [("2001:db8::1".into(), 60)]);
    let mx = RData::MX(MX::new(10, name("mail.example.")));
    for (kind, record) in [
        (RecordType::A, a("x.example.", 60, [198, 51, 100, 1])),
        (RecordType::ANY, a("x.example.", 60, [198, 51, 100, 1])),
        (
            RecordType::MX,
            Record::from_rdata(name("x.example."), 60, mx),
        ),
    ] {
        let mut said = reply(NoError, vec![record.clone()], None);
        // DN-19.
        let glue = a("mail.example.", 60, [198, 51, 100, 7]);
        said.as_mut().unwrap().additionals.push(glue.clone());
        let answer = run(&rules(), ask("x.example.", kind), vec![(kind, said)]);
        assert_eq!(
            (answer.answers, answer.additionals),
            (vec![record], vec![glue])
        );
    }
}

#[test]
fn dn_10_dn_11_addresses_are_made_with_the_least_lifetime() {
    for (soa, ttl, expected) in [
        (Some(300), 3600, 300),
        (None, 3600, 600),
        (Some(900), 60, 60),
    ] {
        let none = reply(NoError, vec![], soa);
        let v4 = vec![
            a("x.example.", ttl, [198, 51, 100, 1]),
            a("x.example.", ttl, [198, 51, 100, 2]),
        ];
        let answer = run(
            &rules(),
            ask("x.example.", RecordType::AAAA),
            vec![
                (RecordType::AAAA, none),
                (RecordType::A, reply(NoError, v4, None)),
            ],
        );
        let expected = [
            ("2001:db8:64::c633:6401".to_owned(), expected),
            ("2001:db8:64::c633:6402".to_owned(), expected),
        ];
        assert_eq!(addresses(&answer), expected);
        assert_eq!(answer.answers.len(), 2, "no A record is left");
        // DN-21, DN-28.
        assert_eq!(answer.metadata.id, 77);
        assert!(answer.metadata.recursion_available && !answer.metadata.authentic_data);
    }
}

#[test]
fn dn_03_a_name_that_does_not_exist_is_not_asked_for_again() {
    let nothing = reply(NXDomain, vec![], Some(60));
    let answer = run(
        &rules(),
        ask("x.example.", RecordType::AAAA),
        vec![(RecordType::AAAA, nothing)],
    );
    assert_eq!(answer.metadata.response_code, NXDomain);
    assert_eq!(answer.authorities.len(), 1);
}

#[test]
fn dn_04_dn_05_errors_and_silence_about_ipv6_count_as_no_address() {
    let said = [
        reply(Refused, vec![], None),
        reply(ResponseCode::FormErr, vec![], None),
        reply(ResponseCode::NotImp, vec![], None),
        None,
    ];
    for aaaa in said {
        let v4 = reply(NoError, vec![a("x.example.", 60, [198, 51, 100, 1])], None);
        let script = vec![(RecordType::AAAA, aaaa), (RecordType::A, v4)];
        let answer = run(&rules(), ask("x.example.", RecordType::AAAA), script);
        assert_eq!(addresses(&answer), [("2001:db8:64::c633:6401".into(), 60)]);
    }
}

#[test]
fn dn_04_dn_25_a_failure_is_looked_at_before_it_counts_as_no_address() {
    let failed = || reply(ServFail, vec![], None);
    let v4 = || reply(NoError, vec![a("x.example.", 60, [198, 51, 100, 1])], None);
    // It fails without validation too: nothing is forged.
    for again in [failed(), None, reply(Refused, vec![], None)] {
        let script = vec![
            (RecordType::AAAA, failed()),
            (RecordType::AAAA, again),
            (RecordType::A, v4()),
        ];
        let answer = run(&rules(), ask("x.example.", RecordType::AAAA), script);
        assert_eq!(addresses(&answer), [("2001:db8:64::c633:6401".into(), 60)]);
    }
    // Only validation has kept it back.
    let own = reply(NoError, vec![aaaa("x.example.", 60, "2001:db8::1")], None);
    for forged in [reply(NoError, vec![], Some(60)), own] {
        let script = vec![(RecordType::AAAA, failed()), (RecordType::AAAA, forged)];
        let answer = run(&rules(), ask("x.example.", RecordType::AAAA), script);
        assert_eq!(answer.metadata.response_code, ServFail);
        assert!(answer.answers.is_empty());
    }
    // It is asked without validation, and then with it again.
    let question = Question::of(&ask("x.example.", RecordType::AAAA)).unwrap();
    let (mut lookup, _) = Lookup::start(&rules(), &question);
    for checking_disabled in [true, false] {
        let Next::Ask(ask) = lookup.on_reply(&rules(), failed()) else {
            panic!("something is to be asked");
        };
        assert_eq!(ask.checking_disabled, checking_disabled);
    }
    // Who does not want validation is not in its way.
    let mut request = ask("x.example.", RecordType::AAAA);
    request.metadata.checking_disabled = true;
    let script = vec![(RecordType::AAAA, failed()), (RecordType::A, v4())];
    assert_eq!(addresses(&run(&rules(), request, script)).len(), 1);
}

#[test]
fn dn_06_excluded_addresses_are_never_shown() {
    let mapped = aaaa("x.example.", 60, "::ffff:198.51.100.9");
    let real = aaaa("x.example.", 60, "2001:db8::1");
    let v4 = reply(NoError, vec![a("x.example.", 60, [198, 51, 100, 1])], None);
    let all = run(
        &rules(),
        ask("x.example.", RecordType::AAAA),
        vec![
            (RecordType::AAAA, reply(NoError, vec![mapped.clone()], None)),
            (RecordType::A, v4),
        ],
    );
    assert_eq!(addresses(&all), [("2001:db8:64::c633:6401".into(), 60)]);
    let some = run(
        &rules(),
        ask("x.example.", RecordType::AAAA),
        vec![(
            RecordType::AAAA,
            reply(NoError, vec![mapped.clone(), real], None),
        )],
    );
    assert_eq!(addresses(&some), [("2001:db8::1".into(), 60)]);
    let nothing = run(
        &rules(),
        ask("x.example.", RecordType::AAAA),
        vec![
            (RecordType::AAAA, reply(NoError, vec![mapped], None)),
            (RecordType::A, reply(NoError, vec![], Some(60))),
        ],
    );
    assert!(addresses(&nothing).is_empty());
}

#[test]
fn dn_07_dn_08_the_aliases_stand_before_the_addresses_of_their_end() {
    let chain = vec![
        cname("x.example.", "y.example."),
        cname("y.example.", "z.example."),
    ];
    let mut v4 = chain.clone();
    v4.push(a("z.example.", 60, [198, 51, 100, 1]));
    let answer = run(
        &rules(),
        ask("x.example.", RecordType::AAAA),
        vec![
            (RecordType::AAAA, reply(NoError, chain.clone(), Some(60))),
            (RecordType::A, reply(NoError, v4, None)),
        ],
    );
    assert_eq!(answer.answers[..2], chain);
    assert_eq!(answer.answers[2].name, name("z.example."));
    assert_eq!(answer.answers.len(), 3);
}

#[test]
fn dn_08_where_the_aliases_differ_those_of_the_ipv4_addresses_are_told() {
    let other = vec![cname("x.example.", "old.example.")];
    let v4 = vec![
        cname("x.example.", "new.example."),
        a("new.example.", 60, [198, 51, 100, 1]),
        a("old.example.", 60, [198, 51, 100, 66]),
    ];
    let answer = run(
        &rules(),
        ask("x.example.", RecordType::AAAA),
        vec![
            // What it says of the lifetime is about another name.
            (RecordType::AAAA, reply(NoError, other, Some(1))),
            (RecordType::A, reply(NoError, v4, None)),
        ],
    );
    let expected = [
        cname("x.example.", "new.example."),
        aaaa("new.example.", 60, "2001:db8:64::c633:6401"),
    ];
    assert_eq!(answer.answers, expected);
    assert_eq!(answer.answers[1].ttl, 60);
}

#[test]
fn se_20_only_records_on_the_way_from_the_question_are_believed() {
    let forged = vec![
        aaaa("bank.example.", 60, "2001:db8::bad"),
        a("bank.example.", 60, [198, 51, 100, 66]),
        cname("bank.example.", "x.example."),
    ];
    // An IPv6 address of somebody else is no address of this name.
    let mut v4 = forged.clone();
    v4.push(a("x.example.", 60, [198, 51, 100, 1]));
    let answer = run(
        &rules(),
        ask("x.example.", RecordType::AAAA),
        vec![
            (RecordType::AAAA, reply(NoError, forged.clone(), Some(60))),
            (RecordType::A, reply(NoError, v4, None)),
        ],
    );
    assert_eq!(
        answer.answers,
        [aaaa("x.example.", 60, "2001:db8:64::c633:6401")]
    );
    let passed = run(
        &rules(),
        ask("x.example.", RecordType::MX),
        vec![(RecordType::MX, reply(NoError, forged, None))],
    );
    assert!(passed.answers.is_empty());
}

#[test]
fn dn_33_a_chain_that_is_too_long_is_a_failure() {
    let circle = || {
        let links = vec![
            cname("x.example.", "y.example."),
            cname("y.example.", "x.example."),
            a("x.example.", 60, [198, 51, 100, 1]),
        ];
        reply(NoError, links, None)
    };
    let script = vec![(RecordType::AAAA, circle()), (RecordType::AAAA, circle())];
    // Without validation it is the same failure, so IPv4 is asked for, in vain.
    let script = script.into_iter().chain([(RecordType::A, circle())]);
    let answer = run(
        &rules(),
        ask("x.example.", RecordType::AAAA),
        script.collect(),
    );
    assert_eq!(answer.metadata.response_code, ServFail);
    assert!(answer.answers.is_empty());
    let answer = run(
        &rules(),
        ask("x.example.", RecordType::A),
        vec![(RecordType::A, circle())],
    );
    assert_eq!(answer.metadata.response_code, ServFail);
}

#[test]
fn dn_09_without_ipv4_addresses_there_are_none_and_errors_are_told() {
    let none = || reply(NoError, vec![], Some(60));
    let empty = run(
        &rules(),
        ask("x.example.", RecordType::AAAA),
        vec![(RecordType::AAAA, none()), (RecordType::A, none())],
    );
    assert_eq!(empty.metadata.response_code, NoError);
    assert!(empty.answers.is_empty() && empty.authorities.len() == 1);
    for (said, code) in [(reply(Refused, vec![], None), Refused), (None, ServFail)] {
        let answer = run(
            &rules(),
            ask("x.example.", RecordType::AAAA),
            vec![(RecordType::AAAA, none()), (RecordType::A, said)],
        );
        assert_eq!(answer.metadata.response_code, code);
    }
}

#[test]
fn dn_14_dn_15_the_well_known_prefix_takes_no_private_address_but_tells_itself() {
    let rules = Rules::new(vec!["64:ff9b::/96".parse().unwrap()]);
    let v4 = reply(NoError, vec![a("x.example.", 60, [10, 0, 0, 1])], None);
    let answer = run(
        &rules,
        ask("x.example.", RecordType::AAAA),
        vec![
            (RecordType::AAAA, reply(NoError, vec![], Some(60))),
            (RecordType::A, v4),
        ],
    );
    assert!(answer.answers.is_empty());
    let own = run(&rules, ask("IPv4only.arpa.", RecordType::AAAA), vec![]);
    let expected = [
        ("64:ff9b::c000:aa".into(), 600),
        ("64:ff9b::c000:ab".into(), 600),
    ];
    assert_eq!(addresses(&own), expected);
}

#[test]
fn dn_18_a_pointer_leads_over_an_alias_to_the_ipv4_name() {
    let address: Ipv6Addr = "2001:db8:64::198.51.100.1".parse().unwrap();
    let question = Name::from(address).to_ascii();
    let target = "1.100.51.198.in-addr.arpa.";
    let record = Record::from_rdata(name(target), 60, RData::PTR(PTR(name("x.example."))));
    let answer = run(
        &rules(),
        ask(&question, RecordType::PTR),
        vec![(RecordType::PTR, reply(NoError, vec![record.clone()], None))],
    );
    assert_eq!(answer.answers[0].data, RData::CNAME(CNAME(name(target))));
    assert_eq!(answer.answers[1], record);
}

#[test]
fn dn_24_dn_26_dn_27_who_validates_sees_what_is_there() {
    let with = |dnssec_ok, checking_disabled| {
        let mut request = ask("x.example.", RecordType::AAAA);
        let mut edns = Edns::new();
        edns.set_dnssec_ok(dnssec_ok);
        request.set_edns(edns);
        request.metadata.checking_disabled = checking_disabled;
        request
    };
    let none = || reply(NoError, vec![], Some(60));
    let as_is = run(&rules(), with(true, true), vec![(RecordType::AAAA, none())]);
    assert!(as_is.answers.is_empty());
    for (dnssec_ok, checking_disabled) in [(false, true), (true, false), (false, false)] {
        let v4 = reply(NoError, vec![a("x.example.", 60, [198, 51, 100, 1])], None);
        let script = vec![(RecordType::AAAA, none()), (RecordType::A, v4)];
        let answer = run(&rules(), with(dnssec_ok, checking_disabled), script);
        assert_eq!(addresses(&answer).len(), 1);
        // Both answers were validated upstream, and only this client asks for that.
        let is_told = dnssec_ok && !checking_disabled;
        assert_eq!(answer.metadata.authentic_data, is_told);
    }
    let mut unvalidated = none().unwrap();
    unvalidated.metadata.authentic_data = false;
    let v4 = reply(NoError, vec![a("x.example.", 60, [198, 51, 100, 1])], None);
    let script = vec![(RecordType::AAAA, Some(unvalidated)), (RecordType::A, v4)];
    assert!(
        !run(&rules(), with(true, false), script)
            .metadata
            .authentic_data
    );
    let real = reply(NoError, vec![aaaa("x.example.", 60, "2001:db8::1")], None);
    let script = vec![(RecordType::AAAA, real)];
    let mut request = ask("x.example.", RecordType::AAAA);
    request.metadata.authentic_data = true;
    let unasked = run(&rules(), request, script);
    assert!(!unasked.metadata.authentic_data);
}

#[test]
fn dn_29_dn_30_ipv4only_arpa_is_answered_here() {
    let v4 = run(&rules(), ask("ipv4only.arpa.", RecordType::A), vec![]);
    assert_eq!(v4.answers.len(), 2);
    let other = run(&rules(), ask("ipv4only.arpa.", RecordType::TXT), vec![]);
    assert_eq!(
        (other.metadata.response_code, other.answers.len()),
        (NoError, 0)
    );
    let below = run(&rules(), ask("x.ipv4only.arpa.", RecordType::AAAA), vec![]);
    assert_eq!(below.metadata.response_code, NXDomain);
    let reverse = ask("170.0.0.192.in-addr.arpa.", RecordType::PTR);
    let reverse = run(&rules(), reverse, vec![]);
    assert_eq!(
        reverse.answers[0].data,
        RData::PTR(PTR(name("ipv4only.arpa.")))
    );
    // So it is over the name of its synthetic address.
    let address: Ipv6Addr = "2001:db8:64::192.0.0.170".parse().unwrap();
    let question = ask(&Name::from(address).to_ascii(), RecordType::PTR);
    let reverse = run(&rules(), question, vec![]);
    let target = name("170.0.0.192.in-addr.arpa.");
    assert_eq!(reverse.answers[0].data, RData::CNAME(CNAME(target.clone())));
    assert_eq!(
        (&reverse.answers[1].name, &reverse.answers[1].data),
        (&target, &RData::PTR(PTR(name("ipv4only.arpa."))))
    );
}

#[test]
fn dn_31_the_lifetime_of_the_prefix_is_what_was_asked_for() {
    let rules = Rules {
        prefix_lifetime: 60,
        ..Rules::new(vec!["2001:db8:64::/96".parse().unwrap()])
    };
    let answer = run(&rules, ask("ipv4only.arpa.", RecordType::AAAA), vec![]);
    let lifetimes: Vec<u32> = answer.answers.iter().map(|record| record.ttl).collect();
    assert_eq!(lifetimes, [60, 60]);
}

#[test]
fn dn_01_other_classes_and_no_questions() {
    let mut chaos = ask("x.example.", RecordType::AAAA);
    chaos.queries[0].query_class = DNSClass::CH;
    let none = reply(NoError, vec![], None);
    let answer = run(&rules(), chaos, vec![(RecordType::AAAA, none)]);
    assert!(answer.answers.is_empty());

    let code = |request| run(&rules(), request, vec![]).metadata.response_code;
    let mut update = ask("x.example.", RecordType::SOA);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(update), ResponseCode::NotImp);
    let mut two = ask("x.example.", RecordType::A);
    two.add_query(Query::query(name("y.example."), RecordType::A));
    assert_eq!(code(two), ResponseCode::FormErr);
    assert_eq!(code(ask("example.", RecordType::AXFR)), Refused);
    let mut version = ask("x.example.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    version.set_edns(edns);
    assert_eq!(code(version), ResponseCode::BADVERS);
}

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

fn known(rules: &Rules, request: &Message, answers: Vec<Record>) -> Rc<Answer> {
    let kind = request.queries[0].query_type;
    let script = vec![(kind, reply(NoError, answers, None))];
    Rc::new(look_up(rules, &question(request), script))
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
    let (found, age) = cache.find(&question(&lower), later(59)).unwrap();
    let told = found.to(&lower, age);
    assert_eq!((told.answers[0].ttl, told.metadata.id), (1, 77));
    assert!(cache.find(&question(&request), later(60)).is_none());
    for other in ["a.", "b.", "c."] {
        let request = ask(other, RecordType::A);
        let answer = known(&rules(), &request, vec![a(other, 60, [198, 51, 100, 1])]);
        cache.keep(&question(&request), &answer, now);
        assert!(cache.len() <= 2);
        assert!(cache.find(&question(&request), now).is_some());
    }
    let request = ask("d.", RecordType::A);
    for nothing in [
        Answer::empty(ServFail),
        // Nobody says how long there is nothing.
        Answer::empty(NoError),
    ] {
        cache.keep(&question(&request), &Rc::new(nothing), now);
        assert!(cache.find(&question(&request), now).is_none());
    }
}

#[test]
fn dn_05_what_rests_on_silence_is_hardly_kept() {
    let v4 = reply(NoError, vec![a("x.example.", 600, [198, 51, 100, 1])], None);
    let request = ask("x.example.", RecordType::AAAA);
    let script = vec![(RecordType::AAAA, None), (RecordType::A, v4)];
    let answer = Rc::new(look_up(&rules(), &question(&request), script));
    let mut cache = Cache::new(2);
    cache.keep(&question(&request), &answer, Instant::from_secs(10));
    let is_there = |second| {
        let now = Instant::from_secs(second);
        cache.find(&question(&request), now).is_some()
    };
    assert!(is_there(14) && !is_there(15));
}

#[test]
fn dn_33_the_memory_of_the_cache_is_bounded_in_bytes() {
    let mut cache = Cache::new(10);
    let now = Instant::from_secs(10);
    let many = |owner: &str| -> Vec<Record> {
        (0..25)
            .map(|last| a(owner, 60, [198, 51, 100, last]))
            .collect()
    };
    for number in 0..10 {
        let owner = format!("x{number}.example.");
        let request = ask(&owner, RecordType::A);
        let answer = known(&rules(), &request, many(&owner));
        cache.keep(&question(&request), &answer, now);
        assert!(cache.find(&question(&request), now).is_some());
    }
    // Each takes more than 25 records of 100 bytes, and there is room for 20 KiB.
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
