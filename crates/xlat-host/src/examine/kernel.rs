//! What the kernel has, allows and is set to.

use std::fs::OpenOptions;
use std::io::ErrorKind;

use doctor::{Finding, checks, judge};
use rustix::thread::{CapabilitySet, capabilities};

use crate::host::Host;
use crate::nft::dropping_forward_chains;

/// Whether this process has what looking takes.
pub fn privileges() -> Finding {
    let check = &checks::PRIVILEGES;
    let has = capabilities(None).map(|sets| sets.effective);
    let needed = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
    match has {
        Ok(has) if has.contains(needed) => check.ok("CAP_NET_ADMIN and CAP_NET_RAW"),
        Ok(_) => check.warn("without CAP_NET_ADMIN and CAP_NET_RAW much cannot be looked at"),
        Err(error) => check.skipped(error.to_string()),
    }
}

/// Whether a TUN can be made.
pub fn tun() -> Finding {
    const PATH: &str = "/dev/net/tun";
    let check = &checks::TUN;
    let opened = OpenOptions::new().read(true).write(true).open(PATH);
    match opened {
        Ok(_) => check.ok(format!("{PATH} opens")),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            check.skipped(format!("{PATH}: permission denied"))
        }
        Err(error) => check.fail(format!("{PATH}: {error}")),
    }
}

/// Whether forward chains of other programs drop what goes through `tun`, and whether the kernel has
/// nftables at all.
pub async fn forward_chains(tun: &str) -> Vec<Finding> {
    let (chains, kernel) = (&checks::FORWARD_CHAINS, &checks::KERNEL);
    let name = tun.to_owned();
    let looked = tokio::task::spawn_blocking(move || dropping_forward_chains(&name)).await;
    let dropping = match looked {
        Ok(Ok(dropping)) => dropping,
        Ok(Err(error)) if error.is_refused() => {
            return vec![chains.skipped("only root may read the rules")];
        }
        Ok(Err(error)) => {
            return vec![
                kernel.warn(error.to_string()),
                chains.skipped("no nftables"),
            ];
        }
        Err(error) => return vec![chains.skipped(error.to_string())],
    };
    let first = dropping.first().map(|one| {
        let (family, table, name) = (one.family, &one.table, &one.name);
        format!(
            "nft insert rule {family} {table} {name} iifname {tun} accept, and the same with oifname"
        )
    });
    let names: Vec<String> = dropping.iter().map(ToString::to_string).collect();
    let finding = match first {
        None => chains.ok("none drops what comes from or goes to the TUN"),
        Some(rule) => {
            let text = format!("{} drops forwarded packets", names.join(" and "));
            chains.fail(text).remedy(rule)
        }
    };
    vec![kernel.ok("it has nftables"), finding]
}

/// Whether kernel parameters have the values that are wanted, each one of several names where kernels
/// differ. `runs`: the daemon has set them.
pub fn sysctls(host: &Host, wanted: &[(String, &str)], runs: bool) -> Finding {
    let check = &checks::SYSCTLS;
    let is_wrong = |(key, value): &&(String, &str)| {
        let now = host.sysctl(key);
        now.is_some_and(|now| now != *value)
    };
    let wrong: Vec<_> = wanted.iter().filter(is_wrong).collect();
    let is_read_only = host.has_read_only_sysctls();
    let names = |sign: &str| {
        let names = wrong
            .iter()
            .map(|(key, value)| format!("{key}{sign}{value}"));
        names.collect::<Vec<_>>()
    };
    if wrong.is_empty() {
        return check.ok(match is_read_only {
            true => "they are read-only, and have the values that are needed",
            false => "they have the values that are needed, or can be set",
        });
    }
    if is_read_only {
        let needed = names("=");
        let text = format!("read-only here, and not {}", needed.join(" and "));
        let flags: Vec<String> = needed.iter().map(|one| format!("--sysctl {one}")).collect();
        return check
            .fail(text)
            .remedy(format!("give the container {}", flags.join(" ")));
    }
    match runs {
        false => check.ok(format!("the start sets {}", names("=").join(", "))),
        true => check
            .fail(format!(
                "another program has changed them: not {}",
                names("=").join(" and ")
            ))
            .remedy("look for the program that writes them: sysctl.d, NetworkManager, a script"),
    }
}

/// Whether connection tracking has room.
pub fn conntrack(host: &Host) -> Finding {
    let figure = |name: &str| {
        let text = host.sysctl(&format!("net.netfilter.nf_conntrack_{name}"))?;
        text.parse().ok()
    };
    match (figure("count"), figure("max")) {
        (Some(count), Some(max)) => judge::conntrack(count, max),
        _ => checks::CONNTRACK.ok("this kernel tracks no connections"),
    }
}
