//! The transport that sends everything through the socket: for tests, and for systems without memfd.

use std::sync::Arc;

use super::frame::{BadFrame, Descriptor, bad, inline_reference};
use super::outbox::Outbox;
use super::proto;
use super::socket::Outgoing;
use super::transport::{Fetched, Gather, Message, OutCall, Signature, Transport, check_size};

/// Frames with inline tensors. A call counts as begun when it is sent: nothing tells how far the worker has read.
#[derive(Debug)]
pub struct InlineTransport;

impl Transport for InlineTransport {
    fn send_call(&self, outbox: &Outbox, mut call: OutCall) -> Result<(), BadFrame> {
        let message = Message::Call(call.message());
        self.send(outbox, call.descriptor(), message, &call.inputs)
    }

    fn send(
        &self,
        outbox: &Outbox,
        mut descriptor: Descriptor,
        mut message: Message,
        tensors: &[Gather],
    ) -> Result<(), BadFrame> {
        *message.tensors_mut() =
            tensors.iter().map(|tensor| inline_reference(tensor.length(), tensor.datatype, &tensor.shape)).collect();
        check_size(&message)?;
        descriptor.tensor_count = tensors.len() as u16;
        let pieces = tensors.iter().flat_map(|tensor| tensor.pieces.iter().cloned()).collect();
        outbox.send(Outgoing { tensors: pieces, ..Outgoing::encoded(descriptor, message.encode()) });
        Ok(())
    }

    fn send_bare(&self, outbox: &Outbox, descriptor: &Descriptor) {
        outbox.send(Outgoing::bare(*descriptor));
    }

    fn revoke(&self, _call: u64) -> bool {
        false
    }

    fn has_started(&self, _call: u64) -> bool {
        true
    }

    fn request_bytes(&self) -> u64 {
        0
    }

    fn ended(&self, _outbox: &Outbox, _call: u64, _is_released: bool) {}

    fn released(&self, _outbox: &Outbox, _descriptor: &Descriptor) -> Result<(), BadFrame> {
        bad("RELEASE on the inline transport")
    }

    fn segment(&self, _outbox: &Outbox, _wish: &proto::Segment) -> Result<(), BadFrame> {
        bad("SEGMENT on the inline transport")
    }

    fn fetch(
        self: Arc<Self>,
        _outbox: &Outbox,
        _descriptor: &Descriptor,
        _signature: &Signature,
    ) -> Result<Fetched, BadFrame> {
        bad("a frame in shared memory on the inline transport")
    }
}
