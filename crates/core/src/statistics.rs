//! Totals per request, for clients that divide them: sums and counts since the start, as Triton's statistics have them.
//!
//! The histograms in [`crate::metrics`] cannot tell these: they have one observation per item or call, whether or not
//! its request succeeded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::clock::Nanos;
use crate::metrics::VersionMetrics;

/// Where the time of a request went; of one that made several items, for each stage the item that was longest in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Waiting: for a free instance, then for its worker.
    pub queue: Nanos,
    /// Gathering the call's inputs and sending them.
    pub input: Nanos,
    /// In the worker.
    pub compute: Nanos,
    /// Checking the call's outputs.
    pub output: Nanos,
}

impl Stages {
    /// The longer of both, stage by stage.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            queue: self.queue.max(other.queue),
            input: self.input.max(other.input),
            compute: self.compute.max(other.compute),
            output: self.output.max(other.output),
        }
    }
}

/// How often, and how long in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Events.
    pub count: u64,
    /// Their nanoseconds.
    pub ns: Nanos,
}

/// The calls of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchTotals {
    /// Calls.
    pub count: u64,
    /// Nanoseconds of gathering and sending.
    pub input: Nanos,
    /// Nanoseconds in workers.
    pub compute: Nanos,
    /// Nanoseconds of checking outputs.
    pub output: Nanos,
}

/// What one version has done; reloads go on counting, as the metrics do.
#[derive(Debug, Default)]
pub struct Statistics {
    success_ns: AtomicU64,
    fail_count: AtomicU64,
    fail_ns: AtomicU64,
    queue_ns: AtomicU64,
    input_ns: AtomicU64,
    compute_ns: AtomicU64,
    output_ns: AtomicU64,
    /// Milliseconds since 1970; 0 before the first call.
    last_call_ms: AtomicU64,
    /// By rows. A lock, but taken once per call and never held across another.
    batches: Mutex<BTreeMap<u64, BatchTotals>>,
}

impl Statistics {
    /// A request succeeded after `whole`; the request histogram counts it.
    pub fn succeeded(&self, whole: Nanos, stages: Stages) {
        for (sum, time) in [
            (&self.success_ns, whole),
            (&self.queue_ns, stages.queue),
            (&self.input_ns, stages.input),
            (&self.compute_ns, stages.compute),
            (&self.output_ns, stages.output),
        ] {
            sum.fetch_add(time, Ordering::Relaxed);
        }
    }

    /// A request that had passed its checks failed after `whole`, or its caller went away.
    pub fn failed(&self, whole: Nanos) {
        self.fail_count.fetch_add(1, Ordering::Relaxed);
        self.fail_ns.fetch_add(whole, Ordering::Relaxed);
    }

    /// A call of `rows` rows came back.
    pub fn called(&self, rows: u64, stages: Stages) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_call_ms.store(now.as_millis() as u64, Ordering::Relaxed);
        let mut batches = self.batches.lock();
        let totals = batches.entry(rows).or_default();
        totals.count += 1;
        totals.input += stages.input;
        totals.compute += stages.compute;
        totals.output += stages.output;
    }
}

/// The statistics of one version at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Rows that ran.
    pub rows: u64,
    /// Calls that ran.
    pub calls: u64,
    /// When the last call came back, in milliseconds since 1970; 0 if none did.
    pub last_call_ms: u64,
    /// Requests that succeeded.
    pub success: Total,
    /// Requests that passed their checks and failed.
    pub fail: Total,
    /// Their stages: of those that succeeded.
    pub stages: Stages,
    /// Calls by their rows.
    pub batches: BTreeMap<u64, BatchTotals>,
}

impl VersionMetrics {
    /// What the version has done so far.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let statistics = &*self.statistics;
        let ns = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        Snapshot {
            rows: self.items.get(),
            calls: self.batches.get(),
            last_call_ms: ns(&statistics.last_call_ms),
            success: Total { count: self.request.get_sample_count(), ns: ns(&statistics.success_ns) },
            fail: Total { count: ns(&statistics.fail_count), ns: ns(&statistics.fail_ns) },
            stages: Stages {
                queue: ns(&statistics.queue_ns),
                input: ns(&statistics.input_ns),
                compute: ns(&statistics.compute_ns),
                output: ns(&statistics.output_ns),
            },
            batches: statistics.batches.lock().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn totals_add_up_and_outlive_a_reload() {
        let metrics = Metrics::default();
        let version = metrics.version("m", "1");
        assert_eq!(version.snapshot().success, Total::default());
        let stages = Stages { queue: 4, input: 3, compute: 2, output: 1 };
        for _ in 0..2 {
            version.request.observe(1e-8);
            version.statistics.succeeded(10, stages);
        }
        version.statistics.failed(7);
        version.statistics.called(8, stages);
        version.statistics.called(8, stages);
        version.statistics.called(1, stages);
        let snapshot = metrics.version("m", "1").snapshot();
        assert_eq!((snapshot.success, snapshot.fail), (Total { count: 2, ns: 20 }, Total { count: 1, ns: 7 }));
        assert_eq!(snapshot.stages, Stages { queue: 8, input: 6, compute: 4, output: 2 });
        let sizes: Vec<_> =
            snapshot.batches.iter().map(|(rows, totals)| (*rows, totals.count, totals.compute)).collect();
        assert_eq!(sizes, [(1, 1, 2), (8, 2, 4)]);
        assert!(snapshot.last_call_ms > 1_600_000_000_000);
        assert_eq!(metrics.version("m", "2").snapshot().fail.count, 0);
    }
}
