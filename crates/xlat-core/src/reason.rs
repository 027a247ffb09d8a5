//! Every reason why a packet ends here: one flat list that is counter, metric label and test
//! assertion at once. There is no catch-all, so nothing can be dropped without saying why.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet was not translated.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The reason's name in counters, metrics and logs.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

reasons! {
    // The frame itself.
    /// The frame has less than [`HEADROOM`](crate::frame::HEADROOM) bytes in front.
    NoHeadroom = "no-headroom",
    /// The offload header does not fit the packet (virtio-net: impossible start, size or kind).
    BadOffload = "bad-offload",
    /// The first nibble is neither 4 nor 6.
    BadVersion = "bad-version",

    // IPv4 header (RFC 1812 section 5.2.2, RFC 7915 section 4.1).
    /// Shorter than an IPv4 header, or than the header length it claims.
    Ipv4Truncated = "ipv4-truncated",
    /// The header length field is below 5 words.
    Ipv4HeaderLength = "ipv4-header-length",
    /// The total length field is below the header length or beyond the received bytes.
    Ipv4TotalLength = "ipv4-total-length",
    /// The header checksum is wrong.
    Ipv4HeaderChecksum = "ipv4-header-checksum",
    /// An option of length 0 or 1, or one that runs over the end of the header.
    Ipv4BadOption = "ipv4-bad-option",
    /// An unexpired source route option (RFC 7915 section 4.1).
    Ipv4SourceRoute = "ipv4-source-route",

    // IPv6 header and extension headers (RFC 8200, RFC 7915 section 5.1).
    /// Shorter than an IPv6 header.
    Ipv6Truncated = "ipv6-truncated",
    /// The payload length field runs beyond the received bytes.
    Ipv6PayloadLength = "ipv6-payload-length",
    /// Payload length 0 with a Hop-by-Hop header (RFC 2675).
    Ipv6Jumbogram = "ipv6-jumbogram",
    /// An extension header runs over the end of the packet.
    Ipv6ExtensionTruncated = "ipv6-extension-truncated",
    /// A Hop-by-Hop header that is not the first one (RFC 8200 section 4.1).
    Ipv6MisplacedHopByHop = "ipv6-misplaced-hop-by-hop",
    /// More extension headers than a sane packet has (RFC 8504 section 5.3).
    Ipv6ExtensionLimit = "ipv6-extension-limit",
    /// A Routing header with segments left (RFC 7915 section 5.1).
    Ipv6SegmentsLeft = "ipv6-segments-left",
    /// A second Fragment header.
    Ipv6SecondFragmentHeader = "ipv6-second-fragment-header",
    /// An extension header behind the Fragment header (RFC 7915 section 5.1.1).
    Ipv6ExtensionAfterFragment = "ipv6-extension-after-fragment",

    // Fragments.
    /// A fragmented ICMP message (RFC 7915 sections 4.2 and 5.2).
    FragmentedIcmp = "fragmented-icmp",
    /// A first fragment without its whole transport header, or a TCP fragment at offset 1
    /// (RFC 1858, RFC 3128, RFC 7112).
    FragmentTiny = "fragment-tiny",
    /// Offset plus length run beyond 65535 bytes.
    FragmentTooLong = "fragment-too-long",
    /// A fragment other than the last whose length is not a multiple of 8 (RFC 8200 section 4.5).
    FragmentLength = "fragment-length",
    /// A piece of a datagram whose first fragment was refused, or whose pieces overlap (RFC 5722).
    FragmentRefused = "fragment-refused",
    /// There is no room for another datagram in fragments.
    FragmentLimit = "fragment-limit",
    /// The rest of its datagram did not come in time.
    FragmentTimeout = "fragment-timeout",

    // Transport.
    /// The transport header is cut off.
    TransportTruncated = "transport-truncated",
    /// The UDP length is below 8 or beyond the packet.
    UdpLength = "udp-length",
    /// A UDP datagram without checksum that the policy (or its fragmentation) forbids to translate
    /// (RFC 7915 section 4.5).
    UdpZeroChecksum = "udp-zero-checksum",
    /// A protocol number that means something else in the other family.
    ForeignProtocol = "foreign-protocol",
    /// IGMP (RFC 7915 section 4.2).
    Igmp = "igmp",

    // ICMP (RFC 7915 sections 4.2 and 5.2).
    /// The ICMP message is cut off.
    IcmpTruncated = "icmp-truncated",
    /// The ICMP checksum is wrong.
    IcmpChecksum = "icmp-checksum",
    /// A type without a counterpart.
    IcmpType = "icmp-type",
    /// A code without a counterpart.
    IcmpCode = "icmp-code",
    /// A parameter problem that points at a field without a counterpart.
    IcmpPointer = "icmp-pointer",
    /// A length attribute beyond the message (RFC 4884).
    IcmpExtensionLength = "icmp-extension-length",
    /// The packet quoted in an error is cut off inside its IP header.
    QuotedTruncated = "quoted-truncated",
    /// The packet quoted in an error has an impossible IP header or a wrong header checksum.
    QuotedHeader = "quoted-header",
    /// The packet quoted in an error is itself an ICMP error, or of an ICMP type that has no
    /// counterpart.
    QuotedIcmp = "quoted-icmp",
    /// The packet quoted in an error has a protocol that never crosses.
    QuotedProtocol = "quoted-protocol",
    /// An address of the packet quoted in an error cannot be mapped.
    QuotedUnmapped = "quoted-unmapped",

    // Addresses.
    /// A source address that must never cross (RFC 7915 section 4.1, RFC 6890).
    IllegalSource = "illegal-source",
    /// A destination address that must never cross.
    IllegalDestination = "illegal-destination",
    /// A non-global IPv4 address through the well-known prefix (RFC 6052 section 3.1).
    WellKnownPrefix = "well-known-prefix",
    /// No mapping for the source.
    UnmappedSource = "unmapped-source",
    /// No mapping for the destination.
    UnmappedDestination = "unmapped-destination",
    /// The source of an IPv6 packet from the wire lies in a NAT64 prefix (RFC 6146 section 3.5).
    SourceInPref64 = "source-in-pref64",
    /// The packet is for the translator itself and nothing answers it.
    ForTranslator = "for-translator",

    // The way on.
    /// TTL or hop limit is used up.
    HopLimit = "hop-limit",
    /// Too big for the next hop, and may not be cut.
    TooBig = "too-big",
    /// Longer than the other family's length field can say.
    TooLong = "too-long",

    // State (stateful mappers).
    /// No free address or port is left in the pool.
    PoolExhausted = "pool-exhausted",
    /// A limit of the subscriber is reached.
    SubscriberLimit = "subscriber-limit",
    /// The table is full.
    TableFull = "table-full",
    /// The gateway is being drained, and takes no new subscribers.
    Draining = "draining",
    /// Nothing is bound to the destination.
    NoBinding = "no-binding",
    /// The filter admits no packets from this address (RFC 6146 section 3.5.1).
    Filtered = "filtered",
    /// There is no room for another SYN that waits for one of the client's.
    SynLimit = "syn-limit",
    /// The administrator denied this client or destination.
    Denied = "denied",
    /// The stateful translator does not carry this transport protocol (RFC 6146 section 3.4).
    UnsupportedProtocol = "unsupported-protocol",
    /// A TCP segment with an impossible combination of flags, or source port 0.
    BadTransport = "bad-transport",

    // Our own answers.
    /// Answered by the translator itself: an echo request to one of its addresses.
    EchoToTranslator = "echo-to-translator",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_list_and_names_are_unique() {
        for (number, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
            let same = DropReason::ALL
                .iter()
                .filter(|other| other.name() == reason.name());
            assert_eq!(same.count(), 1, "{}", reason.name());
        }
    }
}
