//! Conversations through the mappers that remember: the input is a script of packets, answers,
//! errors, fragments and pauses between a few clients and a few servers.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use nat64::config::Config;
use nat64::dynamic::{Dynamic, DynamicPool, PoolConfig};
use nat64::{Modes, Nat64, Worker};
use xlat_core::addr::{EamTable, Ipv4Prefix, Ipv6Prefix, Pref64s};
use xlat_core::frame::{HEADROOM, TAILROOM};
use xlat_core::identification::Identifications;
use xlat_core::mapper::{PacketHolder, Prefetch};
use xlat_core::mappers::Hairpin;
use xlat_core::{Frame, Instant, Mapper, Offload, Translator, Verdict};

use crate::engine::{policy, pref64};
use crate::{check, packets};

/// So many sessions, leases and ports that a script can use them up.
const SESSIONS: u32 = 48;
const POOL: &str = "192.0.2.1:2000-2031";
const LEASES: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 64);

/// The bytes are a script behind one byte that picks the mapper.
///
/// # Panics
/// If a translator breaks a promise.
pub fn stateful(data: &[u8]) {
    let Some((&choice, script)) = data.split_first() else {
        return;
    };
    match choice & 3 {
        0 | 1 => {
            let Some(nat) = shared() else { return };
            play(nat, tidy, script);
        }
        2 => {
            let Some(own) = dynamic(&[]) else { return };
            play(own, expire, script);
        }
        _ => {
            // Even clients have an address of their own.
            let even: Vec<_> = (0..8)
                .step_by(2)
                .map(|at| Ipv6Prefix::host(client(at)))
                .collect();
            let (Some(own), Some(nat)) = (dynamic(&even), shared()) else {
                return;
            };
            let both = Modes::new(own, nat);
            let tidy_both = |both: &Modes<Dynamic>, now| {
                expire(both.own(), now);
                tidy(both.shared(), now);
            };
            play(both, tidy_both, script);
        }
    }
}

fn shared() -> Option<Worker> {
    let mut config = Config::new(vec![POOL.parse().ok()?]);
    config.limits.sessions = SESSIONS;
    let nat = Nat64::new(config, Pref64s::single(pref64()), [1, 2]).ok()?;
    Some(nat.worker())
}

fn dynamic(clients: &[Ipv6Prefix]) -> Option<Dynamic> {
    let mut config = PoolConfig::new(Ipv4Prefix::containing(LEASES, 29));
    config.clients = clients.to_vec();
    config.excluded = vec![pref64().prefix()];
    let pool = DynamicPool::new(config, [3, 4]).ok()?;
    let pool = Arc::new(Mutex::new(pool));
    let eams = EamTable::new([]).ok()?;
    Some(Dynamic::new(
        eams,
        Pref64s::single(pref64()),
        Hairpin::Intrinsic,
        pool,
    ))
}

fn tidy(worker: &Worker, now: Instant) {
    let nat = worker.nat();
    nat.expire(now, 1000);
    let counts = nat.counts();
    assert!(
        counts.sessions.iter().sum::<u32>() <= SESSIONS,
        "{counts:?}"
    );
}

fn expire(own: &Dynamic, now: Instant) {
    let mut pool = own.pool().lock().unwrap_or_else(PoisonError::into_inner);
    pool.expire(now, 1000);
    assert!(pool.active() <= pool.capacity());
}

fn client(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(
        0x2001,
        0xdb8,
        1,
        u16::from(number & 1),
        0,
        0,
        0,
        1 + u16::from(number & 7),
    )
}

/// Servers, and now and then an address of the pool, which makes a hairpin.
fn server(number: u8) -> Ipv4Addr {
    match number & 15 {
        14 => Ipv4Addr::new(192, 0, 2, 1),
        15 => Ipv4Addr::from_bits(LEASES.to_bits() + 1),
        other => Ipv4Addr::new(198, 51, 100, 1 + (other & 3)),
    }
}

/// A packet as it came, and as it went on.
struct Sent {
    before: Vec<u8>,
    after: Vec<u8>,
}

struct Game<M, T> {
    translator: Translator<M>,
    tidy: T,
    now: Instant,
    last: Option<Sent>,
}

fn play<M: Mapper + PacketHolder + Prefetch, T: Fn(&M, Instant)>(
    mapper: M,
    tidy: T,
    script: &[u8],
) {
    let ids = Identifications::new([3, 5], 0, 1);
    let Ok(translator) = Translator::new(mapper, policy(0), ids) else {
        return;
    };
    let now = Instant::from_secs(1000);
    let mut game = Game {
        translator,
        tidy,
        now,
        last: None,
    };
    for step in script.chunks_exact(6).take(200) {
        game.step([step[0], step[1], step[2], step[3], step[4], step[5]]);
    }
}

impl<M: Mapper + PacketHolder + Prefetch, T: Fn(&M, Instant)> Game<M, T> {
    fn step(&mut self, [what, a, b, c, flags, len]: [u8; 6]) {
        let body = vec![c; usize::from(len)];
        let port = 1000 + u16::from(c & 31);
        match what & 7 {
            0 => self.wait(u64::from(a) * u64::from(b)),
            1..=3 => {
                let to = if b & 15 == 14 {
                    2000 + u16::from(b >> 4)
                } else {
                    53
                };
                let transport = packets::transport(what >> 3, 6, [port, to], flags, &body);
                let server6 = pref64().embed(server(b));
                self.send(&packets::packet6(client(a), server6, transport));
            }
            4 => {
                let port = if c & 32 == 0 { port + 1000 } else { 443 };
                let transport = packets::transport(what >> 3, 4, [53, port], flags, &body);
                let to = if a & 1 == 0 { server(14) } else { server(15) };
                self.send(&packets::packet4(server(b & 3), to, transport));
            }
            5 => self.answer(),
            6 => self.error(a, b),
            _ => self.fragments(a, b, port, &body, what & 8 == 0),
        }
        (self.tidy)(self.translator.mapper(), self.now);
    }

    fn wait(&mut self, secs: u64) {
        self.now = Instant::from_nanos(self.now.as_nanos() + secs * 1_000_000_000);
        // What was known of it may be forgotten by now.
        self.last = None;
        self.look();
    }

    /// Takes what the mapper sends on its own account.
    fn look(&mut self) {
        let mut buffer = vec![0xa5; HEADROOM + 2048 + TAILROOM];
        for _ in 0..1000 {
            let Some(mut frame) = Frame::new(&mut buffer, HEADROOM, 0, Offload::NONE) else {
                return;
            };
            match self.translator.poll_packet(&mut frame, self.now) {
                None => return,
                Some(Verdict::Forward) => check::well_formed(frame.packet()),
                Some(_) => {}
            }
        }
        panic!("packets of its own without end");
    }

    /// Sends one packet; what came out if it went on whole.
    fn send(&mut self, before: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = vec![0xa5; HEADROOM + before.len() + TAILROOM];
        buffer[HEADROOM..HEADROOM + before.len()].copy_from_slice(before);
        let mut frame = Frame::new(&mut buffer, HEADROOM, before.len(), Offload::NONE)?;
        let verdict = self.translator.translate(&mut frame, self.now);
        let policy = self.translator.policy();
        match verdict {
            Verdict::Forward => {
                check::forwarded(before, Offload::NONE, &frame, policy);
                let after = frame.packet().to_vec();
                self.last = Some(Sent {
                    before: before.to_vec(),
                    after: after.clone(),
                });
                self.look();
                return Some(after);
            }
            Verdict::Reply(_) => check::reply(before, frame.packet(), policy),
            Verdict::Split(_) => panic!("nothing here is long"),
            Verdict::Drop(_) | Verdict::Held if before[0] >> 4 == 4 => {
                assert_eq!(frame.packet(), before, "changed, but not sent");
            }
            Verdict::Drop(_) | Verdict::Held => {}
        }
        None
    }

    /// The other end of the last packet answers it: that must reach the first end, from where it
    /// was sent to.
    fn answer(&mut self) {
        let Some(Sent { before, after }) = self.last.take() else {
            return;
        };
        let (Some(answer), Some(wanted)) = (packets::turned(&after), packets::turned(&before))
        else {
            return;
        };
        let is_udp = packets::is_udp(&answer);
        let got = self.send(&answer);
        // Any other answer may be refused: for its flags, or for want of a session.
        let from_client = before[0] >> 4 == 6 && after[0] >> 4 == 4;
        assert!(got.is_some() || !(is_udp && from_client), "no way back");
        if let Some(got) = got {
            assert_eq!(
                packets::ends(&got),
                packets::ends(&wanted),
                "the way back leads elsewhere"
            );
        }
    }

    /// A router behind the translator complains about the last packet: its sender must know it.
    fn error(&mut self, kind: u8, code: u8) {
        let Some(Sent { before, after }) = self.last.take() else {
            return;
        };
        let Some(error) = packets::error_about(&after, kind, code) else {
            return;
        };
        let Some(got) = self.send(&error) else { return };
        let quoted = &got[if got[0] >> 4 == 4 { 28 } else { 48 }..];
        assert_eq!(
            packets::ends(quoted),
            packets::ends(&before),
            "about a packet nobody sent"
        );
    }

    /// A client's datagram in two pieces, in either order.
    fn fragments(&mut self, a: u8, b: u8, port: u16, body: &[u8], in_order: bool) {
        let (protocol, transport) =
            packets::transport(1, 6, [port, 53], 0, &[body, &[7; 16]].concat());
        let whole = packets::packet6(client(a), pref64().embed(server(b)), (protocol, transport));
        let mut pieces = packets::cut6(&whole, u32::from(b));
        if !in_order {
            pieces.reverse();
        }
        for piece in pieces {
            self.send(&piece);
            self.look();
        }
        self.last = None;
    }
}
