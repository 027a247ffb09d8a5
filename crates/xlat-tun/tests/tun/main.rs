//! The TUN data path against the real kernel, each test in a network namespace of its own.
//!
//! The translator's place is taken by [`Reflect`], which swaps a packet's addresses: what a socket
//! sends to the neighbour address comes back to this host from there. Swapping does not change any
//! checksum, so that headers, payload and offloads must come through untouched.
//!
//! Where the tests cannot run (no root and no user namespace, no TUN) each is reported as ignored,
//! with the reason in front of its name.

mod engines;
mod host;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use libtest_mimic::{Arguments, Trial};
use netlink_packet_route::link::LinkAttribute;
use rtnetlink::RouteMessageBuilder;
use socket2::{Domain, Protocol, Socket, Type};
use xlat_core::identification::Identifications;
use xlat_core::offload::{Checksum, Gso, GsoKind, PartialChecksum};
use xlat_core::{DropReason, Offload, Policy, Translator};
use xlat_tun::counters::{Snapshot, WriteError};
use xlat_tun::{Engine, Failure, Handle, Offloads, OpenError, Options, Tun, start};

use engines::{Congested, Pair, Reflect, Seen};
use host::{
    FAR4, FAR6, HERE4, HERE6, LONG, NAME, PEER4, PEER6, bind, configure,
    enter_user_namespace_if_needed, index_of, ipv6_is_on, kernel_has_uso, netlink, pattern, ping,
    run_in_namespace, set_up, try_to_open,
};

const TESTS: &[(&str, fn())] = &[
    (
        "every_offload_of_the_kernel_is_agreed_on",
        every_offload_of_the_kernel_is_agreed_on,
    ),
    ("offloads_can_be_left_off", offloads_can_be_left_off),
    (
        "what_is_written_comes_out_of_the_interface",
        what_is_written_comes_out_of_the_interface,
    ),
    (
        "l4_11_tcp_crosses_in_super_packets",
        l4_11_tcp_crosses_in_super_packets,
    ),
    (
        "l4_11_udp_crosses_in_super_packets",
        l4_11_udp_crosses_in_super_packets,
    ),
    (
        "l4_11_without_offloads_every_packet_is_complete",
        l4_11_without_offloads_every_packet_is_complete,
    ),
    (
        "x4_20_flows_keep_their_order_across_queues",
        x4_20_flows_keep_their_order_across_queues,
    ),
    (
        "x4_20_more_flows_than_the_kernel_remembers_keep_their_order",
        x4_20_more_flows_than_the_kernel_remembers_keep_their_order,
    ),
    (
        "l4_11_any_set_of_offloads_will_do",
        l4_11_any_set_of_offloads_will_do,
    ),
    (
        "l4_11_congestion_marks_cross_in_super_packets",
        l4_11_congestion_marks_cross_in_super_packets,
    ),
    (
        "a_queue_is_as_long_as_was_asked_for",
        a_queue_is_as_long_as_was_asked_for,
    ),
    (
        "workers_have_the_nice_value_that_was_asked_for",
        workers_have_the_nice_value_that_was_asked_for,
    ),
    (
        "l4_11_tcp_and_udp_cross_the_translator",
        l4_11_tcp_and_udp_cross_the_translator,
    ),
    (
        "datagrams_that_follow_each_other_are_written_as_one",
        datagrams_that_follow_each_other_are_written_as_one,
    ),
    ("a_name_in_use_is_refused", a_name_in_use_is_refused),
    (
        "a_name_of_another_kind_of_interface_is_refused",
        a_name_of_another_kind_of_interface_is_refused,
    ),
    (
        "stopping_is_prompt_and_removes_the_interface",
        stopping_is_prompt_and_removes_the_interface,
    ),
    (
        "a_change_reaches_every_worker",
        a_change_reaches_every_worker,
    ),
    (
        "an_interface_that_goes_down_and_up_works_again",
        an_interface_that_goes_down_and_up_works_again,
    ),
    (
        "a_deleted_interface_is_reported",
        a_deleted_interface_is_reported,
    ),
    (
        "a_panic_in_the_engine_is_reported",
        a_panic_in_the_engine_is_reported,
    ),
    (
        "packets_that_the_kernel_refuses_are_counted",
        packets_that_the_kernel_refuses_are_counted,
    ),
    (
        "an_idle_worker_does_not_wake_up",
        an_idle_worker_does_not_wake_up,
    ),
];

fn main() {
    let arguments = Arguments::from_args();
    let obstacle = enter_user_namespace_if_needed()
        .and_then(|()| run_in_namespace(try_to_open))
        .err();
    let trials = TESTS.iter().map(|(name, test)| {
        let run = || {
            test();
            Ok(())
        };
        let trial = Trial::test(*name, move || Ok(run_in_namespace(run)?));
        match &obstacle {
            Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
            None => trial,
        }
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn every_offload_of_the_kernel_is_agreed_on() {
    let tun = Tun::open(&Options::new(NAME)).expect("opened");
    let offloads = tun.offloads();
    assert!(offloads.contains(Offloads::CHECKSUM), "{offloads}");
    assert!(offloads.contains(Offloads::TSO4), "{offloads}");
    assert!(offloads.contains(Offloads::TSO6), "{offloads}");
    assert!(offloads.contains(Offloads::TSO_ECN), "{offloads}");
    assert_eq!(
        offloads.contains(Offloads::USO),
        kernel_has_uso(),
        "{offloads}"
    );
}

fn offloads_can_be_left_off() {
    let options = Options::new(NAME).offloads(Offloads::NONE);
    let tun = Tun::open(&options).expect("opened");
    assert_eq!(tun.offloads(), Offloads::NONE);
}

fn what_is_written_comes_out_of_the_interface() {
    let lab = Reflector::new(&Options::new(NAME));
    for (here, peer) in [(HERE4.into(), PEER4.into()), (HERE6.into(), PEER6.into())] {
        let socket = bind(here);
        for length in [0, 1, 47, 1200, 1452] {
            let payload = pattern(length);
            let port = socket.local_addr().expect("bound").port();
            socket.send_to(&payload, (peer, port)).expect("sent");
            let mut back = [0; 2000];
            let (count, from) = socket.recv_from(&mut back).expect("reflected");
            assert_eq!(from, SocketAddr::new(peer, port));
            assert_eq!(&back[..count], payload);
        }
    }
    let sum = lab.handle.stop();
    assert_eq!(sum.ipv4_in.packets, 5);
    assert_eq!(sum.ipv4_out, sum.ipv4_in);
    assert_eq!(sum.ipv4_in.bytes, 5 * 28 + 47 + 1 + 1200 + 1452);
    assert_eq!(sum.write_errors.total(), 0);
}

fn l4_11_tcp_crosses_in_super_packets() {
    let lab = Reflector::new(&Options::new(NAME));
    for (here, peer, kind, start) in [
        (HERE4.into(), IpAddr::from(PEER4), GsoKind::TcpV4, 20),
        (HERE6.into(), PEER6.into(), GsoKind::TcpV6, 40),
    ] {
        exchange_tcp(here, peer);
        let seen = lab.seen.try_iter().collect::<Vec<_>>();
        let largest = seen.iter().max_by_key(|seen| seen.length).expect("packets");
        assert!(largest.length > 4000, "no super-packet: {largest:?}");
        let gso = largest.offload.gso.expect("a super-packet says so");
        assert_eq!(gso.kind, kind);
        assert!((1000..1500).contains(&gso.size), "{gso:?}");
        let partial = PartialChecksum { start, offset: 16 };
        assert_eq!(largest.offload.checksum, Checksum::Partial(partial));
    }
    let sum = lab.handle.stop();
    assert_eq!(sum.write_errors.total(), 0, "{sum}");
}

fn l4_11_udp_crosses_in_super_packets() {
    let lab = Reflector::new(&Options::new(NAME));
    for (here, peer, start) in [
        (HERE4.into(), IpAddr::from(PEER4), 20),
        (HERE6.into(), PEER6.into(), 40),
    ] {
        exchange_datagrams(here, peer);
        let seen = lab.seen.try_iter().collect::<Vec<_>>();
        if !kernel_has_uso() {
            assert!(seen.iter().all(|seen| seen.offload.gso.is_none()));
            continue;
        }
        let [seen] = seen.as_slice() else {
            panic!("one super-packet expected: {seen:?}");
        };
        let gso = Gso {
            kind: GsoKind::Udp,
            size: 1000,
            ecn: false,
        };
        assert_eq!(seen.offload.gso, Some(gso));
        let partial = PartialChecksum { start, offset: 6 };
        assert_eq!(seen.offload.checksum, Checksum::Partial(partial));
    }
    assert_eq!(lab.handle.stop().write_errors.total(), 0);
}

fn l4_11_without_offloads_every_packet_is_complete() {
    let options = Options::new(NAME).offloads(Offloads::NONE);
    let lab = Reflector::new(&options);
    exchange_tcp(HERE4.into(), PEER4.into());
    for seen in lab.seen.try_iter() {
        assert_eq!(seen.offload.gso, None);
        assert!(!seen.offload.is_partial(), "{seen:?}");
        assert!(seen.length <= 1500, "{seen:?}");
    }
}

fn x4_20_flows_keep_their_order_across_queues() {
    let lab = Reflector::new(&Options::new(NAME).queues(4));
    let sockets = (0..16).map(|_| bind(HERE4.into())).collect::<Vec<_>>();
    for round in 0..20_u32 {
        for number in round * 20..(round + 1) * 20 {
            for socket in &sockets {
                let port = socket.local_addr().expect("bound").port();
                socket
                    .send_to(&number.to_be_bytes(), (PEER4, port))
                    .expect("sent");
            }
        }
        for socket in &sockets {
            for expected in round * 20..(round + 1) * 20 {
                let mut back = [0; 4];
                socket.recv(&mut back).expect("reflected");
                assert_eq!(u32::from_be_bytes(back), expected);
            }
        }
    }
    let mut queues = lab
        .seen
        .try_iter()
        .map(|seen| seen.queue)
        .collect::<Vec<_>>();
    queues.sort_unstable();
    queues.dedup();
    assert!(queues.len() > 1, "sixteen flows used only queue {queues:?}");
}

fn datagrams_that_follow_each_other_are_written_as_one() {
    for (here, peer) in [
        (HERE4.into(), IpAddr::from(PEER4)),
        (HERE6.into(), PEER6.into()),
    ] {
        let lab = Reflector::new(&Options::new(NAME));
        let before = lab.handle.counters();
        let socket = bind(here);
        let port = socket.local_addr().expect("bound").port();
        // The worker waits while the queue fills, so that it reads everything in one batch.
        let (go, wait) = mpsc::sync_channel::<()>(0);
        let wait = Mutex::new(wait);
        lab.handle.update(move |_| {
            let _ = wait.lock().expect("not poisoned").recv();
        });
        let payloads = (0..40)
            .map(|number| pattern(500 + number / 39))
            .collect::<Vec<_>>();
        for payload in &payloads {
            socket.send_to(payload, (peer, port)).expect("sent");
        }
        drop(go);
        for payload in &payloads {
            let mut back = [0; 2000];
            let (count, from) = socket.recv_from(&mut back).expect("reflected");
            assert_eq!(from, SocketAddr::new(peer, port));
            assert!(&back[..count] == payload);
        }
        let sum = lab.handle.stop();
        // The last datagram is longer than those before it.
        let expected = if kernel_has_uso() { 38 } else { 0 };
        assert_eq!(sum.joined - before.joined, expected);
        assert_eq!(sum.write_errors.total(), 0);
    }
}

fn l4_11_any_set_of_offloads_will_do() {
    let checksum = Offloads::CHECKSUM;
    for (offloads, tso4, tso6, uso) in [
        (Offloads::NONE, false, false, false),
        (checksum, false, false, false),
        (checksum | Offloads::TSO4, true, false, false),
        (checksum | Offloads::TSO6, false, true, false),
        (checksum | Offloads::USO, false, false, kernel_has_uso()),
        (
            checksum | Offloads::TSO4 | Offloads::TSO6,
            true,
            true,
            false,
        ),
    ] {
        let lab = Reflector::new(&Options::new(NAME).offloads(offloads));
        for (here, peer) in [
            (HERE4.into(), IpAddr::from(PEER4)),
            (HERE6.into(), PEER6.into()),
        ] {
            exchange_tcp(here, peer);
            exchange_datagrams(here, peer);
        }
        let seen = lab.seen.try_iter().collect::<Vec<_>>();
        let any = |kind| {
            let is = |seen: &Seen| seen.offload.gso.is_some_and(|gso| gso.kind == kind);
            seen.iter().any(is)
        };
        let kinds = [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp].map(any);
        assert_eq!(kinds, [tso4, tso6, uso], "{offloads}");
        let partial = seen.iter().any(|seen| seen.offload.is_partial());
        assert_eq!(partial, offloads != Offloads::NONE, "{offloads}");
        assert_eq!(lab.handle.stop().write_errors.total(), 0, "{offloads}");
    }
}

/// A super-packet whose first segment carries CWR says so, before and behind the translator.
fn l4_11_congestion_marks_cross_in_super_packets() {
    std::fs::write("/proc/sys/net/ipv4/tcp_ecn", "1").expect("ECN on");
    let (tell, reduced) = mpsc::channel();
    let handle = start_translator(1, |translator| Congested {
        translator,
        packets: 0,
        reduced: tell.clone(),
    });
    wait_for_translation();
    send_tcp(HERE6.into(), FAR4.into(), FAR6.into());
    send_tcp(HERE4.into(), FAR6.into(), FAR4.into());
    let kinds = reduced.try_iter().collect::<Vec<_>>();
    assert!(kinds.contains(&GsoKind::TcpV4), "{kinds:?}");
    assert!(kinds.contains(&GsoKind::TcpV6), "{kinds:?}");
    let sum = handle.stop();
    assert_eq!(sum.write_errors.total(), 0, "{sum}");
    assert_eq!(sum.drops.count(DropReason::BadOffload), 0, "{sum}");
}

fn a_queue_is_as_long_as_was_asked_for() {
    let mut options = Options::new(NAME).queues(2);
    options.queue_length = Some(77);
    let _tun = Tun::open(&options).expect("opened");
    let (tell, told) = mpsc::channel();
    netlink(async |handle| {
        let mut links = handle.link().get().match_name(NAME.to_owned()).execute();
        while let Some(link) = links.try_next().await? {
            let _ = tell.send(link.attributes);
        }
        Ok(())
    });
    let attributes = told.try_recv().expect("the interface");
    let length = LinkAttribute::TxQueueLen(77);
    assert!(attributes.contains(&length), "{attributes:?}");
}

fn workers_have_the_nice_value_that_was_asked_for() {
    let mut options = Options::new(NAME).queues(2);
    options.nice = Some(5);
    let lab = Reflector::new(&options);
    let (tell, told) = mpsc::channel();
    lab.handle.update(move |_| {
        let value = rustix::process::getpriority_process(None);
        let _ = tell.send(value.expect("known"));
    });
    for _ in 0..2 {
        assert_eq!(told.recv_timeout(LONG), Ok(5));
    }
    let own = rustix::process::getpriority_process(None).expect("known");
    assert_ne!(own, 5, "the others keep theirs");
}

/// One direction after the other. The kernel remembers 4096 flows, and goes by their hash for the
/// rest.
fn x4_20_more_flows_than_the_kernel_remembers_keep_their_order() {
    /// Of a flow, directly behind those of the other flows of its group.
    const PACKETS: u32 = 4;
    let handle = start_translator(4, |translator| translator);
    wait_for_translation();
    let ports: Vec<u16> = (20_000..26_000).collect();
    for (from, to, here) in [
        (IpAddr::from(HERE4), IpAddr::from(FAR4), IpAddr::from(HERE6)),
        (HERE6.into(), FAR6.into(), HERE4.into()),
    ] {
        let all = hear_everything(here);
        let sender = bind(from);
        // Twice, so that what the kernel learnt in the first turn is in force in the second.
        for group in ports.chunks(25).chain(ports.chunks(25)) {
            for number in 0..PACKETS {
                for port in group {
                    let sent = sender.send_to(&number.to_be_bytes(), (to, *port));
                    sent.expect("sent");
                }
            }
            let mut next = vec![0; group.len()];
            while next.iter().any(|next| *next < PACKETS) {
                let (port, numbers) = next_datagrams(&all, here);
                // Others are what the wait for the translation has left.
                let Some(at) = group.iter().position(|one| *one == port) else {
                    continue;
                };
                for number in numbers {
                    assert_eq!(number, next[at], "port {port}");
                    next[at] += 1;
                }
            }
        }
    }
    let sum = handle.stop();
    assert_eq!(sum.write_errors.total(), 0, "{sum}");
}

/// A socket for the datagrams to all ports of an address.
fn hear_everything(here: IpAddr) -> Socket {
    let domain = Domain::for_address((here, 0).into());
    let all = Socket::new(domain, Type::RAW, Some(Protocol::UDP)).expect("a raw socket");
    all.bind(&SocketAddr::new(here, 0).into()).expect("bound");
    all.set_read_timeout(Some(LONG)).expect("time-out");
    all
}

/// Destination port and payloads of what a raw socket hears next. It hears datagrams that were
/// joined in one piece.
fn next_datagrams(mut socket: &Socket, here: IpAddr) -> (u16, Vec<u32>) {
    let mut bytes = [0; 1000];
    let length = socket.read(&mut bytes).expect("a datagram");
    // IPv4 comes with its header.
    let datagram = &bytes[if here.is_ipv4() { 20 } else { 0 }..length];
    let port = u16::from_be_bytes([datagram[2], datagram[3]]);
    let (numbers, _) = datagram[8..].as_chunks();
    (
        port,
        numbers
            .iter()
            .map(|number| u32::from_be_bytes(*number))
            .collect(),
    )
}

/// The translator test's network: one host is both ends. An IPv4 socket talks to 198.51.100.2,
/// which is an IPv6 socket that talks to 2001:db8:4::1.
fn start_translator<E: Engine>(
    queues: usize,
    mut wrap: impl FnMut(Translator<Pair>) -> E,
) -> Handle<E> {
    let tun = Tun::open(&Options::new(NAME).queues(queues)).expect("opened");
    configure();
    let index = index_of(NAME).expect("there");
    netlink(async |handle| {
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(FAR4, 32);
        let v4 = v4.output_interface(index).build();
        handle.route().add(v4).execute().await?;
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(FAR6, 128);
        let v6 = v6.output_interface(index).build();
        handle.route().add(v6).execute().await
    });
    let make = |number| {
        let policy = Policy::new(Ipv4Addr::new(192, 0, 0, 1), Ipv6Addr::LOCALHOST);
        let ids = Identifications::new([1, 2], number as u16, queues as u16);
        wrap(Translator::new(Pair, policy, ids).expect("good policy"))
    };
    start(tun, make, |failure| panic!("{failure}")).expect("started")
}

/// One datagram each way.
fn wait_for_translation() {
    wait_for_ipv6_through(|| {
        let here = bind(HERE4.into());
        let far = bind(HERE6.into());
        far.set_read_timeout(Some(Duration::from_millis(20)))
            .expect("time-out");
        let port = far.local_addr().expect("bound").port();
        here.send_to(b"?", (FAR4, port)).expect("sent");
        let Ok((_, from)) = far.recv_from(&mut [0; 1]) else {
            return false;
        };
        assert_eq!(from.ip(), FAR6);
        far.send_to(b"!", from).expect("sent");
        let mut answer = [0; 1];
        let (_, from) = here.recv_from(&mut answer).expect("translated");
        assert_eq!(from, SocketAddr::new(FAR4.into(), port));
        answer == *b"!"
    });
}

fn l4_11_tcp_and_udp_cross_the_translator() {
    let handle = start_translator(2, |translator| translator);
    wait_for_translation();
    // From the IPv4 side, and from the IPv6 side.
    send_tcp(HERE6.into(), FAR4.into(), FAR6.into());
    send_tcp(HERE4.into(), FAR6.into(), FAR4.into());

    let sum = handle.stop();
    assert_eq!(sum.write_errors.total(), 0, "{sum}");
    // Two megabytes in whole super-packets, and some acknowledgements.
    assert!(
        sum.ipv4_in.bytes > 1 << 20 && sum.ipv6_in.bytes > 1 << 20,
        "{sum}"
    );
    assert!(sum.ipv4_in.packets + sum.ipv6_in.packets < 1000, "{sum}");
}

fn a_name_in_use_is_refused() {
    for queues in [1, 2] {
        let first = Tun::open(&Options::new(NAME).queues(queues)).expect("free");
        for wanted in [1, 2] {
            let error = Tun::open(&Options::new(NAME).queues(wanted)).expect_err("in use");
            assert!(
                matches!(&error, OpenError::InUse(name) if name == NAME),
                "{error}"
            );
        }
        drop(first);
    }
    Tun::open(&Options::new(NAME)).expect("free again");
}

fn a_name_of_another_kind_of_interface_is_refused() {
    let error = Tun::open(&Options::new("lo")).expect_err("loopback");
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
}

fn stopping_is_prompt_and_removes_the_interface() {
    let lab = Reflector::new(&Options::new(NAME).queues(3));
    assert!(index_of(NAME).is_some());
    let begin = Instant::now();
    lab.handle.stop();
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(index_of(NAME), None);
}

fn a_change_reaches_every_worker() {
    let lab = Reflector::new(&Options::new(NAME).queues(3));
    let (tell, told) = mpsc::channel();
    lab.handle.update(move |reflect: &mut Reflect| {
        reflect.refuse = Some(DropReason::Denied);
        tell.send(reflect.queue).expect("listening");
    });
    let mut changed = (0..3)
        .map(|_| told.recv_timeout(LONG).expect("changed"))
        .collect::<Vec<_>>();
    changed.sort_unstable();
    assert_eq!(changed, [0, 1, 2]);
    let socket = bind(HERE4.into());
    for port in 1000..1020 {
        socket.send_to(b"x", (PEER4, port)).expect("sent");
    }
    let denied = |sum: &Snapshot| sum.drops.count(DropReason::Denied) >= 20;
    lab.wait_for(denied);
    assert_eq!(lab.handle.stop().ipv4_out.packets, 0);
}

fn an_interface_that_goes_down_and_up_works_again() {
    let lab = Reflector::new(&Options::new(NAME).queues(2));
    ping(HERE4, PEER4);
    for _ in 0..3 {
        set_up(false);
        set_up(true);
        ping(HERE4, PEER4);
    }
    assert!(lab.failures.try_recv().is_err());
    lab.handle.stop();
}

fn a_deleted_interface_is_reported() {
    let lab = Reflector::new(&Options::new(NAME).queues(2));
    netlink(async |handle| {
        handle
            .link()
            .del(index_of(NAME).expect("there"))
            .execute()
            .await
    });
    for _ in 0..2 {
        let failure = lab.failures.recv_timeout(LONG).expect("reported");
        assert!(failure.error.is_some(), "{failure}");
    }
    lab.handle.stop();
}

fn a_panic_in_the_engine_is_reported() {
    let lab = Reflector::new(&Options::new(NAME).queues(2));
    lab.handle.update(|reflect: &mut Reflect| {
        if reflect.queue == 1 {
            // Unwinds like a panic, without the message that would look like a failing test.
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    });
    let failure = lab.failures.recv_timeout(LONG).expect("reported");
    assert_eq!(failure.worker, 1);
    assert!(failure.error.is_none(), "{failure}");
    lab.handle.stop();
}

fn packets_that_the_kernel_refuses_are_counted() {
    let lab = Reflector::new(&Options::new(NAME));
    lab.handle.update(|reflect: &mut Reflect| {
        // Beyond the end of a packet of 29 bytes.
        reflect.offload = Some(Offload {
            checksum: Checksum::Partial(PartialChecksum {
                start: 6000,
                offset: 6,
            }),
            gso: None,
        });
    });
    let socket = bind(HERE4.into());
    socket.send_to(b"x", (PEER4, 9)).expect("sent");
    lab.wait_for(|sum| sum.write_errors.total() == 1);
    lab.handle
        .update(|reflect: &mut Reflect| reflect.offload = None);
    ping(HERE4, PEER4);
    let sum = lab.handle.stop();
    assert_eq!(sum.write_errors.count(WriteError::Invalid), 1);
}

fn an_idle_worker_does_not_wake_up() {
    std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").expect("no IPv6 chatter");
    let lab = Reflector::new(&Options::new(NAME).queues(2));
    ping(HERE4, PEER4);
    let before = lab.handle.counters().wakeups;
    // Not a wait for something: the time in which nothing may happen.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(lab.handle.counters().wakeups, before);
    ping(HERE4, PEER4);
    assert!(lab.handle.counters().wakeups > before);
}

/// A TUN with addresses whose workers send everything back.
struct Reflector {
    handle: Handle<Reflect>,
    seen: mpsc::Receiver<Seen>,
    failures: mpsc::Receiver<Failure>,
}

impl Reflector {
    fn new(options: &Options) -> Self {
        let tun = Tun::open(options).expect("opened");
        assert_eq!(tun.queues(), options.queues);
        configure();
        let (seen, all_seen) = mpsc::channel();
        let (fail, failures) = mpsc::channel();
        let make = |queue| Reflect {
            queue,
            seen: seen.clone(),
            refuse: None,
            offload: None,
        };
        let handle = start(tun, make, move |failure| {
            let _ = fail.send(failure);
        });
        if ipv6_is_on() {
            wait_for_ipv6();
        }
        while all_seen.try_recv().is_ok() {}
        Self {
            handle: handle.expect("started"),
            seen: all_seen,
            failures,
        }
    }

    #[track_caller]
    fn wait_for(&self, condition: impl Fn(&Snapshot) -> bool) {
        let deadline = Instant::now() + LONG;
        while !condition(&self.handle.counters()) {
            assert!(Instant::now() < deadline, "{}", self.handle.counters());
            thread::yield_now();
        }
    }
}

/// One write of several datagrams, reflected and compared.
fn exchange_datagrams(here: IpAddr, peer: IpAddr) {
    let socket = bind(here);
    let port = socket.local_addr().expect("bound").port();
    let segment = nix::sys::socket::sockopt::UdpGsoSegment;
    nix::sys::socket::setsockopt(&socket, segment, &1000).expect("UDP_SEGMENT");
    let payload = pattern(5300);
    socket.send_to(&payload, (peer, port)).expect("sent");
    for expected in payload.chunks(1000) {
        let mut back = [0; 2000];
        let (count, _) = socket.recv_from(&mut back).expect("reflected");
        assert_eq!(&back[..count], expected);
    }
}

/// One megabyte through a reflected TCP connection, compared byte by byte.
fn exchange_tcp(here: IpAddr, peer: IpAddr) {
    send_tcp(here, peer, peer);
}

/// Listens on `here` and sends one megabyte to `to`, which must arrive as if it were from `from`.
fn send_tcp(here: IpAddr, to: IpAddr, from: IpAddr) {
    let listener = TcpListener::bind((here, 0)).expect("bound");
    let port = listener.local_addr().expect("bound").port();
    let payload = pattern(1 << 20);
    let sender = thread::spawn({
        let payload = payload.clone();
        // The thread is in the namespace of the one that started it.
        move || {
            let mut stream = TcpStream::connect((to, port)).expect("connected");
            stream.write_all(&payload).expect("written");
            stream.shutdown(Shutdown::Write).expect("shut down");
            stream.read_to_end(&mut Vec::new()).expect("closed");
        }
    });
    let (mut stream, seen_from) = listener.accept().expect("accepted");
    assert_eq!(seen_from.ip(), from);
    stream.set_read_timeout(Some(LONG)).expect("time-out");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("read");
    assert!(received == payload, "the bytes differ");
    drop(stream);
    sender.join().expect("sender");
}

fn wait_for_ipv6() {
    let socket = bind(HERE6.into());
    let pause = Duration::from_millis(20);
    socket.set_read_timeout(Some(pause)).expect("time-out");
    let port = socket.local_addr().expect("bound").port();
    wait_for_ipv6_through(|| {
        socket.send_to(b"?", (PEER6, port)).expect("sent");
        socket.recv(&mut [0; 1]).is_ok()
    });
}

/// Tries until it works: the kernel makes a new IPv6 address reachable some time after it was added.
fn wait_for_ipv6_through(works: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !works() {
        assert!(Instant::now() < deadline, "no IPv6");
    }
}
