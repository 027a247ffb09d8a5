//! plat.
fn main() {}
