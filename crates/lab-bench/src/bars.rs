//! What the project wants to reach, and whether it did.

use super::cases::{BOTH, KERNEL, STATEFUL, STATELESS, TAYGA, TWO_TAYGAS, WORKERS};
use super::figures::{
    ECHO_IDLE, PING_IDLE, PING_LOADED, Row, TCP_1_DOWN, TCP_1_UP, TCP_4_DOWN, TCP_4_UP,
    TCP_SESSIONS, UDP_64_DOWN, UDP_64_UP, UDP_1200_DOWN, UDP_1200_UP, UDP_SESSIONS, WAKEUPS,
};
use Wanted::{AtLeast, AtMost};

/// Bars of one case.
pub(crate) struct Bars {
    pub(crate) case: &'static str,
    /// The figures are divided by those of this case; without, they are taken as they are.
    pub(crate) to: Option<&'static str>,
    pub(crate) wanted: &'static [(Row, Wanted)],
}

/// How much is enough.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

impl Wanted {
    pub(crate) fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "at least {least}"),
            Self::AtMost(most) => write!(f, "at most {most}"),
        }
    }
}

/// All of them.
pub(crate) const ALL: &[Bars] = &[
    Bars {
        case: STATEFUL,
        to: Some(TAYGA),
        wanted: &[
            (TCP_1_DOWN.rate, AtLeast(3.5)),
            (TCP_1_UP.rate, AtLeast(3.5)),
            (TCP_4_DOWN.rate, AtLeast(5.0)),
            (TCP_4_UP.rate, AtLeast(5.0)),
            (UDP_64_DOWN.per_cpu, AtLeast(1.5)),
            (UDP_64_UP.per_cpu, AtLeast(1.5)),
            (UDP_1200_DOWN.per_cpu, AtLeast(2.0)),
            (UDP_1200_UP.per_cpu, AtLeast(2.0)),
            (PING_IDLE.median, AtMost(1.0)),
            (PING_LOADED.late, AtMost(1.0)),
        ],
    },
    Bars {
        case: STATEFUL,
        to: Some(KERNEL),
        wanted: GATEWAY,
    },
    Bars {
        case: STATELESS,
        to: Some(KERNEL),
        wanted: GATEWAY,
    },
    Bars {
        case: BOTH,
        to: Some(KERNEL),
        wanted: &[
            (TCP_1_DOWN.rate, AtLeast(0.7)),
            (TCP_1_UP.rate, AtLeast(0.7)),
            (TCP_4_DOWN.rate, AtLeast(0.7)),
            (TCP_4_UP.rate, AtLeast(0.7)),
            (UDP_64_DOWN.rate, AtLeast(0.45)),
            (UDP_64_UP.rate, AtLeast(0.45)),
            (ECHO_IDLE.median, AtMost(2.0)),
        ],
    },
    // Sessions that begin pay nothing for those that go on in the kernel.
    Bars {
        case: STATEFUL,
        to: Some(WORKERS),
        wanted: &[(TCP_SESSIONS, AtLeast(0.95)), (UDP_SESSIONS, AtLeast(0.95))],
    },
    Bars {
        case: WORKERS,
        to: Some(KERNEL),
        wanted: &[
            (TCP_1_DOWN.rate, AtLeast(0.5)),
            (TCP_1_UP.rate, AtLeast(0.5)),
        ],
    },
    Bars {
        case: BOTH,
        to: Some(TWO_TAYGAS),
        wanted: &[
            (TCP_1_DOWN.rate, AtLeast(4.0)),
            (TCP_1_UP.rate, AtLeast(4.0)),
            (TCP_4_DOWN.rate, AtLeast(4.0)),
            (TCP_4_UP.rate, AtLeast(4.0)),
        ],
    },
    Bars {
        case: STATEFUL,
        to: None,
        wanted: IDLE_WORKERS,
    },
    Bars {
        case: STATELESS,
        to: None,
        wanted: IDLE_WORKERS,
    },
    Bars {
        case: BOTH,
        to: None,
        wanted: IDLE_WORKERS,
    },
];

/// Of one translator, to the kernel's own forwarding.
const GATEWAY: &[(Row, Wanted)] = &[
    (TCP_1_DOWN.rate, AtLeast(0.85)),
    (TCP_1_UP.rate, AtLeast(0.85)),
    (TCP_4_DOWN.rate, AtLeast(0.8)),
    (TCP_4_UP.rate, AtLeast(0.8)),
    (UDP_64_DOWN.rate, AtLeast(0.65)),
    (UDP_64_UP.rate, AtLeast(0.65)),
    (ECHO_IDLE.median, AtMost(1.5)),
];

/// The kernel carries it, and without traffic nothing runs.
const IDLE_WORKERS: &[(Row, Wanted)] = &[
    (TCP_1_DOWN.cpu, AtMost(0.02)),
    (TCP_1_UP.cpu, AtMost(0.02)),
    (WAKEUPS, AtMost(0.0)),
];
