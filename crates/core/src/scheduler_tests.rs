//! Cases of the scheduler; `tests/simulation/` has the chance.

use super::*;

fn arrival(request: u64) -> Arrival<u64> {
    Arrival { request, rows: 1, batch_key: 0, cost: 1, start_by: NEVER, deadline: 100, idempotent: true }
}

fn scheduler() -> Scheduler<u64> {
    let policy = Policy { max_batch_size: 4, max_queue_delay: Some(0) };
    let mut scheduler = Scheduler::new(policy, Limits { items: 8, bytes: 8 }, 2, 1);
    scheduler.instance_up(0);
    scheduler.instance_up(1);
    scheduler
}

#[test]
fn a_raise_is_narrowed_down_to_the_guilty_item() {
    let mut scheduler = scheduler();
    (0..4).for_each(|request| {
        scheduler.submit(1, arrival(request));
    });
    let mut failed = Vec::new();
    let mut answered = Vec::new();
    while let Some(assignment) = scheduler.next(1) {
        let raises = assignment.items.iter().any(|item| item.request == 2);
        let outcome = if raises { Outcome::Raised } else { Outcome::Finished };
        if let Ended::Answer(items, _) = scheduler.end(1, (assignment.instance, assignment.call), outcome) {
            let list = if raises { &mut failed } else { &mut answered };
            list.extend(items.iter().map(|item| item.request));
        }
    }
    assert_eq!((failed, answered), (vec![2], vec![0, 1, 3]));
}

#[test]
fn an_item_that_kills_twice_is_poison_and_its_mates_are_run_again() {
    let mut scheduler = scheduler();
    (0..3).for_each(|request| {
        scheduler.submit(1, arrival(request));
    });
    let first = scheduler.next(1).unwrap();
    let lost = scheduler.instance_down(first.instance, |_| true);
    assert_eq!((lost.rerun, lost.poison.len(), lost.is_charged_to_item), (3, 0, false));
    let alone = scheduler.next(1).unwrap();
    assert_eq!(alone.items.iter().map(|item| item.request).collect::<Vec<_>>(), [0]);
    let lost = scheduler.instance_down(alone.instance, |_| true);
    assert_eq!((lost.poison.len(), lost.is_charged_to_item), (1, true));
}

#[test]
fn an_expired_item_keeps_its_slot_accounted() {
    let mut scheduler = scheduler();
    scheduler.submit(1, arrival(0));
    let assignment = scheduler.next(1).unwrap();
    assert_eq!(scheduler.next_expiry(), 100);
    let expired = scheduler.expire(100, |_, _| false);
    assert_eq!(expired[0].call, Some((assignment.instance, assignment.call)));
    assert!(expired[0].is_call_abandoned);
    assert_eq!(scheduler.running(), 1);
    assert!(matches!(scheduler.end(1, (assignment.instance, assignment.call), Outcome::Finished), Ended::Answer(..)));
    assert_eq!(scheduler.running(), 0);
}

#[test]
fn a_piece_gives_its_item_more_time_and_rules_out_another_run() {
    let mut scheduler = scheduler();
    let item = scheduler.submit(1, arrival(0));
    scheduler.prolong(item, 500);
    assert_eq!(scheduler.next_expiry(), 100, "it has not begun");
    let Assignment { call, instance, .. } = scheduler.next(1).unwrap();
    assert!(scheduler.piece(instance, call).is_some_and(|items| items[0].id == item));
    scheduler.prolong(item, 500);
    assert_eq!((scheduler.expire(499, |_, _| false).len(), scheduler.next_expiry()), (0, 500));
    assert!(matches!(scheduler.end(1, (instance, call), Outcome::NotStarted), Ended::Answer(..)));
    scheduler.prolong(item, 900);
    assert!(scheduler.live.is_empty() && scheduler.timers.is_empty());
}

#[test]
fn a_death_after_a_piece_loses_the_item_however_often_it_may_run() {
    let mut scheduler = scheduler();
    scheduler.submit(1, arrival(0));
    let Assignment { call, instance, .. } = scheduler.next(1).unwrap();
    scheduler.piece(instance, call);
    let lost = scheduler.instance_down(instance, |_| true);
    assert_eq!((lost.lost.len(), lost.rerun, lost.is_charged_to_item), (1, 0, false));
    assert!(scheduler.next(1).is_none() && scheduler.piece(instance, call).is_none());
}

#[test]
fn an_item_larger_than_the_byte_limit_may_wait_alone() {
    let mut scheduler = scheduler();
    assert!(scheduler.has_room(1, 1_000));
    scheduler.submit(1, Arrival { cost: 6, ..arrival(0) });
    assert!(!scheduler.has_room(1, 3));
}

#[test]
fn an_end_from_another_instance_is_unknown() {
    let mut scheduler = scheduler();
    scheduler.submit(1, arrival(0));
    let assignment = scheduler.next(1).unwrap();
    assert!(matches!(scheduler.end(1, (1 - assignment.instance, assignment.call), Outcome::Finished), Ended::Unknown));
    assert!(matches!(scheduler.end(1, (assignment.instance, assignment.call), Outcome::Finished), Ended::Answer(..)));
}

#[test]
fn a_call_sent_ahead_is_stranded_when_another_instance_is_free() {
    let mut scheduler = scheduler();
    let assignments: Vec<_> = (0..3)
        .map(|request| {
            scheduler.submit(1, Arrival { rows: 4, ..arrival(request) });
            scheduler.next(1).unwrap()
        })
        .collect();
    assert_eq!(scheduler.stranded(), None);
    let (ahead, busy) = (assignments[2].call, assignments[2].instance);
    let other = assignments.iter().find(|assignment| assignment.instance != busy).unwrap();
    scheduler.end(1, (other.instance, other.call), Outcome::Finished);
    assert_eq!(scheduler.stranded(), Some((busy, ahead)));
    scheduler.revoke(ahead);
    assert_eq!(scheduler.next(1).unwrap().instance, other.instance);
    assert_eq!(scheduler.stranded(), None);
}

#[test]
fn an_item_that_is_sent_ahead_ends_when_it_may_no_longer_start() {
    let mut scheduler = scheduler();
    let started: Vec<_> = (0..2)
        .map(|request| {
            scheduler.submit(1, Arrival { rows: 4, start_by: 50, ..arrival(request) });
            scheduler.next(1).unwrap().call
        })
        .collect();
    scheduler.submit(1, Arrival { rows: 2, start_by: 50, ..arrival(2) });
    scheduler.submit(1, Arrival { rows: 2, ..arrival(3) });
    let ahead = scheduler.next(1).unwrap().call;
    let mut asked = Vec::new();
    let expired = scheduler.expire(50, |_, call| {
        asked.push(call);
        !started.contains(&call)
    });
    assert_eq!((asked.len(), asked.contains(&ahead)), (3, true));
    assert_eq!(expired.iter().map(|gone| (gone.request, gone.call)).collect::<Vec<_>>(), [(2, None)]);
    assert_eq!((scheduler.waiting(), scheduler.running(), scheduler.next_expiry()), (1, 2, 100));
    let late = scheduler.expire(100, |_, _| true);
    assert_eq!(late.iter().map(|gone| gone.request).collect::<Vec<_>>(), [0, 1, 3]);
    assert_eq!((scheduler.live(), scheduler.running()), (0, 2));
}

#[test]
fn an_item_that_ran_when_its_worker_died_shares_no_call_even_if_the_next_one_was_not_begun() {
    let mut scheduler = scheduler();
    scheduler.submit(1, arrival(0));
    let first = scheduler.next(1).unwrap();
    scheduler.instance_down(first.instance, |_| true);
    let alone = scheduler.next(1).unwrap();
    assert!(matches!(scheduler.end(1, (alone.instance, alone.call), Outcome::NotStarted), Ended::Again));
    scheduler.submit(1, arrival(1));
    assert_eq!(scheduler.next(1).unwrap().items.iter().map(|item| item.request).collect::<Vec<_>>(), [0]);
}

#[test]
fn calls_that_ran_beside_each_other_at_two_deaths_run_alone_before_one_of_them_is_poison() {
    let policy = Policy { max_batch_size: 1, max_queue_delay: Some(0) };
    let mut scheduler = Scheduler::new(policy, Limits { items: 8, bytes: 8 }, 1, 4);
    let assigned = |scheduler: &mut Scheduler<u64>| -> Vec<_> {
        std::iter::from_fn(|| scheduler.next(1)).map(|next| (next.call, next.items[0].request)).collect()
    };
    (0..3).for_each(|request| {
        scheduler.submit(1, arrival(request));
    });
    for _ in 0..2 {
        scheduler.instance_up(0);
        assert_eq!(assigned(&mut scheduler).len(), 3);
        let lost = scheduler.instance_down(0, |_| true);
        assert_eq!((lost.rerun, lost.poison.len(), lost.is_charged_to_item), (3, 0, false));
    }
    scheduler.submit(1, arrival(3));
    scheduler.instance_up(0);
    let alone = assigned(&mut scheduler);
    assert_eq!(alone.len(), 1);
    assert!(matches!(scheduler.end(1, (0, alone[0].0), Outcome::Finished), Ended::Answer(..)));
    let alone = assigned(&mut scheduler);
    let lost = scheduler.instance_down(0, |_| true);
    assert_eq!((alone.len(), lost.poison[0].request, lost.is_charged_to_item), (1, alone[0].1, true));
    scheduler.instance_up(0);
    let alone = assigned(&mut scheduler);
    assert!(matches!(scheduler.end(1, (0, alone[0].0), Outcome::Finished), Ended::Answer(..)));
    assert_eq!((alone.len(), assigned(&mut scheduler)[0].1, scheduler.live()), (1, 3, 1));
}

#[test]
fn a_raise_that_is_shared_answers_all_and_nothing_runs_again() {
    let mut scheduler = scheduler().with_shared_errors();
    (0..4).for_each(|request| {
        scheduler.submit(1, Arrival { idempotent: request > 0, ..arrival(request) });
    });
    let Assignment { call, instance, items } = scheduler.next(1).unwrap();
    assert_eq!(items.len(), 4, "one that may not run twice shares it");
    let Ended::Answer(items, _) = scheduler.end(1, (instance, call), Outcome::Raised) else { panic!("again") };
    assert_eq!(items.len(), 4);
    assert!(scheduler.next(1).is_none() && scheduler.waiting() == 0);
}

#[test]
fn what_runs_beside_a_killer_is_found_innocent() {
    let policy = Policy { max_batch_size: 1, max_queue_delay: Some(0) };
    let mut scheduler = Scheduler::new(policy, Limits { items: 16, bytes: 16 }, 1, 4);
    (0..8).for_each(|request| {
        scheduler.submit(1, Arrival { deadline: NEVER, ..arrival(request) });
    });
    let (mut deaths, mut poison, mut answered) = (0, Vec::new(), Vec::new());
    while scheduler.waiting() > 0 {
        scheduler.instance_up(0);
        while let Some(first) = scheduler.next(1) {
            let calls: Vec<_> = [first].into_iter().chain(std::iter::from_fn(|| scheduler.next(1))).collect();
            if calls.iter().any(|call| call.items[0].request == 2) {
                let lost = scheduler.instance_down(0, |_| true);
                poison.extend(lost.poison.iter().map(|item| item.request));
                deaths += 1;
                break;
            }
            for Assignment { call, items, .. } in calls {
                scheduler.end(1, (0, call), Outcome::Finished);
                answered.push(items[0].request);
            }
        }
    }
    answered.sort_unstable();
    assert_eq!((deaths, poison, answered), (3, vec![2], vec![0, 1, 3, 4, 5, 6, 7]));
}

#[test]
fn what_waits_to_run_by_itself_keeps_the_others_from_one_instance_alone() {
    let policy = Policy { max_batch_size: 1, max_queue_delay: Some(0) };
    let mut scheduler = Scheduler::new(policy, Limits { items: 16, bytes: 16 }, 2, 2);
    scheduler.instance_up(0);
    (0..2).for_each(|request| {
        scheduler.submit(1, Arrival { deadline: NEVER, ..arrival(request) });
    });
    for _ in 0..2 {
        while scheduler.next(1).is_some() {}
        scheduler.instance_down(0, |_| true);
        scheduler.instance_up(0);
    }
    scheduler.instance_up(1);
    let suspect = scheduler.next(1).unwrap();
    let other = scheduler.next(1).unwrap();
    assert!(suspect.instance != other.instance, "each of the two has an instance to itself");
    (2..8).for_each(|request| {
        scheduler.submit(1, Arrival { deadline: NEVER, ..arrival(request) });
    });
    assert!(scheduler.next(1).is_none(), "nothing runs beside them");
    scheduler.end(1, (other.instance, other.call), Outcome::Finished);
    let beside: Vec<_> = std::iter::from_fn(|| scheduler.next(1)).map(|call| call.instance).collect();
    assert_eq!(beside[..2], [other.instance; 2]);
    assert!(beside.iter().all(|instance| *instance == other.instance));
}

#[test]
fn what_past_calls_took_says_when_the_queue_has_drained() {
    const MS: Nanos = 1_000_000;
    let policy = Policy { max_batch_size: 1, max_queue_delay: Some(0) };
    let mut scheduler = Scheduler::new(policy, Limits { items: 32, bytes: 32 }, 1, 1);
    scheduler.instance_up(0);
    let submit = |scheduler: &mut Scheduler<u64>| scheduler.submit(1, Arrival { deadline: NEVER, ..arrival(0) });
    (0..4).for_each(|_| _ = submit(&mut scheduler));
    assert_eq!(scheduler.drain_s(), 1, "nothing has been seen");
    // Each next call is sent ahead while one runs, and takes no time of its own before that one has ended.
    let mut sent: std::collections::VecDeque<_> = [scheduler.next(1).unwrap(), scheduler.next(1).unwrap()].into();
    for end in 1..=4 {
        let Assignment { call, instance, .. } = sent.pop_front().unwrap();
        scheduler.end(1 + end * 500 * MS, (instance, call), Outcome::Finished);
        sent.extend(scheduler.next(1 + end * 500 * MS));
    }
    (0..20).for_each(|_| _ = submit(&mut scheduler));
    assert_eq!(scheduler.drain_s(), 10);
    scheduler.instance_down(0, |_| true);
    assert_eq!(scheduler.drain_s(), 10, "as if the next worker were there");
}

#[test]
fn an_instance_is_needed_while_somebody_waits_for_what_it_has_begun() {
    let policy = Policy { max_batch_size: 1, max_queue_delay: Some(0) };
    let mut scheduler = Scheduler::new(policy, Limits { items: 8, bytes: 8 }, 1, 2);
    scheduler.instance_up(0);
    let items: Vec<_> = (0..3).map(|request| scheduler.submit(1, arrival(request))).collect();
    let calls: Vec<_> = (0..3).map(|_| scheduler.next(1).unwrap().call).collect();
    assert_eq!(calls.iter().map(|call| scheduler.runs(0, *call)).collect::<Vec<_>>(), [true, true, false]);
    scheduler.cancel(items[0]);
    assert!(scheduler.is_needed(0, |_| true) && !scheduler.is_needed(0, |call| call != calls[1]));
    scheduler.cancel(items[1]);
    assert!(!scheduler.is_needed(0, |_| true), "the third is not its turn yet");
    scheduler.end(1, (0, calls[0]), Outcome::Finished);
    assert!(scheduler.runs(0, calls[2]) && scheduler.is_needed(0, |_| true));
}
