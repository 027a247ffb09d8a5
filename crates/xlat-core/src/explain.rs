//! What a reason for a drop means to an operator, and what to do.

use crate::reason::DropReason;

/// What a reason means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What has happened.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Where there is nothing to do.
const NOTHING: &str = "nothing: it is harmless";
/// Of packets that no correct host sends.
const SENDER: &str =
    "find the sender (`tcpdump -ni` on the TUN) if there are many: it is broken, or an attacker";

impl DropReason {
    /// What it means, and what to do.
    pub const fn explain(self) -> Explanation {
        let (meaning, remedy) = match self {
            Self::NoHeadroom => ("an internal bug", "please report it"),
            Self::BadOffload => (
                "a virtio-net header that does not fit its packet",
                "please report it, with the kernel's version",
            ),
            Self::BadVersion => ("neither IPv4 nor IPv6", SENDER),
            Self::Ipv4Truncated
            | Self::Ipv4HeaderLength
            | Self::Ipv4TotalLength
            | Self::Ipv4HeaderChecksum
            | Self::Ipv4BadOption => ("a broken IPv4 header", SENDER),
            Self::Ipv4SourceRoute => (
                "a source route option with hops left; the sender gets an ICMP error",
                "nothing: such packets must not pass (RFC 7915 section 4.1)",
            ),
            Self::Ipv6Truncated
            | Self::Ipv6PayloadLength
            | Self::Ipv6Jumbogram
            | Self::Ipv6ExtensionTruncated
            | Self::Ipv6MisplacedHopByHop
            | Self::Ipv6ExtensionLimit => ("a broken IPv6 header chain", SENDER),
            Self::Ipv6SegmentsLeft => (
                "a Routing header with segments left; the sender gets an ICMP error",
                "nothing: such packets must not pass (RFC 7915 section 5.1)",
            ),
            Self::Ipv6SecondFragmentHeader | Self::Ipv6ExtensionAfterFragment => (
                "a header chain that could hide the transport protocol",
                SENDER,
            ),
            Self::FragmentedIcmp => (
                "an ICMP message in fragments, usually a large ping, which cannot be translated without a shared pool",
                "ping with less than the MTU; a `plat` with `--pool` puts such messages together",
            ),
            Self::FragmentTiny | Self::FragmentTooLong | Self::FragmentLength => {
                ("fragments that only an attacker sends", SENDER)
            }
            Self::FragmentRefused => (
                "the rest of a datagram whose first fragment was refused, or whose fragments overlap",
                "look for the reason of the first fragment among the others",
            ),
            Self::FragmentLimit => (
                "too many incomplete datagrams, of one source or in total",
                "find out whether it is a flood; otherwise raise `--fragment-memory`",
            ),
            Self::FragmentTimeout => (
                "the rest of a datagram did not arrive within `--fragment-timeout`; if it was to be reassembled here, the sender gets an ICMP error",
                "a few are normal; with many, look for loss on the path, or a firewall that drops fragments",
            ),
            Self::TransportTruncated | Self::UdpLength => ("a broken TCP or UDP header", SENDER),
            Self::UdpZeroChecksum => (
                "a UDP datagram without checksum, often of a tunnel (VXLAN, LISP)",
                "switch the checksums of the tunnel on, or use `--udp-zero-checksum` at stateless translators",
            ),
            Self::ForeignProtocol => (
                "a protocol number that means something else in the other family",
                SENDER,
            ),
            Self::Igmp => ("IGMP, which has no counterpart", NOTHING),
            Self::IcmpTruncated | Self::IcmpChecksum | Self::IcmpExtensionLength => {
                ("a broken ICMP message", SENDER)
            }
            Self::IcmpType | Self::IcmpCode | Self::IcmpPointer => (
                "ICMP without a counterpart, neighbour discovery on the TUN among it",
                NOTHING,
            ),
            Self::QuotedTruncated
            | Self::QuotedHeader
            | Self::QuotedIcmp
            | Self::QuotedProtocol
            | Self::QuotedUnmapped => (
                "an ICMP error about a packet that this translator cannot have sent",
                "a few are normal, after sessions have ended; many are an attack on connections",
            ),
            Self::IllegalSource | Self::IllegalDestination => (
                "an address that must not be forwarded",
                "a few at startup are the kernel's own on the TUN; with more, find the sender (`tcpdump -ni` on the TUN)",
            ),
            Self::WellKnownPrefix => (
                "a private IPv4 address in 64:ff9b::/96 (RFC 6052 section 3.1)",
                "use another prefix, or `--wkp-strict off`",
            ),
            Self::UnmappedSource => (
                "a source without a mapping: for `clat` a packet from outside the prefix, for `plat` a host without map or pool",
                "check that both ends have the same NAT64 prefix, and `--client` of `plat`",
            ),
            Self::UnmappedDestination => (
                "a destination that is neither mapped nor in the prefix; for `plat` also one that would be translated straight back into the prefix",
                "check the routes to the TUN, and that both ends have the same NAT64 prefix",
            ),
            Self::SourceInPref64 => (
                "the source address is in the NAT64 prefix: it is forged, or packets go in a loop",
                "look for a second translator or a route that leads packets back (`tcpdump -ni` on the TUN)",
            ),
            Self::ForTranslator => (
                "a packet other than an echo request for the translator's own address",
                "nothing, unless somebody was told to use this address",
            ),
            Self::HopLimit => (
                "the hop limit is used up: traceroute, or a loop",
                "with many, follow the route (`traceroute`) and look for a loop",
            ),
            Self::TooBig => (
                "larger than the path MTU; the sender gets an ICMP error (path MTU discovery)",
                "nothing; where connections hang, a firewall drops the errors: `--mss-clamp 1200` helps TCP",
            ),
            Self::TooLong => (
                "too long for the other address family",
                "nothing: only packets of nearly 65535 bytes are",
            ),
            Self::PoolExhausted => (
                "no free address or port in the pool",
                "enlarge the pool (`--pool`, `--dynamic-pool`); `plat status` names who has most",
            ),
            Self::SubscriberLimit => (
                "a subscriber has reached a limit",
                "`plat status` names who has most; raise `--subscriber-sessions`, `--subscriber-ports` or `--subscriber-rate` if it is right",
            ),
            Self::TableFull => (
                "there are as many sessions as there may be",
                "raise `--max-sessions`, or bound each subscriber (`--subscriber-sessions`)",
            ),
            Self::Draining => (
                "the gateway is being drained (`plat drain`), and the subscriber had no session",
                "nothing: other gateways serve it; `plat resume` ends the drain",
            ),
            Self::SynLimit => (
                "too many SYNs from outside wait for the client's own",
                "nothing, if it is a flood; `--store-syns off` keeps none",
            ),
            Self::NoBinding => (
                "no client has the destination address and port",
                "a few are normal: scans, and replies to sessions that have ended; to be reached from outside takes `--bind` or PCP",
            ),
            Self::Filtered => (
                "the client has not sent to this address, and `--filtering` admits only those",
                "nothing; `--filtering endpoint-independent` admits all",
            ),
            Self::Denied => (
                "`--deny` or `--client` refuses it",
                "nothing, if it is meant; otherwise add the client's prefix to `--client`",
            ),
            Self::UnsupportedProtocol => (
                "neither TCP, UDP nor ICMP, which is all that a shared pool carries (RFC 6146 section 3.4)",
                "give the host an address of its own (`--map`), or tunnel over UDP",
            ),
            Self::BadTransport => (
                "a TCP segment with an impossible combination of flags, or source port 0",
                SENDER,
            ),
            Self::EchoToTranslator => (
                "no drop: a ping to the translator that it answered",
                NOTHING,
            ),
        };
        Explanation { meaning, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ui_07_each_reason_says_what_it_means_and_what_to_do() {
        for reason in DropReason::ALL {
            let Explanation { meaning, remedy } = reason.explain();
            for text in [meaning, remedy] {
                assert!(text.len() > 10, "{}", reason.name());
                assert!(!text.contains('|') && !text.ends_with('.'), "{text}");
            }
        }
    }
}
