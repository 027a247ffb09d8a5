//! Messages as bytes: what has no meaning here passes through unread (RFC 3597).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::slice;

use dns64::{Answer, Lookup, Next, Question, encode, read};
use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use support::{a, aaaa, ask, reply, rules, run};

/// `x.example`, the question's name.
const OWNER: &[u8] = b"\x01x\x07example\0";
/// A pointer to it.
const POINTER: [u8; 2] = [0xc0, 12];

/// A message with one question and some records: their numbers in the three sections, and they.
fn message(kind: u16, counts: [u8; 3], records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![
        0, 7, 0x81, 0x80, 0, 1, 0, counts[0], 0, counts[1], 0, counts[2],
    ];
    bytes.extend(OWNER);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(records.concat());
    bytes
}

/// A record of the question's name.
fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = POINTER.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1, 0, 0, 0, 60]);
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn opt(data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0];
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// Bytes of the answer for a client that has asked for the type.
fn passed_on(kind: u16, upstream: &[u8]) -> Vec<u8> {
    let request = ask("x.example.", RecordType::from(kind));
    let question = Question::of(&request).unwrap();
    let (mut lookup, _) = Lookup::start(&rules(), &question);
    let Next::Done(answer) = lookup.on_reply(&rules(), Some(read(upstream).unwrap())) else {
        panic!("more is asked");
    };
    encode(&answer.to(&request, 0), 65_535).unwrap()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn fp_07_data_without_meaning_here_passes_through_byte_for_byte() {
    let cases: [(u16, &[u8]); 10] = [
        // NAPTR with the flag "-U", which RFC 3403 does not have.
        (35, b"\0\x0a\0\x14\x02-U\x07SIP+D2U\0\x03sip\x07example\0"),
        // SVCB with the keys 4 and 1 in the wrong order, HTTPS with a key that is there twice.
        (64, b"\0\x01\0\0\x04\0\x04\xc0\0\x02\x01\0\x01\0\x03\x02h3"),
        (65, b"\0\x01\0\0\x01\0\x03\x02h2\0\x01\0\x03\x02h3"),
        // TXT without a string, and with one that is longer than its data.
        (16, b""),
        (16, b"\x09short"),
        // CAA with a hyphen in its tag, and one that is cut.
        (257, b"\0\x0aissue-wild;"),
        (257, b"\0"),
        // MX, HINFO and a type of private use that are no such thing.
        (15, b"\0"),
        (13, b"\xff"),
        (65_400, b"\xc0\x0c\xc0\xff\0"),
    ];
    for (kind, data) in cases {
        let record = record(kind, data);
        let bytes = passed_on(kind, &message(kind, [1, 0, 0], slice::from_ref(&record)));
        assert!(bytes.ends_with(&record), "{kind}: {bytes:02x?}");
        // In the other sections of an answer about addresses too.
        let address = self::record(28, &[0x20; 16]);
        let records = [address, record.clone(), record.clone()];
        let bytes = passed_on(28, &message(28, [1, 1, 1], &records));
        assert!(
            bytes.ends_with(&[record.clone(), record].concat()),
            "{kind}"
        );
    }
}

#[test]
fn fp_07_compressed_names_are_written_out() {
    // SRV after RFC 2052, RP, NAPTR, KX.
    for (kind, data, whole) in [
        (
            33,
            &b"\0\x01\0\x02\0\x35\xc0\x0c"[..],
            &b"\0\x01\0\x02\0\x35\x01x\x07example\0"[..],
        ),
        (
            17,
            b"\x01a\xc0\x0c\xc0\x0e",
            b"\x01a\x01x\x07example\0\x07example\0",
        ),
        (
            35,
            b"\0\x01\0\x02\x01s\0\0\xc0\x0c",
            b"\0\x01\0\x02\x01s\0\0\x01x\x07example\0",
        ),
        (36, b"\0\x01\xc0\x0e", b"\0\x01\x07example\0"),
    ] {
        let bytes = passed_on(kind, &message(kind, [1, 0, 0], &[record(kind, data)]));
        assert!(
            bytes.ends_with(&record(kind, whole)),
            "{kind}: {bytes:02x?}"
        );
    }
    // Where a pointer is known to be read, it stays one.
    let mx = record(15, b"\0\x0a\xc0\x0c");
    assert!(passed_on(15, &message(15, [1, 0, 0], slice::from_ref(&mx))).ends_with(&mx));
}

#[test]
fn fp_07_what_is_read_must_be_well_formed_where_it_counts() {
    for (kind, data) in [
        (1, &[1, 2, 3][..]),
        (28, &[0; 15]),
        (5, b"\x09x"),
        (6, &[]),
        (1, &[]),
    ] {
        let bad = record(kind, data);
        assert!(read(&message(kind, [1, 0, 0], slice::from_ref(&bad))).is_err());
        // Not so in the additional section, nor in another class.
        let good = record(28, &[0x20; 16]);
        let bytes = passed_on(28, &message(28, [1, 0, 1], &[good, bad.clone()]));
        assert!(bytes.ends_with(&bad), "{kind}: {bytes:02x?}");
        let mut chaos = bad.clone();
        chaos[5] = 3;
        assert!(read(&message(kind, [1, 0, 0], &[chaos])).is_ok());
        // A record that ends behind the message.
        let mut cut = bad;
        let at = cut.len() - data.len() - 1;
        cut[at] += 1;
        assert!(read(&message(28, [0, 0, 1], &[cut])).is_err());
    }
}

#[test]
fn fp_07_the_first_of_two_opt_records_counts_in_an_answer_and_a_query_may_not_have_two() {
    let own = record(28, &[0x20; 16]);
    // With an option that promises more than there is.
    let records = [own.clone(), opt(&[0, 10, 0, 99]), opt(b"")];
    let bytes = message(28, [1, 0, 2], &records);
    assert_eq!(read(&bytes).unwrap().edns.unwrap().max_payload(), 1232);
    let passed = passed_on(28, &bytes);
    assert!(passed.ends_with(&own), "{passed:02x?}");
    let mut query = message(28, [0, 0, 2], &records[1..]);
    query[2..4].copy_from_slice(&[1, 0]);
    let refusal = read(&query).unwrap_err().reply().unwrap();
    let refusal = encode(&refusal, 512).unwrap();
    assert_eq!(refusal, [0, 7, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
    // An answer that cannot be read gets none, nor does what has no header.
    assert!(
        read(&message(28, [9, 0, 0], &[]))
            .unwrap_err()
            .reply()
            .is_none()
    );
    assert!(read(&query[..11]).unwrap_err().reply().is_none());
}

#[test]
fn fp_07_the_spelling_of_the_question_comes_back() {
    let mut request = ask("wWw.eXample.", RecordType::AAAA);
    request.metadata.id = 7;
    let v4 = vec![a("www.example.", 60, [198, 51, 100, 1])];
    let script = vec![
        (RecordType::AAAA, reply(ResponseCode::NoError, vec![], None)),
        (RecordType::A, reply(ResponseCode::NoError, v4, None)),
    ];
    let bytes = encode(&run(&rules(), request, script), 512).unwrap();
    assert!(holds(&bytes[..25], b"\x03wWw\x07eXample\0"));
    // The owner of the address is a pointer to it.
    assert_eq!(bytes[29..35], [0xc0, 12, 0, 28, 0, 1]);
}

#[test]
fn fp_07_extended_codes_do_not_turn_into_others_without_edns() {
    let bad_cookie = Answer::empty(ResponseCode::BADCOOKIE);
    let mut request = ask("x.example.", RecordType::A);
    let told = bad_cookie.to(&request, 0);
    assert_eq!(told.metadata.response_code, ResponseCode::ServFail);
    request.set_edns(Edns::new());
    let told = bad_cookie.to(&request, 0);
    assert_eq!(told.metadata.response_code, ResponseCode::BADCOOKIE);
}

#[test]
fn fp_07_additional_records_make_room_before_an_answer_is_cut() {
    let mut answer = run(
        &rules(),
        ask("x.example.", RecordType::AAAA),
        vec![(
            RecordType::AAAA,
            reply(
                ResponseCode::NoError,
                vec![aaaa("x.example.", 60, "2001:db8::1")],
                None,
            ),
        )],
    );
    answer.additionals = (0..40)
        .map(|last| a("y.example.", 60, [198, 51, 100, last]))
        .collect();
    let bytes = encode(&answer, 512).unwrap();
    let read = Message::from_vec(&bytes).unwrap();
    assert_eq!((read.answers.len(), read.additionals.len()), (1, 0));
    assert!(!read.metadata.truncation);
}

#[test]
fn fp_08_resolver_arpa_names_no_resolver_that_leads_past_the_dns64() {
    for (owner, kind) in [
        ("_dns.resolver.arpa.", RecordType::SVCB),
        ("_DNS.Resolver.ARPA.", RecordType::SVCB),
        ("resolver.arpa.", RecordType::AAAA),
        ("dot._dns.resolver.arpa.", RecordType::DS),
    ] {
        let answer = run(&rules(), ask(owner, kind), vec![]);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert!(answer.answers.is_empty());
        let [soa] = answer.authorities.as_slice() else {
            panic!("one SOA record, not {:?}", answer.authorities);
        };
        assert!(matches!(soa.data, RData::SOA(_)) && soa.name.to_ascii() == "resolver.arpa.");
    }
    // Neighbours, and the parent's own data, are asked for.
    for (owner, kind) in [
        ("resolver.arpa.", RecordType::DS),
        ("xresolver.arpa.", RecordType::SVCB),
        ("arpa.", RecordType::NS),
    ] {
        let question = Question::of(&ask(owner, kind)).unwrap();
        let (_, next) = Lookup::start(&rules(), &question);
        assert!(matches!(next, Next::Ask(_)), "{owner}");
    }
}

#[test]
fn fp_07_a_wildcard_label_is_a_label() {
    let answer = run(&rules(), ask("*.ipv4only.arpa.", RecordType::A), vec![]);
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
}
