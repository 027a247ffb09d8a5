//! `cargo lab bench --dns64`: answers that the DNS64 has kept, ours and unbound's where it is installed.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::binaries::Binaries;
use lab::installed::{Installed, Setup};
use lab::process::Daemon;
use lab::topology::{PREF64, Plan, SERVER, Topology};
use lab::traffic::dns::{AAAA, Upstream, addresses, exchange, question};
use lab::unbound::{UNBOUND, Unbound};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn6, recvmmsg, sendmmsg};

/// The edge on the clients' link.
const RESOLVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// Different names that are asked for.
const NAMES: usize = 1000;
/// Questions on their way at the same time.
const WINDOW: usize = 32;
/// An answer that has not come by then is lost.
const LOST: Duration = Duration::from_millis(500);

/// Answers a second, answers per CPU second of the server, and the round trip's p50 and p99 in
/// microseconds.
pub(crate) struct Figures {
    pub(crate) rate: f64,
    pub(crate) per_cpu: f64,
    pub(crate) median: f64,
    pub(crate) late: f64,
}

/// Asks `plat` for this long; `more` are flags of it.
///
/// # Errors
/// When the network cannot be built, or an answer is wrong or does not come.
pub(crate) fn measure(binaries: &Binaries, more: &[String], time: Duration) -> Result<Figures> {
    let flags = [
        "--pool=192.168.64.9".to_owned(),
        format!("--dns64={RESOLVER}"),
        format!("--dns64-upstream={SERVER}"),
        "--dns64-rate=100000000".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().chain(more).map(String::as_str).collect();
    let topology = Topology::new(&Plan::default())?;
    let installed = Installed::with(binaries, topology, Setup::plat_alone(&flags))?;
    let upstream = upstream(&installed.topology)?;
    load(&installed.topology, &upstream, &installed.plat, time)
}

/// The same of Debian's unbound, with the DNS64 module and as many threads; `None` without it.
///
/// # Errors
/// When the network cannot be built, or an answer is wrong or does not come.
pub(crate) fn measure_unbound(threads: usize, time: Duration) -> Result<Option<Figures>> {
    if !Path::new(UNBOUND).is_file() {
        return Ok(None);
    }
    let network = Topology::new(&Plan::default())?;
    let upstream = upstream(&network)?;
    let lines = format!(
        " access-control: ::/0 allow\n num-threads: {threads}\n module-config: \"dns64 iterator\"\n \
         dns64-prefix: {PREF64}\nforward-zone:\n name: \".\"\n forward-addr: {SERVER}@53\n"
    );
    let unbound = Unbound::start(&network.edge, (RESOLVER, 53).into(), &lines, "")?;
    load(&network, &upstream, &unbound.daemon, time).map(Some)
}

/// A resolver whose names have an IPv4 address and no IPv6 one, which it says how long to keep.
fn upstream(network: &Topology) -> Result<Upstream> {
    Upstream::scripted(&network.server, (SERVER, 53).into(), |asked| {
        asked.v4_only(SERVER).into()
    })
}

fn load(
    network: &Topology,
    upstream: &Upstream,
    server: &Daemon,
    time: Duration,
) -> Result<Figures> {
    let questions: Vec<Vec<u8>> = (0..NAMES)
        .map(|number| question(&format!("host{number}.example"), AAAA))
        .collect();
    network.client().run(|| {
        for number in 0..NAMES {
            let answer = exchange(RESOLVER, &format!("host{number}.example"), AAAA)?;
            ensure!(addresses(&answer).len() == 1, "a wrong answer");
        }
        Ok(())
    })?;
    let asked = upstream.asked();
    let cpu = server.processor_time()?;
    let (mut times, elapsed) = network.client().run(|| ask(&questions, time))?;
    let cpu = server.processor_time()?.saturating_sub(cpu).as_secs_f64();
    ensure!(upstream.asked() == asked, "some answers were not kept");
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
    Ok(Figures {
        rate: times.len() as f64 / elapsed.as_secs_f64(),
        per_cpu: times.len() as f64 / cpu.max(0.01),
        median: at(50),
        late: at(99),
    })
}

/// Keeps a window of questions on their way; the round trips. It reads and sends as many at once as there
/// are, so that the client is no slower than the server.
fn ask(questions: &[Vec<u8>], time: Duration) -> Result<(Vec<Duration>, Duration)> {
    let socket = UdpSocket::bind("[::]:0")?;
    socket.set_read_timeout(Some(LOST))?;
    socket.connect((RESOLVER, 53))?;
    let begin = Instant::now();
    let mut sent = vec![begin; WINDOW];
    let mut times = Vec::new();
    let mut lanes: Vec<usize> = (0..WINDOW).collect();
    let mut number = 0;
    let mut heads = MultiHeaders::<SockaddrIn6>::preallocate(WINDOW, None);
    let mut buffers = vec![[0; 2048]; WINDOW];
    loop {
        let batch: Vec<Vec<u8>> = lanes
            .drain(..)
            .map(|lane| {
                let mut bytes = questions[number % questions.len()].clone();
                bytes[..2].copy_from_slice(&(lane as u16).to_be_bytes());
                sent[lane] = Instant::now();
                number += 1;
                bytes
            })
            .collect();
        let slices: Vec<[IoSlice<'_>; 1]> =
            batch.iter().map(|bytes| [IoSlice::new(bytes)]).collect();
        let nobody = vec![None; batch.len()];
        let none: [ControlMessage<'_>; 0] = [];
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::empty());
        let mut send_heads = MultiHeaders::<SockaddrIn6>::preallocate(batch.len(), None);
        let on_way = sendmmsg(fd, &mut send_heads, slices.iter(), &nobody, none, flags)?;
        ensure!(
            on_way.count() == batch.len(),
            "some questions were not sent"
        );
        if begin.elapsed() >= time {
            return Ok((times, begin.elapsed()));
        }
        let lengths: Vec<usize> = {
            let slices = buffers.iter_mut().map(|bytes| [IoSliceMut::new(bytes)]);
            let mut slices: Vec<[IoSliceMut<'_>; 1]> = slices.collect();
            let flags = MsgFlags::MSG_WAITFORONE;
            let received = recvmmsg(fd, &mut heads, slices.iter_mut(), flags, None)?;
            received.map(|one| one.bytes).collect()
        };
        for (length, buffer) in lengths.into_iter().zip(&buffers) {
            let lane = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
            ensure!(length > 40 && lane < WINDOW, "no answer to a question");
            times.push(sent[lane].elapsed());
            lanes.push(lane);
        }
    }
}
