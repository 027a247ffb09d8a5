//! The TCP state machine of RFC 6146 section 3.5.2.2, as a table.
//!
//! A session that is not in the table of sessions is in state CLOSED; what happens there depends
//! on bindings and filters and is decided in [`nat64`](crate::nat64). All other states are rows
//! here, all events columns, and each cell says what the session becomes and what its lifetime is
//! set to. Packets are sent on in every cell; only a stored SYN changes that.
//!
//! Five cells are not the RFC's. A SYN without ACK after the end of a connection is the first segment
//! of another one between the same endpoints, and begins the session anew (NC-14): the RFC would let
//! the new connection go on in the state of the old one and cut it 240 seconds after that one's end.
//! And a RST that answers a FIN ends a connection as it does without the FIN (NC-13): the RFC would
//! keep such a session for two hours.

use xlat_core::wire::tcp::{ACK, FIN, PSH, RST, SYN, URG};

/// State of a TCP session (RFC 6146 section 3.5.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TcpState {
    /// A SYN came from the IPv4 side.
    V4Init,
    /// A SYN came from the IPv6 side.
    V6Init,
    /// SYNs came from both sides.
    Established,
    /// The IPv4 side has sent a FIN.
    V4Fin,
    /// The IPv6 side has sent a FIN.
    V6Fin,
    /// Both sides have sent a FIN.
    V4V6Fin,
    /// A RST came, or the session was silent for its lifetime: it may go soon.
    Trans,
}

/// What happens to a TCP session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum TcpEvent {
    /// A SYN without ACK from the IPv6 side: the first segment of a connection.
    V6Syn,
    /// A SYN with ACK from the IPv6 side: the answer to one.
    V6SynAck,
    /// A SYN without ACK from the IPv4 side.
    V4Syn,
    /// A SYN with ACK from the IPv4 side.
    V4SynAck,
    /// A FIN from the IPv6 side.
    V6Fin,
    /// A FIN from the IPv4 side.
    V4Fin,
    /// A RST from either side.
    Rst,
    /// Any other segment.
    Other,
}

/// What a session's lifetime is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// It goes on as it is.
    Keep,
    /// The lifetime of an established connection (TCP_EST).
    Established,
    /// The lifetime of a transitory connection that is being set up (TCP_TRANS).
    Opening,
    /// The lifetime of a transitory connection that is going away (TCP_TRANS).
    Closing,
}

/// A cell of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    /// The state that follows.
    pub(crate) next: TcpState,
    /// The new lifetime.
    pub(crate) lifetime: Lifetime,
}

/// What the end of a session's lifetime means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtTimeout {
    /// The session goes.
    Remove,
    /// A probe asks whether the endpoint is still there, and the session becomes transitory.
    Probe,
}

impl TcpState {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::V4Init,
        Self::V6Init,
        Self::Established,
        Self::V4Fin,
        Self::V6Fin,
        Self::V4V6Fin,
        Self::Trans,
    ];

    /// What `event` does in this state.
    #[inline]
    pub(crate) const fn on(self, event: TcpEvent) -> Transition {
        TABLE[self as usize][event as usize]
    }

    /// What the end of the lifetime does in this state.
    #[inline]
    pub(crate) const fn at_timeout(self) -> AtTimeout {
        match self {
            Self::Established => AtTimeout::Probe,
            Self::V4Init
            | Self::V6Init
            | Self::V4Fin
            | Self::V6Fin
            | Self::V4V6Fin
            | Self::Trans => AtTimeout::Remove,
        }
    }

    /// The state's name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4Init => "v4-init",
            Self::V6Init => "v6-init",
            Self::Established => "established",
            Self::V4Fin => "v4-fin",
            Self::V6Fin => "v6-fin",
            Self::V4V6Fin => "v4-v6-fin",
            Self::Trans => "trans",
        }
    }
}

impl TcpEvent {
    /// The event that a segment with these flags from the IPv6 side is.
    #[inline]
    pub(crate) const fn from_v6(flags: u8) -> Self {
        Self::of(flags, [Self::V6Syn, Self::V6SynAck], Self::V6Fin)
    }

    /// The event that a segment with these flags from the IPv4 side is.
    #[inline]
    pub(crate) const fn from_v4(flags: u8) -> Self {
        Self::of(flags, [Self::V4Syn, Self::V4SynAck], Self::V4Fin)
    }

    /// True for a SYN, with or without ACK.
    #[inline]
    pub(crate) const fn is_syn(self) -> bool {
        matches!(
            self,
            Self::V6Syn | Self::V6SynAck | Self::V4Syn | Self::V4SynAck
        )
    }

    const fn of(flags: u8, syn: [Self; 2], fin: Self) -> Self {
        if flags & RST != 0 {
            Self::Rst
        } else if flags & FIN != 0 {
            fin
        } else if flags & SYN != 0 {
            syn[(flags & ACK != 0) as usize]
        } else {
            Self::Other
        }
    }
}

/// True for flags that no sane sender combines: SYN with FIN or RST, no flag at all, or the
/// Christmas tree. Such a segment must not open anything and is not worth a translation.
#[inline]
pub(crate) const fn is_insane(flags: u8) -> bool {
    let flags = flags & (FIN | SYN | RST | PSH | ACK | URG);
    flags == 0
        || (flags & SYN != 0 && flags & (FIN | RST) != 0)
        || (flags & (FIN | PSH | URG) == FIN | PSH | URG && flags & ACK == 0)
}

/// RFC 6146 section 3.5.2.2, one row per state in the order of [`TcpState`], one column per event
/// in the order of [`TcpEvent`].
const TABLE: [[Transition; 8]; 7] = {
    use Lifetime::{Closing, Established as Est, Keep, Opening};
    use TcpState::{Established, Trans, V4Fin, V4Init, V4V6Fin, V6Fin, V6Init};
    const fn to(next: TcpState, lifetime: Lifetime) -> Transition {
        Transition { next, lifetime }
    }
    #[rustfmt::skip]
    let table = [
        // V6 SYN, V6 SYN+ACK, V4 SYN, V4 SYN+ACK, V6 FIN, V4 FIN, RST, other.
        [to(Established, Est), to(Established, Est), to(V4Init, Keep), to(V4Init, Keep),
         to(V4Init, Keep), to(V4Init, Keep), to(V4Init, Keep), to(V4Init, Keep)],
        [to(V6Init, Opening), to(V6Init, Opening), to(Established, Est), to(Established, Est),
         to(V6Init, Keep), to(V6Init, Keep), to(V6Init, Keep), to(V6Init, Keep)],
        [to(Established, Est), to(Established, Est), to(Established, Est), to(Established, Est),
         to(V6Fin, Keep), to(V4Fin, Keep), to(Trans, Closing), to(Established, Est)],
        [to(V4Fin, Est), to(V4Fin, Est), to(V4Fin, Est), to(V4Fin, Est),
         to(V4V6Fin, Closing), to(V4Fin, Est), to(Trans, Closing), to(V4Fin, Est)],
        [to(V6Fin, Est), to(V6Fin, Est), to(V6Fin, Est), to(V6Fin, Est),
         to(V6Fin, Est), to(V4V6Fin, Closing), to(Trans, Closing), to(V6Fin, Est)],
        [to(V6Init, Opening), to(V4V6Fin, Keep), to(V4Init, Opening), to(V4V6Fin, Keep),
         to(V4V6Fin, Keep), to(V4V6Fin, Keep), to(V4V6Fin, Keep), to(V4V6Fin, Keep)],
        // A SYN from the IPv4 side revives as the RFC says: its source may be forged, like that of
        // the RST before it, and the client's next segment must find the connection.
        [to(V6Init, Opening), to(Established, Est), to(Established, Est), to(Established, Est),
         to(Established, Est), to(Established, Est), to(Trans, Keep), to(Established, Est)],
    ];
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6146 section 3.5.2.2 once more, in words, cell by cell: state, then for V6 SYN, V6
    /// SYN+ACK, V4 SYN, V4 SYN+ACK, V6 FIN, V4 FIN, RST and any other packet the next state and the
    /// lifetime. NC-13 and NC-14 have the five cells that differ.
    const WORDS: &str = "
        v4-init     established/est established/est - - - - - -
        v6-init     v6-init/opening v6-init/opening established/est established/est - - - -
        established established/est established/est established/est established/est v6-fin/- v4-fin/- trans/closing established/est
        v4-fin      v4-fin/est v4-fin/est v4-fin/est v4-fin/est v4-v6-fin/closing v4-fin/est trans/closing v4-fin/est
        v6-fin      v6-fin/est v6-fin/est v6-fin/est v6-fin/est v6-fin/est v4-v6-fin/closing trans/closing v6-fin/est
        v4-v6-fin   v6-init/opening - v4-init/opening - - - - -
        trans       v6-init/opening established/est established/est established/est established/est established/est - established/est
    ";

    #[test]
    fn nc_01_every_cell_of_the_table_is_as_the_rfc_says() {
        let rows: Vec<&str> = WORDS
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        assert_eq!(rows.len(), TcpState::ALL.len());
        for (state, row) in TcpState::ALL.into_iter().zip(rows) {
            let mut cells = row.split_whitespace();
            assert_eq!(cells.next(), Some(state.name()));
            let cells: Vec<&str> = cells.collect();
            assert_eq!(cells.len(), EVENTS.len());
            for (event, cell) in EVENTS.into_iter().zip(cells) {
                assert_eq!(
                    describe(state, state.on(event)),
                    cell,
                    "{state:?} {event:?}"
                );
            }
        }
    }

    #[test]
    fn nc_12_only_an_established_session_is_probed_at_its_end() {
        for state in TcpState::ALL {
            let probed = state.at_timeout() == AtTimeout::Probe;
            assert_eq!(probed, state == TcpState::Established, "{state:?}");
        }
    }

    #[test]
    fn flags_become_events_of_their_side() {
        assert_eq!(TcpEvent::from_v6(SYN), TcpEvent::V6Syn);
        assert_eq!(TcpEvent::from_v6(SYN | ACK), TcpEvent::V6SynAck);
        assert_eq!(TcpEvent::from_v4(SYN | PSH), TcpEvent::V4Syn);
        assert_eq!(TcpEvent::from_v4(SYN | ACK), TcpEvent::V4SynAck);
        assert_eq!(TcpEvent::from_v6(FIN | ACK), TcpEvent::V6Fin);
        assert_eq!(TcpEvent::from_v4(FIN | PSH | ACK), TcpEvent::V4Fin);
        assert_eq!(TcpEvent::from_v4(RST | ACK), TcpEvent::Rst);
        assert_eq!(TcpEvent::from_v6(RST | FIN), TcpEvent::Rst);
        assert_eq!(TcpEvent::from_v6(PSH | ACK), TcpEvent::Other);
    }

    #[test]
    fn nc_20_impossible_flags_are_told_from_possible_ones() {
        for flags in [
            0,
            SYN | FIN,
            SYN | RST,
            SYN | FIN | ACK,
            FIN | PSH | URG,
            0xc0,
        ] {
            assert!(is_insane(flags), "{flags:#x}");
        }
        for flags in [
            SYN,
            SYN | ACK,
            ACK,
            FIN | ACK,
            RST,
            RST | ACK,
            FIN | PSH | ACK | URG,
            FIN,
        ] {
            assert!(!is_insane(flags), "{flags:#x}");
        }
        assert!(!is_insane(SYN | 0xc0));
    }

    fn describe(state: TcpState, transition: Transition) -> String {
        let lifetime = match transition.lifetime {
            Lifetime::Keep => "-",
            Lifetime::Established => "est",
            Lifetime::Opening => "opening",
            Lifetime::Closing => "closing",
        };
        if transition.next == state && transition.lifetime == Lifetime::Keep {
            return "-".to_owned();
        }
        format!("{}/{lifetime}", transition.next.name())
    }

    const EVENTS: [TcpEvent; 8] = [
        TcpEvent::V6Syn,
        TcpEvent::V6SynAck,
        TcpEvent::V4Syn,
        TcpEvent::V4SynAck,
        TcpEvent::V6Fin,
        TcpEvent::V4Fin,
        TcpEvent::Rst,
        TcpEvent::Other,
    ];
}
