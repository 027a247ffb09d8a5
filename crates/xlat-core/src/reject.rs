//! "This packet ends here": the error type inside the pipeline, which the translator turns into a
//! [`Verdict`](crate::Verdict).

use crate::mapper::{Refusal, Unreachable};
use crate::reason::DropReason;

/// Why a packet is dropped, and whether its sender gets an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reject {
    /// Without telling the sender.
    Silent(DropReason),
    /// The sender gets an answer, if policy, rate limit and the rules for ICMP errors allow it.
    Respond(DropReason, Response),
    /// The mapper has kept a copy until it can decide.
    Held,
}

/// The message that the sender of a packet gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    /// Hop limit exceeded in transit: ICMPv6 3/0, ICMPv4 11/0.
    TimeExceeded,
    /// The packet does not fit; the next one must not be longer than this many bytes: ICMPv6 2/0,
    /// ICMPv4 3/4.
    TooBig { mtu: u16 },
    /// ICMPv6 type 1, ICMPv4 type 3.
    Unreachable(Unreachable),
    /// The fragments of a datagram did not come in time: ICMPv6 3/1, ICMPv4 11/1.
    ReassemblyTimeout,
    /// ICMPv4 3/5 (IPv4 only).
    SourceRouteFailed,
    /// ICMPv6 4/0 with this pointer (IPv6 only).
    ErroneousField { pointer: u32 },
    /// An answer to an echo request for the translator itself.
    EchoReply,
}

impl From<DropReason> for Reject {
    #[inline]
    fn from(reason: DropReason) -> Self {
        Self::Silent(reason)
    }
}

impl From<Refusal> for Reject {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Silent(reason) => Self::Silent(reason),
            Refusal::Answer(reason, unreachable) => {
                Self::Respond(reason, Response::Unreachable(unreachable))
            }
            // Only a packet can be held, and `Translator` does that.
            Refusal::Hold => Self::Silent(DropReason::TableFull),
        }
    }
}
