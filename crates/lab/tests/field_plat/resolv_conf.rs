//! The file from which the DNS64 has its resolvers, as DHCP clients and administrators treat it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use lab::binaries::Binaries;
use lab::dns64_fixture::RESOLVER;
use lab::installed::PATIENCE;
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{PREF64, Plan, SERVER, Topology, embedded};
use lab::traffic::dns::kind::AAAA;
use lab::traffic::dns::{Message, Upstream, over_udp};

pub(crate) const TESTS: &[Test] = lab::tests![fp_09_new_resolvers_in_resolv_conf_are_asked,];

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
