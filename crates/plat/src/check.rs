//! `plat check FILE`: everything about a configuration that can be known without the host, and what
//! a start would make of it.

use std::net::Ipv6Addr;
use std::path::Path;

use anyhow::Result;
use plat_host::{Egress, Own6, POOLS, egress};
use xlat_core::addr::Pref64;
use xlat_host::daemon::exit::{self, Usage};
use xlat_host::daemon::terminal;
use xlat_host::daemon::values::Values;
use xlat_host::host::Plan;

use crate::cli::{Cli, Run};
use crate::settings::{Settings, join};
use crate::{NAME, facts, reload};

/// Stands for an address of the host, which is not looked at.
const OF_THE_HOST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Reads a configuration file as a start would, and prints all values that are in force then.
pub(crate) fn file(path: &Path) -> Result<()> {
    let args = vec![NAME.into(), "--config".into(), path.into()];
    let usage = |error: anyhow::Error| Usage(format!("{error:#}"));
    let (run, values) = reload::read(args).map_err(usage)?;
    let choices = check(run).map_err(usage)?;
    let mut text = values.to_string();
    for line in choices {
        text += &format!("# {line}\n");
    }
    Ok(exit::print(&terminal::plain(&text))?)
}

/// Refuses what a start would refuse of a configuration file with this text.
pub(crate) fn text(text: &str) -> Result<()> {
    let args = vec![NAME.into(), "--config".into(), "the imported file".into()];
    let read = Values::read_with::<Cli>(args, |_| Ok(text.to_owned()));
    let (cli, _) = read?;
    check(cli.run)?;
    Ok(())
}

/// Refuses what a start refuses on any host. Returns what it chooses, for people.
fn check(run: Run) -> Result<Vec<String>> {
    let mut choices = Vec::new();
    let has_egress = !run.egress.is_empty();
    let has_prefix = !run.prefix.is_empty();
    let facts = facts::example(&run)?;
    let settings = Settings::resolve(run, facts)?;
    if let Egress::Own(own) = &settings.egress {
        choices.push(format!(
            "pool: the {own}, {}, but for those that services of this host have",
            own.describe()
        ));
    } else if settings.facts.free_pool.is_some() {
        let pools = POOLS.join(", ");
        choices.push(format!(
            "pool: the first of {pools} that this host does not use, chosen at the start"
        ));
    } else if !has_egress {
        choices.push("egress: route".into());
    }
    if !has_prefix && settings.stateful.is_some() {
        let prefixes: Vec<&Pref64> = settings.pref64s.iter().collect();
        choices.push(format!("prefix: {}", join(&prefixes)));
    }
    if settings.has_kernels_ports() {
        choices.push(egress::OF_THE_KERNEL.into());
    }
    validate(&settings)?;
    choices.push(format!("ipv4: {}", settings.own_v4));
    choices.push(match settings.own_v6 {
        Some(address) => format!("ipv6: {address}"),
        None => "ipv6: an address of this host, chosen at the start".into(),
    });
    if !settings.advertise.lan.is_empty() {
        let lifetime = settings.advertise.config.lifetime;
        choices.push(format!("ra-lifetime: {lifetime}"));
    }
    Ok(choices)
}

fn validate(settings: &Settings) -> Result<()> {
    settings.checked_stateful()?;
    settings.policy(Own6 {
        address: settings.own_v6.unwrap_or(OF_THE_HOST),
        is_ours: settings.own_v6.is_some(),
        routed: false,
    })?;
    egress::plan(&settings.host_config(), &mut Plan::new())?;
    Ok(settings.dns.check()?)
}
