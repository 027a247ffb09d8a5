//! Prometheus metrics as plain data; the server writes the text.

use std::fmt::Display;

/// Name, kind and help text of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, the same for all samples that differ only in their labels.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its help text: one sentence.
    pub help: &'static str,
}

impl Metric {
    /// A value that only increases.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        let kind = "counter";
        Self { name, kind, help }
    }

    /// A value that can increase and decrease.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        let kind = "gauge";
        Self { name, kind, help }
    }

    /// Times or sizes, counted by range.
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        let kind = "histogram";
        Self { name, kind, help }
    }
}

/// All samples of one metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The metric.
    pub metric: Metric,
    /// The samples, each with its labels.
    pub samples: Vec<Sample>,
}

/// One sample of a [`Family`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The suffix of a histogram's sample (`_bucket`, `_sum`, `_count`); empty for others.
    pub suffix: &'static str,
    /// Labels as `name="value"`, separated by commas; empty if there are none.
    pub labels: String,
    /// The value as text.
    pub value: String,
}

/// Families in the order of their first mention.
#[derive(Clone, Debug, Default)]
pub struct Families(Vec<Family>);

impl Families {
    /// The family of `metric`, created empty if it is new.
    pub fn family(&mut self, metric: Metric) -> &mut Family {
        let known = self.0.iter().position(|family| family.metric == metric);
        let at = known.unwrap_or(self.0.len());
        if known.is_none() {
            let samples = Vec::new();
            self.0.push(Family { metric, samples });
        }
        &mut self.0[at]
    }
}

impl IntoIterator for Families {
    type Item = Family;
    type IntoIter = std::vec::IntoIter<Family>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Family {
    /// Adds a sample.
    pub fn add(&mut self, labels: impl Into<String>, value: impl Display) {
        self.add_part("", labels, value);
    }

    /// Adds a sample of a histogram.
    pub fn add_part(
        &mut self,
        suffix: &'static str,
        labels: impl Into<String>,
        value: impl Display,
    ) {
        self.samples.push(Sample {
            suffix,
            labels: labels.into(),
            value: value.to_string(),
        });
    }
}
