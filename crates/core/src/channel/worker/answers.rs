//! The output side of a call: answer memory, END, and what the engine gives back.

use std::sync::Arc;

use bytes::Bytes;

use super::{CallFrame, Output, SharedMemory, WorkerEnd};
use crate::channel::arena::Range;
use crate::channel::frame::{
    Descriptor, FLAG_FAILED, FLAG_RELEASED, FLAG_TENSOR, Kind, MAX_END_METADATA_BYTES, inline_reference, shm_reference,
};
use crate::channel::segments::Mapping;
use crate::channel::shm::wake;
use crate::channel::socket::Outgoing;
use crate::channel::transport::{Message, Signature};
use crate::channel::{ALIGNMENT, RETAINED_BYTES, align, proto};
use crate::tensor::{Datatype, MAX_RANK, MAX_TENSOR_BYTES};

/// Why something could not be sent: the engine grants no memory for it.
#[derive(Clone, Copy, Debug)]
pub struct NoRoom;

impl WorkerEnd {
    /// Answer a call with its outputs, in the order of the signature. Where the engine grants no memory for them, the
    /// answer is that.
    pub fn finish(&self, mut call: CallFrame, outputs: &[Output<'_>]) {
        let mut descriptor = self.close(&mut call);
        match &self.shm {
            _ if outputs.iter().any(is_too_large) => {
                let text = format!("an output has at most {MAX_TENSOR_BYTES} bytes and {MAX_RANK} axes; return less");
                self.refuse_output(descriptor, text);
            }
            Some(shm) => {
                if self.finish_shm(shm, &mut descriptor, outputs).is_err() {
                    let bytes: usize = outputs.iter().map(|output| output.data.len()).sum();
                    let text =
                        format!("the engine grants no memory for outputs of {bytes} bytes; return less per call");
                    self.refuse_output(descriptor, text);
                }
            }
            None => self.send_inline(descriptor, Message::End(proto::End::default()), outputs),
        }
        drop(call);
    }

    /// Answer a call of a service with the head, unless a piece had it, and the rest of an HTTP response.
    pub fn respond(&self, mut call: CallFrame, http: Option<proto::HttpResponse>, body: &[u8]) {
        let descriptor = self.close(&mut call);
        let message = Message::End(proto::End { http, ..proto::End::default() });
        if self.send_with_tensors(descriptor, message, &of_body(body)).is_err() {
            let text = format!("the engine grants no memory for a body of {} bytes; send less at a time", body.len());
            self.refuse_output(descriptor, text);
        }
    }

    /// Send a piece of the answer to a call; false if there is no credit for one now.
    pub fn part(&self, call: &mut CallFrame, outputs: &[Output<'_>]) -> Result<bool, NoRoom> {
        self.send_part(call, None, outputs)
    }

    /// Send a piece of an HTTP response, as [`Self::part`].
    pub fn respond_part(
        &self,
        call: &mut CallFrame,
        http: Option<proto::HttpResponse>,
        body: &[u8],
    ) -> Result<bool, NoRoom> {
        self.send_part(call, http, &of_body(body))
    }

    fn send_part(
        &self,
        call: &mut CallFrame,
        http: Option<proto::HttpResponse>,
        outputs: &[Output<'_>],
    ) -> Result<bool, NoRoom> {
        if !call.state.spend() {
            return Ok(false);
        }
        let mut descriptor = Descriptor::new(Kind::Part, call.call);
        (descriptor.instance, descriptor.sequence) = (call.instance, call.parts);
        self.send_with_tensors(descriptor, Message::Part(proto::Part { http, ..proto::Part::default() }), outputs)?;
        call.parts += 1;
        Ok(true)
    }

    /// Answer a call with what went wrong.
    pub fn fail(&self, mut call: CallFrame, failure: proto::Failure) {
        let descriptor = self.close(&mut call);
        self.send_failure(descriptor, failure);
    }

    fn refuse_output(&self, descriptor: Descriptor, message: String) {
        let kind = proto::failure::Kind::Output as i32;
        self.send_failure(descriptor, proto::Failure { kind, message, ..proto::Failure::default() });
    }

    pub(super) fn send_failure(&self, mut descriptor: Descriptor, mut failure: proto::Failure) {
        descriptor.flags |= FLAG_FAILED;
        for text in [&mut failure.class_name, &mut failure.message, &mut failure.traceback] {
            text.truncate(text.floor_char_boundary(MAX_END_METADATA_BYTES as usize / 4));
        }
        let _ = self.send(&Outgoing::new(descriptor, &proto::End { failure: Some(failure), ..proto::End::default() }));
    }

    fn finish_shm(
        &self,
        shm: &SharedMemory,
        descriptor: &mut Descriptor,
        outputs: &[Output<'_>],
    ) -> Result<(), NoRoom> {
        if outputs.is_empty() {
            self.push(shm, descriptor, true);
            return Ok(());
        }
        let signature = self.signatures.lock().get(&descriptor.instance).cloned();
        let Some(rows) = signature.as_deref().and_then(|signature| fast_rows(signature, outputs)) else {
            return self.send_shm(shm, *descriptor, Message::End(proto::End::default()), outputs);
        };
        let (range, mapping) = self.allocate(align(outputs[0].data.len() as u64)).ok_or(NoRoom)?;
        if !mapping.write(range.offset, outputs[0].data) {
            return Err(NoRoom);
        }
        stand_in(descriptor, range, 1);
        descriptor.flags |= FLAG_TENSOR;
        descriptor.rows = rows;
        descriptor.tensor_offset = descriptor.offset;
        descriptor.tensor_length = outputs[0].data.len() as u32;
        descriptor.datatype = outputs[0].datatype as u8;
        self.push(shm, descriptor, true);
        Ok(())
    }

    /// Send a frame whose tensors stand in its metadata.
    pub(super) fn send_with_tensors(
        &self,
        descriptor: Descriptor,
        message: Message,
        outputs: &[Output<'_>],
    ) -> Result<(), NoRoom> {
        match &self.shm {
            _ if outputs.iter().any(is_too_large) => Err(NoRoom), // the engine would take it for a bad frame
            Some(shm) => self.send_shm(shm, descriptor, message, outputs),
            None => {
                self.send_inline(descriptor, message, outputs);
                Ok(())
            }
        }
    }

    fn send_inline(&self, mut descriptor: Descriptor, mut message: Message, outputs: &[Output<'_>]) {
        *message.tensors_mut() =
            outputs.iter().map(|o| inline_reference(o.data.len() as u64, o.datatype, &o.shape)).collect();
        descriptor.tensor_count = outputs.len() as u16;
        let mut frame = Outgoing::encoded(descriptor, message.encode());
        frame.tensors = outputs.iter().map(|output| Bytes::copy_from_slice(output.data)).collect();
        let _ = self.send(&frame);
    }

    fn send_shm(
        &self,
        shm: &SharedMemory,
        mut descriptor: Descriptor,
        mut message: Message,
        outputs: &[Output<'_>],
    ) -> Result<(), NoRoom> {
        let total: u64 = outputs.iter().map(|output| align(output.data.len() as u64)).sum();
        let bound = align(message.encoded_len() as u64 + references_bound(outputs));
        let (range, mapping) = self.allocate(bound + total).ok_or(NoRoom)?;
        let mut at = range.offset + bound;
        for output in outputs {
            let length = output.data.len() as u64;
            if !mapping.write(at, output.data) {
                return Err(NoRoom);
            }
            let place = (range.segment, range.generation, at);
            message.tensors_mut().push(shm_reference(place, length, output.datatype, &output.shape));
            at += align(length);
        }
        let metadata = message.encode();
        stand_in(&mut descriptor, range, outputs.len());
        descriptor.metadata_length = metadata.len() as u32;
        if !mapping.write(range.offset, &metadata) {
            return Err(NoRoom);
        }
        self.push(shm, &descriptor, true);
        Ok(())
    }

    /// Say what a descriptor alone says, and wake the engine.
    pub(super) fn say(&self, descriptor: &Descriptor) {
        match &self.shm {
            Some(shm) => self.push(shm, descriptor, true),
            None => {
                let _ = self.send(&Outgoing::bare(*descriptor));
            }
        }
    }

    /// Answer memory; asks the engine for more where there is none. `None` if it refuses.
    pub(super) fn allocate(&self, length: u64) -> Option<(Range, Arc<Mapping>)> {
        let mut segments = self.segments.lock();
        loop {
            if let Some(range) = segments.arena.allocate(length) {
                let mapping = Arc::clone(segments.answers.get(&range.segment)?);
                return Some((range, mapping));
            }
            drop(segments);
            let is_freed = self.hear_releases().unwrap_or(false); // of a broken ring the next look tells
            segments = self.segments.lock();
            if is_freed {
                continue;
            }
            let before = segments.said;
            let wish = proto::Segment { segment: 0, size: length, writable: true };
            self.send(&Outgoing::new(Descriptor::new(Kind::Segment, 0), &wish)).ok()?;
            segments.waiting += 1;
            while segments.said == before {
                self.granted.wait(&mut segments);
            }
            segments.waiting -= 1;
            if segments.said.refusals > before.refusals {
                return None;
            }
        }
    }

    /// Give idle answer memory back.
    pub(super) fn trim(&self) {
        let mut segments = self.segments.lock();
        if segments.waiting > 0 || segments.arena.used() > 0 || segments.arena.size() <= RETAINED_BYTES {
            return;
        }
        for segment in segments.arena.trim() {
            segments.answers.remove(&segment);
            let message = proto::Segment { segment, size: 0, writable: true };
            let _ = self.send(&Outgoing::new(Descriptor::new(Kind::Segment, 0), &message));
        }
    }

    pub(super) fn push(&self, shm: &SharedMemory, descriptor: &Descriptor, is_urgent: bool) {
        let mut producer = shm.producer.lock();
        if !matches!(producer.push(&descriptor.encode()), Ok(true)) {
            let _ = self.send(&Outgoing::bare(*descriptor));
        } else if is_urgent && producer.must_wake() {
            wake(&shm.answers);
        }
    }

    pub(super) fn not_started(&self, call: u64, instance: u32) {
        self.running.lock().remove(&call);
        let mut end = Descriptor::new(Kind::End, call);
        end.instance = instance;
        end.flags = FLAG_FAILED | FLAG_RELEASED;
        let failure = proto::Failure { kind: proto::failure::Kind::NotStarted as i32, ..proto::Failure::default() };
        let _ = self.send(&Outgoing::new(end, &proto::End { failure: Some(failure), ..proto::End::default() }));
    }

    /// Bytes of answer memory that the engine has not given back, as far as this end has heard.
    #[must_use]
    pub fn answer_bytes(&self) -> u64 {
        self.segments.lock().arena.used()
    }

    pub(super) fn answer_released(&self, descriptor: &Descriptor) {
        let offset = u64::from(descriptor.offset) * ALIGNMENT;
        self.segments.lock().arena.release(descriptor.segment, offset, descriptor.generation);
    }
}

fn is_too_large(output: &Output<'_>) -> bool {
    output.data.len() as u64 > MAX_TENSOR_BYTES || output.shape.len() > MAX_RANK
}

/// The rows of the one output, if they and the signature say its whole shape.
fn fast_rows(signature: &Signature, outputs: &[Output<'_>]) -> Option<u32> {
    let [output] = outputs else { return None };
    if !Signature::is_fast(&signature.outputs) || output.data.len() as u64 > MAX_TENSOR_BYTES {
        return None;
    }
    let rows = if signature.batch_axis { u32::try_from(*output.shape.first()?).ok()? } else { 1 };
    (signature.fast_shape(&signature.outputs, rows).ok()? == output.shape).then_some(rows)
}

/// A body as the one tensor of a frame; none for an empty one.
fn of_body(body: &[u8]) -> Vec<Output<'_>> {
    if body.is_empty() {
        return Vec::new();
    }
    vec![Output { datatype: Datatype::Uint8, shape: vec![body.len() as u64], data: body }]
}

/// Where a frame's range is, and how many tensors it has.
fn stand_in(descriptor: &mut Descriptor, range: Range, tensors: usize) {
    descriptor.segment = range.segment;
    descriptor.generation = range.generation;
    descriptor.offset = (range.offset / ALIGNMENT) as u32;
    descriptor.tensor_count = tensors as u16;
}

/// No reference takes more than 80 bytes beside its dims, and no dim more than 10.
fn references_bound(outputs: &[Output<'_>]) -> u64 {
    outputs.iter().map(|output| 80 + 10 * output.shape.len() as u64).sum()
}
