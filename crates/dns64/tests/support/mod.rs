//! Questions, answers, and an upstream with a script.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::net::{Ipv4Addr, Ipv6Addr};

use dns64::{Answer, Lookup, Next, Question, Rules};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

pub fn rules() -> Rules {
    Rules::new(vec!["2001:db8:64::/96".parse().unwrap()])
}

pub fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

pub fn ask(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), kind));
    message
}

pub fn reply(code: ResponseCode, answers: Vec<Record>, soa: Option<u32>) -> Option<Message> {
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

pub fn a(owner: &str, ttl: u32, v4: [u8; 4]) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A(Ipv4Addr::from(v4))))
}

pub fn aaaa(owner: &str, ttl: u32, v6: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::AAAA(AAAA(v6.parse().unwrap())))
}

pub fn cname(owner: &str, to: &str) -> Record {
    Record::from_rdata(name(owner), 300, RData::CNAME(CNAME(name(to))))
}

/// Plays upstream: what is asked, in order, and what is said to it.
#[track_caller]
pub fn look_up(
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
pub fn run(rules: &Rules, request: Message, script: Vec<(RecordType, Option<Message>)>) -> Message {
    let answer = match Question::of(&request) {
        Ok(question) => look_up(rules, &question, script),
        Err(code) => Answer::empty(code),
    };
    answer.to(&request, 0)
}

pub fn addresses(message: &Message) -> Vec<(String, u32)> {
    let records = message.answers.iter();
    records
        .filter_map(|record| match &record.data {
            RData::AAAA(address) => Some((Ipv6Addr::to_string(&address.0), record.ttl)),
            _ => None,
        })
        .collect()
}
