//! DNS messages, written and read by hand (RFC 1035).

use std::net::Ipv6Addr;

use anyhow::{Context, Result, ensure};

/// Types of records.
pub mod kind {
    /// IPv4 address (RFC 1035).
    pub const A: u16 = 1;
    /// Alias (RFC 1035).
    pub const CNAME: u16 = 5;
    /// Beginning of a zone (RFC 1035).
    pub const SOA: u16 = 6;
    /// Pointer to a name (RFC 1035).
    pub const PTR: u16 = 12;
    /// Mail exchanger (RFC 1035).
    pub const MX: u16 = 15;
    /// Text (RFC 1035).
    pub const TXT: u16 = 16;
    /// IPv6 address (RFC 3596).
    pub const AAAA: u16 = 28;
    /// Service (RFC 2782).
    pub const SRV: u16 = 33;
    /// Renamed tree (RFC 6672).
    pub const DNAME: u16 = 39;
    /// EDNS (RFC 6891).
    pub const OPT: u16 = 41;
    /// Web service (RFC 9460).
    pub const HTTPS: u16 = 65;
}

/// A record. Names in its data are never compressed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub owner: String,
    /// Its type.
    pub kind: u16,
    /// Its class; 1 is IN.
    pub class: u16,
    /// Its lifetime in seconds.
    pub ttl: u32,
    /// Its data.
    pub data: Vec<u8>,
}

impl Record {
    /// A record of the class IN.
    #[must_use]
    pub fn new(owner: &str, kind: u16, ttl: u32, data: impl Into<Vec<u8>>) -> Self {
        Self {
            owner: owner.to_owned(),
            kind,
            class: 1,
            ttl,
            data: data.into(),
        }
    }

    /// An IPv4 address.
    #[must_use]
    pub fn a(owner: &str, ttl: u32, address: [u8; 4]) -> Self {
        Self::new(owner, kind::A, ttl, address)
    }

    /// An IPv6 address.
    #[must_use]
    pub fn aaaa(owner: &str, ttl: u32, address: Ipv6Addr) -> Self {
        Self::new(owner, kind::AAAA, ttl, address.octets())
    }

    /// An alias.
    #[must_use]
    pub fn cname(owner: &str, to: &str) -> Self {
        Self::new(owner, kind::CNAME, 300, name(to))
    }

    /// The beginning of a zone; "there is none" holds for so long.
    #[must_use]
    pub fn soa(zone: &str, ttl: u32) -> Self {
        let mut data = [name("ns.example"), name("root.example")].concat();
        for number in [1, 2, 3, 4, ttl] {
            data.extend(number.to_be_bytes());
        }
        Self::new(zone, kind::SOA, ttl, data)
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(name(&self.owner));
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(self.class.to_be_bytes());
        bytes.extend(self.ttl.to_be_bytes());
        bytes.extend((self.data.len() as u16).to_be_bytes());
        bytes.extend(&self.data);
    }
}

/// A name as bytes, not compressed. The empty one is the root.
#[must_use]
pub fn name(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its number.
    pub id: u16,
    /// Flags, opcode and code.
    pub flags: u16,
    /// Name, type and class.
    pub questions: Vec<(String, u16, u16)>,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// Whose business it is.
    pub authorities: Vec<Record>,
    /// What may be wanted next, and EDNS.
    pub additionals: Vec<Record>,
}

impl Message {
    /// An answer.
    pub const QR: u16 = 0x8000;
    /// Cut off.
    pub const TC: u16 = 0x0200;
    /// Recursion desired.
    pub const RD: u16 = 0x0100;
    /// Recursion available.
    pub const RA: u16 = 0x0080;
    /// Validated.
    pub const AD: u16 = 0x0020;
    /// Validation is not wanted.
    pub const CD: u16 = 0x0010;

    /// A query with recursion desired.
    #[must_use]
    pub fn query(owner: &str, kind: u16) -> Self {
        Self {
            id: 0x1234,
            flags: Self::RD,
            questions: vec![(owner.to_owned(), kind, 1)],
            ..Self::default()
        }
    }

    /// With EDNS of this version: bytes that are taken over UDP, and the DO flag.
    #[must_use]
    pub fn with_edns(mut self, version: u8, payload: u16, dnssec_ok: bool) -> Self {
        let flags = u32::from(version) << 16 | u32::from(dnssec_ok) << 15;
        let mut opt = Record::new("", kind::OPT, flags, []);
        opt.class = payload;
        self.additionals.push(opt);
        self
    }

    /// The OPT record.
    #[must_use]
    pub fn edns(&self) -> Option<&Record> {
        let mut records = self.additionals.iter();
        records.find(|record| record.kind == kind::OPT)
    }

    /// The response code, with the part of it that is in the OPT record.
    #[must_use]
    pub fn code(&self) -> u16 {
        let high = self.edns().map_or(0, |opt| (opt.ttl >> 24) as u16);
        high << 4 | self.flags & 15
    }

    /// True if all of these flags are set.
    #[must_use]
    pub fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// The IPv6 addresses in the answer.
    #[must_use]
    pub fn addresses(&self) -> Vec<Ipv6Addr> {
        let addresses = self.answers.iter().filter(|one| one.kind == kind::AAAA);
        addresses
            .filter_map(|one| <[u8; 16]>::try_from(one.data.as_slice()).ok())
            .map(Ipv6Addr::from)
            .collect()
    }

    /// The bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let counts = [
            self.id,
            self.flags,
            self.questions.len() as u16,
            self.answers.len() as u16,
            self.authorities.len() as u16,
            self.additionals.len() as u16,
        ];
        bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        for (owner, kind, class) in &self.questions {
            bytes.extend(name(owner));
            bytes.extend(kind.to_be_bytes());
            bytes.extend(class.to_be_bytes());
        }
        let sections = [&self.answers, &self.authorities, &self.additionals];
        for record in sections.into_iter().flatten() {
            record.write(&mut bytes);
        }
        bytes
    }

    /// Reads a message, whose every byte must belong to something.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader { bytes, at: 0 };
        let [id, flags, questions, answers, authorities, additionals] = reader.numbers()?;
        let questions = (0..questions).map(|_| {
            let owner = reader.name()?;
            let [kind, class] = reader.numbers()?;
            Ok((owner, kind, class))
        });
        let questions = questions.collect::<Result<_>>()?;
        let mut section = |count| (0..count).map(|_| reader.record()).collect::<Result<_>>();
        let message = Self {
            id,
            flags,
            questions,
            answers: section(answers)?,
            authorities: section(authorities)?,
            additionals: section(additionals)?,
        };
        ensure!(reader.at == bytes.len(), "bytes after the message");
        Ok(message)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let bytes = self.bytes.get(self.at..self.at + count);
        self.at += count;
        bytes.context("the message is cut off")
    }

    fn numbers<const N: usize>(&mut self) -> Result<[u16; N]> {
        let bytes = self.take(2 * N)?;
        let mut numbers = [0; N];
        for (number, pair) in numbers.iter_mut().zip(bytes.chunks(2)) {
            *number = u16::from_be_bytes([pair[0], pair[1]]);
        }
        Ok(numbers)
    }

    fn name(&mut self) -> Result<String> {
        let mut labels = Vec::new();
        let mut back = None;
        for _ in 0..200 {
            let length = self.take(1)?[0];
            match length {
                0 => {
                    self.at = back.unwrap_or(self.at);
                    return Ok(labels.join("."));
                }
                0xc0.. => {
                    let low = self.take(1)?[0];
                    back = back.or(Some(self.at));
                    self.at = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                }
                _ => {
                    let label = self.take(length.into())?;
                    labels.push(String::from_utf8_lossy(label).into_owned());
                }
            }
        }
        anyhow::bail!("a name without an end")
    }

    fn record(&mut self) -> Result<Record> {
        let owner = self.name()?;
        let [kind, class, high, low, length] = self.numbers()?;
        let end = self.at + usize::from(length);
        // Names in these may be compressed; others before them are as they are.
        let before = match kind {
            kind::CNAME | kind::PTR | 2 => Some((0, 1)),
            kind::MX => Some((2, 1)),
            kind::SOA => Some((0, 2)),
            _ => None,
        };
        let mut data = Vec::new();
        if let Some((fixed, names)) = before {
            data.extend(self.take(fixed)?);
            for _ in 0..names {
                data.extend(name(&self.name()?));
            }
        }
        data.extend(self.take(end.checked_sub(self.at).context("too long")?)?);
        let ttl = u32::from(high) << 16 | u32::from(low);
        Ok(Record {
            owner,
            kind,
            class,
            ttl,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_names_are_put_together() -> Result<()> {
        let mut message = Message::query("x.example", kind::MX).with_edns(0, 1232, true);
        message.answers = vec![
            Record::a("x.example", 60, [192, 0, 2, 1]),
            Record::soa("example", 9),
        ];
        assert_eq!(Message::parse(&message.to_bytes())?, message);
        let mut bytes = Message::query("x.example", kind::MX).to_bytes();
        bytes[7] = 1;
        bytes.extend(b"\xc0\x0c\0\x0f\0\x01\0\0\0\x09\0\x07\0\x0a\x02mx\xc0\x0e");
        let read = Message::parse(&bytes)?;
        let data = [&[0, 10][..], &name("mx.example")].concat();
        assert_eq!(read.answers, [Record::new("x.example", kind::MX, 9, data)]);
        bytes.pop();
        assert!(Message::parse(&bytes).is_err());
        Ok(())
    }
}
