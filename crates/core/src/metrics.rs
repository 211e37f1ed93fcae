//! Every metric: name, help, labels and buckets in one place.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{
    CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
    TextEncoder,
};

use crate::clock::Nanos;
use crate::exposition::Reason;
use crate::panics::{Panic, catch, text};
use crate::report::InstanceReport;
use crate::statistics::Statistics;

/// From the engine's own cost on a fast model to the longest requests.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];
const BATCH_SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Every metric of the engine.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests by door and outcome.
    pub requests: IntCounterVec,
    /// Requests that were not accepted.
    pub rejected: IntCounterVec,
    /// Requests whose caller went away, by where they were.
    pub cancelled: IntCounterVec,
    /// Requests whose time was over, by where they were.
    pub expired: IntCounterVec,
    /// Deaths of workers by cause.
    pub worker_restarts: IntCounterVec,
    /// Panics inside the engine, each of them one failed request or one lost worker.
    pub panics: IntCounter,
    /// Samples of user code that a scrape left out.
    pub user_samples_dropped: IntCounterVec,
    items: IntCounterVec,
    batches: IntCounterVec,
    retries: IntCounterVec,
    batch_size: HistogramVec,
    stage: HistogramVec,
    request: HistogramVec,
    queue_items: GaugeVec,
    queue_bytes: GaugeVec,
    in_flight: GaugeVec,
    workers: GaugeVec,
    load: GaugeVec,
    version_state: GaugeVec,
    process_cpu: CounterVec,
    process_resident: GaugeVec,
    /// By model and version; kept for good, like the series beside them.
    statistics: Mutex<HashMap<(String, String), Arc<Statistics>>>,
}

/// The metrics of one version, resolved once.
#[derive(Debug)]
pub struct VersionMetrics {
    /// Rows that ran.
    pub items: IntCounter,
    /// Calls that ran.
    pub batches: IntCounter,
    /// Items that ran again after a death.
    pub retries: IntCounter,
    /// Rows per call.
    pub batch_size: Histogram,
    /// From arrival to being put in a call.
    pub queue: Histogram,
    /// Gathering inputs and sending the call.
    pub input: Histogram,
    /// From the call being sent to the worker beginning it.
    pub wait: Histogram,
    /// From the worker beginning to its answer being read.
    pub compute: Histogram,
    /// Checking and splitting the outputs.
    pub output: Histogram,
    /// Whole requests, from arrival to answer.
    pub request: Histogram,
    /// Seconds of the last load.
    pub load: Gauge,
    /// Totals that no histogram can tell.
    pub statistics: Arc<Statistics>,
}

/// What is measured at each scrape.
#[derive(Clone, Debug)]
pub struct VersionGauges {
    /// Model name.
    pub model: Arc<str>,
    /// Version name.
    pub version: Arc<str>,
    /// Items waiting.
    pub queue_items: usize,
    /// Their bytes.
    pub queue_bytes: u64,
    /// Calls in workers.
    pub in_flight: usize,
    /// State name.
    pub state: &'static str,
    /// Live instances.
    pub instances: Vec<InstanceReport>,
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let metric = IntCounterVec::new(Opts::new(format!("samovar_{name}"), help), labels).expect("a valid metric name");
    registry.register(Box::new(metric.clone())).expect("metric names are unique");
    metric
}

/// A counter that is read from elsewhere at each scrape: reset, then increased to what it is.
fn seconds_counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> CounterVec {
    let metric = CounterVec::new(Opts::new(format!("samovar_{name}"), help), labels).expect("a valid metric name");
    registry.register(Box::new(metric.clone())).expect("metric names are unique");
    metric
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    let metric = GaugeVec::new(Opts::new(format!("samovar_{name}"), help), labels).expect("a valid metric name");
    registry.register(Box::new(metric.clone())).expect("metric names are unique");
    metric
}

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(format!("samovar_{name}"), help).buckets(buckets.to_vec());
    let metric = HistogramVec::new(options, labels).expect("a valid metric name");
    registry.register(Box::new(metric.clone())).expect("metric names are unique");
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        let r = &Registry::new();
        let version = &["model", "version"];
        let panics = counters(r, "panics_total", "Panics inside the engine; each cost a request or a worker", &[])
            .with_label_values::<&str>(&[]);
        Self {
            requests: counters(r, "requests_total", "Requests by outcome", &["model", "version", "door", "code"]),
            rejected: counters(r, "rejected_total", "Requests refused at admission", &["model", "version", "reason"]),
            cancelled: counters(
                r,
                "cancelled_total",
                "Requests whose caller went away",
                &["model", "version", "stage"],
            ),
            expired: counters(r, "expired_total", "Requests whose time was over", &["model", "version", "stage"]),
            worker_restarts: counters(r, "worker_restarts_total", "Deaths of workers", &["model", "version", "cause"]),
            panics,
            user_samples_dropped: counters(
                r,
                "user_samples_dropped_total",
                "Samples of user code that a scrape left out",
                &["model", "version", "reason"],
            ),
            items: counters(r, "items_total", "Rows run", version),
            batches: counters(r, "batches_total", "Calls run", version),
            retries: counters(r, "retries_total", "Items run again after their worker died", version),
            batch_size: histograms(r, "batch_size", "Rows per call", version, BATCH_SIZES),
            stage: histograms(
                r,
                "stage_seconds",
                "Time of a request per stage",
                &["model", "version", "stage"],
                SECONDS,
            ),
            request: histograms(r, "request_seconds", "Time of a whole request", version, SECONDS),
            queue_items: gauges(r, "queue_items", "Items waiting", version),
            queue_bytes: gauges(r, "queue_bytes", "Input bytes waiting", version),
            in_flight: gauges(r, "in_flight", "Calls in workers", version),
            workers: gauges(r, "workers", "Live workers", version),
            load: gauges(r, "load_seconds", "Time of the last load", version),
            version_state: gauges(
                r,
                "version_state",
                "1 for the state a version is in",
                &["model", "version", "state"],
            ),
            process_cpu: seconds_counters(r, "process_cpu_seconds_total", "CPU time of a process", &["process"]),
            process_resident: gauges(r, "process_resident_bytes", "Resident memory of a process", &["process"]),
            statistics: Mutex::default(),
            registry: r.clone(),
        }
    }
}

impl Metrics {
    /// The metrics of one version.
    #[must_use]
    pub fn version(&self, model: &str, version: &str) -> VersionMetrics {
        let labels = &[model, version];
        let stage = |name: &str| self.stage.with_label_values(&[model, version, name]);
        // A counter that appears with its first event hides that event from every rate.
        for (counter, values) in [
            (&self.rejected, &["queue_full", "overloaded", "poison"][..]),
            (&self.cancelled, &["queue", "running"]),
            (&self.expired, &["queue", "running"]),
            (
                &self.worker_restarts,
                &["exit", "signal", "bad_frame", "hard_kill", "hang", "panic", "load", "load_timeout", "spawn"],
            ),
            (&self.user_samples_dropped, &Reason::ALL.map(Reason::name)),
        ] {
            values.iter().for_each(|value| _ = counter.with_label_values(&[model, version, value]));
        }
        VersionMetrics {
            items: self.items.with_label_values(labels),
            batches: self.batches.with_label_values(labels),
            retries: self.retries.with_label_values(labels),
            batch_size: self.batch_size.with_label_values(labels),
            queue: stage("queue"),
            input: stage("input"),
            wait: stage("wait"),
            compute: stage("compute"),
            output: stage("output"),
            request: self.request.with_label_values(labels),
            load: self.load.with_label_values(labels),
            statistics: self.statistics(model, version),
        }
    }

    /// Count and log a panic that was contained; `what` says what failed.
    pub fn panicked(&self, panic: &Panic, what: &str) {
        self.panics.inc();
        tracing::error!(panic = text(&**panic), "the engine failed: {what}");
    }

    /// `work`, whose panic is counted and logged and its end; `what` says what failed by it.
    pub async fn watch<F: Future>(self: Arc<Self>, what: &str, work: F) -> Option<F::Output> {
        catch(work).await.map_err(|panic| self.panicked(&panic, what)).ok()
    }

    fn statistics(&self, model: &str, version: &str) -> Arc<Statistics> {
        Arc::clone(self.statistics.lock().entry((model.to_owned(), version.to_owned())).or_default())
    }

    /// All metrics in Prometheus' text format, with what is measured only now.
    #[must_use]
    pub fn encode(&self, versions: &[VersionGauges]) -> String {
        for gauge in [&self.queue_items, &self.queue_bytes, &self.in_flight, &self.workers, &self.version_state] {
            gauge.reset();
        }
        self.process_cpu.reset();
        self.process_resident.reset();
        self.measure_process("engine", std::process::id());
        for gauges in versions {
            let labels = &[&*gauges.model, &*gauges.version];
            self.queue_items.with_label_values(labels).set(gauges.queue_items as f64);
            self.queue_bytes.with_label_values(labels).set(gauges.queue_bytes as f64);
            self.in_flight.with_label_values(labels).set(gauges.in_flight as f64);
            self.workers.with_label_values(labels).set(gauges.instances.len() as f64);
            self.version_state.with_label_values(&[labels[0], labels[1], gauges.state]).set(1.0);
        }
        let instances =
            versions.iter().flat_map(|gauges| gauges.instances.iter().map(move |instance| (gauges, instance)));
        let mut shared = HashSet::new();
        for (gauges, InstanceReport { index, pid, worker }) in instances {
            match worker {
                None => self.measure_process(&format!("{}/{}/{index}", gauges.model, gauges.version), *pid),
                Some(worker) if shared.insert(worker) => self.measure_process(worker, *pid),
                Some(_) => {}
            }
        }
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    fn measure_process(&self, name: &str, pid: u32) {
        if let Some((cpu_s, resident_bytes)) = process_usage(pid) {
            self.process_cpu.with_label_values(&[name]).inc_by(cpu_s);
            self.process_resident.with_label_values(&[name]).set(resident_bytes);
        }
    }
}

/// CPU seconds and resident bytes of a process, from `/proc` (proc(5): fields 14 and 15 of stat are ticks, field 24 pages).
fn process_usage(pid: u32) -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name (field 2) may hold anything, so fields are counted behind its last parenthesis.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    let ticks_per_s = rustix::param::clock_ticks_per_second() as f64;
    let page_bytes = rustix::param::page_size() as f64;
    Some(((number(14)? + number(15)?) / ticks_per_s, number(24)? * page_bytes))
}

/// Nanoseconds between two moments, in seconds; 0 if they are the wrong way round.
#[must_use]
pub fn seconds(from: Nanos, to: Nanos) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_family_and_this_process() {
        let metrics = Metrics::default();
        metrics.version("stn", "1").items.inc();
        let gauges = VersionGauges {
            model: "stn".into(),
            version: "1".into(),
            queue_items: 3,
            queue_bytes: 4,
            in_flight: 1,
            state: "ready",
            instances: vec![
                InstanceReport { index: 0, pid: std::process::id(), worker: None },
                InstanceReport { index: 1, pid: std::process::id(), worker: Some("ranking/1".into()) },
            ],
        };
        let text = metrics.encode(&[gauges]);
        assert!(text.contains("samovar_process_resident_bytes{process=\"ranking/1\"}"));
        assert!(text.contains("samovar_items_total{model=\"stn\",version=\"1\"} 1"));
        assert!(text.contains("samovar_queue_items{model=\"stn\",version=\"1\"} 3"));
        assert!(text.contains("samovar_process_resident_bytes{process=\"stn/1/0\"}"));
        assert!(text.contains("samovar_version_state{model=\"stn\",state=\"ready\",version=\"1\"} 1"));
    }

    #[tokio::test]
    async fn what_is_watched_is_counted_where_it_panics() {
        let metrics = Arc::new(Metrics::default());
        assert_eq!(Arc::clone(&metrics).watch("nothing failed", async { 7 }).await, Some(7));
        assert_eq!(metrics.panics.get(), 0);
        let failing = async {
            if metrics.panics.get() == 0 {
                panic!("injected")
            }
        };
        assert_eq!(Arc::clone(&metrics).watch("it is not done any more", failing).await, None);
        assert_eq!(metrics.panics.get(), 1);
    }
}
