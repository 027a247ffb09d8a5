//! The ARP messages (RFC 826) of a host that answers for addresses which are on no interface of its
//! own: probes and announcements (RFC 5227), in Ethernet frames.

use std::net::Ipv4Addr;

/// Length of a frame, in bytes, without padding.
pub const FRAME: usize = 42;
/// Where the sender's IPv4 address is in a frame.
pub const SENDER_AT: usize = 28;

/// A link-layer address.
pub type Mac = [u8; 6];

/// Asks all hosts on the link who has `target`, without saying who asks (RFC 5227 section 2.1.1).
pub fn probe(from: Mac, target: Ipv4Addr) -> [u8; FRAME] {
    request(from, Ipv4Addr::UNSPECIFIED, target)
}

/// Tells all hosts on the link that `from` has `address` (RFC 5227 section 2.3), so that those that
/// know it at another link-layer address turn to this one.
pub fn announcement(from: Mac, address: Ipv4Addr) -> [u8; FRAME] {
    request(from, address, address)
}

fn request(from: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&from);
    frame[12..22].copy_from_slice(&FIXED);
    frame[22..28].copy_from_slice(&from);
    frame[SENDER_AT..32].copy_from_slice(&sender.octets());
    frame[38..].copy_from_slice(&target.octets());
    frame
}

/// The host that a message comes from: its link-layer address and its IPv4 address. `None` for what
/// is no ARP message about IPv4 on Ethernet.
pub fn sender(frame: &[u8]) -> Option<(Mac, Ipv4Addr)> {
    let frame: &[u8; FRAME] = frame.first_chunk()?;
    // A reply is as good as a request.
    if frame[12..21] != FIXED[..9] || !matches!(frame[21], 1 | 2) {
        return None;
    }
    let mac = frame[22..28].first_chunk()?;
    let address: &[u8; 4] = frame[SENDER_AT..32].first_chunk()?;
    Some((*mac, Ipv4Addr::from(*address)))
}

/// EtherType of ARP, then Ethernet, IPv4, the lengths of their addresses, and a request.
const FIXED: [u8; 10] = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1];

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Mac = [2, 0, 0, 0, 0, 7];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

    #[test]
    fn fp_10_probes_and_announcements_byte_by_byte() {
        let mut expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2,
            0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 9,
        ];
        assert_eq!(probe(OURS, ADDRESS), expected);
        expected[28..32].copy_from_slice(&[192, 0, 2, 9]);
        assert_eq!(announcement(OURS, ADDRESS), expected);
    }

    #[test]
    fn fp_10_the_sender_of_a_reply_is_read_and_other_frames_are_not() {
        let mut reply = announcement(OURS, ADDRESS);
        reply[21] = 2;
        assert_eq!(sender(&reply), Some((OURS, ADDRESS)));
        let padded = [&reply[..], &[0; 18]].concat();
        assert_eq!(sender(&padded), Some((OURS, ADDRESS)));
        for (place, value) in [(13, 0), (15, 6), (17, 6), (18, 8), (19, 16), (21, 3)] {
            let mut other = reply;
            other[place] = value;
            assert_eq!(sender(&other), None, "{place}");
        }
        assert_eq!(sender(&reply[..41]), None);
        assert_eq!(sender(&[]), None);
    }
}
