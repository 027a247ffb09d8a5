//! The classic topology of `examples/`: one file on the gateway, nothing on the client.

use anyhow::{Context, Result, ensure};
use lab::binaries::Binaries;
use lab::capture::Packet;
use lab::classic::{CHECKS, Classic};
use lab::suite::Test;

const TESTS: &[Test] = lab::tests![everything_of_the_how_to_works_with_two_programs];

fn main() {
    lab::suite::run(TESTS)
}

fn everything_of_the_how_to_works_with_two_programs() -> Result<()> {
    let network = Classic::new(&Binaries::find()?)?;
    let capture = network.capture(512)?;
    for (what, check) in CHECKS {
        check(&network).with_context(|| format!("{what}: {}", network.plat.log()))?;
    }
    // The same echo request at both ends: as IPv6, and as IPv4 of the gateway. What the kernel
    // translates before it knows of the capture does not show on the TUN.
    let captured = capture.stop()?;
    for (interface, name) in captured.names.iter().enumerate().skip(1) {
        let of_it = |packet: &&Packet| packet.interface == interface;
        let is_echo = |packet: &Packet| match packet.ip() {
            [0x45, _, _, _, _, _, _, _, _, 1, ..] => packet.ip().get(20) == Some(&8),
            [0x60, _, _, _, _, _, 58, ..] => packet.ip().get(40) == Some(&128),
            _ => false,
        };
        let echoes = captured.packets.iter().filter(of_it).any(is_echo);
        ensure!(echoes, "no echo request on {name}");
    }
    Ok(())
}
