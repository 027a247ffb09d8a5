//! A table as plain data, to be printed and compared, and a table in the kernel.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use netlink_sys::Socket;

use super::NftError;
use super::destination_nat::{NewDestination, PREROUTING, Ports};
use super::family::Family;
use super::filter::{dump, find, number, text};
use super::forward::{BEFORE_SOURCE_NAT, Forward, FromHost, ToHost};
use super::guard::{FORWARD, ForwardOnlyTo};
use super::hidden::{LEAVING, NeverFrom, NoNewTo};
use super::interface::Interface;
use super::message::{Attributes, Batch, Chain, GET_TABLE, connect};
use super::solicitations::{INPUT, LimitSolicitations};
use super::source_nat::{NewSource, POSTROUTING};

/// A table, whose chains are those that its rules need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    family: Family,
    name: String,
    rules: Vec<Rule>,
}

/// Family and name, which identify a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TablePlace {
    family: Family,
    name: String,
}

/// A rule of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    NewDestination(NewDestination),
    NewSource(NewSource),
    ForwardOnlyTo(ForwardOnlyTo),
    NoNewTo(NoNewTo),
    NeverFrom(NeverFrom),
    LimitSolicitations(LimitSolicitations),
    ToHost(ToHost),
    FromHost(FromHost),
}

impl Rule {
    fn chain(&self) -> &'static Chain {
        match self {
            Self::NewDestination(_) | Self::ToHost(_) => &PREROUTING,
            Self::NewSource(_) => &POSTROUTING,
            Self::ForwardOnlyTo(_) | Self::NoNewTo(_) => &FORWARD,
            Self::NeverFrom(_) => &LEAVING,
            Self::LimitSolicitations(_) => &INPUT,
            Self::FromHost(_) => &BEFORE_SOURCE_NAT,
        }
    }

    fn encode(&self, attributes: &mut Attributes) {
        match self {
            Self::NewDestination(rule) => rule.encode(attributes),
            Self::NewSource(rule) => rule.encode(attributes),
            Self::ForwardOnlyTo(rule) => rule.encode(attributes),
            Self::NoNewTo(rule) => rule.encode(attributes),
            Self::NeverFrom(rule) => rule.encode(attributes),
            Self::LimitSolicitations(rule) => rule.encode(attributes),
            Self::ToHost(rule) => rule.encode(attributes),
            Self::FromHost(rule) => rule.encode(attributes),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewDestination(rule) => rule.fmt(f),
            Self::NewSource(rule) => rule.fmt(f),
            Self::ForwardOnlyTo(rule) => rule.fmt(f),
            Self::NoNewTo(rule) => rule.fmt(f),
            Self::NeverFrom(rule) => rule.fmt(f),
            Self::LimitSolicitations(rule) => rule.fmt(f),
            Self::ToHost(rule) => rule.fmt(f),
            Self::FromHost(rule) => rule.fmt(f),
        }
    }
}

impl Table {
    /// IPv4 packets from `sources` that leave by one of `outs` get the address of that interface.
    pub fn masquerade(
        name: &str,
        sources: &[RangeInclusive<Ipv4Addr>],
        outs: &[Interface],
    ) -> Self {
        let rule = |out| {
            let rules = sources.iter();
            rules.map(move |sources| Rule::NewSource(NewSource::masquerade(sources, out)))
        };
        Self {
            family: Family::Ip,
            name: name.into(),
            rules: outs.iter().flat_map(rule).collect(),
        }
    }

    /// The address `inner` of this host's translator is seen as `outer` outside: packets to these
    /// ports of `outer` go to `inner`, and packets from it that leave by `out` come from `outer`, with
    /// the ports that they have.
    pub fn exchange(
        name: &str,
        inner: Ipv4Addr,
        outer: Ipv4Addr,
        ports: &[Ports],
        out: &Interface,
    ) -> Self {
        let arriving = ports.iter();
        let arriving = arriving.flat_map(|ports| NewDestination::of(outer, ports, inner));
        let leaving = NewSource::keep_ports(inner, out, outer);
        let rules = arriving.map(Rule::NewDestination);
        Self {
            family: Family::Ip,
            name: name.into(),
            rules: rules.chain(leaving.map(Rule::NewSource)).collect(),
        }
    }

    /// Adds rules that make `hidden` addresses unknown outside. Packets of new connections to them
    /// that arrive by one of `outs` are dropped, unless the host's own rules have redirected them
    /// there (destination NAT). Packets from them never leave by another interface than `tun` with
    /// such a source: those of a connection that no rule has masqueraded, and those that belong to
    /// no connection and so cannot be.
    pub fn hide(
        mut self,
        hidden: &[RangeInclusive<Ipv4Addr>],
        outs: &[Interface],
        tun: &str,
    ) -> Self {
        for range in hidden {
            let in_by = outs.iter().map(|out| NoNewTo::new(out, range));
            self.rules.extend(in_by.map(Rule::NoNewTo));
            let never = NeverFrom::both(range, tun);
            self.rules.extend(never.map(Rule::NeverFrom));
        }
        self
    }

    /// IPv6 packets from `source` that leave by interface `out` get the address `to`. TCP and UDP
    /// packets also get a port of `ports`, which keeps them apart from the host's own connections
    /// from `to`.
    pub fn share(
        name: &str,
        source: Ipv6Addr,
        out: &str,
        to: Ipv6Addr,
        ports: &RangeInclusive<u16>,
    ) -> Self {
        let rules = NewSource::share(source, out, to, ports);
        Self {
            family: Family::Ip6,
            name: name.into(),
            rules: rules.map(Rule::NewSource).into(),
        }
    }

    /// The table `name`: IPv6 packets from interface `from` are forwarded to interface `to`, to the
    /// TUNs of other instances, and nowhere else.
    pub fn guard(name: &str, from: &str, to: &str) -> Self {
        Self {
            family: Family::Ip6,
            name: name.into(),
            rules: vec![Rule::ForwardOnlyTo(ForwardOnlyTo::new(from, to))],
        }
    }

    /// Router solicitations that arrive by one of these interfaces are limited, for each of them.
    pub fn limit_solicitations(name: &str, interfaces: &[String]) -> Self {
        let rules = interfaces.iter().map(|from| LimitSolicitations::new(from));
        Self {
            family: Family::Ip6,
            name: name.into(),
            rules: rules.map(Rule::LimitSolicitations).collect(),
        }
    }

    /// Ports of a shared address lead to hosts, for packets that arrive by `interface`, and the
    /// hosts' packets that leave by it have those ports. All are of one family; `None` without any.
    pub fn forwards(name: &str, interface: &str, forwards: &[Forward]) -> Option<Self> {
        let first = forwards.first()?;
        let rules = forwards.iter().map(|forward| forward.rules(interface));
        let (to, from): (Vec<_>, Vec<_>) = rules.unzip();
        let to = to.into_iter().map(Rule::ToHost);
        Some(Self {
            family: match first.outer {
                IpAddr::V4(_) => Family::Ip,
                IpAddr::V6(_) => Family::Ip6,
            },
            name: name.into(),
            rules: to.chain(from.into_iter().map(Rule::FromHost)).collect(),
        })
    }

    /// Name of the table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its family and name: the kernel can have only one table with both.
    pub(crate) fn place(&self) -> TablePlace {
        TablePlace {
            family: self.family,
            name: self.name.clone(),
        }
    }

    /// This table with the rules of `other` appended, except those it has already.
    pub(crate) fn and_rules_of(&self, other: &Self) -> Self {
        let mut both = self.clone();
        let more = other.rules.iter().filter(|rule| !self.rules.contains(rule));
        both.rules.extend(more.cloned());
        both
    }

    fn add_to(&self, batch: &mut Batch) {
        batch.add_table(&self.name);
        for chain in self.chains() {
            batch.add_chain(&self.name, chain);
        }
        for rule in &self.rules {
            batch.add_rule(&self.name, rule.chain().name, |attributes| {
                rule.encode(attributes);
            });
        }
    }

    /// The chains of the rules, each once.
    fn chains(&self) -> Vec<&'static Chain> {
        let mut chains: Vec<&Chain> = Vec::new();
        for chain in self.rules.iter().map(Rule::chain) {
            if !chains.contains(&chain) {
                chains.push(chain);
            }
        }
        chains
    }

    fn refused(&self, what: &'static str) -> impl FnOnce(io::Error) -> NftError {
        let table = Some(self.name.clone());
        move |source| NftError {
            what,
            table,
            source,
        }
    }
}

impl fmt::Display for TablePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

impl fmt::Display for Table {
    /// The equivalent `nft` commands, one per line, without a final newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            family,
            name,
            rules,
        } = self;
        write!(f, "nft add table {family} {name}")?;
        for chain in self.chains() {
            let (own, hook) = (chain.name, chain.declaration);
            write!(f, "\nnft 'add chain {family} {name} {own} {{ {hook}; }}'")?;
        }
        for rule in rules {
            let chain = rule.chain().name;
            write!(f, "\nnft add rule {family} {name} {chain} {rule}")?;
        }
        Ok(())
    }
}

/// A table in the kernel, deleted when dropped. It belongs to a socket of its own.
#[derive(Debug)]
pub(crate) struct OwnedTable {
    table: Table,
    socket: Socket,
}

impl OwnedTable {
    /// Makes the table.
    ///
    /// # Errors
    /// If the kernel refuses: CAP_NET_ADMIN and Linux 5.12 are needed, and the name must be free.
    pub(crate) fn make(table: &Table) -> Result<Self, NftError> {
        let socket = connect().map_err(table.refused("no netlink socket"))?;
        let owned = Self {
            table: table.clone(),
            socket,
        };
        let mut batch = Batch::new(table.family as u8);
        table.add_to(&mut batch);
        owned.send(batch)?;
        Ok(owned)
    }

    /// The table as it was made last.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Replaces the table by `table`, which has the same family and name, in one transaction.
    ///
    /// # Errors
    /// If the kernel refuses; the table is then unchanged.
    pub(crate) fn replace(&mut self, table: &Table) -> Result<(), NftError> {
        debug_assert!(self.table.place() == table.place());
        let mut batch = Batch::new(table.family as u8);
        if self.exists()? {
            batch.delete_table(&table.name);
        }
        table.add_to(&mut batch);
        self.send(batch)?;
        self.table = table.clone();
        Ok(())
    }

    /// True if the kernel has a table of this name that belongs to our socket. While it does, no
    /// other socket can change it, and `nft flush ruleset` skips it.
    ///
    /// # Errors
    /// If the tables cannot be listed.
    pub(crate) fn exists(&self) -> Result<bool, NftError> {
        let failed = || self.table.refused("the tables cannot be listed");
        let mut port = netlink_sys::SocketAddr::new(0, 0);
        self.socket.get_address(&mut port).map_err(failed())?;
        let socket = connect().map_err(failed())?;
        let mut found = false;
        dump(&socket, GET_TABLE, |body| {
            found |= is_table(body, &self.table, port.port_number());
        })
        .map_err(failed())?;
        Ok(found)
    }

    /// Makes the table again if it is missing. True if it was.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn repair(&mut self) -> Result<bool, NftError> {
        if self.exists()? {
            return Ok(false);
        }
        let table = self.table.clone();
        self.replace(&table)?;
        Ok(true)
    }

    fn send(&self, batch: Batch) -> Result<(), NftError> {
        let what = "no table of our own (Linux 5.12 with nf_tables is needed)";
        batch.send(&self.socket).map_err(self.table.refused(what))
    }
}

fn is_table(body: &[u8], table: &Table, owner: u32) -> bool {
    const NAME: u16 = 1;
    const OWNER: u16 = 7;
    let Some((header, attributes)) = body.split_at_checked(4) else {
        return false;
    };
    header[0] == table.family as u8
        && find(attributes, NAME).map(text).as_deref() == Some(&*table.name)
        && find(attributes, OWNER).and_then(number) == Some(owner)
}
