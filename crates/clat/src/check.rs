//! `clat check FILE`: everything about a configuration that can be known without the host; with
//! `--here`, how this host looks to a start.

use std::ffi::OsString;

use anyhow::{Result, anyhow, bail};
use clap::CommandFactory;
use clat_host::{ipv4_addresses, look};
use xlat_host::daemon::check::{CheckFlags, Checked, Choice, Look, Protocol, Verdict};
use xlat_host::daemon::exit::Usage;
use xlat_host::daemon::values::Values;
use xlat_host::examine;
use xlat_host::host::Host;

use crate::NAME;
use crate::cli::{Cli, Command, Run};
use crate::settings::Settings;

/// Reads a configuration file as a start would, and prints all values that are in force then. Returns
/// the exit code.
pub(crate) async fn file(flags: &CheckFlags) -> Result<u8> {
    let checked = checked(flags).await;
    let checked = checked.map_err(|error| Usage(format!("{error:#}")));
    Ok(flags.report(&Cli::command(), checked)??)
}

async fn checked(flags: &CheckFlags) -> Result<Checked> {
    let (run, values) = read(flags.arguments(NAME))?;
    let settings = Settings::resolve(run)?;
    let here = match flags.here {
        true => Some(here(&settings).await),
        false => None,
    };
    Ok(Checked {
        values,
        chosen: chosen(&settings),
        here,
    })
}

/// Reads command line and file, as at a start.
pub(crate) fn read(args: Vec<OsString>) -> Result<(Run, Values)> {
    let (cli, values) = Values::read::<Cli>(args).map_err(|Usage(line)| anyhow!(line))?;
    match cli.command {
        Some(Command::Run(run)) => Ok((*run, values)),
        None => Ok((cli.run, values)),
        _ => bail!("{NAME} does not run"),
    }
}

/// What a start finds out.
fn chosen(settings: &Settings) -> Vec<Choice> {
    let mut chosen = Vec::new();
    if settings.prefix.is_none() {
        let text = "what routers announce, or else what PCP servers or the DNS64 tell";
        chosen.push(Choice::text("prefix", text));
    }
    if settings.uplink.is_none() {
        chosen.push(Choice::text(
            "uplink",
            "the interface of the IPv6 default route",
        ));
    }
    if settings.ipv6.is_none() {
        let text =
            "a stable address in a delegated prefix or in the uplink's /64, else the uplink's own";
        chosen.push(Choice::text("ipv6", text));
    }
    chosen
}

/// How this host looks to a start. Nothing is changed, and nobody is asked.
async fn here(settings: &Settings) -> Vec<Look> {
    let place = &settings.instance;
    let directories = [&*place.state_dir, &*place.run_dir];
    let mut all: Vec<Look> = vec![examine::privileges().into(), examine::tun().into()];
    all.extend(
        examine::state_files(&directories)
            .into_iter()
            .map(Look::from),
    );
    match Host::connect() {
        Ok(host) => {
            let looked = look_at(&host, settings, &mut all).await;
            if looked.is_err() {
                all.push(Look::of("host", "", looked));
            }
        }
        Err(error) => all.push(Look::of("host", "", Err::<(), anyhow::Error>(error.into()))),
    }
    if Look::runs(&place.run_dir, &place.tun) {
        let text = format!("a clat runs as {} and has its ports", place.tun);
        all.push(Look::new("port", Verdict::Skipped, text));
    } else if let Some(address) = settings.metrics {
        all.push(Look::port(Protocol::Tcp, address));
    }
    all
}

async fn look_at(host: &Host, settings: &Settings, all: &mut Vec<Look>) -> Result<()> {
    let (view, _) = look(host, &settings.wanted()).await?;
    all.push(match (&view.uplink, &view.missing_uplink) {
        (Some(uplink), _) => Look::ok("uplink", format!("{}, MTU {}", uplink.name, uplink.mtu)),
        (None, Some(missing)) => Look::new("uplink", Verdict::Waits, missing.to_string()),
        (None, None) => Look::new("uplink", Verdict::Waits, "no interface leads to IPv6"),
    });
    all.push(match (view.has_ipv4(), settings.always) {
        (false, _) => Look::ok("ipv4", "this host has no other way to IPv4"),
        (true, true) => Look::ok("ipv4", "this host has IPv4, and clat runs beside it"),
        (true, false) => {
            let text = "this host has IPv4 already; --always runs beside it";
            Look::new("ipv4", Verdict::Waits, text)
        }
    });
    let taken = ipv4_addresses(host, &settings.instance.tun).await?;
    let side4 = settings
        .side4(&taken, |_| true)
        .map_err(anyhow::Error::from);
    let fine = side4
        .as_ref()
        .map_or_else(|_| String::new(), |side| side.host.to_string());
    all.push(Look::of("address", fine, side4));
    Ok(())
}
