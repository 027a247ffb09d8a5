//! What `clat` says on the link for its address: neighbour discovery, forwarding, the guard.

use lab::suite::Test;

pub(crate) const TESTS: &[Test] = lab::tests![];
