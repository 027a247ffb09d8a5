//! What others do to the host `clat` runs on: sysctls, routes, names, resolvers, other CLATs.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::{Result, ensure};
use lab::binaries::Binaries;
use lab::client_host::{ClientHost, announcing};
use lab::inspect::{difference, ensure_unchanged, inspect};
use lab::installed::{Installed, PATIENCE};
use lab::ip::{IP, ip};
use lab::link::{add_address, set_down, set_up};
use lab::suite::Test;
use lab::topology::{CLAT4, Plan, SERVER, Topology};
use lab::traffic::ping::ping;
use lab::wait::wait_until;

pub(crate) const TESTS: &[Test] = lab::tests![
    fc_08_a_renamed_uplink_goes_on_and_is_left_as_it_was,
    fc_08_an_uplink_that_is_renamed_while_it_is_down_comes_back,
    fc_08_what_a_killed_run_left_is_undone_under_the_new_name,
    fc_08_plat_leaves_a_renamed_link_as_it_was,
    fc_09_a_host_without_ipv6_on_new_interfaces_has_it_on_the_tun,
    fc_12_no_other_user_can_take_the_addresses_of_instances,
];

/// What some of them need.
pub(crate) const PROGRAMS: &[(&str, &str)] = &[
    ("fc_08_a_renamed_uplink_goes_on_and_is_left_as_it_was", IP),
    (
        "fc_08_an_uplink_that_is_renamed_while_it_is_down_comes_back",
        IP,
    ),
    (
        "fc_08_what_a_killed_run_left_is_undone_under_the_new_name",
        IP,
    ),
    ("fc_08_plat_leaves_a_renamed_link_as_it_was", IP),
];

fn fc_08_a_renamed_uplink_goes_on_and_is_left_as_it_was() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let before = inspect(client)?;
    let mut clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let address = net.clat_address()?;

    ip(client, "link set dev eth0 name wan.7")?;
    net.wait_for("running on it", |status| {
        ClientHost::is_running(status) && status.contains("uplink    wan.7")
    })?;
    net.ping()?;
    ensure!(net.clat_address()? == address, "another address");
    clat.wait_for_line("interface eth0 is now called wan.7", PATIENCE)?;
    let log = clat.log();
    ensure!(!log.contains("IPv4 is off"), "{log}");

    clat.stop(PATIENCE)?;
    ip(client, "link set dev wan.7 name eth0")?;
    ensure_unchanged(&before, client)
}

/// As udev does, and as kernels before Linux 6.2 want it.
fn fc_08_an_uplink_that_is_renamed_while_it_is_down_comes_back() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let before = inspect(client)?;
    let mut clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    for (old, new) in [("eth0", "wan0"), ("wan0", "eth0")] {
        set_down(client, old)?;
        ip(client, &format!("link set dev {old} name {new}"))?;
        set_up(client, new)?;
        add_address((client, new), "2001:db8:1::2/64".parse()?)?;
        net.give_router()?;
        net.wait_for("running on it", |status| {
            ClientHost::is_running(status) && status.contains(&format!("uplink    {new}"))
        })?;
        net.ping()?;
    }
    clat.stop(PATIENCE)?;
    ensure_unchanged(&before, client)
}

fn fc_08_what_a_killed_run_left_is_undone_under_the_new_name() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let before = inspect(client)?;
    let mut clat = net.clat(&["--forwarding=host"])?;
    net.wait_for("running", ClientHost::is_running)?;
    clat.kill(PATIENCE)?;
    ip(client, "link set dev eth0 name wan0")?;
    let run_dir = net.directory.path().join("run").display().to_string();
    net.ask(&["recover", "--run-dir", &run_dir])?;
    ip(client, "link set dev wan0 name eth0")?;
    ensure_unchanged(&before, client)
}

fn fc_08_plat_leaves_a_renamed_link_as_it_was() -> Result<()> {
    let network = Topology::new(&Plan::default())?;
    let before = inspect(&network.edge)?;
    let mut installed = Installed::on(&Binaries::find()?, network)?;
    let edge = &installed.topology.edge;
    let during = inspect(edge)?;
    let of_link = |line: &String| line.contains("/client0/");
    ensure!(
        difference(&before, &during).iter().any(of_link),
        "nothing was changed on the link"
    );
    ip(edge, "link set dev client0 name lan0")?;
    installed.plat.stop(PATIENCE)?;
    let edge = &installed.topology.edge;
    ip(edge, "link set dev lan0 name client0")?;
    ensure_unchanged(&before, edge)
}

fn fc_09_a_host_without_ipv6_on_new_interfaces_has_it_on_the_tun() -> Result<()> {
    let network = Topology::new(&Plan::default())?;
    for host in [network.client(), &network.edge] {
        host.set_sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    }
    let installed = Installed::on(&Binaries::find()?, network)?;
    let client = installed.topology.client();
    client.run(|| ping(SERVER, 56, PATIENCE))?;
    // An administrator's script switches it off everywhere but on the uplink.
    const TUN: &str = "ipv6/conf/clat/disable_ipv6";
    client.set_sysctl(TUN, "1")?;
    wait_until(|| Ok(client.sysctl(TUN)? == "0"))?;
    client.run(|| ping(SERVER, 56, PATIENCE))?;
    Ok(())
}

fn fc_12_no_other_user_can_take_the_addresses_of_instances() -> Result<()> {
    let net = ClientHost::new()?;
    let _router = net.router(&announcing(600))?;
    // Any user may bind a name of an abstract socket.
    let taken = |last: u8| -> Result<UnixDatagram> {
        let name = SocketAddr::from_abstract_name(format!("464xlat/192.0.0.{last}"))?;
        Ok(UnixDatagram::bind_addr(&name)?)
    };
    let client = net.topology().client();
    let _sockets = client.run(|| (0..8).map(taken).collect::<Result<Vec<_>>>())?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", |status| {
        ClientHost::is_running(status) && status.contains(&format!("{CLAT4} as "))
    })?;
    net.ping()
}
