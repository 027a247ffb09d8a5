//! Flows that the kernel carries.
//!
//! A session of a translator with state has two entries, one for each direction. An entry counts the
//! packets that used it. It is found for as long as it is in the table and has the table's present
//! [`Epoch`]; the next packet after [`FlowTable::remove`] or [`FlowTable::invalidate`] goes to the
//! worker.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;
use zerocopy::IntoBytes;

use crate::layout::{KeyV4, KeyV6, ToV4, ToV6, UsageCells};
use crate::sys::Map;
use crate::table::{NoRoom, Table};

/// What finds an entry: the packets of one flow in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Packets from IPv6.
    V6(KeyV6),
    /// Packets from IPv4.
    V4(KeyV4),
}

/// An entry: a flow's packets in one direction, and what they become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flow {
    /// From IPv6 to IPv4.
    V6(KeyV6, ToV4),
    /// From IPv4 to IPv6.
    V4(KeyV4, ToV6),
}

impl Flow {
    /// What finds this entry.
    pub fn key(&self) -> Key {
        match self {
            Self::V6(key, _) => Key::V6(*key),
            Self::V4(key, _) => Key::V4(*key),
        }
    }
}

/// What an entry has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// When its last packet came, on the clock of [`monotonic`]; `None` before the first. A few
    /// milliseconds coarse.
    pub last_used: Option<Duration>,
    /// Packets; a super-packet is one.
    pub packets: u64,
    /// Bytes of these packets as they came, IP headers included.
    pub bytes: u64,
}

impl From<UsageCells> for Usage {
    fn from(cells: UsageCells) -> Self {
        let used = (cells.last_used != 0).then(|| Duration::from_nanos(cells.last_used));
        Self {
            last_used: used,
            packets: cells.packets,
            bytes: cells.bytes,
        }
    }
}

/// The present time on the clock of [`Usage::last_used`] (`CLOCK_MONOTONIC`).
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(
        now.tv_sec.try_into().unwrap_or(0),
        now.tv_nsec.try_into().unwrap_or(0),
    )
}

/// A state of what the translator decides by. Entries of a past one are not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u32);

/// Why an entry was not installed.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The table is full.
    #[error("the table of flows is full")]
    Full,
}

/// The flows that the kernel carries. Clones share one table, which several threads may use: each holds up
/// others for the time of a few memory accesses, and asks the kernel for nothing.
#[derive(Clone, Debug)]
pub struct FlowTable {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    from_v6: Table,
    from_v4: Table,
    epochs: Map,
    epoch: AtomicU32,
    capacity: u32,
    refused: AtomicU32,
}

impl FlowTable {
    /// A table over the memory that the program reads, and the map that holds the epoch. It has room for
    /// `capacity` entries in each direction.
    pub(crate) fn new(from_v6: Table, from_v4: Table, epochs: Map, capacity: u32) -> Self {
        let shared = Shared {
            from_v6,
            from_v4,
            epochs,
            epoch: AtomicU32::new(0),
            capacity,
            refused: AtomicU32::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Most entries in each direction: as many as were asked for, or as there was memory for.
    pub fn capacity(&self) -> u32 {
        self.shared.capacity
    }

    /// Memory that both directions take, in bytes.
    pub fn memory(&self) -> usize {
        self.shared.from_v6.memory() + self.shared.from_v4.memory()
    }

    /// Entries for which there was no room; begins again at zero after 32 bits.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed).into()
    }

    /// The present epoch. Read it before a decision is taken that leads to an entry.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.shared.epoch.load(Ordering::Acquire))
    }

    /// Installs entries, in place of those with the same keys. Their usage starts at zero. Returns how
    /// many of them, from the first on, are installed, and why not all. One among them whose two buckets
    /// are full is left out, and [counted](Self::refused): its packets are passed up.
    ///
    /// Those whose `epoch` has passed meanwhile are installed and never used.
    pub fn install(
        &self,
        flows: &[Flow],
        Epoch(epoch): Epoch,
    ) -> (usize, Result<(), InstallError>) {
        let Shared {
            from_v6, from_v4, ..
        } = &*self.shared;
        for (number, flow) in flows.iter().enumerate() {
            let inserted = match flow {
                Flow::V6(key, to) => from_v6.insert(key.as_bytes(), to.as_bytes(), epoch),
                Flow::V4(key, to) => from_v4.insert(key.as_bytes(), to.as_bytes(), epoch),
            };
            let Err(no_room) = inserted else { continue };
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            if no_room == NoRoom::Table {
                return (number, Err(InstallError::Full));
            }
        }
        (flows.len(), Ok(()))
    }

    /// Removes an entry and returns what it has carried; `None` if it is not there.
    pub fn remove(&self, key: &Key) -> Option<Usage> {
        let cells = match key {
            Key::V6(key) => self.shared.from_v6.remove(key.as_bytes()),
            Key::V4(key) => self.shared.from_v4.remove(key.as_bytes()),
        };
        cells.map(Usage::from)
    }

    /// What an entry has carried; `None` if it is not there.
    pub fn usage(&self, key: &Key) -> Option<Usage> {
        let cells = match key {
            Key::V6(key) => self.shared.from_v6.usage(key.as_bytes()),
            Key::V4(key) => self.shared.from_v4.usage(key.as_bytes()),
        };
        cells.map(Usage::from)
    }

    /// Ends the present epoch: no packet uses an entry that was installed before. They stay in the
    /// table, with their usage, until they are removed or installed again. Not for several threads
    /// at the same time.
    ///
    /// # Errors
    /// Those of the kernel; the epoch has then not ended.
    pub fn invalidate(&self) -> io::Result<Epoch> {
        let next = self.shared.epoch.load(Ordering::Acquire).wrapping_add(1);
        self.shared
            .epochs
            .update(0u32.as_bytes(), next.as_bytes())?;
        self.shared.epoch.store(next, Ordering::Release);
        Ok(Epoch(next))
    }
}
