//! Which instance runs what, and what becomes of an item: the whole life of items as a pure state machine.
//!
//! waiting → batched → claimed → answered. The driver ([`crate::version`]) owns one scheduler behind one short lock,
//! performs what it says and tells it what happened; it never blocks and never reads a clock.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::batcher::{self, Decision, Policy, Slot};
use crate::clock::{NEVER, Nanos};
use crate::drain::DrainRate;
use crate::hold::{EndedCall, Expected, Hold};
use crate::queue::{Item, ItemId, Queue};

/// Number of a call within its version.
pub type CallId = u64;

/// An item that ran at so many deaths of a worker is answered, not run again, if nothing ran beside it at the last.
pub const MAX_DEATHS: u8 = 2;

/// Bounds of what may wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Items.
    pub items: usize,
    /// Bytes of input.
    pub bytes: u64,
}

/// What a caller brings.
#[derive(Clone, Debug)]
pub struct Arrival<R> {
    /// Whose rows these are.
    pub request: R,
    /// Rows along the batch axis.
    pub rows: u32,
    /// Items with equal keys may share a batch.
    pub batch_key: u64,
    /// Bytes of input.
    pub cost: u64,
    /// Never started after this moment.
    pub start_by: Nanos,
    /// Answered by this moment.
    pub deadline: Nanos,
    /// May it run twice?
    pub idempotent: bool,
}

/// A call to be sent to an instance.
#[derive(Debug)]
pub struct Assignment<R> {
    /// Its number.
    pub call: CallId,
    /// Where it runs.
    pub instance: usize,
    /// Whose rows, in order.
    pub items: Arc<[Item<R>]>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran; what it returned is judged elsewhere.
    Finished,
    /// User code raised.
    Raised,
    /// It never began.
    NotStarted,
}

/// What is to be done after a call ended.
#[derive(Debug)]
pub enum Ended<R> {
    /// Answer these items, assigned at this moment; those answered before (late, cancelled) are left out by their
    /// responders.
    Answer(Arc<[Item<R>]>, Nanos),
    /// Nobody is answered yet: the items run again, in smaller calls or later.
    Again,
    /// The call is not known: a bad frame.
    Unknown,
}

/// What a death leaves to be answered.
#[derive(Debug)]
pub struct Lost<R> {
    /// Started and not idempotent.
    pub lost: Vec<Item<R>>,
    /// Died with the worker too often, the last time alone.
    pub poison: Vec<Item<R>>,
    /// Items that will run again after they had started.
    pub rerun: usize,
    /// True if any call had started.
    pub was_running: bool,
    /// True if the only thing that ran was one item that had died before: the death is that item's.
    pub is_charged_to_item: bool,
}

/// An item whose time is over.
#[derive(Debug)]
pub struct Expired<R> {
    /// Whose rows.
    pub request: R,
    /// The call that holds it, if it is in one.
    pub call: Option<(usize, CallId)>,
    /// True if nobody waits for that call any more.
    pub is_call_abandoned: bool,
}

/// Where a live item is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Waiting {
        batch_key: u64,
    },
    InCall {
        call: CallId,
        /// Its timer is the moment up to which it may start, which comes before its deadline.
        is_to_start: bool,
    },
}

#[derive(Debug)]
struct Live {
    place: Place,
    /// The moment under which the item stands in `timers`.
    timer: Nanos,
}

#[derive(Debug, Default, Clone)]
struct Instance {
    is_up: bool,
    calls: Vec<CallId>,
    /// What it runs has it to itself.
    is_alone: bool,
    /// When its last call ended; 0 before.
    ended: Nanos,
}

#[derive(Debug)]
struct Running<R> {
    instance: usize,
    assigned: Nanos,
    items: Arc<[Item<R>]>,
    /// Items that nobody waits for any more.
    gone: usize,
    /// A piece of the answer is with the caller: it cannot be taken back by running again.
    has_streamed: bool,
}

/// Queue, instances and calls of one version.
#[derive(Debug)]
pub struct Scheduler<R> {
    policy: Policy,
    limits: Limits,
    concurrency: usize,
    /// A full instance gets its next call ahead; not where a call waits for others, which would wait behind it.
    prefetches: bool,
    /// An exception in a call is the answer of all its items.
    shares_errors: bool,
    queue: Queue<R>,
    instances: Vec<Instance>,
    calls: HashMap<CallId, Running<R>>,
    live: HashMap<ItemId, Live>,
    /// When each live item's time is over.
    timers: BTreeSet<(Nanos, ItemId)>,
    /// Whether waiting pays; looked at only where the policy leaves that open and calls may hold several rows.
    hold: Option<Hold>,
    drain: DrainRate,
    /// When the batcher wants to look again.
    look_again: Nanos,
    next_item: ItemId,
    next_call: CallId,
}

impl<R: Clone> Scheduler<R> {
    /// A scheduler for `instances` instances, none of them up, each running `concurrency` calls at a time.
    #[must_use]
    pub fn new(policy: Policy, limits: Limits, instances: usize, concurrency: usize) -> Self {
        Self {
            policy,
            limits,
            concurrency,
            prefetches: true,
            shares_errors: false,
            queue: Queue::default(),
            instances: vec![Instance::default(); instances],
            calls: HashMap::new(),
            live: HashMap::new(),
            timers: BTreeSet::new(),
            hold: (policy.max_queue_delay.is_none() && policy.max_batch_size > 1).then(Hold::default),
            drain: DrainRate::default(),
            look_again: NEVER,
            next_item: 0,
            next_call: 1,
        }
    }

    /// The same, but no instance gets a call before it has a free slot for it.
    #[must_use]
    pub fn without_prefetch(self) -> Self {
        Self { prefetches: false, ..self }
    }

    /// The same, but an exception in a call answers every item in it, and nothing runs again.
    #[must_use]
    pub fn with_shared_errors(self) -> Self {
        Self { shares_errors: true, ..self }
    }

    /// The same, with calls that are numbered from `first` on.
    #[must_use]
    pub fn counting_from(self, first: CallId) -> Self {
        Self { next_call: first, ..self }
    }

    /// Items waiting.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Input bytes waiting.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.queue.bytes()
    }

    /// Calls that instances hold.
    #[must_use]
    pub fn running(&self) -> usize {
        self.calls.len()
    }

    /// Items whose answer is owed: those that wait, and those in calls that somebody waits for.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// True if `items` more items of `bytes` in all may wait.
    #[must_use]
    pub fn has_room(&self, items: usize, bytes: u64) -> bool {
        self.queue.len() + items <= self.limits.items
            && (self.queue.is_empty() || self.queue.bytes().saturating_add(bytes) <= self.limits.bytes)
    }

    /// Whole seconds, 1 to 60, after which what waits will have left, as far as past calls tell.
    #[must_use]
    pub fn drain_s(&self) -> u32 {
        self.drain.seconds(self.queue.len(), self.slots())
    }

    /// Let an item wait. Its number is needed to cancel it.
    pub fn submit(&mut self, now: Nanos, arrival: Arrival<R>) -> ItemId {
        let id = self.next_item;
        self.next_item += 1;
        let start_by = arrival.start_by.min(arrival.deadline);
        let item = Item {
            id,
            request: arrival.request,
            rows: arrival.rows,
            batch_key: arrival.batch_key,
            cost: arrival.cost,
            arrived: now,
            start_by,
            deadline: arrival.deadline,
            idempotent: arrival.idempotent,
            shares_errors: self.shares_errors,
            deaths: 0,
        };
        if let Some(hold) = &mut self.hold {
            hold.arrived(now, item.batch_key, item.rows);
        }
        self.wait(item);
        id
    }

    /// The next call to send, if an instance can take one at `now`. Comes after [`Self::expire`] for the same `now`:
    /// while an item is overdue nothing is assigned, so that nothing starts after its deadline.
    pub fn next(&mut self, now: Nanos) -> Option<Assignment<R>> {
        self.look_again = NEVER;
        if self.queue.is_empty() || self.timers.first().is_some_and(|(moment, _)| *moment <= now) {
            return None;
        }
        let mut reserved = None;
        if self.queue.has_suspect() {
            // The one with the fewest calls takes no others until it has none.
            reserved = self.pick_least(None);
            let idle = reserved.filter(|instance| self.instances[*instance].calls.is_empty());
            if let Some((instance, suspect)) = idle.and_then(|instance| Some((instance, self.queue.take_suspect()?))) {
                self.instances[instance].is_alone = true;
                return Some(self.assign(now, instance, vec![suspect]));
            }
        }
        let (instance, slot) = self.pick(reserved)?;
        let expected = self.expected(instance, slot, now);
        let items = match batcher::decide(&mut self.queue, slot, now, self.policy, expected) {
            Decision::Run(items) => items,
            Decision::Wait(moment) => {
                self.look_again = moment;
                return None;
            }
        };
        Some(self.assign(now, instance, items))
    }

    fn assign(&mut self, now: Nanos, instance: usize, items: Vec<Item<R>>) -> Assignment<R> {
        let call = self.next_call;
        self.next_call += 1;
        for item in &items {
            self.place(item.id, Place::InCall { call, is_to_start: item.start_by < item.deadline }, item.start_by);
        }
        let items: Arc<[Item<R>]> = items.into();
        self.instances[instance].calls.push(call);
        if let Some(hold) = &mut self.hold {
            hold.assigned(instance);
        }
        self.calls
            .insert(call, Running { instance, assigned: now, items: Arc::clone(&items), gone: 0, has_streamed: false });
        Assignment { call, instance, items }
    }

    /// When to call [`Self::expire`] again.
    #[must_use]
    pub fn next_expiry(&self) -> Nanos {
        self.timers.first().map_or(NEVER, |(moment, _)| *moment)
    }

    /// When to call [`Self::next`] again.
    #[must_use]
    pub fn next_look(&self) -> Nanos {
        self.look_again
    }

    /// The items whose time is over at `now`. Waiting ones leave the queue; the others keep their slot accounted. An item
    /// may have to start earlier than it has to be answered: `take_back` is asked for the call that holds it then, and is
    /// true where the instance had not begun that call and now never will.
    pub fn expire(&mut self, now: Nanos, mut take_back: impl FnMut(usize, CallId) -> bool) -> Vec<Expired<R>> {
        let mut expired = Vec::new();
        while let Some((_, id)) = self.timers.first().copied().filter(|(moment, _)| *moment <= now) {
            match self.to_start(id) {
                Some((instance, call)) if take_back(instance, call) => self.revoke(call),
                Some((_, call)) => self.has_started(id, call),
                None => expired.extend(self.leave(id)),
            }
        }
        expired
    }

    /// The call of an item that has to have started by the time of its timer.
    fn to_start(&self, id: ItemId) -> Option<(usize, CallId)> {
        let Place::InCall { call, is_to_start: true } = self.live.get(&id)?.place else { return None };
        Some((self.calls.get(&call)?.instance, call))
    }

    /// An item runs: what is left of its time is its deadline.
    fn has_started(&mut self, id: ItemId, call: CallId) {
        let items = self.calls.get(&call).map(|running| &running.items);
        let deadline = items.and_then(|items| items.iter().find(|item| item.id == id)).map(|item| item.deadline);
        self.place(id, Place::InCall { call, is_to_start: false }, deadline.unwrap_or(NEVER));
    }

    /// Does `instance` hold this call?
    #[must_use]
    pub fn holds(&self, instance: usize, call: CallId) -> bool {
        self.calls.get(&call).is_some_and(|running| running.instance == instance)
    }

    /// Does `instance` run this call, whatever it was sent ahead?
    #[must_use]
    pub fn runs(&self, instance: usize, call: CallId) -> bool {
        self.instances[instance].calls.iter().take(self.concurrency).any(|running| *running == call)
    }

    /// Does anybody wait for what `instance` runs? `has_started` knows which of its calls had begun.
    #[must_use]
    pub fn is_needed(&self, instance: usize, has_started: impl Fn(CallId) -> bool) -> bool {
        let mut calls = self.instances[instance].calls.iter().take(self.concurrency);
        calls.any(|call| self.awaited(instance, *call).is_some() && has_started(*call))
    }

    /// A piece of the answer to a call has come from `instance`; its items, `None` for a call that is not known. From now
    /// on it does not run again, so that it need not run alone either: it may last as long as its client likes.
    pub fn piece(&mut self, instance: usize, call: CallId) -> Option<Arc<[Item<R>]>> {
        let running = self.calls.get_mut(&call).filter(|running| running.instance == instance)?;
        running.has_streamed = true;
        self.instances[instance].is_alone = false;
        Some(Arc::clone(&running.items))
    }

    /// The items of a call that `instance` runs and somebody waits for, and whether a piece of the answer has come.
    #[must_use]
    pub fn awaited(&self, instance: usize, call: CallId) -> Option<(Arc<[Item<R>]>, bool)> {
        let running = self.calls.get(&call).filter(|running| running.instance == instance)?;
        let is_awaited = running.gone < running.items.len();
        is_awaited.then(|| (Arc::clone(&running.items), running.has_streamed))
    }

    /// Give an item that runs another deadline.
    pub fn prolong(&mut self, id: ItemId, deadline: Nanos) {
        if let Some(Place::InCall { call, .. }) = self.live.get(&id).map(|live| live.place) {
            self.place(id, Place::InCall { call, is_to_start: false }, deadline);
        }
    }

    /// Forget an item that nobody waits for; `None` if it has ended.
    pub fn cancel(&mut self, id: ItemId) -> Option<Expired<R>> {
        self.leave(id)
    }

    /// A call came back from `instance` at `now`; one that this instance does not hold is unknown.
    pub fn end(&mut self, now: Nanos, (instance, call): (usize, CallId), outcome: Outcome) -> Ended<R> {
        if self.calls.get(&call).is_none_or(|running| running.instance != instance) {
            return Ended::Unknown;
        }
        let Some(running) = self.close(call) else { return Ended::Unknown };
        self.measure(now, &running, outcome);
        match outcome {
            Outcome::NotStarted if !running.has_streamed => {
                self.return_to_queue(&running.items);
                Ended::Again
            }
            Outcome::Raised if !self.is_answer(&running) => {
                self.bisect(&running.items);
                Ended::Again
            }
            Outcome::Finished | Outcome::Raised | Outcome::NotStarted => {
                running.items.iter().for_each(|item| {
                    self.forget(item.id);
                });
                Ended::Answer(running.items, running.assigned)
            }
        }
    }

    /// A call that its worker had not begun was taken back from it.
    pub fn revoke(&mut self, call: CallId) {
        if let Some(running) = self.close(call) {
            self.return_to_queue(&running.items);
        }
    }

    /// A call that was sent ahead to a busy instance while another one has become free and nothing waits: with the
    /// instance that holds it. To be taken back, so that no request waits for a neighbour's long call.
    #[must_use]
    pub fn stranded(&self) -> Option<(usize, CallId)> {
        let is_free =
            |instance: &Instance| instance.is_up && !instance.is_alone && instance.calls.len() < self.concurrency;
        if self.instances.len() == 1 || !self.queue.is_empty() || !self.instances.iter().any(is_free) {
            return None;
        }
        let ahead = |instance: &Instance| instance.calls.get(self.concurrency..)?.last().copied();
        self.instances.iter().enumerate().find_map(|(index, instance)| Some((index, ahead(instance)?)))
    }

    /// An instance can take calls.
    pub fn instance_up(&mut self, instance: usize) {
        self.instances[instance] = Instance { is_up: true, ..Instance::default() };
    }

    /// True if any instance can take calls.
    #[must_use]
    pub fn is_any_up(&self) -> bool {
        self.instances.iter().any(|instance| instance.is_up)
    }

    /// An instance died; `has_started` knows which of its calls had begun.
    pub fn instance_down(&mut self, instance: usize, has_started: impl Fn(CallId) -> bool) -> Lost<R> {
        let calls = std::mem::take(&mut self.instances[instance]).calls;
        let started: Vec<_> = calls.iter().copied().filter(|call| has_started(*call)).collect();
        let mut lost = Lost {
            lost: Vec::new(),
            poison: Vec::new(),
            rerun: 0,
            was_running: !started.is_empty(),
            is_charged_to_item: false,
        };
        // What was sent ahead may have begun as far as anybody knows, but not beside what runs.
        let ran = calls.iter().take(self.concurrency).filter(|call| started.contains(call)).count();
        for (place, call) in calls.into_iter().enumerate() {
            let Some(running) = self.calls.remove(&call) else { continue };
            if started.contains(&call) {
                let is_alone = ran == 1 && place < self.concurrency && running.items.len() == 1;
                lost.is_charged_to_item |= is_alone && running.items[0].deaths > 0;
                self.rerun_one_by_one(&running, is_alone, &mut lost);
            } else {
                self.return_to_queue(&running.items);
            }
        }
        lost
    }

    /// End everything that waits, for a version that will not run it.
    pub fn drain(&mut self) -> Vec<Item<R>> {
        let items = self.queue.drain();
        items.iter().for_each(|item| {
            self.forget(item.id);
        });
        items
    }

    /// Answer for everything that runs: whatever becomes of the calls, which stay accounted, nobody waits for them.
    pub fn abandon(&mut self) -> Vec<Expired<R>> {
        let in_calls: Vec<_> =
            self.calls.values().flat_map(|running| running.items.iter().map(|item| item.id)).collect();
        in_calls.into_iter().filter_map(|id| self.leave(id)).collect()
    }

    /// The instance with the fewest calls of those that may have others beside them, but not this one.
    fn pick_least(&self, reserved: Option<usize>) -> Option<usize> {
        let instances = self.instances.iter().enumerate();
        let open =
            instances.filter(|(index, instance)| instance.is_up && !instance.is_alone && reserved != Some(*index));
        open.min_by_key(|(_, instance)| instance.calls.len()).map(|(index, _)| index)
    }

    /// The instance with the fewest calls that has a slot. A free slot anywhere comes before any prefetch.
    fn pick(&self, reserved: Option<usize>) -> Option<(usize, Slot)> {
        let index = self.pick_least(reserved)?;
        match self.instances[index].calls.len() {
            load if load < self.concurrency => Some((index, Slot::Free)),
            load if load == self.concurrency && self.prefetches => Some((index, Slot::Prefetch)),
            _ => None,
        }
    }

    /// What a free slot waits for. Not while another one is free, which could take what comes later; and not where a
    /// deadline is so near that the wait could be what makes an item late.
    fn expected(&self, instance: usize, slot: Slot, now: Nanos) -> Option<Expected> {
        let hold = self.hold.as_ref().filter(|_| slot == Slot::Free)?;
        let expected = hold.expected(instance, now)?;
        let done = expected.until.saturating_add(hold.service_time());
        let open = self.up().filter(|instance| !instance.is_alone);
        let free: usize = open.map(|instance| self.concurrency.saturating_sub(instance.calls.len())).sum();
        (free == 1 && done < self.next_expiry()).then_some(expected)
    }

    /// Is an exception in this call the answer of its items?
    fn is_answer(&self, running: &Running<R>) -> bool {
        running.items.len() == 1 || running.has_streamed || self.shares_errors
    }

    fn slots(&self) -> usize {
        self.up().count() * self.concurrency
    }

    /// Learn from a call that has ended.
    fn measure(&mut self, now: Nanos, running: &Running<R>, outcome: Outcome) {
        if outcome == Outcome::NotStarted {
            return;
        }
        let ended = std::mem::replace(&mut self.instances[running.instance].ended, now);
        // One that was sent ahead begins when the one before it ends; of several at a time nobody knows which that is.
        let began = if self.concurrency == 1 { running.assigned.max(ended) } else { running.assigned };
        let is_answer = outcome == Outcome::Finished || self.is_answer(running);
        self.drain.ended(now.saturating_sub(began), if is_answer { running.items.len() } else { 0 });
        let slots = self.slots();
        let Some(hold) = self.hold.as_mut().filter(|_| outcome == Outcome::Finished) else { return };
        let batch_key = running.items[0].batch_key;
        let call = EndedCall {
            instance: running.instance,
            batch_key,
            rows: running.items.iter().map(|item| u64::from(item.rows)).sum(),
            // The first call of an instance warms it up. One that was sent ahead begins when the one before it ends.
            time: (ended > 0).then(|| now.saturating_sub(running.assigned.max(ended))),
            waiting: self.queue.rows(batch_key),
        };
        hold.ended(now, call, slots.max(1), self.policy.max_batch_size);
    }

    fn up(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|instance| instance.is_up)
    }

    fn wait(&mut self, item: Item<R>) {
        self.place(item.id, Place::Waiting { batch_key: item.batch_key }, item.start_by);
        match item.deaths {
            0 => self.queue.insert(item),
            1..MAX_DEATHS => self.queue.insert_group(vec![item]),
            _ => self.queue.insert_suspect(item),
        }
    }

    /// Note where a live item is and when its time there is over.
    fn place(&mut self, id: ItemId, place: Place, timer: Nanos) {
        if let Some(before) = self.live.insert(id, Live { place, timer }) {
            if before.timer == timer {
                return;
            }
            self.timers.remove(&(before.timer, id));
        }
        self.timers.insert((timer, id));
    }

    fn forget(&mut self, id: ItemId) -> Option<Place> {
        let live = self.live.remove(&id)?;
        self.timers.remove(&(live.timer, id));
        Some(live.place)
    }

    fn leave(&mut self, id: ItemId) -> Option<Expired<R>> {
        match self.forget(id)? {
            Place::Waiting { batch_key } => {
                let item = self.queue.remove(id, batch_key)?;
                Some(Expired { request: item.request, call: None, is_call_abandoned: false })
            }
            Place::InCall { call, .. } => {
                let running = self.calls.get_mut(&call)?;
                running.gone += 1;
                let request = running.items.iter().find(|item| item.id == id)?.request.clone();
                let is_call_abandoned = running.gone == running.items.len();
                Some(Expired { request, call: Some((running.instance, call)), is_call_abandoned })
            }
        }
    }

    fn close(&mut self, call: CallId) -> Option<Running<R>> {
        let running = self.calls.remove(&call)?;
        let instance = &mut self.instances[running.instance];
        instance.calls.retain(|other| *other != call);
        instance.is_alone = false;
        Some(running)
    }

    /// Items of a call that somebody still waits for.
    fn still_live(&self, items: &[Item<R>]) -> Vec<Item<R>> {
        items.iter().filter(|item| self.live.contains_key(&item.id)).cloned().collect()
    }

    fn return_to_queue(&mut self, items: &[Item<R>]) {
        self.still_live(items).into_iter().for_each(|item| self.wait(item));
    }

    fn bisect(&mut self, items: &[Item<R>]) {
        let mut first = self.still_live(items);
        let second = first.split_off(first.len().div_ceil(2));
        self.wait_as_group(second);
        self.wait_as_group(first);
    }

    fn rerun_one_by_one(&mut self, running: &Running<R>, is_alone: bool, lost: &mut Lost<R>) {
        for mut item in self.still_live(&running.items).into_iter().rev() {
            item.deaths += 1;
            if !item.idempotent || running.has_streamed {
                self.forget(item.id);
                lost.lost.push(item);
            } else if item.deaths >= MAX_DEATHS && is_alone {
                self.forget(item.id);
                lost.poison.push(item);
            } else {
                lost.rerun += 1;
                self.wait(item);
            }
        }
    }

    fn wait_as_group(&mut self, group: Vec<Item<R>>) {
        for item in &group {
            self.place(item.id, Place::Waiting { batch_key: item.batch_key }, item.start_by);
        }
        self.queue.insert_group(group);
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
