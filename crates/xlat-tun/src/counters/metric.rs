//! Figures as Prometheus knows them, as data; who serves them writes the text.

use std::fmt::Display;

/// What a figure is called outside, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, the same for all that differ only in their labels.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// One sentence for the reader of the page.
    pub help: &'static str,
}

impl Metric {
    /// A number that only goes up.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        let kind = "counter";
        Self { name, kind, help }
    }

    /// A number that goes up and down.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        let kind = "gauge";
        Self { name, kind, help }
    }

    /// Times or sizes, sorted into ranges.
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        let kind = "histogram";
        Self { name, kind, help }
    }
}

/// All figures of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The name.
    pub metric: Metric,
    /// The figures, by label.
    pub samples: Vec<Sample>,
}

/// One figure of a [`Family`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What a histogram appends to its name (`_bucket`, `_sum`, `_count`); empty for others.
    pub suffix: &'static str,
    /// Labels as `name="value"`, separated by commas; empty if there are none.
    pub labels: String,
    /// The figure.
    pub value: String,
}

/// Families in the order in which they were first named.
#[derive(Clone, Debug, Default)]
pub struct Families(Vec<Family>);

impl Families {
    /// The figures of `metric`, to be added to.
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
    /// Adds a figure.
    pub fn add(&mut self, labels: impl Into<String>, value: impl Display) {
        self.add_part("", labels, value);
    }

    /// Adds a part of a histogram.
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
