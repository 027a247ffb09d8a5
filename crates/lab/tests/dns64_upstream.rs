//! What upstream says, and what the DNS64 of the real `plat` makes of it: rule by rule against a
//! resolver with a script.

use std::net::Ipv6Addr;

use anyhow::{Result, ensure};
use lab::dns64_fixture::Dns64Fixture;
use lab::suite::Test;
use lab::topology::{SERVER, embedded};
use lab::traffic::dns::kind::{A, AAAA, CNAME, DNAME, HTTPS, MX, PTR, SOA, SRV, TXT};
use lab::traffic::dns::message::name;
use lab::traffic::dns::{Asked, Message, Record};

const TESTS: &[Test] = lab::tests![
    dn_02_dn_03_an_answer_about_ipv6_ends_it,
    dn_04_each_failure_about_ipv6_counts_as_no_address,
    dn_06_all_some_and_none_of_the_addresses_are_excluded,
    dn_07_chains_of_one_three_and_eight_aliases,
    dn_07_a_renamed_tree_is_followed,
    dn_08_chains_that_differ,
    dn_09_nothing_and_failures_about_ipv4,
    dn_18_dn_30_names_of_synthetic_addresses,
    dn_20_other_types_are_passed_on_byte_by_byte,
    dn_24_dn_25_what_is_validated_and_what_is_forged,
    dn_26_who_validates_itself_sees_what_is_there,
    dn_32_synthetic_and_real_answers_are_kept_apart,
];

/// What is made of the address that most names have.
fn made() -> Vec<Ipv6Addr> {
    vec![embedded(SERVER)]
}

fn real() -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 1)
}

const V4: [u8; 4] = SERVER.octets();

const FORMERR: u16 = 1;
const SERVFAIL: u16 = 2;
const NXDOMAIN: u16 = 3;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;

fn ask(net: &Dns64Fixture, owner: &str) -> Result<Message> {
    net.query(&Message::query(owner, AAAA))
}

fn main() {
    lab::suite::run(TESTS)
}

fn dn_02_dn_03_an_answer_about_ipv6_ends_it() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.scripted(|asked| match (asked.name.as_str(), asked.kind) {
        ("both.example", AAAA) => asked
            .answer(vec![Record::aaaa(&asked.name, 60, real())])
            .into(),
        ("none.example", _) => asked.code(NXDOMAIN).into(),
        _ => asked.v4_only(SERVER).into(),
    })?;
    ensure!(net.ask("both.example", AAAA)? == [real()]);
    ensure!(ask(&net, "none.example")?.code() == NXDOMAIN);
    for owner in ["both.example", "none.example"] {
        ensure!(upstream.kinds(owner) == [AAAA], "{owner}");
    }
    Ok(())
}

fn dn_04_each_failure_about_ipv6_counts_as_no_address() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.scripted(|asked| {
        let code = asked.name.trim_start_matches("code").split('.').next();
        match (asked.kind, code.and_then(|code| code.parse().ok())) {
            (AAAA, Some(code)) => asked.code(code).into(),
            _ => asked.v4_only(SERVER).into(),
        }
    })?;
    for code in [1, 2, 4, 5, 8, 9, 10] {
        let owner = format!("code{code}.example");
        let found = net.ask(&owner, AAAA)?;
        ensure!(found == made(), "{code}: {found:?}");
        // SERVFAIL is looked at once more without validation (DN-25), FORMERR and NOTIMP without
        // EDNS (RFC 6891 section 6.2.2).
        let expected = if [FORMERR, SERVFAIL, NOTIMP].contains(&code) {
            &[AAAA, AAAA, A][..]
        } else {
            &[AAAA, A]
        };
        let kinds = upstream.kinds(&owner);
        ensure!(kinds == expected, "{code}: {kinds:?}");
    }
    Ok(())
}

fn dn_06_all_some_and_none_of_the_addresses_are_excluded() -> Result<()> {
    let net = Dns64Fixture::new(&["--dns64-exclude=2001:db8:bad::/48"])?;
    let mapped: Ipv6Addr = "::ffff:198.51.100.9".parse()?;
    let bad: Ipv6Addr = "2001:db8:bad::1".parse()?;
    let _upstream = net.scripted(move |asked| {
        let own: &[Ipv6Addr] = match asked.name.as_str() {
            "all.example" => &[mapped, bad],
            "some.example" => &[mapped, real(), bad],
            _ => &[real()],
        };
        let records = own.iter().map(|one| Record::aaaa(&asked.name, 60, *one));
        match asked.kind {
            AAAA => asked.answer(records.collect()).into(),
            _ => asked.v4_only(SERVER).into(),
        }
    })?;
    ensure!(net.ask("all.example", AAAA)? == made());
    ensure!(net.ask("some.example", AAAA)? == [real()]);
    ensure!(net.ask("none.example", AAAA)? == [real()]);
    Ok(())
}

/// `chainN.example` leads over N aliases to `linkN.example`.
fn chain(asked: &Asked) -> Vec<Record> {
    let count = asked.name.trim_start_matches("chain").split('.').next();
    let count: usize = count.and_then(|count| count.parse().ok()).unwrap_or(0);
    let owner = |number: usize| match number {
        0 => asked.name.clone(),
        _ => format!("link{number}.example"),
    };
    let mut records: Vec<Record> = (0..count)
        .map(|number| Record::cname(&owner(number), &owner(number + 1)))
        .collect();
    if asked.kind == A {
        records.push(Record::a(&owner(count), 300, V4));
    }
    records
}

fn dn_07_chains_of_one_three_and_eight_aliases() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.scripted(|asked| {
        let mut answer = asked.answer(chain(asked));
        answer.authorities.push(Record::soa("example", 200));
        answer.into()
    })?;
    for count in [1, 3, 8, 16] {
        let owner = format!("chain{count}.example");
        let answer = ask(&net, &owner)?;
        let mut before = owner.clone();
        for (number, link) in answer.answers[..count].iter().enumerate() {
            let next = format!("link{}.example", number + 1);
            ensure!(*link == Record::cname(&before, &next), "{link:?}");
            before = next;
        }
        let end = Record::aaaa(&before, 200, embedded(SERVER));
        ensure!(answer.answers[count..] == [end], "{answer:?}");
    }
    let answer = ask(&net, "chain17.example")?;
    ensure!(answer.code() == SERVFAIL && answer.answers.is_empty());
    Ok(())
}

fn dn_07_a_renamed_tree_is_followed() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.scripted(|asked| {
        let mut records = vec![
            Record::new("old.example", DNAME, 300, name("new.example")),
            Record::cname("x.old.example", "x.new.example"),
        ];
        if asked.kind == A {
            records.push(Record::a("x.new.example", 300, V4));
        }
        asked.answer(records).into()
    })?;
    let answer = ask(&net, "x.old.example")?;
    let kinds: Vec<u16> = answer.answers.iter().map(|one| one.kind).collect();
    ensure!(kinds == [DNAME, CNAME, AAAA], "{answer:?}");
    ensure!(answer.answers[0].data == name("new.example"));
    ensure!(answer.answers[2].owner == "x.new.example");
    Ok(())
}

fn dn_08_chains_that_differ() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.scripted(|asked| {
        let to = if asked.kind == A { "new" } else { "old" };
        let end = format!("{to}.example");
        let mut records = vec![Record::cname(&asked.name, &end)];
        if asked.kind == A {
            records.push(Record::a(&end, 300, V4));
        }
        asked.answer(records).into()
    })?;
    let answer = ask(&net, "x.example")?;
    let expected = [
        Record::cname("x.example", "new.example"),
        Record::aaaa("new.example", 300, embedded(SERVER)),
    ];
    ensure!(answer.answers == expected, "{answer:?}");
    Ok(())
}

fn dn_09_nothing_and_failures_about_ipv4() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.scripted(|asked| match (asked.name.as_str(), asked.kind) {
        (_, AAAA) => asked.nothing(77).into(),
        ("refused.example", A) => asked.code(REFUSED).into(),
        ("failed.example", A) => asked.code(SERVFAIL).into(),
        ("gone.example", A) => asked.code(NXDOMAIN).into(),
        _ => asked.nothing(55).into(),
    })?;
    let nothing = ask(&net, "nothing.example")?;
    ensure!(nothing.code() == 0 && nothing.answers.is_empty());
    // The SOA record is that of the answer about IPv6.
    let soa = &nothing.authorities[0];
    ensure!((soa.kind, soa.ttl) == (SOA, 77), "{soa:?}");
    for (owner, code) in [
        ("refused.example", REFUSED),
        ("failed.example", SERVFAIL),
        ("gone.example", NXDOMAIN),
    ] {
        ensure!(ask(&net, owner)?.code() == code, "{owner}");
    }
    Ok(())
}

fn dn_18_dn_30_names_of_synthetic_addresses() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.scripted(|asked| {
        let data = name("v4.example");
        asked
            .answer(vec![Record::new(&asked.name, PTR, 60, data)])
            .into()
    })?;
    let reverse = |address: Ipv6Addr| {
        let digits = format!("{:032x}", address.to_bits());
        let labels: Vec<String> = digits.chars().rev().map(String::from).collect();
        format!("{}.ip6.arpa", labels.join("."))
    };
    // Of the network's own prefix and the well-known one.
    for prefix in [embedded(SERVER), "64:ff9b::198.51.100.2".parse()?] {
        let owner = reverse(prefix);
        let answer = net.query(&Message::query(&owner, PTR))?;
        let target = "2.100.51.198.in-addr.arpa";
        let alias = Record::new(&owner, CNAME, 60, name(target));
        let end = Record::new(target, PTR, 60, name("v4.example"));
        ensure!(answer.answers == [alias, end], "{answer:?}");
    }
    let asked = upstream.asked();
    let answer = net.query(&Message::query(
        &reverse(embedded([192, 0, 0, 170].into())),
        PTR,
    ))?;
    let end = &answer.answers[1];
    ensure!(end.owner == "170.0.0.192.in-addr.arpa" && end.data == name("ipv4only.arpa"));
    ensure!(upstream.asked() == asked, "this is known here");
    Ok(())
}

fn dn_20_other_types_are_passed_on_byte_by_byte() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let rdata = |kind: u16| -> Vec<u8> {
        match kind {
            MX => [&[0, 10][..], &name("mail.example")].concat(),
            SRV => [&[0, 1, 0, 2, 0x13, 0xc4][..], &name("sip.example")].concat(),
            // Priority 1, the name itself, alpn=h2, ipv4hint, ipv6hint.
            HTTPS => [
                &[0, 1, 0][..],
                &[0, 1, 0, 3, 2, b'h', b'2'],
                &[0, 4, 0, 4, 198, 51, 100, 2],
                &[0, 6, 0, 16],
                &real().octets(),
            ]
            .concat(),
            TXT => b"\x05hello\x00\x03\xff\xfe\x00".to_vec(),
            // A type that nobody knows.
            _ => vec![0xc0, 0x0c, 1, 2, 3],
        }
    };
    let upstream = net.scripted(move |asked| {
        let record = Record::new(&asked.name, asked.kind, 60, rdata(asked.kind));
        let mut answer = asked.answer(vec![record]);
        answer
            .additionals
            .push(Record::a("mail.example", 60, [192, 0, 2, 1]));
        answer.into()
    })?;
    for kind in [MX, SRV, HTTPS, TXT, 65_400] {
        let answer = net.query(&Message::query("x.example", kind))?;
        let expected = Record::new("x.example", kind, 60, rdata(kind));
        ensure!(answer.answers == [expected], "{kind}: {answer:?}");
        let glue = Record::a("mail.example", 60, [192, 0, 2, 1]);
        ensure!(answer.additionals == [glue], "{kind}: {answer:?}");
    }
    ensure!(upstream.kinds("x.example") == [MX, SRV, HTTPS, TXT, 65_400]);
    Ok(())
}

fn dn_24_dn_25_what_is_validated_and_what_is_forged() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.scripted(|asked| {
        let forged = asked.name == "forged.example" && asked.kind == AAAA;
        if forged && !asked.is_unchecked() {
            return asked.code(SERVFAIL).into();
        }
        let mut answer = asked.v4_only(SERVER);
        answer.flags |= Message::AD;
        if asked.name == "half.example" && asked.kind == AAAA {
            answer.flags &= !Message::AD;
        }
        answer.into()
    })?;
    let forged = ask(&net, "forged.example")?;
    ensure!(forged.code() == SERVFAIL && forged.answers.is_empty());
    ensure!(upstream.kinds("forged.example") == [AAAA, AAAA]);
    let asks = |owner: &str, dnssec_ok: bool, flags: u16| {
        let mut query = Message::query(owner, AAAA).with_edns(0, 1232, dnssec_ok);
        query.flags |= flags;
        net.query(&query)
    };
    for (owner, dnssec_ok, flags, is_authentic) in [
        ("x.example", false, 0, false),
        ("x.example", false, Message::AD, false),
        ("x.example", false, Message::CD, false),
        ("x.example", true, 0, true),
        ("half.example", true, 0, false),
    ] {
        let answer = asks(owner, dnssec_ok, flags)?;
        ensure!(answer.addresses() == made(), "{answer:?}");
        ensure!(answer.has(Message::AD) == is_authentic, "{answer:?}");
        ensure!(answer.has(Message::CD) == (flags == Message::CD));
    }
    Ok(())
}

fn dn_26_who_validates_itself_sees_what_is_there() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.scripted(|asked| asked.v4_only(SERVER).into())?;
    let mut query = Message::query("x.example", AAAA).with_edns(0, 1232, true);
    query.flags |= Message::CD;
    let answer = net.query(&query)?;
    ensure!(
        answer.code() == 0 && answer.answers.is_empty(),
        "{answer:?}"
    );
    ensure!(answer.authorities == [Record::soa("example", 300)]);
    let asked = upstream.questions("x.example");
    ensure!(asked.len() == 1 && asked[0].is_unchecked());
    let edns = asked[0].message.edns().map(|opt| opt.ttl);
    ensure!(edns == Some(0x8000), "DO is asked for: {edns:?}");
    Ok(())
}

fn dn_32_synthetic_and_real_answers_are_kept_apart() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.scripted(|asked| asked.v4_only(SERVER).into())?;
    ensure!(net.ask("x.example", AAAA)? == made());
    let mut own = Message::query("x.example", AAAA).with_edns(0, 1232, true);
    own.flags |= Message::CD;
    ensure!(net.query(&own)?.answers.is_empty());
    let v4 = net.query(&Message::query("x.example", A))?;
    ensure!(v4.answers == [Record::a("x.example", 300, V4)]);
    let asked = upstream.asked();
    ensure!(net.ask("x.example", AAAA)? == made());
    ensure!(net.query(&own)?.answers.is_empty());
    ensure!(upstream.asked() == asked, "all of this was kept");
    Ok(())
}
