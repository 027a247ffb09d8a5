//! `resolver.arpa`, by which clients discover the encrypted resolvers that a resolver designates
//! (RFC 9462). The DNS64 designates none: what an upstream resolver says about itself would lead its
//! clients past the synthesis.

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::answer::Answer;

/// Lifetime of "there is none", in seconds.
const LIFETIME: u32 = 10_800;

/// NODATA for the zone and all names below it (RFC 9462 sections 4 and 6.1); `None` for other
/// questions.
pub(crate) fn answer(query: &Query) -> Option<Answer> {
    let zone = Name::from_ascii("resolver.arpa.").ok()?;
    let is_of_parent = query.query_type == RecordType::DS && query.name == zone;
    if query.query_class != DNSClass::IN || !zone.zone_of(&query.name) || is_of_parent {
        return None;
    }
    // RFC 6303 section 3: the records of a zone that is served locally.
    let contact = Name::from_ascii("nobody.invalid.").ok()?;
    let soa = SOA::new(zone.clone(), contact, 1, 3600, 1200, 604_800, 10_800);
    Some(Answer {
        authorities: vec![Record::from_rdata(zone, LIFETIME, RData::SOA(soa))],
        ..Answer::empty(ResponseCode::NoError)
    })
}
