//! What waits for one version: items in lanes of equal batch key, and groups that must run again as they are.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::clock::Nanos;
use crate::tensor::MAX_TENSOR_BYTES;

/// Number of an item within its version, in the order of arrival.
pub type ItemId = u64;

/// One request's rows: the unit that queues and is batched.
#[derive(Clone, Debug)]
pub struct Item<R> {
    /// Number within the version.
    pub id: ItemId,
    /// Whose rows these are.
    pub request: R,
    /// Rows along the batch axis, at most `max_batch_size`; 0 runs alone.
    pub rows: u32,
    /// Items with equal keys may share a batch.
    pub batch_key: u64,
    /// Bytes of input.
    pub cost: u64,
    /// When it was accepted.
    pub arrived: Nanos,
    /// Never started after this moment (the queue timeout, or the deadline).
    pub start_by: Nanos,
    /// Answered by this moment.
    pub deadline: Nanos,
    /// May it run twice?
    pub idempotent: bool,
    /// An exception of a neighbour would be its answer too: nothing is run again to find the guilty one.
    pub shares_errors: bool,
    /// Deaths of a worker while it ran.
    pub deaths: u8,
}

impl<R> Item<R> {
    /// True if it may share a call: a zero-row item has nothing to stack, and a non-idempotent one could not be run
    /// again when a neighbour's rows raise.
    fn is_shareable(&self) -> bool {
        self.rows > 0 && (self.idempotent || self.shares_errors)
    }
}

/// Items of one batch key, oldest first.
#[derive(Debug)]
struct Lane<R> {
    items: VecDeque<Item<R>>,
    /// Sum over `items`.
    rows: u64,
    /// How many of `items` may not share a call.
    alone: usize,
}

impl<R> Default for Lane<R> {
    fn default() -> Self {
        Self { items: VecDeque::new(), rows: 0, alone: 0 }
    }
}

/// The oldest item of a lane and how much waits behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Batch key of the lane.
    pub batch_key: u64,
    /// Rows that wait in it.
    pub rows: u64,
    /// Arrival of its oldest item.
    pub arrived: Nanos,
    /// May all of its items share a call?
    pub is_shareable: bool,
}

/// Everything that waits for one version. It has one owner, the version's scheduler.
#[derive(Debug)]
pub struct Queue<R> {
    lanes: HashMap<u64, Lane<R>>,
    /// The oldest item of each lane, with the lane's key.
    heads: BTreeMap<ItemId, u64>,
    /// Items to be run again in exactly these calls, before anything else.
    groups: VecDeque<Vec<Item<R>>>,
    /// Items that were running at two deaths, not alone at the second: each has the next instance to itself.
    suspects: VecDeque<Item<R>>,
    items: usize,
    bytes: u64,
}

impl<R> Default for Queue<R> {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
            heads: BTreeMap::new(),
            groups: VecDeque::new(),
            suspects: VecDeque::new(),
            items: 0,
            bytes: 0,
        }
    }
}

impl<R> Queue<R> {
    /// Items waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items
    }

    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Input bytes waiting.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Put an item where its age belongs: at the end for a new one, at the head for one that comes back.
    pub fn insert(&mut self, item: Item<R>) {
        self.count_in(&item);
        let key = item.batch_key;
        let lane = self.lanes.entry(key).or_default();
        if let Some(oldest) = lane.items.front() {
            self.heads.remove(&oldest.id);
        }
        lane.rows += u64::from(item.rows);
        lane.alone += usize::from(!item.is_shareable());
        let place = lane.items.partition_point(|other| other.id < item.id);
        lane.items.insert(place, item);
        self.heads.insert(lane.items[0].id, key);
    }

    /// Let these items run next, together and with nobody else.
    pub fn insert_group(&mut self, group: Vec<Item<R>>) {
        if group.is_empty() {
            return;
        }
        group.iter().for_each(|item| self.count_in(item));
        self.groups.push_front(group);
    }

    /// Let an item run with nothing beside it.
    pub fn insert_suspect(&mut self, item: Item<R>) {
        self.count_in(&item);
        self.suspects.push_back(item);
    }

    /// True if an item waits that must have an instance to itself.
    #[must_use]
    pub fn has_suspect(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Take the item that runs by itself next.
    pub fn take_suspect(&mut self) -> Option<Item<R>> {
        let item = self.suspects.pop_front()?;
        self.count_out(&item);
        Some(item)
    }

    /// True if a group waits to be run again.
    #[must_use]
    pub fn has_group(&self) -> bool {
        !self.groups.is_empty()
    }

    /// The lanes, longest waiting first.
    pub fn heads(&self) -> impl Iterator<Item = Head> + '_ {
        self.heads.values().filter_map(|key| {
            let lane = self.lanes.get(key)?;
            let arrived = lane.items.front()?.arrived;
            Some(Head { batch_key: *key, rows: lane.rows, arrived, is_shareable: lane.alone == 0 })
        })
    }

    /// How many lanes there are.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Rows that wait in the lane of this key.
    #[must_use]
    pub fn rows(&self, batch_key: u64) -> u64 {
        self.lanes.get(&batch_key).map_or(0, |lane| lane.rows)
    }

    /// Take the group that runs next.
    pub fn take_group(&mut self) -> Option<Vec<Item<R>>> {
        let group = self.groups.pop_front()?;
        group.iter().for_each(|item| self.count_out(item));
        Some(group)
    }

    /// Take the oldest items of a lane that fit together in `max_rows` and in one tensor.
    pub fn take(&mut self, batch_key: u64, max_rows: u32) -> Vec<Item<R>> {
        let Some(lane) = self.lanes.get_mut(&batch_key) else { return Vec::new() };
        if let Some(oldest) = lane.items.front() {
            self.heads.remove(&oldest.id);
        }
        let mut batch = Vec::new();
        let (mut rows, mut bytes) = (0_u64, 0_u64);
        while let Some(item) = lane.items.front() {
            let fits = rows + u64::from(item.rows) <= u64::from(max_rows)
                && bytes.saturating_add(item.cost) <= MAX_TENSOR_BYTES
                && item.is_shareable();
            if !batch.is_empty() && !fits {
                break;
            }
            let Some(item) = lane.items.pop_front() else { break };
            rows += u64::from(item.rows);
            bytes = bytes.saturating_add(item.cost);
            let alone = !item.is_shareable();
            batch.push(item);
            if alone {
                lane.alone -= 1;
                break;
            }
        }
        lane.rows -= rows;
        match lane.items.front() {
            Some(oldest) => {
                self.heads.insert(oldest.id, batch_key);
            }
            None => {
                self.lanes.remove(&batch_key);
            }
        }
        batch.iter().for_each(|item| self.count_out(item));
        batch
    }

    /// Take one item out, wherever it waits.
    pub fn remove(&mut self, id: ItemId, batch_key: u64) -> Option<Item<R>> {
        let item = self.remove_from_lane(id, batch_key).or_else(|| self.remove_from_groups(id))?;
        self.count_out(&item);
        Some(item)
    }

    /// Take everything, oldest first.
    pub fn drain(&mut self) -> Vec<Item<R>> {
        let mut items: Vec<_> = self.groups.drain(..).flatten().chain(self.suspects.drain(..)).collect();
        items.extend(self.lanes.drain().flat_map(|(_, lane)| lane.items));
        items.sort_by_key(|item| item.id);
        *self = Self::default();
        items
    }

    fn remove_from_lane(&mut self, id: ItemId, batch_key: u64) -> Option<Item<R>> {
        let lane = self.lanes.get_mut(&batch_key)?;
        let place = lane.items.binary_search_by_key(&id, |item| item.id).ok()?;
        let item = lane.items.remove(place)?;
        lane.rows -= u64::from(item.rows);
        lane.alone -= usize::from(!item.is_shareable());
        if place == 0 {
            self.heads.remove(&id);
            match lane.items.front() {
                Some(oldest) => {
                    self.heads.insert(oldest.id, batch_key);
                }
                None => {
                    self.lanes.remove(&batch_key);
                }
            }
        }
        Some(item)
    }

    fn remove_from_groups(&mut self, id: ItemId) -> Option<Item<R>> {
        for (place, group) in self.groups.iter_mut().enumerate() {
            if let Some(at) = group.iter().position(|item| item.id == id) {
                let item = group.remove(at);
                if group.is_empty() {
                    self.groups.remove(place);
                }
                return Some(item);
            }
        }
        let at = self.suspects.iter().position(|item| item.id == id)?;
        self.suspects.remove(at)
    }

    fn count_in(&mut self, item: &Item<R>) {
        self.items += 1;
        self.bytes += item.cost;
    }

    fn count_out(&mut self, item: &Item<R>) {
        self.items -= 1;
        self.bytes -= item.cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn item(id: ItemId, rows: u32, batch_key: u64) -> Item<u64> {
        Item {
            id,
            request: id,
            rows,
            batch_key,
            cost: 1,
            arrived: id,
            start_by: 100,
            deadline: 100,
            idempotent: true,
            shares_errors: false,
            deaths: 0,
        }
    }

    fn ids(batch: &[Item<u64>]) -> Vec<u64> {
        batch.iter().map(|item| item.id).collect()
    }

    #[test]
    fn a_batch_holds_equal_keys_up_to_its_size() {
        let mut queue = Queue::default();
        for (id, rows, key) in [(1, 2, 7), (2, 1, 8), (3, 2, 7), (4, 2, 7)] {
            queue.insert(item(id, rows, key));
        }
        assert_eq!(queue.heads().map(|head| head.batch_key).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(ids(&queue.take(7, 5)), [1, 3]);
        assert_eq!(queue.heads().map(|head| head.batch_key).collect::<Vec<_>>(), [8, 7]);
        assert_eq!((queue.len(), queue.bytes()), (2, 2));
    }

    #[test]
    fn items_that_may_not_share_run_alone() {
        let mut queue = Queue::default();
        queue.insert(item(1, 1, 7));
        queue.insert(item(2, 0, 7));
        queue.insert(Item { idempotent: false, ..item(3, 1, 7) });
        queue.insert(item(4, 1, 7));
        for expected in [1, 2, 3, 4] {
            assert_eq!(ids(&queue.take(7, 8)), [expected]);
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn items_that_share_errors_share_a_call_whether_or_not_they_may_run_twice() {
        let mut queue = Queue::default();
        for id in 1..=4 {
            queue.insert(Item { idempotent: id % 2 == 0, shares_errors: true, ..item(id, 1, 7) });
        }
        assert!(queue.heads().all(|head| head.is_shareable));
        assert_eq!(ids(&queue.take(7, 8)), [1, 2, 3, 4]);
    }

    #[test]
    fn a_batch_never_makes_a_tensor_that_is_too_large() {
        let mut queue = Queue::default();
        for id in 1..=3 {
            queue.insert(Item { cost: MAX_TENSOR_BYTES / 2, ..item(id, 1, 7) });
        }
        queue.insert(Item { cost: u64::MAX / 2, ..item(4, 1, 7) });
        assert_eq!(ids(&queue.take(7, 8)), [1, 2]);
        assert_eq!(ids(&queue.take(7, 8)), [3]);
        assert_eq!(ids(&queue.take(7, 8)), [4]);
    }

    #[test]
    fn what_comes_back_keeps_its_age() {
        let mut queue = Queue::default();
        queue.insert(item(5, 1, 7));
        queue.insert(item(2, 1, 7));
        assert_eq!(ids(&queue.take(7, 8)), [2, 5]);
    }

    #[test]
    fn removal_finds_lanes_and_groups() {
        let mut queue = Queue::default();
        queue.insert(item(1, 1, 7));
        queue.insert(item(2, 1, 7));
        queue.insert_group(vec![item(3, 1, 7)]);
        assert!(queue.remove(1, 7).is_some());
        assert!(queue.remove(3, 7).is_some());
        assert!(queue.remove(3, 7).is_none());
        assert!(!queue.has_group());
        assert_eq!(ids(&queue.take(7, 8)), [2]);
        assert!(queue.is_empty() && queue.heads().next().is_none());
    }
}
