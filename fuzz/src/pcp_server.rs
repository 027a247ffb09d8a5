//! The PCP server, which any host on the link may ask.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use xlat_core::Instant;
use xlat_core::addr::Pref64;
use xlat_proto::pcp::{
    Datagram, Filter, Internal, LENGTH_MAX, PortMapper, Refusal, Remote, Response, Server,
    Settings, Suggestion,
};

const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// So few that a script can use them up.
const PORTS: u16 = 6;
const MAPPINGS: usize = 8;

/// A NAT with a few ports.
#[derive(Default)]
struct Ports(BTreeMap<Internal, u16>);

impl Ports {
    fn give(&mut self, internal: Internal, wish: Suggestion) -> Result<SocketAddrV4, Refusal> {
        let is_free =
            |ports: &BTreeMap<Internal, u16>, port| !ports.values().any(|one| *one == port);
        let had = self.0.get(&internal).copied();
        let wanted = wish
            .port
            .filter(|port| *port < PORTS && is_free(&self.0, *port));
        let free = (0..PORTS).find(|port| is_free(&self.0, *port));
        let port = had.or(wanted).or(free).ok_or(Refusal::NoResources)?;
        if wish.exact && wish.port.is_some_and(|wish| wish != port) {
            return Err(Refusal::NotThisOne);
        }
        self.0.insert(internal, port);
        Ok(SocketAddrV4::new(EXTERNAL, port))
    }
}

impl PortMapper for Ports {
    fn map(
        &mut self,
        internal: Internal,
        suggested: Suggestion,
        _filters: &[Filter],
    ) -> Result<SocketAddrV4, Refusal> {
        self.give(internal, suggested)
    }

    fn keep(
        &mut self,
        internal: Internal,
        _remote: Remote,
        suggested: Suggestion,
        _until: Instant,
    ) -> Result<SocketAddrV4, Refusal> {
        self.give(internal, suggested)
    }

    fn let_go(&mut self, _internal: Internal, _remote: Remote) {}

    fn close(&mut self, _internal: Internal) {}

    fn release(&mut self, internal: Internal) {
        self.0.remove(&internal);
    }
}

/// Datagrams, each behind a byte that says from whom and when, and one for its length in words. The last one is also
/// a response, and a packet, for a client.
///
/// # Panics
/// If a response is malformed or too long, or the server keeps more than it may or than the NAT gave.
pub fn pcp_server(data: &[u8]) {
    let settings = Settings {
        lifetimes: (120, 86_400),
        third_party: vec![],
        mappings_max: MAPPINGS,
        pref64: Some(Pref64::WELL_KNOWN),
    };
    let mut now = Instant::from_secs(1000);
    let (mut server, mut nat) = (Server::new(settings, now), Ports::default());
    let mut rest = data;
    for _ in 0..64 {
        let Some(([how, words], behind)) = rest.split_first_chunk() else {
            break;
        };
        let length = (usize::from(*words) * 4 + usize::from(how & 3 == 3)).min(behind.len());
        let (datagram, behind) = behind.split_at(length);
        rest = behind;
        let source = Ipv6Addr::from_bits(CLIENT.to_bits() + u128::from(how >> 2 & 3));
        now = now + std::time::Duration::from_secs(u64::from(how >> 4) * 1000);
        server.expire(now, &mut nat);
        if let Some(response) = server.handle(datagram, source, now, &mut nat) {
            check(&response, datagram);
        }
        assert!(server.mappings().count() <= MAPPINGS, "too many");
        for mapping in server.mappings() {
            assert!(mapping.until > now, "it is over");
            let port = nat.0.get(&mapping.internal);
            assert_eq!(port, Some(&mapping.external.port()), "not the NAT's");
        }
        let _ = Response::parse(datagram);
        let _ = Datagram::parse(datagram);
    }
    server.expire(now + std::time::Duration::from_secs(86_401), &mut nat);
    assert_eq!(server.mappings().count(), 0);
    assert!(nat.0.is_empty(), "ports are left: {:?}", nat.0);
}

/// RFC 6887 section 7.2, and section 8.2: a response has the version and opcode of its request.
fn check(response: &[u8], request: &[u8]) {
    assert!(response.len() <= LENGTH_MAX && response.len().is_multiple_of(4));
    assert!(response.len() >= 24 && response[1] & 0x80 != 0);
    assert_eq!(response[1] & 0x7f, request[1] & 0x7f);
    if response[3] == 0 {
        assert!(Response::parse(response).is_some(), "{response:02x?}");
    }
}
