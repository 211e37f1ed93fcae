//! The transport that sends everything through the socket: for tests, and for systems without memfd.

use std::sync::Arc;

use super::frame::{BadFrame, Descriptor, Kind, bad, inline_reference};
use super::outbox::Outbox;
use super::proto;
use super::socket::Outgoing;
use super::transport::{Fetched, OutCall, Signature, Transport, check_size};

/// Frames with inline tensors. A call counts as begun when it is sent: nothing tells how far the worker has read.
#[derive(Debug)]
pub struct InlineTransport;

impl Transport for InlineTransport {
    fn send_call(&self, outbox: &Outbox, call: OutCall) -> Result<(), BadFrame> {
        let tensors =
            call.inputs.iter().map(|input| inline_reference(input.length(), input.datatype, &input.shape)).collect();
        let mut descriptor = Descriptor::new(Kind::Call, call.call);
        descriptor.instance = call.instance;
        descriptor.deadline = call.deadline;
        descriptor.rows = call.rows;
        descriptor.tensor_count = call.inputs.len() as u16;
        let message = proto::Call { items: call.items, tensors, unstacked: false };
        check_size(&message)?;
        let tensors = call.inputs.into_iter().flat_map(|input| input.pieces).collect();
        outbox.send(Outgoing { tensors, ..Outgoing::new(descriptor, &message) });
        Ok(())
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
        bad("a shared-memory END on the inline transport")
    }
}
