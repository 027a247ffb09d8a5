//! The pcapng file format (draft-ietf-opsawg-pcapng), as far as a capture with several interfaces
//! needs it: one section, a description for each interface, a block for each packet.

use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use super::{Captured, Packet};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

/// Section length "not specified".
const UNKNOWN: u64 = u64::MAX;

const LINKTYPE_ETHERNET: u16 = 1;
const LINKTYPE_RAW: u16 = 101;

const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;

/// Times are in units of 10^-9 seconds.
const NANOSECONDS: u8 = 9;

/// Writes the whole file.
pub(super) fn write(captured: &Captured, mut to: impl Write) -> io::Result<()> {
    block(&mut to, SECTION, &section())?;
    for (number, name) in captured.names.iter().enumerate() {
        let mut packets = captured.packets.iter();
        let first = packets.find(|packet| packet.interface == number);
        let ethernet = first.is_none_or(|packet| packet.ethernet);
        block(
            &mut to,
            INTERFACE,
            &interface(name, ethernet, captured.most),
        )?;
    }
    for packet in &captured.packets {
        block(&mut to, ENHANCED_PACKET, &enhanced_packet(packet))?;
    }
    to.flush()
}

fn section() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(0x1a2b_3c4d_u32.to_le_bytes());
    body.extend(1_u16.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    body.extend(UNKNOWN.to_le_bytes());
    body
}

fn interface(name: &str, ethernet: bool, most: usize) -> Vec<u8> {
    let link_type = if ethernet {
        LINKTYPE_ETHERNET
    } else {
        LINKTYPE_RAW
    };
    let mut body = Vec::new();
    body.extend(link_type.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    body.extend(u32::try_from(most).unwrap_or(0).to_le_bytes());
    option(&mut body, IF_NAME, name.as_bytes());
    option(&mut body, IF_TSRESOL, &[NANOSECONDS]);
    option(&mut body, 0, &[]);
    body
}

fn enhanced_packet(packet: &Packet) -> Vec<u8> {
    let time = packet.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanoseconds = time.as_nanos() as u64;
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut body = Vec::with_capacity(packet.bytes.len() + 48);
    body.extend((packet.interface as u32).to_le_bytes());
    body.extend(((nanoseconds >> 32) as u32).to_le_bytes());
    body.extend((nanoseconds as u32).to_le_bytes());
    body.extend(length(packet.bytes.len()));
    body.extend(length(packet.length));
    body.extend(&packet.bytes);
    pad(&mut body);
    let direction = if packet.outgoing { 2_u32 } else { 1 };
    option(&mut body, EPB_FLAGS, &direction.to_le_bytes());
    option(&mut body, 0, &[]);
    body
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// A block has its length in front and behind.
fn block(to: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = (body.len() as u32 + 12).to_le_bytes();
    to.write_all(&kind.to_le_bytes())?;
    to.write_all(&length)?;
    to.write_all(body)?;
    to.write_all(&length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_file_with_one_packet_is_what_the_format_says() {
        let captured = Captured {
            names: vec!["c tun".to_owned()],
            most: 512,
            packets: vec![Packet {
                interface: 0,
                time: UNIX_EPOCH + Duration::new(5, 1),
                outgoing: true,
                ethernet: false,
                length: 5,
                bytes: vec![0x45, 1, 2],
            }],
        };
        let mut file = Vec::new();
        write(&captured, &mut file).unwrap();
        #[rustfmt::skip]
        let expected = [
            // section header
            0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 28, 0, 0, 0,
            // interface description: raw IP, 512 bytes, if_name, if_tsresol
            1, 0, 0, 0, 44, 0, 0, 0, 101, 0, 0, 0, 0, 2, 0, 0,
            2, 0, 5, 0, b'c', b' ', b't', b'u', b'n', 0, 0, 0,
            9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 44, 0, 0, 0,
            // enhanced packet: 5,000,000,001 ns = 0x1_2a05_f201
            6, 0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x01, 0xf2, 0x05, 0x2a,
            3, 0, 0, 0, 5, 0, 0, 0, 0x45, 1, 2, 0,
            2, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0,
        ];
        assert_eq!(file, expected);
    }
}
