//! What a door hands to the data plane, and what it gets back.

use std::sync::Arc;

use bytes::Bytes;

use crate::channel::proto;
use crate::clock::Nanos;
use crate::tensor::{NamedTensor, Tensor};

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
    /// Where it comes from, if a model or a service makes it.
    pub origin: Option<Origin>,
}

/// What a request of a model or a service takes over from the request that it is part of.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The models whose calls led here, the outermost first.
    pub path: Arc<[Arc<str>]>,
    /// It is part of an admitted request: it waits for a slot, but is not refused for want of room.
    pub is_admitted: bool,
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
    /// Other requests were answered by the same batch.
    pub has_company: bool,
}

/// The head of an HTTP request.
#[derive(Clone, Debug)]
pub struct HttpHead {
    /// Its method.
    pub method: String,
    /// The path as the client sent it, percent-encoded.
    pub path: String,
    /// What stands behind the question mark.
    pub query: String,
    /// Names in lower case, and values.
    pub headers: Vec<(Bytes, Bytes)>,
    /// `1.0`, `1.1` or `2`.
    pub version: &'static str,
    /// `http`.
    pub scheme: &'static str,
    /// Address and port of the client; empty on a Unix socket.
    pub client: String,
    /// The client wants another protocol on its connection.
    pub is_upgrade: bool,
}

/// An HTTP request for a service.
#[derive(Debug)]
pub struct HttpRequest {
    /// Name for logs and errors.
    pub id: Arc<str>,
    /// Method, path and headers.
    pub head: HttpHead,
    /// The body, as far as it has come.
    pub body: Bytes,
    /// That is all of it.
    pub is_whole: bool,
    /// The client's own limit in nanoseconds from `arrived`; `None` takes the default of the service.
    pub timeout: Option<Nanos>,
    /// May it run twice?
    pub idempotent: bool,
    /// W3C `traceparent`, passed on as it came.
    pub trace: Option<Arc<str>>,
    /// When its first byte was there.
    pub arrived: Nanos,
}

/// The head of an HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Its status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(Bytes, Bytes)>,
}

/// A piece of an answer; a unary answer is one.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    /// With the first piece of an HTTP response.
    pub head: Option<ResponseHead>,
    /// Outputs in the order of the signature; of an HTTP response the bytes of its body.
    pub tensors: Vec<Tensor>,
}

impl HttpHead {
    /// As a frame has it.
    #[must_use]
    pub fn to_proto(&self) -> proto::HttpRequest {
        proto::HttpRequest {
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self.headers.iter().map(|(name, value)| header(name, value)).collect(),
            version: self.version.to_owned(),
            scheme: self.scheme.to_owned(),
            client: self.client.clone(),
            is_upgrade: self.is_upgrade,
        }
    }
}

fn header(name: &Bytes, value: &Bytes) -> proto::Header {
    proto::Header { name: name.to_vec(), value: value.to_vec() }
}

impl ResponseHead {
    /// What a frame has; a status that none is becomes 0.
    #[must_use]
    pub fn from_proto(head: proto::HttpResponse) -> Self {
        let headers = head.headers.into_iter().map(|header| (header.name.into(), header.value.into())).collect();
        Self { status: u16::try_from(head.status).unwrap_or(0), headers }
    }
}
