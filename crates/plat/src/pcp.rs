//! The PCP server as the command line wants it.

use anyhow::Result;
use nat64_host::Keeper;
use pcp_server::{PcpServer, Settings as Pcp};
use xlat_core::addr::Pref64s;
use xlat_host::daemon::state_dir::StateDir;
use xlat_host::host::Host;

use crate::settings::Settings;

/// Bounds of lifetimes in seconds (RFC 6887 section 15).
const LIFETIMES: (u32, u32) = (120, 86_400);
/// Mappings of all clients together.
const MAPPINGS_MAX: usize = 65_536;

/// Starts the server if it is wanted.
pub(crate) async fn start(
    host: &Host,
    settings: &Settings,
    stateful: Option<&Keeper>,
) -> Result<Option<PcpServer>> {
    let Some(stateful) = stateful.filter(|_| settings.pcp) else {
        return Ok(None);
    };
    let wanted = Pcp {
        lifetimes: LIFETIMES,
        third_party: settings.pcp_third_party.clone(),
        mappings_max: MAPPINGS_MAX,
        pref64: Pref64s::first(&settings.pref64s),
    };
    let links = &settings.advertise.lan;
    let (nat, pref64s) = (stateful.nat().clone(), settings.pref64s.clone());
    let dir = StateDir::open(&settings.instance.state_dir)?;
    let server = PcpServer::start(host, links, wanted, nat, pref64s, dir).await?;
    Ok(Some(server))
}
