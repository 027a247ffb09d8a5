//! Lookups and the cache of their answers. Clients with equal questions at the same time share one
//! lookup.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use dns64::{Answer, Ask, Cache, Domain, Lookup, Next, Question, Rules};
use hickory_proto::rr::RecordType;
use tokio::sync::oneshot;
use xlat_tun::now;

use crate::config::{Config, Upstream};
use crate::status::Resolvers;
use crate::upstreams::Upstreams;

/// Maximum time of a lookup, less than the 5 seconds after which a stub resolver gives up.
const PATIENCE: Duration = Duration::from_millis(4500);

/// The configuration of lookups, and their answers. A new configuration gets a new resolver, so
/// that lookups under the old one cannot affect it.
pub(crate) struct Resolver {
    pub(crate) rules: Rules,
    pub(crate) cache: RefCell<Cache>,
    upstreams: Upstreams,
    forwards: Vec<(Domain, Upstreams)>,
    /// Lookups in progress, and the other clients that wait for each.
    under_way: RefCell<HashMap<Question, Vec<oneshot::Sender<Rc<Answer>>>>>,
}

impl Resolver {
    pub(crate) fn new(config: &Config, resolvers: &Resolvers) -> Rc<Self> {
        let forwards = config.forwards.iter();
        let theirs = forwards.clone().flat_map(|forward| &forward.upstreams);
        resolvers.set(config.upstreams.iter().chain(theirs));
        let upstreams = |servers: &[Upstream]| {
            Upstreams::new(servers.to_vec(), config.trust.as_ref(), resolvers.clone())
        };
        Rc::new(Self {
            rules: config.rules.clone(),
            upstreams: upstreams(&config.upstreams),
            forwards: forwards
                .map(|forward| (forward.domain.clone(), upstreams(&forward.upstreams)))
                .collect(),
            cache: RefCell::new(Cache::new(config.cache)),
            under_way: RefCell::default(),
        })
    }

    /// Joins a lookup in progress. If there is none, returns `None` and the caller must start it.
    pub(crate) fn join(&self, question: &Question) -> Option<oneshot::Receiver<Rc<Answer>>> {
        let mut under_way = self.under_way.borrow_mut();
        if let Some(others) = under_way.get_mut(question) {
            let (sender, receiver) = oneshot::channel();
            others.push(sender);
            return Some(receiver);
        }
        under_way.insert(question.clone(), Vec::new());
        None
    }

    /// Caches the answer and sends it to all waiting clients.
    pub(crate) fn end(&self, question: &Question, answer: &Rc<Answer>) {
        self.cache.borrow_mut().keep(question, answer, now());
        let others = self.under_way.borrow_mut().remove(question);
        for other in others.unwrap_or_default() {
            let _ = other.send(Rc::clone(answer));
        }
    }

    /// Queries the upstream resolvers until there is an answer.
    pub(crate) async fn resolve(&self, question: &Question) -> Answer {
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
