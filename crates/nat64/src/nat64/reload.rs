//! Another configuration for a NAT64 that runs.
//!
//! What can be changed is what sessions do not hang on: lifetimes from now on, limits, who is
//! served, what is denied, and the administrator's bindings. Pool, shards and sizes stay. Nothing
//! changes unless everything can.

use std::sync::{Arc, MutexGuard};

use xlat_core::Instant;
use xlat_core::addr::Ipv6Prefix;

use super::{Nat64, lock, rules};
use crate::bib::{Inside, Outside, Standing};
use crate::clock::Tick;
use crate::config::{Config, ConfigError, Destination, StaticBinding};
use crate::layout::Layout;
use crate::pool::Place;
use crate::shard::Shard;

/// What a worker looks at without a lock: it has its own hold on it.
#[derive(Clone, Debug)]
pub struct View(pub(super) Arc<Facts>);

/// Who is where, and who is served.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) layout: Layout,
    pub(super) clients: Vec<Ipv6Prefix>,
    pub(super) denied: Vec<Destination>,
}

/// Why another configuration is not taken up. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// It makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It changes what sessions hang on.
    #[error("another {0} takes a restart")]
    Fixed(&'static str),
    /// Somebody has one of the transport addresses of a new static binding, or had it a moment ago.
    #[error("one of the addresses of the static binding {0:?} is in use")]
    Taken(StaticBinding),
}

impl View {
    pub(super) fn new(config: &Config, layout: Layout) -> Self {
        Self(Arc::new(Facts {
            layout,
            clients: config.clients.clone(),
            denied: config.denied.clone(),
        }))
    }
}

/// The static bindings that come and go.
struct Bindings {
    gone: Vec<StaticBinding>,
    new: Vec<StaticBinding>,
}

impl Nat64 {
    /// Takes up another configuration, and returns what each worker's clone has to
    /// [`adopt`](Self::adopt). Sessions stay, but for those of static bindings that go.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub fn reconfigure(&self, config: Config, now: Instant) -> Result<View, ReloadError> {
        config.validate()?;
        let mut current = lock(&self.shared.current);
        check_fixed(&current, &config)?;
        let bindings = Bindings::between(&current, &config);
        self.claim(&bindings, &config, now)?;
        let deterministic = self.view.0.layout.deterministic().cloned();
        for shard in &self.shared.shards {
            lock(shard).set_rules(rules(&config, deterministic.clone()));
        }
        // What goes is closed first, so that nothing begins on it while it is withdrawn.
        for binding in &bindings.gone {
            self.shard_of(binding)
                .set_standing(binding.inside(), Standing::Closed);
        }
        for binding in &bindings.gone {
            self.withdraw(binding, now);
            let successor = bindings.new.iter();
            let successor = successor
                .into_iter()
                .find(|new| new.inside() == binding.inside());
            self.shard_of(binding).replace(binding.inside(), successor);
        }
        let is_moved = |gone: &&StaticBinding| !bindings.has_new(gone.outside());
        for binding in bindings.gone.iter().filter(is_moved) {
            self.free_port(binding.outside(), &config, now);
        }
        for binding in &bindings.new {
            self.shard_of(binding)
                .set_standing(binding.inside(), Standing::Static);
        }
        let layout = Layout::new(&config, deterministic, self.shared.key);
        let view = View::new(&config, layout);
        *current = config;
        Ok(view)
    }

    /// Makes this clone follow a new configuration.
    pub fn adopt(&mut self, view: View) {
        self.view = view;
    }

    /// Takes the ports of new bindings out of the pool and puts the bindings into the tables, closed;
    /// all or none. One in place of a binding that goes, with the same client's side, comes later.
    fn claim(&self, bindings: &Bindings, config: &Config, now: Instant) -> Result<(), ReloadError> {
        for (count, binding) in bindings.new.iter().enumerate() {
            let is_moved = bindings.has_gone(binding.outside());
            let is_ours = is_moved || self.take_port(binding.outside(), config);
            if is_ours && self.put_in(binding, bindings) {
                continue;
            }
            if is_ours && !is_moved {
                self.free_port(binding.outside(), config, now);
            }
            for claimed in &bindings.new[..count] {
                if !bindings.replaces(claimed) {
                    self.shard_of(claimed).replace(claimed.inside(), None);
                }
                if !bindings.has_gone(claimed.outside()) {
                    self.free_port(claimed.outside(), config, now);
                }
            }
            return Err(ReloadError::Taken(*binding));
        }
        Ok(())
    }

    /// Puts a new binding into its table, closed; false if a binding that does not go stands in the
    /// way.
    fn put_in(&self, binding: &StaticBinding, bindings: &Bindings) -> bool {
        let mut shard = self.shard_of(binding);
        let goes = |inside: Inside, outside: Outside| {
            let mut gone = bindings.gone.iter();
            gone.any(|one| one.inside() == inside && one.outside() == outside)
        };
        let is_free = shard
            .in_the_way(binding)
            .all(|other| goes(other.inside(), other.outside()));
        is_free && (bindings.replaces(binding) || shard.announce(binding))
    }

    fn shard_of(&self, binding: &StaticBinding) -> MutexGuard<'_, Shard> {
        let number = self.view.0.layout.shard_of_client(binding.client);
        lock(&self.shared.shards[number as usize])
    }

    /// The place of an external transport address in the pool; `None` if it is not handed out.
    fn place(&self, outside: Outside, config: &Config) -> Option<(u32, Place)> {
        let layout = &self.view.0.layout;
        let number = layout.owner_of(outside, config)?;
        let shard = lock(&self.shared.shards[number as usize]);
        Some((number, shard.place(outside)?))
    }

    fn take_port(&self, outside: Outside, config: &Config) -> bool {
        match self.place(outside, config) {
            Some((number, place)) => lock(&self.shared.shards[number as usize]).reserve(place),
            None => true,
        }
    }

    fn free_port(&self, outside: Outside, config: &Config, now: Instant) {
        if let Some((number, place)) = self.place(outside, config) {
            lock(&self.shared.shards[number as usize]).unreserve(place, Tick::at(now));
        }
    }

    /// Ends the sessions of a closed binding, a few at a time.
    fn withdraw(&self, binding: &StaticBinding, now: Instant) {
        let mut next = Some(0);
        while let Some(start) = next {
            next = self
                .shard_of(binding)
                .withdraw(binding.inside(), start, now);
        }
    }
}

impl Bindings {
    fn between(old: &Config, new: &Config) -> Self {
        let without = |these: &[StaticBinding], those: &[StaticBinding]| {
            let these = these.iter().filter(|one| !those.contains(one));
            these.copied().collect()
        };
        Self {
            gone: without(&old.bindings, &new.bindings),
            new: without(&new.bindings, &old.bindings),
        }
    }

    fn has_new(&self, outside: Outside) -> bool {
        self.new.iter().any(|one| one.outside() == outside)
    }

    fn has_gone(&self, outside: Outside) -> bool {
        self.gone.iter().any(|one| one.outside() == outside)
    }

    /// True if a new binding has the client's side of one that goes.
    fn replaces(&self, new: &StaticBinding) -> bool {
        self.gone.iter().any(|one| one.inside() == new.inside())
    }
}

fn check_fixed(old: &Config, new: &Config) -> Result<(), ReloadError> {
    let fixed = [
        ("pool", old.pool == new.pool),
        ("number of shards", old.shards == new.shards),
        (
            "way of handing out ports",
            old.ports.deterministic == new.ports.deterministic,
        ),
        (
            "client, where ports follow from it,",
            !old.ports.deterministic || old.clients == new.clients,
        ),
        ("filtering", old.filtering == new.filtering),
        (
            "size of blocks",
            old.ports.blocks.map(|one| one.size) == new.ports.blocks.map(|one| one.size),
        ),
        (
            "number of sessions",
            old.limits.sessions == new.limits.sessions,
        ),
        (
            "subscriber prefix",
            old.limits.subscriber_prefix == new.limits.subscriber_prefix,
        ),
        (
            "fragment timeout",
            old.timers.fragment == new.timers.fragment,
        ),
        (
            "fragment memory",
            old.limits.fragment_memory == new.limits.fragment_memory,
        ),
    ];
    match fixed.into_iter().find(|(_, is_same)| !is_same) {
        Some((what, _)) => Err(ReloadError::Fixed(what)),
        None => Ok(()),
    }
}
