//! Resolvers that a host has itself: dnsmasq, unbound and others on a loopback address.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::Result;
use lab::client_host::{ClientHost, advertisement, directories, synthesised};
use lab::installed::PATIENCE;
use lab::process::Daemon;
use lab::suite::Test;
use lab::traffic::dns::FixedDns64;

pub(crate) const TESTS: &[Test] = lab::tests![
    fc_10_a_resolver_on_127_0_0_1_is_asked_where_the_link_has_none,
    fc_10_a_resolver_on_the_ipv6_loopback_is_asked_after_a_silent_one,
];

fn fc_10_a_resolver_on_127_0_0_1_is_asked_where_the_link_has_none() -> Result<()> {
    let local = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    asked("nameserver 127.0.0.1\n", local, "dns       127.0.0.1")
}

fn fc_10_a_resolver_on_the_ipv6_loopback_is_asked_after_a_silent_one() -> Result<()> {
    // The router's answers nothing; this host's forwards to another that does.
    let text = "nameserver ::1\nnameserver 2001:db8:1::1\n";
    asked(text, Ipv6Addr::LOCALHOST, "dns       2001:db8:1::1, ::1")
}

/// With this `/etc/resolv.conf`, a DNS64 at the address `local` of the client leads to IPv4.
fn asked(resolv_conf: &str, local: Ipv6Addr, listed: &str) -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&advertisement(&[]))?;
    let _dns = FixedDns64::start(client, local, &synthesised(), 60)?;
    let clat = with_resolv_conf(&net, resolv_conf)?;
    net.wait_for("running", |status| {
        ClientHost::is_running(status) && status.contains(listed)
    })?;
    let named = format!("the resolver {} on this host does", local.to_canonical());
    clat.wait_for_line(&named, PATIENCE)?;
    net.ping()
}

/// Starts `clat` with an `/etc/resolv.conf` of its own.
fn with_resolv_conf(net: &ClientHost, text: &str) -> Result<Daemon> {
    let file = net.directory.path().join("resolv.conf");
    std::fs::write(&file, text)?;
    let mount = format!("mount --bind {} /etc/resolv.conf", file.display());
    let flags = directories(net.directory.path()).join(" ");
    let run = format!("{mount} && exec {} {flags}", net.binaries.clat.display());
    let unshare = Path::new("/usr/bin/unshare");
    Daemon::start(net.topology().client(), unshare, &["-m", "sh", "-c", &run])
}
