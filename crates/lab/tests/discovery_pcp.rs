//! `clat` learns the NAT64 prefix by PCP (RFC 7225), where neither routers nor a DNS64 tell it.

use anyhow::{Result, ensure};
use lab::capture::{Capture, wait_for};
use lab::client_host::{ClientHost, LAN};
use lab::installed::{PATIENCE, Setup};
use lab::suite::Test;
use lab::topology::UPLINK;
use lab::traffic::ra::{announced_pref64_lifetime, is_advertisement};

const TESTS: &[Test] = lab::tests![pd_22_a_prefix_that_only_the_pcp_server_tells_is_used];

fn main() {
    lab::suite::run(TESTS)
}

fn pd_22_a_prefix_that_only_the_pcp_server_tells_is_used() -> Result<()> {
    let lan = format!("--lan={LAN}");
    let flags = [
        "--pool=192.168.64.9",
        &lan,
        "--ra-pref64=off",
        "--ra-interval=4",
    ];
    let net = ClientHost::with(Setup::plat_alone(&flags))?;
    let client = net.topology().client();
    let capture = Capture::start(&[(client, UPLINK)], 2048)?;
    let text = net.ask(&["detect"])?;
    let line = "NAT64 prefix  2001:db8:64::/96, told by PCP server 2001:db8:1::1";
    ensure!(text.contains(line), "{text}");
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()?;
    let status = net.status()?;
    let told = "2001:db8:64::/96, told by PCP server 2001:db8:1::1";
    ensure!(status.contains(told), "{status}");
    // No advertisement had it.
    wait_for((client, UPLINK), PATIENCE, is_advertisement)?;
    let captured = capture.stop()?;
    let all = captured.packets.iter().map(|packet| packet.ip());
    let mut heard = all.filter(|packet| is_advertisement(packet));
    ensure!(heard.all(|packet| announced_pref64_lifetime(packet).is_none()));
    // Who wants no PCP does not ask for the prefix either.
    drop(_clat);
    let clat = net.clat(&["--pcp=off"])?;
    clat.wait_for_line("neither routers nor DNS tell a NAT64 prefix", PATIENCE)
}
