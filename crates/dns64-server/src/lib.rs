//! A DNS64 server (RFC 6147) around the rules of the crate `dns64`.
//!
//! [`Server::start`] opens port 53 and serves clients according to a [`Config`], on a thread with a
//! runtime of its own, so that no query delays a packet. [`Server::update`] replaces the
//! configuration while queries are served, [`Server::status_source`] tells of them. [`ResolvConf`] has
//! the resolvers of the host.
//!
//! Inside, `datagrams` answers from the cache, on threads of its own, what clients ask over UDP within their `limits`;
//! `responder` has what is left, and their `connections`, `resolver` has the cache and the
//! lookups in progress, `upstreams` the order in which upstream resolvers are queried, and
//! `exchange` and `tls` one query to one of them. The feature `tls`, on by default, is DNS over TLS.

mod address;
mod config;
mod connections;
mod counters;
mod datagrams;
mod exchange;
mod limits;
mod resolv_conf;
mod resolver;
mod responder;
mod server;
mod shared;
mod sockets;
mod status;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod trust;
mod upstreams;
#[cfg(not(feature = "tls"))]
mod without_tls;

pub use config::{Config, Forward, Upstream};
pub use counters::Figures;
pub use exchange::{Probe, probe};
pub use resolv_conf::ResolvConf;
pub use server::{Error, PORT, Server};
pub use status::{ResolverStatus, StatusSource, WITHOUT_EDNS};
#[cfg(feature = "tls")]
pub use tls::ServerName;
#[cfg(feature = "tls")]
pub use trust::{Trust, TrustError};
#[cfg(not(feature = "tls"))]
pub use without_tls::{ServerName, Trust, TrustError};
