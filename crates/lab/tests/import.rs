//! Other programs with their own files, then ours with what `import` made of these: the same probes
//! have the same answers.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use lab::binaries::Binaries;
use lab::bind::NAMED;
use lab::capture::wait_for as wait_for_packet;
use lab::command::output;
use lab::installed::{Installed, PATIENCE, Setup};
use lab::ip::{ip, ip6};
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology, UPLINK, embedded};
use lab::traffic::dns::kind::{A, AAAA, CNAME, PTR, TXT};
use lab::traffic::dns::message::name;
use lab::traffic::dns::{Message, Record, Upstream, over_udp};
use lab::traffic::ping::ping;
use lab::traffic::ra::is_advertisement;
use lab::unbound::UNBOUND;
use lab::wait::wait_until;
use tempfile::TempDir;

const TESTS: &[Test] = lab::tests![
    im_11_hosts_keep_their_addresses_when_tayga_goes,
    im_11_hosts_are_told_the_same_when_radvd_goes,
    im_11_names_are_answered_alike_when_unbound_goes,
    im_11_names_are_answered_alike_when_bind_goes,
    im_11_the_traffic_that_jool_and_tundra_describe_passes,
    im_11_the_traffic_that_clatd_describes_passes,
];

const TAYGA: &str = "/usr/sbin/tayga";
const RADVD: &str = "/usr/sbin/radvd";
/// The edge on the link of the first client.
const EDGE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// A try of a probe that is made until the first succeeds.
const TRY: Duration = Duration::from_millis(300);

fn main() {
    lab::suite::run_with_programs(
        TESTS,
        &[
            ("im_11_hosts_keep_their_addresses_when_tayga_goes", TAYGA),
            ("im_11_hosts_are_told_the_same_when_radvd_goes", RADVD),
            ("im_11_names_are_answered_alike_when_unbound_goes", UNBOUND),
            ("im_11_names_are_answered_alike_when_bind_goes", NAMED),
        ],
    )
}

fn im_11_hosts_keep_their_addresses_when_tayga_goes() -> Result<()> {
    let site = Site::new(3)?;
    let edge = &site.topology.edge;
    let tayga = site.write(
        "tayga.conf",
        &format!(
            "tun-device nat64\nipv4-addr 192.168.64.1\nprefix 2001:db8:64::/96\n\
             dynamic-pool 192.168.64.0/24\nmap 192.168.65.7 2001:db8:1::2\ndata-dir {}\n",
            site.directory.path().display()
        ),
    )?;
    // The second client has used the translator before.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let line = format!("192.168.64.42\t2001:db8:1:1::2\t{now}\n");
    let leases = site.write("dynamic.map", &line)?;
    edge.set_sysctl("ipv4/ip_forward", "1")?;
    edge.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    output(edge, TAYGA, &["--mktun", "-c", &tayga], "")?;
    ip(edge, "link set nat64 up")?;
    for pool in ["192.168.64.0/24", "192.168.65.7/32"] {
        ip(edge, &format!("route add {pool} dev nat64"))?;
    }
    ip6(edge, "route add 2001:db8:64::/96 dev nat64")?;
    let flags = ["--nodetach", "-c", &tayga];
    let mut theirs = Daemon::start(edge, Path::new(TAYGA), &flags)?;
    let before = tayga_probes(&site).with_context(|| theirs.log())?;
    theirs.kill(PATIENCE)?;
    ip(edge, "link del nat64")?;
    let state = site.path("state");
    let toml = site.import(&[&tayga, &leases], &["--state-dir", &state])?;
    let ours = site.plat(&toml, &[])?;
    let after = tayga_probes(&site).with_context(|| ours.log())?;
    ensure!(before == after, "{before:?}, then {after:?}");
    Ok(())
}

/// The addresses that the clients have outside, in their order: the last one has any of the pool.
fn tayga_probes(site: &Site) -> Result<[Ipv4Addr; 2]> {
    let [mapped, leased, new] = [site.flows(0)?, site.flows(1)?, site.flows(2)?];
    ensure!(mapped == Ipv4Addr::new(192, 168, 65, 7), "{mapped}");
    ensure!(leased == Ipv4Addr::new(192, 168, 64, 42), "{leased}");
    ensure!(
        new.octets()[..3] == [192, 168, 64] && new != leased,
        "{new}"
    );
    site.reaches((mapped, 7000), 7000)?;
    site.reaches((leased, 7000), 7000)
        .err()
        .context("the second client was reached at the first")?;
    Ok([mapped, leased])
}

fn im_11_hosts_are_told_the_same_when_radvd_goes() -> Result<()> {
    let site = Site::new(1)?;
    let edge = &site.topology.edge;
    let radvd = site.write(
        "radvd.conf",
        "interface client0 {\n AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;\n \
         AdvDefaultPreference high; AdvLinkMTU 1480; AdvOtherConfigFlag on;\n \
         prefix 2001:db8:1::/64 { AdvValidLifetime 7200; AdvPreferredLifetime 3600; };\n \
         route 2001:db8:99::/48 { AdvRouteLifetime 12; AdvRoutePreference high; };\n \
         RDNSS 2001:db8:1::1 { AdvRDNSSLifetime 12; };\n \
         DNSSL office.example lab.example { AdvDNSSLLifetime 12; };\n};\n",
    )?;
    edge.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    let flags = ["-n", "-m", "stderr", "-C", &radvd, "-p", &site.path("pid")];
    let mut theirs = Daemon::start(edge, Path::new(RADVD), &flags)?;
    let before = site.advertisement(|_| true).with_context(|| theirs.log())?;
    theirs.stop(PATIENCE)?;
    let toml = site.import(&[&radvd, &site.translator()?], &[])?;
    let ours = site.plat(&toml, &[])?;
    // Not the last one of radvd, which has no prefix of NAT64.
    let after = site.advertisement(|options| options.iter().any(|one| one[0] == PREF64));
    let mut after = after.with_context(|| ours.log())?;
    after.1.retain(|option| option[0] != PREF64);
    ensure!(before == after, "{before:x?}\n{after:x?}");
    Ok(())
}

/// The type of the option that tells of a NAT64 (RFC 8781).
const PREF64: u8 = 38;
/// The type of the one that tells of a route (RFC 4191).
const ROUTE: u8 = 24;

/// The head of an advertisement, and its options without their order.
type Told = (Vec<u8>, BTreeSet<Vec<u8>>);

fn im_11_names_are_answered_alike_when_unbound_goes() -> Result<()> {
    let site = Site::new(1)?;
    let _upstreams = site.upstreams()?;
    let unbound = site.write(
        "unbound.conf",
        "server:\n interface: 2001:db8:1::1\n access-control: 2001:db8:1::/48 allow\n \
         module-config: \"dns64 iterator\"\n dns64-prefix: 2001:db8:64::/96\n dns64-ignore-aaaa: \"bad.example\"\n \
         local-data: \"printer.example. 300 IN A 192.0.2.9\"\n \
         local-data-ptr: \"192.0.2.9 printer.example\"\n \
         local-zone: \"100.51.198.in-addr.arpa\" nodefault\n \
         local-zone: \"8.b.d.0.1.0.0.2.ip6.arpa\" nodefault\n \
         username: \"\"\n chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n\
         remote-control:\n control-enable: no\n\
         forward-zone:\n name: \".\"\n forward-addr: 198.51.100.2@53\n\
         forward-zone:\n name: \"corp.example\"\n forward-addr: 198.51.100.2@5353\n",
    )?;
    let mut theirs = Daemon::start(
        &site.topology.edge,
        Path::new(UNBOUND),
        &["-d", "-c", &unbound],
    )?;
    theirs.wait_for_line("start of service", PATIENCE)?;
    let more = [
        ("printer.example", A),
        ("9.2.0.192.in-addr.arpa", PTR),
        ("bad.example", AAAA),
    ];
    let before = site.names(&more).with_context(|| theirs.log())?;
    theirs.stop(PATIENCE)?;
    let toml = site.import(&[&unbound, &site.translator()?], &[])?;
    let ours = site.plat(&toml, &[])?;
    let after = site.names(&more).with_context(|| ours.log())?;
    ensure_alike(&before, &after)
}

fn im_11_names_are_answered_alike_when_bind_goes() -> Result<()> {
    let site = Site::new(1)?;
    let _upstreams = site.upstreams()?;
    let named = site.write(
        "named.conf",
        &format!(
            "options {{ directory \"{}\"; pid-file none; session-keyfile none;\n \
             listen-on {{ none; }}; listen-on-v6 {{ 2001:db8:1::1; }};\n \
             allow-query {{ any; }}; allow-recursion {{ 2001:db8:1::/48; }};\n \
             dnssec-validation no; forwarders {{ 198.51.100.2; }}; forward only;\n \
             dns64 2001:db8:64::/96 {{ clients {{ any; }};\n  mapped {{ !10/8; any; }};\n  \
             exclude {{ ::ffff:0:0/96; 2001:db8:bad::/48; }}; }}; }};\ncontrols {{ }};\n\
             zone \"corp.example\" {{ type forward; forward only;\n \
             forwarders {{ 198.51.100.2 port 5353; }}; }};\n",
            site.directory.path().display()
        ),
    )?;
    let flags = ["-g", "-n", "1", "-c", &named];
    let mut theirs = Daemon::start(&site.topology.edge, Path::new(NAMED), &flags)?;
    theirs.wait_for_line("all zones loaded", PATIENCE)?;
    let more = [("private.example", AAAA), ("bad.example", AAAA)];
    let before = site.names(&more).with_context(|| theirs.log())?;
    theirs.stop(PATIENCE)?;
    let toml = site.import(&[&named, &site.translator()?], &[])?;
    let ours = site.plat(&toml, &[])?;
    let after = site.names(&more).with_context(|| ours.log())?;
    ensure_alike(&before, &after)
}

fn im_11_the_traffic_that_jool_and_tundra_describe_passes() -> Result<()> {
    let site = Site::new(1)?;
    let jool = site.write(
        "nat64.json",
        r#"{ "instance": "office", "framework": "netfilter",
            "global": { "pool6": "2001:db8:64::/96", "udp-timeout": "6:00" },
            "pool4": [
              { "protocol": "TCP", "prefix": "192.168.64.9", "port range": "20000-40000" },
              { "protocol": "UDP", "prefix": "192.168.64.9", "port range": "20000-40000" },
              { "protocol": "ICMP", "prefix": "192.168.64.9", "port range": "20000-40000" }],
            "bib": [{ "protocol": "UDP", "ipv6 address": "2001:db8:1::2#5000",
                      "ipv4 address": "192.168.64.9#20080" }] }"#,
    )?;
    let toml = site.import(&[&jool], &[])?;
    let mut ours = site.plat(&toml, &[])?;
    let shared = Ipv4Addr::new(192, 168, 64, 9);
    ensure!(site.flows(0).with_context(|| ours.log())? == shared);
    site.reaches((shared, 20080), 5000)?;
    ours.stop(PATIENCE)?;
    let tundra = site.write(
        "tundra.conf",
        "io.mode = tun\nio.tun.interface_name = tundra\nrouter.ipv4 = 192.168.64.254\n\
         router.ipv6 = 2001:db8:5::fe\naddressing.mode = nat64\n\
         addressing.nat64_clat.ipv4 = 192.168.64.7\naddressing.nat64_clat.ipv6 = 2001:db8:1::2\n\
         addressing.nat64_clat_siit.prefix = 2001:db8:64::\n\
         addressing.nat64_clat_siit.allow_translation_of_private_ips = yes\n",
    )?;
    let toml = site.import(&[&tundra], &[])?;
    let ours = site.plat(&toml, &[])?;
    let own = Ipv4Addr::new(192, 168, 64, 7);
    ensure!(site.flows(0).with_context(|| ours.log())? == own);
    site.reaches((own, 7000), 7000)
}

fn im_11_the_traffic_that_clatd_describes_passes() -> Result<()> {
    let plan = Plan::default();
    let binaries = Binaries::find()?;
    let setup = Setup {
        clats: false,
        ..Setup::default()
    };
    let installed = Installed::with(&binaries, Topology::new(&plan)?, setup)?;
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (clatd, toml) = (path("clatd.conf"), path("clat.toml"));
    fs::write(
        &clatd,
        "plat-dev=eth0\nplat-prefix=2001:db8:64::/96\nclat-dev=clat\nclat-v4-addr=192.0.0.1\n\
         clat-v6-addr=2001:db8:1::c1a7\nv4-defaultroute-mtu=1400\nv4-conncheck-enable=no\n",
    )?;
    let client = installed.topology.client();
    let program = binaries.clat.display().to_string();
    output(client, &program, &["import", &clatd, "--output", &toml], "")?;
    let flags = [
        "--config",
        &toml,
        "--run-dir",
        &path("run"),
        "--state-dir",
        &path("state"),
    ];
    let clat = Daemon::start(client, &binaries.clat, &flags)?;
    clat.wait_for_line("ready: ", PATIENCE)?;
    let from = exchange(client, &installed.topology.server, SERVER.into())?;
    ensure!(from.octets()[..3] == [192, 168, 64], "{from}");
    let route = ip(client, "route get 198.51.100.2")?;
    ensure!(route.contains("dev clat src 192.0.0.1"), "{route}");
    let routes = ip(client, "route show default")?;
    ensure!(routes.contains("mtu 1400"), "{routes}");
    let status = output(client, &program, &["status", "--run-dir", &path("run")], "")?;
    ensure!(status.contains("2001:db8:1::c1a7"), "{status}");
    Ok(())
}

/// A network whose edge has no translator yet, and a directory for files.
struct Site {
    topology: Topology,
    binaries: Binaries,
    directory: TempDir,
}

impl Site {
    fn new(clients: u8) -> Result<Self> {
        let plan = Plan {
            clients,
            ..Plan::default()
        };
        Ok(Self {
            topology: Topology::new(&plan)?,
            binaries: Binaries::find()?,
            directory: tempfile::tempdir()?,
        })
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// A file of a translator, for programs that are none.
    fn translator(&self) -> Result<String> {
        self.write(
            "tayga.conf",
            "tun-device nat64\nipv4-addr 192.168.64.1\nprefix 2001:db8:64::/96\n\
             dynamic-pool 192.168.64.0/24\n",
        )
    }

    /// The file that `plat import` makes of these.
    fn import(&self, files: &[&str], more: &[&str]) -> Result<String> {
        let toml = self.path("plat.toml");
        let _ = fs::remove_file(&toml);
        let program = self.binaries.plat.display().to_string();
        let arguments = [&["import"], files, &["--output", &toml], more].concat();
        output(&self.topology.edge, &program, &arguments, "")?;
        Ok(toml)
    }

    fn plat(&self, toml: &str, more: &[&str]) -> Result<Daemon> {
        let (run, state) = (self.path("run"), self.path("state"));
        let flags = ["--config", toml, "--run-dir", &run, "--state-dir", &state];
        let plat = Daemon::start(
            &self.topology.edge,
            &self.binaries.plat,
            &[&flags[..], more].concat(),
        )?;
        plat.wait_for_line("ready: ", PATIENCE)?;
        Ok(plat)
    }

    /// The address that a client has at the server, over ICMP, UDP and TCP.
    fn flows(&self, client: usize) -> Result<Ipv4Addr> {
        let server = embedded(SERVER);
        exchange(
            &self.topology.clients[client],
            &self.topology.server,
            server.into(),
        )
    }

    /// Sends a datagram from the server to this address and port outside: it arrives at this port
    /// of the first client.
    fn reaches(&self, outside: (Ipv4Addr, u16), port: u16) -> Result<()> {
        let any = (Ipv6Addr::UNSPECIFIED, port);
        let inside = self.topology.client().run(|| Ok(UdpSocket::bind(any)?))?;
        let from = (Ipv4Addr::UNSPECIFIED, 0);
        let sender = self.topology.server.run(|| Ok(UdpSocket::bind(from)?))?;
        sender.send_to(b"from outside", SocketAddr::from(outside))?;
        let mut buffer = [0; 64];
        inside.set_read_timeout(Some(match outside.0.octets()[3] {
            42 => TRY,
            _ => PATIENCE,
        }))?;
        let (length, seen) = inside.recv_from(&mut buffer)?;
        ensure!(&buffer[..length] == b"from outside" && seen.ip() == embedded(SERVER));
        Ok(())
    }

    /// The next advertisement with such options that arrives at the client.
    fn advertisement(&self, is_it: impl Fn(&BTreeSet<Vec<u8>>) -> bool) -> Result<Told> {
        let told = |packet: &[u8]| {
            let (head, mut rest) = packet[44..].split_at(12);
            let mut options = BTreeSet::new();
            while let [_, length, ..] = rest {
                let (one, behind) = rest.split_at(usize::from(*length) * 8);
                let mut one = one.to_vec();
                // A prefix of 48 bits may come in 8 bytes or in 16 (RFC 4191 section 2.3).
                if one[..2] == [ROUTE, 2] {
                    one[1] = 3;
                    one.extend([0; 8]);
                }
                options.insert(one);
                rest = behind;
            }
            (head.to_vec(), options)
        };
        let place = (self.topology.client(), UPLINK);
        // A router lifetime of 0 is a goodbye.
        let packet = wait_for_packet(place, PATIENCE, |packet| {
            is_advertisement(packet) && packet[46..48] != [0, 0] && is_it(&told(packet).1)
        })?;
        Ok(told(&packet))
    }

    /// The resolvers at the server: that of all names, and that of `corp.example`.
    fn upstreams(&self) -> Result<[Upstream; 2]> {
        let server = &self.topology.server;
        let corp = Upstream::scripted(server, (SERVER, 5353).into(), |asked| {
            let mut answer = asked.answer(vec![]);
            match asked.kind {
                A => answer
                    .answers
                    .push(Record::a(&asked.name, 300, [198, 51, 100, 99])),
                _ => answer.authorities.push(Record::soa("corp.example", 300)),
            }
            answer.into()
        })?;
        Ok([self.upstream()?, corp])
    }

    fn upstream(&self) -> Result<Upstream> {
        Upstream::scripted(&self.topology.server, (SERVER, 53).into(), |asked| {
            let v6 = |address| vec![Record::aaaa(&asked.name, 300, address)];
            let native = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7);
            let bad = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 7);
            let v4 = |last| vec![Record::a(&asked.name, 300, [198, 51, 100, last])];
            let answer = match (&*asked.name, asked.kind) {
                ("v4.example" | "both.example", A) => asked.answer(v4(2)),
                ("bad.example", A) => asked.answer(v4(4)),
                ("private.example", A) => {
                    asked.answer(vec![Record::a(&asked.name, 300, [10, 1, 2, 3])])
                }
                ("both.example", AAAA) => asked.answer(v6(native)),
                ("bad.example", AAAA) => asked.answer(v6(bad)),
                ("alias.example", _) => {
                    let mut records = vec![Record::cname("alias.example", "v4.example")];
                    if asked.kind == A {
                        records.push(Record::a("v4.example", 300, [198, 51, 100, 2]));
                    }
                    asked.answer(records)
                }
                ("2.100.51.198.in-addr.arpa", PTR) => {
                    asked.answer(vec![Record::new(&asked.name, PTR, 300, name("v4.example"))])
                }
                ("text.example", TXT) => {
                    asked.answer(vec![Record::new(&asked.name, TXT, 300, *b"\x04text")])
                }
                ("no.example", _) => {
                    let mut message = asked.nothing(300);
                    message.flags |= 3;
                    message
                }
                _ => asked.nothing(300),
            };
            answer.into()
        })
    }

    /// What the client is told about names: the code, and the records of the answer without order
    /// and lifetimes.
    fn names(&self, more: &[(&'static str, u16)]) -> Result<Vec<Answered>> {
        let pointer = "2.0.4.6.3.3.6.c.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        let all = [
            ("v4.example", AAAA),
            ("v4.example", A),
            ("V4.Example", AAAA),
            ("both.example", AAAA),
            ("alias.example", AAAA),
            ("alias.example", A),
            ("text.example", TXT),
            ("nothing.example", AAAA),
            ("no.example", AAAA),
            ("www.corp.example", AAAA),
            (pointer, PTR),
        ];
        let ask = |(name, kind): &(&'static str, u16)| {
            let query = Message::query(name, *kind).to_bytes();
            let answer = Message::parse(&over_udp(EDGE, &query)?)?;
            let records = answer.answers.iter();
            // BIND has the alias of RFC 6147 section 5.3.1, unbound the record behind it.
            let shown = records.filter(|one| *kind != PTR || one.kind != CNAME);
            let shown = shown.map(|one| match *kind {
                PTR => (String::new(), one.kind, one.data.clone()),
                _ => (one.owner.to_ascii_lowercase(), one.kind, one.data.clone()),
            });
            Ok((*name, *kind, answer.code(), shown.collect()))
        };
        let client = self.topology.client();
        client.run(|| all.iter().chain(more).map(ask).collect())
    }
}

fn ensure_alike(before: &[Answered], after: &[Answered]) -> Result<()> {
    for (before, after) in before.iter().zip(after) {
        ensure!(before == after, "{before:?}, then {after:?}");
    }
    Ok(())
}

type Answered = (&'static str, u16, u16, BTreeSet<(String, u16, Vec<u8>)>);

/// Pings the server, then sends a datagram and a stream there and back: the address that the client
/// has at the server.
fn exchange(client: &Namespace, server: &Namespace, to: IpAddr) -> Result<Ipv4Addr> {
    wait_until(|| Ok(client.run(|| ping(to, 56, TRY)).is_ok()))?;
    let any = (Ipv4Addr::UNSPECIFIED, 0);
    let (udp, tcp) = server.run(|| Ok((UdpSocket::bind(any)?, TcpListener::bind(any)?)))?;
    udp.set_read_timeout(Some(PATIENCE))?;
    let to_udp = SocketAddr::new(to, udp.local_addr()?.port());
    let to_tcp = SocketAddr::new(to, tcp.local_addr()?.port());
    let own = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = client.run(|| Ok(UdpSocket::bind((own, 0))?))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to_udp)?;
    let mut buffer = [0; 1200];
    socket.send(&[7; 1000])?;
    let (length, from) = udp
        .recv_from(&mut buffer)
        .context("nothing arrived over UDP")?;
    udp.send_to(&buffer[..length], from)?;
    ensure!(socket.recv(&mut buffer)? == 1000 && buffer[..1000] == [7; 1000]);
    let _stream = client
        .run(|| Ok(TcpStream::connect_timeout(&to_tcp, PATIENCE)?))
        .context("no connection over TCP")?;
    let (_, other) = tcp.accept()?;
    ensure!(other.ip() == from.ip(), "{other} and {from}");
    match from.ip() {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => Ok(address.to_ipv4_mapped().context("an IPv6 client")?),
    }
}
