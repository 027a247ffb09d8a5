//! Counts advertisements and solicitations.

use xlat_tun::counters::{Metric, SharedCounter};

const MESSAGES: Metric = Metric::counter(
    "plat_router_messages_total",
    "Router advertisements that were sent, solicitations, and those that were ignored.",
);

xlat_tun::counters! {
    /// What is counted on all LANs together.
    cells Counters;
    /// The counters at one moment.
    values Figures;

    /// Advertisements that were sent.
    sent: SharedCounter => MESSAGES, "what=\"sent\"";
    /// Valid solicitations that were received.
    solicited: SharedCounter => MESSAGES, "what=\"solicited\"";
    /// Malformed solicitations.
    ignored: SharedCounter => MESSAGES, "what=\"ignored\"";
}
