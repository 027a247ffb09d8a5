//! Another configuration for a NAT64 that runs.
//!
//! What can be changed is what sessions do not hang on: lifetimes from now on, limits, who is
//! served, what is denied, and the administrator's bindings. Pool, shards and sizes stay. Nothing
//! changes unless everything can.

use std::sync::{Arc, MutexGuard};

use xlat_core::Instant;

use super::{Current, Nat64, Shared, View, lock, rules};
use crate::clock::Tick;
use crate::config::{Config, ConfigError, StaticBinding};
use crate::ports::pool::PoolPort;
use crate::shard::Shard;
use crate::shard::layout::Layout;
use crate::table::bib::BindingState;
use crate::tuple::{Inside, Outside};

/// Why a configuration is refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// It makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It changes what sessions depend on.
    #[error("a changed {0} needs a restart")]
    Fixed(&'static str),
    /// Somebody has one of the transport addresses of a new static binding, or had it a moment ago.
    #[error("one of the addresses of the static binding {0:?} is in use")]
    Taken(StaticBinding),
}

/// The static bindings that come and go.
struct Bindings {
    gone: Vec<StaticBinding>,
    new: Vec<StaticBinding>,
}

impl Nat64 {
    /// Takes up another configuration, and returns what each worker has to
    /// [`adopt`](crate::Worker::adopt). Sessions stay, but for those of static bindings that go.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub fn reconfigure(&self, config: Config, now: Instant) -> Result<View, ReloadError> {
        config.validate()?;
        let mut current = lock(&self.shared.current);
        check_fixed(&current.config, &config)?;
        let change = Change {
            shared: &self.shared,
            view: &current.view,
            config: &config,
            bindings: Bindings::between(&current.config, &config),
            now,
        };
        change.claim()?;
        let epoch = current.view.epoch.wrapping_add(1);
        self.begin_epoch(epoch);
        let deterministic = current.view.layout.deterministic().cloned();
        for shard in &self.shared.shards {
            lock(shard).set_rules(rules(&config, deterministic.clone()));
        }
        change.carry_out();
        let layout = Layout::new(&config, deterministic, self.shared.key);
        let view = View::new(&config, layout, current.view.outer, epoch);
        *current = Current {
            config: Arc::new(config),
            view: view.clone(),
        };
        Ok(view)
    }
}

/// The way from the configuration in force to another one.
struct Change<'a> {
    shared: &'a Shared,
    view: &'a View,
    config: &'a Config,
    bindings: Bindings,
    now: Instant,
}

impl Change<'_> {
    /// Takes the ports of new bindings out of the pool and puts the bindings into the tables,
    /// closed; all or none. One in place of a binding that goes, with the same client's side, comes
    /// later.
    fn claim(&self) -> Result<(), ReloadError> {
        for (count, binding) in self.bindings.new.iter().enumerate() {
            let is_moved = self.bindings.has_gone(binding.outside());
            let is_ours = is_moved || self.take_port(binding.outside());
            if is_ours && self.put_in(binding) {
                continue;
            }
            if is_ours && !is_moved {
                self.free_port(binding.outside());
            }
            for claimed in &self.bindings.new[..count] {
                if !self.bindings.replaces(claimed) {
                    self.shard_of(claimed).replace(claimed.inside(), None);
                }
                if !self.bindings.has_gone(claimed.outside()) {
                    self.free_port(claimed.outside());
                }
            }
            return Err(ReloadError::Taken(*binding));
        }
        Ok(())
    }

    /// Puts a new binding into its table, closed; false if a binding that does not go stands in the
    /// way.
    fn put_in(&self, binding: &StaticBinding) -> bool {
        let mut shard = self.shard_of(binding);
        let goes = |inside: Inside, outside: Outside| {
            let mut gone = self.bindings.gone.iter();
            gone.any(|one| one.inside() == inside && one.outside() == outside)
        };
        let is_free = shard
            .in_the_way(binding)
            .all(|other| goes(other.inside(), other.outside()));
        is_free && (self.bindings.replaces(binding) || shard.announce(binding))
    }

    fn shard_of(&self, binding: &StaticBinding) -> MutexGuard<'_, Shard> {
        let number = self.view.layout.shard_of_client(binding.client);
        lock(&self.shared.shards[number as usize])
    }

    /// The place of an external transport address in the pool; `None` if it is not handed out.
    fn place(&self, outside: Outside) -> Option<(u32, PoolPort)> {
        let layout = &self.view.layout;
        let number = layout.owner_of(outside, self.config)?;
        let shard = lock(&self.shared.shards[number as usize]);
        Some((number, shard.place(outside)?))
    }

    fn take_port(&self, outside: Outside) -> bool {
        match self.place(outside) {
            Some((number, place)) => lock(&self.shared.shards[number as usize]).reserve(place),
            None => true,
        }
    }

    fn free_port(&self, outside: Outside) {
        if let Some((number, place)) = self.place(outside) {
            lock(&self.shared.shards[number as usize]).unreserve(place, Tick::at(self.now));
        }
    }

    /// Ends the sessions of a closed binding, a few at a time.
    fn withdraw(&self, binding: &StaticBinding) {
        let mut next = Some(0);
        while let Some(start) = next {
            next = self
                .shard_of(binding)
                .withdraw(binding.inside(), start, self.now);
        }
    }

    /// Withdraws the bindings that go, and opens the new ones.
    fn carry_out(&self) {
        let Bindings { gone, new } = &self.bindings;
        // What goes is closed first, so that nothing begins on it while it is withdrawn.
        for binding in gone {
            self.shard_of(binding)
                .set_binding_state(binding.inside(), BindingState::Closed);
        }
        for binding in gone {
            self.withdraw(binding);
            let successor = new.iter().find(|new| new.inside() == binding.inside());
            self.shard_of(binding).replace(binding.inside(), successor);
        }
        for binding in gone {
            if !self.bindings.has_new(binding.outside()) {
                self.free_port(binding.outside());
            }
        }
        for binding in new {
            self.shard_of(binding)
                .set_binding_state(binding.inside(), BindingState::Static);
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
            "subscriber network",
            old.limits.network_prefix == new.limits.network_prefix,
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
