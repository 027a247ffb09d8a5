//! clat.
fn main() {}
