//! Sessions, packets and saved state as clients and crashes make them.

use lab::suite::Test;

pub(crate) const TESTS: &[Test] = lab::tests![];
