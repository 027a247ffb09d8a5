//! Habits of clients and resolvers that DNS64 operators report.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use lab::dns64_fixture::{Dns64Fixture, RESOLVER};
use lab::installed::PATIENCE;
use lab::link::{add_address, join};
use lab::suite::Test;
use lab::topology::{MTU, SERVER, embedded};
use lab::traffic::dns::kind::{A, AAAA, OPT};
use lab::traffic::dns::{Message, Record, Upstream};

pub(crate) const TESTS: &[Test] = lab::tests![
    fp_30_the_null_address_of_a_blocklist_is_not_made_into_one_that_routes,
    fp_31_options_of_one_side_are_not_told_to_the_other,
    fp_32_queries_that_do_not_wait_for_each_other_are_all_answered,
    fp_33_a_resolver_with_a_spelling_of_its_own_is_understood,
    fp_34_a_resolver_with_a_dns64_of_its_own_is_overruled_by_an_exclusion,
    fp_35_a_resolver_on_a_link_that_comes_later_is_asked_when_it_is_there,
];

/// Pi-hole, AdGuard and hosts files block names by 0.0.0.0 and `::`.
fn fp_30_the_null_address_of_a_blocklist_is_not_made_into_one_that_routes() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let null = Ipv6Addr::UNSPECIFIED;
    let _upstream = net.scripted(move |asked| match (asked.kind, asked.name.as_str()) {
        (A, _) => asked
            .answer(vec![Record::a(&asked.name, 2, [0, 0, 0, 0])])
            .into(),
        (_, "both.example") => asked
            .answer(vec![Record::aaaa(&asked.name, 2, null)])
            .into(),
        _ => asked.nothing(300).into(),
    })?;
    let v4 = net.query(&Message::query("v4.example", AAAA))?;
    ensure!(v4.code() == 0 && v4.answers.is_empty(), "{v4:?}");
    ensure!(net.ask("both.example", AAAA)? == [null]);
    Ok(())
}

/// Cookies (`dig`, BIND), client subnets and padding are between neighbours, also from the cache: a
/// cookie of another client makes an answer worthless.
fn fp_31_options_of_one_side_are_not_told_to_the_other() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let with_option = |mut message: Message, option: &[u8]| {
        let mut opt = Record::new("", OPT, 0, option);
        opt.class = 1232;
        message.additionals.push(opt);
        message
    };
    let upstream = net.scripted(move |asked| {
        with_option(asked.v4_only(SERVER), b"\0\x0a\0\x10his-own-his-own-").into()
    })?;
    for cookie in [&b"\0\x0a\0\x08cookie-1"[..], b"\0\x0a\0\x08cookie-2"] {
        let answer = net.query(&with_option(Message::query("x.example", AAAA), cookie))?;
        ensure!(answer.addresses() == [embedded(SERVER)], "{answer:?}");
        let data = answer.edns().map(|opt| opt.data.clone());
        ensure!(data == Some(Vec::new()), "{data:?}");
    }
    let asked = upstream.questions("x.example");
    let datas = asked
        .iter()
        .map(|one| one.message.edns().map(|opt| opt.data.len()));
    ensure!(datas.collect::<Vec<_>>() == [Some(0), Some(0)]);
    Ok(())
}

/// glibc asks for A and AAAA from one socket, others write several queries to a connection at once.
fn fp_32_queries_that_do_not_wait_for_each_other_are_all_answered() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.upstream(1)?;
    let client = net.topology().client();
    let queries = [(A, 1), (AAAA, 2)].map(|(kind, id)| {
        let mut query = Message::query("x.example", kind);
        query.id = id;
        query.to_bytes()
    });
    let mut ids = client.run(|| {
        let socket = UdpSocket::bind("[::]:0")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        for query in &queries {
            socket.send_to(query, (RESOLVER, 53))?;
        }
        let mut bytes = [0; 512];
        let mut next = || {
            let length = socket.recv(&mut bytes)?;
            Ok(Message::parse(&bytes[..length])?.id)
        };
        [next(), next()].into_iter().collect::<Result<Vec<u16>>>()
    })?;
    ids.sort_unstable();
    ensure!(ids == [1, 2], "{ids:?}");
    let mut stream = client.run(|| {
        let address = SocketAddr::from((RESOLVER, 53));
        Ok(TcpStream::connect_timeout(&address, PATIENCE)?)
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let framed = |query: &Vec<u8>| [&(query.len() as u16).to_be_bytes()[..], query].concat();
    stream.write_all(&queries.each_ref().map(framed).concat())?;
    for id in [1, 2] {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer)?;
        ensure!(Message::parse(&answer)?.id == id);
    }
    Ok(())
}

/// Some load balancers answer in lower or upper case, whatever was asked; clients that mix the case
/// to be sure of their answers (0x20) get their own back.
fn fp_33_a_resolver_with_a_spelling_of_its_own_is_understood() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.scripted(|asked| {
        let mut answer = asked.v4_only(SERVER);
        answer.questions[0].0.make_ascii_uppercase();
        for record in &mut answer.answers {
            record.owner.make_ascii_uppercase();
        }
        answer.into()
    })?;
    for owner in ["mIxEd.exAmPle", "MiXeD.EXample"] {
        let answer = net.query(&Message::query(owner, AAAA))?;
        ensure!(answer.questions[0].0 == owner, "{answer:?}");
        ensure!(
            answer.answers == [Record::aaaa(owner, 300, embedded(SERVER))],
            "{answer:?}"
        );
    }
    Ok(())
}

/// An ISP's resolver, or a public one, that makes addresses in a prefix which leads elsewhere.
fn fp_34_a_resolver_with_a_dns64_of_its_own_is_overruled_by_an_exclusion() -> Result<()> {
    let net = Dns64Fixture::new(&["--dns64-exclude=64:ff9b::/96"])?;
    let theirs: Ipv6Addr = "64:ff9b::198.51.100.2".parse()?;
    let _upstream = net.scripted(move |asked| match asked.kind {
        AAAA => asked
            .answer(vec![Record::aaaa(&asked.name, 300, theirs)])
            .into(),
        _ => asked.v4_only(SERVER).into(),
    })?;
    ensure!(net.ask("x.example", AAAA)? == [embedded(SERVER)]);
    Ok(())
}

/// A link-local resolver behind a modem: the interface is not there when `plat` starts.
fn fp_35_a_resolver_on_a_link_that_comes_later_is_asked_when_it_is_there() -> Result<()> {
    let net = Dns64Fixture::with_upstreams(&["fe80::53%late0"], &[])?;
    let line = "the resolver [fe80::53%late0]:53 is asked when its interface is there";
    net.installed.plat.wait_for_line(line, PATIENCE)?;
    ensure!(net.query(&Message::query("x.example", AAAA))?.code() == 2);
    let (edge, server) = (&net.topology().edge, &net.topology().server);
    join((edge, "late0"), (server, "late1"), MTU)?;
    let address: Ipv6Addr = "fe80::53".parse()?;
    add_address((server, "late1"), IpNet::new(IpAddr::V6(address), 64)?)?;
    let index = server.run(|| Ok(nix::net::if_::if_nametoindex("late1")?))?;
    let listen = std::net::SocketAddrV6::new(address, 53, 0, index);
    let _upstream =
        Upstream::scripted(server, listen.into(), |asked| asked.v4_only(SERVER).into())?;
    // The link's own address of the edge may still be tentative.
    let end = std::time::Instant::now() + PATIENCE;
    while net.ask("y.example", AAAA)? != [embedded(SERVER)] {
        ensure!(std::time::Instant::now() < end, "it is never asked");
    }
    Ok(())
}
