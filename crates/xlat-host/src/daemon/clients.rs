//! Connections of local clients, of which some are slow or silent on purpose.
//!
//! None of them makes another wait: each source has a few places, all together have some more, and
//! who comes when these are taken gets the place of the oldest, of its own source or of the one that
//! has most.

use tokio::task::AbortHandle;

/// The connections that are served.
#[derive(Debug)]
pub(super) struct Clients<S> {
    /// Oldest first.
    served: Vec<(S, AbortHandle)>,
    limits: Limits,
}

/// Most connections at the same time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) each_source: usize,
    pub(super) all: usize,
}

impl<S: PartialEq> Clients<S> {
    pub(super) fn new(limits: Limits) -> Self {
        let served = Vec::new();
        Self { served, limits }
    }

    /// Adds the connection that `task` serves, in the place of another one if none is free.
    pub(super) fn admit(&mut self, source: S, task: AbortHandle) {
        self.served.retain(|(_, task)| !task.is_finished());
        let leaves = if self.count(&source) >= self.limits.each_source {
            self.oldest(&source)
        } else if self.served.len() >= self.limits.all {
            self.oldest_of_most()
        } else {
            None
        };
        if let Some(at) = leaves {
            self.served.remove(at).1.abort();
        }
        self.served.push((source, task));
    }

    fn count(&self, source: &S) -> usize {
        self.served.iter().filter(|(of, _)| of == source).count()
    }

    fn oldest(&self, source: &S) -> Option<usize> {
        self.served.iter().position(|(of, _)| of == source)
    }

    fn oldest_of_most(&self) -> Option<usize> {
        let sources = self.served.iter().rev().map(|(source, _)| source);
        self.oldest(sources.max_by_key(|source| self.count(source))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn se_29_who_has_most_connections_makes_room() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        let limits = Limits {
            each_source: 3,
            all: 5,
        };
        let mut clients = Clients::new(limits);
        let mut admit = |source: char| {
            let task = runtime.spawn(std::future::pending::<()>());
            clients.admit(source, task.abort_handle());
            runtime.block_on(tokio::task::yield_now());
            clients
                .served
                .iter()
                .map(|(source, _)| *source)
                .collect::<String>()
        };
        for source in "aaa".chars() {
            admit(source);
        }
        // Its own oldest goes.
        assert_eq!(admit('a'), "aaa");
        assert_eq!((admit('b'), admit('c')), ("aaab".into(), "aaabc".into()));
        // The oldest of the source with most.
        assert_eq!((admit('d'), admit('b')), ("aabcd".into(), "abcdb".into()));
    }
}
