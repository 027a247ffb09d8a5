//! Translates one packet and prints both forms: `cargo run -p xlat-core --example
//! translate_packet`.

use std::error::Error;

use xlat_core::frame::{HEADROOM, TAILROOM};
use xlat_core::identification::Identifications;
use xlat_core::mappers::Clat;
use xlat_core::{Frame, Instant, Offload, Policy, Translator, Verdict};

fn main() -> Result<(), Box<dyn Error>> {
    // This host is 192.0.0.1 on IPv4, and 2001:db8:1::c1a7 stands for it on IPv6.
    let (host4, host6) = ("192.0.0.1".parse()?, "2001:db8:1::c1a7".parse()?);
    let mapper = Clat::new(host4, host6, "2001:db8:64::/96".parse()?)?;
    let policy = Policy {
        answer_v6: false,
        ..Policy::new("192.0.0.2".parse()?, host6)
    };
    let mut translator = Translator::new(mapper, policy, Identifications::new([1, 2], 0, 1))?;

    // UDP from 192.0.0.1 port 4000 to 198.51.100.7 port 53.
    let packet = [
        0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0x90, 0x93, 192, 0, 0, 1, 198, 51, 100, 7, //
        0x0f, 0xa0, 0, 53, 0, 10, 0x9d, 0x5f, b'h', b'i',
    ];
    // The header grows in front of the packet, so there must be room.
    let mut buffer = vec![0; HEADROOM + packet.len() + TAILROOM];
    buffer[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
    let frame = Frame::new(&mut buffer, HEADROOM, packet.len(), Offload::NONE);
    let mut frame = frame.ok_or("the buffer is too small")?;

    print("IPv4", &packet);
    match translator.translate(&mut frame, Instant::ZERO) {
        Verdict::Forward => print("IPv6", frame.packet()),
        other => return Err(format!("not forwarded: {other:?}").into()),
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example shows something")]
fn print(name: &str, packet: &[u8]) {
    println!("{name}, {} bytes", packet.len());
    for line in packet.chunks(16) {
        let bytes: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("  {}", bytes.join(" "));
    }
}
