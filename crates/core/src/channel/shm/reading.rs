//! What a worker says through shared memory: metadata is copied before it is looked at, tensors stay where they are.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::ShmTransport;
use crate::channel::ALIGNMENT;
use crate::channel::frame::{
    BadFrame, Descriptor, FLAG_TENSOR, Kind, MAX_END_METADATA_BYTES, Reference, bad, shm_reference,
};
use crate::channel::outbox::Outbox;
use crate::channel::proto;
use crate::channel::segments::{Mapping, Slice};
use crate::channel::transport::{Fetched, Message, Signature, tensor_limit};
use crate::tensor::{Datatype, Tensor};

/// The range of a frame's tensors; the worker may use it again when this is dropped.
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

/// A range that is being read.
struct Reader {
    mapping: Arc<Mapping>,
    place: (u32, u32, u64),
    guard: Arc<AnswerRange>,
}

impl ShmTransport {
    /// The metadata and tensors of a worker's frame.
    pub(super) fn read(
        self: &Arc<Self>,
        outbox: &Outbox,
        descriptor: &Descriptor,
        signature: &Signature,
    ) -> Result<Fetched, BadFrame> {
        if descriptor.metadata_length == 0 && !descriptor.has(FLAG_TENSOR) {
            return Ok(Fetched { message: Message::decode(descriptor.kind, &[])?, tensors: Vec::new() });
        }
        if descriptor.metadata_length > MAX_END_METADATA_BYTES {
            return bad(format!("metadata of {} bytes, at most {MAX_END_METADATA_BYTES}", descriptor.metadata_length));
        }
        let place = (descriptor.segment, descriptor.generation, u64::from(descriptor.offset) * ALIGNMENT);
        let Some(mapping) =
            self.state.lock().answers.get(&descriptor.segment).map(|answer| Arc::clone(&answer.mapping))
        else {
            return bad(format!("segment {} was not granted for answers", descriptor.segment));
        };
        let guard = AnswerRange { transport: Arc::downgrade(self), outbox: outbox.clone(), place };
        let reader = Reader { mapping, place, guard: Arc::new(guard) };
        let message = reader.message(descriptor)?;
        let tensors = if descriptor.has(FLAG_TENSOR) {
            vec![reader.fast_tensor(descriptor, signature)?]
        } else {
            check_count(descriptor, message.tensors().len(), signature)?;
            message.tensors().iter().map(|tensor| reader.listed_tensor(tensor)).collect::<Result<_, _>>()?
        };
        Ok(Fetched { message, tensors })
    }
}

fn check_count(descriptor: &Descriptor, listed: usize, signature: &Signature) -> Result<(), BadFrame> {
    if listed == usize::from(descriptor.tensor_count) && listed <= tensor_limit(descriptor.kind, signature) {
        return Ok(());
    }
    bad(format!("{listed} tensors listed, {} announced", descriptor.tensor_count))
}

impl Reader {
    fn message(&self, descriptor: &Descriptor) -> Result<Message, BadFrame> {
        match self.mapping.read(self.place.2, u64::from(descriptor.metadata_length)).map(<[u8]>::to_vec) {
            Some(metadata) => Message::decode(descriptor.kind, &metadata),
            None => bad("metadata outside of its segment"),
        }
    }

    /// The tensor that stands in the descriptor; only an answer may have it there.
    fn fast_tensor(&self, descriptor: &Descriptor, signature: &Signature) -> Result<Tensor, BadFrame> {
        if descriptor.kind != Kind::End {
            return bad(format!("{:?} with a tensor in its descriptor", descriptor.kind));
        }
        let shape = signature.fast_shape(&signature.outputs, descriptor.rows)?;
        let Some(datatype) = Datatype::from_number(u32::from(descriptor.datatype)) else { return bad("datatype") };
        let offset = u64::from(descriptor.tensor_offset) * ALIGNMENT;
        let length = u64::from(descriptor.tensor_length);
        let reference = Reference::check(&shm_reference(self.place, length, datatype, &shape))?;
        self.tensor(reference, offset)
    }

    fn listed_tensor(&self, tensor: &proto::TensorRef) -> Result<Tensor, BadFrame> {
        let reference = Reference::check(tensor)?;
        match reference.place {
            Some((segment, generation, offset)) if (segment, generation) == (self.place.0, self.place.1) => {
                self.tensor(reference, offset)
            }
            _ => bad("a tensor outside of the range of its frame"),
        }
    }

    fn tensor(&self, reference: Reference, offset: u64) -> Result<Tensor, BadFrame> {
        let shared = self.slice(offset, reference.length)?;
        // The lengths inside a BYTES tensor are used later, so they are checked in a copy that nobody can change.
        let data = if reference.datatype == Datatype::Bytes { Bytes::copy_from_slice(&shared) } else { shared };
        reference.check_content(&data)?;
        Ok(Tensor { datatype: reference.datatype, shape: reference.shape, data })
    }

    /// A slice of the segment that gives its range back when the last tensor in it is dropped.
    fn slice(&self, offset: u64, length: u64) -> Result<Bytes, BadFrame> {
        match Slice::new(Arc::clone(&self.mapping), offset, length, Arc::clone(&self.guard)) {
            Some(slice) => Ok(Bytes::from_owner(slice)),
            None => bad(format!("a tensor of {length} bytes at {offset} lies outside of its segment")),
        }
    }
}
