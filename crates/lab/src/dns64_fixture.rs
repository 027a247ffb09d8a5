//! A client, and an edge whose `plat` is its DNS64.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::binaries::Binaries;
use crate::installed::{Installed, Setup};
use crate::topology::{Plan, SERVER, Topology};
use crate::traffic::dns::{Act, Asked, Message, Upstream, addresses, exchange, over_tcp, over_udp};

/// The edge on the client's link: where the DNS64 is.
pub const RESOLVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// The network.
pub struct Dns64Fixture {
    /// What runs in it.
    pub installed: Installed,
}

impl Dns64Fixture {
    /// The resolver upstream is [`SERVER`].
    ///
    /// # Errors
    /// When the network cannot be built.
    pub fn new(flags: &[&str]) -> Result<Self> {
        Self::with_upstreams(&[&SERVER.to_string()], flags)
    }

    /// With other resolvers upstream.
    ///
    /// # Errors
    /// When the network cannot be built.
    pub fn with_upstreams(upstreams: &[&str], flags: &[&str]) -> Result<Self> {
        let mut all = vec!["--pool=192.168.64.9", "--dns64=2001:db8:1::1"];
        for upstream in upstreams {
            all.extend(["--dns64-upstream", upstream]);
        }
        all.extend(flags);
        let topology = Topology::new(&Plan::default())?;
        let setup = Setup::plat_alone(&all);
        Ok(Self {
            installed: Installed::with(&Binaries::find()?, topology, setup)?,
        })
    }

    /// The namespaces.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.installed.topology
    }

    /// A resolver on the server whose names have so many IPv4 addresses.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn upstream(&self, count: u8) -> Result<Upstream> {
        Upstream::start(&self.topology().server, SERVER, SERVER, count)
    }

    /// A resolver on the server that goes by a script.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn scripted(
        &self,
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Result<Upstream> {
        self.scripted_at(SERVER, 53, script)
    }

    /// The same at another address and port of the server.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn scripted_at(
        &self,
        address: Ipv4Addr,
        port: u16,
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Result<Upstream> {
        Upstream::scripted(&self.topology().server, (address, port).into(), script)
    }

    /// The IPv6 addresses that the client is told.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn ask(&self, name: &str, kind: u16) -> Result<Vec<Ipv6Addr>> {
        Ok(addresses(&self.exchange(name, kind)?))
    }

    /// One question over UDP, and its answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn exchange(&self, name: &str, kind: u16) -> Result<Vec<u8>> {
        let client = self.topology().client();
        client.run(|| exchange(RESOLVER, name, kind))
    }

    /// A query of the client over UDP, and the answer.
    ///
    /// # Errors
    /// When there is none that can be read.
    pub fn query(&self, query: &Message) -> Result<Message> {
        let client = self.topology().client();
        let answer = client.run(|| over_udp(RESOLVER, &query.to_bytes()))?;
        Message::parse(&answer)
    }

    /// The same over TCP.
    ///
    /// # Errors
    /// When there is none that can be read.
    pub fn query_over_tcp(&self, query: &Message) -> Result<Message> {
        let client = self.topology().client();
        let answer = client.run(|| over_tcp(RESOLVER, &query.to_bytes()))?;
        Message::parse(&answer)
    }

    /// What a program says that runs at the client.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut process = Command::new(program);
        process.args(arguments);
        process.stdout(Stdio::piped()).stderr(Stdio::piped());
        let process = self.topology().client().spawn(process)?;
        let output = process.wait_with_output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
