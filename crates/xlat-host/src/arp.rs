//! A packet socket for ARP on one link.

use std::io;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;

use socket2::{Domain, SockFilter, Socket, Type};
use tokio::net::UdpSocket;
use xlat_tun::bind_to_link;

use crate::host::Link;

/// Sends ARP frames on a link, and receives those whose sender has an address of a range.
#[derive(Debug)]
pub struct ArpSocket {
    /// In fact a packet socket.
    frames: UdpSocket,
}

impl ArpSocket {
    /// Opens the socket; frames from senders in `senders` are received. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// If the system refuses: it needs CAP_NET_RAW.
    pub fn open(link: &Link, senders: &RangeInclusive<Ipv4Addr>) -> io::Result<Self> {
        const ARP: u16 = 0x0806;
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.attach_filter(&from(senders))?;
        socket.set_nonblocking(true)?;
        bind_to_link(socket.as_fd(), link.index, ARP)?;
        Ok(Self {
            frames: UdpSocket::from_std(socket.into())?,
        })
    }

    /// Waits for the next frame.
    ///
    /// # Errors
    /// If the socket is broken.
    pub async fn recv(&self) -> io::Result<Vec<u8>> {
        const FRAME_MAX: usize = 128;
        let mut frame = vec![0; FRAME_MAX];
        let len = self.frames.recv(&mut frame).await?;
        frame.truncate(len);
        Ok(frame)
    }

    /// Sends a whole frame.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.frames.send(frame).await.map(drop)
    }
}

/// Passes frames of senders in this range. The offset is counted from the Ethernet header.
fn from(senders: &RangeInclusive<Ipv4Addr>) -> [SockFilter; 5] {
    const LOAD: u16 = 0x20;
    const IF_AT_LEAST: u16 = 0x35;
    const IF_GREATER: u16 = 0x25;
    const RETURN: u16 = 0x06;
    const SENDER_AT: u32 = 28;
    [
        SockFilter::new(LOAD, 0, 0, SENDER_AT),
        SockFilter::new(IF_AT_LEAST, 0, 2, senders.start().to_bits()),
        SockFilter::new(IF_GREATER, 1, 0, senders.end().to_bits()),
        SockFilter::new(RETURN, 0, 0, u32::from(u16::MAX)),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
