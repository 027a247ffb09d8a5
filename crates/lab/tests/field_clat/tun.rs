//! Interfaces that others remove, rename, name again or leave without a carrier, and directories
//! that they clean up.

use std::path::Path;

use anyhow::{Result, ensure};
use lab::binaries::Binaries;
use lab::client_host::{ClientHost, announcing, directories};
use lab::inspect::{ensure_unchanged, inspect};
use lab::installed::{Installed, PATIENCE, Setup};
use lab::ip::{IP, ip};
use lab::link::{join, set_down, set_up};
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology};
use lab::traffic::ping::ping;
use lab::wait::wait_until;

pub(crate) const TESTS: &[Test] = lab::tests![
    fc_20_the_waiting_line_names_the_uplink_and_what_it_lacks,
    fc_21_a_tun_that_others_remove_is_made_again,
    fc_21_a_tun_that_others_rename_is_made_again,
    fc_21_plat_makes_its_tun_again_and_keeps_its_sessions,
    fc_22_an_uplink_may_be_given_by_an_alternative_name,
    fc_23_a_run_directory_that_is_cleaned_up_does_not_matter,
    fc_24_kernel_parameters_that_are_read_only_are_named,
    fc_24_clat_runs_where_kernel_parameters_are_read_only_and_right,
];

/// What some of them need.
pub(crate) const PROGRAMS: &[(&str, &str)] = &[
    ("fc_21_a_tun_that_others_remove_is_made_again", IP),
    ("fc_21_a_tun_that_others_rename_is_made_again", IP),
    ("fc_21_plat_makes_its_tun_again_and_keeps_its_sessions", IP),
    ("fc_22_an_uplink_may_be_given_by_an_alternative_name", IP),
];

fn fc_20_the_waiting_line_names_the_uplink_and_what_it_lacks() -> Result<()> {
    let net = ClientHost::new()?;
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    let _router = net.router(&announcing(600))?;
    let clat = net.clat(&["--uplink=eth9"])?;
    clat.wait_for_line("waiting: there is no interface eth9 (--uplink)", PATIENCE)?;
    join((client, "eth9"), (edge, "ninth"), 1500)?;
    // Its other end is down.
    set_down(edge, "ninth")?;
    let says = |text: &'static str| move |status: &str| status.contains(text);
    net.wait_for(
        "no carrier",
        says("waiting: eth9 (--uplink) has no carrier"),
    )?;
    set_down(client, "eth9")?;
    net.wait_for("down", says("waiting: eth9 (--uplink) is down"))?;
    set_up(client, "eth9")?;
    net.wait_for(
        "no carrier",
        says("waiting: eth9 (--uplink) has no carrier"),
    )
}

fn fc_21_a_tun_that_others_remove_is_made_again() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let before = inspect(client)?;
    let mut clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()?;
    // Two in a row: the second comes back after a pause.
    for _ in 0..2 {
        ip(client, "link del clat")?;
        wait_until(|| net.has_default_route())?;
        net.ping()?;
    }
    let log = clat.log();
    let told = log
        .matches("removed or renamed the TUN interface clat")
        .count();
    ensure!(told == 2, "{log}");
    clat.stop(PATIENCE)?;
    ensure_unchanged(&before, client)
}

fn fc_21_a_tun_that_others_rename_is_made_again() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    ip(client, "link set clat name tun0")?;
    wait_until(|| Ok(lab::link::exists(client, "clat")? && !lab::link::exists(client, "tun0")?))?;
    wait_until(|| net.has_default_route())?;
    net.ping()
}

fn fc_21_plat_makes_its_tun_again_and_keeps_its_sessions() -> Result<()> {
    let network = Topology::new(&Plan::default())?;
    let before = inspect(&network.edge)?;
    let setup = Setup {
        plat: vec!["--pool=192.168.64.9".into()],
        ..Setup::default()
    };
    let mut installed = Installed::with(&Binaries::find()?, network, setup)?;
    let (client, edge) = (installed.topology.client(), &installed.topology.edge);
    client.run(|| ping(SERVER, 56, PATIENCE))?;
    let sessions = installed.sessions()?;
    ensure!(!sessions.trim().is_empty());
    ip(edge, "link del nat64")?;
    installed.plat.wait_for_line(
        "removed the TUN interface nat64: it is made again",
        PATIENCE,
    )?;
    // What arrives before it is back is lost.
    installed
        .plat
        .wait_for_line("made the TUN interface nat64 again", PATIENCE)?;
    client.run(|| ping(SERVER, 56, PATIENCE))?;
    let after = installed.sessions()?;
    let kept = |line: &&str| {
        after.lines().any(|one| {
            one.split_whitespace()
                .take(3)
                .eq(line.split_whitespace().take(3))
        })
    };
    ensure!(
        sessions.lines().any(|line| kept(&line)),
        "{sessions} and {after}"
    );
    installed.plat.stop(PATIENCE)?;
    ensure_unchanged(&before, &installed.topology.edge)
}

/// systemd-udevd gives interfaces the names of its other schemes besides.
fn fc_22_an_uplink_may_be_given_by_an_alternative_name() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    ip(client, "link property add dev eth0 altname enp0s31f6")?;
    let _clat = net.clat(&["--uplink=enp0s31f6"])?;
    net.wait_for("running", |status| {
        ClientHost::is_running(status) && status.contains("uplink    eth0")
    })?;
    net.ping()
}

/// Two units with one `RuntimeDirectory=`: the first one that stops removes it.
fn fc_23_a_run_directory_that_is_cleaned_up_does_not_matter() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let before = inspect(client)?;
    let mut clat = net.clat(&[])?;
    clat.wait_for_line("ready: this host is", PATIENCE)?;
    std::fs::remove_dir_all(net.directory.path().join("run"))?;
    net.ping()?;
    clat.stop(PATIENCE)?;
    ensure_unchanged(&before, client)
}

/// In a container `/proc/sys` is read-only, also for root.
fn fc_24_kernel_parameters_that_are_read_only_are_named() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let before = inspect(client)?;
    let mut clat = in_container(&net)?;
    let status = clat.wait(PATIENCE)?;
    let log = clat.log();
    ensure!(status.code() == Some(1), "{status}: {log}");
    let remedy = "kernel parameters are read-only here, as in containers: give the container \
                  --sysctl net.ipv6.conf.all.forwarding=1";
    ensure!(log.contains(remedy), "{log}");
    ensure_unchanged(&before, client)
}

/// The same container, with the parameters that it was told to be given.
fn fc_24_clat_runs_where_kernel_parameters_are_read_only_and_right() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    client.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    let _router = net.router(&announcing(600))?;
    let before = inspect(client)?;
    let mut clat = in_container(&net)?;
    clat.wait_for_line("ready: this host is", PATIENCE)?;
    net.ping()?;
    clat.stop(PATIENCE)?;
    ensure_unchanged(&before, client)
}

/// A `clat` that sees `/proc/sys` read-only.
fn in_container(net: &ClientHost) -> Result<Daemon> {
    let flags = directories(net.directory.path()).join(" ");
    let mount = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys";
    let run = format!("{mount} && exec {} {flags}", net.binaries.clat.display());
    let unshare = Path::new("/usr/bin/unshare");
    Daemon::start(net.topology().client(), unshare, &["-m", "sh", "-c", &run])
}
