//! Addresses: prefixes of both families, RFC 6052 embedding, explicit mappings (RFC 7757) and the
//! special-purpose ranges.

mod eam;
mod pref64;
mod prefix;
pub mod special;
mod translatable;

pub use eam::{Eam, EamError, EamTable};
pub use pref64::{PREF64_LENGTHS, Pref64, Pref64Error, Pref64s};
pub use prefix::{Ipv4Prefix, Ipv6Prefix, PrefixError};
pub use translatable::{TranslatableError, translatable};
