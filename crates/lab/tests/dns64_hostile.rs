//! Resolvers upstream that are silent, refuse, or send what does not belong to the question.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::dns64_fixture::Dns64Fixture;
use lab::suite::Test;
use lab::topology::{SERVER, embedded};
use lab::traffic::dns::kind::{A, AAAA};
use lab::traffic::dns::{Act, Asked, Message, Record};

const TESTS: &[Test] = lab::tests![
    dn_05_silence_about_ipv6_leaves_time_for_ipv4,
    dn_05_who_hears_nothing_is_told_so_in_time,
    dn_05_a_lost_datagram_is_sent_again,
    dn_05_a_server_that_refuses_is_passed_over,
    dn_22_forty_addresses_over_udp_and_tcp,
    dn_33_chains_without_an_end_and_answers_that_cannot_be_read,
    dn_34_answers_that_do_not_belong_to_the_question,
    se_20_records_of_other_names,
];

const SERVFAIL: u16 = 2;
const REFUSED: u16 = 5;

/// What is made of the address that most names have.
fn made() -> Vec<Ipv6Addr> {
    vec![embedded(SERVER)]
}

fn ask(net: &Dns64Fixture, owner: &str) -> Result<Message> {
    net.query(&Message::query(owner, AAAA))
}

fn main() {
    lab::suite::run(TESTS)
}

fn dn_05_silence_about_ipv6_leaves_time_for_ipv4() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.scripted(|asked| match asked.kind {
        A => asked.v4_only(SERVER).into(),
        _ => Vec::new(),
    })?;
    let begin = Instant::now();
    ensure!(net.ask("x.example", AAAA)? == made());
    let took = begin.elapsed();
    ensure!(took < Duration::from_secs(5), "{took:?}");
    let (over_tcp, over_udp): (Vec<_>, Vec<_>) = upstream
        .questions("x.example")
        .into_iter()
        .partition(|asked| asked.is_tcp);
    let kinds = |all: &[Asked]| all.iter().map(|asked| asked.kind).collect::<Vec<_>>();
    ensure!(kinds(&over_udp) == [AAAA, AAAA, AAAA, A]);
    // The last one over both.
    ensure!(kinds(&over_tcp) == [AAAA]);
    Ok(())
}

fn dn_05_who_hears_nothing_is_told_so_in_time() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.scripted(|_| Vec::new())?;
    let begin = Instant::now();
    ensure!(ask(&net, "x.example")?.code() == SERVFAIL);
    let took = begin.elapsed();
    ensure!(took < Duration::from_secs(5), "{took:?}");
    Ok(())
}

fn dn_05_a_lost_datagram_is_sent_again() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.scripted(|asked| match asked.before {
        0 => Vec::new(),
        _ => asked.v4_only(SERVER).into(),
    })?;
    let answer = ask(&net, "x.example")?;
    ensure!(answer.addresses() == made(), "{answer:?}");
    ensure!(upstream.kinds("x.example") == [AAAA, AAAA, A, A]);
    // Each from a port and with a number of its own (DN-34).
    let mut ids: Vec<u16> = upstream
        .questions("x.example")
        .iter()
        .map(|asked| asked.message.id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() >= 3, "{ids:?}");
    Ok(())
}

fn dn_05_a_server_that_refuses_is_passed_over() -> Result<()> {
    let servers = ["198.51.100.2:5301", "198.51.100.2:5302"];
    let net = Dns64Fixture::with_upstreams(&servers, &[])?;
    let bad = net.scripted_at(SERVER, 5301, |asked| {
        let code = match asked.name.as_str() {
            "servfail.example" => SERVFAIL,
            "notimp.example" => 4,
            _ => REFUSED,
        };
        asked.code(code).into()
    })?;
    let good = net.scripted_at(SERVER, 5302, |asked| match asked.name.as_str() {
        "bad.example" => asked.code(SERVFAIL).into(),
        _ => asked.v4_only(SERVER).into(),
    })?;
    // Both fail: what they say counts as a last resort.
    let answer = net.query(&Message::query("bad.example", A))?;
    ensure!([SERVFAIL, REFUSED].contains(&answer.code()), "{answer:?}");
    for owner in ["servfail.example", "notimp.example", "refused.example"] {
        let begin = Instant::now();
        ensure!(net.ask(owner, AAAA)? == made(), "{owner}");
        ensure!(
            begin.elapsed() < Duration::from_secs(1),
            "{owner} took long"
        );
    }
    // The one that answers is asked first from then on.
    ensure!(bad.kinds("refused.example").is_empty());
    ensure!(good.kinds("refused.example") == [AAAA, A]);
    Ok(())
}

fn dn_22_forty_addresses_over_udp_and_tcp() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.scripted(|asked| {
        let all = (0..40).map(|last| Record::a(&asked.name, 300, [198, 51, 100, last]));
        match (asked.kind, asked.is_tcp) {
            (A, true) => asked.answer(all.collect()).into(),
            (A, false) => {
                let mut answer = asked.answer(vec![]);
                answer.flags |= Message::TC;
                answer.into()
            }
            _ => asked.nothing(300).into(),
        }
    })?;
    let plain = Message::query("x.example", AAAA);
    // 40 addresses take 40 * 28 bytes; with EDNS 1232 bytes are enough for the rest.
    let short = net.query(&plain)?;
    ensure!(short.has(Message::TC) && short.answers.is_empty());
    let wide = plain.clone().with_edns(0, 1232, false);
    let expected: Vec<Ipv6Addr> = (0..40)
        .map(|last| embedded([198, 51, 100, last].into()))
        .collect();
    let whole = net.query(&wide)?;
    ensure!(!whole.has(Message::TC) && whole.addresses() == expected);
    let whole = net.query_over_tcp(&plain)?;
    ensure!(!whole.has(Message::TC) && whole.addresses() == expected);
    let narrow = net.query(&plain.clone().with_edns(0, 600, false))?;
    ensure!(narrow.has(Message::TC) && narrow.edns().is_some());
    // Upstream was asked over TCP because it said that there is more.
    let over_tcp = upstream.questions("x.example");
    ensure!(over_tcp.iter().filter(|asked| asked.is_tcp).count() == 1);
    Ok(())
}

fn dn_33_chains_without_an_end_and_answers_that_cannot_be_read() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.scripted(|asked| {
        let circle = asked.answer(vec![
            Record::cname("circle.example", "other.example"),
            Record::cname("other.example", "circle.example"),
        ]);
        let mut bytes = asked.answer(vec![]).to_bytes();
        bytes[7] = 1;
        let end = bytes.len() as u8;
        match asked.name.as_str() {
            "circle.example" => return circle.into(),
            // Pointers that point at themselves, an address of three bytes, a record cut off.
            "pointer.example" => {
                bytes.extend([0xc0, end, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4]);
            }
            "short.example" => bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 3, 1, 2, 3]),
            "cut.example" => bytes.extend([0xc0, 12, 0, 1, 0]),
            _ => return asked.v4_only(SERVER).into(),
        }
        vec![Act::Send(bytes)]
    })?;
    for owner in [
        "circle.example",
        "pointer.example",
        "short.example",
        "cut.example",
    ] {
        for kind in [A, AAAA] {
            let begin = Instant::now();
            let answer = net.query(&Message::query(owner, kind))?;
            ensure!(answer.code() == SERVFAIL && answer.answers.is_empty());
            let took = begin.elapsed();
            ensure!(took < Duration::from_secs(1), "{owner} took {took:?}");
        }
    }
    ensure!(net.ask("x.example", AAAA)? == made());
    Ok(())
}

fn dn_34_answers_that_do_not_belong_to_the_question() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.scripted(|asked| {
        let mut acts = asked.forgeries();
        acts.extend([
            Act::Wait(Duration::from_millis(50)),
            Act::Say(asked.v4_only(SERVER)),
        ]);
        acts
    })?;
    let found = net.ask("x.example", AAAA)?;
    ensure!(found == made(), "{found:?}");
    Ok(())
}

fn se_20_records_of_other_names() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.scripted(|asked| {
        let mut answer = asked.v4_only(SERVER);
        if asked.name == "evil.example" {
            answer
                .answers
                .push(Record::aaaa("bank.example", 300, Ipv6Addr::LOCALHOST));
            answer
                .answers
                .push(Record::a("bank.example", 300, [192, 0, 2, 66]));
            let glue = Record::aaaa("bank.example", 300, Ipv6Addr::LOCALHOST);
            answer.additionals.push(glue);
        }
        answer.into()
    })?;
    let answer = ask(&net, "evil.example")?;
    ensure!(answer.answers == [Record::aaaa("evil.example", 300, embedded(SERVER))]);
    // Nor is anything of it known about the other name.
    ensure!(net.ask("bank.example", AAAA)? == made());
    ensure!(upstream.kinds("bank.example") == [AAAA, A]);
    Ok(())
}
