//! Which uplink, router and prefix `clat` takes where several offer themselves.

use lab::suite::Test;

pub(crate) const TESTS: &[Test] = lab::tests![];
