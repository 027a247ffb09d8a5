//! The DNS64 of the real `plat` with other people's programs on both sides of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use lab::bind::{Bind, DIG, NAMED};
use lab::dns64_fixture::{Dns64Fixture, RESOLVER};
use lab::suite::Test;
use lab::topology::{SERVER, embedded};
use lab::traffic::dns::kind::{AAAA, CNAME};
use lab::traffic::dns::message::name;
use lab::traffic::dns::{Message, Record};
use lab::unbound::{UNBOUND, Unbound};

const TESTS: &[Test] = lab::tests![
    dig_understands_it,
    unbound_is_an_upstream_like_any_other,
    bind_is_an_upstream_like_any_other,
    dn_25_what_unbound_finds_forged_is_not_stood_in_for,
];

const KEYGEN: &str = "/usr/bin/dnssec-keygen";
const SIGNZONE: &str = "/usr/bin/dnssec-signzone";

fn main() {
    lab::suite::run_with_programs(
        TESTS,
        &[
            ("dig_understands_it", DIG),
            ("unbound_is_an_upstream_like_any_other", UNBOUND),
            ("bind_is_an_upstream_like_any_other", NAMED),
            (
                "dn_25_what_unbound_finds_forged_is_not_stood_in_for",
                UNBOUND,
            ),
            (
                "dn_25_what_unbound_finds_forged_is_not_stood_in_for",
                SIGNZONE,
            ),
        ],
    )
}

fn dig_understands_it() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _upstream = net.upstream(1)?;
    let server = format!("@{RESOLVER}");
    let text = net.run(DIG, &[&server, "AAAA", "v4.example"])?;
    for part in [
        "status: NOERROR",
        "flags: qr rd ra;",
        "2001:db8:64::c633:6402",
        "udp: 1232",
    ] {
        ensure!(text.contains(part), "{part} in {text}");
    }
    ensure!(
        !text.contains("WARNING") && !text.contains("malformed"),
        "{text}"
    );
    let name = net.run(DIG, &[&server, "+tcp", "-x", "2001:db8:64::198.51.100.2"])?;
    ensure!(name.contains("2.100.51.198.in-addr.arpa."), "{name}");
    let version = net.run(
        DIG,
        &[&server, "+edns=1", "+noednsneg", "AAAA", "v4.example"],
    )?;
    ensure!(version.contains("status: BADVERS"), "{version}");
    Ok(())
}

/// What the client is told about the names that both programs are given.
fn check_names(net: &Dns64Fixture) -> Result<()> {
    ensure!(net.ask("v4.example", AAAA)? == [embedded(SERVER)]);
    let alias = net.query(&Message::query("alias.example", AAAA))?;
    let expected = [
        Record::cname("alias.example", "v4.example"),
        Record::aaaa("v4.example", 300, embedded(SERVER)),
    ];
    ensure!(alias.answers == expected, "{alias:?}");
    let nothing = net.query(&Message::query("no.example", AAAA))?;
    ensure!(nothing.code() == 3, "{nothing:?}");
    Ok(())
}

fn unbound_is_an_upstream_like_any_other() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let _unbound = Unbound::start(
        &net.topology().server,
        (SERVER, 53).into(),
        " local-zone: \"example.\" transparent\n \
         local-data: \"v4.example. 300 IN A 198.51.100.2\"\n\
         auth-zone:\n name: \"example.\"\n for-downstream: yes\n zonefile: \"ZONE\"\n",
        "$ORIGIN example.\n$TTL 300\n@ SOA ns root 1 3600 600 86400 300\n@ NS ns\n\
         ns A 198.51.100.2\nv4 A 198.51.100.2\nalias CNAME v4\n",
    )?;
    check_names(&net)
}

fn bind_is_an_upstream_like_any_other() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let many: Vec<String> = (0..90)
        .map(|last| format!("many A 198.51.100.{last}"))
        .collect();
    let head = "$TTL 300\n@ SOA ns.example. root.example. 1 3600 600 86400 300\n\
                @ NS ns.example.\n";
    let zone = format!(
        "{head}ns A 198.51.100.2\nv4 A 198.51.100.2\nalias CNAME v4\nold DNAME new\n\
         x.new A 198.51.100.2\n{}\n",
        many.join("\n")
    );
    let reverse = format!("{head}2 PTR v4.example.\n");
    let zones = [("example", &*zone), ("100.51.198.in-addr.arpa", &reverse)];
    let _named = Bind::start(&net.topology().server, &zones)?;
    check_names(&net)?;
    let renamed = net.query(&Message::query("x.old.example", AAAA))?;
    ensure!(renamed.addresses() == [embedded(SERVER)], "{renamed:?}");
    // Neither side has room for these in a datagram.
    let many = net.query_over_tcp(&Message::query("many.example", AAAA))?;
    ensure!(many.addresses().len() == 90, "{many:?}");
    let owner = "2.0.4.6.3.3.6.c.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    let pointer = net.query(&Message::query(owner, 12))?;
    let target = "2.100.51.198.in-addr.arpa";
    let expected = [
        Record::new(owner, CNAME, 300, name(target)),
        Record::new(target, 12, 300, name("v4.example")),
    ];
    ensure!(pointer.answers == expected, "{pointer:?}");
    if Path::new(DIG).is_file() {
        let server = format!("@{RESOLVER}");
        let told = net.run(DIG, &[&server, "+short", "-x", "2001:db8:64::198.51.100.2"])?;
        ensure!(
            told == "2.100.51.198.in-addr.arpa.\nv4.example.\n",
            "{told}"
        );
    }
    Ok(())
}

/// The IPv6 address of a name is forged, its IPv4 one is good.
fn dn_25_what_unbound_finds_forged_is_not_stood_in_for() -> Result<()> {
    let net = Dns64Fixture::new(&[])?;
    let directory = tempfile::tempdir()?;
    let run = |program: &str, arguments: &[&str]| -> Result<String> {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(directory.path())
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{program}: {text}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let zone = directory.path().join("zone");
    fs::write(
        &zone,
        "$ORIGIN signed.example.\n$TTL 300\n@ SOA ns root 1 3600 600 86400 300\n@ NS ns\n\
         ns A 198.51.100.2\ngood A 198.51.100.2\nforged A 198.51.100.2\n\
         forged AAAA 2001:db8::1\n",
    )?;
    let key = ["-a", "ECDSAP256SHA256", "-f", "KSK", "signed.example"];
    let key = run(KEYGEN, &key)?;
    let sign = ["-S", "-z", "-o", "signed.example", "-f", "signed", "zone"];
    run(SIGNZONE, &sign)?;
    let signed = fs::read_to_string(directory.path().join("signed"))?;
    let anchor = directory.path().join(format!("{key}.key"));
    let unbound = Unbound::start(
        &net.topology().server,
        (SERVER, 53).into(),
        &format!(
            " module-config: \"validator iterator\"\n trust-anchor-file: \"{}\"\n\
             auth-zone:\n name: \"signed.example.\"\n for-downstream: no\n for-upstream: yes\n \
             fallback-enabled: no\n zonefile: \"ZONE\"\n",
            anchor.display()
        ),
        &signed.replace("2001:db8::1", "2001:db8::2"),
    )?;
    let ask = |owner: &str, dnssec_ok: bool| {
        net.query(&Message::query(owner, AAAA).with_edns(0, 1232, dnssec_ok))
    };
    for dnssec_ok in [false, true] {
        let good = ask("good.signed.example", dnssec_ok)?;
        let log = unbound.daemon.log();
        ensure!(good.addresses() == [embedded(SERVER)], "{good:?} {log}");
        ensure!(good.has(Message::AD) == dnssec_ok, "{good:?} {log}");
        let forged = ask("forged.signed.example", dnssec_ok)?;
        ensure!(
            forged.code() == 2 && forged.answers.is_empty(),
            "{forged:?} {log}"
        );
    }
    Ok(())
}
