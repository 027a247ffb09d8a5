//! Two gateways with routing daemons between the router of the subscribers and the IPv4 core: the
//! files of `examples/scale-out`, with the real BIRD and FRR.
//!
//! ```text
//!                     +- gateway 1 -+
//! client -- access ---+             +--- core -- server
//!                     +- gateway 2 -+
//! ```

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::command::output;
use crate::installed::PATIENCE;
use crate::ip::{ip, ip6};
use crate::link::{add_address, add_route, join, make_router, wait_for_link_local};
use crate::namespace::Namespace;
use crate::process::Daemon;
use crate::topology::{MTU, SERVER, UPLINK};
use crate::wait::wait_until;

/// Where Debian has BIRD 2, its client, and FRR.
pub const BIRD: &str = "/usr/sbin/bird";
const BIRDC: &str = "/usr/sbin/birdc";
/// One of FRR's daemons: they are in one package.
pub const ZEBRA: &str = "/usr/lib/frr/zebra";
const VTYSH: &str = "/usr/bin/vtysh";

/// The NAT64 prefix of both gateways, as `ip` writes it.
pub const PREFIX: &str = "2001:db8:64::/96";
/// The pool of each gateway.
pub const POOLS: [&str; 2] = ["192.0.2.0/25", "192.0.2.128/25"];

/// What stands in the examples, which are for gateway 1, and what gateway 2 has in its place.
const OTHERS: [(&str, &str); 4] = [
    ("203.0.113.2", "203.0.113.6"),
    ("203.0.113.1", "203.0.113.5"),
    ("2001:db8:0:1::", "2001:db8:0:2::"),
    ("192.0.2.0/25", "192.0.2.128/25"),
];

/// The network with its gateways, until it is dropped.
pub struct ScaleOut {
    /// `plat` on each gateway.
    pub plats: Vec<Daemon>,
    /// The routing daemons, which go before their networks.
    routing: Vec<Daemon>,
    /// An IPv6-only host.
    pub client: Namespace,
    /// The router of the subscribers.
    pub access: Namespace,
    /// Where `plat` runs.
    pub gateways: [Namespace; 2],
    /// A router of the IPv4 core.
    pub core: Namespace,
    /// A host with [`SERVER`].
    pub server: Namespace,
    binaries: Binaries,
    directory: TempDir,
}

impl ScaleOut {
    /// Builds the network; nothing runs in it yet.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn new() -> Result<Self> {
        let network = Self {
            plats: Vec::new(),
            routing: Vec::new(),
            client: Namespace::new("client")?,
            access: Namespace::new("access")?,
            gateways: [Namespace::new("gateway1")?, Namespace::new("gateway2")?],
            core: Namespace::new("core")?,
            server: Namespace::new("server")?,
            binaries: Binaries::find()?,
            directory: tempfile::tempdir()?,
        };
        network.build()?;
        Ok(network)
    }

    /// Starts `plat` on both gateways, as soon as they have a default route.
    ///
    /// # Errors
    /// When that does not come, or `plat` does not get ready.
    pub fn start_plats(&mut self) -> Result<()> {
        for number in 0..2 {
            let gateway = &self.gateways[number];
            wait_until(|| Ok(ip(gateway, "route show default")?.contains("via")))
                .with_context(|| self.routing_logs())?;
            let plat = self.start_plat(number)?;
            self.plats.push(plat);
        }
        let mut plats = self.plats.iter();
        plats.try_for_each(|plat| plat.wait_for_line("ready: ", PATIENCE))
    }

    fn build(&self) -> Result<()> {
        let Self {
            client,
            access,
            core,
            server,
            ..
        } = self;
        make_router(access)?;
        make_router(core)?;
        join((client, UPLINK), (access, "client"), MTU)?;
        add_address((client, UPLINK), net("2001:db8:1000::2/64"))?;
        add_address((access, "client"), net("2001:db8:1000::1/64"))?;
        let router = Ipv6Addr::new(0x2001, 0xdb8, 0x1000, 0, 0, 0, 0, 1);
        add_route(client, net("::/0"), router.into(), None)?;
        join((server, UPLINK), (core, "server"), MTU)?;
        add_address((server, UPLINK), IpNet::new(SERVER.into(), 24)?)?;
        let router = Ipv4Addr::new(198, 51, 100, 1);
        add_address((core, "server"), IpNet::new(router.into(), 24)?)?;
        add_route(server, net("0.0.0.0/0"), IpAddr::from(router), None)?;
        for (number, gateway) in self.gateways.iter().enumerate() {
            let name = format!("gw{}", number + 1);
            make_router(gateway)?;
            join((gateway, "access"), (access, &name), MTU)?;
            join((gateway, "core"), (core, &name), MTU)?;
            for (end, address) in [
                ((gateway, "access"), "2001:db8:0:1::2/64"),
                ((access, &*name), "2001:db8:0:1::1/64"),
                ((gateway, "core"), "203.0.113.2/30"),
                ((core, &*name), "203.0.113.1/30"),
            ] {
                add_address(end, net(&of_gateway(number, address)))?;
            }
        }
        // The packets of a subscriber all go to one gateway.
        access.set_sysctl("ipv6/fib_multipath_hash_policy", "3")?;
        access.set_sysctl("ipv6/fib_multipath_hash_fields", "1")?;
        let all = [client, access, core, server];
        let mut all = all.into_iter().chain(&self.gateways);
        all.try_for_each(|namespace| wait_for_link_local(namespace, PATIENCE))
    }

    fn start_plat(&self, number: usize) -> Result<Daemon> {
        let config = self.file(&format!("plat{number}.toml"));
        fs::write(&config, of_gateway(number, &example("plat.toml")?))?;
        let place = |kind: &str| self.file(&format!("{kind}{number}"));
        let flags = [
            "--config".into(),
            config,
            "--run-dir".into(),
            place("run"),
            "--state-dir".into(),
            place("state"),
        ];
        Daemon::start(&self.gateways[number], &self.binaries.plat, &flags)
    }

    /// What `plat COMMAND` says about the one on a gateway.
    ///
    /// # Errors
    /// When the command fails.
    pub fn ask(&self, number: usize, command: &[&str]) -> Result<String> {
        let run_dir = self.file(&format!("run{number}"));
        let place = ["--run-dir", &run_dir.to_string_lossy()];
        let words = [command, &place].concat();
        let plat = self.binaries.plat.display().to_string();
        output(&self.gateways[number], &plat, &words, "")
    }

    /// Starts BIRD on both routers, with these files of the examples.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_routers(&mut self) -> Result<()> {
        let access = example("bird/access.conf")?;
        let access = self.start_bird("access", &self.access, &access)?;
        let core = example("bird/core.conf")?;
        let core = self.start_bird("core", &self.core, &core)?;
        self.routing.extend([access, core]);
        Ok(())
    }

    /// Starts BIRD on a gateway.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_bird_on_gateway(&mut self, number: usize) -> Result<()> {
        let text = of_gateway(number, &example("bird/gateway.conf")?);
        let name = format!("gateway{number}");
        let bird = self.start_bird(&name, &self.gateways[number], &text)?;
        self.routing.push(bird);
        Ok(())
    }

    fn start_bird(&self, name: &str, namespace: &Namespace, text: &str) -> Result<Daemon> {
        let config = self.file(&format!("{name}.conf"));
        fs::write(&config, text)?;
        let flags = [
            "-f".into(),
            "-c".into(),
            config,
            "-s".into(),
            self.file(&format!("{name}.ctl")),
        ];
        let bird = Daemon::start(namespace, Path::new(BIRD), &flags)?;
        bird.wait_for_line("Started", PATIENCE)?;
        Ok(bird)
    }

    /// Starts FRR on a gateway: zebra, bgpd and bfdd.
    ///
    /// # Errors
    /// When it does not start, or refuses its file.
    pub fn start_frr_on_gateway(&mut self, number: usize) -> Result<()> {
        let config = self.file("frr.conf");
        fs::write(&config, of_gateway(number, &example("frr/frr.conf")?))?;
        let sockets = self.file("frr");
        fs::create_dir(&sockets)?;
        // They are a user of their own.
        for (path, mode) in [(self.directory.path(), 0o711), (&sockets, 0o777)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        let at = |name: &str| sockets.join(name).display().to_string();
        for name in ["zebra", "bfdd", "bgpd"] {
            let pid = at(&format!("{name}.pid"));
            let (directory, zserv) = (sockets.display().to_string(), at("zserv.api"));
            let mut flags = vec!["-f", "/dev/null", "-P", "0"];
            flags.extend(["-i", &pid, "-z", &zserv, "--vty_socket", &directory]);
            let bfd = at("bfdd.sock");
            if name == "bfdd" {
                flags.extend(["--bfdctl", &bfd]);
            }
            let program = Path::new(ZEBRA).with_file_name(name);
            let daemon = Daemon::start(&self.gateways[number], &program, &flags)?;
            self.routing.push(daemon);
            let vty = sockets.join(format!("{name}.vty"));
            wait_until(|| Ok(vty.exists())).with_context(|| self.routing_logs())?;
        }
        let config = config.display().to_string();
        self.vtysh(number, &["-f", &config]).map(drop)
    }

    /// What FRR on a gateway answers.
    ///
    /// # Errors
    /// When it complains.
    pub fn vtysh(&self, number: usize, words: &[&str]) -> Result<String> {
        let sockets = self.file("frr").display().to_string();
        let words = [&["--vty_socket", &sockets], words].concat();
        output(&self.gateways[number], VTYSH, &words, "")
    }

    /// The core gives no default route to these gateways, and one to the others.
    ///
    /// # Errors
    /// When BIRD on the core refuses.
    pub fn withhold_default_from(&self, gateways: &[usize]) -> Result<()> {
        const EXPORT: &str = "export where net = 0.0.0.0/0;";
        let text = example("bird/core.conf")?;
        let parts: Vec<&str> = text.split(EXPORT).collect();
        ensure!(parts.len() == 3, "the core exports to two gateways");
        let of = |number: usize| match gateways.contains(&number) {
            true => "export none;",
            false => EXPORT,
        };
        let text = [parts[0], of(0), parts[1], of(1), parts[2]].concat();
        fs::write(self.file("core.conf"), text)?;
        let socket = self.file("core.ctl").display().to_string();
        output(&self.core, BIRDC, &["-s", &socket, "configure"], "").map(drop)
    }

    /// Which gateways the router of the subscribers sends packets for the prefix to.
    ///
    /// # Errors
    /// When `ip` complains.
    pub fn served_by(&self) -> Result<Vec<usize>> {
        let routes = ip6(&self.access, &format!("route show {PREFIX}"))?;
        let leads = |number: &usize| routes.contains(&format!("dev gw{} ", number + 1));
        Ok((0..2).filter(leads).collect())
    }

    /// Which pools the core has routes to.
    ///
    /// # Errors
    /// When `ip` complains.
    pub fn pools_in_core(&self) -> Result<Vec<usize>> {
        let routes = ip(&self.core, "route show")?;
        let has = |number: &usize| {
            let route = format!("{} via ", POOLS[*number]);
            routes.lines().any(|line| line.starts_with(&route))
        };
        Ok((0..2).filter(has).collect())
    }

    /// What the routing daemons have said.
    #[must_use]
    pub fn routing_logs(&self) -> String {
        let logs = self.routing.iter();
        logs.map(|one| format!("{}:{}\n", one.command(), one.log()))
            .collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A file of the examples.
///
/// # Errors
/// When it is not there.
pub fn example(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/scale-out");
    let path = path.join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The same for a gateway.
fn of_gateway(number: usize, text: &str) -> String {
    if number == 0 {
        return text.to_owned();
    }
    let mut text = text.to_owned();
    for (ours, theirs) in OTHERS {
        text = text.replace(ours, theirs);
    }
    text
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a constant of this file")
}
