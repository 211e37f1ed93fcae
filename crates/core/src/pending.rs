//! A request on its way: checked inputs, the pieces of its answer, and the one that waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::channel::proto;
use crate::clock::Nanos;
use crate::config::VersionSpec;
use crate::error::{Code, Error};
use crate::outlet::Outlet;
use crate::request::{Origin, Parameter, Parameters, Piece};
use crate::statistics::Stages;
use crate::tensor::Tensor;

/// The end of a request: its outputs, or what is left of them behind the pieces; or why there are none.
pub type Answer = Result<Piece, Error>;

/// Answers one caller. [`Responder::finish`] has an effect exactly once, whoever comes first: the worker's END, the
/// deadline, or a death.
#[derive(Debug)]
pub struct Responder(Mutex<Option<oneshot::Sender<Answer>>>);

impl Responder {
    fn new() -> (Self, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Mutex::new(Some(sender))), receiver)
    }

    fn is_over(&self) -> bool {
        self.0.lock().as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Answer the caller; false if somebody has done so before, or the caller is gone.
    pub fn finish(&self, answer: Answer) -> bool {
        let sender = self.0.lock().take();
        sender.is_some_and(|sender| sender.send(answer).is_ok())
    }
}

/// A request that passed the checks of its version.
#[derive(Debug)]
pub struct Accepted {
    /// Id for logs and errors.
    pub id: Arc<str>,
    /// What it was checked against: the version that runs it, or a method of it.
    pub spec: Arc<VersionSpec>,
    /// Where it comes from, if a model or a service makes it.
    pub origin: Option<Origin>,
    /// Of a service: the method that takes the inputs; empty for a model.
    pub method: String,
    /// Of a service: the HTTP request, whose body, as far as it had come, is the one input.
    pub http: Option<Box<HttpCall>>,
    /// Inputs in the order of the signature.
    pub inputs: Vec<Tensor>,
    /// Rows along the batch axis; 1 where there is none.
    pub rows: u64,
    /// Parameters for the model.
    pub parameters: Parameters,
    /// Names of the outputs wanted; empty means all.
    pub outputs: Vec<String>,
    /// W3C traceparent.
    pub trace: Option<Arc<str>>,
    /// Answered by this moment; a stream has its first piece by then.
    pub deadline: Nanos,
    /// Longest silence of a stream.
    pub timeout: Nanos,
}

/// An HTTP request as a call carries it.
#[derive(Debug)]
pub struct HttpCall {
    /// Its head.
    pub head: proto::HttpRequest,
    /// The rest of its body follows.
    pub is_open: bool,
}

/// An accepted request on its way to its answer.
#[derive(Debug)]
pub struct Pending {
    /// What was accepted.
    pub accepted: Accepted,
    /// Where its pieces go, if its answer comes in pieces.
    pub outlet: Option<Outlet>,
    sent: AtomicU64,
    responder: Responder,
    parts: Mutex<Parts>,
}

#[derive(Debug)]
struct Parts {
    outputs: Vec<Option<Vec<Tensor>>>,
    missing: usize,
    stages: Stages,
    has_company: bool,
}

/// One item of a request: which rows of it, and where its outputs belong.
#[derive(Clone, Debug)]
pub struct Part {
    /// The request.
    pub pending: Arc<Pending>,
    /// Number of the part.
    pub index: usize,
    /// Its first row.
    pub first_row: u64,
}

impl Pending {
    /// A request that is answered when `parts` items are, with an `outlet` if its answer comes in pieces.
    #[must_use]
    pub fn new(accepted: Accepted, parts: usize, outlet: Option<Outlet>) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (responder, receiver) = Responder::new();
        let pending = Self {
            accepted,
            outlet,
            sent: AtomicU64::new(0),
            responder,
            parts: Mutex::new(Parts {
                outputs: (0..parts).map(|_| None).collect(),
                missing: parts,
                stages: Stages::default(),
                has_company: false,
            }),
        };
        (Arc::new(pending), receiver)
    }

    /// True if the caller has the answer, or is gone.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.responder.is_over()
    }

    /// Fail the whole request; false if it has its answer.
    pub fn fail(&self, error: Error) -> bool {
        self.responder.finish(Err(error))
    }

    /// The last piece of a stream is there, or the only one.
    pub fn end(&self, piece: Piece, stages: Stages) {
        self.parts.lock().stages = stages;
        self.responder.finish(Ok(piece));
    }

    /// The outputs of one part are there, after `stages`, and with those of other parts if it `has_company`; the last one
    /// answers the request.
    pub fn complete(&self, index: usize, outputs: Vec<Tensor>, (stages, has_company): (Stages, bool)) {
        let mut parts = self.parts.lock();
        let Some(place @ None) = parts.outputs.get_mut(index) else { return };
        *place = Some(outputs);
        parts.missing -= 1;
        parts.stages = parts.stages.max(stages);
        parts.has_company = has_company;
        if parts.missing == 0 {
            let pieces: Vec<_> = parts.outputs.iter_mut().filter_map(Option::take).collect();
            drop(parts);
            self.responder.finish(join(pieces).map(|tensors| Piece { head: None, tensors }));
        }
    }

    /// Did the batch that completed it answer other requests too?
    #[must_use]
    pub fn has_company(&self) -> bool {
        self.parts.lock().has_company
    }

    /// Where the time of the parts went that are complete.
    #[must_use]
    pub fn stages(&self) -> Stages {
        self.parts.lock().stages
    }

    /// Note that an item of the request has been sent.
    pub fn mark_sent(&self, moment: Nanos) {
        self.sent.store(moment, Ordering::Relaxed);
    }

    /// When its last item was sent to a worker; 0 before.
    #[must_use]
    pub fn sent(&self) -> Nanos {
        self.sent.load(Ordering::Relaxed)
    }

    /// This request as an entry of a call's item table.
    #[must_use]
    pub fn item(&self, rows: u32) -> proto::Item {
        proto::Item {
            id: self.accepted.id.to_string(),
            rows,
            deadline_ns: self.accepted.deadline,
            sequence_flags: 0,
            parameters: self.accepted.parameters.iter().map(|(name, value)| (name.clone(), parameter(value))).collect(),
            outputs: self.accepted.outputs.clone(),
            trace: self.accepted.trace.as_deref().unwrap_or_default().to_owned(),
        }
    }
}

fn parameter(value: &Parameter) -> proto::Parameter {
    use proto::parameter::Value;
    let value = match value {
        Parameter::Bool(value) => Value::BoolValue(*value),
        Parameter::Int(value) => Value::IntValue(*value),
        Parameter::Double(value) => Value::DoubleValue(*value),
        Parameter::String(value) => Value::StringValue(value.clone()),
    };
    proto::Parameter { value: Some(value) }
}

/// The outputs of all parts, rows behind rows. Errors: `bad_model_output` where they do not fit together.
pub fn join(mut pieces: Vec<Vec<Tensor>>) -> Result<Vec<Tensor>, Error> {
    if pieces.len() == 1 {
        return Ok(pieces.swap_remove(0));
    }
    let count = pieces.iter().map(Vec::len).min().unwrap_or(0);
    (0..count).map(|output| join_output(pieces.iter().map(|piece| &piece[output]))).collect()
}

fn join_output<'a>(mut pieces: impl Iterator<Item = &'a Tensor>) -> Result<Tensor, Error> {
    let Some(first) = pieces.next() else { return Err(Error::new(Code::Internal, "an answer without parts")) };
    let mut shape = first.shape.clone();
    let mut data = BytesMut::from(first.data.as_ref());
    for piece in pieces {
        let (Some(rows), [more, tail @ ..]) = (shape.first_mut(), piece.shape.as_slice()) else {
            return Err(Error::new(Code::BadModelOutput, "an output without a batch axis cannot be joined"));
        };
        *rows += more;
        if shape[1..] != *tail {
            let text = format!(
                "the request was split into several calls whose outputs have unlike shapes: {shape:?} and {:?}; \
                 send at most max_batch_size rows",
                piece.shape
            );
            return Err(Error::new(Code::BadModelOutput, text));
        }
        data.extend_from_slice(&piece.data);
    }
    Ok(Tensor { datatype: first.datatype, shape, data: data.freeze() })
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::tensor::Datatype;

    /// A request that holds nothing.
    pub(crate) fn accepted() -> Accepted {
        Accepted {
            id: "r".into(),
            spec: Arc::new(VersionSpec::undescribed("m".into(), "1".into())),
            origin: None,
            method: String::new(),
            http: None,
            inputs: Vec::new(),
            rows: 3,
            parameters: Vec::new(),
            outputs: Vec::new(),
            trace: None,
            deadline: 9,
            timeout: 9,
        }
    }

    fn tensor(bytes: &'static [u8]) -> Vec<Tensor> {
        vec![Tensor { datatype: Datatype::Uint8, shape: vec![bytes.len() as u64], data: Bytes::from_static(bytes) }]
    }

    #[test]
    fn parts_are_joined_in_order_whenever_they_come() {
        let (pending, mut receiver) = Pending::new(accepted(), 2, None);
        let stages = |queue, compute| Stages { queue, compute, ..Stages::default() };
        pending.complete(1, tensor(b"c"), (stages(5, 1), true));
        pending.complete(1, tensor(b"x"), (stages(9, 9), true));
        assert!(receiver.try_recv().is_err());
        pending.complete(0, tensor(b"ab"), (stages(2, 3), false));
        assert_eq!((pending.stages(), pending.has_company()), (stages(5, 3), false));
        let outputs = receiver.try_recv().unwrap().unwrap().tensors;
        assert_eq!((outputs[0].shape.as_slice(), outputs[0].data.as_ref()), ([3].as_slice(), b"abc".as_slice()));
    }

    #[test]
    fn the_first_end_wins() {
        let (pending, mut receiver) = Pending::new(accepted(), 1, None);
        assert!(pending.fail(Error::new(Code::DeadlineExceeded, "late")));
        pending.complete(0, tensor(b"a"), (Stages::default(), false));
        assert!(!pending.fail(Error::new(Code::Internal, "again")));
        assert_eq!(receiver.try_recv().unwrap().unwrap_err().code, Code::DeadlineExceeded);
    }
}
