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
use zerocopy::{FromBytes, IntoBytes};

use crate::layout::{KeyV4, KeyV6, ToV4, ToV6, UsageCells, ValueV4, ValueV6};
use crate::sys::{Batch, Map};

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

/// The family that packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv6.
    V6,
    /// IPv4.
    V4,
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

/// Where a reading of all entries stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor(pub(crate) Option<u32>);

/// Why an entry was not installed.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The table is full.
    #[error("the table of flows is full")]
    Full,
    /// The kernel refused it, for lack of memory for example.
    #[error("the kernel refused the entry: {0}")]
    Kernel(#[source] io::Error),
}

/// The flows that the kernel carries. Clones share one table, and each thread has one of its own:
/// there is no lock here but the kernel's, of a bucket.
#[derive(Clone, Debug)]
pub struct FlowTable {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    from_v6: Map,
    from_v4: Map,
    epochs: Map,
    epoch: AtomicU32,
}

impl FlowTable {
    /// A table over the program's maps, of which the last holds the epoch.
    pub(crate) fn new(from_v6: Map, from_v4: Map, epochs: Map) -> Self {
        let shared = Shared {
            from_v6,
            from_v4,
            epochs,
            epoch: AtomicU32::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The present epoch. Read it before a decision is taken that leads to an entry.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.shared.epoch.load(Ordering::Acquire))
    }

    /// Installs entries, in place of those with the same keys. Their usage starts at zero. Returns how
    /// many of them, from the first on, are installed, and why not all: the table is full, or the kernel
    /// has no memory. Entries of one family that follow each other take one request to the kernel.
    ///
    /// Those whose `epoch` has passed meanwhile are installed and never used.
    pub fn install(&self, flows: &[Flow], epoch: Epoch) -> (usize, Result<(), InstallError>) {
        let mut installed = 0;
        let is_v6 = |flow: &Flow| matches!(flow, Flow::V6(..));
        for part in flows.chunk_by(|one, other| is_v6(one) == is_v6(other)) {
            let (count, outcome) = self.install_part(part, epoch);
            installed += count;
            if let Err(error) = outcome {
                let full = error.raw_os_error() == Some(libc::E2BIG);
                let error = match full {
                    true => InstallError::Full,
                    false => InstallError::Kernel(error),
                };
                return (installed, Err(error));
            }
        }
        (installed, Ok(()))
    }

    /// Installs entries of one family.
    fn install_part(&self, flows: &[Flow], Epoch(epoch): Epoch) -> (usize, io::Result<()>) {
        let usage = UsageCells::default();
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let mut map = &self.shared.from_v6;
        for flow in flows {
            match *flow {
                Flow::V6(key, to) => {
                    keys.extend_from_slice(key.as_bytes());
                    values.extend_from_slice(ValueV6 { usage, to, epoch }.as_bytes());
                }
                Flow::V4(key, to) => {
                    map = &self.shared.from_v4;
                    keys.extend_from_slice(key.as_bytes());
                    values.extend_from_slice(ValueV4 { usage, to, epoch }.as_bytes());
                }
            }
        }
        map.update_batch(&keys, &values)
    }

    /// Removes an entry and returns what it has carried; `None` if it is not there.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn remove(&self, key: &Key) -> io::Result<Option<Usage>> {
        self.read(key, Map::take)
    }

    /// What an entry has carried; `None` if it is not there.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn usage(&self, key: &Key) -> io::Result<Option<Usage>> {
        self.read(key, Map::lookup)
    }

    fn read(
        &self,
        key: &Key,
        read: impl Fn(&Map, &[u8], &mut [u8]) -> io::Result<bool>,
    ) -> io::Result<Option<Usage>> {
        match key {
            Key::V6(key) => {
                let mut value = [0; size_of::<ValueV6>()];
                let found = read(&self.shared.from_v6, key.as_bytes(), &mut value)?;
                Ok(found.then(|| usage(&value)))
            }
            Key::V4(key) => {
                let mut value = [0; size_of::<ValueV4>()];
                let found = read(&self.shared.from_v4, key.as_bytes(), &mut value)?;
                Ok(found.then(|| usage(&value)))
            }
        }
    }

    /// Reads a batch of entries of one family from `cursor` on, with what they have carried, and
    /// appends it to `usages`. Returns where the next batch begins; `None` behind the last. Entries
    /// that stay meanwhile are read once.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn usages(
        &self,
        family: Family,
        cursor: Cursor,
        usages: &mut Vec<(Key, Usage)>,
    ) -> io::Result<Option<Cursor>> {
        let batch = match family {
            Family::V6 => {
                let batch = self.shared.from_v6.lookup_batch(cursor.0, BATCH)?;
                usages.extend(entries(&batch, size_of::<ValueV6>(), Key::V6));
                batch
            }
            Family::V4 => {
                let batch = self.shared.from_v4.lookup_batch(cursor.0, BATCH)?;
                usages.extend(entries(&batch, size_of::<ValueV4>(), Key::V4));
                batch
            }
        };
        Ok(batch.next.map(|next| Cursor(Some(next))))
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

/// Entries read at once. A bucket that does not fit ends a batch before.
const BATCH: u32 = 1024;

fn entries<K: FromBytes>(
    batch: &Batch,
    value: usize,
    key: impl Fn(K) -> Key,
) -> impl Iterator<Item = (Key, Usage)> {
    let keys = batch.keys.chunks_exact(size_of::<K>());
    let values = batch.values.chunks_exact(value);
    keys.zip(values).filter_map(move |(bytes, value)| {
        Some((key(K::read_from_bytes(bytes).ok()?), usage(value)))
    })
}

/// The usage at the start of an entry's value.
fn usage(value: &[u8]) -> Usage {
    let cells = UsageCells::read_from_prefix(value);
    cells.map_or_else(|_| Usage::default(), |(cells, _)| cells.into())
}
