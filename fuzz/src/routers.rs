//! What routers and hosts say on a link.

use std::net::Ipv6Addr;

use xlat_proto::ra::{Advertisement, Preference, Solicitation};

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// What an advertisement has in the smallest IPv6 packet.
const LIMIT: usize = 1280 - 40;

/// ICMPv6 messages of routers and hosts: what is believed reads back the same when it is built.
///
/// # Panics
/// If it does not.
pub fn routers(data: &[u8]) {
    for source in [ROUTER, Ipv6Addr::UNSPECIFIED] {
        if let Ok(asked) = Solicitation::parse(source, 255, data) {
            let again = Solicitation::parse(ROUTER, 255, &asked.build());
            assert_eq!(again, Ok(asked));
        }
    }
    assert!(Advertisement::parse(Ipv6Addr::UNSPECIFIED, 255, data).is_err());
    let Ok(mut said) = Advertisement::parse(ROUTER, 255, data) else {
        return;
    };
    if said.lifetime == 0 {
        // A router that is none has no preference, and none is built.
        said.preference = Preference::Medium;
    }
    let parse = |message: &[u8]| Advertisement::parse(ROUTER, 255, message);
    assert_eq!(parse(&said.build()).as_ref(), Ok(&said));
    let mut options = Vec::new();
    for piece in said.build_pieces(LIMIT) {
        match parse(&piece) {
            Ok(part) => options.extend(part.options),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(options, said.options);
}
