//! The packages for Debian in a booted Debian: installed, started, upgraded and removed.

use anyhow::{Result, ensure};
use lab::debian::{Debian, Materials};
use lab::suite::Test;
use libtest_mimic::{Arguments, Trial};

const TESTS: &[Test] = lab::tests![
    pk_05_a_package_brings_what_belongs_to_it_and_starts_nothing,
    pk_05_an_upgrade_keeps_sessions_and_configuration,
    pk_05_removal_and_purge_leave_nothing,
];

fn main() {
    let arguments = Arguments::from_args();
    // A container may be no place for a container.
    let missing = Materials::find().and_then(|all| Debian::boot(&all)).err();
    let trials = TESTS.iter().map(|(name, test)| {
        let trial = Trial::test(*name, move || {
            Ok(test().map_err(|error| format!("{error:#}"))?)
        });
        match &missing {
            Some(reason) => trial
                .with_kind(format!("{reason:#}"))
                .with_ignored_flag(true),
            None => trial,
        }
    });
    libtest_mimic::run(&arguments, trials.collect()).exit()
}

const INSTALL: &str = "dpkg --install /packages/clat_*.deb /packages/plat_*.deb";

/// A link with both families, whose hosts `plat` serves; it leads nowhere.
const NETWORK: &str = "
    ip link add lan0 type veth peer name far0 && ip link set far0 up && ip link set lan0 up
    ip -6 address add 2001:db8:1::1/64 dev lan0 nodad
    ip address add 192.0.2.1/24 dev lan0
    ip route add default via 192.0.2.254 dev lan0";

fn installed() -> Result<Debian> {
    let debian = Debian::boot(&Materials::find()?)?;
    debian.run(INSTALL)?;
    Ok(debian)
}

fn pk_05_a_package_brings_what_belongs_to_it_and_starts_nothing() -> Result<()> {
    let debian = installed()?;
    for program in ["clat", "plat"] {
        let version = debian.run(&format!("{program} --version"))?;
        ensure!(version.starts_with(&format!("{program} ")), "{version}");
        debian.run(&format!(
            "man -w {program} && man -w {program}-status && man -w {program}.toml"
        ))?;
        debian.run(&format!(
            "test -s /usr/share/bash-completion/completions/{program}"
        ))?;
        let state = debian.run(&format!(
            "systemctl is-enabled {program}; systemctl is-active {program}; true"
        ))?;
        ensure!(state == "disabled\ninactive\n", "{program}: {state}");
    }
    debian.run("plat check /etc/plat.toml")?;
    let verified = debian.run("systemd-analyze verify clat.service plat.service 2>&1")?;
    ensure!(
        !verified.contains("clat") && !verified.contains("plat"),
        "{verified}"
    );
    // A CLAT that has nothing to do yet is up, and waits.
    debian.run("systemctl start clat")?;
    debian.run_until_it_succeeds("clat status")
}

fn pk_05_an_upgrade_keeps_sessions_and_configuration() -> Result<()> {
    let debian = installed()?;
    debian.run(NETWORK)?;
    debian.run("echo 'prefix = [\"2001:db8:64::/96\"]' >> /etc/plat.toml")?;
    debian.run("systemctl enable --now plat")?;
    debian.run("bash -c 'echo x > /dev/udp/2001:db8:64::c633:6407/4464'")?;
    debian.run_until_it_succeeds("plat sessions | grep -F 198.51.100.7")?;
    let before = debian.run("systemctl show --value --property MainPID plat")?;
    debian.run(INSTALL)?;
    debian.run("systemctl is-active plat")?;
    let after = debian.run("systemctl show --value --property MainPID plat")?;
    ensure!(before != after, "it was not started again");
    debian.run_until_it_succeeds("plat sessions | grep -F 198.51.100.7")?;
    debian.run("grep -q '^prefix' /etc/plat.toml")?;
    let state = debian.run("systemctl is-active clat; true")?;
    ensure!(state == "inactive\n", "clat was started: {state}");
    Ok(())
}

/// Everything on the disk but what Debian's own programs write, and the network as it is.
const WHAT_IS_THERE: &str = "
    find / -xdev -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' -not -path '/var/cache/*' \
        -not -path '/var/lib/systemd/*' -not -path '/proc/*' -not -path '/sys/*' -not -path '/tmp/*' \
        -not -path '/var/tmp/*' | sort
    find /run /var/log /var/cache -name '*clat*' -o -name '*plat*' -o -name '*464xlat*' | sort
    ip link show | grep -o '^[0-9]*: [^:]*' | cut -d' ' -f2 | sort
    ip route; ip -6 route; ip rule; nft list ruleset
    sysctl -a 2>/dev/null | grep -E 'forwarding|ip_forward|accept_ra |accept_ra=|force_forw' | sort";

fn pk_05_removal_and_purge_leave_nothing() -> Result<()> {
    let debian = Debian::boot(&Materials::find()?)?;
    debian.run(NETWORK)?;
    let before = debian.run(WHAT_IS_THERE)?;
    debian.run(INSTALL)?;
    debian.run("systemctl enable --now plat clat")?;
    debian.run_until_it_succeeds("plat status && ip link show nat64")?;
    debian.run("dpkg --remove clat plat")?;
    debian
        .run("! ip link show nat64 && ! nft list ruleset | grep plat && test -e /etc/plat.toml")?;
    debian.run("dpkg --purge clat plat")?;
    let after = debian.run(WHAT_IS_THERE)?;
    let is_new = |line: &&str| !before.lines().any(|one| one == *line);
    let left: Vec<&str> = after.lines().filter(is_new).collect();
    ensure!(left.is_empty(), "left behind: {left:#?}");
    let units =
        debian.run("systemctl list-unit-files --no-legend | grep -E '^(clat|plat)' || true")?;
    ensure!(units.is_empty(), "{units}");
    Ok(())
}
