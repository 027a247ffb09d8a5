//! What threads are for.

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Translates packets between the queues of a TUN.
    Worker,
    /// Answers clients of the DNS64 and asks resolvers.
    Dns64,
    /// Serves the metrics page.
    Metrics,
    /// Writes the session log to a file or to syslog, and opens a new one.
    SessionLog,
    /// Notices that another thread was killed.
    Watch,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Worker,
        Self::Dns64,
        Self::Metrics,
        Self::SessionLog,
        Self::Watch,
    ];
}
