//! External addresses and ports: which there are, which are free, and whose they are.

pub(crate) mod deterministic;
pub(crate) mod pool;
pub(crate) mod pool_spec;
pub(crate) mod port_set;
