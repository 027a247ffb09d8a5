//! What the caller must do with a packet that went through the translator.

use crate::reason::DropReason;
use crate::split::Split;

/// The end of a packet's journey through [`Translator::translate`](crate::Translator::translate).
///
/// The translator never writes packets; it returns what to write.
#[derive(Debug)]
#[must_use]
pub enum Verdict {
    /// The frame holds the translated packet: send it.
    Forward,
    /// The frame holds a translated packet that is too long for its way: take the pieces out of
    /// the [`Split`] one by one and send each before asking for the next.
    Split(Split),
    /// The frame holds an ICMP error (or an echo reply of our own) for the sender of the packet:
    /// send it. The packet itself is gone, for the reason given.
    Reply(DropReason),
    /// Send nothing; count the reason. The frame still holds the packet as it came, unless it was
    /// dropped in the second pass of a hairpin.
    Drop(DropReason),
    /// The mapper keeps a copy of the packet and will give it back later (a stateful mapper that
    /// waits for the first fragment): send nothing, count nothing.
    Held,
}
