//! The tables of a shard, and what they are made of.

pub(crate) mod bib;
pub(crate) mod bitset;
pub(crate) mod contacts;
pub(crate) mod flows;
pub(crate) mod index;
pub(crate) mod list;
pub(crate) mod networks;
pub(crate) mod session;
pub(crate) mod slab;
pub(crate) mod subscribers;
pub(crate) mod syn;
pub(crate) mod wheel;
