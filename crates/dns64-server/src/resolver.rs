//! Lookups. Clients with equal questions at the same time share one
//! lookup.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dns64::{Answer, Ask, Domain, Lookup, Next, Question, Rules};
use hickory_proto::rr::RecordType;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use xlat_tun::now;

use crate::config::{Config, Upstream};
use crate::limits::Slot;
use crate::shared::Shared;
use crate::status::Resolvers;
use crate::upstreams::Upstreams;

/// Maximum time of a lookup, less than the 5 seconds after which a stub resolver gives up.
const PATIENCE: Duration = Duration::from_millis(4500);

/// The configuration of lookups. A new configuration gets a new resolver, so
/// that lookups under the old one cannot affect it.
pub(crate) struct Resolver {
    pub(crate) rules: Rules,
    /// Number of the configuration.
    generation: u64,
    upstreams: Upstreams,
    forwards: Vec<(Domain, Upstreams)>,
    /// Lookups in progress, and the other clients that wait for each.
    under_way: RefCell<HashMap<Question, Vec<Waiting>>>,
}

/// A client that waits, and its place.
type Waiting = (oneshot::Sender<Rc<Answer>>, Slot);

impl Resolver {
    pub(crate) fn new(config: &Config, generation: u64, resolvers: &Resolvers) -> Rc<Self> {
        let forwards = config.forwards.iter();
        let theirs = forwards.clone().flat_map(|forward| &forward.upstreams);
        resolvers.set(config.upstreams.iter().chain(theirs));
        let upstreams = |servers: &[Upstream]| {
            Upstreams::new(servers.to_vec(), config.trust.as_ref(), resolvers.clone())
        };
        Rc::new(Self {
            rules: config.rules.clone(),
            generation,
            upstreams: upstreams(&config.upstreams),
            forwards: forwards
                .map(|forward| (forward.domain.clone(), upstreams(&forward.upstreams)))
                .collect(),
            under_way: RefCell::default(),
        })
    }

    /// The answer of the lookup of this question, which may be in progress already. `slot` is held until
    /// its end.
    pub(crate) fn look_up(
        self: &Rc<Self>,
        question: &Question,
        slot: Slot,
        shared: &Arc<Shared>,
    ) -> oneshot::Receiver<Rc<Answer>> {
        let (sender, receiver) = oneshot::channel();
        if let Some(others) = self.under_way.borrow_mut().get_mut(question) {
            others.push((sender, slot));
            return receiver;
        }
        let first = vec![(sender, slot)];
        self.under_way.borrow_mut().insert(question.clone(), first);
        let (resolver, shared, question) = (Rc::clone(self), Arc::clone(shared), question.clone());
        spawn_local(async move {
            let begin = now();
            let answer = Rc::new(resolver.resolve(&question).await);
            shared.counters.lookups.add(now().saturating_since(begin));
            resolver.end(&question, &answer, &shared);
        });
        receiver
    }

    /// True if a lookup of this question is in progress.
    pub(crate) fn is_under_way(&self, question: &Question) -> bool {
        self.under_way.borrow().contains_key(question)
    }

    /// Caches the answer and sends it to all waiting clients.
    fn end(&self, question: &Question, answer: &Rc<Answer>, shared: &Shared) {
        if answer.is_failure() {
            let answers = shared.answers();
            if let Some(key) = question
                .key()
                .filter(|_| answers.generation == self.generation)
            {
                answers.cache.rest(&key, now());
            }
        } else {
            let mut answers = shared.answers_mut();
            if answers.generation == self.generation {
                answers.cache.keep(question, answer, now());
            }
        }
        let others = self.under_way.borrow_mut().remove(question);
        for (other, _slot) in others.unwrap_or_default() {
            let _ = other.send(Rc::clone(answer));
        }
    }

    /// Queries the upstream resolvers until there is an answer.
    async fn resolve(&self, question: &Question) -> Answer {
        let begin = now();
        let (mut lookup, mut next) = Lookup::start(&self.rules, question);
        loop {
            match next {
                Next::Done(answer) => return answer,
                Next::Ask(ask) => {
                    let left = PATIENCE.saturating_sub(now().saturating_since(begin));
                    let upstreams = self.upstreams_for(&ask);
                    let reply = upstreams.ask(&ask, patience(&ask, left)).await;
                    next = lookup.on_reply(&self.rules, reply);
                }
            }
        }
    }
}

impl Resolver {
    /// Who is asked about a name.
    fn upstreams_for(&self, ask: &Ask) -> &Upstreams {
        let domains = self.forwards.iter().map(|(domain, _)| domain);
        match Domain::smallest(domains, &ask.query.name) {
            Some(index) => &self.forwards[index].1,
            None => &self.upstreams,
        }
    }
}

/// The share of the remaining time for one query: half of it if a query for A records may follow
/// (RFC 6147 section 5.1.3).
fn patience(ask: &Ask, left: Duration) -> Duration {
    match ask.query.query_type {
        RecordType::AAAA => left / 2,
        _ => left,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;

    #[test]
    fn dn_05_all_questions_of_a_lookup_fit_into_the_clients_patience() {
        let ask = |kind| Ask {
            query: Query::query(Name::root(), kind),
            dnssec_ok: false,
            checking_disabled: false,
        };
        let mut left = PATIENCE;
        for kind in [RecordType::AAAA, RecordType::AAAA, RecordType::A] {
            let time = patience(&ask(kind), left);
            assert!(time >= Duration::from_secs(1), "{time:?} for {kind}");
            left -= time;
        }
        assert!(left.is_zero() && PATIENCE < Duration::from_secs(5));
    }
}
