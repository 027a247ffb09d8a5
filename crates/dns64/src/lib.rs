//! DNS64 (RFC 6147): IPv6 addresses for names that have only IPv4 ones.
//!
//! A [`Lookup`] belongs to one query of a client. It says what is to be asked of an upstream
//! resolver and is told what came of it, until there is an answer. [`Rules`] are the administrator's
//! choices, and a [`Cache`] keeps answers for as long as they hold. Nothing here does input or
//! output, reads a clock or makes random numbers.
#![forbid(unsafe_code)]

mod cache;
mod ipv4only;
mod lookup;
mod ptr;
mod reply;
mod rules;

pub use cache::{Cache, Key};
pub use lookup::{Lookup, Next};
pub use reply::{Reply, encode, failure, payload_limit};
pub use rules::Rules;
