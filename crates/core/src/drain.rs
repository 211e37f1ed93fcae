//! How long a queue takes to drain, from what the calls before it took.

use crate::clock::Nanos;

/// Nobody is sent away for longer.
const MOST_SECONDS: f64 = 60.0;
/// Weight of the newest call: after a burst has begun, four calls with many items outweigh those with one.
const NEWEST: f64 = 0.25;

/// Averages over the calls that ended, weighted towards the newest: they are kept apart, since what a call takes hardly
/// depends on how many items share it, and a queue that is full makes calls full.
#[derive(Debug, Default)]
pub struct DrainRate {
    /// Nanoseconds for which a call took its slot.
    time: f64,
    /// Items that a call answered.
    items: f64,
}

impl DrainRate {
    /// A call ended that took a slot for `time` and answered `items`.
    pub fn ended(&mut self, time: Nanos, items: usize) {
        let (time, items) = (time as f64, items as f64);
        let weight = if self.time == 0.0 { 1.0 } else { NEWEST };
        self.time += (time - self.time) * weight;
        self.items += (items - self.items) * weight;
    }

    /// Whole seconds, 1 to 60, in which `waiting` items are through `slots`; 1 where nothing is known yet.
    #[must_use]
    pub fn seconds(&self, waiting: usize, slots: usize) -> u32 {
        let taken = self.time * waiting as f64 / (self.items * slots.max(1) as f64) / 1e9;
        if taken.is_nan() { 1 } else { taken.ceil().clamp(1.0, MOST_SECONDS) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn a_queue_drains_as_fast_as_calls_have_ended() {
        let mut rate = DrainRate::default();
        assert_eq!(rate.seconds(1_000, 1), 1);
        (0..5).for_each(|_| rate.ended(500 * MS, 1));
        assert_eq!([rate.seconds(20, 1), rate.seconds(20, 2), rate.seconds(1, 4)], [10, 5, 1]);
        assert_eq!(rate.seconds(10_000, 1), 60);
    }

    #[test]
    fn what_answers_nobody_drains_nothing() {
        let mut rate = DrainRate::default();
        rate.ended(500 * MS, 0);
        assert_eq!(rate.seconds(20, 1), 60);
        assert_eq!(rate.seconds(0, 1), 1);
    }

    #[test]
    fn calls_that_a_burst_fills_count_for_more_than_the_single_ones_before_it() {
        let mut rate = DrainRate::default();
        (0..100).for_each(|_| rate.ended(100 * MS, 1));
        assert_eq!(rate.seconds(320, 1), 32);
        (0..4).for_each(|_| rate.ended(100 * MS, 64));
        assert_eq!(rate.seconds(320, 1), 1);
    }
}
