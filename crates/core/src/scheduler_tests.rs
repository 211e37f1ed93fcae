//! The scheduler under a simulated clock and random faults.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Submit { rows: u32, key: u64, ttl: u64, queue_ttl: u64, idempotent: bool },
    Advance(u64),
    End { which: usize, raises: bool },
    Piece { which: usize, ttl: u64 },
    Cancel { which: usize },
    Kill { instance: usize },
    Revive { instance: usize },
    Revoke { which: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_u32, 0..3_u64, 1..60_u64, 1..60_u64, prop::bool::weighted(0.9)).prop_map(
            |(rows, key, ttl, queue_ttl, idempotent)| Step::Submit { rows, key, ttl, queue_ttl, idempotent }
        ),
        3 => (1..20_u64).prop_map(Step::Advance),
        6 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(which, raises)| Step::End { which, raises }),
        2 => (any::<usize>(), 1..60_u64).prop_map(|(which, ttl)| Step::Piece { which, ttl }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        1 => (0..INSTANCES).prop_map(|instance| Step::Kill { instance }),
        2 => (0..INSTANCES).prop_map(|instance| Step::Revive { instance }),
        1 => any::<usize>().prop_map(|which| Step::Revoke { which }),
    ]
}

const INSTANCES: usize = 2;
const CONCURRENCY: usize = 1;
const MAX_BATCH_SIZE: u32 = 4;
/// Units of the simulated clock are long enough for waits that measurement asks for.
const UNIT: Nanos = 100_000;

/// One call as its simulated worker sees it.
struct SimulatedCall {
    call: CallId,
    instance: usize,
    items: Arc<[Item<u64>]>,
    is_claimed: bool,
}

struct World {
    scheduler: Scheduler<u64>,
    now: Nanos,
    calls: Vec<SimulatedCall>,
    item_ids: HashMap<u64, ItemId>,
    idempotent: HashMap<u64, bool>,
    answers: HashMap<u64, u32>,
    runs: HashMap<u64, u32>,
    /// Requests whose callers have a piece.
    streamed: HashSet<u64>,
    requests: u64,
}

impl World {
    fn new(max_queue_delay: Option<Nanos>) -> Self {
        let policy = Policy { max_batch_size: MAX_BATCH_SIZE, max_queue_delay };
        let limits = Limits { items: 32, bytes: 1 << 20 };
        Self {
            scheduler: Scheduler::new(policy, limits, INSTANCES, CONCURRENCY),
            now: 1,
            calls: Vec::new(),
            item_ids: HashMap::new(),
            idempotent: HashMap::new(),
            answers: HashMap::new(),
            runs: HashMap::new(),
            streamed: HashSet::new(),
            requests: 0,
        }
    }

    fn answer(&mut self, request: u64) {
        *self.answers.entry(request).or_default() += 1;
    }

    fn dispatch(&mut self) {
        for expired in self.scheduler.expire(self.now) {
            self.answer(expired.request);
        }
        while let Some(assignment) = self.scheduler.next(self.now) {
            let keys: HashSet<_> = assignment.items.iter().map(|item| item.batch_key).collect();
            assert_eq!(keys.len(), 1, "unlike items in one call");
            let rows: u32 = assignment.items.iter().map(|item| item.rows).sum();
            assert!(rows <= MAX_BATCH_SIZE || assignment.items.len() == 1);
            assert!(assignment.items.iter().all(|item| self.now < item.start_by), "assigned after its time");
            assert!(assignment.items.len() == 1 || assignment.items.iter().all(|item| item.idempotent));
            self.calls.push(SimulatedCall {
                call: assignment.call,
                instance: assignment.instance,
                items: assignment.items,
                is_claimed: false,
            });
            let held = self.calls.iter().filter(|call| call.instance == assignment.instance).count();
            assert!(held <= CONCURRENCY + 1, "more calls than slots");
        }
        self.claim();
    }

    /// Each worker begins the oldest call it holds, unless a deadline in it has passed.
    fn claim(&mut self) {
        for instance in 0..INSTANCES {
            if self.calls.iter().any(|call| call.instance == instance && call.is_claimed) {
                continue;
            }
            let Some(at) = self.calls.iter().position(|call| call.instance == instance) else { continue };
            if self.calls[at].items.iter().any(|item| self.now >= item.start_by) {
                let call = self.calls.remove(at);
                assert!(matches!(
                    self.scheduler.end(self.now, (call.instance, call.call), Outcome::NotStarted),
                    Ended::Again
                ));
                continue;
            }
            self.calls[at].is_claimed = true;
            for item in self.calls[at].items.iter() {
                let runs = self.runs.entry(item.request).or_default();
                *runs += 1;
                assert!(*runs == 1 || self.idempotent[&item.request], "a non-idempotent item ran twice");
                assert!(!self.streamed.contains(&item.request), "an item ran again after a piece of its answer");
            }
        }
    }

    /// One of the calls that have begun.
    fn claimed(&self, which: usize) -> Option<usize> {
        let claimed: Vec<_> = (0..self.calls.len()).filter(|at| self.calls[*at].is_claimed).collect();
        claimed.get(which % claimed.len().max(1)).copied()
    }

    /// The answer to a call goes on: each of its items has until then for the next piece.
    fn piece(&mut self, which: usize, ttl: u64) {
        let Some(at) = self.claimed(which) else { return };
        let (call, instance) = (self.calls[at].call, self.calls[at].instance);
        assert!(self.scheduler.piece(1 - instance, call).is_none(), "a piece from an instance that does not run it");
        for item in self.scheduler.piece(instance, call).expect("a call that runs").iter() {
            self.streamed.insert(item.request);
            self.scheduler.prolong(item.id, self.now + ttl * UNIT);
        }
    }

    fn end(&mut self, which: usize, raises: bool) {
        let Some(at) = self.claimed(which) else { return };
        let call = self.calls.remove(at);
        let outcome = if raises { Outcome::Raised } else { Outcome::Finished };
        let live: Vec<_> = call.items.iter().filter(|item| !self.answers.contains_key(&item.request)).collect();
        match self.scheduler.end(self.now, (call.instance, call.call), outcome) {
            Ended::Answer(items, _) => {
                assert_eq!(items.len(), call.items.len(), "an answer for another call");
                for item in live {
                    self.answer(item.request);
                }
            }
            Ended::Again => assert!(raises && call.items.len() > 1),
            Ended::Unknown => panic!("a call was forgotten"),
        }
    }

    fn kill(&mut self, instance: usize) {
        let started: HashSet<_> = self
            .calls
            .iter()
            .filter(|call| call.instance == instance && call.is_claimed)
            .map(|call| call.call)
            .collect();
        self.calls.retain(|call| call.instance != instance);
        let lost = self.scheduler.instance_down(instance, |call| started.contains(&call));
        for item in lost.lost.iter().chain(&lost.poison) {
            self.answer(item.request);
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Submit { rows, key, ttl, queue_ttl, idempotent } => {
                if self.scheduler.has_room(1, 1) {
                    let request = self.requests;
                    self.requests += 1;
                    let arrival = Arrival {
                        request,
                        rows,
                        batch_key: key,
                        cost: 1,
                        start_by: self.now + queue_ttl * UNIT,
                        deadline: self.now + ttl * UNIT,
                        idempotent,
                    };
                    self.item_ids.insert(request, self.scheduler.submit(self.now, arrival));
                    self.idempotent.insert(request, idempotent);
                }
            }
            Step::Advance(by) => self.now += by * UNIT,
            Step::End { which, raises } => self.end(which, raises),
            Step::Piece { which, ttl } => self.piece(which, ttl),
            Step::Cancel { which } => {
                let request = which as u64 % self.requests.max(1);
                if let Some(id) = self.item_ids.get(&request).copied()
                    && let Some(gone) = self.scheduler.cancel(id)
                {
                    assert_eq!(gone.request, request);
                    self.answer(request);
                }
            }
            Step::Kill { instance } => self.kill(instance),
            Step::Revive { instance } => {
                if !self.scheduler.instances[instance].is_up {
                    self.scheduler.instance_up(instance);
                }
            }
            Step::Revoke { which } => {
                let idle: Vec<_> = (0..self.calls.len()).filter(|at| !self.calls[*at].is_claimed).collect();
                if let Some(at) = idle.get(which % idle.len().max(1)).copied() {
                    let call = self.calls.remove(at);
                    self.scheduler.revoke(call.call);
                }
            }
        }
        self.dispatch();
    }

    fn finish(mut self) {
        for instance in 0..INSTANCES {
            self.apply(Step::Revive { instance });
        }
        for _ in 0..10_000 {
            self.apply(Step::End { which: 0, raises: false });
            self.apply(Step::Advance(1));
        }
        assert_eq!(self.answers.len() as u64, self.requests, "a request was never answered");
        assert!(self.answers.values().all(|count| *count == 1), "a request was answered twice");
        let scheduler = &self.scheduler;
        assert!(scheduler.live.is_empty() && scheduler.timers.is_empty() && scheduler.calls.is_empty(), "leak");
        assert!(scheduler.queue.is_empty() && scheduler.queue.bytes() == 0);
        assert!(scheduler.instances.iter().all(|instance| instance.calls.is_empty()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_item_gets_one_answer_and_none_starts_late(
        steps in prop::collection::vec(step(), 1..200), delay in prop::option::of(0..4_u64)
    ) {
        let mut world = World::new(delay.map(|units| units * UNIT));
        (0..INSTANCES).for_each(|instance| world.scheduler.instance_up(instance));
        steps.into_iter().for_each(|step| world.apply(step));
        world.finish();
    }
}

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
    let expired = scheduler.expire(100);
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
    assert_eq!((scheduler.expire(499).len(), scheduler.next_expiry()), (0, 500));
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
