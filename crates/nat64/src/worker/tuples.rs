//! Tuples: what a packet's addresses and ports say about its session (RFC 6146 section 3.4).

use std::net::{Ipv4Addr, Ipv6Addr};

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use xlat_core::DropReason;
use xlat_core::mapper::{Flow, Ports, Refusal, Unreachable};
use xlat_core::wire::tcp::ACK;

use crate::tcp::is_insane;
use crate::tuple::{ClientTuple, ExternalTuple, Protocol};

/// Determining the incoming tuple (RFC 6146 section 3.4), from IPv6.
#[inline]
pub(super) fn client_tuple(
    flow: &Flow<Ipv6Addr>,
    remote: Ipv4Addr,
) -> Result<ClientTuple, Refusal> {
    let protocol = protocol(flow.protocol)?;
    let ports = checked_ports(protocol, flow.ports, flow.tcp_flags)?;
    Ok(ClientTuple {
        protocol,
        client: flow.src,
        client_port: ports.src,
        remote: remote.to_bits(),
        remote_port: remote_port(protocol, ports.dst),
    })
}

/// Determining the incoming tuple, from IPv4.
#[inline]
pub(super) fn external_tuple(flow: &Flow<Ipv4Addr>) -> Result<ExternalTuple, Refusal> {
    let protocol = protocol(flow.protocol)?;
    let ports = checked_ports(protocol, flow.ports, flow.tcp_flags)?;
    Ok(ExternalTuple {
        protocol,
        external: flow.dst.to_bits(),
        external_port: ports.dst,
        remote: flow.src.to_bits(),
        remote_port: remote_port(protocol, ports.src),
    })
}

pub(super) fn protocol(number: IpNextHeaderProtocol) -> Result<Protocol, Refusal> {
    match number {
        IpNextHeaderProtocols::Udp => Ok(Protocol::Udp),
        IpNextHeaderProtocols::Tcp => Ok(Protocol::Tcp),
        IpNextHeaderProtocols::Icmp | IpNextHeaderProtocols::Icmpv6 => Ok(Protocol::Icmp),
        _ => Err(Refusal::Answer(
            DropReason::UnsupportedProtocol,
            Unreachable::Protocol,
        )),
    }
}

fn checked_ports(protocol: Protocol, ports: Option<Ports>, flags: u8) -> Result<Ports, Refusal> {
    let ports = ports.ok_or(Refusal::Silent(DropReason::TransportTruncated))?;
    let is_bad = match protocol {
        Protocol::Icmp => false,
        Protocol::Udp => ports.src == 0 || ports.dst == 0,
        Protocol::Tcp => ports.src == 0 || ports.dst == 0 || is_insane(flags),
    };
    if is_bad {
        return Err(Refusal::Silent(DropReason::BadTransport));
    }
    Ok(ports)
}

/// An ICMP query has one identifier, which belongs to the client (RFC 6146 section 3.2).
const fn remote_port(protocol: Protocol, port: u16) -> u16 {
    match protocol {
        Protocol::Icmp => 0,
        Protocol::Udp | Protocol::Tcp => port,
    }
}

/// Ports of the outgoing tuple. For ICMP the identifier is the client's or its external form,
/// whichever of the two is not the remote node's zero.
pub(super) fn ports(protocol: Protocol, src: u16, dst: u16) -> Ports {
    match protocol {
        Protocol::Icmp => Ports::identifier(src | dst),
        Protocol::Udp | Protocol::Tcp => Ports { src, dst },
    }
}

/// The flow in the other direction.
pub(super) fn turned<A: Copy>(flow: &Flow<A>) -> Flow<A> {
    Flow {
        src: flow.dst,
        dst: flow.src,
        ports: flow.ports.map(|ports| Ports {
            src: ports.dst,
            dst: ports.src,
        }),
        // The flags of a quoted segment are often cut off, and nothing is decided by them.
        tcp_flags: ACK,
        ..*flow
    }
}
