//! `ipv4only.arpa`, by which hosts discover the NAT64 prefix: answered locally and never queried
//! upstream (RFC 8880 section 7.1).

use std::net::Ipv4Addr;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::answer::Answer;
use crate::rules::Rules;
use xlat_core::addr::Pref64;

/// The addresses of `ipv4only.arpa`.
const WELL_KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

/// The local answer; `None` for questions about other names.
pub(crate) fn answer(rules: &Rules, pref64s: &[Pref64], query: &Query) -> Option<Answer> {
    if query.query_class != DNSClass::IN {
        return None;
    }
    let zone = Name::from_ascii("ipv4only.arpa.").ok()?;
    if is_reverse(&query.name) && query.query_type == RecordType::PTR {
        return Some(found(rules, query, vec![RData::PTR(PTR(zone))]));
    }
    // The parent zone has the DS records.
    if !zone.zone_of(&query.name) || query.query_type == RecordType::DS {
        return None;
    }
    // `num_labels` does not count an asterisk.
    if query.name.iter().len() > zone.iter().len() {
        return Some(Answer::empty(ResponseCode::NXDomain));
    }
    let data = match query.query_type {
        RecordType::A => WELL_KNOWN.iter().map(|v4| RData::A(A(*v4))).collect(),
        RecordType::AAAA => {
            let all = pref64s
                .iter()
                .flat_map(|pref64| WELL_KNOWN.map(|v4| pref64.embed(v4)));
            all.map(|address| RData::AAAA(AAAA(address))).collect()
        }
        _ => Vec::new(),
    };
    Some(found(rules, query, data))
}

fn found(rules: &Rules, query: &Query, data: Vec<RData>) -> Answer {
    let record = |data| Record::from_rdata(query.name.clone(), rules.prefix_lifetime, data);
    Answer {
        is_made: query.query_type == RecordType::AAAA && !data.is_empty(),
        answers: data.into_iter().map(record).collect(),
        ..Answer::empty(ResponseCode::NoError)
    }
}

/// True for `170.0.0.192.in-addr.arpa` and `171.0.0.192.in-addr.arpa`.
fn is_reverse(name: &Name) -> bool {
    let name = name.to_lowercase();
    WELL_KNOWN.iter().any(|v4| name == Name::from(*v4))
}
