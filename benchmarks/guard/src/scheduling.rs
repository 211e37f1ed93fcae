//! Queue, batcher and scheduler: what happens under a version's lock.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;

use samovar_core::batcher::Policy;
use samovar_core::scheduler::{Arrival, Ended, Limits, Outcome, Scheduler};

/// Items of a batch.
const ITEMS: u64 = 32;
/// Nanoseconds between two arrivals.
const STEP: u64 = 10_000;
/// Nanoseconds that an item has.
const PATIENCE: u64 = 30_000_000_000;

/// Items that arrive one by one are admitted and queued, run as one call, and are finished.
pub(crate) fn batch(rounds: u64) -> Result<(), Box<dyn Error>> {
    let policy = Policy { max_batch_size: ITEMS as u32, max_queue_delay: None };
    let mut scheduler = Scheduler::new(policy, Limits { items: 1_000, bytes: 1 << 30 }, 1, 1);
    scheduler.instance_up(0);
    let request: Arc<str> = "stands for a request".into();
    let mut now = 0;
    for _ in 0..rounds {
        for _ in 0..ITEMS {
            now += STEP;
            let request = Arc::clone(&request);
            let (cost, deadline) = (64, now + PATIENCE);
            let arrival =
                Arrival { request, rows: 1, batch_key: 0, cost, start_by: deadline, deadline, idempotent: true };
            if !scheduler.has_room(1, cost) {
                return Err("the queue is full".into());
            }
            black_box(scheduler.submit(now, arrival));
        }
        black_box(scheduler.expire(now, |_, _| false));
        let assignment = scheduler.next(now).ok_or("nothing runs")?;
        black_box((scheduler.next_look(), scheduler.next_expiry()));
        match scheduler.end(now + STEP, (assignment.instance, assignment.call), Outcome::Finished) {
            Ended::Answer(items, _) if items.len() as u64 == ITEMS => black_box(items),
            other => return Err(format!("the batch ended as {other:?}").into()),
        };
    }
    Ok(())
}
