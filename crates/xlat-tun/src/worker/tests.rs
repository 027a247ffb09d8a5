//! A socket pair takes the TUN's place: the test plays the kernel on the other end.

use std::net::Ipv6Addr;
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use etherparse::PacketBuilder;
use xlat_core::Policy;
use xlat_core::addr::Pref64s;
use xlat_core::identification::Identifications;

use std::thread;

use super::*;

/// Nothing in these tests takes that long on a working system.
const LONG: Duration = Duration::from_secs(10);

const PLAIN: [u8; 10] = [0; 10];

/// Acts on the second byte of a packet, and has as many packets of its own as it held.
#[derive(Default)]
struct Script {
    own: usize,
    wants_prefetch: bool,
    prefetched: Arc<Mutex<Vec<u8>>>,
}

impl Engine for Script {
    fn translate(&mut self, frame: &mut Frame<'_>, _now: Instant) -> Verdict {
        match frame.packet()[1] {
            b'f' => Verdict::Forward,
            b'r' => Verdict::Reply(DropReason::TooBig),
            b'h' => {
                self.own += 1;
                Verdict::Held
            }
            _ => Verdict::Drop(DropReason::Denied),
        }
    }

    fn wants_prefetch(&self) -> bool {
        self.wants_prefetch
    }

    fn prefetch<'a>(&mut self, packets: impl Iterator<Item = &'a [u8]>) {
        let mut prefetched = self.prefetched.lock().expect("not poisoned");
        prefetched.extend(packets.filter_map(<[u8]>::last));
    }

    fn poll_packet(&mut self, frame: &mut Frame<'_>, _now: Instant) -> Option<Verdict> {
        self.own = self.own.checked_sub(1)?;
        assert!(frame.resize(2), "an empty slot has room");
        frame.packet_mut().copy_from_slice(b"\x60o");
        Some(Verdict::Forward)
    }
}

/// A worker on one end of a socket pair; the test plays the kernel on the other.
fn worker() -> (Handle<Script>, UnixDatagram, mpsc::Receiver<Failure>) {
    worker_with(Script::default)
}

fn worker_with(
    script: impl FnMut() -> Script,
) -> (Handle<Script>, UnixDatagram, mpsc::Receiver<Failure>) {
    worker_that(Offloads::NONE, script)
}

fn worker_that(
    offloads: Offloads,
    mut script: impl FnMut() -> Script,
) -> (Handle<Script>, UnixDatagram, mpsc::Receiver<Failure>) {
    let (near, far) = UnixDatagram::pair().expect("socket pair");
    near.set_nonblocking(true).expect("non-blocking");
    far.set_read_timeout(Some(LONG)).expect("time-out");
    let queue = Queue::new(near.into(), "test").expect("queue");
    let (fail, failures) = mpsc::channel();
    let report = move |failure| fail.send(failure).unwrap_or(());
    let handle = start_on(
        vec![(queue, Arc::default())],
        offloads,
        &ThreadPlacement::default(),
        |_| script(),
        report,
    )
    .expect("started");
    (handle, far, failures)
}

fn send(kernel: &UnixDatagram, header: [u8; 10], packet: &[u8]) {
    let wire = [header.as_slice(), packet].concat();
    kernel.send(&wire).expect("sent");
}

/// The next packet that the worker writes.
#[track_caller]
fn next(kernel: &UnixDatagram) -> Vec<u8> {
    let mut wire = vec![0; 70_000];
    let length = kernel.recv(&mut wire).expect("a packet in time");
    wire[10..length].to_vec()
}

#[test]
fn each_verdict_is_acted_on_and_counted() {
    let (handle, kernel, _failures) = worker();
    for packet in [b"\x45d", b"\x60r", b"\x45f"] {
        send(&kernel, PLAIN, packet);
    }
    assert_eq!(next(&kernel), b"\x60r");
    assert_eq!(next(&kernel), b"\x45f");
    let sum = handle.stop();
    assert_eq!(sum.drops.count(DropReason::Denied), 1);
    assert_eq!(sum.drops.total(), 1);
    assert_eq!(sum.replies.count(DropReason::TooBig), 1);
    assert_eq!(sum.replies.total(), 1);
    assert_eq!((sum.ipv4_in.packets, sum.ipv6_in.packets), (2, 1));
    assert_eq!((sum.ipv4_out.packets, sum.ipv6_out.packets), (1, 1));
}

#[test]
fn packets_of_the_engines_own_follow_a_batch_and_a_message() {
    let (handle, kernel, _failures) = worker();
    send(&kernel, PLAIN, b"\x45h");
    assert_eq!(next(&kernel), b"\x60o");
    handle.update(|script| script.own = 2);
    assert_eq!(next(&kernel), b"\x60o");
    assert_eq!(next(&kernel), b"\x60o");
    let sum = handle.stop();
    assert_eq!((sum.held, sum.ipv4_in.packets), (1, 1));
    assert_eq!((sum.ipv6_in.packets, sum.ipv6_out.packets), (0, 3));
}

#[test]
fn packets_that_are_read_ahead_are_prefetched_and_keep_their_order() {
    let prefetched = Arc::new(Mutex::new(Vec::new()));
    let (handle, kernel, _failures) = worker_with(|| Script {
        wants_prefetch: true,
        prefetched: Arc::clone(&prefetched),
        ..Script::default()
    });
    let mut expected = Vec::new();
    for number in 0..100 {
        let packet = [0x45, if number % 3 == 0 { b'd' } else { b'f' }, number];
        send(&kernel, PLAIN, &packet);
        if number % 7 == 0 {
            // Impossible headers leave no gap.
            send(&kernel, [1, 1, 0, 0, 0, 0, 20, 0, 2, 0], &[0x45; 40]);
        }
        if number % 3 != 0 {
            expected.push(number);
        }
    }
    let got: Vec<u8> = expected.iter().map(|_| next(&kernel)[2]).collect();
    assert_eq!(got, expected);
    let sum = handle.stop();
    assert_eq!(sum.drops.count(DropReason::Denied), 34);
    assert_eq!(sum.drops.count(DropReason::BadOffload), 15);
    let prefetched = prefetched.lock().expect("not poisoned");
    assert_eq!(*prefetched, (0..100).collect::<Vec<u8>>());
}

/// A UDP datagram that can be joined with the one before, and that the script forwards.
fn datagram(id: u16, payload: usize) -> Vec<u8> {
    let mut ip = etherparse::Ipv4Header::new(
        (8 + payload) as u16,
        63,
        etherparse::IpNumber::UDP,
        [192, 0, 2, 1],
        [192, 0, 2, 2],
    )
    .expect("fits");
    ip.identification = id;
    // The script's `f`, as type of service.
    (ip.dscp, ip.ecn) = (
        etherparse::IpDscp::try_new(b'f' >> 2).expect("6 bits"),
        etherparse::IpEcn::try_new(b'f' & 3).expect("2 bits"),
    );
    let payload = vec![1; payload];
    let udp = etherparse::UdpHeader::with_ipv4_checksum(7, 7, &ip, &payload).expect("fits");
    let headers = [ip.to_bytes().as_slice(), udp.to_bytes().as_slice()].concat();
    [headers, payload].concat()
}

/// Keeps the worker from reading until the sender is dropped.
fn hold(handle: &Handle<Script>) -> mpsc::SyncSender<()> {
    let (go, wait) = mpsc::sync_channel::<()>(0);
    let wait = Mutex::new(wait);
    handle.update(move |_| {
        let _ = wait.lock().expect("not poisoned").recv();
    });
    go
}

#[test]
fn a_datagram_does_not_wait_behind_a_large_packet() {
    let (handle, kernel, _failures) = worker_that(Offloads::ALL, Script::default);
    let go = hold(&handle);
    let mut large = vec![0; LARGE + 1];
    // No Next Header: of no flow that could be joined.
    large[..7].copy_from_slice(b"\x60f\0\0\0\0\x3b");
    for packet in [&datagram(1, 100), &datagram(2, 100), &large] {
        send(&kernel, PLAIN, packet);
    }
    drop(go);
    assert_eq!(next(&kernel).len(), 28 + 200);
    assert_eq!(next(&kernel).len(), LARGE + 1);
    assert_eq!(handle.stop().joined, 1);
}

#[test]
fn joining_ends_when_the_kernel_refuses_what_was_joined() {
    let (near, kernel) = UnixDatagram::pair().expect("socket pair");
    near.set_nonblocking(true).expect("non-blocking");
    kernel.set_read_timeout(Some(LONG)).expect("time-out");
    // Each datagram has room in this socket, two of them joined have not.
    rustix::net::sockopt::set_socket_send_buffer_size(&near, 1).expect("smallest");
    let room = rustix::net::sockopt::socket_send_buffer_size(&near).expect("known");
    let payload = room * 2 / 3;
    let queue = Queue::new(near.into(), "test").expect("queue");
    let make = |_| Script::default();
    let handle = start_on(
        vec![(queue, Arc::default())],
        Offloads::ALL,
        &ThreadPlacement::default(),
        make,
        |_| {},
    )
    .expect("started");
    let go = hold(&handle);
    for id in 0..2 {
        send(&kernel, PLAIN, &datagram(id, payload));
    }
    drop(go);
    while handle.counters().write_errors.total() == 0 {
        thread::yield_now();
    }
    let go = hold(&handle);
    for id in 2..4 {
        send(&kernel, PLAIN, &datagram(id, payload));
    }
    drop(go);
    // Whether the socket has room for the other one as well is another matter.
    assert_eq!(next(&kernel), datagram(2, payload));
    let sum = handle.stop();
    assert_eq!(sum.write_errors.count(WriteError::Invalid), 2);
    assert_eq!((sum.ipv4_in.packets, sum.joined), (4, 1));
}

#[test]
fn an_impossible_offload_is_a_counted_drop_and_nothing_else() {
    let (handle, kernel, failures) = worker();
    // Segments of 0 bytes; a checksum beyond the packet; headers beyond the packet.
    let impossible: [[u8; 10]; 3] = [
        [1, 1, 0, 0, 0, 0, 20, 0, 2, 0],
        [1, 0, 0, 0, 0, 0, 99, 0, 6, 0],
        [0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0],
    ];
    for header in impossible {
        send(&kernel, header, &[0x45; 40]);
    }
    kernel.send(b"short").expect("sent");
    send(&kernel, PLAIN, b"\x45f");
    assert_eq!(next(&kernel), b"\x45f");
    let sum = handle.stop();
    assert_eq!(sum.drops.count(DropReason::BadOffload), 4);
    assert!(failures.try_recv().is_err());
}

#[test]
fn changes_happen_in_the_order_of_the_calls() {
    let (handle, _kernel, _failures) = worker();
    let (tell, told) = mpsc::channel();
    for number in 0..100 {
        let tell = tell.clone();
        handle.update(move |_| tell.send(number).unwrap_or(()));
    }
    let order = told.iter().take(100).collect::<Vec<_>>();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
}

/// Packets of one session, in turns from its client and from its server.
struct Session {
    client: Vec<u8>,
    server: Vec<u8>,
}

/// A translator with one session.
fn nat64() -> (Translator<nat64::Worker>, Session) {
    let pool = "192.0.2.9/32".parse().expect("a pool");
    let prefixes = Pref64s::new(["2001:db8:64::/96".parse().expect("a prefix")], true);
    let config = nat64::config::Config::new(vec![pool]);
    let mapper = nat64::Nat64::new(config, prefixes, [1, 2])
        .expect("good")
        .worker();
    let policy = Policy::new([192, 0, 0, 1].into(), Ipv6Addr::LOCALHOST);
    let ids = Identifications::new([1, 2], 0, 1);
    let mut translator = Translator::new(mapper, policy, ids).expect("good");

    let (node, server) = ("2001:db8::1", "2001:db8:64::203.0.113.1");
    let address = |text: &str| text.parse::<Ipv6Addr>().expect("an address").octets();
    let mut client = Vec::new();
    PacketBuilder::ipv6(address(node), address(server), 64)
        .udp(5000, 7)
        .write(&mut client, &[1; 100])
        .expect("to memory");
    let mut slot = Slot::new();
    let mut frame = slot.empty().expect("room");
    assert!(frame.resize(client.len()));
    frame.packet_mut().copy_from_slice(&client);
    let verdict = translator.translate(&mut frame, now());
    assert!(matches!(verdict, Verdict::Forward), "{verdict:?}");
    let port = u16::from_be_bytes([frame.packet()[20], frame.packet()[21]]);
    let mut server = Vec::new();
    PacketBuilder::ipv4([203, 0, 113, 1], [192, 0, 2, 9], 64)
        .udp(7, port)
        .write(&mut server, &[1; 100])
        .expect("to memory");
    (translator, Session { client, server })
}

/// Allocations of a worker that translates so many packets each way.
fn allocations(rounds: usize) -> u64 {
    const TOGETHER: usize = 4;
    let (engine, session) = nat64();
    let (near, kernel) = UnixDatagram::pair().expect("socket pair");
    near.set_nonblocking(true).expect("non-blocking");
    kernel.set_read_timeout(Some(LONG)).expect("time-out");
    let queue = Queue::new(near.into(), "test").expect("queue");
    let mailbox = Arc::new(Mailbox::new().expect("bell"));
    let counters = Arc::new(Counters::default());
    let output = Output {
        queue,
        counters: Arc::clone(&counters),
        refused: None,
    };
    let mut worker = Worker {
        engine,
        pace: Pace::default(),
        coalescer: Coalescer::new(Offloads::ALL),
        output,
        mailbox: Arc::clone(&mailbox),
    };
    let traffic = thread::spawn(move || {
        for _ in 0..rounds {
            for (packet, headers) in [(&session.client, 28), (&session.server, 48)] {
                for _ in 0..TOGETHER {
                    send(&kernel, PLAIN, packet);
                }
                let mut payload = 0;
                while payload < TOGETHER * 100 {
                    payload += next(&kernel).len() - headers;
                }
            }
        }
        mailbox.post(Message::Stop);
    });
    let counted = allocation_counter::measure(|| worker.run().expect("told to stop"));
    traffic.join().expect("all came through");
    let sum = counters.snapshot();
    let packets = (rounds * TOGETHER) as u64;
    assert_eq!(
        (sum.ipv6_in.packets, sum.ipv4_in.packets),
        (packets, packets)
    );
    counted.count_total
}

#[test]
fn no_packet_costs_the_worker_an_allocation() {
    // What it allocates to begin with are its buffers.
    assert_eq!(allocations(500), allocations(1));
}
