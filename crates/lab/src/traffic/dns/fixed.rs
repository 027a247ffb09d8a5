//! A DNS64 that says what a test wants it to say: one response for every question.

use std::net::{Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use crate::namespace::Namespace;

/// A DNS server that has one response for every question.
pub struct FixedDns64 {
    answer: Arc<Mutex<(Vec<Ipv6Addr>, u32)>>,
    asked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FixedDns64 {
    /// Listens on port 53 of an address of the namespace; answers AAAA records with these addresses
    /// and this lifetime in seconds. Without addresses there is no such name.
    ///
    /// # Errors
    /// When the address is not there, or the port is taken.
    pub fn start(
        namespace: &Namespace,
        address: Ipv6Addr,
        addresses: &[Ipv6Addr],
        lifetime: u32,
    ) -> Result<Self> {
        let socket = namespace.run(|| Ok(UdpSocket::bind((address, 53))?))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let answer = Arc::new(Mutex::new((addresses.to_vec(), lifetime)));
        let asked = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (answer, asked, stop) =
                (Arc::clone(&answer), Arc::clone(&asked), Arc::clone(&stop));
            move || {
                let mut buffer = [0; 512];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                        asked.fetch_add(1, Ordering::Relaxed);
                        let (addresses, lifetime) =
                            &*answer.lock().unwrap_or_else(PoisonError::into_inner);
                        let reply = reply(&buffer[..length], addresses, *lifetime);
                        let _ = socket.send_to(&reply, from);
                    }
                }
            }
        });
        Ok(Self {
            answer,
            asked,
            stop,
            thread: Some(thread),
        })
    }

    /// Says something else from now on.
    pub fn say(&self, addresses: &[Ipv6Addr], lifetime: u32) {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        *answer = (addresses.to_vec(), lifetime);
    }

    /// How many questions it was asked.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for FixedDns64 {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// RFC 1035 by hand: the question again, and a record for each address.
fn reply(query: &[u8], addresses: &[Ipv6Addr], lifetime: u32) -> Vec<u8> {
    let code = if addresses.is_empty() { 3 } else { 0 };
    let mut reply = query.to_vec();
    reply.truncate(query.len());
    if reply.len() < 12 {
        return Vec::new();
    }
    reply[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    reply[6..8].copy_from_slice(&(addresses.len() as u16).to_be_bytes());
    for address in addresses {
        reply.extend([0xc0, 12, 0, 28, 0, 1]);
        reply.extend(lifetime.to_be_bytes());
        reply.extend([0, 16]);
        reply.extend(address.octets());
    }
    reply
}
