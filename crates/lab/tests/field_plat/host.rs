//! What others do to the host `plat` runs on, and links that come late.

use lab::suite::Test;

pub(crate) const TESTS: &[Test] = lab::tests![];
