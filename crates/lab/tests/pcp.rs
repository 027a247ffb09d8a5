//! Hosts ask `plat` for external ports: PCP (RFC 6887) in literal bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use lab::binaries::Binaries;
use lab::client_host::LAN;
use lab::installed::{Installed, PATIENCE, Setup};
use lab::link::{add_address, add_route, link_local, remove_address};
use lab::pcp::{SERVER_PORT, ask, ask_from, external, map, peer, router, suggest};
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology, UPLINK, embedded};
use nix::net::if_::if_nametoindex;

const TESTS: &[Test] = lab::tests![
    pc_01_a_third_party_reaches_a_client_through_its_mapping,
    pc_32_the_default_router_answers_at_each_of_its_addresses,
    pc_13_a_restart_is_announced_and_the_mapping_is_given_again,
    pc_06_each_fault_of_a_request_has_its_code_on_the_wire,
    pc_07_what_the_nat_refuses_has_its_code_on_the_wire,
    pc_10_only_those_in_the_filter_reach_the_client,
    pc_12_a_connection_has_the_port_that_was_told,
    pc_15_a_named_client_gets_ports_for_others_and_no_one_else_does,
    pc_18_hostile_requests_do_not_move_a_mapping,
    pc_35_where_nobody_could_reach_a_port_none_is_given_away,
    oa_08_clients_are_told_of_the_address_that_is_seen_and_of_the_next_one,
];

const POOL: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 9);

fn main() {
    lab::suite::run(TESTS)
}

fn pc_01_a_third_party_reaches_a_client_through_its_mapping() -> Result<()> {
    let net = install(&[])?;
    let client = net.topology.client();
    let own = Topology::client_address(0);
    let service = client.run(|| Ok(UdpSocket::bind((own, 6881))?))?;
    service.set_read_timeout(Some(PATIENCE))?;
    let response = ask(client, router(), &map(own, 6881, 120))?;
    let external = external(&response)?;
    ensure!(*external.ip() == POOL, "{external}");
    // Somebody whom the client has never sent anything to.
    let stranger = net.topology.server.run(|| {
        let socket = UdpSocket::bind((SERVER, 0))?;
        socket.send_to(b"hello", external)?;
        Ok(socket)
    })?;
    let mut buffer = [0; 64];
    let (length, from) = service.recv_from(&mut buffer)?;
    ensure!(&buffer[..length] == b"hello");
    service.send_to(b"and hello", from)?;
    stranger.set_read_timeout(Some(PATIENCE))?;
    let (length, answerer) = stranger.recv_from(&mut buffer)?;
    ensure!(&buffer[..length] == b"and hello" && answerer == SocketAddr::V4(external));
    let status = net.ask_plat(&["status", "--json"])?;
    ensure!(
        status.contains(&format!("\"external\":\"{external}\"")),
        "{status}"
    );
    // Given back: the next stranger is refused.
    let response = ask(client, router(), &map(own, 6881, 0))?;
    ensure!(response[3] == 0, "{response:?}");
    let status = net.ask_plat(&["status"])?;
    ensure!(
        status.contains("0 ports held by clients; 2 requests"),
        "{status}"
    );
    Ok(())
}

/// Section 8.2: the response comes from where the request went.
fn pc_32_the_default_router_answers_at_each_of_its_addresses() -> Result<()> {
    let net = install(&[])?;
    let (client, edge) = (net.topology.client(), &net.topology.edge);
    let own = link_local(client, UPLINK)?;
    let link = client.run(|| Ok(if_nametoindex(UPLINK)?))?;
    let near = SocketAddrV6::new(link_local(edge, LAN)?, SERVER_PORT, 0, link);
    for (from, to) in [(Topology::client_address(0), router()), (own, near)] {
        let announce = [&[2, 0, 0, 0, 0, 0, 0, 0][..], &from.octets()].concat();
        let response = ask(client, to, &announce)?;
        ensure!(response[..4] == [2, 0x80, 0, 0] && response.len() == 24);
    }
    Ok(())
}

fn pc_13_a_restart_is_announced_and_the_mapping_is_given_again() -> Result<()> {
    let mut net = install(&[])?;
    let own = Topology::client_address(0);
    let request = map(own, 6881, 3600);
    let first = external(&ask(net.topology.client(), router(), &request)?)?;
    let listener = net.topology.client().run(|| {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 5350))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    })?;
    net.plat.stop(PATIENCE)?;
    net.restart_plat()?;
    let mut buffer = [0; 64];
    let (length, from) = listener.recv_from(&mut buffer)?;
    ensure!(
        buffer[..8] == [2, 0x80, 0, 0, 0, 0, 0, 0] && length == 24,
        "{buffer:?}"
    );
    ensure!(from.port() == SERVER_PORT, "{from}");
    let epoch = u32::from_be_bytes(buffer[8..12].try_into()?);
    ensure!(epoch < 30, "{epoch}");
    // The port is the client's even before it asks again.
    let service = net
        .topology
        .client()
        .run(|| Ok(UdpSocket::bind((own, 6881))?))?;
    service.set_read_timeout(Some(PATIENCE))?;
    net.topology.server.run(|| {
        let socket = UdpSocket::bind((SERVER, 0))?;
        Ok(socket.send_to(b"hello", first)?)
    })?;
    service.recv_from(&mut [0; 64])?;
    // It asks for what it had (section 8.5).
    let again = suggest(request, first);
    let second = external(&ask(net.topology.client(), router(), &again)?)?;
    ensure!(first == second, "{first} {second}");
    Ok(())
}

/// Section 7.4: the codes of faults that a client can make, and the order of section 8.2.
fn pc_06_each_fault_of_a_request_has_its_code_on_the_wire() -> Result<()> {
    let net = install(&[])?;
    let client = net.topology.client();
    let own = Topology::client_address(0);
    let good = map(own, 6881, 120);
    let changed = |at: usize, byte: u8| {
        let mut request = good.clone();
        request[at] = byte;
        request
    };
    let with = |option: &[u8]| [&good[..], option].concat();
    let filter = |count: u16| -> Vec<u8> {
        let address = Ipv4Addr::new(198, 51, 100, 2).to_ipv6_mapped().octets();
        let one = |port: u16| [&[3, 0, 0, 20, 0, 128], &port.to_be_bytes()[..], &address].concat();
        (1..=count).flat_map(one).collect()
    };
    let mut everything = changed(36, 0);
    everything[40..42].fill(0);
    let stranger = [&[1, 0, 0, 16][..], &own.octets()].concat();
    let long = with(&[&[200, 0, 4, 0x50][..], &[0; 1104]].concat());
    const UNSUPP_VERSION: u8 = 1;
    for (what, request, code) in [
        ("another version", changed(0, 3), UNSUPP_VERSION),
        ("NAT-PMP", changed(0, 0), UNSUPP_VERSION),
        ("cut", good[..56].to_vec(), 3),
        ("of an odd length", with(&[0, 0]), 3),
        ("too long", long, 3),
        ("another operation", changed(1, 9), 4),
        ("an option that must be understood", with(&[9, 0, 0, 0]), 5),
        ("an option that need not be", with(&[200, 0, 0, 0]), 0),
        ("a third party", with(&stranger), 5),
        ("an option beyond the end", with(&[2, 0, 0, 9]), 6),
        (
            "an option that must be empty",
            with(&[2, 0, 0, 4, 0, 0, 0, 0]),
            6,
        ),
        ("a port of all protocols", changed(36, 0), 3),
        ("all protocols at once", everything, 9),
        ("a protocol without ports", changed(36, 1), 9),
        ("another client's address", changed(23, 9), 12),
        ("too many filters", with(&filter(17)), 13),
        ("as many filters as there may be", with(&filter(16)), 0),
    ] {
        let response = match request[0] {
            2 if request.len() >= 60 => ask(client, router(), &request)?,
            _ => ask_from(client, own, router(), &request)?,
        };
        ensure!(response[3] == code, "{what}: {:?}", &response[..24]);
        ensure!(response[0] == 2 && response[1] & 0x80 != 0, "{what}");
        // The request comes back with it, whole words of it.
        let same = request.len().min(response.len()) / 4 * 4;
        if code != UNSUPP_VERSION && same > 24 && same <= 60 {
            ensure!(response[24..42] == request[24..same.min(42)], "{what}");
        }
    }
    Ok(())
}

/// Section 7.4: NOT_AUTHORIZED, USER_EX_QUOTA, NO_RESOURCES and CANNOT_PROVIDE_EXTERNAL.
fn pc_07_what_the_nat_refuses_has_its_code_on_the_wire() -> Result<()> {
    let flags = [
        "--pool=eth0:30000-30003",
        "--subscriber-ports=2",
        "--subscriber-network=0",
        "--queues=1",
    ];
    let net = at_the_address_of_an_interface(&flags)?;
    let client = net.topology.client();
    let own = Topology::client_address(0);
    let first = external(&ask(client, router(), &map(own, 6881, 120))?)?;
    let mut stolen = map(own, 6881, 120);
    stolen[24] ^= 1;
    ensure!(ask(client, router(), &stolen)?[3] == 2, "another nonce");
    // No other port will do, and this one is taken.
    let mut exact = suggest(map(own, 6882, 120), first);
    exact.extend([2, 0, 0, 0]);
    ensure!(ask(client, router(), &exact)?[3] == 11, "a taken port");
    let second = external(&ask(client, router(), &map(own, 6882, 120))?)?;
    ensure!(second != first, "{second}");
    let third = map(own, 6883, 120);
    ensure!(ask(client, router(), &third)?[3] == 10, "beyond the quota");
    // Another subscriber has the rest, and then there is none.
    let others = [3, 4].map(|host| {
        let mut segments = own.segments();
        segments[7] = host;
        Ipv6Addr::from(segments)
    });
    let mut codes = Vec::new();
    for other in others {
        add_address((client, UPLINK), IpNet::new_assert(other.into(), 64))?;
        for port in [6881, 6882] {
            let response = ask_from(client, other, router(), &map(other, port, 120))?;
            codes.push(response[3]);
        }
    }
    ensure!(codes == [0, 0, 8, 8], "{codes:?}");
    // What was granted stays.
    ensure!(external(&ask(client, router(), &map(own, 6881, 120))?)? == first);
    Ok(())
}

/// Section 13.3: 198.51.100.2 and its port 4000 alone.
fn pc_10_only_those_in_the_filter_reach_the_client() -> Result<()> {
    let net = install(&[])?;
    let client = net.topology.client();
    let own = Topology::client_address(0);
    let mut request = map(own, 6881, 120);
    request.extend(b"\x03\0\0\x14\0\x80\x0f\xa0\0\0\0\0\0\0\0\0\0\0\xff\xff\xc6\x33\x64\x02");
    let response = ask(client, router(), &request)?;
    ensure!(response[60..] == request[60..], "{response:?}");
    let external = external(&response)?;
    let service = client.run(|| Ok(UdpSocket::bind((own, 6881))?))?;
    service.set_read_timeout(Some(PATIENCE))?;
    net.topology.server.run(|| {
        for (port, word) in [(4001, b"no"), (4000, b"ok")] {
            UdpSocket::bind((SERVER, port))?.send_to(word, external)?;
        }
        Ok(())
    })?;
    let mut buffer = [0; 64];
    let (length, _) = service.recv_from(&mut buffer)?;
    ensure!(&buffer[..length] == b"ok", "{:?}", &buffer[..length]);
    Ok(())
}

/// Section 12: the connection has that port outside, and no one else reaches it.
fn pc_12_a_connection_has_the_port_that_was_told() -> Result<()> {
    let net = install(&["--filtering=address-dependent"])?;
    let client = net.topology.client();
    let own = Topology::client_address(0);
    let server = net
        .topology
        .server
        .run(|| Ok(UdpSocket::bind((SERVER, 4000))?))?;
    server.set_read_timeout(Some(PATIENCE))?;
    let request = peer(map(own, 6881, 120), 17, (embedded(SERVER), 4000));
    let response = ask(client, router(), &request)?;
    ensure!(
        response[..4] == [2, 0x82, 0, 0] && response.len() == 80,
        "{response:?}"
    );
    let external = SocketAddrV4::new(POOL, u16::from_be_bytes(response[42..44].try_into()?));
    let service = client.run(|| {
        let socket = UdpSocket::bind((own, 6881))?;
        socket.send_to(b"hello", (embedded(SERVER), 4000))?;
        Ok(socket)
    })?;
    let mut buffer = [0; 64];
    let (_, seen) = server.recv_from(&mut buffer)?;
    ensure!(seen == SocketAddr::V4(external), "{seen} {external}");
    service.set_read_timeout(Some(PATIENCE))?;
    let stranger = Ipv4Addr::new(198, 51, 100, 3);
    let address = ipnet::IpNet::new_assert(stranger.into(), 24);
    lab::link::add_address((&net.topology.server, UPLINK), address)?;
    net.topology.server.run(|| {
        let socket = UdpSocket::bind((stranger, 4000))?;
        Ok(socket.send_to(b"no", external)?)
    })?;
    server.send_to(b"ok", external)?;
    let (length, _) = service.recv_from(&mut buffer)?;
    ensure!(&buffer[..length] == b"ok", "{:?}", &buffer[..length]);
    Ok(())
}

/// Section 13.1.
fn pc_15_a_named_client_gets_ports_for_others_and_no_one_else_does() -> Result<()> {
    let own = Topology::client_address(0);
    let net = install(&[&format!("--pcp-third-party={own}/128")])?;
    let client = net.topology.client();
    let mut segments = own.segments();
    segments[7] = 3;
    let other = Ipv6Addr::from(segments);
    lab::link::add_address((client, UPLINK), ipnet::IpNet::new_assert(other.into(), 64))?;
    let for_host = |asks: Ipv6Addr, host: Ipv6Addr| {
        let mut request = map(asks, 6881, 120);
        request.extend(b"\x01\0\0\x10");
        request.extend(host.octets());
        request
    };
    let service = client.run(|| Ok(UdpSocket::bind((other, 6881))?))?;
    service.set_read_timeout(Some(PATIENCE))?;
    let external = external(&ask(client, router(), &for_host(own, other))?)?;
    net.topology.server.run(|| {
        let socket = UdpSocket::bind((SERVER, 0))?;
        Ok(socket.send_to(b"hello", external)?)
    })?;
    service.recv_from(&mut [0; 64])?;
    // The other one asks for itself alone.
    let refused = ask_from(client, other, router(), &for_host(other, own))?;
    ensure!(refused[..4] == [2, 0x81, 0, 2], "{refused:?}");
    Ok(())
}

fn pc_18_hostile_requests_do_not_move_a_mapping() -> Result<()> {
    let net = install(&[])?;
    let client = net.topology.client();
    let own = Topology::client_address(0);
    let request = map(own, 6881, 3600);
    let given = external(&ask(client, router(), &request)?)?;
    let mut spoofed = map(own, 6881, 0);
    spoofed[24] ^= 1;
    ensure!(ask(client, router(), &spoofed)?[3] == 2);
    let mut elsewhere = request.clone();
    elsewhere[23] ^= 1;
    ensure!(ask(client, router(), &elsewhere)?[3] == 12);
    // A flood of nonsense does not keep the next client waiting.
    client.run(|| {
        let socket = UdpSocket::bind((own, 0))?;
        for number in 0..20_000_u32 {
            let length = number as usize % 1200;
            let _ = socket.send_to(&vec![number as u8; length], router());
        }
        Ok(())
    })?;
    let begin = Instant::now();
    ensure!(external(&ask(client, router(), &request)?)? == given);
    ensure!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    Ok(())
}

/// Section 8.5, at the address of an interface: clients learn what is seen outside, and that it has
/// changed.
fn oa_08_clients_are_told_of_the_address_that_is_seen_and_of_the_next_one() -> Result<()> {
    let (wan, next) = (
        Ipv4Addr::new(203, 0, 113, 1),
        Ipv4Addr::new(203, 0, 113, 77),
    );
    let net = at_the_address_of_an_interface(&["--pool=eth0"])?;
    let (client, edge) = (net.topology.client(), &net.topology.edge);
    let own = Topology::client_address(0);
    let request = map(own, 6881, 3600);
    let first = external(&ask(client, router(), &request)?)?;
    ensure!(*first.ip() == wan, "{first}");
    ensure!((10_000..=32_767).contains(&first.port()), "{first}");
    let listener = client.run(|| {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 5350))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    })?;
    // Those of the start come for a while; the epoch begins anew with the address.
    let of = |address: Ipv4Addr| IpNet::new_assert(address.into(), 24);
    std::thread::sleep(Duration::from_millis(1100));
    remove_address((edge, UPLINK), of(wan))?;
    add_address((edge, UPLINK), of(next))?;
    let far = IpAddr::from(Ipv4Addr::new(203, 0, 113, 2));
    let everywhere = IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0);
    add_route(edge, everywhere, far, None)?;
    net.plat
        .wait_for_line("the address 203.0.113.1 of eth0 is 203.0.113.77", PATIENCE)?;
    let mut buffer = [0; 64];
    loop {
        let (length, _) = listener.recv_from(&mut buffer)?;
        ensure!(length == 24 && buffer[..2] == [2, 0x80], "{buffer:?}");
        if buffer[8..12] == [0; 4] {
            break;
        }
    }
    let again = suggest(request, first);
    let second = external(&ask(client, router(), &again)?)?;
    ensure!(second == SocketAddrV4::new(next, first.port()), "{second}");
    let service = client.run(|| Ok(UdpSocket::bind((own, 6881))?))?;
    service.set_read_timeout(Some(PATIENCE))?;
    net.topology.server.run(|| {
        let socket = UdpSocket::bind((SERVER, 0))?;
        Ok(socket.send_to(b"hello", second)?)
    })?;
    service.recv_from(&mut buffer)?;
    let status = net.ask_plat(&["status", "--json"])?;
    let shown = format!("\"external\":\"{second}\"");
    ensure!(status.contains(&shown), "{status}");
    Ok(())
}

fn pc_35_where_nobody_could_reach_a_port_none_is_given_away() -> Result<()> {
    let masqueraded = format!("--egress=masquerade:{UPLINK}");
    let net = install(&[&masqueraded])?;
    let client = net.topology.client();
    let refused = client.run(|| {
        let socket = UdpSocket::bind((Topology::client_address(0), 0))?;
        socket.connect(router())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(&map(Topology::client_address(0), 6881, 120))?;
        Ok(socket.recv(&mut [0; 64]).err())
    })?;
    let refused = refused.context("an answer")?;
    ensure!(
        refused.kind() == std::io::ErrorKind::ConnectionRefused,
        "{refused}"
    );
    Ok(())
}

fn install(flags: &[&str]) -> Result<Installed> {
    let pool = POOL.to_string();
    let lan = format!("--lan={LAN}");
    let mut all = vec!["--pool", &pool, &lan];
    all.extend(flags);
    let topology = Topology::new(&Plan::default())?;
    Installed::with(&Binaries::find()?, topology, Setup::plat_alone(&all))
}

fn at_the_address_of_an_interface(flags: &[&str]) -> Result<Installed> {
    let topology = Topology::new(&Plan {
        router4: Some(1500),
        ..Plan::default()
    })?;
    let lan = format!("--lan={LAN}");
    let setup = Setup::plat_alone(&[flags, &[&lan]].concat());
    Installed::with(&Binaries::find()?, topology, setup)
}
