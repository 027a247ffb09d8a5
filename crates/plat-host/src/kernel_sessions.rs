//! Sessions of the stateful translator as flows in the kernel: an entry for each direction.

use std::time::Duration;

use fast_path::{Flow, FlowTable, Key, KeyV4, KeyV6, StaticMapping, ToV4, ToV6, Usage};
use nat64::Protocol;
use nat64::event::SessionEntry;
use nat64::offload::{Carried, FlowOffload, LastUse, Load, Offer, Side};
use pnet_packet::ip::IpNextHeaderProtocols;
use tracing::debug;
use xlat_core::Instant;
use xlat_core::addr::{EamTable, Ipv4Prefix, Pref64, Pref64s};
use xlat_core::mapper::Ports;

/// The kernel's flows, as what carries sessions.
#[derive(Debug)]
pub struct KernelSessions {
    flows: FlowTable,
    /// In the order that sessions count them in.
    pref64s: Vec<Pref64>,
}

impl KernelSessions {
    /// Over the program's table of flows, behind these NAT64 prefixes.
    pub fn new(flows: FlowTable, pref64s: &Pref64s) -> Self {
        Self {
            flows,
            pref64s: pref64s.iter().copied().collect(),
        }
    }

    /// Packets from the client, and from the remote node. `None` for a session that the program does not
    /// know how to translate.
    fn flows(&self, session: &SessionEntry) -> Option<[Flow; 2]> {
        let record = &session.record;
        let binding = &record.binding;
        let (protocol6, protocol4) = match binding.protocol {
            Protocol::Udp => (IpNextHeaderProtocols::Udp, IpNextHeaderProtocols::Udp),
            Protocol::Tcp => (IpNextHeaderProtocols::Tcp, IpNextHeaderProtocols::Tcp),
            Protocol::Icmp => (IpNextHeaderProtocols::Icmpv6, IpNextHeaderProtocols::Icmp),
        };
        let remote6 = self.pref64s.get(usize::from(session.pref64))?;
        let remote6 = remote6.embed(record.remote);
        let ports = |src, dst| Ports { src, dst };
        let (client, external, remote) = (
            binding.client_port,
            binding.external_port,
            record.remote_port,
        );
        let from_client = Flow::V6(
            KeyV6::new(binding.client, remote6, ports(client, remote), protocol6.0),
            ToV4::new(binding.external, record.remote, ports(external, remote)),
        );
        let (out, back) = (binding.external, ports(remote, external));
        let from_remote = Flow::V4(
            KeyV4::new(record.remote, out, back, protocol4.0),
            ToV6::new(remote6, binding.client, ports(remote, client)),
        );
        Some([from_client, from_remote])
    }

    fn each_way(
        &self,
        session: &SessionEntry,
        use_of: impl Fn(&Self, &Key) -> Option<Instant>,
    ) -> LastUse {
        let Some(flows) = self.flows(session) else {
            return LastUse::default();
        };
        let [from_client, from_remote] = flows.map(|flow| use_of(self, &flow.key()));
        LastUse {
            from_client,
            from_remote,
        }
    }

    fn load(&self, key: &Key) -> Option<Load> {
        let usage = self.flows.usage(key)?;
        Some(Load {
            packets: usage.packets,
            bytes: usage.bytes,
        })
    }
}

/// When the last packet was carried.
fn last_used(usage: Option<Usage>) -> Option<Instant> {
    usage.and_then(|usage| usage.last_used).map(instant)
}

impl FlowOffload for KernelSessions {
    fn install(&self, offers: &[Offer]) -> usize {
        let flows = offers.iter().map_while(|offer| {
            let [from_client, from_remote] = self.flows(&offer.session)?;
            Some(match offer.from {
                Side::Client => from_client,
                Side::Remote => from_remote,
            })
        });
        let flows: Vec<_> = flows.collect();
        let (installed, outcome) = self.flows.install(&flows, self.flows.epoch());
        if let Err(error) = outcome {
            debug!("sessions stay with the workers: {error}");
        }
        installed
    }

    fn last_use(&self, _: u32, session: &SessionEntry) -> LastUse {
        self.each_way(session, |kernel, key| last_used(kernel.flows.usage(key)))
    }

    fn remove(&self, _: u32, session: &SessionEntry) -> LastUse {
        self.each_way(session, |kernel, key| last_used(kernel.flows.remove(key)))
    }

    fn carried(&self, session: &SessionEntry) -> Option<Carried> {
        let loads = self.flows(session)?.map(|flow| self.load(&flow.key()));
        // A direction may be with the workers while the kernel has the other one.
        loads.iter().any(Option::is_some).then(|| Carried {
            from_client: loads[0].unwrap_or_default(),
            from_remote: loads[1].unwrap_or_default(),
        })
    }

    fn invalidate(&self) {
        if let Err(error) = self.flows.invalidate() {
            debug!("flows cannot be invalidated at once: {error}");
        }
    }
}

/// The kernel's time stamps are up to a tick of its clock too early: a session must not end before
/// its time.
fn instant(last_used: Duration) -> Instant {
    let nanos = u64::try_from(last_used.as_nanos()).unwrap_or(u64::MAX);
    Instant::from_nanos(nanos.saturating_add(CLOCK_TICK.as_nanos() as u64))
}

/// The longest tick of the kernel's coarse clock (HZ=100).
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// What the program knows of the static maps. Packets to the addresses of this host (`hidden`) and of
/// the pools are the workers': they are refused, or turned round.
pub fn static_mapping(
    eams: &EamTable,
    pref64s: &Pref64s,
    pools: impl IntoIterator<Item = Ipv4Prefix>,
    hidden: impl IntoIterator<Item = Ipv4Prefix>,
) -> Option<StaticMapping> {
    let rows: Vec<_> = eams.iter().copied().collect();
    let hidden = hidden.into_iter().chain(pools);
    let is_strict = pref64s.is_wkp_strict();
    (!rows.is_empty()).then(|| StaticMapping::gateway(rows, pref64s, is_strict, hidden))
}
