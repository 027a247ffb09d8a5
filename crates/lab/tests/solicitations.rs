//! Hosts that ask for routers: who is answered, how often, and who is not.

use std::net::Ipv6Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::binaries::Binaries;
use lab::capture::Capture;
use lab::installed::{Installed, PATIENCE, Setup};
use lab::link::link_local;
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology, UPLINK, embedded};
use lab::traffic::ping::ping;
use lab::traffic::ra::is_advertisement;
use lab::traffic::solicit::Solicitor;

const TESTS: &[Test] = lab::tests![
    ra_02_without_a_lan_nobody_is_answered_and_with_one_the_routers_group_is_joined,
    ra_05_six_bad_solicitations_are_not_answered,
    ra_06_who_asks_from_its_link_local_address_is_answered_alone,
    ra_07_a_flood_of_solicitations_leaves_the_translator_alone,
];

const POOL: &str = "--pool=192.168.64.9";
const LAN: &str = "--lan=client0";
const GOOD: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
const WITH_ADDRESS: [u8; 16] = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 7];
const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);

fn main() {
    lab::suite::run(TESTS)
}

fn ra_02_without_a_lan_nobody_is_answered_and_with_one_the_routers_group_is_joined() -> Result<()> {
    for (flags, members, is_answered) in [(&[POOL][..], 1, false), (&[POOL, LAN], 2, true)] {
        let installed = install(flags)?;
        let (client, edge) = (installed.topology.client(), &installed.topology.edge);
        // One is the kernel's, which forwards.
        let groups = edge.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/igmp6")?))?;
        let joined = groups.lines().find(|line| {
            line.contains(" client0 ") && line.contains(" ff020000000000000000000000000002 ")
        });
        let count = joined.and_then(|line| line.split_whitespace().nth(3));
        ensure!(count == Some(&members.to_string()), "{members}: {groups}");
        // The kernel's own address is answered at without being looked for first.
        let own = link_local(installed.topology.client(), UPLINK)?;
        let capture = Capture::start(&[(client, UPLINK)], 256)?;
        client.run(|| Solicitor::new(UPLINK)?.send(own, 255, &GOOD))?;
        // An answer takes half a second at most (MAX_RA_DELAY_TIME).
        thread::sleep(Duration::from_millis(800));
        let answers = advertisements(capture)?.len();
        ensure!((answers > 0) == is_answered, "{answers} answers");
    }
    Ok(())
}

fn ra_05_six_bad_solicitations_are_not_answered() -> Result<()> {
    let installed = install(&[POOL, LAN])?;
    installed.topology.client().run(|| {
        let solicitor = Solicitor::new(UPLINK)?;
        let changed = |at: usize, value| {
            let mut message = WITH_ADDRESS;
            message[at] = value;
            message
        };
        solicitor.send(HOST, 254, &GOOD).context("hop limit")?;
        solicitor
            .send_with(HOST, 255, &GOOD, 7)
            .context("checksum")?;
        solicitor.send(HOST, 255, &changed(1, 1)).context("code")?;
        solicitor.send(HOST, 255, &GOOD[..7]).context("length")?;
        let option = changed(9, 0);
        solicitor
            .send(HOST, 255, &option)
            .context("option of no length")?;
        let nobody = Ipv6Addr::UNSPECIFIED;
        solicitor
            .send(nobody, 255, &WITH_ADDRESS)
            .context("from nobody")?;
        // What comes later is read later.
        solicitor.send(HOST, 255, &GOOD)
    })?;
    let status = wait_for_status(&installed, |status| status.contains("\"solicited\":1"))?;
    // The kernel has dropped two before.
    ensure!(status.contains("\"solicited\":1,\"ignored\":4"), "{status}");
    Ok(())
}

fn ra_06_who_asks_from_its_link_local_address_is_answered_alone() -> Result<()> {
    let installed = install(&[POOL, LAN])?;
    let client = installed.topology.client();
    let own = link_local(installed.topology.client(), UPLINK)?;
    wait_for_status(&installed, |status| !status.contains("\"sent\":0"))?;
    let capture = Capture::start(&[(client, UPLINK)], 256)?;
    client.run(|| Solicitor::new(UPLINK)?.send(own, 255, &GOOD))?;
    wait_for_status(&installed, |status| status.contains("\"sent\":2"))?;
    let packets = advertisements(capture)?;
    let [packet] = packets.as_slice() else {
        anyhow::bail!("{} advertisements", packets.len());
    };
    ensure!(packet[24..40] == own.octets(), "{packet:x?}");
    ensure!(
        packet[8..10] == [0xfe, 0x80] && packet[7] == 255,
        "{packet:x?}"
    );
    Ok(())
}

fn ra_07_a_flood_of_solicitations_leaves_the_translator_alone() -> Result<()> {
    let installed = install(&[POOL, LAN])?;
    let client = installed.topology.client();
    let before = installed.plat.resident()?;
    let begin = Instant::now();
    client.run(|| {
        let solicitor = Solicitor::new(UPLINK)?;
        // More would fill the kernel's table of neighbours, which all namespaces share.
        (0..400).try_for_each(|number| {
            let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, number);
            solicitor.send(source, 255, &GOOD)
        })
    })?;
    client.run(|| ping(embedded(SERVER), 56, PATIENCE))?;
    let status = wait_for_status(&installed, |status| {
        // Some may be lost on the way.
        figure(status, "solicited").is_some_and(|count| count > 100)
    })?;
    let sent = figure(&status, "sent").context("sent")?;
    let seconds = begin.elapsed().as_secs() + 1;
    // 32 at once, ten a second, and one to all every three seconds.
    let most = 32 + 10 * seconds + 2 + seconds / 3;
    ensure!(
        sent <= most,
        "{sent} advertisements in {seconds} s: {status}"
    );
    let after = installed.plat.resident()?;
    ensure!(
        after < before + 4096,
        "{before} KiB before, {after} KiB after"
    );
    Ok(())
}

fn install(flags: &[&str]) -> Result<Installed> {
    let topology = Topology::new(&Plan::default())?;
    Installed::with(&Binaries::find()?, topology, Setup::plat_alone(flags))
}

/// The advertisements that were seen.
fn advertisements(capture: Capture) -> Result<Vec<Vec<u8>>> {
    let packets = capture.stop()?.packets;
    let packets = packets.iter().map(|packet| packet.ip());
    Ok(packets
        .filter(|packet| is_advertisement(packet))
        .map(<[u8]>::to_vec)
        .collect())
}

fn wait_for_status(installed: &Installed, is_it: impl Fn(&str) -> bool) -> Result<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = installed.ask_plat(&["status", "--json"])?;
        if is_it(&status) {
            return Ok(status);
        }
        ensure!(Instant::now() < end, "{status}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn figure(status: &str, name: &str) -> Option<u64> {
    let (_, rest) = status.split_once(&format!("\"{name}\":"))?;
    rest.split([',', '}']).next()?.parse().ok()
}
