//! The bodies of the fuzz targets: any bytes go in, and what comes out must hold what the
//! translator promises. `tests/smoke.rs` runs them on the corpus and on random bytes with every
//! `cargo test`; `cargo fuzz run TARGET` looks for what nobody thought of.

mod check;
mod config;
mod control;
mod dns;
mod engine;
mod files;
mod imports;
mod kernel;
mod packets;
mod pcp_proxy;
mod pcp_server;
mod routers;
mod stateful;

pub use config::config;
pub use control::control;
pub use dns::dns64;
pub use engine::{icmp_errors, offload, v4_to_v6, v6_to_v4};
pub use files::files;
pub use imports::{
    import_clatd, import_dynamic_map, import_jool, import_jool_bib, import_jool_commands,
    import_named, import_radvd, import_tayga, import_tundra, import_unbound,
};
pub use pcp_proxy::pcp_proxy;
pub use pcp_server::pcp_server;
pub use routers::routers;
pub use stateful::stateful;

use std::net::Ipv6Addr;

use xlat_core::addr::{Eam, Ipv4Prefix, Ipv6Prefix, Pref64};
use xlat_proto::ndp::Solicitation;
use xlat_proto::pcp;

/// A target: its name, and what it does with some bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 23] = [
    ("v4_to_v6", v4_to_v6),
    ("v6_to_v4", v6_to_v4),
    ("icmp_errors", icmp_errors),
    ("offload", offload),
    ("stateful", stateful),
    ("parsers", parsers),
    ("routers", routers),
    ("config", config),
    ("dns64", dns64),
    ("pcp_server", pcp_server),
    ("pcp_proxy", pcp_proxy),
    ("files", files),
    ("control", control),
    ("import_tayga", import_tayga),
    ("import_jool", import_jool),
    ("import_jool_commands", import_jool_commands),
    ("import_jool_bib", import_jool_bib),
    ("import_dynamic_map", import_dynamic_map),
    ("import_tundra", import_tundra),
    ("import_radvd", import_radvd),
    ("import_unbound", import_unbound),
    ("import_named", import_named),
    ("import_clatd", import_clatd),
];

/// Text and messages from outside: what is accepted must read back the same when it is printed.
///
/// # Panics
/// If it does not.
pub fn parsers(data: &[u8]) {
    if let Some(asked) = Solicitation::parse_message(Ipv6Addr::LOCALHOST, data) {
        assert!(!asked.target.is_multicast());
        assert_eq!(asked.answer([0; 6]).len(), 32);
    }
    if let Ok(request) = pcp::Request::parse(data) {
        assert!(data.len() <= pcp::LENGTH_MAX && data[1] < 3, "{request:?}");
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(prefix) = text.parse::<Pref64>() {
        assert_eq!(prefix.to_string().parse(), Ok(prefix));
    }
    if let Ok(prefix) = text.parse::<Ipv4Prefix>() {
        assert_eq!(prefix.to_string().parse(), Ok(prefix));
    }
    if let Ok(prefix) = text.parse::<Ipv6Prefix>() {
        assert_eq!(prefix.to_string().parse(), Ok(prefix));
    }
    if let Ok(eam) = text.parse::<Eam>() {
        assert_eq!(eam.to_string().parse(), Ok(eam));
        assert_eq!(eam.lookup_v6(eam.v6().address()), Some(eam.v4().address()));
        assert_eq!(
            eam.lookup_v4(eam.v4().last())
                .and_then(|v6| eam.lookup_v6(v6)),
            Some(eam.v4().last())
        );
    }
    let (leases, _) = nat64::dynamic::map_file::parse(text);
    let (again, skipped) =
        nat64::dynamic::map_file::parse(&nat64::dynamic::map_file::format(&leases));
    assert!(skipped.is_empty() && again == leases);
}
