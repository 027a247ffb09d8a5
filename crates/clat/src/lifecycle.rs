//! The configuration of the lifecycle, with the secret of stable addresses.

use anyhow::Result;
use tracing::warn;
use xlat_host::daemon::state_dir::{StateDir, random};
use xlat_proto::clat::{Config, Side4};

use crate::settings::Settings;

/// Reads the secret, and creates it at the first start.
pub(crate) fn config(settings: &Settings, side4: Side4) -> Result<Config> {
    Ok(Config {
        always: settings.always,
        address: settings.ipv6,
        secret: secret(settings)?,
        neutral_to: settings.checksum_neutral.then_some(side4.host),
    })
}

/// The key of stable addresses. A dry run creates none, and uses a random one if the user may not
/// read the file.
fn secret(settings: &Settings) -> Result<[u64; 2]> {
    let directory = &settings.instance.state_dir;
    if !settings.dry_run {
        return Ok(StateDir::open(directory)?.secret()?);
    }
    match StateDir::known_secret(directory) {
        Ok(Some(secret)) => return Ok(secret),
        Ok(None) => {}
        Err(error) => warn!("{error}: the IPv6 address below is only an example"),
    }
    Ok(random()?)
}
