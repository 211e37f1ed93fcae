//! What holds whatever happened: who may share a call, whose turn it is, and that nothing waits without a reason.

use samovar_core::clock::{NEVER, Nanos};
use samovar_core::queue::{Item, ItemId};
use samovar_core::scheduler::{CallId, Scheduler};
use samovar_core::tensor::MAX_TENSOR_BYTES;

use super::{Entry, Lane, Ledger};

impl Ledger {
    /// True while the one call that an instance holds runs alone: until it ends or what it answers cannot be taken back.
    pub(super) fn is_reserved(&self, instance: usize) -> bool {
        let Some([call]) = self.instances[instance].as_deref() else { return false };
        let held = &self.calls[call];
        !held.has_streamed && self.entries[held.items[0] as usize].runs_alone()
    }

    /// How many calls the instance has that comes next, for what runs alone or for the rest: the one with the fewest of
    /// those that may get more. While something waits to run alone, that one is kept for it.
    pub(super) fn fewest(&self, runs_alone: bool) -> Option<usize> {
        let open = (0..self.instances.len()).filter(|instance| !self.is_reserved(*instance));
        let mut held: Vec<_> = open.filter_map(|instance| Some(self.instances[instance].as_ref()?.len())).collect();
        held.sort_unstable();
        held.get(usize::from(!runs_alone && self.awaits_alone(true))).copied()
    }

    /// Does a group wait that runs alone, or one that need not?
    fn awaits_alone(&self, runs_alone: bool) -> bool {
        self.groups.values().any(|group| self.entries[group[0] as usize].runs_alone() == runs_alone)
    }

    /// An item is what was submitted.
    pub(super) fn check_same(&self, item: &Item<u64>) {
        assert_eq!(self.id(item.request), item.id, "another item's request");
        let entry = &self.entries[item.id as usize];
        assert_eq!(
            (item.rows, item.batch_key, item.cost, item.arrived, item.start_by, item.deadline),
            (entry.rows, entry.batch_key, entry.cost, entry.arrived, entry.start_by, entry.deadline)
        );
        assert_eq!((item.idempotent, item.deaths), (entry.idempotent, entry.deaths));
    }

    /// What one call may hold.
    pub(super) fn check_batch(&self, ids: &[ItemId]) {
        assert!(ids.is_sorted_by(|one, next| one < next), "the older one comes first");
        let items = || ids.iter().map(|id| &self.entries[*id as usize]);
        if ids.len() > 1 {
            assert!(items().all(|entry| entry.is_shareable()), "one runs alone");
            assert!(items().all(|entry| entry.batch_key == self.entries[ids[0] as usize].batch_key), "unlike items");
            assert!(self.fits(items().map(|entry| (entry.rows, entry.cost))), "too much for one call");
        }
    }

    fn fits(&self, items: impl Iterator<Item = (u32, u64)>) -> bool {
        let (rows, bytes) = items.fold((0, 0), |(rows, bytes), item| (rows + u64::from(item.0), bytes + item.1));
        rows <= u64::from(self.plan.policy.max_batch_size) && bytes <= MAX_TENSOR_BYTES
    }

    /// It is the turn of these, and of no more of their lane.
    pub(super) fn check_turn(&self, now: Nanos, is_ahead: bool, ids: &[ItemId]) {
        assert!(!self.awaits_alone(false), "what runs again goes first");
        let key = self.entries[ids[0] as usize].batch_key;
        let lane = &self.lanes[&key];
        let is_run = |lane: &Lane| self.is_full(lane) || (!is_ahead && self.due(lane) <= now);
        assert!(is_run(lane), "a call before its time");
        assert!(lane.items.iter().take(ids.len()).eq(ids), "the oldest of a lane go first");
        let is_older = |other: &&Lane| other.items.first() < lane.items.first();
        assert!(!self.lanes.values().filter(is_older).any(is_run), "an older item could have run");
        if let Some(next) = lane.items.iter().nth(ids.len()) {
            let all = ids.iter().chain([next]).map(|id| &self.entries[*id as usize]);
            let is_shared = all.clone().all(Entry::is_shareable);
            assert!(!is_shared || !self.fits(all.map(|entry| (entry.rows, entry.cost))), "one more would have fitted");
        }
    }

    fn is_full(&self, lane: &Lane) -> bool {
        lane.rows >= u64::from(self.plan.policy.max_batch_size)
    }

    /// When a lane has waited long enough for batch mates, as far as that is not left to measurement.
    fn due(&self, lane: &Lane) -> Nanos {
        let arrived = self.entries[*lane.items.first().unwrap() as usize].arrived;
        arrived.saturating_add(self.plan.policy.max_queue_delay.unwrap_or(0))
    }

    /// Counts agree, nobody's time is over, and what could run does, or is looked at in time.
    pub(crate) fn check(&mut self, now: Nanos, scheduler: &Scheduler<u64>) {
        assert_eq!(scheduler.waiting(), self.waiting, "items that wait");
        assert_eq!(scheduler.waiting_bytes(), self.bytes, "bytes that wait");
        assert_eq!(scheduler.running(), self.calls.len(), "calls that run");
        assert_eq!(scheduler.live(), self.live, "items whose answer is owed");
        assert_eq!(scheduler.next_expiry(), self.next_expiry(), "when the next item's time is over");
        assert_eq!(scheduler.is_any_up(), self.instances.iter().any(Option::is_some));
        assert!(self.next_expiry() >= now, "an item's time is over and nobody was told");
    }

    /// Nothing waits without a reason. True if something is held for batch mates whom measurement promises.
    pub(crate) fn check_progress(&mut self, now: Nanos, look: Nanos) -> bool {
        let may_be_alone = self.awaits_alone(true) && self.fewest(true) == Some(0);
        assert!(!may_be_alone, "what runs alone waits while an instance has nothing to do");
        let least = self.fewest(false);
        let concurrency = self.plan.concurrency;
        if self.waiting == 0 || least.is_none_or(|least| least >= concurrency) {
            self.held_since = None;
            let is_ahead = least == Some(concurrency) && self.plan.prefetches && !self.awaits_alone(false);
            assert!(!is_ahead || !self.lanes.values().any(|lane| self.is_full(lane)), "a full call is not sent ahead");
            if self.waiting == 0 && least.is_some_and(|least| least < concurrency) {
                self.check_stranded();
            }
            return false;
        }
        assert!(!self.awaits_alone(false), "what runs again waits while a slot is free");
        if self.lanes.is_empty() {
            return false;
        }
        assert!(!self.lanes.values().any(|lane| self.is_full(lane)), "a full call waits while a slot is free");
        let since = *self.held_since.get_or_insert(now);
        let due = match self.plan.policy.max_queue_delay {
            Some(_) => self.lanes.values().map(|lane| self.due(lane)).min().unwrap_or(NEVER),
            // A wait lasts at most half of a call.
            None => since + self.longest_call / 2,
        };
        assert!(now < look && look <= due, "items wait while a slot is free, and are looked at too late");
        self.plan.policy.max_queue_delay.is_none()
    }

    /// No call waits behind another one while an instance is free.
    fn check_stranded(&self) {
        let concurrency = self.plan.concurrency;
        let mut ahead = self.instances.iter().flatten().filter_map(|calls| calls.get(concurrency..)?.last());
        // What is still on its way when another call cannot be sent is looked at again with the next event.
        let is_kept = |call: &CallId| {
            let held = &self.calls[call];
            self.plan.is_inline || self.plan.unsent > 0.0 || held.has_begun || held.is_declined
        };
        assert!(ahead.next().is_none_or(is_kept), "a call waits behind another one while an instance is free");
    }
}
