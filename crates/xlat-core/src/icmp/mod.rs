//! ICMP errors: a message about a packet, with the beginning of that packet in it (RFC 7915
//! sections 4.2, 4.3, 5.2 and 5.3).
//!
//! Both directions go the same way: type and code by a table ([`v4_to_v6`], [`v6_to_v4`]), the
//! quoted packet like a packet of its own but for its hop limit ([`quoted`]), and the extension
//! structure behind it, whose length is counted in other units ([`extension`]).
//!
//! ```text
//! | outer IP header | type, code, checksum, rest | quoted IP header | quoted payload | extension |
//!        rewritten             table                   rewritten         stays          moved
//! ```

mod extension;
mod quoted;
pub(crate) mod v4_to_v6;
pub(crate) mod v6_to_v4;

use crate::checksum::Sum;
use crate::reason::DropReason;

/// The counterpart of an ICMP error in the other family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counterpart {
    icmp_type: u8,
    code: u8,
    rest: Rest,
}

/// What the four bytes behind the checksum hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Nothing, but for the length of the quoted packet where an extension follows (RFC 4884).
    Unused,
    /// An MTU that follows from the original.
    Mtu,
    /// A pointer to this byte of the quoted packet.
    Pointer(u8),
}

/// Checks the checksum of a whole message before it is replaced, so that no corrupt message
/// becomes a valid one.
fn verify(message: &[u8], pseudo: Sum) -> Result<(), DropReason> {
    if (pseudo + Sum::of(message)).folded() == 0xffff {
        Ok(())
    } else {
        Err(DropReason::IcmpChecksum)
    }
}
