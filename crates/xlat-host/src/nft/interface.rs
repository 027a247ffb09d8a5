//! The interfaces that a rule is about.

use std::fmt;

use super::expression::{EQUAL, NOT_EQUAL, compare, interface_name, load_meta};
use super::message::Attributes;
use crate::daemon::terminal::NftName;

/// The interface by which a packet arrives or leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The one of this name.
    Only(String),
    /// Any other than the one of this name.
    AnyBut(String),
}

impl Interface {
    /// Compares the name that `key` loads.
    pub(super) fn encode(&self, rule: &mut Attributes, key: u32) {
        let (operation, name) = match self {
            Self::Only(name) => (EQUAL, name),
            Self::AnyBut(name) => (NOT_EQUAL, name),
        };
        load_meta(rule, key);
        compare(rule, operation, &interface_name(name));
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only(name) => NftName(name).fmt(f),
            Self::AnyBut(name) => write!(f, "!= {}", NftName(name)),
        }
    }
}
