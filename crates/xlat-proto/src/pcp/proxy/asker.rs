//! The hosts that wait for an answer, and the answer in the protocol of the question.

use std::net::SocketAddrV4;

use xlat_core::Instant;

use super::{Arrival, Output, Proxy, Refused};
use crate::pcp::message::{Operation, Peer, Request, error, success};
use crate::pcp::natpmp::{self, Outcome};

/// A question of a host.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) arrival: Arrival,
    pub(super) question: Question,
}

#[derive(Clone, Debug)]
pub(super) enum Question {
    /// NAT-PMP: the external address.
    Address,
    /// NAT-PMP: a port.
    NatPmp(natpmp::Map),
    /// PCP: the request, as it came and as it was read.
    Pcp(Vec<u8>, Request),
}

/// What was given, for how many seconds; 0 if it was deleted. Or why not.
pub(super) type Given = Result<(SocketAddrV4, u32), Refused>;

impl Proxy {
    /// Answers a host.
    pub(super) fn respond(&mut self, asker: &Asker, given: Given, now: Instant) {
        let epoch = self.epoch(now);
        let message = match &asker.question {
            Question::Address => {
                let address = given.map(|(external, _)| *external.ip());
                natpmp::address_response(address.map_err(outcome), epoch)
            }
            Question::NatPmp(map) => {
                let given = given.map(|(external, lifetime)| match lifetime {
                    0 => (0, 0),
                    _ => (external.port(), lifetime),
                });
                map.response(given.map_err(outcome), epoch)
            }
            Question::Pcp(datagram, request) => match given {
                Ok((external, lifetime)) => {
                    let done = done(request.operation, external, lifetime);
                    success(&done, &request.options, None, lifetime, epoch)
                }
                Err((code, lifetime)) => error(datagram, code, lifetime, epoch),
            },
        };
        self.reply(asker.arrival, message);
    }

    pub(super) fn reply(&mut self, to: Arrival, message: Vec<u8>) {
        self.outputs.push_back(Output::Reply { to, message });
    }
}

fn outcome((code, _): Refused) -> Outcome {
    code.into()
}

/// What was asked, as it was done.
fn done(asked: Operation, external: SocketAddrV4, lifetime: u32) -> Operation {
    match asked {
        _ if lifetime == 0 => asked,
        Operation::Announce => asked,
        Operation::Map(map) => Operation::Map(map.assigned(external)),
        Operation::Peer(peer) => Operation::Peer(Peer {
            map: peer.map.assigned(external),
            ..peer
        }),
    }
}
