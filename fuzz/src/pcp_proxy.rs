//! The PCP proxy of a CLAT, between hosts that ask and servers that answer.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Duration;

use xlat_core::Instant;
use xlat_core::addr::{Ipv4Prefix, Pref64};
use xlat_proto::pcp::proxy::{Arrival, Hosts, Output, Proxy, Settings};
use xlat_proto::pcp::{LENGTH_MAX, Request};

const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);
const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 0);
const PER_HOST: usize = 4;
const TOTAL: usize = 8;
/// Outputs of one step: one to each host for what it holds, and a few for all.
const OUTPUTS_MAX: usize = 4 * TOTAL + 8;

/// A script: datagrams of hosts, responses of the server, and pauses, each behind a byte that says which
/// and one for its length. A response may be to what was asked last.
///
/// # Panics
/// If the proxy asks for ever, asks what is no request, or keeps more than it may.
pub fn pcp_proxy(data: &[u8]) {
    let settings = Settings {
        secret: [1, 2],
        per_host: PER_HOST,
        total: TOTAL,
    };
    let hosts = Hosts {
        pref64: Pref64::WELL_KNOWN,
        own: Ipv4Addr::new(192, 0, 0, 1),
        client: CLIENT,
        shared_ports: None,
        mapped: vec![],
        masqueraded: vec![Ipv4Prefix::containing(LAN, 24)],
    };
    let mut now = Instant::from_secs(1000);
    let mut proxy = Proxy::new(settings, hosts, vec![SERVER], now);
    let mut asked: Option<Vec<u8>> = None;
    let mut rest = data;
    for _ in 0..64 {
        let Some(([how, length], behind)) = rest.split_first_chunk() else {
            break;
        };
        let (message, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        match how & 3 {
            0 => {
                let host = Ipv4Addr::from_bits(LAN.to_bits() + u32::from(how >> 2 & 7));
                let arrival = Arrival {
                    socket: 0,
                    from: SocketAddrV4::new(host, 1000),
                };
                proxy.on_request(arrival, message, now, &|_, port| port % 7 != 0);
            }
            1 => proxy.on_response(SERVER, CLIENT, message, now),
            // The answer to what was asked, with changed bytes where the message has others than 0.
            2 => {
                if let Some(mut answer) = asked.take() {
                    answer[1] |= 0x80;
                    answer[2..4].fill(0);
                    answer[8..12].copy_from_slice(&(now.as_nanos() as u32).to_be_bytes());
                    answer
                        .iter_mut()
                        .zip(message)
                        .for_each(|(byte, change)| *byte ^= change);
                    proxy.on_response(SERVER, CLIENT, &answer, now);
                }
            }
            _ => {
                now = now + Duration::from_secs(u64::from(*how) * u64::from(*length));
                proxy.tick(now);
            }
        }
        let mut count = 0;
        while let Some(output) = proxy.poll() {
            count += 1;
            assert!(count <= OUTPUTS_MAX, "outputs without end");
            match output {
                Output::Ask { from, to, message } => {
                    assert!(from == CLIENT && to == SERVER);
                    assert!(Request::parse(&message).is_ok(), "{message:02x?}");
                    asked = Some(message);
                }
                Output::Reply { message, .. } | Output::Announce(message) => {
                    assert!(message.len() >= 8 && message.len() <= LENGTH_MAX);
                    assert!(message[1] & 0x80 != 0, "no response");
                }
            }
        }
        assert!(proxy.held().count() <= TOTAL);
        assert!(
            proxy.next_due().is_none_or(|due| due > now || how & 3 != 3),
            "due again at once"
        );
    }
}
