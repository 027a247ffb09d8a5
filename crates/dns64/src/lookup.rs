//! One query on its way: what is asked upstream, and what the client is told.

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{AAAA, CNAME};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::reply::{Reply, answer_to, refusal};
use crate::rules::Rules;
use crate::{ipv4only, ptr};

/// Lifetime of what is made where no SOA record says another (RFC 6147 section 5.1.7), in seconds.
const LIFETIME_MAX: u32 = 600;
/// Records of an alias chain that are followed.
const CHAIN_MAX: usize = 16;

/// A client's query.
#[derive(Clone, Debug)]
pub struct Lookup {
    request: Message,
    query: Query,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// What comes is passed on.
    Plain,
    /// The name's own IPv6 addresses are asked for.
    Aaaa,
    /// Its IPv4 addresses are asked for; this is what was said about IPv6.
    A(Reply),
    /// The name of an IPv4 address is asked for.
    Ptr(Name),
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Next {
    /// Ask this upstream, and tell [`Lookup::on_reply`] what came of it.
    Ask(Query),
    /// Send this to the client.
    Done(Message),
}

impl Lookup {
    /// Takes up a client's query.
    pub fn start(rules: &Rules, request: Message) -> (Self, Next) {
        let query = request.queries.first().cloned().unwrap_or_default();
        let mut lookup = Self {
            stage: Stage::Plain,
            query: query.clone(),
            request,
        };
        if let Some(code) = refusal(&lookup.request) {
            let reply = answer_to(&lookup.request, code);
            return (lookup, Next::Done(reply));
        }
        if let Some(reply) = ipv4only::answer(rules, &lookup.request, &query) {
            return (lookup, Next::Done(reply));
        }
        if let Some(target) = ptr::target(rules, &query) {
            lookup.stage = Stage::Ptr(target.clone());
            return (lookup, Next::Ask(Query::query(target, RecordType::PTR)));
        }
        if query.query_type == RecordType::AAAA
            && query.query_class == DNSClass::IN
            && !lookup.validates_itself()
        {
            lookup.stage = Stage::Aaaa;
        }
        (lookup, Next::Ask(query))
    }

    /// True if `reply`, which ended this, has IPv6 addresses that were made of IPv4 ones.
    pub fn has_synthesised(&self, reply: &Message) -> bool {
        let is_address = |record: &Record| record.record_type() == RecordType::AAAA;
        matches!(self.stage, Stage::A(_)) && reply.answers.iter().any(is_address)
    }

    /// What came of the last question.
    pub fn on_reply(&mut self, rules: &Rules, reply: Reply) -> Next {
        match std::mem::replace(&mut self.stage, Stage::Plain) {
            Stage::Plain => Next::Done(self.pass(reply)),
            Stage::Aaaa => self.on_aaaa(rules, reply),
            Stage::A(aaaa) => Next::Done(self.on_a(rules, aaaa, reply)),
            Stage::Ptr(target) => Next::Done(self.on_ptr(&target, reply)),
        }
    }

    /// RFC 6147 section 5.5: who sets both DO and CD wants to see what is signed.
    fn validates_itself(&self) -> bool {
        let edns = self.request.edns.as_ref();
        let wants_signatures = edns.is_some_and(|edns| edns.flags().dnssec_ok);
        wants_signatures && self.request.metadata.checking_disabled
    }

    fn on_aaaa(&mut self, rules: &Rules, reply: Reply) -> Next {
        if let Some(message) = &reply {
            if message.metadata.response_code == ResponseCode::NXDomain {
                return Next::Done(self.pass(reply));
            }
            let is_good = message.metadata.response_code == ResponseCode::NoError;
            if is_good && message.answers.iter().any(|record| counts(rules, record)) {
                return Next::Done(self.without_excluded(rules, message));
            }
        }
        self.stage = Stage::A(reply);
        Next::Ask(Query::query(self.query.name.clone(), RecordType::A))
    }

    /// Excluded addresses are never shown (section 5.1.4).
    fn without_excluded(&self, rules: &Rules, message: &Message) -> Message {
        let is_shown =
            |record: &&Record| record.record_type() != RecordType::AAAA || counts(rules, record);
        let kept: Vec<Record> = message.answers.iter().filter(is_shown).cloned().collect();
        let is_whole = kept.len() == message.answers.len();
        let mut reply = self.copy(message);
        if !is_whole {
            reply.metadata.authentic_data = false;
        }
        reply.answers = kept;
        reply
    }

    fn on_a(&self, rules: &Rules, aaaa: Reply, reply: Reply) -> Message {
        let Some(message) = reply else {
            return answer_to(&self.request, ResponseCode::ServFail);
        };
        let code = message.metadata.response_code;
        if code != ResponseCode::NoError {
            return self.copy(&message);
        }
        let longest = aaaa
            .as_ref()
            .and_then(negative_lifetime)
            .unwrap_or(LIFETIME_MAX);
        let chain = self.chain(&message);
        let made: Vec<Record> = message
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::A(v4) => {
                    let address = rules.synthesise(v4.0)?;
                    let lifetime = record.ttl.min(longest);
                    let data = RData::AAAA(AAAA(address));
                    Some(Record::from_rdata(record.name.clone(), lifetime, data))
                }
                _ => None,
            })
            .collect();
        if made.is_empty() {
            // No addresses at all: what was said about IPv6 stands, without what is excluded.
            return self.nothing(aaaa.as_ref().unwrap_or(&message));
        }
        let mut reply = answer_to(&self.request, ResponseCode::NoError);
        reply.answers = chain.into_iter().chain(made).collect();
        reply.authorities = unsigned(&message.authorities);
        reply.additionals = unsigned(&message.additionals);
        reply
    }

    /// The aliases between the name and its addresses.
    fn chain(&self, message: &Message) -> Vec<Record> {
        let is_alias = |record: &&Record| {
            matches!(record.record_type(), RecordType::CNAME | RecordType::DNAME)
        };
        message
            .answers
            .iter()
            .filter(is_alias)
            .take(CHAIN_MAX)
            .cloned()
            .collect()
    }

    /// An answer without addresses, with the SOA record that says so.
    fn nothing(&self, message: &Message) -> Message {
        let mut reply = answer_to(&self.request, ResponseCode::NoError);
        reply.answers = self.chain(message);
        reply.authorities = unsigned(&message.authorities);
        reply
    }

    /// Section 5.3.1: an alias to the name under `in-addr.arpa`, and what is there.
    fn on_ptr(&self, target: &Name, reply: Reply) -> Message {
        let Some(message) = reply else {
            return answer_to(&self.request, ResponseCode::ServFail);
        };
        let mut answer = self.copy(&message);
        answer.metadata.authentic_data = false;
        let lifetimes = message.answers.iter().map(|record| record.ttl);
        let lifetime = lifetimes.min().unwrap_or(LIFETIME_MAX);
        let alias = RData::CNAME(CNAME(target.clone()));
        let name = self.query.name.clone();
        answer
            .answers
            .insert(0, Record::from_rdata(name, lifetime, alias));
        answer
    }

    /// What upstream says, or that nobody says anything.
    fn pass(&self, reply: Reply) -> Message {
        match reply {
            Some(message) => self.copy(&message),
            None => answer_to(&self.request, ResponseCode::ServFail),
        }
    }

    fn copy(&self, message: &Message) -> Message {
        let mut reply = answer_to(&self.request, message.metadata.response_code);
        let asked = &self.request.metadata;
        let wants_signatures = self
            .request
            .edns
            .as_ref()
            .is_some_and(|edns| edns.flags().dnssec_ok);
        // RFC 6840 section 5.8.
        let may_know = asked.authentic_data || wants_signatures;
        reply.metadata.authentic_data = message.metadata.authentic_data && may_know;
        reply.answers.clone_from(&message.answers);
        reply.authorities.clone_from(&message.authorities);
        reply.additionals.clone_from(&message.additionals);
        reply
    }
}

fn counts(rules: &Rules, record: &Record) -> bool {
    match &record.data {
        RData::AAAA(address) => rules.counts(address.0),
        _ => false,
    }
}

/// The lifetime of "there is no such address": that of the SOA record (RFC 6147 section 5.1.7).
fn negative_lifetime(message: &Message) -> Option<u32> {
    let soa = message.authorities.iter();
    soa.filter_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    })
    .min()
}

/// Signatures cover what is not in a synthetic answer.
fn unsigned(records: &[Record]) -> Vec<Record> {
    let is_plain = |record: &&Record| record.record_type() != RecordType::RRSIG;
    records.iter().filter(is_plain).cloned().collect()
}
