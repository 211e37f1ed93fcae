//! Whether a free instance waits for those whom it has just answered, for how long, and for how many rows.
//!
//! Clients that ask again as soon as they have their answer come back in a burst after a call's end. An instance that
//! takes at once what waits then splits them for ever: half of them run while the other half waits, and each of the two
//! calls pays what a call costs however few its rows are. Waiting pays where that fixed cost is more than the wait. Both
//! are measured: the cost, as the line through rows and times of the calls that ended, and the share of the answered rows
//! that are back within the wait, whether or not anybody waited for them.

use crate::clock::Nanos;

/// Below this nobody waits: a call costs so little then that what it takes to come back is more, and that times tell more
/// of the machine than of the model.
const SHORTEST: Nanos = 250_000;
/// A wait lasts at most one part in so many of what it may save. Of arrivals at a steady rate, for which waiting is of no
/// use, at most half as many come in that time as a call answered.
const PARTS: usize = 2;
/// The share of the answered rows that must come back in time for a wait to have been worth it.
const MOST: f64 = 0.75;
/// The share of calls, by their rows, after which that must have been so. The others are those after which somebody was
/// held up; small calls at a steady rate are by chance followed by enough rows in four cases out of ten.
const ENOUGH: f64 = 0.6;
/// Rows that are taken to have stayed away before the first call.
const DOUBT: f64 = 16.0;
/// What one more call makes fade of the shares, and of the cost. The cost has to outlast the calls of [`PROBE`], which may
/// be all that varies in size.
const SHARE_FADES: f64 = 1.0 / 16.0;
const COST_FADES: f64 = 1.0 / 512.0;
/// A call out of so many waits for half of its rows only, where calls of one size leave the cost unknown.
const PROBE: u64 = 256;

/// Time of a call against its rows: least squares, of which the past fades.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    weight: f64,
    rows: f64,
    rows_squared: f64,
    time: f64,
    rows_time: f64,
}

impl Cost {
    fn observe(&mut self, rows: f64, time: f64) {
        // One call that was held up by something else must not be what the line is drawn through.
        let time = if self.weight > 0.0 { time.min(4.0 * self.mean()) } else { time };
        let kept = 1.0 - COST_FADES;
        self.weight = self.weight * kept + 1.0;
        self.rows = self.rows * kept + rows;
        self.rows_squared = self.rows_squared * kept + rows * rows;
        self.time = self.time * kept + time;
        self.rows_time = self.rows_time * kept + rows * time;
    }

    /// Of an average call.
    fn mean(&self) -> f64 {
        self.time / self.weight.max(1.0)
    }

    /// Variance of the rows; `None` where the calls are so much alike that no line can be drawn.
    fn variance(&self) -> Option<f64> {
        let mean = self.rows / self.weight.max(1.0);
        let variance = self.rows_squared / self.weight.max(1.0) - mean * mean;
        (variance > (mean / 64.0).powi(2)).then_some(variance)
    }

    /// What a call costs however few its rows are: all of it, as long as nothing else is known.
    fn fixed(&self) -> f64 {
        let Some(variance) = self.variance() else { return self.mean() };
        let mean = self.rows / self.weight;
        let slope = (self.rows_time / self.weight - mean * self.mean()) / variance;
        (self.mean() - slope.max(0.0) * mean).max(0.0)
    }
}

/// What follows the end of a call.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// The instance that ended the call.
    instance: usize,
    /// Key of its items.
    batch_key: u64,
    /// Rows that were answered, and of these how many came back before `until`.
    answered: u64,
    back: u64,
    /// Rows that are worth waiting for.
    target: u64,
    /// Arrivals are counted until then, and waited for if they are worth it.
    until: Nanos,
}

/// A call that came back.
#[derive(Clone, Copy, Debug)]
pub struct EndedCall {
    /// Where it ran.
    pub instance: usize,
    /// Key of its items.
    pub batch_key: u64,
    /// Its rows.
    pub rows: u64,
    /// How long it kept its instance; `None` where that tells nothing, as of the first one.
    pub time: Option<Nanos>,
    /// Rows of the same key that wait meanwhile.
    pub waiting: u64,
}

/// The rows that a free instance waits for, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Key of the items.
    pub batch_key: u64,
    /// Rows.
    pub rows: u64,
    /// Not longer than this.
    pub until: Nanos,
}

/// What one version has measured, and what came of its last call.
#[derive(Debug)]
pub struct Hold {
    cost: Cost,
    /// Rows that were answered, and of these how many in calls after which most were back in time.
    answered: f64,
    good: f64,
    /// The share that was back in time after those calls.
    back: f64,
    /// Calls that ended.
    calls: u64,
    round: Round,
}

impl Default for Hold {
    fn default() -> Self {
        Self { cost: Cost::default(), answered: DOUBT, good: 0.0, back: 1.0, calls: 0, round: Round::default() }
    }
}

impl Hold {
    /// Rows have come to wait.
    pub fn arrived(&mut self, now: Nanos, batch_key: u64, rows: u32) {
        if now < self.round.until && batch_key == self.round.batch_key {
            self.round.back += u64::from(rows);
        }
    }

    /// A call has ended. `slots` calls may run at a time in all instances, each of `max_rows`.
    pub fn ended(&mut self, now: Nanos, call: EndedCall, slots: usize, max_rows: u32) {
        self.calls += 1;
        if let Some(time) = call.time {
            self.cost.observe(call.rows as f64, time as f64);
        }
        let before = std::mem::take(&mut self.round);
        let is_over = before.until <= now;
        if is_over && before.answered > 0 {
            let kept = 1.0 - SHARE_FADES;
            let (answered, share) = (before.answered as f64, (before.back as f64 / before.answered as f64).min(1.0));
            let is_good = share >= MOST;
            self.answered = self.answered * kept + answered;
            self.good = self.good * kept + if is_good { answered } else { 0.0 };
            if is_good {
                self.back += (share - self.back) * SHARE_FADES;
            }
        }
        // Of so many slots one is free that much earlier anyway.
        let patience = (self.cost.fixed() / (PARTS * slots) as f64) as Nanos;
        if patience < SHORTEST {
            return;
        }
        let back = (self.back * call.rows as f64).ceil() as u64;
        let pays = self.good >= ENOUGH * self.answered;
        let mut target = if pays { (call.waiting + back).min(u64::from(max_rows)) } else { 0 };
        if self.calls.is_multiple_of(PROBE) && self.cost.variance().is_none() {
            target /= 2;
        }
        self.round = Round {
            instance: call.instance,
            batch_key: call.batch_key,
            // Of calls that end together it cannot be told whose clients come back.
            answered: call.rows + if is_over { 0 } else { before.answered },
            back: if is_over { 0 } else { before.back },
            target,
            until: now + patience,
        };
    }

    /// `instance` has got a call: its wait is over.
    pub fn assigned(&mut self, instance: usize) {
        if self.round.instance == instance {
            self.round.target = 0;
        }
    }

    /// What `instance`, which is free, waits for at `now`.
    pub fn expected(&self, instance: usize, now: Nanos) -> Option<Expected> {
        let round = &self.round;
        let is_on = now < round.until && round.instance == instance && round.target > 0;
        is_on.then_some(Expected { batch_key: round.batch_key, rows: round.target, until: round.until })
    }

    /// How long an average call takes.
    pub fn service_time(&self) -> Nanos {
        self.cost.mean() as Nanos
    }
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
