//! The networks in which the commands of the pages are run.
//!
//! ```text
//! laptop: laptop eth0 -- lan0 gateway wan0 -- internet     plat runs on the gateway
//! gateway: the same, and nothing runs
//! router: pc eth0 -- lan0 router eth0 -- lan0 gateway wan0 -- internet     plat runs on the gateway
//! carrier: customer eth0 -- access edge core -- internet, and nothing runs
//! ```
//!
//! Each host has `/etc`, `/run` and `/var/lib` of its own, so that commands can be those of a real
//! machine. On the internet there is 9.9.9.9 with a web server that tells clients their address, and
//! a resolver, 203.0.113.2, for which every name is 9.9.9.9.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::block::Command;
use super::compare::matched;
use crate::binaries::Binaries;
use crate::installed::PATIENCE;
use crate::link::{add_address, add_route, join, set_down, set_up, wait_for_link_local};
use crate::namespace::Namespace;
use crate::process::Daemon;
use crate::topology::MTU;
use crate::traffic::dns::Upstream;

const SERVER: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const PAUSE: Duration = Duration::from_millis(50);

/// Programs that pages use besides the two of ours, and where they are.
pub const PROGRAMS: &[&str] = &[
    "/usr/bin/ping",
    "/usr/bin/curl",
    "/usr/bin/dig",
    "/usr/sbin/ip",
    "/usr/bin/unshare",
];

/// The names of the networks.
pub const NAMES: &[&str] = &["laptop", "gateway", "router", "carrier"];

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// With exit code 0.
    Well,
    /// With another one.
    Badly,
    /// It goes on running.
    Never,
}

/// A network. What still runs in it ends with it.
pub struct Scene {
    running: Vec<Daemon>,
    _web: Web,
    _names: Upstream,
    hosts: Vec<Host>,
    programs: PathBuf,
    _directory: TempDir,
}

/// A machine: its network, and the directories that it has for itself.
struct Host {
    name: String,
    net: Namespace,
    root: PathBuf,
}

impl Scene {
    /// Builds the network of that name.
    ///
    /// # Errors
    /// When there is none of that name, or it cannot be built.
    pub fn new(name: &str, binaries: &Binaries) -> Result<Self> {
        let directory = TempDir::new()?;
        let names: &[&str] = match name {
            "laptop" => &["laptop", "gateway", "internet"],
            "gateway" => &["gateway", "laptop", "internet"],
            "router" => &["router", "pc", "gateway", "internet"],
            "carrier" => &["edge", "customer", "internet"],
            _ => bail!("there is no network {name}: {NAMES:?}"),
        };
        let hosts = names.iter().map(|name| Host::new(name, directory.path()));
        let hosts = hosts.collect::<Result<Vec<_>>>()?;
        let host = |name: &str| find(&hosts, name);
        let internet = &host("internet")?.net;
        match name {
            "carrier" => carrier(&hosts)?,
            "router" => {
                gateway(host("gateway")?, internet, (&host("router")?.net, "eth0"))?;
                home(&host("router")?.net, &host("pc")?.net)?;
            }
            _ => gateway(host("gateway")?, internet, (&host("laptop")?.net, "eth0"))?,
        }
        add_address((internet, "lo"), format!("{SERVER}/32").parse()?)?;
        for host in &hosts {
            let resolver = match &*host.name {
                "laptop" | "router" => "2001:db8:1::1".to_owned(),
                _ => RESOLVER.to_string(),
            };
            host.write("/etc/resolv.conf", &format!("nameserver {resolver}\n"))?;
            wait_for_link_local(&host.net, PATIENCE)?;
        }
        let mut scene = Self {
            _web: Web::start(internet)?,
            _names: Upstream::start(internet, RESOLVER, SERVER, 1)?,
            programs: programs(directory.path(), binaries)?,
            _directory: directory,
            running: Vec::new(),
            hosts,
        };
        let client = match name {
            "laptop" | "gateway" => "laptop",
            "router" => "router",
            _ => return Ok(scene),
        };
        if name != "gateway" {
            let plat = Command {
                text: "plat --lan lan0 --dns64 2001:db8:1::1".to_owned(),
                expected: Vec::new(),
            };
            let daemon = scene.start(Some("gateway"), &plat, Ends::Never)?;
            daemon.wait_for_line("ready: ", PATIENCE)?;
            scene.running.push(daemon);
        }
        // The cable is plugged in now: the kernel asks for routers.
        let client = &find(&scene.hosts, client)?.net;
        client.set_sysctl("ipv6/conf/eth0/accept_ra", "1")?;
        set_down(client, "eth0")?;
        set_up(client, "eth0")?;
        Ok(scene)
    }

    /// Writes a file of a host, the first one unless another is named.
    ///
    /// # Errors
    /// When it is not below `/etc`, or cannot be written.
    pub(super) fn write(&self, host: Option<&str>, path: &str, text: &str) -> Result<()> {
        self.host(host)?.write(path, text)
    }

    /// Runs a command until it prints what the page shows. One that goes on running is started once;
    /// another one is run again while it fails or shows something else, as what it asks for may not
    /// be there yet.
    ///
    /// # Errors
    /// When it exits otherwise than the page says, or a line of output does not come in time.
    pub(super) fn command(
        &mut self,
        host: Option<&str>,
        command: &Command,
        ends: Ends,
        patience: Duration,
        tell: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let end = Instant::now() + patience;
        let mut daemon = self.start(host, command, ends)?;
        loop {
            let status = match ends {
                Ends::Never => None,
                Ends::Well | Ends::Badly => Some(daemon.wait(PATIENCE)?),
            };
            let log = daemon.log();
            let seen = log.lines().map(str::trim_start);
            let missing = command.expected.get(matched(&command.expected, seen));
            let is_right = status.is_none_or(|status| status.success() == (ends == Ends::Well));
            if missing.is_none() && is_right {
                for line in log.lines().skip(1) {
                    tell(line);
                }
                break;
            }
            let what = missing.map_or("with another exit code".to_owned(), |line| {
                format!("without the line\n    {line}")
            });
            ensure!(Instant::now() < end, "{}: {what}\nin{log}", command.text);
            thread::sleep(PAUSE);
            if status.is_some() {
                daemon = self.start(host, command, ends)?;
            }
        }
        if ends == Ends::Never {
            self.running.push(daemon);
        }
        Ok(())
    }

    fn start(&self, host: Option<&str>, command: &Command, ends: Ends) -> Result<Daemon> {
        // Root of the host here has no other place of its own than these directories.
        const ENTER: &str = "exec 1>&2
            for place in etc run var/lib root; do mount --bind \"$1/$place\" /$place || exit 125; done
            export PATH=\"$2:$PATH\" LC_ALL=C
            cd /root && exec sh -c \"$3\"";
        let host = self.host(host)?;
        let root = host.root.display().to_string();
        let programs = self.programs.display().to_string();
        // A shell in between would be killed instead of what goes on running.
        let text = match ends {
            Ends::Never => format!("exec {}", command.text),
            Ends::Well | Ends::Badly => command.text.clone(),
        };
        let arguments = [
            "--mount",
            "--propagation=private",
            "sh",
            "-c",
            ENTER,
            "sh",
            &root,
            &programs,
            &text,
        ];
        Daemon::start(&host.net, Path::new("/usr/bin/unshare"), &arguments)
    }

    fn host(&self, name: Option<&str>) -> Result<&Host> {
        match name {
            Some(name) => find(&self.hosts, name),
            None => self.hosts.first().context("a network without hosts"),
        }
    }
}

impl Host {
    fn new(name: &str, directory: &Path) -> Result<Self> {
        let root = directory.join(name);
        for place in ["etc", "run", "var/lib", "root"] {
            fs::create_dir_all(root.join(place))?;
        }
        // Not all of it can be read without root, and none of that is needed.
        let mut copy = Process::new("cp");
        copy.args(["-a", "/etc/.", &root.join("etc").display().to_string()]);
        copy.stderr(std::process::Stdio::null()).status()?;
        let net = Namespace::new(name)?;
        // Namespaces may inherit these, and pages show what a program changes.
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            net.set_sysctl(key, "0")?;
        }
        Ok(Self {
            name: name.to_owned(),
            net,
            root,
        })
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let inside = path.strip_prefix("/etc/").context("not below /etc")?;
        let file = self.root.join("etc").join(inside);
        // What was copied may be a link to a file of the real host.
        let _ = fs::remove_file(&file);
        fs::write(&file, text).with_context(|| file.display().to_string())
    }
}

fn find<'a>(hosts: &'a [Host], name: &str) -> Result<&'a Host> {
    let found = hosts.iter().find(|host| host.name == name);
    found.with_context(|| format!("there is no host {name} here"))
}

/// `client eth0 -- lan0 gateway wan0 -- internet`.
fn gateway(gateway: &Host, internet: &Namespace, client: (&Namespace, &str)) -> Result<()> {
    let gateway = &gateway.net;
    join(client, (gateway, "lan0"), MTU)?;
    join((gateway, "wan0"), (internet, "eth0"), MTU)?;
    add_address((gateway, "lan0"), "2001:db8:1::1/64".parse()?)?;
    add_address((gateway, "wan0"), "203.0.113.1/24".parse()?)?;
    add_address((internet, "eth0"), format!("{RESOLVER}/24").parse()?)?;
    add_route(gateway, "0.0.0.0/0".parse()?, RESOLVER.into(), None)
}

/// `pc eth0 -- lan0 router`: a home network that has IPv4 only.
fn home(router: &Namespace, pc: &Namespace) -> Result<()> {
    join((pc, "eth0"), (router, "lan0"), MTU)?;
    add_address((router, "lan0"), "192.168.1.1/24".parse()?)?;
    add_address((pc, "eth0"), "192.168.1.9/24".parse()?)?;
    add_route(
        pc,
        "0.0.0.0/0".parse()?,
        Ipv4Addr::new(192, 168, 1, 1).into(),
        None,
    )
}

/// `customer eth0 -- access edge core -- internet`: everything is routed, nothing announced.
fn carrier(hosts: &[Host]) -> Result<()> {
    let net = |name| find(hosts, name).map(|host| &host.net);
    let (customer, edge, internet) = (net("customer")?, net("edge")?, net("internet")?);
    join((customer, "eth0"), (edge, "access"), MTU)?;
    join((edge, "core"), (internet, "eth0"), MTU)?;
    add_address((customer, "eth0"), "2001:db8:1000:100::7/64".parse()?)?;
    add_address((edge, "access"), "2001:db8:1000:100::1/64".parse()?)?;
    add_address((edge, "core"), "203.0.113.1/24".parse()?)?;
    add_address((internet, "eth0"), format!("{RESOLVER}/24").parse()?)?;
    add_route(
        customer,
        "::/0".parse()?,
        "2001:db8:1000:100::1".parse()?,
        None,
    )?;
    add_route(edge, "0.0.0.0/0".parse()?, RESOLVER.into(), None)?;
    let edge4 = Ipv4Addr::new(203, 0, 113, 1);
    add_route(internet, "192.0.2.0/24".parse()?, edge4.into(), None)
}

/// The two programs under their names, and `sudo`, which has nothing to do.
fn programs(directory: &Path, binaries: &Binaries) -> Result<PathBuf> {
    let programs = directory.join("bin");
    fs::create_dir(&programs)?;
    for (name, path) in [("clat", &binaries.clat), ("plat", &binaries.plat)] {
        std::os::unix::fs::symlink(path, programs.join(name))?;
    }
    let sudo = programs.join("sudo");
    fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n")?;
    fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755))?;
    Ok(programs)
}

/// A web server that says who asks.
struct Web {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    fn start(namespace: &Namespace) -> Result<Self> {
        let listener = namespace.run(|| Ok(TcpListener::bind((SERVER, 80))?))?;
        listener.set_nonblocking(true)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if serve(&listener).is_err() {
                    thread::sleep(PAUSE);
                }
            }
        });
        Ok(Self {
            is_over,
            thread: Some(thread),
        })
    }
}

fn serve(listener: &TcpListener) -> std::io::Result<()> {
    let (mut client, address) = listener.accept()?;
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = [0; 4096];
    let _ = client.read(&mut request)?;
    let body = format!("Hello, {}!\n", address.ip());
    let length = body.len();
    write!(
        client,
        "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

impl Drop for Web {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
