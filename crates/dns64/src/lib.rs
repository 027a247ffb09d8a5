//! DNS64 (RFC 6147): IPv6 addresses for names that have only IPv4 ones.
//!
//! A client sends a [`Question`]. A [`Lookup`] finds the [`Answer`]: it returns queries for an
//! upstream resolver and takes their results until the answer is complete. Each client gets the
//! answer in a message of its own. [`read`] parses messages, and [`EdnsSupport`] remembers which
//! resolvers have no EDNS. [`Rules`] are the administrator's choices, and a [`Cache`]
//! stores answers until they expire. The crate does no I/O, reads no clock and draws no random numbers.
#![forbid(unsafe_code)]

mod answer;
mod asked;
mod cache;
mod chain;
mod ddr;
mod domain;
mod edns;
mod encoded;
mod ipv4only;
mod local;
mod lookup;
mod ptr;
mod question;
mod rules;
mod wire;

pub use answer::{Answer, encode, payload_limit};
pub use asked::{Asked, Key};
pub use cache::{Cache, Found};
pub use domain::{Domain, Domains};
pub use edns::{EdnsSupport, Sent, refuses_opt};
pub use encoded::Age;
pub use local::{HostsError, LocalAddress, LocalRecords};
pub use lookup::{Lookup, Next, Reply};
pub use question::{Ask, Question};
pub use rules::Rules;
pub use wire::{Malformed, read};
