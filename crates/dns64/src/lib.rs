//! DNS64 (RFC 6147): IPv6 addresses for names that have only IPv4 ones.
//!
//! A [`Question`] is what a client asks. A [`Lookup`] finds the [`Answer`]: it says what is to be
//! asked of an upstream resolver and is told what came of it, until there is one. Each client gets
//! the answer in a message of its own. [`Rules`] are the administrator's choices, and a [`Cache`]
//! keeps answers for as long as they hold. Nothing here does input or output, reads a clock or makes
//! random numbers.
#![forbid(unsafe_code)]

mod answer;
mod cache;
mod chain;
mod ipv4only;
mod lookup;
mod ptr;
mod question;
mod rules;

pub use answer::{Answer, encode, payload_limit};
pub use cache::Cache;
pub use lookup::{Lookup, Next, Reply};
pub use question::{Ask, Question};
pub use rules::Rules;
