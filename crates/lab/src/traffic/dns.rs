//! DNS questions and answers, made by hand.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use super::PATIENCE;
use crate::namespace::Namespace;

/// Number of the type AAAA.
pub const AAAA: u16 = 28;

/// One question over UDP, and its answer.
///
/// # Errors
/// When there is none in time.
pub fn exchange(server: Ipv6Addr, name: &str, kind: u16) -> Result<Vec<u8>> {
    let socket = UdpSocket::bind("[::]:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((server, 53))?;
    socket.send(&question(name, kind))?;
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer).context("no answer")?;
    answer.truncate(length);
    Ok(answer)
}

/// A question with recursion desired, by hand (RFC 1035). `kind` is the number of the type.
#[must_use]
pub fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

/// The IPv6 addresses in an answer: whatever follows type AAAA, class IN, a lifetime and a length of 16.
#[must_use]
pub fn addresses(answer: &[u8]) -> Vec<Ipv6Addr> {
    let is_record =
        |at: &usize| answer[*at..*at + 4] == [0, 28, 0, 1] && answer[*at + 8..*at + 10] == [0, 16];
    (0..answer.len().saturating_sub(25))
        .filter(is_record)
        .filter_map(|at| <[u8; 16]>::try_from(&answer[at + 10..at + 26]).ok())
        .map(Ipv6Addr::from)
        .collect()
}

/// A resolver whose names have IPv4 addresses only.
pub struct Upstream {
    asked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Upstream {
    /// Answers on port 53 of `address` in the namespace. Each name has so many addresses, from
    /// `first` on.
    ///
    /// # Errors
    /// When the address is not there, or the port is taken.
    pub fn start(
        namespace: &Namespace,
        address: Ipv4Addr,
        first: Ipv4Addr,
        count: u8,
    ) -> Result<Self> {
        let socket = namespace.run(|| Ok(UdpSocket::bind((address, 53))?))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let asked = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (counter, ended) = (Arc::clone(&asked), Arc::clone(&stop));
        let datagrams = thread::spawn(move || {
            let mut buffer = [0; 512];
            while !ended.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let _ = socket.send_to(&reply(&buffer[..length], first, count), from);
                }
            }
        });
        Ok(Self {
            asked,
            stop,
            threads: vec![datagrams],
        })
    }

    /// How many questions it was asked.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A records for a question of that type, and nothing for others.
fn reply(query: &[u8], first: Ipv4Addr, count: u8) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap_or(0) + 5;
    let mut reply = query[..end].to_vec();
    let is_a = reply[end - 4..end - 2] == [0, 1];
    let count = if is_a { count } else { 0 };
    reply[2..4].copy_from_slice(&[0x81, 0x80]);
    reply[6..12].copy_from_slice(&[0, count, 0, 0, 0, 0]);
    for number in 0..count {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4]);
        reply.extend((first.to_bits() + u32::from(number)).to_be_bytes());
    }
    reply
}
