//! The network under attack: an IPv4 program behind `clat`, which learns of `plat` by its router
//! advertisements; an attacker on a link beside, and one in the Internet.

use std::net::{Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use tempfile::TempDir;

use super::flow::{Beside, Flow};
use super::{Found, Ground};
use crate::binaries::Binaries;
use crate::fake_host::FAKE_HOSTS4;
use crate::fixture::SHARED;
use crate::inspect::{Facts, difference, inspect};
use crate::installed::PATIENCE;
use crate::link::{add_address, add_route};
use crate::namespace::Namespace;
use crate::process::Daemon;
use crate::topology::{PREF64, Plan, SERVER, Topology, UPLINK, embedded};
use crate::traffic::dns::{AAAA, Act, Asked, Message, Upstream};

/// The edge on the victim's link: router, DNS64 and PCP server.
pub(super) const EDGE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// The edge's interfaces towards the victim and towards the attacker.
pub(super) const VICTIM: &str = "client0";
pub(super) const ATTACKER: &str = "client1";

/// The link between edge and server, for what needs no translation.
const FORWARDED: [IpNet; 2] = [server_link(1), server_link(2)];

const fn server_link(host: u16) -> IpNet {
    let address = Ipv6Addr::new(0xfd98, 0, 0, 0, 0, 0, 0, host);
    IpNet::V6(ipnet::Ipv6Net::new_assert(address, 64))
}

/// What a daemon may grow by under attack, KiB: its tables have their size, its heap has not.
const GROWTH: u64 = 32 * 1024;
/// Lines that it may say. It says once what repeats, and again every so often.
const LINES: usize = 60;

/// One of the two daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Clat,
    Plat,
}

impl Program {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Clat => "clat",
            Self::Plat => "plat",
        }
    }

    /// Where its metrics are, on its host.
    pub(super) fn metrics(self) -> &'static str {
        match self {
            Self::Clat => "127.0.0.1:9465",
            Self::Plat => "127.0.0.1:9464",
        }
    }
}

/// The network with both daemons.
pub(super) struct Net {
    pub(super) clat: Daemon,
    pub(super) plat: Daemon,
    pub(super) topology: Topology,
    _upstream: Upstream,
    directory: TempDir,
    binaries: Binaries,
    /// The hosts without daemons.
    without: [Facts; 2],
    /// Memory and lines of each when it was ready.
    ready: [(u64, usize); 2],
}

impl Net {
    /// Returns when both are ready.
    pub(super) fn new(ground: &Ground<'_>) -> Result<Self> {
        Self::with_upstream(ground, |asked| asked.v4_only(SERVER).into())
    }

    /// The same with a resolver upstream that goes by a script.
    pub(super) fn with_upstream(
        ground: &Ground<'_>,
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Result<Self> {
        let topology = Topology::new(&Plan {
            clients: 2,
            ..Plan::default()
        })?;
        // What answers the attacker in the Internet goes there.
        add_route(&topology.edge, FAKE_HOSTS4.into(), SERVER.into(), None)?;
        let [edge, server] = FORWARDED;
        add_address((&topology.edge, UPLINK), edge)?;
        add_address((&topology.server, UPLINK), server)?;
        let victims = IpNet::new_assert(Topology::client_address(0).into(), 64).trunc();
        add_route(&topology.server, victims, edge.addr(), None)?;
        let upstream = Upstream::scripted(&topology.server, (SERVER, 53).into(), script)?;
        let directory = tempfile::tempdir()?;
        let without = [inspect(topology.client())?, inspect(&topology.edge)?];
        std::fs::write(directory.path().join("plat.toml"), plat_file(0))?;
        std::fs::write(directory.path().join("clat.toml"), "")?;
        let start = |program| start(ground.binaries, &topology, program, directory.path());
        let plat = start(Program::Plat)?;
        plat.wait_for_line(READY, PATIENCE)?;
        let clat = start(Program::Clat)?;
        clat.wait_for_line(READY, PATIENCE)?;
        let state = |daemon: &Daemon| Ok::<_, anyhow::Error>((daemon.resident()?, lines(daemon)));
        let ready = [state(&clat)?, state(&plat)?];
        Ok(Self {
            clat,
            plat,
            topology,
            _upstream: upstream,
            directory,
            binaries: ground.binaries.clone(),
            without,
            ready,
        })
    }

    /// The established flow.
    pub(super) fn flow(&self) -> Result<Flow> {
        Flow::start(self.topology.client(), &self.topology.server, SERVER.into())
    }

    /// A flow that the edge forwards as it is, from the victim to the server's IPv6 address.
    fn forwarded_flow(&self) -> Result<Flow> {
        let to = FORWARDED[1].addr();
        let flow = Flow::start(self.topology.client(), &self.topology.server, to);
        flow.context("without translation")
    }

    pub(super) fn host(&self, program: Program) -> &Namespace {
        match program {
            Program::Clat => self.topology.client(),
            Program::Plat => &self.topology.edge,
        }
    }

    pub(super) fn daemon(&mut self, program: Program) -> &mut Daemon {
        match program {
            Program::Clat => &mut self.clat,
            Program::Plat => &mut self.plat,
        }
    }

    /// Starts a program in place of one that has ended, without waiting for it.
    pub(super) fn start(&mut self, program: Program) -> Result<()> {
        let daemon = start(
            &self.binaries,
            &self.topology,
            program,
            self.directory.path(),
        )?;
        *self.daemon(program) = daemon;
        Ok(())
    }

    /// The same, until it is ready.
    pub(super) fn start_ready(&mut self, program: Program) -> Result<()> {
        self.start(program)?;
        self.daemon(program).wait_for_line(READY, PATIENCE)
    }

    /// Where a program keeps files of a kind, `run` or `state`.
    pub(super) fn files(&self, program: Program, kind: &str) -> PathBuf {
        self.directory.path().join(program.name()).join(kind)
    }

    /// Gives `plat` another configuration file, for a reload.
    pub(super) fn change_file(&self, number: usize) -> Result<()> {
        let file = self.directory.path().join("plat.toml");
        Ok(std::fs::write(file, plat_file(number))?)
    }

    /// The IPv6 address of the CLAT.
    pub(super) fn clat_address(&self) -> Result<Ipv6Addr> {
        let log = self.clat.log();
        let line = log.lines().find(|line| line.contains(READY));
        let address = line.and_then(|line| line.split(" as ").nth(1));
        let address = address.and_then(|rest| rest.split(' ').next());
        Ok(address.with_context(|| log.clone())?.parse()?)
    }

    /// What a program's `status` says; it answers in time, whatever goes on.
    pub(super) fn status(&self, program: Program) -> Result<String> {
        let path = match program {
            Program::Clat => &self.binaries.clat,
            Program::Plat => &self.binaries.plat,
        };
        let mut command = Command::new(path);
        command.args(["status", "--json", "--run-dir"]);
        command.arg(self.files(program, "run"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let begin = Instant::now();
        let output = self.host(program).spawn(command)?.wait_with_output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "status: {complaint}");
        let took = begin.elapsed();
        ensure!(took < Duration::from_secs(5), "status took {took:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The client asks the DNS64 as a stub resolver does: again when nothing comes for a while.
    pub(super) fn honest_question(&self, name: &str) -> Result<()> {
        let query = Message::query(name, AAAA).to_bytes();
        let answer = self.topology.client().run(|| {
            let socket = UdpSocket::bind("[::]:0")?;
            socket.connect((EDGE, 53))?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            let mut answer = vec![0; 4096];
            for _ in 0..PATIENCE.as_secs() / 2 {
                socket.send(&query)?;
                if let Ok(length) = socket.recv(&mut answer) {
                    answer.truncate(length);
                    return Ok(answer);
                }
            }
            anyhow::bail!("{name}: no answer in {PATIENCE:?}")
        })?;
        let found = Message::parse(&answer)?.addresses();
        ensure!(found == [embedded(SERVER)], "{name}: {found:?}");
        Ok(())
    }

    /// Measures the flow, and again while `attack` runs in a thread of its own until it is told to
    /// stop; then [`end`](Self::end). `attack` says what it did.
    pub(super) fn beside(
        mut self,
        ground: &Ground<'_>,
        attack: impl FnOnce(&Self, &std::sync::atomic::AtomicBool) -> Result<String> + Send,
    ) -> Result<Found> {
        let flow = self.flow()?;
        let forwarded = self.forwarded_flow()?;
        let before = flow.measure(ground.effort.flood.min(Duration::from_secs(3)))?;
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let (did, during, kernel) = std::thread::scope(|scope| {
            let attack = scope.spawn(|| attack(&self, &is_over));
            let kernel = scope.spawn(|| forwarded.measure(ground.effort.flood));
            let during = flow.measure(ground.effort.flood);
            let kernel = kernel.join();
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            let did = attack.join();
            let did = did.map_err(|_| anyhow::anyhow!("the attack panicked"))?;
            let kernel = kernel.map_err(|_| anyhow::anyhow!("the measurement panicked"))?;
            Ok::<_, anyhow::Error>((did?, during?, kernel?))
        })?;
        flow.exchange(10).context("the flow, after the attack")?;
        let left = self.end()?;
        Ok(Found {
            what: format!("{did}; {left}"),
            flow: Some(Beside {
                before,
                during,
                kernel,
            }),
        })
    }

    /// Both still run and answer, have not grown, have said little, end when they are told to, and
    /// leave their hosts as they were.
    pub(super) fn end(&mut self) -> Result<String> {
        let mut grown = Vec::new();
        for (program, at) in [(Program::Clat, 0), (Program::Plat, 1)] {
            let name = program.name();
            self.status(program).with_context(|| name.to_owned())?;
            let (memory, said) = self.ready[at];
            let daemon = self.daemon(program);
            let more = daemon.resident()?.saturating_sub(memory);
            ensure!(more < GROWTH, "{name} has grown by {more} KiB");
            let log = daemon.log();
            let new = lines(daemon).saturating_sub(said);
            ensure!(new < LINES, "{name} has said {new} lines:{log}");
            let is_broken = log.contains("panicked") || log.contains("was killed");
            ensure!(!is_broken, "{name}:{log}");
            grown.push(format!("{name} +{:.1} MiB", more as f64 / 1024.0));
        }
        self.stop()?;
        Ok(grown.join(", "))
    }

    /// Stops both, and looks at what they leave.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.stop_one(Program::Clat)?;
        self.stop_one(Program::Plat)
    }

    /// Stops one, and looks at what it leaves of its host's set-up.
    pub(super) fn stop_one(&mut self, program: Program) -> Result<()> {
        self.daemon(program).stop(PATIENCE)?;
        let left = difference(self.without(program), &inspect(self.host(program))?);
        let log = self.daemon(program).log();
        ensure!(left.is_empty(), "{} leaves {left:?}:{log}", program.name());
        Ok(())
    }

    /// The host without the daemon.
    pub(super) fn without(&self, program: Program) -> &Facts {
        match program {
            Program::Clat => &self.without[0],
            Program::Plat => &self.without[1],
        }
    }
}

/// What a daemon says when it translates.
const READY: &str = "ready: ";

/// The file before and after reloads.
fn plat_file(number: usize) -> String {
    let timeout = 5 + number % 5;
    let bind = match number % 2 {
        0 => String::new(),
        _ => format!("bind = \"tcp:{SHARED}:8080=[2001:db8:1:1::2]:80\"\n"),
    };
    format!("pool = \"{SHARED}\"\nudp-timeout = \"{timeout}m\"\n{bind}")
}

fn start(
    binaries: &Binaries,
    topology: &Topology,
    program: Program,
    directory: &Path,
) -> Result<Daemon> {
    let below = |kind: &str| {
        directory
            .join(program.name())
            .join(kind)
            .display()
            .to_string()
    };
    let file = directory.join(format!("{}.toml", program.name()));
    let mut flags: Vec<String> = ["--config".into(), file.display().to_string()].into();
    flags.extend(["--run-dir".into(), below("run")]);
    flags.extend(["--state-dir".into(), below("state")]);
    flags.extend(["--metrics".into(), program.metrics().into()]);
    match program {
        Program::Clat => {
            flags.extend(["--uplink".into(), UPLINK.into()]);
            Daemon::start(topology.client(), &binaries.clat, &flags)
        }
        Program::Plat => {
            flags.extend(["--prefix".into(), PREF64.to_string()]);
            flags.extend([
                "--lan".into(),
                VICTIM.into(),
                "--lan".into(),
                ATTACKER.into(),
            ]);
            flags.extend(["--dns64".into(), EDGE.to_string()]);
            flags.extend(["--dns64-upstream".into(), SERVER.to_string()]);
            flags.extend(["--max-sessions".into(), "20000".into()]);
            flags.extend(["--fragment-memory".into(), "1".into()]);
            // A cache of the default size fills in a flood and is no growth to complain of.
            flags.extend(["--dns64-cache".into(), "2000".into()]);
            Daemon::start(&topology.edge, &binaries.plat, &flags)
        }
    }
}

fn lines(daemon: &Daemon) -> usize {
    daemon.log().lines().count()
}

/// The attacker's own network.
pub(super) fn attackers_host(number: u16) -> Ipv6Addr {
    let net = IpNet::new_assert(Topology::client_address(1).into(), 64);
    let IpNet::V6(net) = net.trunc() else {
        return Ipv6Addr::UNSPECIFIED;
    };
    (net.network().to_bits() | 0x1000 | u128::from(number)).into()
}
