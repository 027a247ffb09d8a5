//! The virtio-net header in front of every packet of the TUN, and its translation to offloads.
//!
//! With `IFF_VNET_HDR` each read and each write begins with the ten bytes of `struct virtio_net_hdr`
//! (`include/uapi/linux/virtio_net.h`), in the machine's byte order:
//!
//! ```text
//!  0       1          2         4          6            8             10
//! | flags | gso_type | hdr_len | gso_size | csum_start | csum_offset | packet …
//! ```
//!
//! [`Header::offload`] converts it to the translator's [`Offload`] and refuses impossible values,
//! so that later code need not check again; [`Header::new`] is the reverse. Both are pure.

use std::fmt;

use xlat_core::Offload;
use xlat_core::offload::{Checksum, Gso, GsoKind, PartialChecksum};
use xlat_core::wire::{ipv4, tcp, udp, version};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 10;

/// `struct virtio_net_hdr`, field by field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    flags: u8,
    gso_type: u8,
    /// Length of all headers of a super-packet: the part that the kernel puts into its linear
    /// buffer.
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

const FLAG_NEEDS_CSUM: u8 = 1;
const FLAG_DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// A header that cannot belong to its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impossible {
    /// The checksum would start inside the IP header or lies beyond the packet.
    ChecksumPlace,
    /// A kind of super-packet that was not negotiated, or that does not match the packet's family
    /// or transport.
    GsoKind,
    /// Segments of 0 bytes.
    GsoSize,
    /// A super-packet whose checksum was neither offloaded nor verified.
    GsoChecksum,
    /// Headers that reach beyond the packet.
    HeaderLength,
}

impl Header {
    /// The header for a packet to write.
    #[inline]
    pub fn new(offload: &Offload, packet: &[u8]) -> Self {
        let mut header = Self::default();
        match offload.checksum {
            Checksum::Whole => {}
            Checksum::Verified => header.flags = FLAG_DATA_VALID,
            Checksum::Partial(partial) => {
                header.flags = FLAG_NEEDS_CSUM;
                header.csum_start = partial.start;
                header.csum_offset = partial.offset;
            }
        }
        if let Some(gso) = offload.gso {
            header.gso_type = match gso.kind {
                GsoKind::TcpV4 => GSO_TCPV4,
                GsoKind::TcpV6 => GSO_TCPV6,
                GsoKind::Udp => GSO_UDP_L4,
            };
            if gso.ecn {
                header.gso_type |= GSO_ECN;
            }
            header.gso_size = gso.size;
            header.hdr_len = headers_len(gso.kind, offload.checksum, packet).unwrap_or(0);
        }
        header
    }

    /// Parses the ten bytes without checking any value.
    #[inline]
    pub fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Self {
        let [flags, gso_type, h0, h1, s0, s1, c0, c1, o0, o1] = *bytes;
        Self {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([s0, s1]),
            csum_start: u16::from_ne_bytes([c0, c1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        }
    }

    /// The header as ten bytes.
    #[inline]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [h0, h1] = self.hdr_len.to_ne_bytes();
        let [s0, s1] = self.gso_size.to_ne_bytes();
        let [c0, c1] = self.csum_start.to_ne_bytes();
        let [o0, o1] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, s0, s1, c0, c1, o0, o1]
    }

    /// The offloads that the header describes for `packet`, the bytes after it.
    ///
    /// # Errors
    /// If a value is impossible for this packet.
    #[inline]
    pub fn offload(&self, packet: &[u8]) -> Result<Offload, Impossible> {
        if usize::from(self.hdr_len) > packet.len() {
            return Err(Impossible::HeaderLength);
        }
        let checksum = self.checksum(packet.len())?;
        let gso = match self.gso_type {
            GSO_NONE => None,
            _ => Some(self.gso(checksum, packet)?),
        };
        Ok(Offload { checksum, gso })
    }

    fn checksum(&self, packet_len: usize) -> Result<Checksum, Impossible> {
        if self.flags & FLAG_NEEDS_CSUM == 0 {
            let verified = self.flags & FLAG_DATA_VALID != 0;
            return Ok(if verified {
                Checksum::Verified
            } else {
                Checksum::Whole
            });
        }
        let end = usize::from(self.csum_start) + usize::from(self.csum_offset) + 2;
        if usize::from(self.csum_start) < ipv4::HEADER || end > packet_len {
            return Err(Impossible::ChecksumPlace);
        }
        Ok(Checksum::Partial(PartialChecksum {
            start: self.csum_start,
            offset: self.csum_offset,
        }))
    }

    fn gso(&self, checksum: Checksum, packet: &[u8]) -> Result<Gso, Impossible> {
        let ecn = self.gso_type & GSO_ECN != 0;
        let version = packet.first().map_or(0, |first| version(*first));
        let kind = match (self.gso_type & !GSO_ECN, version) {
            (GSO_TCPV4, 4) => GsoKind::TcpV4,
            (GSO_TCPV6, 6) => GsoKind::TcpV6,
            (GSO_UDP_L4, 4 | 6) if !ecn => GsoKind::Udp,
            _ => return Err(Impossible::GsoKind),
        };
        if self.gso_size == 0 {
            return Err(Impossible::GsoSize);
        }
        match checksum {
            Checksum::Whole => return Err(Impossible::GsoChecksum),
            Checksum::Verified => {}
            Checksum::Partial(partial) => {
                let expected = match kind {
                    GsoKind::TcpV4 | GsoKind::TcpV6 => tcp::CHECKSUM,
                    GsoKind::Udp => udp::CHECKSUM,
                };
                if usize::from(partial.offset) != expected {
                    return Err(Impossible::GsoKind);
                }
                headers_len(kind, checksum, packet).ok_or(Impossible::HeaderLength)?;
            }
        }
        Ok(Gso {
            kind,
            size: self.gso_size,
            ecn,
        })
    }
}

/// Length of the IP and transport headers of a super-packet with a partial checksum; `None` if they
/// reach beyond the packet, or if the start of the transport header is unknown.
fn headers_len(kind: GsoKind, checksum: Checksum, packet: &[u8]) -> Option<u16> {
    let Checksum::Partial(partial) = checksum else {
        return None;
    };
    let start = usize::from(partial.start);
    let transport_len = match kind {
        GsoKind::Udp => udp::HEADER,
        GsoKind::TcpV4 | GsoKind::TcpV6 => {
            let header = packet.get(start..start + tcp::DATA_OFFSET + 1)?;
            let length = tcp::header_len(header);
            (length >= tcp::HEADER).then_some(length)?
        }
    };
    let length = start + transport_len;
    (length <= packet.len()).then_some(length as u16)
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChecksumPlace => "the checksum lies outside the packet's payload",
            Self::GsoKind => "the kind of super-packet does not fit the packet",
            Self::GsoSize => "a super-packet with segments of 0 bytes",
            Self::GsoChecksum => "a super-packet without a partial checksum",
            Self::HeaderLength => "the headers reach beyond the packet",
        })
    }
}

impl std::error::Error for Impossible {}

#[cfg(test)]
mod tests {
    use super::*;

    /// IPv4, TCP with 12 bytes of options, 3000 bytes of payload.
    fn tcp4() -> Vec<u8> {
        let mut packet = vec![0; 20 + 32 + 3000];
        packet[0] = 0x45;
        packet[9] = 6;
        packet[20 + 12] = 8 << 4;
        packet
    }

    /// IPv6, UDP, 3000 bytes of payload.
    fn udp6() -> Vec<u8> {
        let mut packet = vec![0; 40 + 8 + 3000];
        packet[0] = 0x60;
        packet[6] = 17;
        packet
    }

    #[cfg(target_endian = "little")]
    const TCP4_GSO: [u8; 10] = [1, 1, 52, 0, 0xa8, 0x05, 20, 0, 16, 0];
    #[cfg(target_endian = "big")]
    const TCP4_GSO: [u8; 10] = [1, 1, 0, 52, 0x05, 0xa8, 0, 20, 0, 16];
    #[cfg(target_endian = "little")]
    const UDP6_GSO: [u8; 10] = [1, 5, 48, 0, 0xb0, 0x04, 40, 0, 6, 0];
    #[cfg(target_endian = "big")]
    const UDP6_GSO: [u8; 10] = [1, 5, 0, 48, 0x04, 0xb0, 0, 40, 0, 6];

    fn tcp4_offload() -> Offload {
        Offload {
            checksum: Checksum::Partial(PartialChecksum {
                start: 20,
                offset: 16,
            }),
            gso: Some(Gso {
                kind: GsoKind::TcpV4,
                size: 1448,
                ecn: false,
            }),
        }
    }

    #[track_caller]
    fn parse(bytes: [u8; 10], packet: &[u8]) -> Result<Offload, Impossible> {
        let header = Header::from_bytes(&bytes);
        assert_eq!(header.to_bytes(), bytes);
        header.offload(packet)
    }

    /// `TCP4_GSO` with one field set to something else.
    fn changed(change: impl Fn(&mut Header)) -> Result<Offload, Impossible> {
        let mut header = Header::from_bytes(&TCP4_GSO);
        change(&mut header);
        header.offload(&tcp4())
    }

    #[test]
    fn nothing_put_off_is_ten_zero_bytes() {
        assert_eq!(Header::new(&Offload::NONE, &udp6()).to_bytes(), [0; 10]);
        assert_eq!(parse([0; 10], &udp6()), Ok(Offload::NONE));
    }

    #[test]
    fn l4_11_a_tcp_super_packet_reads_and_writes_the_same_bytes() {
        assert_eq!(parse(TCP4_GSO, &tcp4()), Ok(tcp4_offload()));
        assert_eq!(Header::new(&tcp4_offload(), &tcp4()).to_bytes(), TCP4_GSO);
    }

    #[test]
    fn l4_11_a_udp_super_packet_has_one_kind_for_both_families() {
        let offload = Offload {
            checksum: Checksum::Partial(PartialChecksum {
                start: 40,
                offset: 6,
            }),
            gso: Some(Gso {
                kind: GsoKind::Udp,
                size: 1200,
                ecn: false,
            }),
        };
        assert_eq!(parse(UDP6_GSO, &udp6()), Ok(offload));
        assert_eq!(Header::new(&offload, &udp6()).to_bytes(), UDP6_GSO);
    }

    #[test]
    fn the_cwr_mark_of_a_tcp_super_packet_is_kept() {
        let marked = changed(|header| header.gso_type |= GSO_ECN).expect("possible");
        assert!(marked.gso.expect("super-packet").ecn);
        assert_eq!(Header::new(&marked, &tcp4()).to_bytes()[1], 0x81);
    }

    #[test]
    fn a_verified_checksum_stays_verified() {
        let bytes = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let offload = parse(bytes, &udp6()).expect("possible");
        assert_eq!(offload.checksum, Checksum::Verified);
        assert_eq!(Header::new(&offload, &udp6()).to_bytes(), bytes);
    }

    #[test]
    fn segments_of_no_bytes_are_refused() {
        assert_eq!(
            changed(|header| header.gso_size = 0),
            Err(Impossible::GsoSize)
        );
    }

    #[test]
    fn a_checksum_beyond_the_packet_or_inside_the_ip_header_is_refused() {
        for start in [0, 19, 3052 - 17, u16::MAX] {
            assert_eq!(
                changed(|header| header.csum_start = start),
                Err(Impossible::ChecksumPlace),
                "{start}"
            );
        }
        assert_eq!(
            changed(|header| header.csum_offset = u16::MAX),
            Err(Impossible::ChecksumPlace)
        );
    }

    #[test]
    fn headers_beyond_the_packet_are_refused() {
        assert_eq!(
            changed(|header| header.hdr_len = 3053),
            Err(Impossible::HeaderLength)
        );
        // The TCP header that the checksum points at claims more than what is left.
        assert_eq!(
            changed(|header| header.csum_start = 3052 - 18),
            Err(Impossible::HeaderLength)
        );
    }

    #[test]
    fn kinds_that_were_not_asked_for_or_do_not_fit_are_refused() {
        // 3 is the fragment offload that Linux dropped; 0x80 marks nothing.
        for kind in [2, 3, 4, 5, 6, 0x20, 0x80, 0x85, 0xff] {
            assert_eq!(
                changed(|header| header.gso_type = kind),
                Err(Impossible::GsoKind),
                "{kind}"
            );
        }
        assert_eq!(parse(TCP4_GSO, &udp6()), Err(Impossible::GsoKind));
        assert_eq!(parse(TCP4_GSO, &[]), Err(Impossible::HeaderLength));
    }

    #[test]
    fn a_super_packet_with_an_unknown_checksum_is_refused() {
        assert_eq!(
            changed(|header| header.flags = 0),
            Err(Impossible::GsoChecksum)
        );
    }
}
