//! What a process counts, for Prometheus.
//!
//! Each process has one [`Metrics`], which its [`Lifecycle`](crate::Lifecycle) hands to everything that runs in it. A
//! metric is described once, by a constant, and its handles are looked up once: to count is then one atomic addition,
//! and to observe a duration a short lock, so durations are observed of calls and commits and not of frames.
//!
//! Labels have few values, which are known beforehand: protocols, endpoints, reasons, services. Never a user, a
//! conversation or a text that a client chose.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use prometheus_client::{
    collector::Collector,
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
};
use prometheus_client::{
    encoding::text,
    metrics::family::{Family, MetricConstructor},
    registry::{Registry, Unit},
};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds for durations within a process or a data centre: 100 us to 10 s.
pub const SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bounds for batches: 1 to 512.
pub const ITEMS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Samplers are looked through for those that are over when there are twice as many as after the last look.
const SAMPLERS_MIN: usize = 64;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; its name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// A metric as the reference shows it.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// As it is exported; of a histogram without `_bucket`, `_sum`, `_count`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// `seconds`, `bytes`, or nothing for what is counted.
    pub unit: &'static str,
    /// What its series differ by.
    pub labels: &'static [&'static str],
    /// What it counts; without a full stop, which the format adds.
    pub help: &'static str,
}

impl Described {
    const fn new(name: &'static str, kind: Kind, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, kind, unit: unit_of(name), labels, help }
    }
}

/// The unit that a name ends in.
const fn unit_of(name: &str) -> &'static str {
    if ends_with(name, "_seconds") || ends_with(name, "_seconds_total") {
        "seconds"
    } else if ends_with(name, "_bytes") || ends_with(name, "_bytes_total") {
        "bytes"
    } else {
        ""
    }
}

const fn ends_with(text: &str, end: &str) -> bool {
    let (text, end) = (text.as_bytes(), end.as_bytes());
    if text.len() < end.len() {
        return false;
    }
    let mut at = 0;
    while at < end.len() {
        if text[text.len() - end.len() + at] != end[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Describes a counter with `N` labels.
#[derive(Clone, Copy, Debug)]
pub struct Counters<const N: usize>(Described);

/// Describes a gauge with `N` labels.
#[derive(Clone, Copy, Debug)]
pub struct Gauges<const N: usize>(Described);

/// Describes a histogram with `N` labels.
#[derive(Clone, Copy, Debug)]
pub struct Histograms<const N: usize>(Described, &'static [f64]);

impl<const N: usize> Counters<N> {
    /// The name ends in `_total`.
    #[must_use]
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str; N]) -> Self {
        assert!(ends_with(name, "_total"), "counters end in _total");
        Self(Described::new(name, Kind::Counter, help, labels))
    }
}

impl<const N: usize> Gauges<N> {
    /// The name ends in its unit, if it has one.
    #[must_use]
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str; N]) -> Self {
        assert!(!ends_with(name, "_total"), "only counters end in _total");
        Self(Described::new(name, Kind::Gauge, help, labels))
    }
}

impl<const N: usize> Histograms<N> {
    /// The name ends in its unit, if it has one; `bounds` rise.
    #[must_use]
    pub const fn new(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str; N],
        bounds: &'static [f64],
    ) -> Self {
        assert!(!ends_with(name, "_total"), "only counters end in _total");
        Self(Described::new(name, Kind::Histogram, help, labels), bounds)
    }
}

type Labels = Vec<(&'static str, String)>;

/// All series of one metric.
#[derive(Clone, Debug)]
pub struct Series<M, const N: usize, C = fn() -> M> {
    family: Family<Labels, M, C>,
    labels: &'static [&'static str],
}

impl<M: Clone, const N: usize, C: MetricConstructor<M>> Series<M, N, C> {
    /// The series with these values of the labels; made at the first asking.
    #[must_use]
    pub fn of(&self, values: [&str; N]) -> M {
        let labels = self.labels.iter().zip(values).map(|(label, value)| (*label, value.to_owned())).collect();
        self.family.get_or_create_owned(&labels)
    }
}

/// Makes histograms with the same bounds.
#[derive(Clone, Copy, Debug)]
pub struct Bounds(&'static [f64]);

impl MetricConstructor<Histogram> for Bounds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// The series of a counter.
pub type CounterSeries<const N: usize> = Series<Counter, N>;
/// The series of a gauge.
pub type GaugeSeries<const N: usize> = Series<Gauge, N>;
/// The series of a histogram.
pub type HistogramSeries<const N: usize> = Series<Histogram, N, Bounds>;

#[derive(Clone)]
enum Known {
    Counter(Family<Labels, Counter, fn() -> Counter>),
    Gauge(Family<Labels, Gauge, fn() -> Gauge>),
    Histogram(Family<Labels, Histogram, Bounds>),
}

/// False when there is nothing to look at any more.
type Sampler = Arc<dyn Fn() -> bool + Send + Sync>;

#[derive(Default)]
struct State {
    registry: Registry,
    known: BTreeMap<&'static str, Known>,
    described: BTreeMap<&'static str, Described>,
    samplers: Vec<Sampler>,
    /// They are looked through when there are so many.
    prune_at: usize,
}

/// What one process counts. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<State>>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// The series of a counter.
    ///
    /// # Panics
    /// When another metric of a different kind has this name: a build's fault.
    #[must_use]
    pub fn counters<const N: usize>(&self, Counters(metric): &Counters<N>) -> CounterSeries<N> {
        let make = || Known::Counter(Family::new_with_constructor(Counter::default as fn() -> Counter));
        match self.know(metric, make) {
            Known::Counter(family) => Series { family, labels: metric.labels },
            _ => unreachable!("{} is described twice", metric.name),
        }
    }

    /// One series of a counter.
    #[must_use]
    pub fn counter<const N: usize>(&self, metric: &Counters<N>, values: [&str; N]) -> Counter {
        self.counters(metric).of(values)
    }

    /// The series of a gauge.
    ///
    /// # Panics
    /// When another metric of a different kind has this name: a build's fault.
    #[must_use]
    pub fn gauges<const N: usize>(&self, Gauges(metric): &Gauges<N>) -> GaugeSeries<N> {
        let make = || Known::Gauge(Family::new_with_constructor(Gauge::default as fn() -> Gauge));
        match self.know(metric, make) {
            Known::Gauge(family) => Series { family, labels: metric.labels },
            _ => unreachable!("{} is described twice", metric.name),
        }
    }

    /// One series of a gauge.
    #[must_use]
    pub fn gauge<const N: usize>(&self, metric: &Gauges<N>, values: [&str; N]) -> Gauge {
        self.gauges(metric).of(values)
    }

    /// The series of a histogram.
    ///
    /// # Panics
    /// When another metric of a different kind has this name: a build's fault.
    #[must_use]
    pub fn histograms<const N: usize>(&self, Histograms(metric, bounds): &Histograms<N>) -> HistogramSeries<N> {
        let make = || Known::Histogram(Family::new_with_constructor(Bounds(bounds)));
        match self.know(metric, make) {
            Known::Histogram(family) => Series { family, labels: metric.labels },
            _ => unreachable!("{} is described twice", metric.name),
        }
    }

    /// One series of a histogram.
    #[must_use]
    pub fn histogram<const N: usize>(&self, metric: &Histograms<N>, values: [&str; N]) -> Histogram {
        self.histograms(metric).of(values)
    }

    /// Runs before each export: for gauges of what is cheaper to look at than to count. Quick, and without waiting.
    pub fn sample(&self, sampler: impl Fn() + Send + Sync + 'static) {
        self.sample_while(move || {
            sampler();
            true
        });
    }

    /// The same, until it says `false`.
    pub fn sample_while(&self, sampler: impl Fn() -> bool + Send + Sync + 'static) {
        // Nobody may ever export, and what comes and goes for years must not stay.
        let is_due = |state: &State| state.samplers.len() >= state.prune_at.max(SAMPLERS_MIN);
        if is_due(&self.state()) {
            self.look();
            let mut state = self.state();
            state.prune_at = state.samplers.len() * 2;
        }
        self.state().samplers.push(Arc::new(sampler));
    }

    /// Runs the samplers, and forgets those that are over.
    fn look(&self) {
        let samplers = self.state().samplers.clone();
        let ended: Vec<Sampler> = samplers.into_iter().filter(|sampler| !sampler()).collect();
        if !ended.is_empty() {
            let is_over = |sampler: &Sampler| ended.iter().any(|over| Arc::ptr_eq(over, sampler));
            self.state().samplers.retain(|sampler| !is_over(sampler));
        }
    }

    /// Drops the samplers, and with them what they look at: the process ends.
    pub(crate) fn forget_samplers(&self) {
        let samplers = std::mem::take(&mut self.state().samplers);
        drop(samplers);
    }

    /// Adds what makes its own metrics at each export.
    pub fn collect(&self, described: &[Described], collector: Box<dyn Collector>) {
        let mut state = self.state();
        state.described.extend(described.iter().map(|metric| (metric.name, *metric)));
        state.registry.register_collector(collector);
    }

    /// All metrics of the process, by name.
    #[must_use]
    pub fn described(&self) -> Vec<Described> {
        self.state().described.values().copied().collect()
    }

    /// All metrics and their values, in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self) -> String {
        self.look();
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut text, &self.state().registry);
        text
    }

    fn know(&self, metric: &Described, make: impl FnOnce() -> Known) -> Known {
        let mut state = self.state();
        if let Some(known) = state.known.get(metric.name) {
            return known.clone();
        }
        let known = make();
        // The format adds the suffixes.
        let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
        let unit = match metric.unit {
            "seconds" => Some(Unit::Seconds),
            "bytes" => Some(Unit::Bytes),
            _ => None,
        };
        let registry = &mut state.registry;
        match &known {
            Known::Counter(family) => register(registry, name, metric, unit, family.clone()),
            Known::Gauge(family) => register(registry, name, metric, unit, family.clone()),
            Known::Histogram(family) => register(registry, name, metric, unit, family.clone()),
        }
        state.known.insert(metric.name, known.clone());
        state.described.insert(metric.name, *metric);
        known
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn register(
    registry: &mut Registry,
    name: &str,
    metric: &Described,
    unit: Option<Unit>,
    family: impl prometheus_client::registry::Metric,
) {
    match unit {
        Some(unit) => {
            let name = name.strip_suffix(metric.unit).map_or(name, |name| name.trim_end_matches('_'));
            registry.register_with_unit(name, metric.help, unit, family);
        }
        None => registry.register(name, metric.help, family),
    }
}

/// What every process says of itself: its version, and what the system knows of it. On Linux.
pub mod process {
    use std::fmt;

    use prometheus_client::{
        collector::Collector,
        encoding::{DescriptorEncoder, EncodeMetric as _},
        metrics::{counter::ConstCounter, gauge::ConstGauge},
        registry::Unit,
    };

    use super::{Described, Gauges, Kind, Metrics};

    const BUILD: Gauges<1> = Gauges::new("switchboard_build_info", "1, with the version that runs", &["version"]);
    const TASKS: Gauges<0> = Gauges::new("switchboard_runtime_tasks", "Tasks of the runtime that are alive", &[]);
    const QUEUED: Gauges<0> =
        Gauges::new("switchboard_runtime_queued_tasks", "Tasks that wait for any of the runtime's threads", &[]);
    const WORKERS: Gauges<0> = Gauges::new("switchboard_runtime_threads", "Threads on which tasks run", &[]);

    const DESCRIBED: [Described; 7] = [
        Described::new("process_cpu_seconds_total", Kind::Counter, "User and system time of the process", &[]),
        Described::new("process_resident_memory_bytes", Kind::Gauge, "Memory in use", &[]),
        Described::new("process_virtual_memory_bytes", Kind::Gauge, "Address space in use", &[]),
        Described::new("process_open_fds", Kind::Gauge, "Open file descriptors", &[]),
        Described::new("process_max_fds", Kind::Gauge, "The most file descriptors that may be open", &[]),
        Described::new("process_threads", Kind::Gauge, "Threads of the process", &[]),
        Described::new("process_start_time_seconds", Kind::Gauge, "When the process began, since 1970", &[]),
    ];

    /// Adds them; `version` is the program's. Within a runtime.
    pub fn observe(metrics: &Metrics, version: &str) {
        metrics.gauge(&BUILD, [version]).set(1);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (tasks, queued) = (metrics.gauge(&TASKS, []), metrics.gauge(&QUEUED, []));
            let workers = metrics.gauge(&WORKERS, []);
            metrics.sample(move || {
                let now = runtime.metrics();
                let set = |gauge: &super::Gauge, value: usize| _ = gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
                set(&tasks, now.num_alive_tasks());
                set(&queued, now.global_queue_depth());
                set(&workers, now.num_workers());
            });
        }
        if cfg!(target_os = "linux") {
            metrics.collect(&DESCRIBED, Box::new(Proc));
        }
    }

    #[derive(Debug)]
    struct Proc;

    impl Collector for Proc {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
            let Some(values) = values() else { return Ok(()) };
            for (metric, value) in DESCRIBED.iter().zip(values) {
                let Some(value) = value else { continue };
                let name = metric.name.trim_end_matches("_total");
                let unit = match metric.unit {
                    "seconds" => Some(Unit::Seconds),
                    "bytes" => Some(Unit::Bytes),
                    _ => None,
                };
                let name = name.strip_suffix(metric.unit).map_or(name, |name| name.trim_end_matches('_'));
                let help = format!("{}.", metric.help);
                match metric.kind {
                    Kind::Counter => {
                        let value = ConstCounter::new(value);
                        value.encode(encoder.encode_descriptor(name, &help, unit.as_ref(), value.metric_type())?)?;
                    }
                    Kind::Gauge | Kind::Histogram => {
                        let value = ConstGauge::new(value);
                        value.encode(encoder.encode_descriptor(name, &help, unit.as_ref(), value.metric_type())?)?;
                    }
                }
            }
            Ok(())
        }
    }

    /// In the order of [`DESCRIBED`].
    #[cfg(target_os = "linux")]
    fn values() -> Option<[Option<f64>; 7]> {
        #[expect(clippy::cast_precision_loss, reason = "nothing here comes near 2^53")]
        fn float(value: u64) -> f64 {
            value as f64
        }
        let process = procfs::process::Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let ticks = float(procfs::ticks_per_second().max(1));
        let fds_max = process.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
            procfs::process::LimitValue::Value(most) => Some(float(most)),
            procfs::process::LimitValue::Unlimited => None,
        });
        let started = procfs::boot_time_secs().ok().map(|boot| float(boot) + float(stat.starttime) / ticks);
        Some([
            Some(float(stat.utime + stat.stime) / ticks),
            Some(float(stat.rss * procfs::page_size())),
            Some(float(stat.vsize)),
            process.fd_count().ok().map(|count| float(count.try_into().unwrap_or(u64::MAX))),
            fds_max,
            u64::try_from(stat.num_threads).ok().map(float),
            started,
        ])
    }

    #[cfg(not(target_os = "linux"))]
    fn values() -> Option<[Option<f64>; 7]> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: Counters<2> = Counters::new("switchboard_test_frames_total", "Frames", &["protocol", "result"]);
    const LATENCY: Histograms<0> = Histograms::new("switchboard_test_wait_seconds", "How long", &[], &[0.1, 1.0]);
    const DEPTH: Gauges<0> = Gauges::new("switchboard_test_queue_bytes", "What waits", &[]);

    #[test]
    fn what_is_counted_twice_is_one_series() {
        let metrics = Metrics::default();
        metrics.counter(&FRAMES, ["clinic", "ok"]).inc();
        metrics.counter(&FRAMES, ["clinic", "ok"]).inc();
        metrics.histogram(&LATENCY, []).observe(0.5);
        let depth = metrics.gauge(&DEPTH, []);
        metrics.sample(move || _ = depth.set(7));
        let text = metrics.text();
        for line in [
            "# HELP switchboard_test_frames Frames.",
            "# TYPE switchboard_test_frames counter",
            "switchboard_test_frames_total{protocol=\"clinic\",result=\"ok\"} 2",
            "# UNIT switchboard_test_wait_seconds seconds",
            "switchboard_test_wait_seconds_bucket{le=\"0.1\"} 0",
            "switchboard_test_wait_seconds_bucket{le=\"1.0\"} 1",
            "switchboard_test_queue_bytes{} 7",
            "# EOF",
        ] {
            assert!(text.lines().any(|theirs| theirs == line), "{line} is not in {text}");
        }
        assert_eq!(metrics.described().len(), 3);
    }

    #[test]
    fn samplers_that_are_over_do_not_stay() {
        let metrics = Metrics::default();
        for _ in 0..10_000 {
            metrics.sample_while(|| false);
        }
        assert!(metrics.state().samplers.len() <= SAMPLERS_MIN);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_process_is_described() {
        let metrics = Metrics::default();
        process::observe(&metrics, "1.2.3");
        let text = metrics.text();
        for described in metrics.described() {
            assert!(text.lines().any(|line| line.starts_with(described.name)), "{} is not in {text}", described.name);
        }
    }
}
