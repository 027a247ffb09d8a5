//! Clients of the DNS64 of the real `plat`: what each is told of the same answer, what is counted,
//! and those that are slow or wrong.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::dns64_fixture::{Dns64Fixture, RESOLVER};
use lab::installed::PATIENCE;
use lab::suite::Test;
use lab::topology::{SERVER, embedded};
use lab::traffic::dns::kind::{A, AAAA, TXT};
use lab::traffic::dns::{Message, Record, question};
use lab::wait::wait_until;

const TESTS: &[Test] = lab::tests![
    dn_23_each_client_is_answered_as_it_has_asked,
    dn_23_what_is_no_question_is_refused_though_the_name_is_known,
    each_query_is_counted_once,
    dn_33_slow_connections_are_bounded_and_come_to_an_end,
    dn_35_a_client_that_asks_fast_has_its_rate,
    dn_40_dn_41_dn_42_threads_answer_what_is_stale_or_was_looked_up_again,
];

fn main() {
    lab::suite::run(TESTS)
}

fn dn_23_each_client_is_answered_as_it_has_asked() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let upstream = net.upstream(1)?;
    let mut plain = Message::query("X.example", AAAA);
    plain.flags = 0;
    let mut edns = Message::query("x.EXAMPLE", AAAA).with_edns(0, 4096, false);
    edns.id = 0x4321;
    // The first of each pair is looked up, the rest is kept.
    for query in [&plain, &edns, &plain, &edns] {
        let answer = net.query(query)?;
        ensure!(answer.addresses() == [embedded(SERVER)], "{answer:?}");
        ensure!(answer.id == query.id && answer.questions == query.questions);
        ensure!(answer.edns().is_some() == query.edns().is_some());
        ensure!(answer.has(Message::RD) == query.has(Message::RD));
        ensure!(answer.has(Message::QR | Message::RA));
        if let Some(opt) = answer.edns() {
            ensure!((opt.class, opt.ttl) == (1232, 0), "{opt:?}");
        }
    }
    ensure!(upstream.asked() == 2);
    // The same at the same time: they wait together for one lookup.
    let client = net.topology().client();
    let sockets = client.run(|| {
        let sockets = [&plain, &edns].map(|query| -> Result<_> {
            let socket = UdpSocket::bind("[::]:0")?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let mut query = query.clone();
            query.questions[0].0 = "together.example".into();
            socket.send_to(&query.to_bytes(), (RESOLVER, 53))?;
            Ok(socket)
        });
        sockets.into_iter().collect::<Result<Vec<_>>>()
    })?;
    for (socket, query) in sockets.iter().zip([&plain, &edns]) {
        let mut bytes = [0; 2048];
        let length = socket.recv(&mut bytes)?;
        let answer = Message::parse(&bytes[..length])?;
        ensure!(answer.id == query.id && answer.edns().is_some() == query.edns().is_some());
    }
    Ok(())
}

fn dn_23_what_is_no_question_is_refused_though_the_name_is_known() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.upstream(1)?;
    let plain = Message::query("x.example", AAAA);
    ensure!(net.query(&plain)?.code() == 0);
    let version = plain.clone().with_edns(1, 1232, false);
    let mut two = plain.clone();
    two.questions.push(("y.example".into(), AAAA, 1));
    let mut none = plain.clone();
    none.questions.clear();
    // Opcode 2, status.
    let mut status = plain.clone();
    status.flags |= 2 << 11;
    for (query, code) in [(version, 16), (two, 1), (none, 1), (status, 4)] {
        let answer = net.query(&query)?;
        ensure!(answer.code() == code, "{code}: {answer:?}");
        ensure!(answer.answers.is_empty() && answer.id == query.id);
    }
    let transfer = net.query_over_tcp(&Message::query("example", 252))?;
    ensure!(transfer.code() == 5, "{transfer:?}");
    Ok(())
}

fn each_query_is_counted_once() -> Result<()> {
    let net = Dns64Fixture::new(&["--metrics=[::1]:9464"])?;
    let _upstream = net.scripted(|asked| match asked.name.as_str() {
        "failed.example" => asked.code(2).into(),
        _ => asked.v4_only(SERVER).into(),
    })?;
    // Looked up, kept, looked up without addresses made, failed, and known here.
    for (owner, kind) in [
        ("x.example", AAAA),
        ("x.example", AAAA),
        ("x.example", TXT),
        ("failed.example", A),
        ("ipv4only.arpa", A),
    ] {
        net.exchange(owner, kind)?;
    }
    net.topology().client().run(|| {
        let socket = UdpSocket::bind("[::]:0")?;
        socket.send_to(&[1, 2, 3], (RESOLVER, 53))?;
        Ok(())
    })?;
    let expected = [
        "plat_dns64_queries_total{outcome=\"cached\"} 1",
        "plat_dns64_queries_total{outcome=\"local\"} 1",
        "plat_dns64_queries_total{outcome=\"answered\"} 2",
        "plat_dns64_queries_total{outcome=\"failed\"} 1",
        "plat_dns64_queries_total{outcome=\"malformed\"} 1",
        "plat_dns64_synthesised_total 2",
        "plat_dns64_lookup_seconds_count 3",
    ];
    let end = Instant::now() + PATIENCE;
    loop {
        let text = net.topology().edge.run(|| {
            let mut stream = TcpStream::connect("[::1]:9464")?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })?;
        let missing = expected
            .iter()
            .find(|line| !text.lines().any(|one| one == **line));
        match missing {
            None => break,
            Some(line) => ensure!(Instant::now() < end, "{line} in {text}"),
        }
    }
    let status = net.installed.ask_plat(&["status", "--json"])?;
    ensure!(status.contains("\"queries\":6"), "{status}");
    Ok(())
}

/// Connections of one client that say nothing or too little: others are served, there is an end to
/// their number and to their time.
fn dn_33_slow_connections_are_bounded_and_come_to_an_end() -> Result<()> {
    const EACH: usize = 64;
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.upstream(1)?;
    let client = net.topology().client();
    let connect = || {
        let stream = TcpStream::connect_timeout(&SocketAddr::from((RESOLVER, 53)), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    let begin = Instant::now();
    let mut slow = client.run(|| (0..EACH).map(|_| connect()).collect::<Result<Vec<_>>>())?;
    // One promises 64 KiB and gives a part of them, one keeps its promise with nonsense, one is
    // served, and one goes away in the middle.
    slow[0].write_all(&[0xff, 0xff, 1, 2, 3])?;
    slow[1].write_all(&[0xff, 0xff])?;
    slow[1].write_all(&vec![0xa5; 0xffff])?;
    ensure!(
        slow[1].read(&mut [0; 1]).unwrap_or(0) == 0,
        "nonsense ends it"
    );
    let query = question("x.example", AAAA);
    slow[2].write_all(&[0, query.len() as u8])?;
    slow[2].write_all(&query)?;
    let mut length = [0; 2];
    slow[2].read_exact(&mut length)?;
    slow[3].write_all(&[0xff])?;
    // One place came back; for the next the connection makes room that is idle for longest.
    let more = client.run(|| (0..2).map(|_| connect()).collect::<Result<Vec<_>>>())?;
    ensure!(slow[0].read(&mut [0; 1]).unwrap_or(0) == 0, "it stays");
    ensure!(begin.elapsed() < Duration::from_secs(8), "too late to tell");
    ensure!(net.ask("x.example", AAAA)? == [embedded(SERVER)]);
    for mut one in more {
        one.write_all(&[0, query.len() as u8])?;
        one.write_all(&query)?;
        one.read_exact(&mut length).context("both are served")?;
    }
    // Ten seconds of silence are enough.
    ensure!(slow[4].read(&mut [0; 1]).unwrap_or(0) == 0);
    ensure!(begin.elapsed() < Duration::from_secs(20));
    let mut free = client.run(connect)?;
    free.write_all(&[0, query.len() as u8])?;
    free.write_all(&query)?;
    free.read_exact(&mut length).context("places come back")?;
    Ok(())
}

fn dn_35_a_client_that_asks_fast_has_its_rate() -> Result<()> {
    let net = Dns64Fixture::new(&["--dns64-rate=200"])?;
    let _upstream = net.upstream(1)?;
    net.ask("x.example", AAAA)?;
    let query = question("x.example", AAAA);
    let answers = net.topology().client().run(|| {
        let socket = UdpSocket::bind("[::]:0")?;
        socket.set_read_timeout(Some(Duration::from_micros(200)))?;
        let end = Instant::now() + Duration::from_secs(3);
        let mut answers = 0;
        while Instant::now() < end {
            socket.send_to(&query, (RESOLVER, 53))?;
            answers += usize::from(socket.recv(&mut [0; 512]).is_ok());
        }
        Ok(answers)
    })?;
    // A second's worth at once, and 200 in each of three seconds.
    ensure!((600..=820).contains(&answers), "{answers} answers");
    Ok(())
}

/// Two threads share the port. An answer is looked up again before its end while it is asked for, and told
/// behind it when the resolver fails.
fn dn_40_dn_41_dn_42_threads_answer_what_is_stale_or_was_looked_up_again() -> Result<()> {
    let flags = [
        "--dns64-threads=2",
        "--dns64-stale=3600",
        "--dns64-prefetch",
    ];
    let net = Dns64Fixture::new(&flags)?;
    let fails = Arc::new(AtomicBool::new(false));
    let upstream = net.scripted({
        let fails = Arc::clone(&fails);
        move |asked| match (fails.load(Ordering::SeqCst), asked.kind) {
            (true, _) => asked.code(2).into(),
            (false, A) => asked
                .answer(vec![Record::a(&asked.name, 2, SERVER.octets())])
                .into(),
            (false, _) => asked.nothing(300).into(),
        }
    })?;
    let threads = net.installed.plat.threads()?;
    for name in ["dns64-0", "dns64-1"] {
        ensure!(threads.iter().any(|(of, _)| of == name), "{threads:?}");
    }
    let query = Message::query("x.example", AAAA);
    // Each client has a socket of its own, and so some have either thread.
    for _ in 0..32 {
        ensure!(net.query(&query)?.addresses() == [embedded(SERVER)]);
    }
    // Counted as the answer of a resolver is only what a client has waited for.
    let mut known = (
        outcome(&net, "answered")?,
        upstream.kinds("x.example").len(),
    );
    wait_until(|| {
        ensure!(net.query(&query)?.addresses() == [embedded(SERVER)]);
        let asked = upstream.kinds("x.example").len();
        if asked == known.1 {
            return Ok(false);
        }
        let before = std::mem::replace(&mut known, (outcome(&net, "answered")?, asked));
        Ok(before.0 == known.0)
    })?;
    fails.store(true, Ordering::SeqCst);
    wait_until(|| {
        let answer = net.query(&query)?;
        ensure!(answer.addresses() == [embedded(SERVER)], "{answer:?}");
        Ok(answer.answers[0].ttl == 30)
    })?;
    ensure!(outcome(&net, "stale")? > 0);
    let status = net.installed.ask_plat(&["status"])?;
    ensure!(
        status.contains("answered behind their lifetime"),
        "{status}"
    );
    Ok(())
}

/// Queries with this outcome.
fn outcome(net: &Dns64Fixture, outcome: &str) -> Result<u64> {
    let status = net.installed.ask_plat(&["status", "--json"])?;
    let dns64 = status.split("\"dns64\":").nth(1).context("no DNS64")?;
    let rest = dns64.split(&format!("\"{outcome}\":")).nth(1);
    let rest = rest.with_context(|| status.clone())?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}
