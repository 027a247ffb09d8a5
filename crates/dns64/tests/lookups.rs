//! Whole lookups: a client's query, what is asked upstream, and the answer (RFC 6147).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::net::Ipv6Addr;

use dns64::{Lookup, Next, Question, Rules};
use hickory_proto::op::{Edns, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, MX, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use support::{a, aaaa, addresses, ask, cname, name, reply, rules, run};

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

/// A code that says there is nothing, and records all the same.
#[test]
fn dn_06_dn_10_failures_show_no_addresses() {
    let mapped = aaaa("x.example.", 60, "::ffff:198.51.100.9");
    let answer = run(
        &rules(),
        ask("x.example.", RecordType::AAAA),
        vec![(RecordType::AAAA, reply(NXDomain, vec![mapped], Some(60)))],
    );
    assert_eq!(answer.metadata.response_code, NXDomain);
    assert!(answer.answers.is_empty());
    let v4 = vec![a("x.example.", 60, [198, 51, 100, 1])];
    let script = vec![
        (RecordType::AAAA, reply(NoError, vec![], Some(60))),
        (RecordType::A, reply(Refused, v4, None)),
    ];
    let answer = run(&rules(), ask("x.example.", RecordType::AAAA), script);
    assert_eq!(answer.metadata.response_code, Refused);
    assert!(answer.answers.is_empty());
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
