//! Forged answers of resolvers.

use std::net::Ipv6Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::net::{EDGE, Net};
use super::{Found, Ground, Row};
use crate::topology::{SERVER, embedded};
use crate::traffic::dns::kind::AAAA;
use crate::traffic::dns::{Act, Asked, Message, Record, over_udp};
use crate::traffic::packets::udp;
use crate::traffic::raw4::Raw4;

pub(super) const ROWS: &[Row] = &[Row {
    name: "forged-dns",
    about: "answers that do not belong to the question before each right one, and blind ones to random ports",
    run: forged,
}];

/// The edge towards the resolver upstream.
const ASKING: std::net::Ipv4Addr = std::net::Ipv4Addr::new(198, 51, 100, 1);
/// Blind forgeries for each question.
const BLIND: usize = 300;

fn forged(ground: &Ground<'_>) -> Result<Found> {
    let net = Net::with_upstream(ground, lie)?;
    let questions = ground.effort.questions;
    let mut random = ground.random();
    net.beside(ground, |net, is_over| {
        let (server, client) = (&net.topology.server, net.topology.client());
        let raw = server.run(Raw4::new)?;
        let mut number = 0;
        while number < questions || !is_over.load(Ordering::Relaxed) {
            let name = format!("n{number}.example");
            let forge = |random: &mut crate::random::Random| {
                let mut message = Message::query(&name, AAAA);
                message.id = random.below(1 << 16) as u16;
                message.flags = Message::QR | Message::RD | Message::RA;
                message.answers = vec![Record::aaaa(&name, 300, Ipv6Addr::LOCALHOST)];
                let port = 1024 + random.below((1 << 16) - 1024) as u16;
                udp(
                    (SERVER, 53).into(),
                    (ASKING, port).into(),
                    &message.to_bytes(),
                )
            };
            let asked = std::thread::scope(|scope| {
                let query = Message::query(&name, AAAA).to_bytes();
                let asking = scope.spawn(move || client.run(|| over_udp(EDGE, &query)));
                for _ in 0..BLIND {
                    let _ = raw.send_to(&forge(&mut random), ASKING);
                }
                asking.join()
            });
            let answer = asked.map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            let answer = answer.with_context(|| name.clone())?;
            let found = Message::parse(&answer)?.addresses();
            ensure!(found == [embedded(SERVER)], "{name}: {found:?}");
            number += 1;
        }
        Ok(format!(
            "{number} questions with {} forgeries each: none is believed",
            BLIND + FORGERIES
        ))
    })
}

const FORGERIES: usize = 7;

/// Everything but the right answer first.
fn lie(asked: &Asked) -> Vec<Act> {
    let mut acts = asked.forgeries();
    acts.extend([
        Act::Wait(Duration::from_millis(5)),
        Act::Say(asked.v4_only(SERVER)),
    ]);
    acts
}
