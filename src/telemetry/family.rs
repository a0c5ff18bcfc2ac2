//! A metric and its series: registered once, then recorded through a handle without any look-up.
//!
//! [`Family`] has its labels in enums, so all its series are known and each sits in a slot; [`Open`]
//! has labels that configuration names (topics, the catalogue's events), bounded in number. Recording
//! is two atomic operations and is meant for hot paths; where thousands are counted at once, count
//! first and add once. Never a room, user or socket id in a label.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ::metrics::{Key, Label, Level as Verbosity, Metadata, Recorder};

use super::expose;
use super::labels::Labels;

/// What a number means over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts of observations by size.
    Histogram,
}

impl Kind {
    /// The word of the exposition format.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One row of the table: everything there is to know about a metric but its values.
#[derive(Debug)]
pub struct Metric {
    /// The exported name.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// What one is: `seconds`, `bytes`, `connections`.
    pub unit: &'static str,
    /// The labels and what they can be.
    pub labels: &'static [LabelInfo],
    /// What it tells an operator.
    pub help: &'static str,
}

/// A label of a metric.
#[derive(Debug)]
pub struct LabelInfo {
    /// The label's name.
    pub name: &'static str,
    /// What it can be.
    pub values: Values,
}

/// What a label can be.
#[derive(Debug)]
pub enum Values {
    /// One of these.
    Fixed(&'static [&'static str]),
    /// What configuration names; the text says what.
    Configured(&'static str),
}

/// A metric in the table, whatever its labels.
pub trait Series: Sync {
    /// Its row.
    fn metric(&self) -> &Metric;

    /// Exports its series from now on with the value zero, where their number is small and known.
    fn touch(&self);
}

/// What records a value in one series.
pub trait Handle: Clone + Send + Sync + 'static {
    /// The kind of metric it records.
    const KIND: Kind;

    /// Registers a series.
    fn register(key: &Key) -> Self;
}

const METADATA: Metadata<'static> = Metadata::new("vestibule", Verbosity::INFO, None);

/// One series of a counter.
#[derive(Clone)]
pub struct Count(::metrics::Counter);

impl Count {
    /// Adds to the counter.
    pub fn add(&self, n: u64) {
        self.0.increment(n);
    }
}

impl Handle for Count {
    const KIND: Kind = Kind::Counter;

    fn register(key: &Key) -> Self {
        Self(expose::recorder().register_counter(key, &METADATA))
    }
}

/// One series of a gauge.
#[derive(Clone)]
pub struct Level(::metrics::Gauge);

impl Level {
    /// Raises the gauge by one.
    pub fn up(&self) {
        self.0.increment(1.0);
    }

    /// Lowers the gauge by one.
    pub fn down(&self) {
        self.0.decrement(1.0);
    }

    /// Raises the gauge by one until what it returns is dropped.
    #[must_use]
    pub fn raised(&self) -> Raised<'_> {
        self.up();
        Raised(self)
    }

    /// Adds, or takes away what is negative.
    pub fn add(&self, change: f64) {
        self.0.increment(change);
    }

    /// Sets the gauge.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }
}

/// A gauge that is one higher until this is dropped.
pub struct Raised<'a>(&'a Level);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.down();
    }
}

impl Handle for Level {
    const KIND: Kind = Kind::Gauge;

    fn register(key: &Key) -> Self {
        Self(expose::recorder().register_gauge(key, &METADATA))
    }
}

/// One series of a histogram.
#[derive(Clone)]
pub struct Spread(::metrics::Histogram);

impl std::fmt::Debug for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spread")
    }
}

impl Spread {
    /// Records how long something took.
    pub fn record(&self, took: Duration) {
        self.0.record(took.as_secs_f64());
    }
}

impl Handle for Spread {
    const KIND: Kind = Kind::Histogram;

    fn register(key: &Key) -> Self {
        Self(expose::recorder().register_histogram(key, &METADATA))
    }
}

/// A counter; without labels it is used as a [`Count`] directly.
pub type Counter<L = ()> = Family<L, Count>;
/// A gauge; without labels it is used as a [`Level`] directly.
pub type Gauge<L = ()> = Family<L, Level>;
/// A histogram; without labels it is used as a [`Spread`] directly.
pub type Histogram<L = ()> = Family<L, Spread>;

/// A metric whose labels are enums.
pub struct Family<L, H> {
    metric: Metric,
    slots: OnceLock<Box<[OnceLock<H>]>>,
    labels: PhantomData<fn(L)>,
}

impl<L: Labels, H: Handle> Family<L, H> {
    pub(super) const fn new(name: &'static str, unit: &'static str, help: &'static str) -> Self {
        let metric = Metric {
            name,
            kind: H::KIND,
            unit,
            labels: L::INFO,
            help,
        };
        Self {
            metric,
            slots: OnceLock::new(),
            labels: PhantomData,
        }
    }

    /// The series with these labels. The first call registers it, later ones index an array.
    pub fn of(&self, labels: L) -> &H {
        let slots = self
            .slots
            .get_or_init(|| (0..L::COUNT).map(|_| OnceLock::new()).collect());
        slots[labels.index()].get_or_init(|| {
            let values = labels.values();
            let pairs = L::INFO
                .iter()
                .zip(values)
                .map(|(info, value)| Label::new(info.name, value));
            H::register(&Key::from_parts(
                self.metric.name,
                pairs.collect::<Vec<_>>(),
            ))
        })
    }
}

impl<H: Handle> Deref for Family<(), H> {
    type Target = H;

    fn deref(&self) -> &H {
        self.of(())
    }
}

impl<L: Labels, H: Handle> Series for Family<L, H> {
    fn metric(&self) -> &Metric {
        &self.metric
    }

    fn touch(&self) {
        // The product of two or more labels is mostly combinations that never happen.
        if L::INFO.len() <= 1 {
            for labels in L::all() {
                self.of(labels);
            }
        }
    }
}

/// A metric whose labels are named by configuration.
///
/// Beyond [`Open::SERIES_MAX`] series, new ones are folded into one whose labels are all `other`.
pub struct Open<const N: usize, H> {
    metric: Metric,
    series: OnceLock<Mutex<HashMap<[String; N], H>>>,
}

impl<const N: usize, H: Handle> Open<N, H> {
    /// More than any catalogue, topic list or partition count that makes sense on one node.
    pub const SERIES_MAX: usize = 1024;

    pub(super) const fn new(
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        labels: &'static [LabelInfo; N],
    ) -> Self {
        Self {
            metric: Metric {
                name,
                kind: H::KIND,
                unit,
                labels,
                help,
            },
            series: OnceLock::new(),
        }
    }

    /// The series with these labels, in the table's order. Takes a lock: keep the handle.
    pub fn of(&self, values: [&str; N]) -> H {
        let mut series = self
            .series
            .get_or_init(Mutex::default)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut key = values.map(str::to_owned);
        if series.len() >= Self::SERIES_MAX && !series.contains_key(&key) {
            key = [(); N].map(|()| "other".to_owned());
        }
        if let Some(handle) = series.get(&key) {
            return handle.clone();
        }
        let pairs = self.metric.labels.iter().zip(&key);
        let pairs = pairs.map(|(info, value)| Label::new(info.name, value.clone()));
        let handle = H::register(&Key::from_parts(
            self.metric.name,
            pairs.collect::<Vec<_>>(),
        ));
        series.insert(key, handle.clone());
        handle
    }
}

impl<const N: usize, H: Handle> Series for Open<N, H> {
    fn metric(&self) -> &Metric {
        &self.metric
    }

    fn touch(&self) {}
}

/// A metric that is read from the system when the page is asked for.
pub struct Sampled(Metric);

impl Sampled {
    pub(super) const fn new(
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        kind: Kind,
    ) -> Self {
        Self(Metric {
            name,
            kind,
            unit,
            labels: &[],
            help,
        })
    }
}

impl Series for Sampled {
    fn metric(&self) -> &Metric {
        &self.0
    }

    fn touch(&self) {}
}
