//! The transport of every day: descriptors over rings, tensors in segments.

mod reading;
mod writing;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

use self::writing::{Foreign, Lent, withdraw};
use super::arena::{Arena, Range};
use super::exports::{Published, publish};
use super::frame::{BadFrame, Descriptor, Kind, bad};
use super::outbox::Outbox;
use super::ring::{CONTROL_BYTES, CallSlot, Consumer, Direction, Producer};
use super::segments::{Access, Mapping, create};
use super::socket::Outgoing;
use super::transport::{Fetched, Gather, Message, OutCall, Signature, Transport};
use super::{ALIGNMENT, RETAINED_BYTES, align, proto};

/// Ordinary segments; what is larger gets a segment of its own. Pages cost nothing before they are touched.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Most memory that one worker may hold for answers.
const MAX_ANSWER_BYTES: u64 = 16 << 30;

/// A fresh transport and what belongs to its two ends.
#[derive(Debug)]
pub struct Opened {
    /// For the link.
    pub transport: ShmTransport,
    /// Reads the worker's ring.
    pub consumer: Consumer,
    /// Becomes readable when the worker has pushed while the engine slept.
    pub answers: OwnedFd,
    /// For HELLO: the control page, the eventfd that wakes the worker, the one that wakes the engine.
    pub descriptors: Vec<OwnedFd>,
}

/// Rings and segments of one worker.
#[derive(Debug)]
pub struct ShmTransport {
    /// Wakes the worker.
    calls: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    producer: Producer,
    arena: Arena,
    requests: HashMap<u32, Arc<Mapping>>,
    answers: HashMap<u32, Answers>,
    foreign: Foreign,
    next_segment: u32,
    open: HashMap<u64, OpenCall>,
    /// What a worker still looks at, by call and generation: inputs after the END of their call, and what a PART or END
    /// of ours carried.
    held: HashMap<(u64, u32), Lent>,
}

/// A segment that the worker writes.
#[derive(Debug)]
struct Answers {
    /// Large tensors in it pass to other workers by reference. Dropped first: another segment may then start where this
    /// one did.
    _published: Published,
    mapping: Arc<Mapping>,
}

#[derive(Debug)]
struct OpenCall {
    lent: Lent,
    /// Its RELEASE came before its END: they took different ways, ring and socket.
    is_released: bool,
    /// `None`: it went through the socket because the ring was full.
    slot: Option<CallSlot>,
}

impl ShmTransport {
    /// Create control page and eventfds.
    pub fn open() -> io::Result<Opened> {
        let (control, page) = create(CONTROL_BYTES, Access::Everybody)?;
        let page = Arc::new(page);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let (calls, answers) = (eventfd(0, flags)?, eventfd(0, flags)?);
        let producer = Producer::new(&page, Direction::Down).map_err(super::socket::invalid)?;
        let consumer = Consumer::new(&page, Direction::Up).map_err(super::socket::invalid)?;
        let descriptors = vec![control, calls.try_clone()?, answers.try_clone()?];
        let state = State {
            producer,
            arena: Arena::default(),
            requests: HashMap::new(),
            answers: HashMap::new(),
            foreign: Foreign::default(),
            next_segment: 1,
            open: HashMap::new(),
            held: HashMap::new(),
        };
        Ok(Opened { transport: Self { calls, state: Mutex::new(state) }, consumer, answers, descriptors })
    }

    /// Take `length` bytes of request memory, from a new segment if need be.
    fn allocate(&self, outbox: &Outbox, length: u64) -> Result<(Range, Arc<Mapping>), BadFrame> {
        let mut state = self.state.lock();
        let range = match state.arena.allocate(length) {
            Some(range) => range,
            None => {
                state.add_request_segment(outbox, length)?;
                state.arena.allocate(length).map_or_else(|| bad("a fresh segment is too small"), Ok)?
            }
        };
        let mapping = state.requests.get(&range.segment).map(Arc::clone);
        mapping.map_or_else(|| bad("a range without a segment"), |mapping| Ok((range, mapping)))
    }

    fn wake(&self) {
        wake(&self.calls);
    }

    fn release_answer(&self, outbox: &Outbox, (segment, generation, offset): (u32, u32, u64)) {
        let mut descriptor = Descriptor::new(Kind::Release, 0);
        descriptor.segment = segment;
        descriptor.generation = generation;
        descriptor.offset = (offset / ALIGNMENT) as u32;
        // The worker reads it before it next needs memory; waking it for this would cost a context switch per call.
        let pushed = self.state.lock().producer.push(&descriptor.encode());
        match pushed {
            Ok(true) => {}
            Ok(false) => outbox.send(Outgoing::bare(descriptor)),
            Err(fault) => outbox.refuse(fault),
        }
    }
}

fn create_answers(size: u64) -> io::Result<(OwnedFd, Answers)> {
    let (descriptor, mapping) = create(size, Access::Everybody)?;
    let mapping = Arc::new(mapping);
    let published = publish(&mapping, &descriptor)?;
    Ok((descriptor, Answers { _published: published, mapping }))
}

/// Make an eventfd readable.
pub fn wake(eventfd: impl AsFd) {
    let _ = rustix::io::write(eventfd, &1_u64.to_ne_bytes());
}

impl State {
    fn add_request_segment(&mut self, outbox: &Outbox, length: u64) -> Result<(), BadFrame> {
        let size = align(length).max(SEGMENT_BYTES).next_multiple_of(4096);
        let (descriptor, mapping) =
            create(size, Access::CreatorOnly).or_else(|error| bad(format!("shared memory: {error}")))?;
        let segment = self.grant(outbox, descriptor, size, false);
        self.requests.insert(segment, Arc::new(mapping));
        self.arena.add(segment, size);
        Ok(())
    }

    fn grant(&mut self, outbox: &Outbox, descriptor: OwnedFd, size: u64, writable: bool) -> u32 {
        let segment = self.next_segment;
        self.next_segment += 1;
        let message = proto::Segment { segment, size, writable };
        outbox.send(Outgoing {
            descriptors: vec![descriptor],
            ..Outgoing::new(Descriptor::new(Kind::Segment, 0), &message)
        });
        segment
    }

    /// Give a range of inputs back, and idle segments beyond what an idle channel keeps.
    fn free(&mut self, outbox: &Outbox, range: Range) {
        self.arena.release(range.segment, range.offset, range.generation);
        if self.arena.used() > 0 {
            return;
        }
        self.withdraw_dead(outbox);
        let idle = if self.arena.size() > RETAINED_BYTES { self.arena.trim() } else { Vec::new() };
        for segment in idle {
            self.requests.remove(&segment);
            withdraw(outbox, segment);
        }
    }
}

impl Transport for ShmTransport {
    fn send_call(&self, outbox: &Outbox, mut call: OutCall) -> Result<(), BadFrame> {
        let message = Message::Call(call.message());
        let mut descriptor = call.descriptor();
        let lent = self.write(outbox, &mut descriptor, message, (&call.inputs, call.is_fast))?;
        let must_wake = {
            let mut state = self.state.lock();
            // A worker that broke its ring is ended; the call is then lost like every other that it had.
            let slot = state.producer.push_call(&descriptor.encode()).unwrap_or_else(|fault| {
                outbox.refuse(fault);
                None
            });
            state.open.insert(call.call, OpenCall { lent, is_released: false, slot });
            if slot.is_none() {
                outbox.send(Outgoing::bare(descriptor));
            }
            slot.is_some() && state.producer.must_wake()
        };
        if must_wake {
            self.wake();
        }
        Ok(())
    }

    fn send(
        &self,
        outbox: &Outbox,
        mut descriptor: Descriptor,
        message: Message,
        tensors: &[Gather],
    ) -> Result<(), BadFrame> {
        let lent = self.write(outbox, &mut descriptor, message, (tensors, false))?;
        self.state.lock().held.insert((descriptor.call, descriptor.generation), lent);
        self.send_bare(outbox, &descriptor);
        Ok(())
    }

    fn send_bare(&self, outbox: &Outbox, descriptor: &Descriptor) {
        let (pushed, must_wake) = {
            let mut state = self.state.lock();
            // What is said of a call does not come before it.
            let is_behind = state.open.get(&descriptor.call).is_some_and(|open| open.slot.is_none());
            let pushed = if is_behind { Ok(false) } else { state.producer.push(&descriptor.encode()) };
            (pushed, state.producer.must_wake())
        };
        match pushed {
            Ok(true) => {}
            Ok(false) => outbox.send(Outgoing::bare(*descriptor)),
            Err(fault) => outbox.refuse(fault),
        }
        if must_wake {
            self.wake();
        }
    }

    fn revoke(&self, call: u64) -> bool {
        let mut state = self.state.lock();
        let Some(slot) = state.open.get(&call).and_then(|open| open.slot) else { return false };
        if !state.producer.revoke(slot) {
            return false;
        }
        state.producer.free_slot(slot);
        let open = state.open.remove(&call);
        if let Some(open) = &open {
            // Never begun, so the worker has not looked at it.
            let range = open.lent.range;
            state.arena.release(range.segment, range.offset, range.generation);
        }
        drop(state); // before what is lent goes back: its owner has a lock of its own
        true
    }

    fn has_started(&self, call: u64) -> bool {
        let state = self.state.lock();
        state.open.get(&call).is_none_or(|open| open.slot.is_none_or(|slot| state.producer.has_started(slot)))
    }

    fn request_bytes(&self) -> u64 {
        self.state.lock().arena.used()
    }

    fn ended(&self, outbox: &Outbox, call: u64, is_released: bool) {
        let mut state = self.state.lock();
        let Some(open) = state.open.remove(&call) else { return };
        if let Some(slot) = open.slot {
            state.producer.free_slot(slot);
        }
        if is_released || open.is_released {
            state.free(outbox, open.lent.range);
            drop(state); // as in revoke
        } else {
            state.held.insert((call, open.lent.range.generation), open.lent);
        }
    }

    fn released(&self, outbox: &Outbox, descriptor: &Descriptor) -> Result<(), BadFrame> {
        let mut state = self.state.lock();
        let (call, generation) = (descriptor.call, descriptor.generation);
        if let Some(lent) = state.held.remove(&(call, generation)) {
            state.free(outbox, lent.range);
            drop(state); // as in revoke
            return Ok(());
        }
        match state.open.get_mut(&call) {
            Some(open) if open.lent.range.generation == generation && !open.is_released => open.is_released = true,
            _ => return bad(format!("RELEASE of call {call} that holds nothing")),
        }
        Ok(())
    }

    fn segment(&self, outbox: &Outbox, wish: &proto::Segment) -> Result<(), BadFrame> {
        let mut state = self.state.lock();
        if wish.segment != 0 {
            state.answers.remove(&wish.segment);
            return Ok(());
        }
        let held: u64 = state.answers.values().map(|answers| answers.mapping.len()).sum();
        let size = wish.size.max(SEGMENT_BYTES).checked_next_multiple_of(4096).unwrap_or(u64::MAX);
        let created = if held.saturating_add(size) <= MAX_ANSWER_BYTES { create_answers(size).ok() } else { None };
        match created {
            Some((descriptor, answers)) => {
                let segment = state.grant(outbox, descriptor, size, true);
                state.answers.insert(segment, answers);
            }
            None => {
                let refusal = proto::Segment { segment: 0, size: 0, writable: true };
                outbox.send(Outgoing::new(Descriptor::new(Kind::Segment, 0), &refusal));
            }
        }
        Ok(())
    }

    fn fetch(
        self: Arc<Self>,
        outbox: &Outbox,
        descriptor: &Descriptor,
        signature: &Signature,
    ) -> Result<Fetched, BadFrame> {
        self.read(outbox, descriptor, signature)
    }
}
