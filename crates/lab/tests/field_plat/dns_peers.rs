//! The same resolvers before us and before unbound: a client of either is told the same.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lab::bind::Bind;
use lab::dns64_fixture::Dns64Fixture;
use lab::suite::Test;
use lab::topology::{PREF64, SERVER, embedded};
use lab::traffic::dns::kind::{A, AAAA, CNAME, MX, SOA, TXT};
use lab::traffic::dns::{Asked, Message, Record, over_udp_to};
use lab::unbound::Unbound;

use crate::dns::{CASES, SVCB, has_opt, refusals};

pub(crate) const TESTS: &[Test] = lab::tests![
    fp_06_unbound_beside_us_finds_the_same_behind_resolvers_that_refuse_edns,
    fp_06_unbound_beside_us_finds_the_same_behind_a_bind_without_edns,
    fp_07_unbound_beside_us_passes_the_same_records_through,
    fp_07_records_that_cannot_be_parsed_pass_through_unbound_and_us,
    fp_08_what_unbound_and_bind_designate_leads_nobody_past_us,
];

/// Those that need unbound.
pub(crate) const WITH_UNBOUND: [&str; 5] =
    [TESTS[0].0, TESTS[1].0, TESTS[2].0, TESTS[3].0, TESTS[4].0];
/// Those that need BIND besides.
pub(crate) const WITH_BIND: [&str; 2] = [TESTS[1].0, TESTS[4].0];

/// What both have for a resolver.
const RESOLVER: SocketAddr = at(53);
/// Where unbound is that does what we do.
const BESIDE: SocketAddr = at(5353);

const fn at(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(SERVER), port)
}

/// Unbound as a DNS64 with our prefix, in front of the same resolver.
fn beside(net: &Dns64Fixture) -> Result<Unbound> {
    Unbound::forwarder(&net.topology().server, BESIDE, RESOLVER, Some(PREF64))
}

fn ask(net: &Dns64Fixture, server: SocketAddr, query: &Message) -> Result<Message> {
    let server_side = &net.topology().server;
    let answer = server_side.run(|| over_udp_to(server, &query.to_bytes()));
    Message::parse(&answer.with_context(|| format!("{server}: {query:?}"))?)
}

/// What a client sees of an answer: the code, and the records without the time that is left.
fn told(answer: &Message) -> (u16, Vec<(String, u16, Vec<u8>)>) {
    let records = answer.answers.iter();
    let mut records: Vec<_> = records
        .map(|one| (one.owner.clone(), one.kind, one.data.clone()))
        .collect();
    records.sort();
    (answer.code(), records)
}

fn ensure_same(net: &Dns64Fixture, queries: &[Message]) -> Result<()> {
    for query in queries {
        let (ours, theirs) = (net.query(query)?, ask(net, BESIDE, query)?);
        ensure!(
            told(&ours) == told(&theirs),
            "{query:?}: {ours:?} {theirs:?}"
        );
    }
    Ok(())
}

/// An address that is made, one that is not, an alias, and a name that is not there.
fn queries() -> Vec<Message> {
    [
        ("v4.example", AAAA),
        ("v4.example", A),
        ("Alias.example", AAAA),
        ("v4.example", MX),
        ("no.example", AAAA),
    ]
    .map(|(owner, kind)| Message::query(owner, kind))
    .into()
}

fn zone(asked: &Asked) -> Message {
    let alias = asked.name == "alias.example";
    match (asked.name.as_str(), asked.kind) {
        ("no.example", _) => {
            let mut nothing = asked.nothing(300);
            nothing.flags |= 3;
            nothing
        }
        (_, A) if alias => asked.answer(vec![
            Record::cname(&asked.name, "v4.example"),
            Record::a("v4.example", 300, SERVER.octets()),
        ]),
        (_, CNAME | AAAA) if alias => {
            let mut answer = asked.answer(vec![Record::cname(&asked.name, "v4.example")]);
            answer.authorities.push(Record::soa("example", 300));
            answer
        }
        _ => asked.v4_only(SERVER),
    }
}

fn fp_06_unbound_beside_us_finds_the_same_behind_resolvers_that_refuse_edns() -> Result<()> {
    for refuse in refusals() {
        let net = Dns64Fixture::new(&[])?;
        let _upstream = net.scripted(move |asked| match has_opt(asked) {
            true => vec![lab::traffic::dns::Act::Send(refuse(asked))],
            false => zone(asked).into(),
        })?;
        let _unbound = beside(&net)?;
        ensure_same(&net, &queries())?;
        ensure!(net.ask("v4.example", AAAA)? == [embedded(SERVER)]);
    }
    Ok(())
}

/// BIND itself as a resolver from before EDNS, and behind a firewall that drops it.
fn fp_06_unbound_beside_us_finds_the_same_behind_a_bind_without_edns() -> Result<()> {
    let zone = "$TTL 300\n@ SOA ns root 1 3600 600 86400 300\n@ NS ns\nns A 198.51.100.2\n\
                v4 A 198.51.100.2\nalias CNAME v4\n";
    for habit in ["ednsformerr", "ednsnotimp", "noedns", "dropedns"] {
        let net = Dns64Fixture::new(&[])?;
        let server = &net.topology().server;
        let _named = Bind::start_with(server, &[("example", zone)], &["-T", habit])?;
        // Unbound itself has no answer within ten seconds where EDNS is met by silence.
        if habit != "dropedns" {
            let _unbound = beside(&net)?;
            ensure_same(&net, &queries()).context(habit)?;
        }
        ensure!(
            net.ask("v4.example", AAAA)? == [embedded(SERVER)],
            "{habit}"
        );
    }
    Ok(())
}

fn strange(asked: &Asked) -> Message {
    let records = CASES
        .iter()
        .map(|(kind, data)| Record::new("x.example", *kind, 60, *data));
    let records: Vec<Record> = records.collect();
    let own = records.iter().filter(|one| one.kind == asked.kind);
    let mut answer = asked.answer(own.cloned().collect());
    if asked.kind == A {
        answer.answers = vec![Record::a("x.example", 60, SERVER.octets())];
        answer.additionals = records;
    }
    if answer.answers.is_empty() {
        return asked.nothing(60);
    }
    answer
}

fn strange_queries() -> Vec<Message> {
    let kinds = CASES.iter().map(|(kind, _)| *kind).chain([A, AAAA, TXT]);
    kinds
        .map(|kind| Message::query("X.exaMple", kind))
        .collect()
}

fn fp_07_unbound_beside_us_passes_the_same_records_through() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.scripted(|asked| strange(asked).into())?;
    let _unbound = beside(&net)?;
    ensure_same(&net, &strange_queries())
}

/// Unbound is our resolver here.
fn fp_07_records_that_cannot_be_parsed_pass_through_unbound_and_us() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.scripted_at(SERVER, 5354, |asked| strange(asked).into())?;
    let _unbound = Unbound::forwarder(&net.topology().server, RESOLVER, at(5354), None)?;
    for (kind, data) in CASES {
        let answer = net.query(&Message::query("X.exaMple", kind))?;
        let expected = (0, vec![("X.exaMple".to_owned(), kind, data.to_vec())]);
        ensure!(told(&answer) == expected, "{kind}: {answer:?}");
    }
    ensure!(net.ask("x.example", AAAA)? == [embedded(SERVER)]);
    Ok(())
}

/// A resolver that designates one with TLS (DDR), which knows nothing of our prefix.
fn fp_08_what_unbound_and_bind_designate_leads_nobody_past_us() -> Result<()> {
    let zone = "$TTL 300\n@ SOA ns.example. root.example. 1 3600 600 86400 300\n@ NS ns.example.\n\
                _dns SVCB 1 dot.example. alpn=dot port=853\n";
    let designation = Message::query("_dns.resolver.arpa", SVCB);
    for is_unbound in [true, false] {
        let net = Dns64Fixture::new(&[])?;
        let server = &net.topology().server;
        let lines =
            "auth-zone:\n name: \"resolver.arpa.\"\n for-downstream: yes\n zonefile: \"ZONE\"\n";
        let text = format!("$ORIGIN resolver.arpa.\n{zone}");
        let _resolvers = match is_unbound {
            true => (Some(Unbound::start(server, RESOLVER, lines, &text)?), None),
            false => (None, Some(Bind::start(server, &[("resolver.arpa", zone)])?)),
        };
        let theirs = ask(&net, RESOLVER, &designation)?;
        let kinds: Vec<u16> = theirs.answers.iter().map(|one| one.kind).collect();
        ensure!(kinds == [SVCB], "{theirs:?}");
        let ours = net.query(&designation)?;
        let kinds: Vec<u16> = ours.authorities.iter().map(|one| one.kind).collect();
        ensure!((ours.code(), kinds) == (0, vec![SOA]), "{ours:?}");
        ensure!(
            ours.answers.is_empty() && ours.additionals.is_empty(),
            "{ours:?}"
        );
    }
    Ok(())
}
