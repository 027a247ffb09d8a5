//! The address policy of a CLAT (RFC 6877): one local IPv4 prefix (usually one address) is one
//! IPv6 prefix (usually one address), and everybody else is behind the NAT64 prefix.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::{Eam, EamError, Pref64, special};
use crate::mapper::{
    ErrorFlow, ErrorRewrite, Flow, Mapper, PacketByPacket, Pass, Refusal, Rewrite,
};
use crate::reason::DropReason;
use crate::time::Instant;

/// Maps between the local hosts of a CLAT and the world behind a NAT64 prefix.
///
/// Only packets that belong to the CLAT cross: from IPv4 those that a local host sends, from IPv6
/// those that come to the CLAT's address out of the NAT64 prefix. ICMPv6 errors may come from any
/// router on the way, if what they quote could have been sent by the CLAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clat {
    local: Eam,
    /// Hosts behind a router, with IPv6 addresses of their own.
    lan: Vec<Eam>,
    pref64: Pref64,
}

impl Clat {
    /// The CLAT of one host.
    ///
    /// The well-known prefix is used for all addresses: whether the far end translates private
    /// ones is the far end's decision.
    ///
    /// # Errors
    /// If `v6` lies in the well-known prefix.
    pub fn new(v4: Ipv4Addr, v6: Ipv6Addr, pref64: Pref64) -> Result<Self, EamError> {
        Ok(Self::with_local(Eam::host(v4, v6)?, pref64))
    }

    /// The CLAT of a router: all addresses of an IPv4 prefix have an IPv6 address each.
    ///
    pub fn with_local(local: Eam, pref64: Pref64) -> Self {
        Self {
            local,
            lan: Vec::new(),
            pref64,
        }
    }

    /// The same CLAT, which also translates for the hosts of these prefixes (RFC 6877 section 6.3).
    #[must_use]
    pub fn and_lan(self, lan: impl IntoIterator<Item = Eam>) -> Self {
        Self {
            lan: lan.into_iter().collect(),
            ..self
        }
    }

    #[inline]
    fn local_v4(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        let lan = || self.lan.iter().find_map(|eam| eam.lookup_v4(address));
        self.local.lookup_v4(address).or_else(lan)
    }

    #[inline]
    fn local_v6(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let lan = || self.lan.iter().find_map(|eam| eam.lookup_v6(address));
        self.local.lookup_v6(address).or_else(lan)
    }

    /// The NAT64 prefix.
    pub fn pref64(&self) -> Pref64 {
        self.pref64
    }

    fn outbound(&self, flow: &Flow<Ipv4Addr>) -> Result<Rewrite<Ipv6Addr>, DropReason> {
        let src = self.local_v4(flow.src).ok_or(DropReason::UnmappedSource)?;
        let dst = self.remote_v6(flow.dst)?;
        Ok(Rewrite::new(src, dst))
    }

    /// The way that a quoted packet went before: the twin of [`outbound`](Self::outbound).
    fn outbound_v6(&self, flow: &Flow<Ipv6Addr>) -> Result<Rewrite<Ipv4Addr>, DropReason> {
        let src = self.local_v6(flow.src).ok_or(DropReason::UnmappedSource)?;
        let dst = self.remote_v4(
            flow.dst,
            DropReason::UnmappedDestination,
            DropReason::IllegalDestination,
        )?;
        Ok(Rewrite::new(src, dst))
    }

    fn inbound(&self, flow: &Flow<Ipv6Addr>) -> Result<Rewrite<Ipv4Addr>, DropReason> {
        let dst = self
            .local_v6(flow.dst)
            .ok_or(DropReason::UnmappedDestination)?;
        let src = self.remote_v4(
            flow.src,
            DropReason::UnmappedSource,
            DropReason::IllegalSource,
        )?;
        Ok(Rewrite::new(src, dst))
    }

    fn inbound_v4(&self, flow: &Flow<Ipv4Addr>) -> Result<Rewrite<Ipv6Addr>, DropReason> {
        let dst = self
            .local_v4(flow.dst)
            .ok_or(DropReason::UnmappedDestination)?;
        let src = self.embed(flow.src, DropReason::IllegalSource)?;
        Ok(Rewrite::new(src, dst))
    }

    fn remote_v6(&self, remote: Ipv4Addr) -> Result<Ipv6Addr, DropReason> {
        if self.local_v4(remote).is_some() {
            return Err(DropReason::IllegalDestination);
        }
        self.embed(remote, DropReason::IllegalDestination)
    }

    fn embed(&self, remote: Ipv4Addr, illegal: DropReason) -> Result<Ipv6Addr, DropReason> {
        if special::is_never_v4(remote) {
            Err(illegal)
        } else {
            Ok(self.pref64.embed(remote))
        }
    }

    fn remote_v4(
        &self,
        remote: Ipv6Addr,
        unmapped: DropReason,
        illegal: DropReason,
    ) -> Result<Ipv4Addr, DropReason> {
        let remote = self.pref64.extract(remote).ok_or(unmapped)?;
        if special::is_never_v4(remote) {
            Err(illegal)
        } else {
            Ok(remote)
        }
    }
}

impl PacketByPacket for Clat {}

impl Mapper for Clat {
    #[inline]
    fn map_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        _now: Instant,
    ) -> Result<Rewrite<Ipv4Addr>, Refusal> {
        // Who writes to the CLAT's address from elsewhere learns nothing (CL-22).
        self.inbound(flow).map_err(Refusal::Silent)
    }

    #[inline]
    fn map_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        _pass: Pass,
        _now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        self.outbound(flow).map_err(|reason| match reason {
            DropReason::IllegalDestination => super::prohibited(reason),
            _ => Refusal::Silent(reason),
        })
    }

    fn map_v6_error(
        &mut self,
        error: &ErrorFlow<Ipv6Addr>,
        _now: Instant,
    ) -> Result<ErrorRewrite<Ipv4Addr>, Refusal> {
        let dst = self.local_v6(error.dst);
        let dst = dst.ok_or(Refusal::Silent(DropReason::UnmappedDestination))?;
        let quoted = self.outbound_v6(&error.quoted).map_err(super::quoted)?;
        let src = self.pref64.extract(error.src);
        Ok(ErrorRewrite {
            src,
            dst,
            quoted,
            hairpin: false,
        })
    }

    fn map_v4_error(
        &mut self,
        error: &ErrorFlow<Ipv4Addr>,
        _pass: Pass,
        _now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        let dst = self.remote_v6(error.dst).map_err(Refusal::Silent)?;
        let quoted = self.inbound_v4(&error.quoted).map_err(super::quoted)?;
        // A router behind us may complain under an address that is not ours to translate: the
        // CLAT's own address stands in for it, as any other would be dropped on the way.
        let src = self.local_v4(error.src);
        Ok(ErrorRewrite {
            src,
            dst,
            quoted,
            hairpin: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnet_packet::ip::IpNextHeaderProtocols::Udp;

    const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
    const SERVER4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn host6() -> Ipv6Addr {
        v6("2001:db8:1::c1a7")
    }

    fn server6() -> Ipv6Addr {
        v6("2001:db8:64::198.51.100.7")
    }

    fn clat() -> Clat {
        Clat::new(HOST4, host6(), "2001:db8:64::/96".parse().unwrap()).unwrap()
    }

    fn flow<A>(src: A, dst: A) -> Flow<A> {
        Flow {
            src,
            dst,
            protocol: Udp,
            ports: None,
            tcp_flags: 0,
            fragment: None,
        }
    }

    #[test]
    fn cl_02_hosts_behind_a_router_have_addresses_of_their_own() {
        let lan: Eam = "192.168.1.0/24=2001:db8:2::c0a8:100/120".parse().unwrap();
        let mut clat = clat().and_lan([lan]);
        let (inside4, inside6) = (Ipv4Addr::new(192, 168, 1, 9), v6("2001:db8:2::c0a8:109"));
        let there = Rewrite::new(inside6, server6());
        let out = clat.map_v4(&flow(inside4, SERVER4), Pass::First, Instant::ZERO);
        assert_eq!(out, Ok(there));
        let back = Rewrite::new(SERVER4, inside4);
        let inward = clat.map_v6(&flow(server6(), inside6), Instant::ZERO);
        assert_eq!(inward, Ok(back));
        let own = clat.map_v4(&flow(HOST4, SERVER4), Pass::First, Instant::ZERO);
        assert_eq!(own.map(|rewrite| rewrite.src), Ok(host6()));
        let stranger = Ipv4Addr::new(192, 168, 2, 9);
        let refused = clat.map_v4(&flow(stranger, SERVER4), Pass::First, Instant::ZERO);
        assert!(refused.is_err());
        let among_them = clat.map_v4(&flow(HOST4, inside4), Pass::First, Instant::ZERO);
        assert!(among_them.is_err());
    }

    #[test]
    fn cl_01_the_local_host_talks_to_the_world_behind_the_prefix() {
        let mut clat = clat();
        let out = clat.map_v4(&flow(HOST4, SERVER4), Pass::First, Instant::ZERO);
        assert_eq!(out, Ok(Rewrite::new(host6(), server6())));
        let back = clat.map_v6(&flow(server6(), host6()), Instant::ZERO);
        assert_eq!(back, Ok(Rewrite::new(SERVER4, HOST4)));
    }

    #[test]
    fn cl_22_only_the_prefix_and_errors_about_our_own_packets_come_in() {
        let mut clat = clat();
        let stranger = v6("2001:db8:ffff::1");
        let silent = |reason| Err(Refusal::Silent(reason));
        let from = clat.map_v6(&flow(stranger, host6()), Instant::ZERO);
        assert_eq!(from, silent(DropReason::UnmappedSource));
        let to = clat.map_v6(&flow(server6(), stranger), Instant::ZERO);
        assert_eq!(to, silent(DropReason::UnmappedDestination));

        let mut error = |quoted| {
            let error = ErrorFlow {
                src: stranger,
                dst: host6(),
                quoted,
            };
            clat.map_v6_error(&error, Instant::ZERO)
        };
        let ours = error(flow(host6(), server6())).unwrap();
        assert_eq!((ours.src, ours.dst), (None, HOST4));
        let others = error(flow(stranger, server6()));
        assert_eq!(
            others.err(),
            Some(Refusal::Silent(DropReason::QuotedUnmapped))
        );
    }

    #[test]
    fn cl_15_se_05_what_is_local_never_leaves() {
        let mut clat = clat();
        for dst in [
            "192.0.0.1",
            "192.0.0.2",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
        ] {
            let refused = clat.map_v4(
                &flow(HOST4, dst.parse().unwrap()),
                Pass::First,
                Instant::ZERO,
            );
            assert!(refused.is_err(), "{dst}");
        }
        let other = clat.map_v4(
            &flow(Ipv4Addr::new(10, 0, 0, 1), SERVER4),
            Pass::First,
            Instant::ZERO,
        );
        assert_eq!(other, Err(Refusal::Silent(DropReason::UnmappedSource)));
    }

    #[test]
    fn an_error_from_behind_the_host_leaves_under_the_clats_own_address() {
        let error = ErrorFlow {
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: SERVER4,
            quoted: flow(SERVER4, HOST4),
        };
        let rewrite = clat()
            .map_v4_error(&error, Pass::First, Instant::ZERO)
            .unwrap();
        assert_eq!((rewrite.src, rewrite.dst), (None, server6()));
        assert_eq!(rewrite.quoted.src, server6());
    }
}
