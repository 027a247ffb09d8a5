//! The file from which the DNS64 has its resolvers, as DHCP clients and administrators treat it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use lab::binaries::Binaries;
use lab::dns64_fixture::RESOLVER;
use lab::installed::{Installed, PATIENCE, Setup};
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{PREF64, Plan, SERVER, Topology, embedded};
use lab::traffic::dns::kind::AAAA;
use lab::traffic::dns::{Message, Upstream, over_udp};

pub(crate) const TESTS: &[Test] = lab::tests![
    fp_09_new_resolvers_in_resolv_conf_are_asked,
    fp_09_a_reload_names_the_new_resolvers_and_asks_them,
];

/// A `plat` that sees a file of the test as `/etc/resolv.conf`.
struct Fixture {
    plat: Daemon,
    topology: Topology,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Fixture {
    fn new(text: &str) -> Result<Self> {
        let topology = Topology::new(&Plan::default())?;
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("resolv.conf");
        fs::write(&file, text)?;
        let (plat, prefix) = (Binaries::find()?.plat, PREF64.to_string());
        let run = directory.path().join("run").display().to_string();
        let state = directory.path().join("state").display().to_string();
        let (plat, file_name) = (plat.display().to_string(), file.display().to_string());
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        let flags = [
            "--mount",
            "sh",
            "-c",
            script,
            &file_name,
            &plat,
            "--prefix",
            &prefix,
            "--pool=192.168.64.9",
            "--dns64=2001:db8:1::1",
            "--run-dir",
            &run,
            "--state-dir",
            &state,
        ];
        let plat = Daemon::start(&topology.edge, Path::new("/usr/bin/unshare"), &flags)?;
        plat.wait_for_line("ready: ", PATIENCE)?;
        Ok(Self {
            plat,
            topology,
            file,
            _directory: directory,
        })
    }

    fn upstream(&self, port: u16) -> Result<Upstream> {
        let address = (SERVER, port).into();
        Upstream::scripted(&self.topology.server, address, |asked| {
            asked.v4_only(SERVER).into()
        })
    }

    fn ask(&self, owner: &str) -> Result<Message> {
        let query = Message::query(owner, AAAA).to_bytes();
        let answer = self.topology.client().run(|| over_udp(RESOLVER, &query))?;
        Message::parse(&answer)
    }
}

fn fp_09_new_resolvers_in_resolv_conf_are_asked() -> Result<()> {
    let net = Fixture::new("nameserver 198.51.100.2:5301\n")?;
    let (one, other) = (net.upstream(5301)?, net.upstream(5302)?);
    ensure!(net.ask("one.example")?.addresses() == [embedded(SERVER)]);
    ensure!(one.asked() == 2 && other.asked() == 0);
    fs::write(
        &net.file,
        "# by a DHCP client\nnameserver 198.51.100.2:5302\n",
    )?;
    let line = "the DNS64 asks 198.51.100.2:5302 instead of 198.51.100.2:5301";
    net.plat.wait_for_line(line, PATIENCE)?;
    // What the old one said may be of another network.
    ensure!(net.ask("one.example")?.addresses() == [embedded(SERVER)]);
    ensure!(one.asked() == 2 && other.asked() == 2);
    // For a moment there is nothing in it, as when a link flaps.
    fs::write(&net.file, "")?;
    net.plat
        .wait_for_line("the DNS64 goes on to ask 198.51.100.2:5302", PATIENCE)?;
    ensure!(net.ask("two.example")?.addresses() == [embedded(SERVER)]);
    Ok(())
}

/// The configuration file names them.
fn fp_09_a_reload_names_the_new_resolvers_and_asks_them() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("plat.toml");
    let resolvers = |ports: &[u16]| {
        let all = ports.iter().map(|port| format!("\"198.51.100.2:{port}\""));
        let all = all.collect::<Vec<_>>().join(", ");
        fs::write(&file, format!("dns64-upstream = [{all}]\n"))
    };
    resolvers(&[5301])?;
    let config = format!("--config={}", file.display());
    let setup = Setup::plat_alone(&["--pool=192.168.64.9", "--dns64=2001:db8:1::1", &config]);
    let installed = Installed::with(&Binaries::find()?, Topology::new(&Plan::default())?, setup)?;
    let topology = &installed.topology;
    let upstream = |port| {
        Upstream::scripted(&topology.server, (SERVER, port).into(), |asked| {
            asked.v4_only(SERVER).into()
        })
    };
    let (one, other) = (upstream(5301)?, upstream(5302)?);
    let ask = || {
        let query = Message::query("x.example", AAAA).to_bytes();
        let answer = topology.client().run(|| over_udp(RESOLVER, &query))?;
        Ok::<_, anyhow::Error>(Message::parse(&answer)?.addresses())
    };
    ensure!(ask()? == [embedded(SERVER)] && one.asked() == 2);

    resolvers(&[5302])?;
    let told = installed.ask_plat(&["reload"])?;
    let expected = "the DNS64 asks 198.51.100.2:5302 instead of 198.51.100.2:5301";
    ensure!(told.contains(expected), "{told}");
    ensure!(ask()? == [embedded(SERVER)]);
    ensure!((one.asked(), other.asked()) == (2, 2), "the old one");

    // One that cannot be is refused, and the last ones stay.
    fs::write(&file, "dns64-upstream = \"nobody\"\n")?;
    ensure!(installed.ask_plat(&["reload"]).is_err());
    ensure!(ask()? == [embedded(SERVER)] && one.asked() == 2);
    let status = installed.ask_plat(&["status"])?;
    ensure!(status.contains("198.51.100.2:5302"), "{status}");
    Ok(())
}
