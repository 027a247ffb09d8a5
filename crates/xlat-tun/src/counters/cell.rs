//! The cells that count, and the values that are read from them.

use std::marker::PhantomData;
use std::ops::AddAssign;
use std::sync::atomic::Ordering;

use serde::ser::{Serialize, Serializer};

use super::metric::{Families, Metric};
use portable_atomic::AtomicU64;

/// A counter in memory.
pub trait Cell: Default {
    /// The type of its value.
    type Value: Value;

    /// The current value.
    fn value(&self) -> Self::Value;
}

/// The value of a counter at one moment, or a sum of several.
pub trait Value: AddAssign + Sized {
    /// The metric descriptions in a line of the table: a [`Metric`], or several.
    type Metrics;

    /// Adds the value as samples to their families.
    fn sample(&self, families: &mut Families, metrics: Self::Metrics, labels: &str);
}

/// A counter that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds without a locked instruction, which is correct as long as one thread writes.
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

/// A counter that several threads write.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// Adds atomically.
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

/// A list of names that each have a counter: reasons, kinds.
pub trait Label: Copy + 'static {
    /// All names, in the order of their numbers.
    const ALL: &'static [Self];
    /// Name of the label in metrics.
    const LABEL: &'static str;
    /// True if metrics include zeros.
    const SAMPLES_ZEROS: bool;
    /// True if JSON includes zeros.
    const SERIALISES_ZEROS: bool;

    /// The name in counters, metrics and logs.
    fn name(self) -> &'static str;

    /// Its index in [`ALL`](Self::ALL).
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
