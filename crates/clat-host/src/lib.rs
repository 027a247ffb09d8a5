//! The host's side of a CLAT: a [`look`] at the host as [`xlat_proto::clat`] wants it, the workers'
//! [`ClatEngine`], and the [`Responder`] to neighbours that ask for the CLAT's address.

mod neighbours;
mod view;

pub use neighbours::{ClatEngine, Questions, Responder, ResponderError, questions};
pub use view::{Wanted, ipv4_addresses, look};
