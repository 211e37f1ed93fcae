//! A frame's metadata and tensors in request memory: tensors are copied there, or lent from where another worker wrote
//! them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::{ShmTransport, State};
use crate::channel::arena::Range;
use crate::channel::exports::{self, Place};
use crate::channel::frame::{BadFrame, Descriptor, FLAG_TENSOR, Kind, bad, shm_reference};
use crate::channel::outbox::Outbox;
use crate::channel::proto;
use crate::channel::segments::Mapping;
use crate::channel::socket::Outgoing;
use crate::channel::transport::{Gather, Message, check_size};
use crate::channel::{ALIGNMENT, align};
use crate::tensor::MAX_TENSOR_BYTES;

/// What a frame holds until the worker no longer looks at it.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) range: Range,
    /// Tensors of other workers that the frame refers to.
    _loans: Vec<Bytes>,
}

/// Segments of other workers that this one may read, by where they start here.
#[derive(Debug, Default)]
pub(super) struct Foreign(HashMap<usize, (Weak<Mapping>, u32)>);

/// Where metadata and tensors of a frame go inside their range.
struct Layout {
    metadata_bytes: u64,
    /// Per tensor; `None` for one that is lent.
    offsets: Vec<Option<u64>>,
    total: u64,
}

impl Layout {
    /// The references' offsets are varints, so the message is measured with the longest there can be.
    fn new(message: &Message, tensors: &[Gather], lent: &[Option<(u32, u64)>]) -> Self {
        let metadata_bytes = message.encoded_len() as u64 + 10 * message.tensors().len() as u64;
        let mut at = align(metadata_bytes);
        let mut offsets = Vec::with_capacity(tensors.len());
        for (index, tensor) in tensors.iter().enumerate() {
            let is_lent = lent.get(index).is_some_and(Option::is_some);
            offsets.push((!is_lent).then_some(at));
            at += if is_lent { 0 } else { align(tensor.length()) };
        }
        Self { metadata_bytes, offsets, total: at }
    }
}

impl ShmTransport {
    /// Write a frame's metadata and tensors, and where they are into `descriptor`. With `is_fast` the one tensor stands
    /// in the descriptor.
    pub(super) fn write(
        &self,
        outbox: &Outbox,
        descriptor: &mut Descriptor,
        mut message: Message,
        (tensors, is_fast): (&[Gather], bool),
    ) -> Result<Lent, BadFrame> {
        let lent = self.lend_all(outbox, tensors);
        let is_fast = is_fast && lent.is_empty() && tensors[0].length() <= MAX_TENSOR_BYTES;
        if !is_fast {
            let unplaced = |tensor: &Gather| {
                shm_reference((u32::MAX, u32::MAX, 0), tensor.length(), tensor.datatype, &tensor.shape)
            };
            *message.tensors_mut() = tensors.iter().map(unplaced).collect();
        }
        let layout = Layout::new(&message, tensors, &lent);
        check_size(&message)?;
        let (range, mapping) = self.allocate(outbox, layout.total)?;
        for (index, (reference, offset)) in message.tensors_mut().iter_mut().zip(&layout.offsets).enumerate() {
            place(reference, range, lent.get(index).copied().flatten(), *offset);
        }
        let metadata = message.encode();
        debug_assert!(metadata.len() as u64 <= layout.metadata_bytes);
        if !(mapping.write(range.offset, &metadata) && copy(&mapping, range, tensors, &layout.offsets)) {
            return bad("a frame does not fit in its range");
        }
        descriptor.segment = range.segment;
        descriptor.generation = range.generation;
        descriptor.offset = (range.offset / ALIGNMENT) as u32;
        descriptor.metadata_length = metadata.len() as u32;
        descriptor.tensor_count = tensors.len() as u16;
        if let (true, [tensor], [Some(offset)]) = (is_fast, tensors, layout.offsets.as_slice()) {
            descriptor.flags |= FLAG_TENSOR;
            descriptor.tensor_offset = ((range.offset + offset) / ALIGNMENT) as u32;
            descriptor.tensor_length = tensor.length() as u32;
            descriptor.datatype = tensor.datatype as u8;
        }
        let is_lent = |(tensor, lent): (&Gather, &Option<_>)| lent.and_then(|_| tensor.pieces.first().cloned());
        Ok(Lent { range, _loans: tensors.iter().zip(&lent).filter_map(is_lent).collect() })
    }

    /// Where this worker can read tensors as they are; empty where each is to be copied.
    fn lend_all(&self, outbox: &Outbox, tensors: &[Gather]) -> Vec<Option<(u32, u64)>> {
        if tensors.iter().all(|tensor| tensor.length() < exports::MIN_BYTES as u64) {
            return Vec::new();
        }
        let lent: Vec<_> = tensors.iter().map(|tensor| self.lend(outbox, tensor)).collect();
        if lent.iter().all(Option::is_none) { Vec::new() } else { lent }
    }

    /// Segment and offset of a tensor that this worker can read where it is.
    fn lend(&self, outbox: &Outbox, tensor: &Gather) -> Option<(u32, u64)> {
        let [piece] = tensor.pieces.as_slice() else { return None };
        if piece.len() < exports::MIN_BYTES {
            return None;
        }
        let place = exports::find(piece)?;
        let segment = self.state.lock().grant_foreign(outbox, &place)?;
        Some((segment, place.offset))
    }
}

impl State {
    /// The number under which this worker knows another one's segment; granted if it does not yet.
    fn grant_foreign(&mut self, outbox: &Outbox, place: &Place) -> Option<u32> {
        let start = place.mapping.upgrade()?.address();
        if let Some((mapping, segment)) = self.foreign.0.get(&start)
            && mapping.ptr_eq(&place.mapping)
        {
            return Some(*segment);
        }
        self.withdraw_dead(outbox);
        let descriptor = place.descriptor.try_clone().ok()?;
        let segment = self.grant(outbox, descriptor, place.size, false);
        self.foreign.0.insert(start, (Weak::clone(&place.mapping), segment));
        Some(segment)
    }

    /// Let the worker unmap segments that are no more.
    pub(super) fn withdraw_dead(&mut self, outbox: &Outbox) {
        for (_, (_, segment)) in self.foreign.0.extract_if(|_, (mapping, _)| mapping.strong_count() == 0) {
            withdraw(outbox, segment);
        }
    }
}

/// Tell the worker that a segment is no longer used.
pub(super) fn withdraw(outbox: &Outbox, segment: u32) {
    let message = proto::Segment { segment, size: 0, writable: false };
    outbox.send(Outgoing::new(Descriptor::new(Kind::Segment, 0), &message));
}

fn place(reference: &mut proto::TensorRef, range: Range, lent: Option<(u32, u64)>, offset: Option<u64>) {
    let here = (range.segment, range.generation, range.offset + offset.unwrap_or(0));
    let (segment, generation, offset) = lent.map_or(here, |(segment, offset)| (segment, 0, offset));
    (reference.segment, reference.generation, reference.offset) = (segment, generation, offset);
}

fn copy(mapping: &Arc<Mapping>, range: Range, tensors: &[Gather], offsets: &[Option<u64>]) -> bool {
    let mut fits = true;
    for (tensor, offset) in tensors.iter().zip(offsets) {
        let Some(offset) = offset else { continue };
        let mut at = range.offset + offset;
        for piece in &tensor.pieces {
            fits &= mapping.write(at, piece);
            at += piece.len() as u64;
        }
    }
    fits
}
