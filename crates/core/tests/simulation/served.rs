//! One version as the engine drives it, and its workers as they answer.

use std::collections::VecDeque;

use samovar_core::clock::{NEVER, Nanos};
use samovar_core::queue::ItemId;
use samovar_core::scheduler::{Arrival, Assignment, CallId, Expired, Outcome, Scheduler};

use crate::agenda::{Agenda, At, Event};
use crate::found::Found;
use crate::ledger::{Fate, Ledger};
use crate::plan::{Nature, Plan, Request, US};

/// How long a frame or a wake-up may take.
const LATENCY: Nanos = 30 * US;
/// How long a death may go unnoticed.
const DETECTION: Nanos = 500 * US;

/// A call as its worker has it.
#[derive(Clone, Copy, Debug)]
struct Job {
    call: CallId,
    rows: u64,
    /// Not to be begun from then on.
    start_by: Nanos,
    nature: Nature,
    /// The item of a stream.
    first: ItemId,
}

/// An instance in its worker.
#[derive(Clone, Debug, Default)]
struct Instance {
    /// Which of the workers that this instance has had.
    epoch: u64,
    is_alive: bool,
    /// Sent and not begun.
    ring: VecDeque<Job>,
    running: Vec<Job>,
}

impl Instance {
    /// As `Link::revoke`: true if the worker has not begun the call, and now never will.
    fn take_back(&mut self, call: CallId) -> bool {
        let place = self.ring.iter().position(|job| job.call == call);
        place.is_some_and(|place| self.ring.remove(place).is_some())
    }
}

/// A version, driven as `version/` of the engine does.
pub(crate) struct Served {
    pub(crate) serial: usize,
    pub(crate) plan: Plan,
    pub(crate) ledger: Ledger,
    scheduler: Scheduler<u64>,
    instances: Vec<Instance>,
    /// When the timer rings.
    armed: Nanos,
    pub(crate) is_closed: bool,
    pub(crate) is_final: bool,
    pub(crate) is_retired: bool,
}

impl Served {
    pub(crate) fn new(serial: usize, plan: Plan) -> Self {
        let mut scheduler =
            Scheduler::new(plan.policy, plan.limits, plan.instances, plan.concurrency).counting_from(plan.first_call);
        if !plan.prefetches {
            scheduler = scheduler.without_prefetch();
        }
        Self {
            serial,
            ledger: Ledger::new(plan.clone(), serial as u64),
            scheduler,
            instances: vec![Instance::default(); plan.instances],
            armed: NEVER,
            is_closed: false,
            is_final: false,
            is_retired: false,
            plan,
        }
    }

    fn at(&self, instance: usize) -> At {
        At { version: self.serial, instance, epoch: self.instances[instance].epoch }
    }

    /// Is this still the same worker, and alive?
    pub(crate) fn is_current(&self, at: At) -> bool {
        let instance = &self.instances[at.instance];
        instance.is_alive && instance.epoch == at.epoch
    }

    /// Admit a request; the numbers of its items. `None`: the queue is full.
    pub(crate) fn submit(
        &mut self,
        agenda: &mut Agenda,
        found: &mut Found,
        (number, request): (usize, &Request),
        is_admitted: bool,
    ) -> Option<ItemId> {
        let now = agenda.now;
        let bytes = request.items.iter().map(|wish| wish.cost).sum();
        let has_room = self.scheduler.has_room(request.items.len(), bytes);
        assert_eq!(has_room, self.ledger.has_room(request.items.len(), bytes), "room in the queue");
        if !has_room && !is_admitted {
            return None;
        }
        let mut first = None;
        for wish in &request.items {
            let arrival = Arrival {
                request: self.ledger.token(),
                rows: wish.rows,
                batch_key: request.batch_key,
                cost: wish.cost,
                start_by: now.saturating_add(request.queue_timeout),
                deadline: now.saturating_add(request.timeout),
                idempotent: request.idempotent,
            };
            let id = self.scheduler.submit(now, arrival);
            self.ledger.submitted(now, id, (number, request), wish);
            first.get_or_insert(id);
        }
        self.dispatch(agenda, found);
        first
    }

    /// As `Version::dispatch` and `Version::perform`.
    pub(crate) fn dispatch(&mut self, agenda: &mut Agenda, found: &mut Found) {
        let now = agenda.now;
        if self.ledger.is_overdue(now) {
            assert!(self.scheduler.next(now).is_none(), "something was assigned while an item was overdue");
        }
        let (instances, is_inline) = (&mut self.instances, self.plan.is_inline);
        let mut asked = Vec::new();
        let expired = self.scheduler.expire(now, |instance, call| {
            let is_taken = !is_inline && instances[instance].take_back(call);
            asked.push((instance, call, is_taken));
            is_taken
        });
        found.not_in_time += asked.iter().filter(|(.., is_taken)| *is_taken).count() as u64;
        self.ledger.expired(now, &asked, &expired);
        let mut sends = Vec::new();
        loop {
            while let Some(assignment) = self.scheduler.next(now) {
                found.ahead += u64::from(self.ledger.assigned(now, &assignment));
                sends.push(assignment);
            }
            let Some((instance, call)) = self.scheduler.stranded() else { break };
            if !self.take_back(instance, call) {
                break;
            }
            self.scheduler.revoke(call);
            self.ledger.revoked(now, instance, call);
            found.stranded += 1;
        }
        self.arm(agenda);
        for assignment in sends {
            self.send(agenda, found, &assignment);
        }
        for gone in expired {
            self.leave(agenda, found, &gone);
        }
        self.ledger.check(now, &self.scheduler);
        found.held += u64::from(self.ledger.check_progress(now, self.scheduler.next_look()));
    }

    fn arm(&mut self, agenda: &mut Agenda) {
        let wake = self.scheduler.next_look().min(self.scheduler.next_expiry());
        if wake < self.armed {
            self.armed = wake;
            agenda.at(wake, Event::Wake { version: self.serial });
        }
    }

    pub(crate) fn wake(&mut self, agenda: &mut Agenda, found: &mut Found) {
        if self.armed <= agenda.now {
            self.armed = NEVER;
            self.dispatch(agenda, found);
        }
    }

    fn send(&mut self, agenda: &mut Agenda, found: &mut Found, assignment: &Assignment<u64>) {
        let Assignment { call, instance, items } = assignment;
        if agenda.random.chance(self.plan.unsent) {
            return self.end(agenda, found, (*instance, *call), Outcome::Finished, Fate::Unsent);
        }
        let natures = || items.iter().map(|item| self.ledger.nature(item.id));
        let nature = [Nature::Kills, Nature::Raises].into_iter().find(|nature| natures().any(|other| other == *nature));
        let job = Job {
            call: *call,
            rows: items.iter().map(|item| u64::from(item.rows)).sum(),
            start_by: items.iter().map(|item| item.start_by).min().unwrap_or(NEVER),
            nature: nature.unwrap_or(Nature::Harmless),
            first: items[0].id,
        };
        self.instances[*instance].ring.push_back(job);
        agenda.soon(LATENCY, Event::Claim { at: self.at(*instance) });
    }

    fn take_back(&mut self, instance: usize, call: CallId) -> bool {
        !self.plan.is_inline && self.instances[instance].take_back(call)
    }

    /// As `Version::leave`.
    fn leave(&mut self, agenda: &mut Agenda, found: &mut Found, gone: &Expired<u64>) {
        let Some((instance, call)) = gone.call else { return };
        if self.take_back(instance, call) {
            self.scheduler.revoke(call);
            self.ledger.revoked(agenda.now, instance, call);
            found.taken_back += 1;
            self.dispatch(agenda, found);
        } else if gone.is_call_abandoned {
            let at = self.at(instance);
            if self.plan.hears_cancel && self.runs(at, call) {
                agenda.soon(LATENCY, Event::Done { at, call, raises: true });
            }
            if let Some(patience) = self.plan.hard_kill {
                agenda.at(agenda.now + patience, Event::Overrun { at, call });
            }
        }
    }

    pub(crate) fn overrun(&mut self, agenda: &mut Agenda, at: At, call: CallId) {
        let holds = self.scheduler.holds(at.instance, call);
        assert_eq!(holds, self.ledger.holds(at.instance, call));
        if holds {
            agenda.at(agenda.now, Event::Die { at });
        }
    }

    /// The client of an item has gone away.
    pub(crate) fn cancel(&mut self, agenda: &mut Agenda, found: &mut Found, id: ItemId) {
        let gone = self.scheduler.cancel(id);
        self.ledger.cancelled(id, gone.as_ref());
        if let Some(gone) = gone {
            self.leave(agenda, found, &gone);
        }
        self.ledger.check(agenda.now, &self.scheduler);
    }

    /// True while a call runs in the worker of this instance.
    pub(crate) fn is_busy(&self, instance: usize) -> bool {
        self.instances.get(instance).is_some_and(|instance| instance.is_alive && !instance.running.is_empty())
    }

    /// A worker looks at what was sent to it.
    pub(crate) fn claim(&mut self, agenda: &mut Agenda, at: At) {
        if !self.is_current(at) {
            return;
        }
        let concurrency = self.plan.concurrency;
        while self.instances[at.instance].running.len() < concurrency {
            let Some(job) = self.instances[at.instance].ring.pop_front() else { return };
            if agenda.now >= job.start_by {
                self.ledger.declined(job.call);
                agenda.soon(LATENCY, Event::Seen { at, call: job.call, outcome: Outcome::NotStarted });
                continue;
            }
            self.ledger.begun(agenda.now, job.call);
            self.instances[at.instance].running.push(job);
            self.run(agenda, at, job);
        }
    }

    fn run(&self, agenda: &mut Agenda, at: At, job: Job) {
        let time = self.plan.time(&mut agenda.random, job.rows);
        let end = agenda.now + time;
        if job.nature == Nature::Kills {
            return agenda.at(end, Event::Kill { at, call: job.call });
        }
        if self.plan.streams {
            for _ in 0..agenda.random.below(4) {
                let moment = agenda.now + agenda.random.below(time.max(1));
                agenda.at(moment, Event::Piece { at, call: job.call });
            }
        }
        let raises = job.nature == Nature::Raises || agenda.random.chance(self.plan.failing_calls);
        agenda.at(end, Event::Done { at, call: job.call, raises });
    }

    /// A call is over in its worker.
    pub(crate) fn done(&mut self, agenda: &mut Agenda, at: At, call: CallId, raises: bool) {
        if self.runs(at, call) {
            self.instances[at.instance].running.retain(|job| job.call != call);
            let outcome = if raises { Outcome::Raised } else { Outcome::Finished };
            agenda.soon(LATENCY, Event::Seen { at, call, outcome });
            agenda.at(agenda.now, Event::Claim { at });
        }
    }

    /// The engine reads END. Of a worker that it has taken for dead it is of no call.
    pub(crate) fn seen(&mut self, agenda: &mut Agenda, found: &mut Found, (at, call): (At, CallId), outcome: Outcome) {
        if agenda.random.chance(0.01) {
            let other = (at.instance + 1) % self.plan.instances;
            let is_known = other == at.instance;
            let call = if is_known { call + (1 << 40) } else { call };
            self.end(agenda, found, (other, call), outcome, Fate::Answered);
        }
        found.late += u64::from(!self.ledger.holds(at.instance, call));
        let answer = if outcome == Outcome::Raised { Fate::Failed } else { Fate::Answered };
        self.end(agenda, found, (at.instance, call), outcome, answer);
    }

    fn end(&mut self, agenda: &mut Agenda, found: &mut Found, call: (usize, CallId), outcome: Outcome, answer: Fate) {
        let ended = self.scheduler.end(agenda.now, call, outcome);
        found.ended(outcome, &ended);
        self.ledger.ended(agenda.now, call, outcome, answer, &ended);
        self.dispatch(agenda, found);
    }

    /// A piece of the answer is there. The item has time for the next one, or all of it while its client takes nothing.
    pub(crate) fn piece(&mut self, agenda: &mut Agenda, found: &mut Found, at: At, call: CallId) {
        let job = self.instances[at.instance].running.iter().find(|job| job.call == call).copied();
        let Some(job) = job.filter(|_| self.is_current(at)) else { return };
        let items = self.scheduler.piece(at.instance, call);
        self.ledger.piece(at.instance, call, items.as_deref());
        let awaited = self.scheduler.awaited(at.instance, call);
        assert_eq!(awaited.map(|(_, has_streamed)| has_streamed), self.ledger.awaited(at.instance, call));
        if items.is_none() {
            return;
        }
        found.pieces += 1;
        let is_stalled = agenda.random.chance(0.2);
        let deadline = if is_stalled { NEVER } else { agenda.now + self.plan.patience() };
        self.prolong(agenda, job.first, deadline);
        let slack = if is_stalled { self.plan.patience() } else { LATENCY };
        agenda.soon(slack, Event::Taken { version: self.serial, item: job.first });
    }

    pub(crate) fn taken(&mut self, agenda: &mut Agenda, item: ItemId) {
        let deadline = agenda.now + self.plan.patience();
        self.prolong(agenda, item, deadline);
    }

    fn prolong(&mut self, agenda: &mut Agenda, item: ItemId, deadline: Nanos) {
        self.scheduler.prolong(item, deadline);
        self.ledger.prolonged(agenda.now, item, deadline);
        self.arm(agenda);
        self.ledger.check(agenda.now, &self.scheduler);
    }

    pub(crate) fn come_up(&mut self, agenda: &mut Agenda, found: &mut Found, index: usize) {
        let instance = &mut self.instances[index];
        *instance = Instance { epoch: instance.epoch + 1, is_alive: true, ..Instance::default() };
        self.scheduler.instance_up(index);
        self.ledger.came_up(index);
        if let Some(life) = self.plan.life {
            let moment = agenda.now + agenda.random.exponential(life);
            agenda.at(moment, Event::Age { at: self.at(index) });
        }
        self.dispatch(agenda, found);
    }

    /// The worker of an instance ends. The engine hears of it later.
    pub(crate) fn die(&mut self, agenda: &mut Agenda, index: usize) {
        if let Some(instance) = self.instances.get_mut(index).filter(|instance| instance.is_alive) {
            instance.is_alive = false;
            // What it said before is read first.
            let moment = agenda.now + LATENCY + agenda.random.below(DETECTION);
            agenda.at(moment, Event::Down { at: self.at(index) });
        }
    }

    /// Does this worker run this call?
    pub(crate) fn runs(&self, at: At, call: CallId) -> bool {
        self.is_current(at) && self.instances[at.instance].running.iter().any(|job| job.call == call)
    }

    /// A worker that others share is free.
    pub(crate) fn look(&self, agenda: &mut Agenda, instance: usize) {
        if self.instances.get(instance).is_some_and(|instance| !instance.ring.is_empty()) {
            agenda.at(agenda.now, Event::Claim { at: self.at(instance) });
        }
    }

    /// The engine hears of a death.
    pub(crate) fn go_down(&mut self, agenda: &mut Agenda, found: &mut Found, at: At) {
        let (ledger, is_inline) = (&self.ledger, self.plan.is_inline);
        assert!(ledger.is_up(at.instance));
        let lost = self.scheduler.instance_down(at.instance, |call| is_inline || ledger.has_begun(call));
        found.deaths += 1;
        found.rerun += self.ledger.died(agenda.now, at.instance, &lost) as u64;
        let instance = &mut self.instances[at.instance];
        instance.ring.clear();
        // As if it were not dead after all.
        for job in instance.running.drain(..) {
            agenda.soon(LATENCY, Event::Seen { at, call: job.call, outcome: Outcome::Finished });
        }
        self.dispatch(agenda, found);
        let pause = self.plan.time(&mut agenda.random, 0);
        agenda.at(agenda.now + pause, Event::Up { version: self.serial, instance: at.instance });
    }

    /// As `Version::close`.
    pub(crate) fn close(&mut self, agenda: &mut Agenda, found: &mut Found, is_final: bool) {
        self.is_closed = true;
        self.is_final |= is_final;
        if !is_final {
            return;
        }
        let waiting = self.scheduler.drain();
        self.ledger.drained(&waiting);
        let mut running = self.scheduler.abandon();
        running.sort_by_key(|gone| gone.request); // they come in the order of a hash, which is another in each run
        running.iter().for_each(|gone| self.ledger.left(gone, Fate::Abandoned));
        running.iter().for_each(|gone| self.leave(agenda, found, gone));
        self.ledger.check(agenda.now, &self.scheduler);
        assert_eq!(self.scheduler.live(), 0, "somebody still waits for a version that has ended");
    }

    /// A closed version that has nothing left to do is gone, and nothing of it stays behind.
    pub(crate) fn retire(&mut self, agenda: &Agenda) {
        self.ledger.check(agenda.now, &self.scheduler);
        assert_eq!((self.scheduler.waiting(), self.scheduler.waiting_bytes(), self.scheduler.running()), (0, 0, 0));
        assert_eq!((self.scheduler.live(), self.scheduler.next_expiry()), (0, NEVER), "something stayed behind");
        self.is_retired = true;
    }
}
