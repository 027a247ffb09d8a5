//! The extension structure behind the quoted packet of an ICMP error (RFC 4884), and the Node
//! Identification object that names the original source of an error
//! (draft-ietf-v6ops-icmpext-xlat-v6only-source).
//!
//! The length of the quoted packet is counted in 32-bit words in ICMPv4 and in 64-bit words in
//! ICMPv6, and the quoted packet is padded with zeros to at least 128 bytes. When not everything
//! fits, first the quoted packet gives way, down to these 128 bytes, then the extension goes as a
//! whole.

use core::net::Ipv6Addr;

use crate::checksum::Sum;
use crate::frame::Frame;
use crate::reason::DropReason;
use crate::wire::set_word;

/// Least bytes of a quoted packet in front of an extension (RFC 4884 section 3).
const QUOTED_MIN: usize = 128;
/// Bytes of the extension header.
const HEADER: usize = 4;
/// First byte of the extension header: version 2.
const VERSION: u8 = 0x20;
/// Offset of the extension's checksum.
const CHECKSUM: usize = 2;
/// Bytes of a Node Identification object with an IPv6 address.
const NODE_OBJECT: usize = 24;

/// What stands behind the quoted packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extension {
    /// Place of the structure in the message that came, and its length; zero if there is none.
    pub(super) at: usize,
    pub(super) len: usize,
    /// The node to add an object for.
    pub(super) node: Option<Ipv6Addr>,
}

/// Splits what follows an ICMP header into the quoted packet and the extension. `length` is the
/// length attribute in bytes; zero means that there is no extension.
pub(super) fn split(after_header: usize, length: usize) -> Result<(usize, usize), DropReason> {
    if length == 0 {
        return Ok((after_header, 0));
    }
    if length > after_header {
        return Err(DropReason::IcmpExtensionLength);
    }
    Ok((length, after_header - length))
}

/// Lengths of the parts behind the ICMP header of the message to be sent, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The quoted packet.
    pub(super) quoted: usize,
    /// The quoted packet with its padding.
    pub(super) padded: usize,
    /// The extension; zero if there is none.
    pub(super) extension: usize,
}

impl Layout {
    /// The length attribute in units of `unit` bytes; zero without an extension.
    pub(super) fn attribute(&self, unit: usize) -> u8 {
        if self.extension == 0 {
            0
        } else {
            (self.padded / unit) as u8
        }
    }

    /// All bytes behind the ICMP header.
    pub(super) fn len(&self) -> usize {
        self.padded + self.extension
    }
}

impl Extension {
    fn sent_len(&self) -> usize {
        match (self.len, self.node) {
            (len, None) => len,
            (0, Some(_)) => HEADER + NODE_OBJECT,
            (len, Some(_)) => len + NODE_OBJECT,
        }
    }

    /// Shares out `room` bytes behind the ICMP header to a quoted packet of `quoted` bytes and
    /// this extension.
    pub(super) fn layout(&self, quoted: usize, room: usize, unit: usize) -> Layout {
        let extension = self.sent_len();
        let wanted = quoted.next_multiple_of(unit).max(QUOTED_MIN);
        let most = room.saturating_sub(extension).min(255 * unit) / unit * unit;
        if extension == 0 || most < QUOTED_MIN {
            let quoted = quoted.min(room);
            return Layout {
                quoted,
                padded: quoted,
                extension: 0,
            };
        }
        let padded = wanted.min(most);
        Layout {
            quoted: quoted.min(padded),
            padded,
            extension,
        }
    }

    /// Brings what is behind the ICMP header into shape. `quoted_at` is where the quoted packet
    /// will have begun, counted from the start of the frame as it is.
    pub(super) fn arrange(
        &self,
        frame: &mut Frame<'_>,
        quoted_at: usize,
        layout: &Layout,
    ) -> Result<(), DropReason> {
        let end = quoted_at + layout.len();
        if frame.len() < end && !frame.resize(end) {
            return Err(DropReason::NoHeadroom);
        }
        if layout.extension != 0 {
            let to = quoted_at + layout.padded;
            let bytes = frame.packet_mut();
            bytes.copy_within(self.at..self.at + self.len, to);
            bytes[quoted_at + layout.quoted..to].fill(0);
            if let Some(node) = self.node {
                add_node(&mut bytes[to..to + layout.extension], self.len, node);
            }
        }
        frame.truncate(end);
        Ok(())
    }
}

/// Class number of the Node Identification object (draft-ietf-intarea-extended-icmp-nodeid).
const NODE_IDENTIFICATION: u8 = 5;
/// C-Type: an IP address sub-object is present.
const NODE_HAS_ADDRESS: u8 = 0x04;
/// Address family number of IPv6.
const AFI_IPV6: u16 = 2;

/// Writes the object for `node` behind the `len` bytes of an extension structure that are there
/// already (or the structure's header, if there are none), and sums the structure anew.
fn add_node(structure: &mut [u8], len: usize, node: Ipv6Addr) {
    let at = len.max(HEADER);
    if len == 0 {
        structure[..HEADER].copy_from_slice(&[VERSION, 0, 0, 0]);
    }
    let object = &mut structure[at..];
    set_word(object, 0, NODE_OBJECT as u16);
    object[2] = NODE_IDENTIFICATION;
    object[3] = NODE_HAS_ADDRESS;
    set_word(object, 4, AFI_IPV6);
    set_word(object, 6, 0);
    object[8..NODE_OBJECT].copy_from_slice(&node.octets());
    set_word(structure, CHECKSUM, 0);
    let checksum = Sum::of(structure).checksum();
    set_word(structure, CHECKSUM, checksum);
}
