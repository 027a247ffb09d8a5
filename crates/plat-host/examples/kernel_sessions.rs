//! What sessions in the kernel cost: the processor time that a worker takes to install one, to ask when it was
//! last used and to remove it, and the kernel's memory for its tables.
//!
//! `cargo run --release -p plat-host --example kernel_sessions [SESSIONS]`, as root
#![allow(clippy::print_stdout, reason = "a measurement is a program of its own")]

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use fast_path::{FastPath, Options};
use nat64::Protocol;
use nat64::event::{BindingRecord, SessionEntry, SessionHandle, SessionRecord};
use nat64::offload::{FlowOffload, Offer, Side};
use plat_host::KernelSessions;
use xlat_core::addr::Pref64s;

fn main() -> Result<(), Box<dyn Error>> {
    let sessions: u32 = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 1_000_000,
    };
    let options = Options {
        flows: sessions,
        ..Options::new([1, 2], 1)
    };
    let program = FastPath::load(&options)?;
    let pref64 = "2001:db8:64::/96".parse()?;
    let kernel = KernelSessions::new(program.flows(), &Pref64s::single(pref64));

    let each = |begin: Duration, count: u32| {
        (processor_time() - begin).as_secs_f64() * 1e9 / f64::from(count)
    };
    let (mut installed, mut first) = (0, 0);
    // As many as become ripe in one batch of a worker, in turn.
    for (part, together) in [1, 2, 4, 8, 16, 32].into_iter().enumerate() {
        let last = sessions / 6 * (part as u32 + 1);
        let all = [Side::Client, Side::Remote].map(|from| {
            let offer = |slot| Offer {
                slot,
                from,
                session: session(slot),
            };
            (first..last).map(offer).collect::<Vec<_>>()
        });
        let begin = processor_time();
        for (there, back) in all[0].chunks(together).zip(all[1].chunks(together)) {
            installed += kernel.install(there).min(kernel.install(back));
        }
        println!(
            "installed, {together} together: {:.0} ns a session",
            each(begin, last - first)
        );
        first = last;
    }
    let installed = installed as f64;
    println!(
        "{installed} of {sessions} sessions; {} directions had no room",
        program.flows().refused()
    );
    let memory = program.flows().memory() as f64;
    println!(
        "memory, taken when the program is loaded: {:.0} bytes an entry, two entries a session",
        memory / f64::from(sessions) / 2.0
    );
    let begin = processor_time();
    let used = (0..sessions).filter(|number| {
        kernel
            .last_use(*number, &session(*number))
            .from_client
            .is_some()
    });
    println!(
        "asked: {} used, {:.0} ns each",
        used.count(),
        each(begin, sessions)
    );
    let begin = processor_time();
    for number in 0..sessions {
        kernel.remove(number, &session(number));
    }
    println!("removed: {:.0} ns each", each(begin, sessions));
    Ok(())
}

/// One of many sessions: 64 of a client, as many as there are ports behind an external address.
fn session(number: u32) -> SessionEntry {
    let client = Ipv6Addr::from_bits(0x2001_0db8_0001 << 80 | u128::from(number / 64 + 1));
    let client_port = 1024 + (number % 64) as u16;
    SessionEntry {
        handle: SessionHandle::default(),
        record: SessionRecord {
            binding: BindingRecord {
                protocol: Protocol::Udp,
                client,
                client_port,
                external: Ipv4Addr::from_bits(0xc000_0200 + number / 60_000),
                external_port: 1024 + (number % 60_000) as u16,
            },
            remote: Ipv4Addr::new(198, 51, 100, 7),
            remote_port: 443,
        },
        pref64: 0,
        tcp: None,
        expires: xlat_core::Instant::from_secs(300),
    }
}

/// What this thread has used.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap_or(0),
        time.tv_nsec.try_into().unwrap_or(0),
    )
}
