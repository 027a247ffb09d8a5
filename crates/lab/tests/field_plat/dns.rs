//! Clients and upstream resolvers as they are.

use std::net::Ipv6Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::bind::{Bind, DIG};
use lab::dns64_fixture::{Dns64Fixture, RESOLVER};
use lab::installed::PATIENCE;
use lab::namespace::Namespace;
use lab::suite::Test;
use lab::topology::{SERVER, embedded};
use lab::traffic::dns::kind::{A, AAAA, OPT, SOA, TXT};
use lab::traffic::dns::{Act, Asked, Message, Record};

pub(crate) const TESTS: &[Test] = lab::tests![
    fp_06_a_resolver_that_refuses_edns_is_asked_without,
    fp_06_a_resolver_that_is_silent_to_edns_is_asked_without,
    fp_44_a_resolver_that_answers_over_tcp_alone_is_asked_so,
    fp_07_records_that_cannot_be_parsed_pass_through,
    fp_07_bind_and_its_client_understand_each_other_through_us,
    fp_07_a_query_that_cannot_be_parsed_is_told_so,
    fp_08_resolver_arpa_does_not_lead_past_the_dns64,
];

/// The test that needs programs of the system, and these.
pub(crate) const WITH_BIND: &str = "fp_07_bind_and_its_client_understand_each_other_through_us";

const FORMERR: u16 = 1;
const NOTIMP: u16 = 4;
pub(crate) const SVCB: u16 = 64;

pub(crate) fn has_opt(asked: &Asked) -> bool {
    asked.message.edns().is_some()
}

/// How resolvers refuse EDNS.
pub(crate) fn refusals() -> [fn(&Asked) -> Vec<u8>; 4] {
    [
        |asked| asked.code(FORMERR).to_bytes(),
        |asked| asked.code(NOTIMP).to_bytes(),
        // The header alone.
        |asked| {
            let mut bare = asked.code(FORMERR);
            bare.questions.clear();
            bare.to_bytes()
        },
        // The query sent back, its OPT record included.
        |asked| {
            let mut echo = asked.message.clone();
            echo.flags |= Message::QR | FORMERR;
            echo.to_bytes()
        },
    ]
}

/// Home routers and old load balancers that have never heard of EDNS.
fn fp_06_a_resolver_that_refuses_edns_is_asked_without() -> Result<()> {
    for (number, refuse) in refusals().into_iter().enumerate() {
        let net = Dns64Fixture::new(&[])?;
        let upstream = net.scripted(move |asked| match has_opt(asked) {
            true => vec![Act::Send(refuse(asked))],
            false => asked.v4_only(SERVER).into(),
        })?;
        let begin = Instant::now();
        for owner in ["one.example", "two.example"] {
            let found = net.ask(owner, AAAA)?;
            ensure!(found == [embedded(SERVER)], "{number}: {found:?}");
        }
        let took = begin.elapsed();
        ensure!(took < Duration::from_millis(300), "{number} took {took:?}");
        // Refused once, and known from then on.
        let first = upstream.questions("one.example");
        let opts: Vec<bool> = first.iter().map(has_opt).collect();
        ensure!(opts == [true, false, false], "{number}: {opts:?}");
        ensure!(!upstream.questions("two.example").iter().any(has_opt));
        let line = "the resolver 198.51.100.2:53 has no EDNS";
        net.installed.plat.wait_for_line(line, PATIENCE)?;
        let status = net.installed.ask_plat(&["status"])?;
        let line = "resolvers 198.51.100.2:53 without EDNS";
        ensure!(status.contains(line), "{status}");
    }
    Ok(())
}

/// Firewalls that drop queries with options.
fn fp_06_a_resolver_that_is_silent_to_edns_is_asked_without() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.scripted(|asked| match has_opt(asked) {
        true => Vec::new(),
        false => asked.v4_only(SERVER).into(),
    })?;
    let found = net.ask("one.example", AAAA)?;
    ensure!(found == [embedded(SERVER)], "{found:?}");
    let begin = Instant::now();
    ensure!(net.ask("two.example", AAAA)? == [embedded(SERVER)]);
    let took = begin.elapsed();
    ensure!(took < Duration::from_millis(300), "{took:?}");
    ensure!(!upstream.questions("two.example").iter().any(has_opt));
    Ok(())
}

/// A firewall that lets DNS pass over TCP alone, and one day over UDP again.
fn fp_44_a_resolver_that_answers_over_tcp_alone_is_asked_so() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.scripted(|asked| match asked.is_tcp {
        false => Vec::new(),
        true => asked.v4_only(SERVER).into(),
    })?;
    ensure!(net.ask("one.example", AAAA)? == [embedded(SERVER)]);
    let line = "the resolver 198.51.100.2:53 answers over TCP alone";
    net.installed.plat.wait_for_line(line, PATIENCE)?;
    // From then on nothing waits for UDP.
    let begin = Instant::now();
    ensure!(net.ask("two.example", AAAA)? == [embedded(SERVER)]);
    let took = begin.elapsed();
    ensure!(took < Duration::from_millis(300), "{took:?}");
    drop(upstream);
    let _upstream = net.scripted(|asked| match asked.is_tcp {
        false => asked.v4_only(SERVER).into(),
        true => Vec::new(),
    })?;
    ensure!(net.ask("three.example", AAAA)? == [embedded(SERVER)]);
    let begin = Instant::now();
    ensure!(net.ask("four.example", AAAA)? == [embedded(SERVER)]);
    let took = begin.elapsed();
    ensure!(took < Duration::from_millis(300), "{took:?}");
    let log = net.installed.plat.log();
    ensure!(log.matches("over TCP alone").count() == 1, "{log}");
    Ok(())
}

fn native() -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 1)
}

/// Records that a strict parser refuses, and of types that nobody knows.
pub(crate) const CASES: [(u16, &[u8]); 6] = [
    // NAPTR with the flag "-U".
    (35, b"\0\x0a\0\x14\x02-U\x07SIP+D2U\0\x03sip\x07example\0"),
    // SVCB with its keys in the wrong order.
    (
        SVCB,
        b"\0\x01\0\0\x04\0\x04\xc6\x33\x64\x02\0\x01\0\x03\x02h3",
    ),
    (TXT, b""),
    // CAA with a hyphen in its tag.
    (257, b"\0\x0aissue-wild;"),
    // HINFO of one string, and a type that nobody knows.
    (13, b"\x03CPU"),
    (65_400, b"\xc0\x0c\xff"),
];

/// Beside an address, and as what was asked for.
fn fp_07_records_that_cannot_be_parsed_pass_through() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.scripted(|asked| {
        let strange = CASES
            .iter()
            .map(|(kind, data)| Record::new("x.example", *kind, 60, *data));
        let strange: Vec<Record> = strange.collect();
        let own = strange.iter().filter(|one| one.kind == asked.kind);
        let mut answer = asked.answer(own.cloned().collect());
        if asked.kind == AAAA {
            answer.answers = vec![Record::aaaa("x.example", 60, native())];
            answer.additionals = strange;
        }
        for _ in 0..2 {
            answer = answer.with_edns(0, 1232, false);
        }
        answer.into()
    })?;
    // The client's own spelling comes back, in the records as in the question.
    let answer = net.query(&Message::query("X.exaMple", AAAA))?;
    ensure!(answer.questions[0].0 == "X.exaMple", "{answer:?}");
    ensure!(
        answer.answers == [Record::aaaa("X.exaMple", 60, native())],
        "{answer:?}"
    );
    for (kind, data) in CASES {
        let expected = Record::new("x.example", kind, 60, data);
        let is_same = |one: &&Record| (one.kind, &one.data) == (kind, &expected.data);
        ensure!(
            answer.additionals.iter().filter(is_same).count() == 1,
            "{kind}: {answer:?}"
        );
        let asked = net.query(&Message::query("x.example", kind))?;
        ensure!(
            asked.code() == 0 && asked.answers == [expected],
            "{kind}: {asked:?}"
        );
    }
    Ok(())
}

/// Many types of records in a zone of BIND. What `dig` shows is the same with us in between.
fn fp_07_bind_and_its_client_understand_each_other_through_us() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let records = [
        ("MX", "10 mail.x"),
        ("NS", "ns.x"),
        ("SRV", "1 2 5060 sip.x"),
        ("NAPTR", "10 20 \"U\" \"SIP+D2U\" \"!^.*$!sip:a@b!\" ."),
        (
            "HTTPS",
            "1 . alpn=h2,h3 ipv4hint=198.51.100.2 ipv6hint=2001:db8::1",
        ),
        ("SVCB", "1 dot.x alpn=dot port=853 key65333=a"),
        ("CAA", "128 issue \"ca.example; policy=ev\""),
        ("TXT", "\"\" \"one\\255\\000\" \"v=spf1 -all\""),
        ("RP", "admin.x txt.x"),
        ("AFSDB", "1 afs.x"),
        ("KX", "5 kx.x"),
        (
            "LOC",
            "52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m",
        ),
        (
            "SSHFP",
            "4 2 \
          9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        ),
        (
            "TLSA",
            "3 1 1 \
          9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        ),
        ("HINFO", "\"PC\" \"LINUX\""),
        ("URI", "10 1 \"https://x.example/\""),
        ("TYPE65400", "\\# 5 C00C010203"),
    ];
    let mut zone = "$TTL 300\n@ SOA ns root 1 3600 600 86400 300\n@ NS ns\nns A 198.51.100.2\n\
                    ns.x A 198.51.100.2\nmail.x A 198.51.100.2\n"
        .to_owned();
    for (kind, data) in records {
        // A delegation would hide the rest.
        let owner = if kind == "NS" { "@" } else { "x" };
        zone += &format!("{owner} {kind} {data}\n");
    }
    let _named = Bind::start(&net.topology().server, &[("example", &zone)])?;
    for (kind, _) in records {
        let owner = if kind == "NS" { "example" } else { "x.example" };
        let shown = |namespace: &Namespace, server: &str| dig(namespace, server, owner, kind);
        let direct = shown(&net.topology().server, "198.51.100.2")?;
        let through = shown(net.topology().client(), &RESOLVER.to_string())?;
        ensure!(
            !direct.is_empty() && direct == through,
            "{direct:?} {through:?}"
        );
    }
    Ok(())
}

/// The records that `dig` shows, sorted.
fn dig(namespace: &Namespace, server: &str, owner: &str, kind: &str) -> Result<Vec<String>> {
    let mut process = Command::new(DIG);
    process.args([
        "+noall",
        "+answer",
        "+additional",
        &format!("@{server}"),
        owner,
        kind,
    ]);
    process.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = namespace.spawn(process)?.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

/// Two OPT records (RFC 6891 section 6.1.1), and a query that is cut off. With options that are
/// none, it is answered: cookies, padding and the like are between neighbours.
fn fp_07_a_query_that_cannot_be_parsed_is_told_so() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.upstream(1)?;
    let plain = Message::query("x.example", AAAA);
    let two = plain
        .clone()
        .with_edns(0, 1232, false)
        .with_edns(0, 1232, false);
    let answer = net.query(&two)?;
    ensure!(
        answer.code() == FORMERR && answer.id == two.id,
        "{answer:?}"
    );
    let mut cut = plain.clone();
    cut.additionals.push(Record::new("x", A, 0, [1, 2, 3]));
    let mut bytes = cut.to_bytes();
    bytes.truncate(bytes.len() - 1);
    let client = net.topology().client();
    let answer = client.run(|| lab::traffic::dns::over_udp(RESOLVER, &bytes))?;
    ensure!(Message::parse(&answer)?.code() == FORMERR, "{answer:?}");
    ensure!(upstream.asked() == 0);
    // A cookie of three bytes, a client subnet of no family, an option that is cut off.
    for option in [
        &[0, 10, 0, 3, 1, 2, 3][..],
        &[0, 8, 0, 4, 0, 9, 99, 0],
        &[0, 12, 1, 0, 7],
    ] {
        let mut query = plain.clone();
        let mut opt = Record::new("", OPT, 0, option);
        opt.class = 1232;
        query.additionals.push(opt);
        let answer = net.query(&query)?;
        ensure!(
            answer.addresses() == [embedded(SERVER)],
            "{option:?}: {answer:?}"
        );
    }
    Ok(())
}

/// Windows, iOS and macOS ask for this name in every network (DDR).
fn fp_08_resolver_arpa_does_not_lead_past_the_dns64() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.scripted(|asked| {
        let elsewhere = b"\0\x01\x03dot\x07example\0\0\x01\0\x04\x03dot";
        asked
            .answer(vec![Record::new(&asked.name, SVCB, 300, *elsewhere)])
            .into()
    })?;
    for owner in ["_dns.resolver.arpa", "resolver.arpa"] {
        let answer = net.query(&Message::query(owner, SVCB))?;
        ensure!(
            answer.code() == 0 && answer.answers.is_empty(),
            "{answer:?}"
        );
        let kinds: Vec<u16> = answer.authorities.iter().map(|one| one.kind).collect();
        ensure!(kinds == [SOA], "{answer:?}");
    }
    ensure!(upstream.asked() == 0);
    Ok(())
}
