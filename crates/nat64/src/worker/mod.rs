//! A worker's half of the stateful NAT64 (RFC 6146): what its translator asks.
//!
//! A packet goes through the RFC's steps: its tuple is determined (section 3.4), filtering and
//! updating finds or makes its session (3.5), which says what the outgoing tuple is (3.6); the
//! translator rewrites the packet (3.7) and turns it round if it is a hairpin (3.8).

mod fragments;
mod mapper;
mod offers;
mod pending;
mod prefetch;
mod reassembly;
mod tuples;

use std::collections::VecDeque;
use std::sync::Arc;

use xlat_core::Instant;

use crate::fragments::Gone;
use crate::offload::Side;
use crate::shared::{Nat64, Shared, View};
use crate::tuple::ClientTuple;

use prefetch::Hints;

/// The mapper of one worker thread, over the table of a [`Nat64`]. Made by [`Nat64::worker`]; a
/// clone is another worker's.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    view: View,
    hints: Hints,
    /// Packets that were held and can be translated now.
    released: VecDeque<Box<[u8]>>,
    /// Fragments that were held and cannot.
    gone: Gone,
    /// The packet that [`poll_packet`](xlat_core::mapper::PacketHolder::poll_packet) lends out.
    lent: Vec<u8>,
    /// No look for probes before this.
    next_look: Instant,
    /// Sessions that are to be installed in the offload, and whose packets.
    offers: Vec<(ClientTuple, Side)>,
}

impl Nat64 {
    /// The mapper of another worker, which goes by the configuration in force.
    pub fn worker(&self) -> Worker {
        Worker::new(Arc::clone(&self.shared), self.view())
    }
}

impl Worker {
    fn new(shared: Arc<Shared>, view: View) -> Self {
        Self {
            shared,
            view,
            hints: Hints::default(),
            released: VecDeque::new(),
            gone: Gone::default(),
            lent: Vec::new(),
            next_look: Instant::ZERO,
            offers: Vec::new(),
        }
    }

    /// The table that all workers share.
    pub fn nat(&self) -> Nat64 {
        Nat64 {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Goes by another configuration from now on.
    pub fn adopt(&mut self, view: View) {
        self.offers.clear();
        self.view = view;
    }
}

impl Clone for Worker {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared), self.view.clone())
    }
}
