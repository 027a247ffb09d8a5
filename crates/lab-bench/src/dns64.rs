//! `cargo lab bench --dns64`: answers that the DNS64 has kept.

use std::net::{Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::binaries::Binaries;
use lab::installed::{Installed, Setup};
use lab::topology::{Plan, SERVER, Topology};
use lab::traffic::dns::{AAAA, Upstream, addresses, exchange, question};

/// The edge on the clients' link.
const RESOLVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// Different names that are asked for.
const NAMES: usize = 1000;
/// Questions on their way at the same time.
const WINDOW: usize = 32;
/// An answer that has not come by then is lost.
const LOST: Duration = Duration::from_millis(500);

/// Answers a second, answers per CPU second of `plat`, and the round trip's p50 and p99 in
/// microseconds.
pub(crate) struct Figures {
    pub(crate) rate: f64,
    pub(crate) per_cpu: f64,
    pub(crate) median: f64,
    pub(crate) late: f64,
}

/// Asks for this long.
///
/// # Errors
/// When the network cannot be built, or an answer is wrong or does not come.
pub(crate) fn measure(binaries: &Binaries, time: Duration) -> Result<Figures> {
    let flags = [
        "--pool=192.168.64.9".to_owned(),
        format!("--dns64={RESOLVER}"),
        format!("--dns64-upstream={SERVER}"),
        "--dns64-rate=100000000".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let topology = Topology::new(&Plan::default())?;
    let installed = Installed::with(binaries, topology, Setup::plat_alone(&flags))?;
    let network = &installed.topology;
    let upstream = Upstream::start(&network.server, SERVER, SERVER, 1)?;
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
    let cpu = installed.plat.processor_time()?;
    let (mut times, elapsed) = network.client().run(|| ask(&questions, time))?;
    let cpu = installed
        .plat
        .processor_time()?
        .saturating_sub(cpu)
        .as_secs_f64();
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

/// Keeps a window of questions on their way; the round trips.
fn ask(questions: &[Vec<u8>], time: Duration) -> Result<(Vec<Duration>, Duration)> {
    let socket = UdpSocket::bind("[::]:0")?;
    socket.set_read_timeout(Some(LOST))?;
    socket.connect((RESOLVER, 53))?;
    let begin = Instant::now();
    let mut sent = vec![begin; WINDOW];
    let mut times = Vec::new();
    let send = |lane: usize, number: usize, sent: &mut [Instant]| -> Result<()> {
        let mut bytes = questions[number % questions.len()].clone();
        bytes[..2].copy_from_slice(&(lane as u16).to_be_bytes());
        sent[lane] = Instant::now();
        socket.send(&bytes)?;
        Ok(())
    };
    for lane in 0..WINDOW {
        send(lane, lane, &mut sent)?;
    }
    let mut number = WINDOW;
    let mut buffer = [0; 2048];
    while begin.elapsed() < time {
        let length = socket.recv(&mut buffer)?;
        let lane = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
        ensure!(length > 40 && lane < WINDOW, "no answer to a question");
        times.push(sent[lane].elapsed());
        send(lane, number, &mut sent)?;
        number += 1;
    }
    Ok((times, begin.elapsed()))
}
