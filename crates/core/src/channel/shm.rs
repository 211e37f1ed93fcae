//! The transport of every day: descriptors over rings, tensors in segments.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use rustix::event::{EventfdFlags, eventfd};

use super::arena::{Arena, Range};
use super::frame::{BadFrame, Descriptor, FLAG_TENSOR, Kind, Reference, bad, shm_reference};
use super::outbox::Outbox;
use super::ring::{CONTROL_BYTES, CallSlot, Consumer, Direction, Producer};
use super::segments::{Access, Mapping, Slice, create};
use super::socket::Outgoing;
use super::transport::{Fetched, OutCall, Signature, Transport, check_size, decode};
use super::{ALIGNMENT, RETAINED_BYTES, align, proto};
use crate::tensor::{Datatype, MAX_TENSOR_BYTES, Tensor};

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
    answers: HashMap<u32, Arc<Mapping>>,
    next_segment: u32,
    open: HashMap<u64, OpenCall>,
    /// Inputs that a worker still looks at after the END of their call.
    held: HashMap<u64, Range>,
}

#[derive(Debug)]
struct OpenCall {
    range: Range,
    /// Its RELEASE came before its END: they took different ways, ring and socket.
    is_released: bool,
    /// `None`: it went through the socket because the ring was full.
    slot: Option<CallSlot>,
}

/// The answer range of a call; the worker may use it again when this is dropped.
#[derive(Debug)]
struct AnswerRange {
    transport: Weak<ShmTransport>,
    outbox: Outbox,
    place: (u32, u32, u64),
}

impl Drop for AnswerRange {
    fn drop(&mut self) {
        if let Some(transport) = self.transport.upgrade() {
            transport.release_answer(&self.outbox, self.place);
        }
    }
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

    /// A slice of an answer segment that gives its range back when the last tensor in it is dropped.
    fn slice(mapping: &Arc<Mapping>, offset: u64, length: u64, guard: &Arc<AnswerRange>) -> Result<Bytes, BadFrame> {
        match Slice::new(Arc::clone(mapping), offset, length, Arc::clone(guard)) {
            Some(slice) => Ok(Bytes::from_owner(slice)),
            None => bad(format!("a tensor of {length} bytes at {offset} lies outside of its segment")),
        }
    }
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
        if self.arena.used() > 0 || self.arena.size() <= RETAINED_BYTES {
            return;
        }
        for segment in self.arena.trim() {
            self.requests.remove(&segment);
            let message = proto::Segment { segment, size: 0, writable: false };
            outbox.send(Outgoing::new(Descriptor::new(Kind::Segment, 0), &message));
        }
    }
}

/// Where metadata and tensors of a call go inside their range.
struct Layout {
    metadata_bytes: u64,
    tensors: Vec<u64>,
    total: u64,
}

impl Layout {
    /// The references' offsets are varints, so the message is measured with the longest there can be.
    fn new(call: &OutCall, message: &mut proto::Call) -> Self {
        let metadata_bytes = message.encoded_len() as u64 + 10 * message.tensors.len() as u64;
        let mut at = align(metadata_bytes);
        let mut tensors = Vec::with_capacity(call.inputs.len());
        for input in &call.inputs {
            tensors.push(at);
            at += align(input.length());
        }
        Self { metadata_bytes, tensors, total: at }
    }
}

impl Transport for ShmTransport {
    fn send_call(&self, outbox: &Outbox, mut call: OutCall) -> Result<(), BadFrame> {
        let is_fast = call.is_fast && call.inputs[0].length() <= MAX_TENSOR_BYTES;
        let references = if is_fast { &[] } else { call.inputs.as_slice() };
        let tensors =
            references.iter().map(|i| shm_reference((u32::MAX, u32::MAX, 0), i.length(), i.datatype, &i.shape));
        let mut message =
            proto::Call { items: std::mem::take(&mut call.items), tensors: tensors.collect(), unstacked: false };
        let layout = Layout::new(&call, &mut message);
        check_size(&message)?;
        let (range, mapping) = self.allocate(outbox, layout.total)?;
        for (reference, offset) in message.tensors.iter_mut().zip(&layout.tensors) {
            reference.segment = range.segment;
            reference.generation = range.generation;
            reference.offset = range.offset + offset;
        }
        let metadata = message.encode_to_vec();
        debug_assert!(metadata.len() as u64 <= layout.metadata_bytes);
        let mut fits = mapping.write(range.offset, &metadata);
        for (input, offset) in call.inputs.iter().zip(&layout.tensors) {
            let mut at = range.offset + offset;
            for piece in &input.pieces {
                fits &= mapping.write(at, piece);
                at += piece.len() as u64;
            }
        }
        if !fits {
            return bad("a call does not fit in its range");
        }
        let mut descriptor = Descriptor::new(Kind::Call, call.call);
        descriptor.instance = call.instance;
        descriptor.deadline = call.deadline;
        descriptor.rows = call.rows;
        descriptor.segment = range.segment;
        descriptor.generation = range.generation;
        descriptor.offset = (range.offset / ALIGNMENT) as u32;
        descriptor.metadata_length = metadata.len() as u32;
        descriptor.tensor_count = call.inputs.len() as u16;
        if is_fast {
            descriptor.flags |= FLAG_TENSOR;
            descriptor.tensor_offset = ((range.offset + layout.tensors[0]) / ALIGNMENT) as u32;
            descriptor.tensor_length = call.inputs[0].length() as u32;
            descriptor.datatype = call.inputs[0].datatype as u8;
        }
        let must_wake = {
            let mut state = self.state.lock();
            // A worker that broke its ring is ended; the call is then lost like every other that it had.
            let slot = state.producer.push_call(&descriptor.encode()).unwrap_or_else(|fault| {
                outbox.refuse(fault);
                None
            });
            state.open.insert(call.call, OpenCall { range, is_released: false, slot });
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

    fn revoke(&self, call: u64) -> bool {
        let mut state = self.state.lock();
        let Some(slot) = state.open.get(&call).and_then(|open| open.slot) else { return false };
        if !state.producer.revoke(slot) {
            return false;
        }
        state.producer.free_slot(slot);
        if let Some(open) = state.open.remove(&call) {
            // Never begun, so the worker has not looked at it.
            state.arena.release(open.range.segment, open.range.offset, open.range.generation);
        }
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
            state.free(outbox, open.range);
        } else {
            state.held.insert(call, open.range);
        }
    }

    fn released(&self, outbox: &Outbox, descriptor: &Descriptor) -> Result<(), BadFrame> {
        let mut state = self.state.lock();
        let refusal = || bad(format!("RELEASE of call {} that holds nothing", descriptor.call));
        match (state.held.remove(&descriptor.call), state.open.get_mut(&descriptor.call)) {
            (Some(range), _) if range.generation == descriptor.generation => state.free(outbox, range),
            (None, Some(open)) if open.range.generation == descriptor.generation && !open.is_released => {
                open.is_released = true;
            }
            _ => return refusal(),
        }
        Ok(())
    }

    fn segment(&self, outbox: &Outbox, wish: &proto::Segment) -> Result<(), BadFrame> {
        let mut state = self.state.lock();
        if wish.segment != 0 {
            state.answers.remove(&wish.segment);
            return Ok(());
        }
        let held: u64 = state.answers.values().map(|mapping| mapping.len()).sum();
        let size = wish.size.max(SEGMENT_BYTES).checked_next_multiple_of(4096).unwrap_or(u64::MAX);
        let created =
            if held.saturating_add(size) <= MAX_ANSWER_BYTES { create(size, Access::Everybody).ok() } else { None };
        match created {
            Some((descriptor, mapping)) => {
                let segment = state.grant(outbox, descriptor, size, true);
                state.answers.insert(segment, Arc::new(mapping));
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
        if descriptor.metadata_length == 0 && !descriptor.has(FLAG_TENSOR) {
            return Ok(Fetched { end: proto::End::default(), outputs: Vec::new() });
        }
        let place = (descriptor.segment, descriptor.generation, u64::from(descriptor.offset) * ALIGNMENT);
        let Some(mapping) = self.state.lock().answers.get(&descriptor.segment).map(Arc::clone) else {
            return bad(format!("segment {} was not granted for answers", descriptor.segment));
        };
        let guard = Arc::new(AnswerRange { transport: Arc::downgrade(&self), outbox: outbox.clone(), place });
        let Some(metadata) = mapping.read(place.2, u64::from(descriptor.metadata_length)).map(<[u8]>::to_vec) else {
            return bad("metadata outside of its segment");
        };
        let end = decode::<proto::End>(&metadata)?;
        let mut outputs = Vec::new();
        if descriptor.has(FLAG_TENSOR) {
            let shape = signature.fast_shape(&signature.outputs, descriptor.rows)?;
            let Some(datatype) = Datatype::from_number(u32::from(descriptor.datatype)) else { return bad("datatype") };
            let offset = u64::from(descriptor.tensor_offset) * ALIGNMENT;
            let length = u64::from(descriptor.tensor_length);
            let reference = Reference::check(&shm_reference(place, length, datatype, &shape))?;
            outputs.push(self.tensor(&mapping, reference, offset, &guard)?);
        } else if end.tensors.len() != usize::from(descriptor.tensor_count)
            || end.tensors.len() > signature.outputs.len()
        {
            return bad(format!("{} outputs listed, {} announced", end.tensors.len(), descriptor.tensor_count));
        }
        for tensor in &end.tensors {
            let reference = Reference::check(tensor)?;
            match reference.place {
                Some((segment, generation, offset)) if (segment, generation) == (place.0, place.1) => {
                    outputs.push(self.tensor(&mapping, reference, offset, &guard)?);
                }
                _ => return bad("an output outside of the range of its call"),
            }
        }
        Ok(Fetched { end, outputs })
    }
}

impl ShmTransport {
    fn tensor(
        &self,
        mapping: &Arc<Mapping>,
        reference: Reference,
        offset: u64,
        guard: &Arc<AnswerRange>,
    ) -> Result<Tensor, BadFrame> {
        let shared = Self::slice(mapping, offset, reference.length, guard)?;
        // The lengths inside a BYTES tensor are used later, so they are checked in a copy that nobody can change.
        let data = if reference.datatype == Datatype::Bytes { Bytes::copy_from_slice(&shared) } else { shared };
        reference.check_content(&data)?;
        Ok(Tensor { datatype: reference.datatype, shape: reference.shape, data })
    }
}
