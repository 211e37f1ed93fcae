//! The control page: two rings of 64-byte descriptors, one in each direction, and the state of each call's slot.
//!
//! One direction, from its base: `pushed` (0), `taken` (64), `waiting` (128), 256 entries of 4 bytes (192), 256 slot
//! states of 4 bytes (1216), 256 descriptors (2240). Each word has one writer but the slot states, which change by
//! compare-and-swap. Whoever reads a word of the peer copies it once and checks the copy.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::frame::{BadFrame, DESCRIPTOR_BYTES, bad};
use super::segments::Mapping;

/// Entries, and descriptors, of one direction.
pub const SLOTS: u32 = 256;
const PUSHED: u64 = 0;
const TAKEN: u64 = 64;
const WAITING: u64 = 128;
const ENTRIES: u64 = 192;
const STATES: u64 = ENTRIES + 4 * SLOTS as u64;
const DESCRIPTORS: u64 = STATES + 4 * SLOTS as u64;
const DIRECTION_BYTES: u64 = DESCRIPTORS + DESCRIPTOR_BYTES as u64 * SLOTS as u64;
/// Bytes of the control page.
pub const CONTROL_BYTES: u64 = (2 * DIRECTION_BYTES).next_multiple_of(4096);

/// The slot holds no call.
pub const IDLE: u32 = 0;
/// The call waits in the ring.
pub const QUEUED: u32 = 1;
/// The worker has begun it.
pub const RUNNING: u32 = 2;
/// The engine, or the worker's deadline check, took it back.
pub const REVOKED: u32 = 3;

/// Which way a ring runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Engine to worker.
    Down,
    /// Worker to engine.
    Up,
}

impl Direction {
    fn base(self) -> u64 {
        match self {
            Direction::Down => 0,
            Direction::Up => DIRECTION_BYTES,
        }
    }
}

/// The words of one direction.
#[derive(Clone, Debug)]
struct Words {
    page: Arc<Mapping>,
    base: u64,
}

impl Words {
    fn new(page: &Arc<Mapping>, direction: Direction) -> Result<Self, BadFrame> {
        if page.len() < CONTROL_BYTES {
            return bad(format!("a control page of {} bytes, wanted {CONTROL_BYTES}", page.len()));
        }
        Ok(Self { page: Arc::clone(page), base: direction.base() })
    }

    fn word(&self, at: u64) -> &AtomicU32 {
        self.page.word(self.base + at)
    }

    fn entry(&self, position: u32) -> &AtomicU32 {
        self.word(ENTRIES + 4 * u64::from(position % SLOTS))
    }

    fn state(&self, slot: u32) -> &AtomicU32 {
        self.word(STATES + 4 * u64::from(slot % SLOTS))
    }

    fn descriptor(&self, slot: u32) -> u64 {
        self.base + DESCRIPTORS + DESCRIPTOR_BYTES as u64 * u64::from(slot % SLOTS)
    }
}

/// The writing end of a ring. It has one owner.
#[derive(Debug)]
pub struct Producer {
    words: Words,
    pushed: u32,
    free: Vec<u32>,
    /// Slots that are free again once the reader has taken the entry at this position.
    leaving: VecDeque<(u32, u32)>,
}

impl Producer {
    /// The writing end in `page`.
    pub fn new(page: &Arc<Mapping>, direction: Direction) -> Result<Self, BadFrame> {
        let words = Words::new(page, direction)?;
        Ok(Self { words, pushed: 0, free: (0..SLOTS).rev().collect(), leaving: VecDeque::new() })
    }

    /// Push a frame that is done with as soon as the peer has read it; false if the ring is full.
    pub fn push(&mut self, descriptor: &[u8; DESCRIPTOR_BYTES]) -> Result<bool, BadFrame> {
        let Some(slot) = self.write(descriptor, IDLE)? else { return Ok(false) };
        self.leaving.push_back((self.pushed, slot));
        self.publish(slot);
        Ok(true)
    }

    /// Push a call, whose slot stays taken until [`Self::free_slot`]; `None` if the ring is full.
    pub fn push_call(&mut self, descriptor: &[u8; DESCRIPTOR_BYTES]) -> Result<Option<CallSlot>, BadFrame> {
        let Some(slot) = self.write(descriptor, QUEUED)? else { return Ok(None) };
        let position = self.pushed;
        self.publish(slot);
        Ok(Some(CallSlot { slot, position }))
    }

    /// The peer sleeps and must be woken through its eventfd.
    pub fn must_wake(&self) -> bool {
        let waiting = self.words.word(WAITING);
        waiting.load(Ordering::SeqCst) != 0 && waiting.swap(0, Ordering::SeqCst) != 0
    }

    /// Take a call back that the peer has not begun.
    #[must_use]
    pub fn revoke(&self, slot: CallSlot) -> bool {
        self.words.state(slot.slot).compare_exchange(QUEUED, REVOKED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// True unless the call still waits in the ring or was taken back.
    #[must_use]
    pub fn has_started(&self, slot: CallSlot) -> bool {
        !matches!(self.words.state(slot.slot).load(Ordering::SeqCst), QUEUED | REVOKED)
    }

    /// A call is over: its slot is free once its entry has been read.
    pub fn free_slot(&mut self, slot: CallSlot) {
        let place = self.leaving.partition_point(|(position, _)| is_before(*position, slot.position));
        self.leaving.insert(place, (slot.position, slot.slot));
    }

    fn write(&mut self, descriptor: &[u8; DESCRIPTOR_BYTES], state: u32) -> Result<Option<u32>, BadFrame> {
        let taken = self.words.word(TAKEN).load(Ordering::Acquire);
        let unread = self.pushed.wrapping_sub(taken);
        if unread > SLOTS {
            return bad(format!("the reader of a ring claims {unread} unread entries"));
        }
        while let Some((_, slot)) = self.leaving.pop_front_if(|(position, _)| is_before(*position, taken)) {
            self.free.push(slot);
        }
        if unread == SLOTS {
            return Ok(None);
        }
        let Some(slot) = self.free.pop() else { return Ok(None) };
        self.words.state(slot).store(state, Ordering::Relaxed);
        if !self.words.page.write(self.words.descriptor(slot), descriptor) {
            return bad("the control page is too small");
        }
        Ok(Some(slot))
    }

    fn publish(&mut self, slot: u32) {
        self.words.entry(self.pushed).store(slot, Ordering::Relaxed);
        self.pushed = self.pushed.wrapping_add(1);
        // SeqCst orders this store before the look at `waiting`, so that a reader going to sleep sees one or the other.
        self.words.word(PUSHED).store(self.pushed, Ordering::SeqCst);
    }
}

/// Where a call stands in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSlot {
    slot: u32,
    position: u32,
}

fn is_before(position: u32, limit: u32) -> bool {
    position.wrapping_sub(limit) > u32::MAX / 2
}

/// The reading end of a ring. It has one owner.
#[derive(Debug)]
pub struct Consumer {
    words: Words,
    taken: u32,
}

/// What the reader got.
#[derive(Debug)]
pub struct Entry {
    /// The descriptor's bytes, copied out.
    pub descriptor: [u8; DESCRIPTOR_BYTES],
    slot: u32,
}

impl Consumer {
    /// The reading end in `page`.
    pub fn new(page: &Arc<Mapping>, direction: Direction) -> Result<Self, BadFrame> {
        Ok(Self { words: Words::new(page, direction)?, taken: 0 })
    }

    /// The next frame.
    pub fn pop(&mut self) -> Result<Option<Entry>, BadFrame> {
        let pushed = self.words.word(PUSHED).load(Ordering::Acquire);
        let unread = pushed.wrapping_sub(self.taken);
        if unread == 0 {
            return Ok(None);
        }
        if unread > SLOTS {
            return bad(format!("the writer of a ring claims {unread} unread entries"));
        }
        let slot = self.words.entry(self.taken).load(Ordering::Relaxed);
        if slot >= SLOTS {
            return bad(format!("descriptor {slot} of {SLOTS}"));
        }
        let mut descriptor = [0; DESCRIPTOR_BYTES];
        match self.words.page.read(self.words.descriptor(slot), DESCRIPTOR_BYTES as u64) {
            Some(bytes) => descriptor.copy_from_slice(bytes),
            None => return bad("the control page is too small"),
        }
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(Entry { descriptor, slot }))
    }

    /// Is there something to read?
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.words.word(PUSHED).load(Ordering::Acquire) != self.taken
    }

    /// The next frame's descriptor if its kind, the first byte, is `wanted`; else it stays.
    pub fn pop_if(&mut self, wanted: impl Fn(u8) -> bool) -> Result<Option<[u8; DESCRIPTOR_BYTES]>, BadFrame> {
        let before = self.taken;
        let Some(entry) = self.pop()? else { return Ok(None) };
        if wanted(entry.descriptor[0]) {
            return Ok(Some(entry.descriptor));
        }
        self.taken = before;
        Ok(None)
    }

    /// Tell the writer what has been read. For a call this comes after [`Self::claim`]: its slot may be reused then.
    pub fn acknowledge(&self) {
        self.words.word(TAKEN).store(self.taken, Ordering::Release);
    }

    /// Begin the call of `entry`, unless the writer took it back.
    #[must_use]
    pub fn claim(&self, entry: &Entry) -> bool {
        self.swap(entry, RUNNING)
    }

    /// Refuse to begin the call of `entry`; false if the writer took it back before.
    #[must_use]
    pub fn refuse(&self, entry: &Entry) -> bool {
        self.swap(entry, REVOKED)
    }

    /// Announce that the reader is going to sleep. False: there is something to read, so do not.
    #[must_use]
    pub fn prepare_sleep(&self) -> bool {
        let waiting = self.words.word(WAITING);
        waiting.store(1, Ordering::SeqCst);
        if self.words.word(PUSHED).load(Ordering::SeqCst) == self.taken {
            return true;
        }
        waiting.store(0, Ordering::SeqCst);
        false
    }

    /// Take back that the reader is going to sleep: it looks again.
    pub fn stay_awake(&self) {
        self.words.word(WAITING).store(0, Ordering::SeqCst);
    }

    fn swap(&self, entry: &Entry, to: u32) -> bool {
        self.words.state(entry.slot).compare_exchange(QUEUED, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Descriptor, Kind};
    use super::super::segments::{Access, create};
    use super::*;

    fn ring() -> (Producer, Consumer, Arc<Mapping>) {
        let (_, page) = create(CONTROL_BYTES, Access::Everybody).unwrap();
        let page = Arc::new(page);
        (Producer::new(&page, Direction::Down).unwrap(), Consumer::new(&page, Direction::Down).unwrap(), page)
    }

    fn descriptor(call: u64) -> [u8; DESCRIPTOR_BYTES] {
        Descriptor::new(Kind::Call, call).encode()
    }

    #[test]
    fn frames_arrive_in_order_for_many_rounds() {
        let (mut producer, mut consumer, _) = ring();
        for call in 0..10_000_u64 {
            assert!(producer.push(&descriptor(call)).unwrap());
            if call % 3 == 0 {
                continue;
            }
            while let Some(entry) = consumer.pop().unwrap() {
                assert!(Descriptor::decode(&entry.descriptor).unwrap().call <= call);
            }
            consumer.acknowledge();
        }
    }

    #[test]
    fn a_full_ring_says_so_and_recovers() {
        let (mut producer, mut consumer, _) = ring();
        assert!((0..SLOTS).all(|call| producer.push(&descriptor(u64::from(call))).unwrap()));
        assert!(!producer.push(&descriptor(0)).unwrap());
        assert!(consumer.pop().unwrap().is_some());
        consumer.acknowledge();
        assert!(producer.push(&descriptor(0)).unwrap());
    }

    #[test]
    fn a_call_is_begun_or_revoked_never_both() {
        let (mut producer, mut consumer, _) = ring();
        let first = producer.push_call(&descriptor(1)).unwrap().unwrap();
        let second = producer.push_call(&descriptor(2)).unwrap().unwrap();
        assert!(producer.revoke(second) && !producer.revoke(second));
        let entry = consumer.pop().unwrap().unwrap();
        assert!(!producer.has_started(first));
        assert!(consumer.claim(&entry));
        assert!(producer.has_started(first) && !producer.revoke(first));
        let entry = consumer.pop().unwrap().unwrap();
        assert!(!consumer.claim(&entry));
    }

    #[test]
    fn slots_of_calls_are_not_reused_before_they_are_freed() {
        let (mut producer, mut consumer, _) = ring();
        let held = producer.push_call(&descriptor(1)).unwrap().unwrap();
        for call in 0..2_000 {
            let slot = producer.push_call(&descriptor(call)).unwrap().unwrap();
            assert_ne!(slot.slot, held.slot);
            assert!(consumer.pop().unwrap().is_some());
            consumer.acknowledge();
            producer.free_slot(slot);
        }
    }

    #[test]
    fn the_sleeper_is_woken_once() {
        let (mut producer, consumer, _) = ring();
        assert!(!producer.must_wake());
        assert!(consumer.prepare_sleep());
        producer.push(&descriptor(1)).unwrap();
        assert!(producer.must_wake() && !producer.must_wake());
        assert!(!consumer.prepare_sleep());
    }

    #[test]
    fn counters_and_indices_of_a_hostile_peer_are_refused() {
        let (mut producer, mut consumer, page) = ring();
        page.word(PUSHED).store(SLOTS + 1, Ordering::SeqCst);
        assert!(consumer.pop().is_err());
        page.word(PUSHED).store(1, Ordering::SeqCst);
        page.word(ENTRIES).store(SLOTS, Ordering::SeqCst);
        assert!(consumer.pop().is_err());
        page.word(TAKEN).store(5, Ordering::SeqCst);
        assert!(producer.push(&descriptor(1)).is_err());
    }
}
