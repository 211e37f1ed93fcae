//! What a way of sending frames has to do, and what it is given: the two transports implement it, the engine's end uses it.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::frame::{BadFrame, Descriptor, MAX_METADATA_BYTES, bad};
use super::outbox::Outbox;
use super::proto;
use crate::clock::Nanos;
use crate::tensor::{Datatype, MAX_TENSOR_BYTES, Tensor, TensorSpec};

/// One input of a call: the pieces of its items, to be stacked.
#[derive(Debug)]
pub struct Gather {
    /// Element type.
    pub datatype: Datatype,
    /// The whole shape, all rows.
    pub shape: Vec<u64>,
    /// Bytes in order; together they are the tensor.
    pub pieces: Vec<Bytes>,
}

impl Gather {
    /// Bytes of the whole tensor.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// A call to be sent.
#[derive(Debug)]
pub struct OutCall {
    /// Its number.
    pub call: u64,
    /// The instance that runs it.
    pub instance: u32,
    /// Never begin after this moment.
    pub deadline: Nanos,
    /// Rows along the batch axis.
    pub rows: u32,
    /// The requests in it, in order.
    pub items: Vec<proto::Item>,
    /// One per input, in the order of the signature.
    pub inputs: Vec<Gather>,
    /// True if `rows` and the signature say the whole shape of the one input.
    pub is_fast: bool,
}

/// How calls reach the worker and their bytes come back.
pub trait Transport: Send + Sync + std::fmt::Debug {
    /// Send a call. An error means that the worker is going or gone; its death is handled where deaths are.
    fn send_call(&self, outbox: &Outbox, call: OutCall) -> Result<(), BadFrame>;
    /// Take back a call that has not begun; false if it has.
    fn revoke(&self, call: u64) -> bool;
    /// Has this call begun? Unknown calls have.
    fn has_started(&self, call: u64) -> bool;
    /// Bytes of shared memory that calls, or inputs kept by the worker, use.
    fn request_bytes(&self) -> u64;
    /// An END came: its slot is free, and its input range too if the worker released it or has released it before.
    fn ended(&self, outbox: &Outbox, call: u64, is_released: bool);
    /// A RELEASE came.
    fn released(&self, outbox: &Outbox, descriptor: &Descriptor) -> Result<(), BadFrame>;
    /// The worker wants memory for answers, or gives some up.
    fn segment(&self, outbox: &Outbox, wish: &proto::Segment) -> Result<(), BadFrame>;
    /// The metadata and output tensors of an END that stands in shared memory.
    fn fetch(
        self: Arc<Self>,
        outbox: &Outbox,
        descriptor: &Descriptor,
        signature: &Signature,
    ) -> Result<Fetched, BadFrame>;
}

/// What an END carried.
#[derive(Debug)]
pub struct Fetched {
    /// The message.
    pub end: proto::End,
    /// Its tensors.
    pub outputs: Vec<Tensor>,
}

/// The part of a version's signature that the fast path leaves unsaid.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Inputs.
    pub inputs: Vec<TensorSpec>,
    /// Outputs.
    pub outputs: Vec<TensorSpec>,
    /// Is there a batch axis?
    pub batch_axis: bool,
}

impl Signature {
    /// True if `rows` says the whole shape of the one tensor in `specs`.
    #[must_use]
    pub fn is_fast(specs: &[TensorSpec]) -> bool {
        matches!(specs, [only] if only.is_fixed())
    }

    /// The shape of a fast-path tensor.
    pub fn fast_shape(&self, specs: &[TensorSpec], rows: u32) -> Result<Vec<u64>, BadFrame> {
        let [only] = specs else { return bad("a tensor in the descriptor needs a signature with one tensor") };
        if !only.is_fixed() {
            return bad("a tensor in the descriptor needs a signature with fixed lengths");
        }
        let axis = self.batch_axis.then_some(u64::from(rows));
        Ok(axis.into_iter().chain(only.shape().iter().map(|dim| *dim as u64)).collect())
    }
}

/// Refuse a call that the worker would take for a bad frame.
pub(super) fn check_size(message: &proto::Call) -> Result<(), BadFrame> {
    if let Some(tensor) = message.tensors.iter().find(|tensor| tensor.length > MAX_TENSOR_BYTES) {
        return bad(format!("a stacked tensor of {} bytes, at most {MAX_TENSOR_BYTES}", tensor.length));
    }
    match message.encoded_len() {
        length if length > MAX_METADATA_BYTES as usize => {
            bad(format!("metadata of {length} bytes, at most {MAX_METADATA_BYTES}"))
        }
        _ => Ok(()),
    }
}

/// Decode a message that may come from anybody.
pub fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, BadFrame> {
    M::decode(bytes).or_else(|error| bad(format!("metadata: {error}")))
}
