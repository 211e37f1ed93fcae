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
use crate::channel::transport::decode;
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
        self.cancelled.lock().running.remove(&call.call);
        let mut descriptor = Descriptor::new(Kind::End, call.call);
        descriptor.instance = call.instance;
        descriptor.deadline = call.began;
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

    /// The last view of a call's inputs died after its END.
    pub(super) fn release(&self, call: u64, range: Range) {
        self.held_bytes.fetch_sub(range.length, Ordering::Relaxed);
        let Some(shm) = &self.shm else { return };
        let mut descriptor = Descriptor::new(Kind::Release, call);
        descriptor.segment = range.segment;
        descriptor.generation = range.generation;
        self.push(shm, &descriptor, range.length >= URGENT_RELEASE_BYTES);
    }

    /// The mapping of a request segment; its SEGMENT may still be on the socket when a call in it is in the ring.
    pub(super) fn request_mapping(&self, segment: u32) -> Arc<Mapping> {
        let mut segments = self.segments.lock();
        loop {
            if let Some(mapping) = segments.requests.get(&segment) {
                return Arc::clone(mapping);
            }
            self.granted.wait(&mut segments);
        }
    }

    pub(super) fn open_call(self: &Arc<Self>, descriptor: &Descriptor) -> Result<CallFrame, BadFrame> {
        let mapping = self.request_mapping(descriptor.segment);
        let place = (descriptor.segment, descriptor.generation, u64::from(descriptor.offset) * ALIGNMENT);
        let Some(metadata) = mapping.read(place.2, u64::from(descriptor.metadata_length)) else {
            return bad("metadata outside of its segment");
        };
        let message: proto::Call = decode(metadata)?;
        let references = if descriptor.has(FLAG_TENSOR) {
            let Some(signature) = self.signature.lock().clone() else { return bad("CALL before any load") };
            let shape = signature.fast_shape(&signature.inputs, descriptor.rows)?;
            let offset = u64::from(descriptor.tensor_offset) * ALIGNMENT;
            let length = u64::from(descriptor.tensor_length);
            let Some(datatype) = Datatype::from_number(u32::from(descriptor.datatype)) else { return bad("datatype") };
            vec![Reference::check(&shm_reference((place.0, place.1, offset), length, datatype, &shape))?]
        } else {
            message.tensors.iter().map(Reference::check).collect::<Result<Vec<_>, _>>()?
        };
        // What the engine frees with this call: from the metadata to the end of the last tensor.
        let end = references.iter().filter_map(|r| r.place.map(|place| place.2 + r.length)).max().unwrap_or(place.2);
        let range =
            Range { segment: place.0, generation: place.1, offset: place.2, length: end.saturating_sub(place.2) };
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
        let owner = Arc::new(InputRange {
            end: Arc::downgrade(self),
            call: descriptor.call,
            range,
            state: AtomicU8::new(OPEN),
        });
        let mut inputs = Vec::with_capacity(references.len());
        for reference in references {
            let offset = reference.place.map_or(0, |place| place.2);
            let Some(slice) = Slice::new(Arc::clone(&mapping), offset, reference.length, Arc::clone(&owner)) else {
                return bad("a tensor outside of its segment");
            };
            let data = if copies { Bytes::copy_from_slice(slice.as_ref()) } else { Bytes::from_owner(slice) };
            inputs.push(Input { datatype: reference.datatype, shape: reference.shape, data });
        }
        Ok(self.claimed(descriptor, message.items, inputs, Some(owner)))
    }

    pub(super) fn claimed(
        &self,
        descriptor: &Descriptor,
        items: Vec<proto::Item>,
        inputs: Vec<Input>,
        range: Option<Arc<InputRange>>,
    ) -> CallFrame {
        let cancelled = Arc::clone(self.cancelled.lock().running.entry(descriptor.call).or_default());
        CallFrame {
            call: descriptor.call,
            instance: descriptor.instance,
            rows: descriptor.rows,
            items,
            inputs,
            cancelled,
            began: now(),
            deadline: descriptor.deadline,
            range,
        }
    }

    /// True if inputs are copied because too many are kept beyond their call.
    #[must_use]
    pub fn holds_too_much(&self) -> bool {
        self.held_bytes.load(Ordering::Relaxed) > MAX_HELD_BYTES
    }
}
