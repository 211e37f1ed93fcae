//! When to run what waits: a pure function of the queue, the clock and the slot that is free.

use crate::clock::{NEVER, Nanos};
use crate::queue::{Item, Queue};

/// How calls are formed.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Most rows of one call.
    pub max_batch_size: u32,
    /// Longest wait for batch mates while a slot is free.
    pub max_queue_delay: Nanos,
}

/// What an instance has to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// It would start at once.
    Free,
    /// It is busy and would start when its present call ends. Only a full call is worth this: taking less would halve
    /// the batches of clients that wait for their answers (it cost 29 % on a model of 1 ms).
    Prefetch,
}

/// What to do with a slot.
#[derive(Debug)]
pub enum Decision<R> {
    /// Run these together.
    Run(Vec<Item<R>>),
    /// Nothing yet; look again at this moment ([`NEVER`]: when something arrives).
    Wait(Nanos),
}

/// Decide what `slot` runs at `now`, and take it from the queue.
pub fn decide<R>(queue: &mut Queue<R>, slot: Slot, now: Nanos, policy: Policy) -> Decision<R> {
    if queue.has_group() {
        return match (slot, queue.take_group()) {
            (Slot::Free, Some(group)) => Decision::Run(group),
            (_, Some(group)) => {
                queue.insert_group(group);
                Decision::Wait(NEVER)
            }
            (_, None) => Decision::Wait(NEVER),
        };
    }
    let mut look_again = NEVER;
    let mut chosen = None;
    for head in queue.heads() {
        let due = head.arrived.saturating_add(policy.max_queue_delay);
        let is_full = head.rows >= u64::from(policy.max_batch_size);
        if is_full || (slot == Slot::Free && due <= now) {
            chosen = Some(head.batch_key);
            break;
        }
        if slot == Slot::Free {
            look_again = look_again.min(due);
        }
    }
    match chosen {
        Some(batch_key) => Decision::Run(queue.take(batch_key, policy.max_batch_size)),
        None => Decision::Wait(look_again),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(rows: &[u32]) -> Queue<u64> {
        let mut queue = Queue::default();
        for (id, rows) in rows.iter().enumerate() {
            let id = id as u64;
            queue.insert(Item {
                id,
                request: id,
                rows: *rows,
                batch_key: 0,
                cost: 0,
                arrived: 10,
                start_by: NEVER,
                deadline: NEVER,
                idempotent: true,
                deaths: 0,
            });
        }
        queue
    }

    const POLICY: Policy = Policy { max_batch_size: 4, max_queue_delay: 0 };

    #[test]
    fn a_free_slot_takes_at_once_what_fits_together() {
        let Decision::Run(batch) = decide(&mut queue(&[1, 2, 2]), Slot::Free, 10, POLICY) else { panic!("waits") };
        assert_eq!(batch.len(), 2);
    }

    #[test]
    fn a_busy_instance_prefetches_only_full_calls() {
        assert!(matches!(decide(&mut queue(&[1, 2]), Slot::Prefetch, 10, POLICY), Decision::Wait(NEVER)));
        assert!(matches!(decide(&mut queue(&[2, 2]), Slot::Prefetch, 10, POLICY), Decision::Run(_)));
    }

    #[test]
    fn a_delay_holds_a_partial_call_until_it_is_due() {
        let policy = Policy { max_queue_delay: 5, ..POLICY };
        assert!(matches!(decide(&mut queue(&[1]), Slot::Free, 14, policy), Decision::Wait(15)));
        assert!(matches!(decide(&mut queue(&[1]), Slot::Free, 15, policy), Decision::Run(_)));
        assert!(matches!(decide(&mut queue(&[2, 2]), Slot::Free, 11, policy), Decision::Run(_)));
    }

    #[test]
    fn a_group_runs_first_and_alone_but_never_ahead_of_a_running_call() {
        let mut waiting = queue(&[1]);
        let group = queue(&[1, 1]).take(0, 4);
        waiting.insert_group(group);
        assert!(matches!(decide(&mut waiting, Slot::Prefetch, 10, POLICY), Decision::Wait(NEVER)));
        let Decision::Run(batch) = decide(&mut waiting, Slot::Free, 10, POLICY) else { panic!("waits") };
        assert_eq!(batch.len(), 2);
        assert_eq!(waiting.len(), 1);
    }
}
