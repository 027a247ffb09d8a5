//! Stateless address policies.

mod clat;
mod guarded;
mod shared_address;
mod siit;

pub use clat::Clat;
pub use guarded::Guarded;
pub use shared_address::SharedAddress;
pub use siit::{Hairpin, Siit};

use crate::mapper::{Refusal, Unreachable};
use crate::reason::DropReason;

/// Refuses a packet whose addresses cannot be mapped (RFC 7915 sections 4.4 and 5.4). What is
/// illegal to begin with gets no answer.
fn prohibited(reason: DropReason) -> Refusal {
    match reason {
        DropReason::IllegalSource | DropReason::SourceInPref64 => Refusal::Silent(reason),
        _ => Refusal::Answer(reason, Unreachable::Prohibited),
    }
}

/// Refuses an ICMP error because of what it quotes (RFC 7915 section 4.3): always silently.
fn quoted(_: DropReason) -> Refusal {
    Refusal::Silent(DropReason::QuotedUnmapped)
}
