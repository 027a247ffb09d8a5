//! Finds the NAT64 prefix of a link.
//!
//! [`LinkDiscovery`] asks the routers (RFC 8781) and the DNS servers (RFC 7050) of a link, and probes
//! prefixes; what their answers mean is decided in [`xlat_proto::discovery`], without I/O. A
//! [`RouterListener`] hears the routers of all links from the start, so that the advertisement which
//! brings IPv6 to the host is not missed.

mod intake;
mod link;
mod pcp;
mod query;
mod resolvers;
mod router_listener;
mod survey;

pub use link::{LinkDiscovery, ListenError, Trust, log_change};
pub use router_listener::RouterListener;
pub use survey::{Survey, survey};
