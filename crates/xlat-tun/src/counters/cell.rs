//! Where a counter's number lives while it is counted, and as what it is read.

use std::marker::PhantomData;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::ser::{Serialize, Serializer};

use super::metric::{Families, Metric};

/// A place to count in.
pub trait Cell: Default {
    /// What it is read as.
    type Value: Value;

    /// What was counted until now.
    fn value(&self) -> Self::Value;
}

/// What was counted, at one moment or in sum.
pub trait Value: AddAssign + Sized {
    /// How a line of a table names what it counts outside: a [`Metric`], or several.
    type Metrics;

    /// Adds the figures to their families.
    fn sample(&self, families: &mut Families, metrics: Self::Metrics, labels: &str);
}

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds without a locked instruction, which is right as long as one thread writes.
    #[inline]
    pub fn add(&self, more: u64) {
        let value = self.0.load(Ordering::Relaxed);
        self.0.store(value.wrapping_add(more), Ordering::Relaxed);
    }
}

impl Cell for Counter {
    type Value = u64;

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that several threads write.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// Adds.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

impl Cell for SharedCounter {
    type Value = u64;

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Value for u64 {
    type Metrics = Metric;

    fn sample(&self, families: &mut Families, metric: Metric, labels: &str) {
        families.family(metric).add(labels, self);
    }
}

/// A list of names of which each has a number of its own: reasons, kinds.
pub trait Label: Copy + 'static {
    /// All of them, in the order of their numbers.
    const ALL: &'static [Self];
    /// What the label is called in metrics.
    const LABEL: &'static str;
    /// Numbers that are zero stand in metrics too.
    const SAMPLES_ZEROS: bool;
    /// Numbers that are zero stand in JSON too.
    const SERIALISES_ZEROS: bool;

    /// The name in counters, metrics and logs.
    fn name(self) -> &'static str;

    /// Its place in [`ALL`](Self::ALL).
    fn number(self) -> usize;
}

/// A cell for each of the `N` names of `L`.
#[derive(Debug)]
pub struct Each<L, C, const N: usize>([C; N], PhantomData<L>);

impl<L, C: Default, const N: usize> Default for Each<L, C, N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| C::default()), PhantomData)
    }
}

impl<L: Label, C, const N: usize> Each<L, C, N> {
    /// The cell of one name.
    #[inline]
    pub fn of(&self, label: L) -> &C {
        &self.0[label.number()]
    }
}

impl<L: Label, C: Cell<Value = u64>, const N: usize> Cell for Each<L, C, N> {
    type Value = Per<L, N>;

    fn value(&self) -> Per<L, N> {
        Per(self.0.each_ref().map(Cell::value), PhantomData)
    }
}

/// One number for each of the `N` names of `L`. Serialised as a map from the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Per<L, const N: usize>([u64; N], PhantomData<L>);

impl<L, const N: usize> Default for Per<L, N> {
    fn default() -> Self {
        Self([0; N], PhantomData)
    }
}

impl<L: Label, const N: usize> Per<L, N> {
    /// The number of one name.
    pub fn count(&self, label: L) -> u64 {
        self.0[label.number()]
    }

    /// The sum over all names.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// All names with their numbers, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (L, u64)> {
        L::ALL.iter().copied().zip(self.0)
    }
}

impl<L, const N: usize> AddAssign for Per<L, N> {
    fn add_assign(&mut self, more: Self) {
        for (sum, more) in self.0.iter_mut().zip(more.0) {
            *sum += more;
        }
    }
}

impl<L: Label, const N: usize> Value for Per<L, N> {
    type Metrics = Metric;

    fn sample(&self, families: &mut Families, metric: Metric, labels: &str) {
        let family = families.family(metric);
        let comma = if labels.is_empty() { "" } else { "," };
        for (label, count) in self.iter().filter(|(_, n)| L::SAMPLES_ZEROS || *n > 0) {
            let (key, name) = (L::LABEL, label.name());
            family.add(format!("{labels}{comma}{key}=\"{name}\""), count);
        }
    }
}

impl<L: Label, const N: usize> Serialize for Per<L, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counted = self.iter().filter(|(_, n)| L::SERIALISES_ZEROS || *n > 0);
        serializer.collect_map(counted.map(|(label, count)| (label.name(), count)))
    }
}
