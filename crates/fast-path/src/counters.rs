//! What the program carried, and what it passed up, by reason.

use std::fmt;

use crate::layout::TrafficCells;

/// Packets and their bytes as they came, IP headers included. A super-packet is one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Why the program passed a packet up to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PassedUp {
    /// Neither a mapping nor an entry for it.
    Unknown,
    /// An entry of a past epoch.
    Stale,
    /// TCP SYN, FIN or RST.
    TcpFlags,
    /// A fragment.
    Fragment,
    /// IPv4 options or IPv6 extension headers.
    Options,
    /// Another protocol, or an ICMP message that is not an echo.
    Protocol,
    /// UDP without a checksum, or a checksum that someone else has to complete.
    Checksum,
    /// No hop is left.
    HopLimit,
    /// Longer than the path's MTU.
    TooBig,
    /// Truncated, lengths that contradict each other, a wrong header checksum.
    Malformed,
    /// A super-packet that the kernel cannot turn round (UDP).
    Offload,
    /// For the translator itself, or an address that does not cross.
    Address,
    /// The program is paused: a capture runs on the TUN, for example.
    Paused,
    /// The kernel refused a step.
    Kernel,
}

/// All reasons, in the order of the program's counters.
pub const PASSED_UP: [PassedUp; 14] = [
    PassedUp::Unknown,
    PassedUp::Stale,
    PassedUp::TcpFlags,
    PassedUp::Fragment,
    PassedUp::Options,
    PassedUp::Protocol,
    PassedUp::Checksum,
    PassedUp::HopLimit,
    PassedUp::TooBig,
    PassedUp::Malformed,
    PassedUp::Offload,
    PassedUp::Address,
    PassedUp::Paused,
    PassedUp::Kernel,
];

impl fmt::Display for PassedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Stale => "stale",
            Self::TcpFlags => "tcp-flags",
            Self::Fragment => "fragment",
            Self::Options => "options",
            Self::Protocol => "protocol",
            Self::Checksum => "checksum",
            Self::HopLimit => "hop-limit",
            Self::TooBig => "too-big",
            Self::Malformed => "malformed",
            Self::Offload => "offload",
            Self::Address => "address",
            Self::Paused => "paused",
            Self::Kernel => "kernel",
        })
    }
}

/// All counters since the program was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Carried from IPv6 to IPv4.
    pub v6_to_v4: Traffic,
    /// Carried from IPv4 to IPv6.
    pub v4_to_v6: Traffic,
    /// Given up in the middle, because the kernel had no memory for a step.
    pub lost: Traffic,
    passed_up: [Traffic; PASSED_UP.len()],
}

/// Counters of the program: three, and one for each reason.
pub(crate) const COUNTED: usize = 3 + PASSED_UP.len();

impl From<TrafficCells> for Traffic {
    fn from(cells: TrafficCells) -> Self {
        Self {
            packets: cells.packets,
            bytes: cells.bytes,
        }
    }
}

impl Counters {
    pub(crate) fn new(cells: &[TrafficCells; COUNTED]) -> Self {
        let [v6_to_v4, v4_to_v6, lost, passed_up @ ..] = cells.map(Traffic::from);
        Self {
            v6_to_v4,
            v4_to_v6,
            lost,
            passed_up,
        }
    }

    /// What was passed up for one reason.
    pub fn passed_up(&self, reason: PassedUp) -> Traffic {
        self.passed_up[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_reasons_is_in_their_order() {
        for (place, reason) in PASSED_UP.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{reason}");
        }
    }
}
