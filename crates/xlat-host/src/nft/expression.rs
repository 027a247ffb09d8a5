//! The expressions that rules of several tables have in common.

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
pub(super) const EQUAL: u32 = 0;
pub(super) const NOT_EQUAL: u32 = 1;
pub(super) const AT_MOST: u32 = 3;
pub(super) const AT_LEAST: u32 = 5;
