//! Answers as messages, and messages as bytes.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};

/// What came of a question to an upstream resolver: its answer, or `None` if there was none in
/// time.
pub type Reply = Option<Message>;

/// Bytes of an answer over UDP that we let clients have at most, so that it is never fragmented
/// (RFC 9715).
const UDP_MAX: u16 = 1232;
const UDP_MIN: u16 = 512;

/// The beginning of an answer to `request`: its question, and the flags of a resolver.
pub(crate) fn answer_to(request: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::new(
        request.metadata.id,
        MessageType::Response,
        request.metadata.op_code,
    );
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.checking_disabled = request.metadata.checking_disabled;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.queries.clone_from(&request.queries);
    if let Some(edns) = &request.edns {
        let mut own = Edns::new();
        own.set_max_payload(UDP_MAX);
        own.set_dnssec_ok(edns.flags().dnssec_ok);
        reply.set_edns(own);
    }
    reply
}

/// An answer that says no more than that it did not work.
pub fn failure(request: &Message, code: ResponseCode) -> Message {
    answer_to(request, code)
}

/// Bytes that an answer over UDP may have (RFC 6891 section 6.2.5).
pub fn payload_limit(request: &Message) -> usize {
    let asked = request.edns.as_ref().map_or(UDP_MIN, Edns::max_payload);
    usize::from(asked.clamp(UDP_MIN, UDP_MAX))
}

/// The bytes of an answer, at most `limit`: without records and with the TC flag if it is longer
/// (RFC 2181 section 9). `None` if it cannot be encoded.
pub fn encode(reply: &Message, limit: usize) -> Option<Vec<u8>> {
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    let mut short = reply.clone();
    short.answers.clear();
    short.authorities.clear();
    short.additionals.clear();
    short.metadata.truncation = true;
    short.to_vec().ok()
}

/// Why a query is not looked up at all; `None` if it is (RFC 1035, RFC 6891 section 6.1.3).
pub(crate) fn refusal(request: &Message) -> Option<ResponseCode> {
    if request.metadata.op_code != OpCode::Query {
        return Some(ResponseCode::NotImp);
    }
    if request
        .edns
        .as_ref()
        .is_some_and(|edns| edns.version() != 0)
    {
        return Some(ResponseCode::BADVERS);
    }
    match request.queries.as_slice() {
        [query] if query.query_type.is_zone_transfer() => Some(ResponseCode::Refused),
        [_] => None,
        _ => Some(ResponseCode::FormErr),
    }
}

/// Types that are no questions for a resolver.
trait ZoneTransfer {
    fn is_zone_transfer(&self) -> bool;
}

impl ZoneTransfer for hickory_proto::rr::RecordType {
    fn is_zone_transfer(&self) -> bool {
        matches!(self, Self::AXFR | Self::IXFR)
    }
}
