//! The input side of a call: views of the engine's memory, and the news that they are gone.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::{CallFrame, Input, MAX_HELD_BYTES, URGENT_RELEASE_BYTES, WorkerEnd};
use crate::channel::ALIGNMENT;
use crate::channel::arena::Range;
use crate::channel::frame::{BadFrame, Descriptor, FLAG_RELEASED, FLAG_TENSOR, Kind, Reference, bad, shm_reference};
use crate::channel::proto;
use crate::channel::segments::{Mapping, Slice};
use crate::channel::transport::Message;
use crate::clock::now;
use crate::tensor::Datatype;

const OPEN: u8 = 0;
const HELD: u8 = 1;
const RELEASED: u8 = 2;

/// The input range of a call in shared memory; the engine hears when the last view dies.
#[derive(Debug)]
pub(super) struct InputRange {
    end: Weak<WorkerEnd>,
    call: u64,
    range: Range,
    state: AtomicU8,
}

impl Drop for InputRange {
    fn drop(&mut self) {
        if self.state.load(Ordering::Acquire) == HELD
            && let Some(end) = self.end.upgrade()
        {
            end.release(self.call, self.range);
        }
    }
}

impl WorkerEnd {
    /// The END descriptor of a call. Its inputs count as released if nobody else looks at them.
    pub(super) fn close(&self, call: &mut CallFrame) -> Descriptor {
        call.inputs.clear();
        self.running.lock().remove(&call.call);
        let mut descriptor = Descriptor::new(Kind::End, call.call);
        descriptor.instance = call.instance;
        descriptor.deadline = call.began;
        descriptor.sequence = call.parts;
        match &call.range {
            Some(range) if Arc::strong_count(range) > 1 => {
                self.held_bytes.fetch_add(range.range.length, Ordering::Relaxed);
                range.state.store(HELD, Ordering::Release);
            }
            Some(range) => {
                range.state.store(RELEASED, Ordering::Release);
                descriptor.flags |= FLAG_RELEASED;
            }
            None => descriptor.flags |= FLAG_RELEASED,
        }
        descriptor
    }

    /// The last view of what a frame carried died after the call's END.
    pub(super) fn release(&self, call: u64, range: Range) {
        self.held_bytes.fetch_sub(range.length, Ordering::Relaxed);
        let Some(shm) = &self.shm else { return };
        let mut descriptor = Descriptor::new(Kind::Release, call);
        descriptor.segment = range.segment;
        descriptor.generation = range.generation;
        self.push(shm, &descriptor, range.length >= URGENT_RELEASE_BYTES);
    }

    /// The mapping of a request segment; its SEGMENT may still be on the socket when a frame in it is in the ring.
    pub(super) fn request_mapping(self: &Arc<Self>, segment: u32) -> Result<Arc<Mapping>, BadFrame> {
        loop {
            let mut segments = self.segments.lock();
            if let Some(mapping) = segments.requests.get(&segment) {
                return Ok(Arc::clone(mapping));
            }
            if self.reader.get() != Some(&std::thread::current().id()) {
                self.granted.wait(&mut segments);
                continue;
            }
            drop(segments);
            self.read_frame().map_err(|error| BadFrame(error.to_string()))?;
        }
    }

    pub(super) fn open_call(self: &Arc<Self>, descriptor: &Descriptor) -> Result<CallFrame, BadFrame> {
        let (message, inputs, owner) = self.open(descriptor, OPEN)?;
        let Message::Call(call) = message else { return bad("CALL") };
        Ok(self.claimed(descriptor, call, inputs, Some(owner)))
    }

    /// A PART or END of the engine, whose range is given back when the last view of it dies.
    pub(super) fn open_answer(self: &Arc<Self>, descriptor: &Descriptor) -> Result<(Message, Vec<Input>), BadFrame> {
        let (message, inputs, owner) = self.open(descriptor, HELD)?;
        self.held_bytes.fetch_add(owner.range.length, Ordering::Relaxed);
        Ok((message, inputs))
    }

    /// Metadata and tensors of a frame in shared memory, and what its range belongs to.
    fn open(
        self: &Arc<Self>,
        descriptor: &Descriptor,
        state: u8,
    ) -> Result<(Message, Vec<Input>, Arc<InputRange>), BadFrame> {
        let mapping = self.request_mapping(descriptor.segment)?;
        let place = (descriptor.segment, descriptor.generation, u64::from(descriptor.offset) * ALIGNMENT);
        let Some(metadata) = mapping.read(place.2, u64::from(descriptor.metadata_length)) else {
            return bad("metadata outside of its segment");
        };
        let message = Message::decode(descriptor.kind, metadata)?;
        let references = if descriptor.has(FLAG_TENSOR) {
            vec![self.fast_reference(descriptor, place)?]
        } else {
            message.tensors().iter().map(Reference::check).collect::<Result<Vec<_>, _>>()?
        };
        // What goes back with this frame: the tensors in its range, and those that other workers lent for it.
        let length = references.iter().map(|reference| reference.length).sum();
        let range = Range { segment: place.0, generation: place.1, offset: place.2, length };
        let end = Arc::downgrade(self);
        let owner = Arc::new(InputRange { end, call: descriptor.call, range, state: AtomicU8::new(state) });
        let copies = self.must_copy();
        let inputs = references.into_iter().map(|reference| self.input(reference, &owner, copies));
        Ok((message, inputs.collect::<Result<_, _>>()?, owner))
    }

    fn fast_reference(&self, descriptor: &Descriptor, place: (u32, u32, u64)) -> Result<Reference, BadFrame> {
        let signature = self.signatures.lock().get(&descriptor.instance).cloned();
        let Some(signature) = signature else { return bad("CALL before any load") };
        let shape = signature.fast_shape(&signature.inputs, descriptor.rows)?;
        let offset = u64::from(descriptor.tensor_offset) * ALIGNMENT;
        let length = u64::from(descriptor.tensor_length);
        let Some(datatype) = Datatype::from_number(u32::from(descriptor.datatype)) else { return bad("datatype") };
        Reference::check(&shm_reference((place.0, place.1, offset), length, datatype, &shape))
    }

    /// A tensor where it lies, which may be where another worker wrote it.
    fn input(self: &Arc<Self>, reference: Reference, owner: &Arc<InputRange>, copies: bool) -> Result<Input, BadFrame> {
        let Some((segment, _, offset)) = reference.place else { return bad("an inline tensor in shared memory") };
        let mapping = self.request_mapping(segment)?;
        let Some(slice) = Slice::new(mapping, offset, reference.length, Arc::clone(owner)) else {
            return bad("a tensor outside of its segment");
        };
        let data = if copies { Bytes::copy_from_slice(slice.as_ref()) } else { Bytes::from_owner(slice) };
        Ok(Input { datatype: reference.datatype, shape: reference.shape, data })
    }

    /// True if too many inputs are kept beyond their calls; the model is told once.
    fn must_copy(&self) -> bool {
        let copies = self.holds_too_much();
        if copies && !self.has_warned.swap(true, Ordering::Relaxed) {
            // The engine logs what comes here under the model's name.
            let _ = writeln!(
                io::stderr(),
                "warning: the model keeps more than {} MiB of inputs beyond their calls, so inputs are copied from now \
                 on; keep less of them",
                MAX_HELD_BYTES >> 20
            );
        }
        copies
    }

    pub(super) fn claimed(
        &self,
        descriptor: &Descriptor,
        message: proto::Call,
        inputs: Vec<Input>,
        range: Option<Arc<InputRange>>,
    ) -> CallFrame {
        let state = Arc::clone(self.running.lock().entry(descriptor.call).or_default());
        if !message.is_open {
            state.end_body();
        }
        CallFrame {
            call: descriptor.call,
            instance: descriptor.instance,
            rows: descriptor.rows,
            items: message.items,
            inputs,
            method: message.method,
            http: message.http,
            state,
            deadline: descriptor.deadline,
            began: now(),
            parts: 0,
            range,
        }
    }

    /// True if inputs are copied because too many are kept beyond their call.
    #[must_use]
    pub fn holds_too_much(&self) -> bool {
        self.held_bytes.load(Ordering::Relaxed) > MAX_HELD_BYTES
    }
}
