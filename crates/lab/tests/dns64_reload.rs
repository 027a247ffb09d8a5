//! `plat reload` and what the DNS64 has kept.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::dns64_fixture::{Dns64Fixture, RESOLVER};
use lab::installed::PATIENCE;
use lab::suite::Test;
use lab::topology::{SERVER, embedded};
use lab::traffic::dns::kind::{A, AAAA, PTR};
use lab::traffic::dns::{Act, Message, Record, Upstream, question};

const TESTS: &[Test] = lab::tests![
    answers_are_kept_unless_others_may_follow,
    a_lookup_that_began_before_has_no_say_after,
    dn_36_dn_37_dn_38_choices_take_effect_at_a_reload,
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

fn dn_36_dn_37_dn_38_choices_take_effect_at_a_reload() -> Result<()> {
    let fixture = Fixture::new()?;
    let net = &fixture.net;
    let own = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7);
    let _upstream = net.scripted(move |asked| match (&*asked.name, asked.kind) {
        ("both.example", AAAA) => asked
            .answer(vec![Record::aaaa(&asked.name, 300, own)])
            .into(),
        _ => asked.v4_only(SERVER).into(),
    })?;
    let office = Ipv4Addr::new(192, 0, 2, 9);
    let of_domain = net.scripted_at(SERVER, 5353, move |asked| asked.v4_only(office).into())?;
    let made = [embedded(SERVER)];
    ensure!(net.ask("x.skipped.example", AAAA)? == made && net.ask("both.example", AAAA)? == [own]);
    ensure!(net.ask("www.corp.example", AAAA)? == made && of_domain.asked() == 0);
    let hosts = fixture.file.with_file_name("hosts");
    fs::write(&hosts, "192.0.2.10 printer.example # ours\n")?;
    let choices = format!(
        "[dns64]\nskip = [\"skipped.example\"]\nalways = [\"both.example\"]\n\
         forward = [\"corp.example={SERVER}:5353\"]\nrecord = [\"nas.example=192.0.2.11\"]\n\
         hosts = [\"{}\"]\n",
        hosts.display()
    );
    fixture.reload(&choices)?;
    ensure!(net.ask("x.skipped.example", AAAA)?.is_empty());
    ensure!(net.ask("both.example", AAAA)? == made);
    ensure!(net.ask("www.corp.example", AAAA)? == [embedded(office)]);
    ensure!(net.ask("nas.example", AAAA)? == [embedded([192, 0, 2, 11].into())]);
    ensure!(net.ask("printer.example", AAAA)? == [embedded([192, 0, 2, 10].into())]);
    let pointer = net.query(&Message::query("10.2.0.192.in-addr.arpa", PTR))?;
    ensure!(pointer.answers.len() == 1, "{pointer:?}");
    // Another client is the one that addresses are made for.
    fixture.reload(&format!("{choices}client = [\"2001:db8:99::/48\"]\n"))?;
    let told = [net.ask("v4.example", AAAA)?, net.ask("both.example", AAAA)?];
    ensure!(told == [vec![], vec![own]], "{told:?}");
    // A file with a mistake changes nothing.
    fs::write(&hosts, "192.0.2.10\n")?;
    let refusal = fixture.reload(&choices).err().context("it was accepted")?;
    let text = format!("{refusal:#}");
    ensure!(text.contains("line 1: 192.0.2.10 has no name"), "{text}");
    ensure!(net.ask("both.example", AAAA)? == [own]);
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
