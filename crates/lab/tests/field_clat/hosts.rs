//! What others do to the host `clat` runs on: sysctls, routes, names, resolvers, other CLATs.

use lab::suite::Test;

pub(crate) const TESTS: &[Test] = lab::tests![];
