//! Clients and upstream resolvers as they are.

use lab::suite::Test;

pub(crate) const TESTS: &[Test] = lab::tests![];
