//! The lookup of one question: a state machine of upstream queries that ends with an answer.

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{AAAA, CNAME};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::answer::Answer;
use crate::chain::Chain;
use crate::question::{Ask, Question};
use crate::rules::Rules;
use crate::{ddr, ipv4only, ptr};

/// Lifetime of synthetic records if there is no SOA record (RFC 6147 section 5.1.7), in seconds.
const LIFETIME_MAX: u32 = 600;

/// The result of an upstream query: the answer, or `None` after a timeout.
pub type Reply = Option<Message>;

/// The lookup of one question.
#[derive(Clone, Debug)]
pub struct Lookup {
    question: Question,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// The answer is passed on.
    Plain,
    /// Queried for AAAA records.
    Aaaa,
    /// Queried again for AAAA records without validation, because of this failure.
    Unchecked(Said),
    /// Queried for A records, after this result for AAAA records.
    A(Option<Said>),
    /// Queried for the name of an IPv4 address.
    Ptr(Name),
}

/// The next step of a lookup.
#[derive(Clone, Debug)]
pub enum Next {
    /// Send this query upstream, and pass the result to [`Lookup::on_reply`].
    Ask(Ask),
    /// The lookup ends with this answer.
    Done(Answer),
}

impl Lookup {
    /// Starts the lookup of a question.
    pub fn start(rules: &Rules, question: &Question) -> (Self, Next) {
        let mut lookup = Self {
            stage: Stage::Plain,
            question: question.clone(),
        };
        let query = question.query.clone();
        let pref64s = match question.is_plain {
            true => &[][..],
            false => &rules.pref64s,
        };
        let local = lookup
            .local(rules)
            .or_else(|| ipv4only::answer(rules, pref64s, &query))
            .or_else(|| ddr::answer(&query));
        if let Some(answer) = local {
            return (lookup, Next::Done(answer));
        }
        let target = ptr::target(rules, &query).filter(|_| !question.is_plain);
        if let Some(target) = target {
            let behind = Query::query(target.clone(), RecordType::PTR);
            let known = rules.local.answer(&behind);
            let known = known.or_else(|| ipv4only::answer(rules, pref64s, &behind));
            if let Some(known) = known {
                let answer = lookup.behind_alias(&target, known);
                return (lookup, Next::Done(answer));
            }
            lookup.stage = Stage::Ptr(target);
            return (lookup, Next::Ask(question.ask(behind)));
        }
        if lookup.synthesises(rules) {
            lookup.stage = Stage::Aaaa;
        }
        (lookup, Next::Ask(question.ask(query)))
    }

    /// True if synthetic addresses may answer the question.
    fn synthesises(&self, rules: &Rules) -> bool {
        let Question {
            query,
            dnssec_ok,
            checking_disabled,
            is_plain,
        } = &self.question;
        // RFC 6147 section 5.5: a client that sets DO and CD gets the signed records.
        let validates_itself = *dnssec_ok && *checking_disabled;
        query.query_type == RecordType::AAAA
            && query.query_class == DNSClass::IN
            && !validates_itself
            && !is_plain
            && !rules.skipped.contains(&query.name)
    }

    /// The answer about a name that has its addresses here.
    fn local(&self, rules: &Rules) -> Option<Answer> {
        let answer = rules.local.answer(&self.question.query)?;
        let is_wanted =
            answer.answers.is_empty() || rules.always.contains(&self.question.query.name);
        if !self.synthesises(rules) || !is_wanted {
            return Some(answer);
        }
        let v4 = rules.local.answer(&self.query_a())?;
        let made = v4.answers.iter();
        let made: Vec<Record> = made
            .filter_map(|one| made_of(rules, one, LIFETIME_MAX))
            .collect();
        if made.is_empty() {
            return Some(answer);
        }
        Some(Answer {
            is_made: true,
            answers: made,
            ..Answer::empty(ResponseCode::NoError)
        })
    }

    /// Continues with the result of the last query.
    pub fn on_reply(&mut self, rules: &Rules, reply: Reply) -> Next {
        match self.step(rules, reply) {
            Next::Done(answer) if rules.minimal => Next::Done(self.minimal(answer)),
            next => next,
        }
    }

    /// Without the records that were not asked for. The SOA record of a negative answer stays (RFC
    /// 2308), and so do proofs for those who want signatures.
    fn minimal(&self, mut answer: Answer) -> Answer {
        answer.additionals.clear();
        let kind = self.question.query.query_type;
        let is_found = |record: &Record| record.record_type() == kind;
        if answer.answers.iter().any(is_found) && !self.question.dnssec_ok {
            answer.authorities.clear();
        }
        answer
    }

    fn step(&mut self, rules: &Rules, reply: Reply) -> Next {
        match std::mem::replace(&mut self.stage, Stage::Plain) {
            Stage::Plain => Next::Done(pass(self.read(reply))),
            Stage::Aaaa => self.on_aaaa(rules, reply),
            Stage::Unchecked(failure) => self.on_unchecked(failure, reply),
            Stage::A(aaaa) => Next::Done(self.on_a(rules, aaaa, reply)),
            Stage::Ptr(target) => Next::Done(self.on_ptr(&target, reply)),
        }
    }

    fn on_aaaa(&mut self, rules: &Rules, reply: Reply) -> Next {
        let Some(said) = self.read(reply) else {
            return self.ask_a(None);
        };
        match said.code {
            ResponseCode::NXDomain => Next::Done(nothing(said)),
            ResponseCode::NoError if has_own(rules, &said) => {
                match rules.always.contains(&self.question.query.name) {
                    true => self.ask_a(Some(said)),
                    false => Next::Done(without_excluded(rules, said)),
                }
            }
            // The records may be forged (RFC 6147 section 5.5, RFC 4035 section 5.5).
            ResponseCode::ServFail if !self.question.checking_disabled => {
                self.stage = Stage::Unchecked(said);
                let mut ask = self.question.ask(self.question.query.clone());
                ask.checking_disabled = true;
                Next::Ask(ask)
            }
            _ => self.ask_a(Some(said)),
        }
    }

    /// Never synthesizes where AAAA records exist and only failed validation.
    fn on_unchecked(&mut self, failure: Said, reply: Reply) -> Next {
        let unchecked = self.read(reply).map(|said| said.code);
        if matches!(
            unchecked,
            Some(ResponseCode::NoError | ResponseCode::NXDomain)
        ) {
            return Next::Done(Answer::empty(ResponseCode::ServFail));
        }
        self.ask_a(Some(failure))
    }

    fn ask_a(&mut self, aaaa: Option<Said>) -> Next {
        self.stage = Stage::A(aaaa);
        Next::Ask(self.question.ask(self.query_a()))
    }

    fn query_a(&self) -> Query {
        Query::query(self.question.query.name.clone(), RecordType::A)
    }

    fn on_a(&self, rules: &Rules, mut aaaa: Option<Said>, reply: Reply) -> Answer {
        // Of a domain that always gets synthetic addresses: its own, where there is no IPv4.
        let own = aaaa.take_if(|said| has_own(rules, said));
        let Some(own) = own else {
            return self.made_of_a(rules, aaaa, reply);
        };
        let made = self.made_of_a(rules, None, reply);
        if !made.is_made {
            return without_excluded(rules, own);
        }
        Answer {
            is_unsure: false,
            ..made
        }
    }

    fn made_of_a(&self, rules: &Rules, aaaa: Option<Said>, reply: Reply) -> Answer {
        let Some(said) = reply.map(|message| Said::read(&self.query_a(), message)) else {
            return Answer::empty(ResponseCode::ServFail);
        };
        let is_unsure = aaaa.is_none();
        if said.code != ResponseCode::NoError {
            return Answer {
                is_unsure,
                ..nothing(said)
            };
        }
        // The answer has the aliases of the A records. A negative AAAA answer that ends at another
        // name is about that name (RFC 6147 section 5.1.5).
        let negative = aaaa.filter(|aaaa| aaaa.code == ResponseCode::NoError);
        let longest = negative
            .as_ref()
            .filter(|aaaa| aaaa.chain.end == said.chain.end)
            .and_then(Said::negative_lifetime)
            .unwrap_or(LIFETIME_MAX);
        let made: Vec<Record> = said
            .chain
            .found
            .iter()
            .filter_map(|record| made_of(rules, record, longest))
            .collect();
        if made.is_empty() {
            // No A records: return the answer for AAAA, without excluded addresses.
            return Answer {
                is_unsure,
                ..nothing(negative.unwrap_or(said))
            };
        }
        let is_authentic = said.is_authentic && negative.is_some_and(|aaaa| aaaa.is_authentic);
        let links = unsigned(said.chain.links);
        Answer {
            code: ResponseCode::NoError,
            // RFC 6147 section 5.5: both answers were validated upstream.
            is_authentic: is_authentic && !self.question.checking_disabled,
            is_made: true,
            is_unsure,
            answers: links.into_iter().chain(made).collect(),
            authorities: unsigned(said.authorities),
            additionals: unsigned(said.additionals),
        }
    }

    /// Section 5.3.1: an alias to the name under `in-addr.arpa`, and its records.
    fn on_ptr(&self, target: &Name, reply: Reply) -> Answer {
        let behind = Query::query(target.clone(), RecordType::PTR);
        match reply {
            Some(message) => {
                let said = Said::read(&behind, message);
                self.behind_alias(target, said.into_answer())
            }
            None => Answer::empty(ResponseCode::ServFail),
        }
    }

    fn behind_alias(&self, target: &Name, mut answer: Answer) -> Answer {
        answer.is_authentic = false;
        let lifetimes = answer.answers.iter().map(|record| record.ttl);
        let lifetime = lifetimes.min().unwrap_or(LIFETIME_MAX);
        let alias = RData::CNAME(CNAME(target.clone()));
        let name = self.question.query.name.clone();
        answer
            .answers
            .insert(0, Record::from_rdata(name, lifetime, alias));
        answer
    }

    fn read(&self, reply: Reply) -> Option<Said> {
        reply.map(|message| Said::read(&self.question.query, message))
    }
}

/// The usable part of an upstream answer.
#[derive(Clone, Debug)]
struct Said {
    code: ResponseCode,
    is_authentic: bool,
    chain: Chain,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

impl Said {
    /// Keeps the records that belong to the question. An endless chain of aliases is a failure of
    /// the upstream resolver.
    fn read(query: &Query, message: Message) -> Self {
        let Some(chain) = Chain::follow(query, &message.answers) else {
            return Self {
                code: ResponseCode::ServFail,
                is_authentic: false,
                chain: Chain::empty(query),
                authorities: Vec::new(),
                additionals: Vec::new(),
            };
        };
        Self {
            code: message.metadata.response_code,
            is_authentic: message.metadata.authentic_data,
            chain,
            authorities: message.authorities,
            additionals: message.additionals,
        }
    }

    fn into_answer(self) -> Answer {
        Answer {
            code: self.code,
            is_authentic: self.is_authentic,
            is_made: false,
            is_unsure: false,
            answers: self.chain.into_records(),
            authorities: self.authorities,
            additionals: self.additionals,
        }
    }

    /// The lifetime of "there is no such address": that of the zone's SOA record (RFC 6147 section
    /// 5.1.7).
    fn negative_lifetime(&self) -> Option<u32> {
        let own = self
            .authorities
            .iter()
            .filter(|record| record.name.zone_of(&self.chain.end));
        own.filter_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        })
        .min()
    }
}

/// The upstream answer, or a failure if there is none.
fn pass(said: Option<Said>) -> Answer {
    said.map_or_else(|| Answer::empty(ResponseCode::ServFail), Said::into_answer)
}

/// Removes excluded addresses (section 5.1.4).
fn without_excluded(rules: &Rules, mut said: Said) -> Answer {
    let before = said.chain.found.len();
    let is_shown =
        |record: &Record| record.record_type() != RecordType::AAAA || counts(rules, record);
    said.chain.found.retain(is_shown);
    if said.chain.found.len() < before {
        said.is_authentic = false;
    }
    said.into_answer()
}

/// An answer without addresses, with any response code, and its SOA record.
fn nothing(mut said: Said) -> Answer {
    if !said.chain.found.is_empty() {
        said.is_authentic = false;
        said.chain.found.clear();
        said.authorities = unsigned(said.authorities);
    }
    said.into_answer()
}

/// The AAAA record for the synthetic address of an IPv4 address.
fn made_of(rules: &Rules, record: &Record, longest: u32) -> Option<Record> {
    let RData::A(v4) = &record.data else {
        return None;
    };
    let data = RData::AAAA(AAAA(rules.synthesise(v4.0)?));
    let lifetime = record.ttl.min(longest);
    Some(Record::from_rdata(record.name.clone(), lifetime, data))
}

/// True if there are addresses that are not excluded.
fn has_own(rules: &Rules, said: &Said) -> bool {
    said.chain.found.iter().any(|one| counts(rules, one))
}

fn counts(rules: &Rules, record: &Record) -> bool {
    match &record.data {
        RData::AAAA(address) => rules.counts(address.0),
        _ => false,
    }
}

/// Removes signatures: they do not cover synthetic records.
fn unsigned(mut records: Vec<Record>) -> Vec<Record> {
    records.retain(|record| record.record_type() != RecordType::RRSIG);
    records
}
