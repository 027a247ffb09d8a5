//! Router solicitations, by which hosts request an advertisement at once.

use std::net::Ipv6Addr;

use super::{Invalid, SOLICITATION, Split};

/// Length without options, in bytes.
const HEADER: usize = 8;
const SOURCE_LINK_LAYER: u8 = 1;

/// A router solicitation (RFC 4861 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Link-layer address of the sender, if the message has it.
    pub link_layer: Option<[u8; 6]>,
}

impl Solicitation {
    /// Parses the ICMPv6 message of a packet from `source` with this hop limit.
    ///
    /// # Errors
    /// Why it must be discarded (RFC 4861 section 6.1.1).
    pub fn parse(source: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Result<Self, Invalid> {
        if hop_limit != 255 {
            return Err(Invalid::HopLimit);
        }
        let (header, options) = message
            .split_first_chunk::<HEADER>()
            .ok_or(Invalid::Short)?;
        if header[0] != SOLICITATION || header[1] != 0 {
            return Err(Invalid::Kind);
        }
        let mut link_layer = None;
        for option in Split(options) {
            let option = option?;
            if option[0] != SOURCE_LINK_LAYER {
                continue;
            }
            if source.is_unspecified() {
                return Err(Invalid::LinkLayerOfNobody);
            }
            link_layer = option[2..].try_into().ok();
        }
        Ok(Self { link_layer })
    }

    /// The ICMPv6 message, with a checksum of zero.
    pub fn build(&self) -> Vec<u8> {
        let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        if let Some(mac) = self.link_layer {
            message.extend([SOURCE_LINK_LAYER, 1]);
            message.extend(mac);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
    const WITH_ADDRESS: [u8; 16] = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 7];

    #[test]
    fn ra_05_solicitations_read_and_build_byte_by_byte() {
        let host = "fe80::7".parse().unwrap();
        for (message, link_layer) in [
            (&PLAIN[..], None),
            (&WITH_ADDRESS, Some([2, 0, 0, 0, 0, 7])),
        ] {
            let solicitation = Solicitation { link_layer };
            assert_eq!(Solicitation::parse(host, 255, message), Ok(solicitation));
            assert_eq!(solicitation.build(), message);
        }
    }

    #[test]
    fn ra_05_six_bad_solicitations_are_not_answered() {
        let parse = |source: &str, hop_limit, message: &[u8]| {
            Solicitation::parse(source.parse().unwrap(), hop_limit, message)
        };
        let of_nobody = parse("::", 255, &WITH_ADDRESS);
        assert_eq!(of_nobody, Err(Invalid::LinkLayerOfNobody));
        assert_eq!(parse("fe80::7", 64, &PLAIN), Err(Invalid::HopLimit));
        assert_eq!(parse("fe80::7", 255, &PLAIN[..7]), Err(Invalid::Short));
        let mut code = PLAIN;
        code[1] = 1;
        assert_eq!(parse("fe80::7", 255, &code), Err(Invalid::Kind));
        let mut advertisement = PLAIN;
        advertisement[0] = 134;
        assert_eq!(parse("fe80::7", 255, &advertisement), Err(Invalid::Kind));
        let mut zero = WITH_ADDRESS;
        zero[9] = 0;
        assert_eq!(parse("fe80::7", 255, &zero), Err(Invalid::OptionLength));
        assert!(parse("::", 255, &PLAIN).is_ok());
    }
}
