//! What a way of sending frames has to do, and what it is given: the two transports implement it, the engine's end uses it.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::frame::{BadFrame, Descriptor, Kind, MAX_METADATA_BYTES, MAX_TENSORS, bad};
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
    /// Of a service: the method that takes the inputs; empty for a model.
    pub method: String,
    /// Of a service: the HTTP request whose body, as far as it has come, is the one input.
    pub http: Option<Box<proto::HttpRequest>>,
    /// The rest of that body follows.
    pub is_open: bool,
}

impl OutCall {
    /// Its metadata, without references; the items move there.
    pub(super) fn message(&mut self) -> proto::Call {
        proto::Call {
            items: std::mem::take(&mut self.items),
            tensors: Vec::new(),
            unstacked: false,
            method: std::mem::take(&mut self.method),
            http: self.http.take(),
            is_open: self.is_open,
            target: None,
        }
    }

    /// Its descriptor, without places.
    pub(super) fn descriptor(&self) -> Descriptor {
        let mut descriptor = Descriptor::new(Kind::Call, self.call);
        descriptor.instance = self.instance;
        descriptor.deadline = self.deadline;
        descriptor.rows = self.rows;
        descriptor
    }
}

/// The metadata of a frame that carries tensors.
#[derive(Debug)]
pub enum Message {
    /// Of CALL.
    Call(proto::Call),
    /// Of PART.
    Part(proto::Part),
    /// Of END.
    End(proto::End),
}

impl Message {
    /// Decode the metadata of a frame of this kind, which may come from anybody.
    pub fn decode(kind: Kind, bytes: &[u8]) -> Result<Self, BadFrame> {
        match kind {
            Kind::Call => decode(bytes).map(Self::Call),
            Kind::Part => decode(bytes).map(Self::Part),
            Kind::End => decode(bytes).map(Self::End),
            kind => bad(format!("{kind:?} carries no tensors")),
        }
    }

    /// Its references.
    #[must_use]
    pub fn tensors(&self) -> &[proto::TensorRef] {
        match self {
            Self::Call(call) => &call.tensors,
            Self::Part(part) => &part.tensors,
            Self::End(end) => &end.tensors,
        }
    }

    /// Its references, to be set.
    pub fn tensors_mut(&mut self) -> &mut Vec<proto::TensorRef> {
        match self {
            Self::Call(call) => &mut call.tensors,
            Self::Part(part) => &mut part.tensors,
            Self::End(end) => &mut end.tensors,
        }
    }

    /// Bytes that [`Self::encode`] makes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Call(call) => call.encoded_len(),
            Self::Part(part) => part.encoded_len(),
            Self::End(end) => end.encoded_len(),
        }
    }

    /// As protobuf.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Call(call) => call.encode_to_vec(),
            Self::Part(part) => part.encode_to_vec(),
            Self::End(end) => end.encode_to_vec(),
        }
    }
}

/// How calls reach the worker and their bytes come back.
pub trait Transport: Send + Sync + std::fmt::Debug {
    /// Send a call. An error means that the worker is going or gone; its death is handled where deaths are.
    fn send_call(&self, outbox: &Outbox, call: OutCall) -> Result<(), BadFrame>;
    /// Send a PART or END with its tensors.
    fn send(
        &self,
        outbox: &Outbox,
        descriptor: Descriptor,
        message: Message,
        tensors: &[Gather],
    ) -> Result<(), BadFrame>;
    /// Send a descriptor that says everything, and wake the worker for it.
    fn send_bare(&self, outbox: &Outbox, descriptor: &Descriptor);
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
    /// The metadata and tensors of a frame that stands in shared memory, as many as `limit`.
    fn fetch(
        self: Arc<Self>,
        outbox: &Outbox,
        descriptor: &Descriptor,
        signature: &Signature,
    ) -> Result<Fetched, BadFrame>;
}

/// What a frame with tensors carried.
#[derive(Debug)]
pub struct Fetched {
    /// The metadata.
    pub message: Message,
    /// Its tensors.
    pub tensors: Vec<Tensor>,
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

/// Tensors that a worker's frame of `kind` may carry, by the signature of what it runs.
pub(super) fn tensor_limit(kind: Kind, signature: &Signature) -> usize {
    if kind == Kind::Call { MAX_TENSORS } else { signature.outputs.len() }
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

/// Refuse a frame that the worker would take for a bad one.
pub(super) fn check_size(message: &Message) -> Result<(), BadFrame> {
    if let Some(tensor) = message.tensors().iter().find(|tensor| tensor.length > MAX_TENSOR_BYTES) {
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
pub fn decode<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, BadFrame> {
    M::decode(bytes).or_else(|error| bad(format!("metadata: {error}")))
}
