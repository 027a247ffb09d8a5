//! What the answer to a query follows from: read from its bytes where it has the usual form, without a
//! parser of messages.

use std::borrow::Cow;

use hickory_proto::op::{Edns, Message};
use hickory_proto::serialize::binary::BinEncodable as _;

use crate::answer::{UDP_MAX, UDP_MIN, payload_limit};
use crate::question::Question;

/// Length of the header of a message in bytes.
pub(crate) const HEADER: usize = 12;
/// Maximum length of a name in bytes (RFC 1035 section 2.3.4).
const NAME_MAX: usize = 255;
/// Maximum length of a key: a name, type and class, and flags.
const KEY_MAX: usize = NAME_MAX + 5;
/// Length of an OPT record without options.
const OPT: usize = 11;

/// A question as the key that its answer is kept under: equal for equal questions.
#[derive(Clone, Debug)]
pub struct Key {
    bytes: [u8; KEY_MAX],
    length: usize,
}

impl Key {
    /// `question` is name, type and class as in a message.
    fn new(question: &[u8], dnssec_ok: bool, checking_disabled: bool, is_plain: bool) -> Self {
        let mut bytes = [0; KEY_MAX];
        let length = question.len().min(KEY_MAX - 1);
        let (name, rest) = question[..length].split_at(length.saturating_sub(4));
        bytes[..length - rest.len()].copy_from_slice(name);
        // The lengths of labels are no letters.
        bytes[..length - rest.len()].make_ascii_lowercase();
        bytes[length - rest.len()..length].copy_from_slice(rest);
        bytes[length] =
            u8::from(dnssec_ok) | u8::from(checking_disabled) << 1 | u8::from(is_plain) << 2;
        Self {
            bytes,
            length: length + 1,
        }
    }

    /// Its bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Question {
    /// The key of the question; `None` if its name cannot be encoded.
    pub fn key(&self) -> Option<Key> {
        let bytes = self.query.to_bytes().ok()?;
        let Self {
            dnssec_ok,
            checking_disabled,
            is_plain,
            ..
        } = self;
        Some(Key::new(&bytes, *dnssec_ok, *checking_disabled, *is_plain))
    }
}

/// What the message to a client follows from, besides the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    pub(crate) id: [u8; 2],
    pub(crate) recursion_desired: bool,
    checking_disabled: bool,
    /// Name, type and class, in the client's spelling.
    pub(crate) question: Cow<'a, [u8]>,
    /// Length that the client takes over UDP, and the DO flag.
    edns: Option<(u16, bool)>,
}

impl<'a> Asked<'a> {
    /// Reads a query of the usual form: one question and perhaps an OPT record. `None` for anything
    /// else, which may be a query all the same.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let [id0, id1, flags0, flags1, 0, 1, 0, 0, 0, 0, 0, extras] = *header else {
            return None;
        };
        // A query with the operation code 0.
        if flags0 & 0xf8 != 0 {
            return None;
        }
        let mut end = 0;
        loop {
            let length = usize::from(*rest.get(end)?);
            end += 1 + length;
            match length {
                0 => break,
                1..=63 if end < NAME_MAX => {}
                _ => return None,
            }
        }
        let (question, rest) = rest.split_at_checked(end + 4)?;
        let kind = u16::from_be_bytes([question[end], question[end + 1]]);
        // Zone transfers, and the types of records that are no data.
        if matches!(kind, 0 | 41 | 249..=252) {
            return None;
        }
        let edns = match extras {
            0 if rest.is_empty() => None,
            1 => Some(opt(rest)?),
            _ => return None,
        };
        Some(Self {
            id: [id0, id1],
            recursion_desired: flags0 & 1 != 0,
            checking_disabled: flags1 & 0x10 != 0,
            question: Cow::Borrowed(question),
            edns,
        })
    }

    /// The same of a query that was parsed; `None` if it does not have one question.
    pub fn of(request: &Message) -> Option<Asked<'static>> {
        let [query] = request.queries.as_slice() else {
            return None;
        };
        let edns = request.edns.as_ref();
        Some(Asked {
            id: request.metadata.id.to_be_bytes(),
            recursion_desired: request.metadata.recursion_desired,
            checking_disabled: request.metadata.checking_disabled,
            question: Cow::Owned(query.to_bytes().ok()?),
            edns: edns.map(|edns: &Edns| (payload_limit(request) as u16, edns.flags().dnssec_ok)),
        })
    }

    /// The key of its question, of a client that addresses are made for or `is_plain`.
    pub fn key(&self, is_plain: bool) -> Key {
        Key::new(
            &self.question,
            self.wants_signatures(),
            self.checking_disabled,
            is_plain,
        )
    }

    /// Maximum length of the answer over UDP, in bytes (RFC 6891 section 6.2.5).
    pub fn limit(&self) -> usize {
        let asked = self.edns.map_or(UDP_MIN, |(payload, _)| payload);
        usize::from(asked.clamp(UDP_MIN, UDP_MAX))
    }

    pub(crate) fn wants_signatures(&self) -> bool {
        self.edns.is_some_and(|(_, dnssec_ok)| dnssec_ok)
    }

    /// The flag CD, where the header has it.
    pub(crate) fn cd_flag(&self) -> u8 {
        u8::from(self.checking_disabled) << 4
    }

    /// The OPT record of the answer.
    pub(crate) fn opt(&self) -> Option<[u8; OPT]> {
        let (_, dnssec_ok) = self.edns?;
        let [high, low] = UDP_MAX.to_be_bytes();
        let flags = u8::from(dnssec_ok) << 7;
        Some([0, 0, 41, high, low, 0, 0, flags, 0, 0, 0])
    }
}

/// Payload and DO flag of the OPT record that a message ends with; `None` if it is another record, or of
/// another version.
fn opt(record: &[u8]) -> Option<(u16, bool)> {
    let (fixed, options) = record.split_at_checked(OPT)?;
    let [0, 0, 41, high, low, _, 0, flags, _, long, length] = *fixed else {
        return None;
    };
    let is_whole = options.len() == usize::from(u16::from_be_bytes([long, length]));
    is_whole.then_some((u16::from_be_bytes([high, low]), flags & 0x80 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] = b"\x12\x34\x01\x10\x00\x01\x00\x00\x00\x00\x00\x01\
                           \x02V4\x07example\x00\x00\x1c\x00\x01\
                           \x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x04abcd";

    #[test]
    fn dn_23_a_query_of_the_usual_form_is_read_as_the_parser_does() {
        let plain = [&QUERY[..11], b"\0", &QUERY[12..28]].concat();
        for bytes in [QUERY, &plain] {
            let message = crate::read(bytes).unwrap();
            let asked = Asked::read(bytes).unwrap();
            let mut parsed = Asked::of(&message).unwrap();
            // The parser has the limit already.
            parsed.edns = parsed.edns.map(|(_, signed)| (0x1000, signed));
            assert_eq!(asked, parsed);
            assert_eq!(asked.limit(), payload_limit(&message));
            let question = Question::of(&message).unwrap();
            let (one, other) = (asked.key(false), question.key().unwrap());
            assert_eq!(one.as_bytes(), other.as_bytes());
            let plain = question.plain().key().unwrap();
            assert_ne!(plain.as_bytes(), other.as_bytes());
            assert_eq!(asked.key(true).as_bytes(), plain.as_bytes());
        }
        let key = Asked::read(QUERY).unwrap().key(false);
        assert_eq!(key.as_bytes(), b"\x02v4\x07example\0\0\x1c\0\x01\x03");
    }

    #[test]
    fn queries_of_another_form_are_left_to_the_parser() {
        assert!(Asked::read(QUERY).is_some());
        for length in 0..QUERY.len() {
            assert!(Asked::read(&QUERY[..length]).is_none(), "{length}");
        }
        for (at, value) in [
            (2, 0x81),  // an answer
            (2, 0x21),  // NOTIFY
            (5, 2),     // two questions
            (7, 1),     // a record in the answer
            (11, 2),    // two records behind the question
            (12, 0xc0), // a pointer
            (25, 0xfc), // AXFR
            (30, 0x01), // another record than OPT
            (34, 1),    // EDNS 1
        ] {
            let mut other = QUERY.to_vec();
            other[at] = value;
            assert!(Asked::read(&other).is_none(), "{at}");
        }
        assert!(Asked::read(&[QUERY, b"x"].concat()).is_none());
    }
}
