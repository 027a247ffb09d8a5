//! Reading of messages.
//!
//! Only A, AAAA, CNAME, DNAME, PTR, SOA and OPT records have a meaning here. All others pass through
//! byte for byte, known or not, well-formed or not (RFC 3597): their data is opaque, apart from the
//! names in it that a sender may have compressed, which are written out because their pointers mean
//! nothing in another message (RFC 3597 section 4).

use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, Query, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::DecodeError;
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder, BinEncodable as _};

use crate::answer::reply_to;

/// The DO flag in the lifetime field of an OPT record (RFC 6891 section 6.1.4).
const DNSSEC_OK: u32 = 0x8000;

/// A message that cannot be used: the records cannot be told apart, or one that has a meaning here
/// and stands in the answer section is malformed.
#[derive(Clone, Copy, Debug)]
pub struct Malformed(Option<Metadata>);

impl Malformed {
    /// The response FORMERR, if this is a query. It has no question, for there may be none.
    pub fn reply(&self) -> Option<Message> {
        let metadata = self.0?;
        if metadata.message_type != MessageType::Query {
            return None;
        }
        let request = Message::new(metadata.id, metadata.message_type, metadata.op_code);
        let mut reply = reply_to(&request, ResponseCode::FormErr);
        reply.metadata.recursion_desired = metadata.recursion_desired;
        Some(reply)
    }
}

/// Parses a message.
///
/// # Errors
/// If it is no message, or one that the rules cannot do without is malformed.
pub fn read(bytes: &[u8]) -> Result<Message, Malformed> {
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder).map_err(|_| Malformed(None))?;
    let mut reader = Reader {
        bytes,
        decoder,
        edns: None,
        opt_records: 0,
    };
    let message = reader.message(header);
    let message = message.map_err(|_| Malformed(Some(header.metadata)))?;
    // RFC 6891 section 6.1.1: in a query that is an error; an answer is read as if there were one.
    if reader.opt_records > 1 && header.metadata.message_type == MessageType::Query {
        return Err(Malformed(Some(header.metadata)));
    }
    Ok(message)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Answer,
    Authority,
    Additional,
}

struct Reader<'a> {
    bytes: &'a [u8],
    decoder: BinDecoder<'a>,
    /// The first OPT record.
    edns: Option<Edns>,
    opt_records: usize,
}

impl Reader<'_> {
    fn message(&mut self, header: Header) -> Result<Message, DecodeError> {
        let (metadata, counts) = (header.metadata, header.counts);
        let mut message = Message::new(metadata.id, metadata.message_type, metadata.op_code);
        message.metadata = metadata;
        for _ in 0..counts.queries {
            message.add_query(Query::read(&mut self.decoder)?);
        }
        message.answers = self.records(counts.answers, Section::Answer)?;
        message.authorities = self.records(counts.authorities, Section::Authority)?;
        message.additionals = self.records(counts.additionals, Section::Additional)?;
        if let Some(edns) = self.edns.take() {
            let low = message.metadata.response_code.low();
            message.metadata.response_code = ResponseCode::from(edns.rcode_high(), low);
            message.edns = Some(edns);
        }
        Ok(message)
    }

    fn records(&mut self, count: u16, section: Section) -> Result<Vec<Record>, DecodeError> {
        let mut records = Vec::new();
        for _ in 0..count {
            records.extend(self.record(section)?);
        }
        Ok(records)
    }

    /// The next record; `None` for one that is meant for us alone (OPT, TSIG).
    fn record(&mut self, section: Section) -> Result<Option<Record>, DecodeError> {
        let begin = self.decoder.index();
        let name = Name::read(&mut self.decoder)?;
        let kind = RecordType::read(&mut self.decoder)?;
        let class = self.decoder.read_u16()?.unverified();
        let ttl = self.decoder.read_u32()?.unverified();
        let length = self.decoder.read_u16()?.map(usize::from).unverified();
        let data = self.decoder.index();
        let raw = self.decoder.read_slice(length)?.unverified();
        if kind == RecordType::OPT {
            if section == Section::Additional {
                self.opt(class, ttl);
            }
            return Ok(None);
        }
        if kind == RecordType::TSIG {
            return Ok(None);
        }
        let class = DNSClass::from(class);
        if is_parsed(kind) && class == DNSClass::IN {
            let mut decoder = BinDecoder::new(self.bytes).clone(begin as u16);
            let parsed = Record::read(&mut decoder).and_then(|record| {
                let is_whole = length > 0 && decoder.index() == data + length;
                is_whole
                    .then_some(record)
                    .ok_or(DecodeError::InsufficientBytes)
            });
            match parsed {
                Ok(record) => return Ok(Some(record)),
                Err(error) if has_meaning(kind) && section == Section::Answer => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        let mut rdata = NULL::new();
        let expanded = self.expanded(kind, data, length);
        rdata.anything = expanded.unwrap_or_else(|_| raw.to_vec());
        let mut record = Record::from_rdata(name, ttl, RData::Unknown { code: kind, rdata });
        record.dns_class = class;
        Ok(Some(record))
    }

    /// The fixed part of an OPT record (RFC 6891 section 6.1). Options are between neighbours.
    fn opt(&mut self, class: u16, ttl: u32) {
        self.opt_records += 1;
        self.edns.get_or_insert_with(|| {
            let [rcode_high, version, ..] = ttl.to_be_bytes();
            let mut edns = Edns::new();
            edns.set_rcode_high(rcode_high);
            edns.set_version(version);
            edns.set_max_payload(class);
            edns.set_dnssec_ok(ttl & DNSSEC_OK != 0);
            edns
        });
    }

    /// The data of a record with its names written out.
    fn expanded(&self, kind: RecordType, at: usize, length: usize) -> Result<Vec<u8>, DecodeError> {
        let end = at + length;
        let mut decoder = BinDecoder::new(self.bytes).clone(at as u16);
        let mut data = Vec::with_capacity(length);
        for part in layout(kind) {
            match part {
                Part::Bytes(count) => {
                    data.extend(decoder.read_slice(*count)?.unverified());
                }
                Part::Text => {
                    let text = decoder.read_character_data()?.unverified();
                    data.push(text.len() as u8);
                    data.extend(text);
                }
                Part::Name => {
                    let name = Name::read(&mut decoder)?.to_bytes();
                    data.extend(name.map_err(|_| DecodeError::InsufficientBytes)?);
                }
            }
        }
        let rest = end.checked_sub(decoder.index());
        let rest = rest.ok_or(DecodeError::InsufficientBytes)?;
        data.extend(decoder.read_slice(rest)?.unverified());
        Ok(data)
    }
}

/// True for the types whose data the rules read. DNAME is one too, read where it is followed.
fn has_meaning(kind: RecordType) -> bool {
    use RecordType as T;
    matches!(kind, T::A | T::AAAA | T::CNAME | T::PTR | T::SOA)
}

/// True for these and two more, whose names can be compressed again.
fn is_parsed(kind: RecordType) -> bool {
    has_meaning(kind) || matches!(kind, RecordType::NS | RecordType::MX)
}

/// A part of a record's data.
enum Part {
    /// This number of bytes.
    Bytes(usize),
    /// A character string (RFC 1035 section 3.3).
    Text,
    /// A name, compressed or not.
    Name,
}

/// Where the data of a type has names that may be compressed (RFC 3597 section 4). What follows is
/// opaque.
fn layout(kind: RecordType) -> &'static [Part] {
    use Part::{Bytes, Name, Text};
    match u16::from(kind) {
        // NS, MD, MF, CNAME, MB, MG, MR, PTR, NXT, DNAME.
        2..=5 | 7..=9 | 12 | 30 | 39 => &[Name],
        // SOA, MINFO, RP.
        6 | 14 | 17 => &[Name, Name],
        // MX, AFSDB, RT, KX.
        15 | 18 | 21 | 36 => &[Bytes(2), Name],
        // PX.
        26 => &[Bytes(2), Name, Name],
        // SIG.
        24 => &[Bytes(18), Name],
        // SRV.
        33 => &[Bytes(6), Name],
        // NAPTR.
        35 => &[Bytes(4), Text, Text, Text, Name],
        _ => &[],
    }
}
