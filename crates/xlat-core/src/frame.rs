//! One packet in a borrowed buffer, with free room in front of it and behind it.
//!
//! The translator swaps headers of different sizes in front of a payload that it does not touch.
//! So the packet must not start at the start of its buffer: [`HEADROOM`] bytes in front let the
//! header grow in place. Nothing is copied and nothing is allocated.
//!
//! ```text
//! buffer  |<- headroom ->|<------ packet ------>|<- tailroom ->|
//!                        ^ start                ^ end
//! ```

use crate::offload::Offload;

/// Free bytes that a packet handed to the translator must have in front of it.
///
/// The most a translation adds: an IPv4 error becomes ICMPv6 (+20), its quoted fragment gets a
/// Fragment header (+20 +8), and an error of our own goes in front of the packet (+48), twice for
/// a hairpinned one.
pub const HEADROOM: usize = 128;

/// Bytes that the translator may need behind a packet shorter than 1280 bytes, for the padding and
/// the extension of an ICMP error (RFC 4884).
pub const TAILROOM: usize = 256;

/// A packet in place: where it lies in its buffer, and the work on it that was put off.
#[derive(Debug)]
pub struct Frame<'a> {
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
    /// What the device below put off (virtio-net header).
    pub offload: Offload,
}

impl<'a> Frame<'a> {
    /// The packet `buffer[start..start + len]`, which begins with its IP header.
    ///
    /// `None` if it does not lie in the buffer.
    pub fn new(buffer: &'a mut [u8], start: usize, len: usize, offload: Offload) -> Option<Self> {
        let end = start.checked_add(len)?;
        (end <= buffer.len()).then_some(Self {
            buffer,
            start,
            end,
            offload,
        })
    }

    /// The packet's bytes.
    #[inline]
    pub fn packet(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The packet's bytes, to be changed.
    #[inline]
    pub fn packet_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Where the packet begins in its buffer.
    #[inline]
    pub fn start(&self) -> usize {
        self.start
    }

    /// Length of the packet in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// True if no byte is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Free bytes behind the packet.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.buffer.len() - self.end
    }

    /// The whole buffer and where the packet begins, for a device that writes its own header into
    /// the bytes in front of the packet: `(&mut buffer[..end], start)`.
    #[inline]
    pub fn with_room_in_front(&mut self) -> (&mut [u8], usize) {
        (&mut self.buffer[..self.end], self.start)
    }

    /// Cuts the packet behind its first `len` bytes; does nothing if it is shorter.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }

    /// Replaces the first `old` bytes of the packet by `header`, growing or shrinking in front.
    ///
    /// # Panics
    /// If the room in front is too small, which [`HEADROOM`] rules out, or `old > len()`.
    #[inline]
    pub(crate) fn replace_front<const N: usize>(&mut self, old: usize, header: &[u8; N]) {
        self.start = self.start + old - N;
        self.buffer[self.start..self.start + N].copy_from_slice(header);
    }

    /// Drops the first `count` bytes of the packet.
    #[inline]
    pub(crate) fn strip_front(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
    }

    /// Puts `header` in front of the packet.
    #[inline]
    pub(crate) fn push_front<const N: usize>(&mut self, header: &[u8; N]) {
        self.replace_front(0, header);
    }

    /// Makes the packet `len` bytes long; bytes that were not there are zero. False if the buffer
    /// ends before.
    pub fn resize(&mut self, len: usize) -> bool {
        let (old_end, end) = (self.end, self.start + len);
        if end > self.buffer.len() {
            return false;
        }
        if end > old_end {
            self.buffer[old_end..end].fill(0);
        }
        self.end = end;
        true
    }

    /// The part `buffer[start..end]` as a frame of its own; what lies in front of it is headroom.
    pub(crate) fn part(&mut self, start: usize, end: usize, offload: Offload) -> Frame<'_> {
        Frame {
            buffer: &mut *self.buffer,
            start,
            end,
            offload,
        }
    }

    /// First `N` bytes from `at` on, if they are there.
    #[inline]
    pub(crate) fn array<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.packet().get(at..)?.first_chunk()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_outside_its_buffer_is_refused() {
        let mut buffer = [0; 64];
        assert!(Frame::new(&mut buffer, 0, 64, Offload::NONE).is_some());
        assert!(Frame::new(&mut buffer, 1, 64, Offload::NONE).is_none());
        assert!(Frame::new(&mut buffer, usize::MAX, 2, Offload::NONE).is_none());
    }

    #[test]
    fn headers_grow_and_shrink_in_front_of_a_payload_that_stays() {
        let mut buffer = *b"........abPAYLOAD...";
        let mut frame = Frame::new(&mut buffer, 8, 9, Offload::NONE).expect("fits");
        frame.replace_front(2, b"WXYZ");
        assert_eq!(frame.packet(), b"WXYZPAYLOAD");
        frame.replace_front(4, b"-");
        assert_eq!(frame.packet(), b"-PAYLOAD");
        frame.strip_front(1);
        frame.truncate(3);
        assert_eq!(frame.packet(), b"PAY");
        assert!(frame.resize(5));
        assert_eq!(frame.packet(), b"PAY\0\0");
        assert!(!frame.resize(50));
    }
}
