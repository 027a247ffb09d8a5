//! The address policy of a CLAT (RFC 6877): one local IPv4 prefix (usually one address) is one
//! IPv6 prefix (usually one address), and everybody else is behind the NAT64 prefix.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::{Eam, EamError, Pref64, special};
use crate::mapper::{ErrorFlow, ErrorRewrite, Flow, Mapper, Refusal, Rewrite};
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
        Self { local, pref64 }
    }

    /// The NAT64 prefix.
    pub fn pref64(&self) -> Pref64 {
        self.pref64
    }

    fn outbound(&self, flow: &Flow<Ipv4Addr>) -> Result<Rewrite<Ipv6Addr>, DropReason> {
        let src = self
            .local
            .lookup_v4(flow.src)
            .ok_or(DropReason::UnmappedSource)?;
        let dst = self.remote_v6(flow.dst)?;
        Ok(Rewrite {
            src,
            dst,
            ports: None,
        })
    }

    /// The way that a quoted packet went before: the twin of [`outbound`](Self::outbound).
    fn outbound_v6(&self, flow: &Flow<Ipv6Addr>) -> Result<Rewrite<Ipv4Addr>, DropReason> {
        let src = self
            .local
            .lookup_v6(flow.src)
            .ok_or(DropReason::UnmappedSource)?;
        let dst = self.remote_v4(
            flow.dst,
            DropReason::UnmappedDestination,
            DropReason::IllegalDestination,
        )?;
        Ok(Rewrite {
            src,
            dst,
            ports: None,
        })
    }

    fn inbound(&self, flow: &Flow<Ipv6Addr>) -> Result<Rewrite<Ipv4Addr>, DropReason> {
        let dst = self
            .local
            .lookup_v6(flow.dst)
            .ok_or(DropReason::UnmappedDestination)?;
        let src = self.remote_v4(
            flow.src,
            DropReason::UnmappedSource,
            DropReason::IllegalSource,
        )?;
        Ok(Rewrite {
            src,
            dst,
            ports: None,
        })
    }

    fn inbound_v4(&self, flow: &Flow<Ipv4Addr>) -> Result<Rewrite<Ipv6Addr>, DropReason> {
        let dst = self
            .local
            .lookup_v4(flow.dst)
            .ok_or(DropReason::UnmappedDestination)?;
        let src = self.embed(flow.src, DropReason::IllegalSource)?;
        Ok(Rewrite {
            src,
            dst,
            ports: None,
        })
    }

    fn remote_v6(&self, remote: Ipv4Addr) -> Result<Ipv6Addr, DropReason> {
        if self.local.lookup_v4(remote).is_some() {
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
        let dst = self.local.lookup_v6(error.dst);
        let dst = dst.ok_or(Refusal::Silent(DropReason::UnmappedDestination))?;
        let quoted = self.outbound_v6(&error.quoted).map_err(super::quoted)?;
        let src = self.pref64.extract(error.src);
        Ok(ErrorRewrite { src, dst, quoted })
    }

    fn map_v4_error(
        &mut self,
        error: &ErrorFlow<Ipv4Addr>,
        _now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        let dst = self.remote_v6(error.dst).map_err(Refusal::Silent)?;
        let quoted = self.inbound_v4(&error.quoted).map_err(super::quoted)?;
        // A router behind us may complain under an address that is not ours to translate: the
        // CLAT's own address stands in for it, as any other would be dropped on the way.
        let src = self.local.lookup_v4(error.src);
        Ok(ErrorRewrite { src, dst, quoted })
    }
}
