//! One queue of the TUN: a packet in with one read, a packet out with one write.
//!
//! A [`Slot`] is the buffer of a packet from read to write. The packet is read to [`START`], so
//! that the translator has its headroom in front and there is always room for the ten bytes of the
//! virtio-net header, which the kernel expects directly before the packet.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use xlat_core::frame::{HEADROOM, TAILROOM};
use xlat_core::wire::ipv6;
use xlat_core::{Frame, Offload};

use super::sys;
use super::vnet::{HEADER_LEN, Header, Impossible};

/// Offset of a received packet in its slot: headroom, and the virtio-net header of the translated
/// packet in front of it.
const START: usize = (HEADROOM + HEADER_LEN).next_multiple_of(16);

/// Longest packet that the kernel delivers: a super-packet of 64 KiB, or 65535 bytes after an IPv6
/// header.
const MAX_PACKET: usize = 65536 + ipv6::HEADER;

const SLOT_LEN: usize = START + MAX_PACKET + TAILROOM;

const _: () = assert!(START >= HEADROOM + HEADER_LEN);

/// A buffer for one packet, allocated once and reused.
pub struct Slot(pub(super) Box<[u8]>);

impl Slot {
    /// A slot for the longest packet that the kernel delivers.
    pub fn new() -> Self {
        Self(vec![0; SLOT_LEN].into_boxed_slice())
    }

    /// An empty packet at the offset where packets are read to, with all room behind it.
    pub(super) fn empty(&mut self) -> Option<Frame<'_>> {
        Frame::new(&mut self.0, START, 0, Offload::NONE)
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("len", &self.0.len()).finish()
    }
}

/// The result of a read.
#[derive(Debug)]
pub enum Received<'s> {
    /// A packet.
    Packet(Frame<'s>),
    /// A packet with an impossible virtio-net header, to be dropped and counted as
    /// [`BadOffload`](xlat_core::DropReason::BadOffload).
    Impossible(Impossible),
    /// The queue is empty.
    Empty,
}

/// One queue of a TUN interface. Its `tun` device also holds an AF_INET socket for requests about
/// the interface, which remains unused.
pub struct Queue {
    device: tun::Device,
}

impl Queue {
    /// A queue over a non-blocking descriptor whose reads and writes transfer one virtio-net header
    /// and one packet. `name` is the interface's.
    ///
    /// # Errors
    /// The control socket of the `tun` crate cannot be opened.
    pub fn new(fd: OwnedFd, name: &str) -> io::Result<Self> {
        let mut configuration = tun::configure();
        configuration.tun_name(name).raw_fd(fd.into_raw_fd());
        let device = tun::create(&configuration).map_err(io::Error::other)?;
        Ok(Self { device })
    }

    /// Reads the next packet into `slot`.
    ///
    /// # Errors
    /// If the interface has disappeared (`EBADFD`), or on any other error but an empty queue.
    #[inline]
    pub fn recv<'s>(&mut self, slot: &'s mut Slot) -> io::Result<Received<'s>> {
        let buffer = &mut slot.0[START - HEADER_LEN..SLOT_LEN - TAILROOM];
        let length = loop {
            match self.device.read(buffer) {
                Ok(length) => break length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Received::Empty);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(parse(slot, length))
    }

    /// Writes the packet; up to ten bytes in front of it are overwritten.
    ///
    /// # Errors
    /// The kernel's error; see [`WriteErrors`](crate::counters::WriteErrors) for the kinds that
    /// concern this packet only.
    #[inline]
    pub fn send(&mut self, frame: &mut Frame<'_>) -> io::Result<()> {
        let header = Header::new(&frame.offload, frame.packet()).to_bytes();
        let (buffer, start) = frame.with_room_in_front();
        let from = start
            .checked_sub(HEADER_LEN)
            .ok_or(io::ErrorKind::InvalidInput)?;
        buffer[from..start].copy_from_slice(&header);
        loop {
            match self.device.write(&buffer[from..]) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        sys::borrow(&self.device)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("fd", &self.as_fd()).finish()
    }
}

/// Parses the `length` bytes that were read into the slot.
#[inline]
fn parse(slot: &mut Slot, length: usize) -> Received<'_> {
    let read = &slot.0[START - HEADER_LEN..][..length];
    let Some((header, packet)) = read.split_first_chunk() else {
        return Received::Impossible(Impossible::HeaderLength);
    };
    let offload = match Header::from_bytes(header).offload(packet) {
        Ok(offload) => offload,
        Err(impossible) => return Received::Impossible(impossible),
    };
    match Frame::new(&mut slot.0, START, length - HEADER_LEN, offload) {
        Some(frame) => Received::Packet(frame),
        None => Received::Impossible(Impossible::HeaderLength),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use xlat_core::Offload;

    use super::*;

    /// A queue, and the other end, which acts as the kernel.
    fn pair() -> (Queue, UnixDatagram) {
        let (near, far) = UnixDatagram::pair().expect("socket pair");
        near.set_nonblocking(true).expect("non-blocking");
        (Queue::new(near.into(), "test").expect("queue"), far)
    }

    #[test]
    fn a_packet_is_read_behind_the_headroom_and_written_back_the_same() {
        let (mut queue, kernel) = pair();
        let mut slot = Slot::new();
        let wire = [[0; 10].as_slice(), b"\x45packet"].concat();
        kernel.send(&wire).expect("sent");
        let Received::Packet(mut frame) = queue.recv(&mut slot).expect("read") else {
            panic!("no packet");
        };
        assert_eq!(frame.packet(), b"\x45packet");
        assert_eq!(frame.offload, Offload::NONE);
        assert!(frame.start() >= HEADROOM + HEADER_LEN);
        assert!(frame.tailroom() >= TAILROOM);
        queue.send(&mut frame).expect("written");
        let mut back = [0; 100];
        let length = kernel.recv(&mut back).expect("read");
        assert_eq!(&back[..length], wire);
    }

    #[test]
    fn an_empty_queue_does_not_block() {
        let (mut queue, _kernel) = pair();
        let mut slot = Slot::new();
        let received = queue.recv(&mut slot).expect("no error");
        assert!(matches!(received, Received::Empty), "{received:?}");
    }

    #[test]
    fn an_impossible_header_is_told_apart_from_an_error() {
        let (mut queue, kernel) = pair();
        let mut slot = Slot::new();
        // Shorter than the header; a super-packet with segments of 0 bytes.
        let no_segments = [[1, 1, 0, 0, 0, 0, 0, 0, 0, 0].as_slice(), &[0x45; 60]].concat();
        for wire in [&[0; 9], no_segments.as_slice()] {
            kernel.send(wire).expect("sent");
            let received = queue.recv(&mut slot).expect("no error");
            assert!(matches!(received, Received::Impossible(_)), "{received:?}");
        }
    }

    #[test]
    fn the_longest_packet_fits() {
        let (mut queue, kernel) = pair();
        let mut slot = Slot::new();
        kernel
            .send(&vec![0; HEADER_LEN + MAX_PACKET])
            .expect("sent");
        let Received::Packet(frame) = queue.recv(&mut slot).expect("read") else {
            panic!("no packet");
        };
        assert_eq!(frame.len(), MAX_PACKET);
    }
}
