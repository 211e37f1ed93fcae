//! What must be true of one version, from what went in and what came out alone: nothing here looks into the scheduler.

mod rules;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use samovar_core::clock::{NEVER, Nanos};
use samovar_core::queue::{Item, ItemId};
use samovar_core::scheduler::{Assignment, CallId, Ended, Expired, Lost, Outcome};

use crate::plan::{Nature, Plan, Request, Wish};

/// An item is poison at its second death, if it is alone then.
const DEATHS: u8 = 2;

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Answered,
    Failed,
    Expired,
    Cancelled,
    Lost,
    Poison,
    Unsent,
    Drained,
    Abandoned,
}

impl Fate {
    pub(crate) const ALL: [Self; 9] = [
        Self::Answered,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
        Self::Lost,
        Self::Poison,
        Self::Unsent,
        Self::Drained,
        Self::Abandoned,
    ];
}

/// Where an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Lane,
    /// In a group that runs again as it is.
    Group(u64),
    Call(CallId),
    Over,
}

#[derive(Debug)]
struct Entry {
    /// Number of the client's request.
    request: usize,
    rows: u32,
    cost: u64,
    batch_key: u64,
    arrived: Nanos,
    start_by: Nanos,
    deadline: Nanos,
    idempotent: bool,
    nature: Nature,
    deaths: u8,
    starts: u32,
    place: Place,
    /// It is in a call, and its time is that up to which it may start.
    is_to_start: bool,
    /// When its time where it is is over, and since when that is so.
    timer: (Nanos, Nanos),
}

impl Entry {
    /// May it be in a call with others? One that was running when its worker died may be what killed it.
    fn is_shareable(&self) -> bool {
        self.rows > 0 && self.idempotent && self.deaths == 0
    }

    /// May nothing be in its worker beside it?
    fn runs_alone(&self) -> bool {
        self.deaths >= DEATHS
    }

    fn is_waiting(&self) -> bool {
        matches!(self.place, Place::Lane | Place::Group(_))
    }
}

/// A call that an instance holds.
#[derive(Debug)]
struct Held {
    instance: usize,
    assigned: Nanos,
    items: Vec<ItemId>,
    gone: usize,
    has_streamed: bool,
    has_begun: bool,
    /// Its worker came to it too late.
    is_declined: bool,
}

#[derive(Debug, Default)]
struct Lane {
    items: BTreeSet<ItemId>,
    rows: u64,
}

/// Everything that happened to the items of one version.
#[derive(Debug)]
pub(crate) struct Ledger {
    plan: Plan,
    /// What the numbers that items carry begin with, so that no two versions have one in common.
    mark: u64,
    entries: Vec<Entry>,
    lanes: BTreeMap<u64, Lane>,
    groups: BTreeMap<u64, Vec<ItemId>>,
    next_group: u64,
    calls: HashMap<CallId, Held>,
    /// Calls of each instance, oldest first; none of one that is down.
    instances: Vec<Option<Vec<CallId>>>,
    next_call: CallId,
    waiting: usize,
    bytes: u64,
    live: usize,
    timers: BinaryHeap<Reverse<(Nanos, ItemId)>>,
    /// Since when something waits while a slot is free.
    held_since: Option<Nanos>,
    longest_call: Nanos,
    /// Requests whose items have ended since somebody looked, and how.
    pub(crate) ended: Vec<(usize, Fate)>,
}

impl Ledger {
    pub(crate) fn new(plan: Plan, serial: u64) -> Self {
        Self {
            mark: serial << 32,
            entries: Vec::new(),
            lanes: BTreeMap::new(),
            groups: BTreeMap::new(),
            next_group: 0,
            calls: HashMap::new(),
            instances: vec![None; plan.instances],
            next_call: plan.first_call,
            waiting: 0,
            bytes: 0,
            live: 0,
            timers: BinaryHeap::new(),
            held_since: None,
            longest_call: 0,
            ended: Vec::new(),
            plan,
        }
    }

    /// What the next item carries: a number that no other item of any version has.
    pub(crate) fn token(&self) -> u64 {
        self.mark | self.entries.len() as u64
    }

    /// The item that carries this.
    fn id(&self, token: u64) -> ItemId {
        let id = token ^ self.mark;
        assert!(id < self.entries.len() as u64, "an item of another version");
        id
    }

    fn entry(&mut self, id: ItemId) -> &mut Entry {
        &mut self.entries[id as usize]
    }

    pub(crate) fn nature(&self, id: ItemId) -> Nature {
        self.entries[id as usize].nature
    }

    pub(crate) fn has_room(&self, items: usize, bytes: u64) -> bool {
        let limits = self.plan.limits;
        self.waiting + items <= limits.items && (self.waiting == 0 || self.bytes + bytes <= limits.bytes)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting == 0 && self.calls.is_empty()
    }

    pub(crate) fn is_up(&self, instance: usize) -> bool {
        self.instances[instance].is_some()
    }

    pub(crate) fn has_begun(&self, call: CallId) -> bool {
        self.calls.get(&call).is_some_and(|held| held.has_begun)
    }

    pub(crate) fn holds(&self, instance: usize, call: CallId) -> bool {
        self.calls.get(&call).is_some_and(|held| held.instance == instance)
    }

    pub(crate) fn submitted(&mut self, now: Nanos, id: ItemId, request: (usize, &Request), wish: &Wish) {
        assert_eq!(id, self.entries.len() as u64, "items are numbered in the order of their arrival");
        let (number, request) = request;
        let deadline = now.saturating_add(request.timeout);
        let start_by = now.saturating_add(request.queue_timeout).min(deadline);
        self.entries.push(Entry {
            request: number,
            rows: wish.rows,
            cost: wish.cost,
            batch_key: request.batch_key,
            arrived: now,
            start_by,
            deadline,
            idempotent: request.idempotent,
            nature: wish.nature,
            deaths: 0,
            starts: 0,
            place: Place::Over,
            is_to_start: false,
            timer: (NEVER, now),
        });
        self.live += 1;
        self.wait(now, id, Place::Lane);
    }

    fn wait(&mut self, now: Nanos, id: ItemId, place: Place) {
        let entry = self.entry(id);
        (entry.place, entry.is_to_start) = (place, false);
        let (rows, cost, key, start_by) = (u64::from(entry.rows), entry.cost, entry.batch_key, entry.start_by);
        match place {
            Place::Group(group) => self.groups.entry(group).or_default().push(id),
            _ => {
                let lane = self.lanes.entry(key).or_default();
                lane.rows += rows;
                lane.items.insert(id);
            }
        }
        self.waiting += 1;
        self.bytes += cost;
        self.time(now, id, start_by);
    }

    fn wait_as_group(&mut self, now: Nanos, items: &[ItemId]) {
        self.next_group += 1;
        items.iter().for_each(|id| self.wait(now, *id, Place::Group(self.next_group)));
    }

    /// What did not run waits again, and alone if it ran when its worker died.
    fn wait_again(&mut self, now: Nanos, id: ItemId) {
        if self.entries[id as usize].deaths > 0 {
            self.wait_as_group(now, &[id]);
        } else {
            self.wait(now, id, Place::Lane);
        }
    }

    fn stop_waiting(&mut self, id: ItemId) {
        let entry = &self.entries[id as usize];
        let (rows, key) = (u64::from(entry.rows), entry.batch_key);
        self.waiting -= 1;
        self.bytes -= entry.cost;
        if let Place::Group(number) = entry.place {
            let group = self.groups.get_mut(&number).unwrap();
            group.retain(|other| *other != id);
            if group.is_empty() {
                self.groups.remove(&number);
            }
            return;
        }
        let lane = self.lanes.get_mut(&key).unwrap();
        lane.rows -= rows;
        assert!(lane.items.remove(&id));
        if lane.items.is_empty() {
            self.lanes.remove(&key);
        }
    }

    fn time(&mut self, now: Nanos, id: ItemId, moment: Nanos) {
        let entry = self.entry(id);
        let before = std::mem::replace(&mut entry.timer, (moment, now));
        if before.0 != moment {
            self.timers.push(Reverse((moment, id)));
        }
    }

    /// The item whose time is over next, and when.
    fn next_timer(&mut self) -> Option<(Nanos, ItemId)> {
        while let Some(Reverse((moment, id))) = self.timers.peek().copied() {
            let entry = &self.entries[id as usize];
            if entry.place != Place::Over && entry.timer.0 == moment {
                return Some((moment, id));
            }
            self.timers.pop();
        }
        None
    }

    fn next_expiry(&mut self) -> Nanos {
        self.next_timer().map_or(NEVER, |(moment, _)| moment)
    }

    /// An item whose time is over.
    fn overdue(&mut self, now: Nanos) -> Option<ItemId> {
        self.next_timer().filter(|(moment, _)| *moment <= now).map(|(_, id)| id)
    }

    /// True while somebody has to be told that an item's time is over.
    pub(crate) fn is_overdue(&mut self, now: Nanos) -> bool {
        self.overdue(now).is_some()
    }

    fn finish(&mut self, id: ItemId, fate: Fate) {
        let entry = self.entry(id);
        assert!(entry.place != Place::Over, "item {id} has ended before and is now {fate:?}");
        entry.place = Place::Over;
        let request = entry.request;
        self.live -= 1;
        self.ended.push((request, fate));
    }

    /// Items whose time was over, and the calls that were asked for as theirs was the time to start: whether they could be
    /// taken back from their instances. The earliest comes first.
    pub(crate) fn expired(&mut self, now: Nanos, asked: &[(usize, CallId, bool)], expired: &[Expired<u64>]) {
        let (mut asked, mut expired) = (asked.iter(), expired.iter());
        while let Some(id) = self.overdue(now) {
            let entry = &self.entries[id as usize];
            if entry.is_to_start {
                let call = asked.next().expect("an item has to start and its call was not asked for");
                self.must_start(now, id, *call);
            } else {
                assert_eq!(entry.timer.0.max(entry.timer.1), now, "item {id} expired at another moment than its own");
                let gone = expired.next().expect("an item's time is over and nobody was told");
                assert_eq!(self.id(gone.request), id, "another item expired");
                self.left(gone, Fate::Expired);
            }
        }
        assert!(asked.next().is_none() && expired.next().is_none(), "an item ended before its time");
    }

    /// An item has to start now. What its call could not be taken back from has begun it, or gets it yet.
    fn must_start(&mut self, now: Nanos, id: ItemId, (instance, call, is_taken): (usize, CallId, bool)) {
        assert!(self.holds(instance, call), "a call was asked for that instance {instance} does not hold");
        assert_eq!(self.entries[id as usize].place, Place::Call(call), "another call was asked for");
        if is_taken {
            return self.revoked(now, instance, call);
        }
        let entry = self.entry(id);
        entry.is_to_start = false;
        let deadline = entry.deadline;
        self.time(now, id, deadline);
    }

    /// An item ended by its caller's or its time's doing.
    pub(crate) fn left(&mut self, gone: &Expired<u64>, fate: Fate) {
        let id = self.id(gone.request);
        match self.entries[id as usize].place {
            Place::Over => panic!("item {id} has ended before and is now {fate:?}"),
            Place::Call(call) => {
                let held = self.calls.get_mut(&call).unwrap();
                held.gone += 1;
                assert_eq!(gone.call, Some((held.instance, call)), "item {id} is in another call");
                assert_eq!(gone.is_call_abandoned, held.gone == held.items.len(), "who waits for call {call}");
            }
            Place::Lane | Place::Group(_) => {
                assert_eq!((gone.call, gone.is_call_abandoned), (None, false), "item {id} waits");
                self.stop_waiting(id);
            }
        }
        self.finish(id, fate);
    }

    pub(crate) fn cancelled(&mut self, id: ItemId, gone: Option<&Expired<u64>>) {
        let is_over = self.entries[id as usize].place == Place::Over;
        assert_eq!(gone.is_none(), is_over, "item {id} ends once");
        if let Some(gone) = gone {
            assert_eq!(self.id(gone.request), id, "another item was cancelled");
            self.left(gone, Fate::Cancelled);
        }
    }

    /// A call for an instance. True if it was sent ahead of a free slot.
    pub(crate) fn assigned(&mut self, now: Nanos, assignment: &Assignment<u64>) -> bool {
        let Assignment { call, instance, items } = assignment;
        assert!(!self.is_reserved(*instance), "a call beside one that runs alone");
        let least = self.fewest(self.entries[items[0].id as usize].runs_alone());
        let held = self.instances[*instance].as_ref().expect("an instance that is down got a call").len();
        assert_eq!(Some(held), least, "an instance has fewer calls than the one that was chosen");
        let is_ahead = held >= self.plan.concurrency;
        assert!(!is_ahead || (held == self.plan.concurrency && self.plan.prefetches), "no slot for call {call}");
        assert_eq!(*call, self.next_call, "calls are numbered one after the other");
        self.next_call += 1;
        assert!(!self.is_overdue(now), "something was assigned while an item was overdue");
        items.iter().for_each(|item| self.check_same(item));
        let ids: Vec<_> = items.iter().map(|item| item.id).collect();
        self.check_batch(&ids);
        match self.entries[ids[0] as usize].place {
            Place::Group(group) => {
                assert!(held == 0 || !self.entries[ids[0] as usize].runs_alone(), "others run beside item {}", ids[0]);
                assert!(!is_ahead, "items run again behind a call that may be their undoing");
                assert_eq!(self.groups[&group], ids, "another group than was made");
            }
            Place::Lane => self.check_turn(now, is_ahead, &ids),
            place => panic!("item {} was assigned, it is in {place:?}", ids[0]),
        }
        for id in &ids {
            assert!(now < self.entries[*id as usize].start_by, "item {id} was assigned after its time");
            self.stop_waiting(*id);
            let entry = self.entry(*id);
            (entry.place, entry.is_to_start) = (Place::Call(*call), entry.start_by < entry.deadline);
        }
        self.held_since = None;
        self.instances[*instance].as_mut().unwrap().push(*call);
        let held = Held {
            instance: *instance,
            assigned: now,
            items: ids,
            gone: 0,
            has_streamed: false,
            has_begun: false,
            is_declined: false,
        };
        self.calls.insert(*call, held);
        is_ahead
    }

    /// A worker begins a call.
    pub(crate) fn begun(&mut self, now: Nanos, call: CallId) {
        let held = self.calls.get_mut(&call).expect("a call began that nobody knows");
        assert!(!std::mem::replace(&mut held.has_begun, true), "call {call} began twice");
        for id in &held.items {
            let entry = &mut self.entries[*id as usize];
            assert!(now < entry.start_by, "item {id} started after its time");
            assert!(entry.place == Place::Call(call) || entry.place == Place::Over, "item {id} runs twice at once");
            assert!(entry.starts == 0 || entry.idempotent, "item {id} ran twice and must not");
            entry.starts += 1;
        }
    }

    /// A worker does not begin a call.
    pub(crate) fn declined(&mut self, call: CallId) {
        let held = self.calls.get_mut(&call).expect("a call was declined that nobody knows");
        held.is_declined = true;
    }

    /// What ends with a call; `None` if this instance does not hold it.
    fn close(&mut self, instance: usize, call: CallId) -> Option<Held> {
        if !self.holds(instance, call) {
            return None;
        }
        self.instances[instance].as_mut()?.retain(|other| *other != call);
        self.calls.remove(&call)
    }

    fn still_live(&self, held: &Held, call: CallId) -> Vec<ItemId> {
        let is_live = |id: &ItemId| self.entries[*id as usize].place == Place::Call(call);
        held.items.iter().copied().filter(is_live).collect()
    }

    /// A call came back; its items are `answer` if they are answered now.
    pub(crate) fn ended(
        &mut self,
        now: Nanos,
        (instance, call): (usize, CallId),
        outcome: Outcome,
        answer: Fate,
        ended: &Ended<u64>,
    ) {
        let Some(held) = self.close(instance, call) else {
            assert!(matches!(ended, Ended::Unknown), "a call that instance {instance} does not hold: {ended:?}");
            return;
        };
        if outcome == Outcome::Finished {
            self.longest_call = self.longest_call.max(now - held.assigned);
        }
        let live = self.still_live(&held, call);
        match outcome {
            Outcome::NotStarted if !held.has_streamed => {
                assert!(matches!(ended, Ended::Again), "nothing ran: {ended:?}");
                live.iter().for_each(|id| self.wait_again(now, *id));
            }
            Outcome::Raised if !held.has_streamed && held.items.len() > 1 => {
                assert!(matches!(ended, Ended::Again), "whose fault it is is not known: {ended:?}");
                let (first, second) = live.split_at(live.len().div_ceil(2));
                self.wait_as_group(now, second);
                self.wait_as_group(now, first);
            }
            _ => {
                let Ended::Answer(items, assigned) = ended else { panic!("call {call} has no answer: {ended:?}") };
                assert!(items.iter().map(|item| item.id).eq(held.items.iter().copied()), "another call's items");
                assert_eq!(*assigned, held.assigned);
                items.iter().for_each(|item| self.check_same(item));
                for id in live {
                    let is_guilty = self.nature(id) == Nature::Raises || self.plan.failing_calls > 0.0;
                    assert!(answer != Fate::Failed || is_guilty, "item {id} fails for another's fault");
                    self.finish(id, answer);
                }
            }
        }
    }

    /// A call was taken back before it began.
    pub(crate) fn revoked(&mut self, now: Nanos, instance: usize, call: CallId) {
        let held = self.close(instance, call).expect("a call was taken back that nobody knows");
        assert!(!held.has_begun, "a call was taken back that had begun");
        self.still_live(&held, call).into_iter().for_each(|id| self.wait_again(now, id));
    }

    pub(crate) fn piece(&mut self, instance: usize, call: CallId, items: Option<&[Item<u64>]>) {
        let held = self.calls.get_mut(&call).filter(|held| held.instance == instance);
        assert_eq!(items.is_some(), held.is_some(), "a piece of call {call}");
        let (Some(items), Some(held)) = (items, held) else { return };
        assert!(items.iter().map(|item| item.id).eq(held.items.iter().copied()), "another call's items");
        held.has_streamed = true;
    }

    /// Does anybody wait for a call, and has a piece of its answer come?
    pub(crate) fn awaited(&self, instance: usize, call: CallId) -> Option<bool> {
        let held = self.calls.get(&call).filter(|held| held.instance == instance)?;
        (held.gone < held.items.len()).then_some(held.has_streamed)
    }

    pub(crate) fn prolonged(&mut self, now: Nanos, id: ItemId, deadline: Nanos) {
        if matches!(self.entries[id as usize].place, Place::Call(_)) {
            self.entry(id).is_to_start = false;
            self.time(now, id, deadline);
        }
    }

    pub(crate) fn came_up(&mut self, instance: usize) {
        self.instances[instance] = Some(Vec::new());
    }

    /// An instance died. How many items that had started run again.
    pub(crate) fn died(&mut self, now: Nanos, instance: usize, lost: &Lost<u64>) -> usize {
        let calls = self.instances[instance].take().unwrap_or_default();
        let begun = calls.iter().filter(|call| self.plan.is_inline || self.calls[call].has_begun).count();
        // A call that was sent ahead runs beside no other, whatever is known of it.
        let side_by_side = &calls[..calls.len().min(self.plan.concurrency)];
        let ran = side_by_side.iter().filter(|call| self.plan.is_inline || self.calls[call].has_begun).count();
        let (mut for_good, mut poison, mut rerun, mut is_charged) = (Vec::new(), Vec::new(), 0, false);
        for (place, call) in calls.into_iter().enumerate() {
            let held = self.calls.remove(&call).unwrap();
            let live = self.still_live(&held, call);
            if !(self.plan.is_inline || held.has_begun) {
                live.into_iter().for_each(|id| self.wait_again(now, id));
                continue;
            }
            let first = &self.entries[held.items[0] as usize];
            let was_alone = ran == 1 && place < self.plan.concurrency && held.items.len() == 1;
            is_charged |= was_alone && first.deaths > 0;
            for id in live {
                let entry = self.entry(id);
                entry.deaths += 1;
                let (deaths, idempotent, nature) = (entry.deaths, entry.idempotent, entry.nature);
                assert!(deaths <= DEATHS + 1, "item {id} costs one worker after another");
                if !idempotent || held.has_streamed {
                    for_good.push(id);
                    self.finish(id, Fate::Lost);
                } else if deaths >= DEATHS && was_alone {
                    let is_guilty = nature == Nature::Kills || !self.plan.is_steady;
                    assert!(is_guilty, "item {id} is poison for another's fault: it was in {held:?}");
                    poison.push(id);
                    self.finish(id, Fate::Poison);
                } else {
                    rerun += 1;
                    self.wait_as_group(now, &[id]);
                }
            }
        }
        self.check_dead(&lost.lost, for_good);
        self.check_dead(&lost.poison, poison);
        assert_eq!((lost.rerun, lost.was_running), (rerun, begun > 0), "what a death leaves");
        assert_eq!(lost.is_charged_to_item, is_charged, "whose fault a death is");
        rerun
    }

    fn check_dead(&self, items: &[Item<u64>], mut wanted: Vec<ItemId>) {
        let mut got: Vec<_> = items.iter().map(|item| self.id(item.request)).collect();
        got.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(got, wanted, "what is answered after a death");
    }

    /// The version will not run what waits.
    pub(crate) fn drained(&mut self, items: &[Item<u64>]) {
        for item in items {
            let id = self.id(item.request);
            assert!(self.entries[id as usize].is_waiting(), "item {id} does not wait");
            self.stop_waiting(id);
            self.finish(id, Fate::Drained);
        }
        assert_eq!((self.waiting, self.bytes), (0, 0), "something still waits");
    }
}
