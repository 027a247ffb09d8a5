//! The packages for Debian in a booted Debian: installed, started, upgraded and removed.

use anyhow::{Result, ensure};
use lab::debian::{Debian, Materials};
use lab::suite::Test;
use libtest_mimic::{Arguments, Trial};

const TESTS: &[Test] = lab::tests![
    pk_05_a_package_brings_what_belongs_to_it_and_starts_nothing,
    pk_05_an_upgrade_keeps_sessions_and_configuration,
    pk_05_removal_and_purge_leave_nothing,
    se_32_the_units_start_translate_reload_and_stop_as_restricted_as_they_are,
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

/// A node of both families beyond the link: what it is told, it answers with the address of who asks.
const FAR_NODE: &str = r#"
    ip netns add far
    ip link add lan0 type veth peer name far0 netns far && ip link set lan0 up
    ip -n far link set lo up && ip -n far link set far0 up
    ip -n far address add 192.0.2.254/24 dev far0
    ip -n far -6 address add 2001:db8:1::2/64 dev far0 nodad
    ip -n far -6 address add 2001:db8:64::c633:6407/128 dev lo nodad
    ip -n far -6 route add default via 2001:db8:1::1
    ip -6 address add 2001:db8:1::1/64 dev lan0 nodad
    ip address add 192.0.2.1/24 dev lan0
    ip route add default via 192.0.2.254 dev lan0
    cat > /root/far.pl <<'END'
        use IO::Socket::IP;
        my $at = IO::Socket::IP->new(LocalHost => $ARGV[0], LocalPort => 4464, Listen => 5, ReuseAddr => 1,
            V6Only => 1) or die "$@";
        while (my $from = $at->accept) { print $from "you are " . $from->peerhost . "\n"; close $from }
END
    for address in 192.0.2.254 2001:db8:64::c633:6407; do
        ip netns exec far perl /root/far.pl $address > /dev/null 2>&1 < /dev/null &
    done
    cat > /root/ask <<'END'
exec 3<> /dev/tcp/$1/4464 && read -t 5 line <&3 && echo "$line" | grep -F "$2"
END
    echo 'prefix = ["2001:db8:64::/96"]' >> /etc/plat.toml
    echo 'prefix = "2001:db8:64::/96"' >> /etc/clat.toml"#;

fn se_32_the_units_start_translate_reload_and_stop_as_restricted_as_they_are() -> Result<()> {
    let debian = installed()?;
    for program in ["clat", "plat"] {
        // In tenths: it fails above 2.0.
        debian.run(&format!(
            "systemd-analyze security --offline=true --threshold=20 {program}.service"
        ))?;
    }
    debian.run(FAR_NODE)?;
    debian.run("systemctl start plat")?;
    debian.run_until_it_succeeds(
        "ip netns exec far timeout 9 bash /root/ask 2001:db8:64::c000:2fe 'you are 192.0.2.1'",
    )?;
    debian.run("systemctl reload plat && systemctl is-active plat")?;
    ensure_only_what_is_needed(&debian, "plat")?;
    stop(&debian, "plat")?;

    // Without IPv4 it is a host for a CLAT.
    debian.run("ip -4 address flush dev lan0")?;
    debian.run("ip -6 route add default via 2001:db8:1::2 dev lan0")?;
    debian.run("systemctl start clat")?;
    debian.run_until_it_succeeds("timeout 9 bash /root/ask 198.51.100.7 'you are 2001:db8:1:'")?;
    debian.run("systemctl reload clat && systemctl is-active clat")?;
    ensure_only_what_is_needed(&debian, "clat")?;
    // What a killed daemon has changed is put back with no more rights than it had.
    debian.run("systemctl kill --signal=KILL clat")?;
    debian.run_until_it_succeeds(
        "journalctl --unit clat --output cat | grep -E 'changes of a killed run were undone'",
    )?;
    debian.run_until_it_succeeds("clat status")?;
    stop(&debian, "clat")
}

/// Looks at the service as its processes find the world.
fn ensure_only_what_is_needed(debian: &Debian, program: &str) -> Result<()> {
    let enter = format!(
        "nsenter --target $(systemctl show --value --property MainPID {program}) --mount --"
    );
    let devices = debian.run(&format!(
        "{enter} ls /dev/net /dev/kmsg /dev/mem 2>&1; true"
    ))?;
    ensure!(devices.contains("tun"), "{program}: {devices}");
    for absent in ["/dev/kmsg'", "/dev/mem'"] {
        ensure!(devices.contains(absent), "{program}: {devices}");
    }
    debian.run(&format!(
        "! {enter} sh -c 'echo 1 > /proc/sys/kernel/printk' 2> /dev/null"
    ))?;
    debian.run(&format!(
        "{enter} sh -c 'cat /proc/sys/net/ipv4/ip_forward > /proc/sys/net/ipv4/ip_forward'"
    ))?;
    let refused = debian.run(&format!(
        "journalctl --unit {program} --output cat | grep -iE 'not permitted|read-only' || true"
    ))?;
    ensure!(refused.is_empty(), "{program}: {refused}");
    Ok(())
}

fn stop(debian: &Debian, program: &str) -> Result<()> {
    debian.run(&format!("systemctl stop {program}"))?;
    let result = debian.run(&format!(
        "systemctl show --value --property Result {program}"
    ))?;
    ensure!(result == "success\n", "{program}: {result}");
    debian.run("! ip link show nat64 2> /dev/null && ! ip link show clat 2> /dev/null")?;
    Ok(())
}
