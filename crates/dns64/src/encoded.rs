//! An answer as bytes: what is the same for all clients is encoded once, the rest is written over it.

use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::Record;

use crate::answer::Answer;
use crate::asked::{Asked, HEADER};
use crate::question::Question;

/// Lifetime of records that have outlived theirs, in seconds (RFC 8767 section 4).
const STALE_TTL: u32 = 30;

/// How old an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// So many seconds.
    Fresh(u32),
    /// Older than it may become.
    Stale,
}

/// An answer, without an OPT record.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// A message with the question in lower case.
    bytes: Box<[u8]>,
    /// Where lifetimes are.
    ttls: Box<[u16]>,
    /// Where the additional records begin.
    extras: u16,
    is_authentic: bool,
    pub(crate) is_made: bool,
}

impl Encoded {
    /// `None` if no message has room for the answer.
    pub(crate) fn new(question: &Question, answer: &Answer) -> Option<Self> {
        let mut message = Message::response(0, OpCode::Query);
        message.metadata.recursion_available = true;
        message.metadata.response_code = answer.code;
        message.add_query(question.query.clone());
        // As a pointer to the question would have it: then it is one.
        let spelt = |records: &[Record]| -> Vec<Record> {
            let mut records = records.to_vec();
            for record in &mut records {
                if record.name == question.query.name {
                    record.name.clone_from(&question.query.name);
                }
            }
            records
        };
        message.answers = spelt(&answer.answers);
        message.authorities = spelt(&answer.authorities);
        message.additionals = spelt(&answer.additionals);
        let bytes = message.to_vec().ok()?;
        // Twelve bits of a code need an OPT record.
        if bytes.len() > usize::from(u16::MAX) || answer.code.high() > 0 {
            return None;
        }
        let mut at = end_of_name(&bytes, HEADER)? + 4;
        let records = message.answers.len() + message.authorities.len();
        let (mut ttls, mut extras) = (Vec::new(), at);
        for index in 0..records + message.additionals.len() {
            let fixed = end_of_name(&bytes, at)?;
            ttls.push(u16::try_from(fixed + 4).ok()?);
            let length = bytes.get(fixed + 8..fixed + 10)?;
            at = fixed + 10 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            if index + 1 == records {
                extras = at;
            }
        }
        (at == bytes.len()).then_some(Self {
            bytes: bytes.into(),
            ttls: ttls.into(),
            extras: u16::try_from(extras).ok()?,
            is_authentic: answer.is_authentic,
            is_made: answer.is_made,
        })
    }

    /// Bytes on the heap.
    pub(crate) fn heap(&self) -> usize {
        self.bytes.len() + self.ttls.len() * size_of::<u16>()
    }

    /// Writes the message to a client, of at most `limit` bytes. A longer one loses its additional
    /// records, and if that is not enough all records, which sets the TC flag (RFC 2181 section 9).
    /// False if it is about another question.
    pub(crate) fn write(
        &self,
        asked: &Asked<'_>,
        age: Age,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        out.clear();
        out.extend_from_slice(&self.bytes);
        let end = HEADER + asked.question.len();
        let Some(question) = out.get_mut(HEADER..end) else {
            return false;
        };
        question.copy_from_slice(&asked.question);
        out[..2].copy_from_slice(&asked.id);
        out[2] = 0x80 | u8::from(asked.recursion_desired);
        // RFC 6147 section 5.5: AD is never set for a client that does not ask for signatures.
        let is_authentic = self.is_authentic && asked.wants_signatures();
        out[3] = 0x80 | u8::from(is_authentic) << 5 | asked.cd_flag() | self.bytes[3] & 0x0f;
        for at in &self.ttls {
            let at = usize::from(*at);
            let Some(field) = out
                .get_mut(at..at + 4)
                .and_then(|four| four.first_chunk_mut())
            else {
                return false;
            };
            let ttl = match age {
                Age::Fresh(age) => u32::from_be_bytes(*field).saturating_sub(age),
                Age::Stale => STALE_TTL,
            };
            *field = ttl.to_be_bytes();
        }
        let opt = asked.opt();
        let room = limit.saturating_sub(opt.map_or(0, |opt| opt.len()));
        if out.len() > room {
            out.truncate(self.extras.into());
            out[10..12].fill(0);
        }
        if out.len() > room {
            out.truncate(end);
            out[6..10].fill(0);
            out[2] |= 0x02;
        }
        if let Some(opt) = opt {
            out.extend_from_slice(&opt);
            let extras = u16::from_be_bytes([out[10], out[11]]).saturating_add(1);
            out[10..12].copy_from_slice(&extras.to_be_bytes());
        }
        true
    }
}

/// Where a name ends.
fn end_of_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}
