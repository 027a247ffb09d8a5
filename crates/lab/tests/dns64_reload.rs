//! `plat reload` and what the DNS64 has kept.

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::dns64_fixture::{Dns64Fixture, RESOLVER};
use lab::installed::PATIENCE;
use lab::suite::Test;
use lab::topology::{SERVER, embedded};
use lab::traffic::dns::kind::{A, AAAA};
use lab::traffic::dns::{Act, Message, Upstream, question};

const TESTS: &[Test] = lab::tests![
    answers_are_kept_unless_others_may_follow,
    a_lookup_that_began_before_has_no_say_after,
];

fn main() {
    lab::suite::run(TESTS)
}

fn answers_are_kept_unless_others_may_follow() -> Result<()> {
    let fixture = Fixture::new()?;
    let upstream = fixture.upstream(Duration::ZERO)?;
    let net = &fixture.net;
    net.ask("x.example", AAAA)?;
    let asked = upstream.asked();
    for text in [
        "udp-timeout = \"7m\"\n",
        "dns64-rate = 400\n",
        "dns64-allow = \"2001:db8:1::/48\"\n",
    ] {
        fixture.reload(text)?;
        net.ask("x.example", AAAA)?;
        ensure!(upstream.asked() == asked, "forgotten because of {text}");
    }
    let text = "dns64-unmapped = \"198.51.100.0/24\"\n";
    fixture.reload(text)?;
    ensure!(net.ask("x.example", AAAA)?.is_empty(), "by the old rules");
    ensure!(upstream.asked() > asked);
    Ok(())
}

fn a_lookup_that_began_before_has_no_say_after() -> Result<()> {
    let fixture = Fixture::new()?;
    let upstream = fixture.upstream(Duration::from_millis(1500))?;
    let client = fixture.net.topology().client();
    let socket = client.run(|| Ok(UdpSocket::bind("[::]:0")?))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(&question("x.example", AAAA), (RESOLVER, 53))?;
    let end = Instant::now() + PATIENCE;
    while !upstream.kinds("x.example").contains(&A) {
        ensure!(Instant::now() < end, "upstream is not asked");
        std::thread::yield_now();
    }
    fixture.reload("dns64-unmapped = \"198.51.100.0/24\"\n")?;
    let mut bytes = [0; 2048];
    let length = socket.recv(&mut bytes)?;
    let before = Message::parse(&bytes[..length])?;
    ensure!(before.addresses() == [embedded(SERVER)], "{before:?}");
    let after = fixture.net.ask("x.example", AAAA)?;
    ensure!(after.is_empty(), "by the old rules: {after:?}");
    Ok(())
}

/// A `plat` whose DNS64 goes by a file as well.
struct Fixture {
    net: Dns64Fixture,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("plat.toml");
        fs::write(&file, "")?;
        Ok(Self {
            net: Dns64Fixture::new(&["--config", &file.display().to_string()])?,
            file,
            _directory: directory,
        })
    }

    /// A resolver that takes so long for an IPv4 address.
    fn upstream(&self, time: Duration) -> Result<Upstream> {
        self.net.scripted(move |asked| match asked.kind {
            A => vec![Act::Wait(time), Act::Say(asked.v4_only(SERVER))],
            _ => asked.v4_only(SERVER).into(),
        })
    }

    fn reload(&self, text: &str) -> Result<()> {
        fs::write(&self.file, text)?;
        let answer = self.net.installed.ask_plat(&["reload"])?;
        ensure!(answer.contains("applied"), "{answer}");
        Ok(())
    }
}
