//! `plat check FILE`: everything about a configuration that can be known without the host, and what
//! a start would make of it; with `--here`, how this host looks to a start.

mod here;

use std::net::Ipv6Addr;

use anyhow::Result;
use clap::CommandFactory;
use plat_host::{Egress, Own6, POOLS, egress};
use xlat_core::addr::Pref64;
use xlat_host::daemon::check::{CheckFlags, Checked, Choice};
use xlat_host::daemon::exit::Usage;
use xlat_host::daemon::values::Values;
use xlat_host::host::Plan;

use crate::cli::{Cli, Run};
use crate::settings::{Settings, join};
use crate::{NAME, facts, reload};

/// Stands for an address of the host, which is not looked at.
const OF_THE_HOST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Reads a configuration file as a start would, and prints all values that are in force then. Returns
/// the exit code.
pub(crate) async fn file(flags: &CheckFlags) -> Result<u8> {
    let checked = checked(flags).await;
    let checked = checked.map_err(|error| Usage(format!("{error:#}")));
    Ok(flags.report(&Cli::command(), checked)??)
}

async fn checked(flags: &CheckFlags) -> Result<Checked> {
    let (run, values) = reload::read(flags.arguments(NAME))?;
    let chosen = check(run.clone())?;
    let here = match flags.here {
        true => Some(here::look(run).await),
        false => None,
    };
    Ok(Checked {
        values,
        chosen,
        here,
    })
}

/// Refuses what a start would refuse of a configuration file with this text.
pub(crate) fn text(text: &str) -> Result<()> {
    let args = vec![NAME.into(), "--config".into(), "the imported file".into()];
    let read = Values::read_with::<Cli>(args, |_| Ok(text.to_owned()));
    let (cli, _) = read?;
    check(cli.run)?;
    Ok(())
}

/// Refuses what a start refuses on any host. Returns what it chooses.
fn check(run: Run) -> Result<Vec<Choice>> {
    let mut chosen = Vec::new();
    let has_egress = !run.egress.is_empty();
    let has_prefix = !run.prefix.is_empty();
    let facts = facts::example(&run)?;
    let settings = Settings::resolve(run, facts)?;
    if let Egress::Own(own) = &settings.egress {
        let ports = own.describe();
        let text = format!("the {own}, {ports}, but for those that services of this host have");
        chosen.push(Choice::text("pool", text));
    } else if settings.facts.free_pool.is_some() {
        let pools = POOLS.join(", ");
        let text = format!("the first of {pools} that this host does not use, chosen at the start");
        chosen.push(Choice::text("pool", text));
    } else if !has_egress {
        chosen.push(Choice::value("egress", "route"));
    }
    if !has_prefix && settings.stateful.is_some() {
        let prefixes: Vec<&Pref64> = settings.pref64s.iter().collect();
        chosen.push(Choice::value("prefix", join(&prefixes)));
    }
    if settings.has_kernels_ports() {
        chosen.push(Choice::text("egress", egress::OF_THE_KERNEL));
    }
    validate(&settings)?;
    chosen.push(Choice::value("ipv4", settings.own_v4));
    chosen.push(match settings.own_v6 {
        Some(address) => Choice::value("ipv6", address),
        None => Choice::text("ipv6", "an address of this host, chosen at the start"),
    });
    if !settings.advertise.lan.is_empty() {
        let lifetime = settings.advertise.config.lifetime;
        chosen.push(Choice::value("ra-lifetime", lifetime));
    }
    Ok(chosen)
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
