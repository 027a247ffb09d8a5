//! The program and its maps.

use crate::counters::Counters;
use crate::flows::FlowTable;
use crate::mapping::{MappingError, StaticMapping};
use crate::rules::Rules;
use crate::unavailable::Unavailable;

/// What is decided when the program is loaded.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most entries of flows in each direction. Memory is taken for those that are there.
    pub flows: u32,
    /// Random numbers that IPv4 identifications are keyed with.
    pub seed: [u64; 2],
    /// The numbers of this lane are given out by the program: see
    /// [`Identifications`](xlat_core::identification::Identifications).
    pub lane: u16,
    /// Number of lanes, the program's included.
    pub lanes: u16,
}

/// The program in the kernel. It belongs to this process: it is gone with it, however it ends.
#[derive(Debug)]
pub struct FastPath {
    flows: FlowTable,
}

impl FastPath {
    /// Loads program and maps. Needs `CAP_BPF` and `CAP_NET_ADMIN`; nothing that follows needs the
    /// first.
    ///
    /// # Errors
    /// Why the kernel does not take it, and what would help.
    pub fn load(_options: &Options) -> Result<Self, Unavailable> {
        Err(Unavailable::NoSystemCall)
    }

    /// Attaches the program to the egress of the TUN `interface`, in place of an earlier attachment.
    /// It passes everything up until [`set_rules`](Self::set_rules) was called.
    ///
    /// # Errors
    /// Why the kernel does not attach it.
    pub fn attach(&mut self, interface: &str) -> Result<(), Unavailable> {
        Err(Unavailable::Attach {
            interface: interface.to_owned(),
            reason: String::new(),
        })
    }

    /// True while the program is attached. An administrator may have detached it, or the interface is
    /// gone.
    pub fn is_attached(&self) -> bool {
        false
    }

    /// Takes the program off the interface; entries, mapping and counters stay.
    pub fn detach(&mut self) {}

    /// The rules for every packet from now on.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn set_rules(&mut self, _rules: &Rules) -> Result<(), Unavailable> {
        Ok(())
    }

    /// Translates by `mapping` from now on; `None` for flows alone. The next packet sees all of the
    /// new mapping and nothing of the old.
    ///
    /// # Errors
    /// Why the mapping stays with the translator: the program then passes up what it was for.
    pub fn set_mapping(&mut self, _mapping: Option<&StaticMapping>) -> Result<(), MappingError> {
        Ok(())
    }

    /// Passes everything up, until it is told otherwise.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn pause(&mut self, _paused: bool) -> Result<(), Unavailable> {
        Ok(())
    }

    /// The table of flows, for the workers.
    pub fn flows(&self) -> FlowTable {
        self.flows.clone()
    }

    /// The counters since the program was loaded.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn counters(&self) -> Result<Counters, Unavailable> {
        Ok(Counters::default())
    }
}
