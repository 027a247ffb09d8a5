//! Options of requests and responses (RFC 6887 sections 7.3 and 13, RFC 7225).

use std::net::Ipv6Addr;

use xlat_core::addr::{Ipv6Prefix, Pref64};

use super::ResultCode;
use super::message::{address, word};

/// Options from this number on may be ignored by a server that does not know them.
const OPTIONAL: u8 = 128;

const THIRD_PARTY: u8 = 1;
const PREFER_FAILURE: u8 = 2;
const FILTER: u8 = 3;
const PREFIX64: u8 = 129;

/// Bytes of an option before its data.
const OPTION_HEADER: usize = 4;

/// What the options of a request ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The mapping is for this host, not for the client itself.
    pub third_party: Option<Ipv6Addr>,
    /// No other external address or port than the suggested one.
    pub prefer_failure: bool,
    /// Who may send to the mapping, in order. One of length 0 takes all before it away.
    pub filters: Vec<Filter>,
    /// The client asks for the NAT64 prefix.
    pub prefix64: bool,
}

/// Remote peers that may send to a mapping (section 13.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Length of the prefix in bits, of an IPv6 address or an IPv4-mapped one; 0 deletes all filters.
    pub prefix_len: u8,
    /// Their address, as the client sees it.
    pub address: Ipv6Addr,
    /// Their port; 0 for any.
    pub port: u16,
}

impl Options {
    /// Parses the options of a MAP request, or of another one, which may have fewer.
    ///
    /// # Errors
    /// The result code of the response.
    pub(super) fn parse(mut rest: &[u8], is_map: bool) -> Result<Self, ResultCode> {
        let mut options = Self::default();
        while let Some((header, behind)) = rest.split_first_chunk::<OPTION_HEADER>() {
            let length = usize::from(word(header, 2));
            let data = behind.get(..length).ok_or(ResultCode::MalformedOption)?;
            let padded = length.next_multiple_of(4);
            rest = behind.get(padded..).ok_or(ResultCode::MalformedOption)?;
            options.add(header[0], data, is_map)?;
        }
        Ok(options)
    }

    fn add(&mut self, code: u8, data: &[u8], is_map: bool) -> Result<(), ResultCode> {
        match code {
            THIRD_PARTY => {
                let host: [u8; 16] = data.try_into().map_err(|_| ResultCode::MalformedOption)?;
                let before = self.third_party.replace(Ipv6Addr::from(host));
                once(before.is_none())
            }
            // Peers imply it, and it is not allowed there (section 13.2).
            PREFER_FAILURE | FILTER if !is_map => Err(ResultCode::MalformedRequest),
            PREFER_FAILURE => {
                once(data.is_empty() && !self.prefer_failure)?;
                self.prefer_failure = true;
                Ok(())
            }
            FILTER => {
                self.filters.push(Filter::parse(data)?);
                Ok(())
            }
            PREFIX64 => {
                self.prefix64 = true;
                Ok(())
            }
            OPTIONAL.. => Ok(()),
            _ => Err(ResultCode::UnsuppOption),
        }
    }

    /// Appends the options that were processed, as a response has them; the prefix if it was asked
    /// for and there is one.
    pub(super) fn emit(&self, pref64: Option<Pref64>, message: &mut Vec<u8>) {
        self.emit_own(message);
        if let Some(prefix) = pref64.filter(|_| self.prefix64) {
            emit(PREFIX64, &prefix64(prefix), message);
        }
    }

    /// Appends the options as a request has them.
    pub(super) fn emit_request(&self, message: &mut Vec<u8>) {
        self.emit_own(message);
        if self.prefix64 {
            emit(PREFIX64, &[], message);
        }
    }

    fn emit_own(&self, message: &mut Vec<u8>) {
        if let Some(host) = self.third_party {
            emit(THIRD_PARTY, &host.octets(), message);
        }
        if self.prefer_failure {
            emit(PREFER_FAILURE, &[], message);
        }
        for filter in &self.filters {
            emit(FILTER, &filter.emit(), message);
        }
    }
}

impl Filter {
    fn parse(data: &[u8]) -> Result<Self, ResultCode> {
        let data: &[u8; 20] = data.try_into().map_err(|_| ResultCode::MalformedOption)?;
        let filter = Self {
            prefix_len: data[1],
            address: address(data, 4),
            port: word(data, 2),
        };
        // Of an IPv4-mapped address, 96 bits are the mapping.
        let is_mapped = filter.address.to_ipv4_mapped().is_some();
        let is_whole = filter.prefix_len == 0 || !is_mapped || filter.prefix_len >= 96;
        if filter.prefix_len > 128 || !is_whole {
            return Err(ResultCode::MalformedOption);
        }
        Ok(filter)
    }

    fn emit(&self) -> [u8; 20] {
        let mut data = [0; 20];
        data[1] = self.prefix_len;
        data[2..4].copy_from_slice(&self.port.to_be_bytes());
        data[4..].copy_from_slice(&self.address.octets());
        data
    }
}

/// Appends one option, padded to four bytes.
fn emit(code: u8, data: &[u8], message: &mut Vec<u8>) {
    message.extend([code, 0]);
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// RFC 7225 section 4.1: the prefix's length in bytes, then prefix and suffix, together 12 bytes.
fn prefix64(prefix: Pref64) -> [u8; 14] {
    let mut data = [0; 14];
    data[1] = prefix.prefix().len() / 8;
    data[2..].copy_from_slice(&prefix.prefix().address().octets()[..12]);
    data
}

/// The NAT64 prefixes in the options of a response; what cannot be read is skipped.
pub(super) fn pref64s(mut rest: &[u8]) -> Vec<Pref64> {
    let mut found = Vec::new();
    while let Some((header, behind)) = rest.split_first_chunk::<OPTION_HEADER>() {
        let length = usize::from(word(header, 2));
        let Some(data) = behind.get(..length) else {
            break;
        };
        if header[0] == PREFIX64 {
            found.extend(parse_prefix64(data));
        }
        rest = behind.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// RFC 7225 section 4.1: a prefix that is for certain IPv4 nodes only is not the network's.
fn parse_prefix64(data: &[u8]) -> Option<Pref64> {
    const WHOLE: usize = 14;
    let data: &[u8; WHOLE] = data.try_into().ok()?;
    let length = u8::try_from(word(data, 0)).ok()?.checked_mul(8)?;
    let mut octets = [0; 16];
    octets[..12].copy_from_slice(&data[2..]);
    // What follows the prefix is the suffix, which is not used (RFC 6052 section 2.2).
    let prefix = Ipv6Prefix::containing(octets.into(), length.min(128));
    Pref64::new(prefix).ok()
}

fn once(is_so: bool) -> Result<(), ResultCode> {
    is_so.then_some(()).ok_or(ResultCode::MalformedOption)
}
