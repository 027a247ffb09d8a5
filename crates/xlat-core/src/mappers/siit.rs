//! Stateless translation between whole networks: explicit mappings first (RFC 7757), RFC 6052 for
//! everything else, for each address on its own.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::{prohibited, quoted};
use crate::addr::{EamTable, Pref64s};
use crate::mapper::{
    ErrorFlow, ErrorRewrite, Flow, Mapper, PacketByPacket, Pass, Refusal, Rewrite,
};
use crate::reason::DropReason;
use crate::time::Instant;

/// How two IPv6 nodes with explicit mappings reach each other by their IPv4 addresses (RFC 7757
/// section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hairpin {
    /// The translator turns such packets round itself (section 4.2.2).
    #[default]
    Intrinsic,
    /// Another router sends them back to the translator; so no packet from IPv4 has an explicitly
    /// mapped source (section 4.2.1).
    Simple,
    /// Such packets go out to IPv4 like all others.
    Off,
}

/// Maps by explicit mappings and RFC 6052.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Siit {
    eams: EamTable,
    pref64s: Pref64s,
    hairpin: Hairpin,
}

impl Siit {
    /// A mapper with these tables.
    pub fn new(eams: EamTable, pref64s: Pref64s, hairpin: Hairpin) -> Self {
        Self {
            eams,
            pref64s,
            hairpin,
        }
    }

    /// The explicit mappings.
    pub fn eams(&self) -> &EamTable {
        &self.eams
    }

    /// Maps by other explicit mappings from now on.
    pub fn set_eams(&mut self, eams: EamTable) {
        self.eams = eams;
    }

    /// The NAT64 prefixes.
    pub fn pref64s(&self) -> &Pref64s {
        &self.pref64s
    }

    /// True if a packet to the IPv6 address `to`, which stands for the IPv4 address `address`, must
    /// turn round: it is that of a node with an explicit mapping, and not called by its IPv6 name.
    #[inline]
    pub fn is_hairpin(&self, to: Ipv6Addr, address: Ipv4Addr) -> bool {
        self.hairpin == Hairpin::Intrinsic
            && !self.eams.is_empty()
            && self.eams.lookup_v4(address).is_some()
            && self.eams.lookup_v6(to).is_none()
    }

    fn flow_v6(&self, flow: &Flow<Ipv6Addr>) -> Result<Rewrite<Ipv4Addr>, DropReason> {
        let src = match self.eams.lookup_v6(flow.src) {
            Some(src) => src,
            None => self.pref64s.source(flow.src)?.0,
        };
        let dst = match self.eams.lookup_v6(flow.dst) {
            Some(dst) => dst,
            None => self.pref64s.destination(flow.dst)?.0,
        };
        Ok(Rewrite::new(src, dst))
    }

    fn flow_v4(
        &self,
        flow: &Flow<Ipv4Addr>,
        src_by: By,
        dst_by: By,
    ) -> Result<Rewrite<Ipv6Addr>, DropReason> {
        let pref64 = self.pref64s.first();
        let src = match self.explicit(flow.src, src_by) {
            Some(src) => src,
            None => self
                .pref64s
                .embed_source(pref64.ok_or(DropReason::UnmappedSource)?, flow.src)?,
        };
        let dst = match self.explicit(flow.dst, dst_by) {
            Some(dst) => dst,
            None => self
                .pref64s
                .embed_destination(pref64.ok_or(DropReason::UnmappedDestination)?, flow.dst)?,
        };
        Ok(Rewrite::new(src, dst))
    }

    fn explicit(&self, address: Ipv4Addr, by: By) -> Option<Ipv6Addr> {
        match by {
            By::AllTables => self.eams.lookup_v4(address),
            By::Rfc6052 => None,
        }
    }

    /// True if no source is shown by an explicit mapping.
    #[inline]
    fn suppresses(&self, pass: Pass) -> bool {
        pass == Pass::Hairpin || self.hairpin == Hairpin::Simple
    }

    /// An IPv4 packet on its way to IPv6; `suppress` is the rule of RFC 7757 section 4.2.1: the
    /// receiver must see the sender by its IPv4 address, so that its answer comes back here.
    fn packet_v4(
        &self,
        flow: &Flow<Ipv4Addr>,
        suppress: bool,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        let src_by = if suppress { By::Rfc6052 } else { By::AllTables };
        self.flow_v4(flow, src_by, By::AllTables)
            .map_err(prohibited)
    }

    /// Twin of [`packet_v4`](Self::packet_v4) for ICMP errors, which quote the packet the other
    /// way round.
    fn error_v4(
        &self,
        error: &ErrorFlow<Ipv4Addr>,
        suppress: bool,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        let inner_by = if suppress { By::Rfc6052 } else { By::AllTables };
        let from_peer = suppress && error.src == error.quoted.dst;
        let outer_by = if from_peer {
            By::Rfc6052
        } else {
            By::AllTables
        };
        let quoted = self
            .flow_v4(&error.quoted, By::AllTables, inner_by)
            .map_err(quoted)?;
        let pref64 = self.pref64s.first();
        let dst = match self.eams.lookup_v4(error.dst) {
            Some(dst) => dst,
            None => pref64
                .ok_or(DropReason::UnmappedDestination)
                .and_then(|pref64| self.pref64s.embed_destination(pref64, error.dst))
                .map_err(Refusal::Silent)?,
        };
        // Whoever complains, however illegal its address, is shown for troubleshooting (RFC 7915
        // section 4.1).
        let src = self
            .explicit(error.src, outer_by)
            .or_else(|| pref64.map(|pref64| pref64.embed(error.src)));
        Ok(ErrorRewrite {
            src,
            dst,
            quoted,
            hairpin: false,
        })
    }
}

/// What an IPv4 address is looked up in.
#[derive(Clone, Copy)]
enum By {
    /// Explicit mappings, then RFC 6052.
    AllTables,
    /// RFC 6052 only.
    Rfc6052,
}

impl PacketByPacket for Siit {}

impl Mapper for Siit {
    #[inline]
    fn map_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        _now: Instant,
    ) -> Result<Rewrite<Ipv4Addr>, Refusal> {
        let rewrite = self.flow_v6(flow).map_err(prohibited)?;
        Ok(Rewrite {
            hairpin: self.is_hairpin(flow.dst, rewrite.dst),
            ..rewrite
        })
    }

    #[inline]
    fn map_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        pass: Pass,
        _now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        self.packet_v4(flow, self.suppresses(pass))
    }

    fn map_v6_error(
        &mut self,
        error: &ErrorFlow<Ipv6Addr>,
        _now: Instant,
    ) -> Result<ErrorRewrite<Ipv4Addr>, Refusal> {
        let quoted = self.flow_v6(&error.quoted).map_err(quoted)?;
        let dst = match self.eams.lookup_v6(error.dst) {
            Some(dst) => dst,
            None => {
                self.pref64s
                    .destination(error.dst)
                    .map_err(Refusal::Silent)?
                    .0
            }
        };
        let src = self.eams.lookup_v6(error.src);
        let src = src.or_else(|| self.pref64s.source(error.src).ok().map(|(src, _)| src));
        Ok(ErrorRewrite {
            src,
            dst,
            quoted,
            hairpin: self.is_hairpin(error.quoted.src, quoted.src),
        })
    }

    fn map_v4_error(
        &mut self,
        error: &ErrorFlow<Ipv4Addr>,
        pass: Pass,
        _now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        self.error_v4(error, self.suppresses(pass))
    }
}
