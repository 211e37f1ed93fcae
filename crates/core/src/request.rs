//! What a door hands to the data plane, and what it gets back.

use std::sync::Arc;

use crate::clock::Nanos;
use crate::tensor::NamedTensor;

/// The value of a request parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// true or false
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Double(f64),
    /// Text.
    String(String),
}

/// Request parameters, in the order of the client.
pub type Parameters = Vec<(String, Parameter)>;

/// One inference request, decoded and still unchecked against the model's signature.
#[derive(Clone, Debug)]
pub struct InferRequest {
    /// Name for logs and errors: the client's id, or one made at the door.
    pub id: Arc<str>,
    /// Model name.
    pub model: String,
    /// Version name; `None` takes the version that new requests get.
    pub version: Option<String>,
    /// Parameters that the door did not consume.
    pub parameters: Parameters,
    /// Inputs in the client's order.
    pub inputs: Vec<NamedTensor>,
    /// Names of the outputs wanted, in this order; empty means all.
    pub outputs: Vec<String>,
    /// The client's own limit in nanoseconds from `arrived`; `None` takes the default of the model.
    pub timeout: Option<Nanos>,
    /// Longest wait in the queue (the OIP parameter `timeout`, there in microseconds); running is not affected.
    pub queue_timeout: Option<Nanos>,
    /// The client's word whether this request may run twice; `None` takes the model's.
    pub idempotent: Option<bool>,
    /// W3C `traceparent`, passed on as it came.
    pub trace: Option<Arc<str>>,
    /// When its first byte was there.
    pub arrived: Nanos,
}

/// The answer to an [`InferRequest`].
#[derive(Clone, Debug)]
pub struct InferResponse {
    /// Name of the model that ran.
    pub model: Arc<str>,
    /// Name of the version that ran.
    pub version: Arc<str>,
    /// Outputs in the order wanted.
    pub outputs: Vec<NamedTensor>,
}
