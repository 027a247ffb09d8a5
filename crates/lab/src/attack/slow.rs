//! Clients that connect and say nothing, or one byte now and then.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Row;
use super::net::{EDGE, Net, Program};
use crate::namespace::Namespace;
use crate::traffic::dns::{Message, kind, over_tcp};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "slow-metrics",
        about: "200 clients of the metrics of each program that send a byte now and then",
        run: |ground| Net::new(ground)?.beside(ground, metrics),
    },
    Row {
        name: "slow-control",
        about: "200 silent clients of the control socket of each program",
        run: |ground| Net::new(ground)?.beside(ground, control),
    },
    Row {
        name: "slow-dns",
        about: "200 connections of a subscriber to the DNS64 that send a byte now and then",
        run: |ground| Net::new(ground)?.beside(ground, dns),
    },
];

const CLIENTS: usize = 200;
/// An honest client waits no longer.
const PATIENCE: Duration = Duration::from_secs(5);
const BOTH: [Program; 2] = [Program::Clat, Program::Plat];

/// Honest requests while the slow ones wait: how many there were, and how long one took at most.
fn meanwhile(
    is_over: &AtomicBool,
    mut nag: impl FnMut(),
    mut honest: impl FnMut() -> Result<()>,
) -> Result<String> {
    let (mut count, mut longest) = (0, Duration::ZERO);
    while count == 0 || !is_over.load(Ordering::Relaxed) {
        nag();
        let begin = Instant::now();
        honest()?;
        longest = longest.max(begin.elapsed());
        count += 1;
        thread::sleep(Duration::from_millis(20));
    }
    ensure!(longest < PATIENCE, "an honest client waited {longest:?}");
    Ok(format!("{count} honest requests, {longest:.0?} at most"))
}

fn metrics(net: &Net, is_over: &AtomicBool) -> Result<String> {
    let mut slow = Vec::new();
    for program in BOTH {
        slow.extend(connect(net.host(program), &[program.metrics().parse()?])?);
    }
    let nag = || slow.iter_mut().for_each(|stream| _ = stream.write(b"G"));
    meanwhile(is_over, nag, || {
        for program in BOTH {
            let page = net.host(program).run(|| scrape(program.metrics()))?;
            ensure!(page.starts_with("HTTP/1.1 200"), "{page}");
        }
        Ok(())
    })
}

fn scrape(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse()?, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page).context("no metrics")?;
    Ok(page)
}

fn control(net: &Net, is_over: &AtomicBool) -> Result<String> {
    let mut slow = Vec::new();
    for program in BOTH {
        let path = socket(net, program)?;
        slow.extend((0..CLIENTS).map_while(|_| UnixStream::connect(&path).ok()));
    }
    ensure!(slow.len() > CLIENTS, "only {} connections", slow.len());
    meanwhile(
        is_over,
        || {},
        || {
            BOTH.iter()
                .try_for_each(|program| net.status(*program).map(drop))
        },
    )
}

/// The control socket of a program.
pub(super) fn socket(net: &Net, program: Program) -> Result<PathBuf> {
    for entry in std::fs::read_dir(net.files(program, "run"))? {
        let entry = entry?;
        if entry.file_type()?.is_socket() {
            return Ok(entry.path());
        }
    }
    anyhow::bail!("{} has no control socket", program.name())
}

fn dns(net: &Net, is_over: &AtomicBool) -> Result<String> {
    let mut slow = connect(&net.topology.clients[1], &[(EDGE, 53).into()])?;
    let nag = || slow.iter_mut().for_each(|stream| _ = stream.write(&[0]));
    let client = net.topology.client();
    let query = Message::query("x.example", kind::AAAA).to_bytes();
    meanwhile(is_over, nag, || {
        let answer = client.run(|| over_tcp(EDGE, &query))?;
        ensure!(
            Message::parse(&answer)?.addresses().len() == 1,
            "no address"
        );
        Ok(())
    })
}

/// Connections, as many as are accepted.
fn connect(from: &Namespace, to: &[SocketAddr]) -> Result<Vec<TcpStream>> {
    from.run(|| {
        let mut streams = Vec::new();
        for _ in 0..CLIENTS {
            let stream = TcpStream::connect_timeout(&to[0], PATIENCE)?;
            stream.set_nonblocking(true)?;
            streams.push(stream);
        }
        Ok(streams)
    })
}
