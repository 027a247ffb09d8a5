//! The interfaces that --egress names, followed when they are renamed.

use anyhow::Result;
use plat_host::{HostConfig, client_plan};
use tracing::info;

use super::Daemon;
use crate::settings::Settings;
use crate::started::StartedDaemon;

impl Daemon<'_> {
    /// What `settings` are to the host, with the present names of its interfaces.
    pub(super) fn host_config_of(&self, settings: &Settings) -> HostConfig {
        let config = self.outer.config(settings);
        HostConfig {
            egress: self.names.present(&config.egress),
            announced: self.routes.in_force(),
            ..config
        }
    }

    /// An egress that gets another name keeps its tables and entries.
    pub(super) async fn watch_names(&mut self, started: &mut StartedDaemon) -> Result<()> {
        let links = self.host.links().await?;
        let before = self.host_config();
        let renamed = self.names.follow(&self.settings.egress, &links);
        if renamed.is_empty() {
            return Ok(());
        }
        for one in &renamed {
            info!("egress {} is now called {}: followed", one.old, one.new);
        }
        let Some(applied) = &mut started.applied else {
            return Ok(());
        };
        for all in [&applied.follow_renames(), &renamed] {
            started.base = started.base.renamed(all);
        }
        // Entries follow their interface by themselves, tables know it by name.
        let before = client_plan(&before)?.renamed(&renamed);
        let present = client_plan(&self.host_config())?;
        applied.change(&before.difference(&present)).await?;
        Ok(())
    }
}
