//! Addresses: prefixes of both families, RFC 6052 embedding, explicit mappings (RFC 7757) and the
//! special-purpose ranges.

mod prefix;

pub use prefix::{Ipv4Prefix, Ipv6Prefix, PrefixError};
