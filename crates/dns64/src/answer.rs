//! The answer to a question, and the messages that carry it to each client.

use hickory_proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_proto::rr::Record;

/// Maximum length of an answer over UDP in bytes, so that it is never fragmented (RFC 9715).
pub(crate) const UDP_MAX: u16 = 1232;
pub(crate) const UDP_MIN: u16 = 512;

/// The answer to a question.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(crate) code: ResponseCode,
    /// Whether the upstream resolver validated all records.
    pub(crate) is_authentic: bool,
    /// Whether it has synthetic IPv6 addresses.
    pub(crate) is_made: bool,
    /// Whether an upstream resolver did not answer one of the queries.
    pub(crate) is_unsure: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

impl Answer {
    /// An answer without records.
    pub fn empty(code: ResponseCode) -> Self {
        Self {
            code,
            is_authentic: false,
            is_made: false,
            is_unsure: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }

    /// True if it has synthetic IPv6 addresses.
    pub fn is_made(&self) -> bool {
        self.is_made
    }

    /// True if the question could not be answered.
    pub fn is_failure(&self) -> bool {
        self.code == ResponseCode::ServFail
    }

    /// The response to `request`, when the answer is `age` seconds old.
    pub fn to(&self, request: &Message, age: u32) -> Message {
        // RFC 6891 section 6.1.3: a code of more than four bits needs an OPT record.
        let code = match self.code {
            code if code.high() > 0 && request.edns.is_none() => ResponseCode::ServFail,
            code => code,
        };
        let mut reply = reply_to(request, code);
        // RFC 6147 section 5.5: never set for a client that does not ask for signatures.
        reply.metadata.authentic_data = self.is_authentic && wants_signatures(request);
        let asked = request.queries.first().map(|query| &query.name);
        let aged = |records: &[Record]| -> Vec<Record> {
            let mut records = records.to_vec();
            for record in &mut records {
                record.ttl = record.ttl.saturating_sub(age);
                // As a pointer to the question would have it; some clients compare the spelling.
                if let Some(asked) = asked.filter(|asked| **asked == record.name) {
                    record.name.clone_from(asked);
                }
            }
            records
        };
        reply.answers = aged(&self.answers);
        reply.authorities = aged(&self.authorities);
        reply.additionals = aged(&self.additionals);
        reply
    }
}

/// The start of a response to `request`: its question, and the flags of a resolver.
pub(crate) fn reply_to(request: &Message, code: ResponseCode) -> Message {
    let asked = &request.metadata;
    let mut reply = Message::new(asked.id, MessageType::Response, asked.op_code);
    reply.metadata.recursion_desired = asked.recursion_desired;
    reply.metadata.checking_disabled = asked.checking_disabled;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    // The question keeps the client's spelling. A query with several questions gets none back.
    if request.queries.len() == 1 {
        reply.queries.clone_from(&request.queries);
    }
    if request.edns.is_some() {
        let mut own = Edns::new();
        own.set_max_payload(UDP_MAX);
        own.set_dnssec_ok(wants_signatures(request));
        reply.set_edns(own);
    }
    reply
}

fn wants_signatures(request: &Message) -> bool {
    let edns = request.edns.as_ref();
    edns.is_some_and(|edns| edns.flags().dnssec_ok)
}

/// Maximum length of a response over UDP, in bytes (RFC 6891 section 6.2.5).
pub fn payload_limit(request: &Message) -> usize {
    let asked = request.edns.as_ref().map_or(UDP_MIN, Edns::max_payload);
    usize::from(asked.clamp(UDP_MIN, UDP_MAX))
}

/// Encodes a response of at most `limit` bytes. A longer one loses its additional records, and if
/// that is not enough all records, which sets the TC flag (RFC 2181 section 9). `None` if it cannot
/// be encoded.
pub fn encode(reply: &Message, limit: usize) -> Option<Vec<u8>> {
    let fitting = |reply: &Message| reply.to_vec().ok().filter(|bytes| bytes.len() <= limit);
    if let Some(bytes) = fitting(reply) {
        return Some(bytes);
    }
    let mut short = reply.clone();
    let extras = std::mem::take(&mut short.additionals);
    if !extras.is_empty()
        && let Some(bytes) = fitting(&short)
    {
        return Some(bytes);
    }
    short.answers.clear();
    short.authorities.clear();
    short.metadata.truncation = true;
    short.to_vec().ok()
}
