//! The expressions that rules of several tables have in common.

use std::ops::RangeInclusive;

use super::message::Attributes;

pub(super) fn load_meta(rule: &mut Attributes, key: u32) {
    expression(rule, "meta", |meta| {
        meta.number(1, REGISTER);
        meta.number(2, key);
    });
}

pub(super) fn load(rule: &mut Attributes, register: u32, value: &[u8]) {
    expression(rule, "immediate", |immediate| {
        immediate.number(1, register);
        immediate.nest(2, |data| data.bytes(1, value));
    });
}

pub(super) fn compare(rule: &mut Attributes, operation: u32, value: &[u8]) {
    expression(rule, "cmp", |cmp| {
        cmp.number(1, REGISTER);
        cmp.number(2, operation);
        cmp.nest(3, |data| data.bytes(1, value));
    });
}

/// Compares an address of the IP header, `place` bytes into it, with the bounds of a range.
pub(super) fn in_range(rule: &mut Attributes, place: u32, start: &[u8], end: &[u8]) {
    load_header(rule, place, start.len() as u32);
    compare_range(rule, start, end);
}

fn compare_range(rule: &mut Attributes, start: &[u8], end: &[u8]) {
    if start == end {
        compare(rule, EQUAL, start);
    } else {
        compare(rule, AT_LEAST, start);
        compare(rule, AT_MOST, end);
    }
}

/// Compares a port, `place` bytes into the transport header, with the bounds of a range.
pub(super) fn port_in_range(rule: &mut Attributes, place: u32, ports: &RangeInclusive<u16>) {
    load_port(rule, REGISTER, place);
    let (start, end) = (ports.start().to_be_bytes(), ports.end().to_be_bytes());
    compare_range(rule, &start, &end);
}

/// Loads a port, `place` bytes into the transport header.
pub(super) fn load_port(rule: &mut Attributes, register: u32, place: u32) {
    const TRANSPORT_HEADER: u32 = 2;
    expression(rule, "payload", |payload| {
        payload.number(1, register);
        payload.number(2, TRANSPORT_HEADER);
        payload.number(3, place);
        payload.number(4, 2);
    });
}

/// Loads `length` bytes of the IP header.
pub(super) fn load_header(rule: &mut Attributes, place: u32, length: u32) {
    const NETWORK_HEADER: u32 = 1;
    expression(rule, "payload", |payload| {
        payload.number(1, REGISTER);
        payload.number(2, NETWORK_HEADER);
        payload.number(3, place);
        payload.number(4, length);
    });
}

/// Loads a property of the packet's connection.
pub(super) fn load_connection(rule: &mut Attributes, key: u32) {
    expression(rule, "ct", |ct| {
        ct.number(1, REGISTER);
        ct.number(2, key);
    });
}

/// Leaves those bits of a number that are in `mask`.
pub(super) fn mask(rule: &mut Attributes, mask: u32) {
    expression(rule, "bitwise", |bitwise| {
        bitwise.number(1, REGISTER);
        bitwise.number(2, REGISTER);
        bitwise.number(3, 4);
        // The kernel keeps these numbers in its own byte order.
        bitwise.nest(4, |data| data.bytes(1, &mask.to_ne_bytes()));
        bitwise.nest(5, |data| data.bytes(1, &[0; 4]));
    });
}

/// Drops the packet.
pub(super) fn drop_packet(rule: &mut Attributes) {
    const VERDICT_REGISTER: u32 = 0;
    const DROP: u32 = 0;
    expression(rule, "immediate", |immediate| {
        immediate.number(1, VERDICT_REGISTER);
        immediate.nest(2, |data| {
            data.nest(2, |verdict| verdict.number(1, DROP));
        });
    });
}

pub(super) fn expression(rule: &mut Attributes, name: &str, data: impl FnOnce(&mut Attributes)) {
    rule.nest(1, |element| {
        element.text(1, name);
        element.nest(2, data);
    });
}

/// An interface name, padded with zeros as the kernel compares it.
pub(super) fn interface_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

pub(super) const REGISTER: u32 = 1;
pub(super) const META_IN: u32 = 6;
pub(super) const META_OUT: u32 = 7;
pub(super) const META_PROTOCOL: u32 = 16;
pub(super) const META_OUT_GROUP: u32 = 22;
pub(super) const EQUAL: u32 = 0;
pub(super) const NOT_EQUAL: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;
pub(super) const CT_STATE: u32 = 0;
pub(super) const CT_DIRECTION: u32 = 1;
pub(super) const CT_STATUS: u32 = 2;
/// Offsets of addresses in the IP headers, in bytes.
pub(super) const IPV4_SOURCE: u32 = 12;
pub(super) const IPV4_DESTINATION: u32 = 16;
pub(super) const IPV6_SOURCE: u32 = 8;
/// Offsets of ports in the TCP and UDP headers, in bytes.
pub(super) const TRANSPORT_SOURCE: u32 = 0;
pub(super) const TRANSPORT_DESTINATION: u32 = 2;
