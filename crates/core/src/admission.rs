//! Checks a request against the signature of its version before anything of it is queued.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::clock::{NEVER, Nanos, nanos};
use crate::config::VersionSpec;
use crate::error::{Code, Error, echo, echo_shape};
use crate::pending::{Accepted, HttpCall};
use crate::request::{HttpRequest, InferRequest, Parameter, Parameters};
use crate::tensor::{
    Datatype, MAX_TENSOR_BYTES, NamedTensor, Tensor, TensorSpec, byte_size, count_bytes_elements, elements,
};

/// Names and values of one request's parameters together.
const MAX_PARAMETER_BYTES: usize = 64 << 10;

/// A request that fits its version.
#[derive(Debug)]
pub struct Admitted {
    /// For [`crate::pending::Pending`].
    pub accepted: Accepted,
    /// Requests with equal keys may share a call.
    pub batch_key: u64,
    /// Bytes of all inputs.
    pub bytes: u64,
    /// Never started after this moment.
    pub start_by: Nanos,
    /// May it run twice?
    pub idempotent: bool,
    /// It is part of an admitted request, and not refused for want of room.
    pub is_admitted: bool,
}

/// Check `request` against `spec`. Errors: `invalid_input`, `unknown_output`.
pub fn admit(spec: &Arc<VersionSpec>, request: InferRequest) -> Result<Admitted, Error> {
    check_outputs(spec, &request.outputs)?;
    check_parameters(spec, &request.parameters)?;
    let inputs = order_inputs(spec, request.inputs)?;
    let mut rows = None;
    let mut hasher = DefaultHasher::new();
    for (declared, tensor) in spec.inputs.iter().zip(&inputs) {
        let length = check_input(spec, declared, tensor)?;
        if spec.batch_axis {
            check_rows(spec, declared, &mut rows, length)?;
            tensor.shape[1..].hash(&mut hasher);
            tensor.datatype.hash(&mut hasher);
        }
    }
    let timeout = timeout(spec, request.timeout);
    let deadline = request.arrived.saturating_add(timeout);
    let queue_limit = request.queue_timeout.map_or(NEVER, |wait| request.arrived.saturating_add(wait));
    Ok(Admitted {
        batch_key: if spec.inputs.iter().all(TensorSpec::is_fixed) { 0 } else { hasher.finish() },
        bytes: inputs.iter().map(|tensor| tensor.data.len() as u64).sum(),
        start_by: deadline.min(queue_limit),
        idempotent: request.idempotent.unwrap_or(spec.options.idempotent),
        is_admitted: request.origin.as_ref().is_some_and(|origin| origin.is_admitted),
        accepted: Accepted {
            id: request.id,
            spec: Arc::clone(spec),
            origin: request.origin,
            method: String::new(),
            http: None,
            inputs,
            rows: rows.unwrap_or(1),
            parameters: request.parameters,
            outputs: request.outputs,
            trace: request.trace,
            deadline,
            timeout,
        },
    })
}

/// An HTTP request for the service of `spec`; what it holds is checked by the service.
#[must_use]
pub fn admit_http(spec: &Arc<VersionSpec>, request: HttpRequest) -> Admitted {
    let timeout = timeout(spec, request.timeout);
    let deadline = request.arrived.saturating_add(timeout);
    let bytes = request.body.len() as u64;
    let body = Tensor { datatype: Datatype::Uint8, shape: vec![bytes], data: request.body };
    Admitted {
        batch_key: 0,
        bytes,
        start_by: deadline,
        // What has come of an open body is gone with the worker that read it.
        idempotent: request.idempotent && request.is_whole,
        is_admitted: false,
        accepted: Accepted {
            id: request.id,
            spec: Arc::clone(spec),
            origin: None,
            method: String::new(),
            http: Some(Box::new(HttpCall { head: request.head.to_proto(), is_open: !request.is_whole })),
            inputs: if bytes == 0 { Vec::new() } else { vec![body] },
            rows: 1,
            parameters: Vec::new(),
            outputs: Vec::new(),
            trace: request.trace,
            deadline,
            timeout,
        },
    }
}

/// How long a request may take that asks for so much, or for nothing.
#[must_use]
pub fn timeout(spec: &VersionSpec, wanted: Option<Nanos>) -> Nanos {
    let limit = |seconds: f64| std::time::Duration::try_from_secs_f64(seconds).map_or(NEVER, nanos);
    let wanted = wanted.unwrap_or_else(|| limit(spec.options.request_timeout_s));
    spec.options.max_request_timeout_s.map_or(wanted, |most| wanted.min(limit(most)))
}

/// Parameters travel in the metadata of a call that many requests share, so none may fill it.
fn check_parameters(spec: &VersionSpec, parameters: &Parameters) -> Result<(), Error> {
    let length = |(name, value): &(String, Parameter)| match value {
        Parameter::String(text) => name.len() + text.len(),
        Parameter::Bool(_) | Parameter::Int(_) | Parameter::Double(_) => name.len(),
    };
    let bytes: usize = parameters.iter().map(length).sum();
    if bytes <= MAX_PARAMETER_BYTES {
        return Ok(());
    }
    let text = format!(
        "the parameters for model {:?} hold {bytes} bytes, at most {MAX_PARAMETER_BYTES}; send what is large as an input",
        spec.name
    );
    Err(Error::new(Code::InvalidRequest, text))
}

fn check_outputs(spec: &VersionSpec, wanted: &[String]) -> Result<(), Error> {
    match wanted.iter().find(|name| !spec.outputs.iter().any(|output| output.name == **name)) {
        Some(unknown) => Err(Error::new(
            Code::UnknownOutput,
            format!("model {:?} has no output {:?}; it has {}", spec.name, echo(unknown), names(&spec.outputs)),
        )),
        None => Ok(()),
    }
}

/// The inputs in the order of the signature, each exactly once.
fn order_inputs(spec: &VersionSpec, mut given: Vec<NamedTensor>) -> Result<Vec<Tensor>, Error> {
    let mut inputs = Vec::with_capacity(spec.inputs.len());
    for declared in &spec.inputs {
        let Some(place) = given.iter().position(|input| input.name == declared.name) else {
            let stranger = given.iter().find(|input| spec.inputs.iter().all(|known| known.name != input.name));
            let text = format!(
                "input {:?} of model {:?} is missing{}; its inputs are {}",
                declared.name,
                spec.name,
                stranger.map(|input| format!(", it has no {:?}", echo(&input.name))).unwrap_or_default(),
                names(&spec.inputs)
            );
            return Err(Error::new(Code::InvalidInput, text));
        };
        inputs.push(given.swap_remove(place).tensor);
    }
    match given.first() {
        Some(extra) => Err(Error::new(
            Code::InvalidInput,
            format!(
                "model {:?} has no input {:?}, or it is given twice; its inputs are {}",
                spec.name,
                echo(&extra.name),
                names(&spec.inputs)
            ),
        )),
        None => Ok(inputs),
    }
}

fn names(specs: &[TensorSpec]) -> String {
    specs.iter().map(|spec| format!("{:?}", spec.name)).collect::<Vec<_>>().join(", ")
}

/// Check datatype, shape and length of one input; the length along the batch axis.
fn check_input(spec: &VersionSpec, declared: &TensorSpec, tensor: &Tensor) -> Result<u64, Error> {
    let refuse = |fault: String, cure: String| {
        let text = format!("input {:?} of model {:?}: {fault}; {cure}", declared.name, spec.name);
        Err(Error::new(Code::InvalidInput, text))
    };
    if !declared.takes(tensor.datatype) {
        let (got, want) = (tensor.datatype.name(), declared.datatype_name());
        return refuse(format!("datatype {got}, wanted {want}"), format!("send it as {want}"));
    }
    let (axis, rest) = match tensor.shape.split_first() {
        Some((rows, rest)) if spec.batch_axis => (*rows, rest),
        None if spec.batch_axis => (0, [].as_slice()),
        _ => (1, tensor.shape.as_slice()),
    };
    if (spec.batch_axis && tensor.shape.is_empty()) || declared.misfit(rest).is_some() {
        let fault = format!("shape {} does not fit {}", echo_shape(&tensor.shape), describe(spec, declared));
        let dims = declared.shape();
        let wanted = dims.len() + usize::from(spec.batch_axis);
        let cure = match declared.misfit(rest) {
            Some(place) if place < rest.len() && rest.len() == dims.len() => {
                format!("axis {} must be {}", place + usize::from(spec.batch_axis), dims[place])
            }
            _ => format!("send {wanted} axes"),
        };
        return refuse(fault, cure);
    }
    let got = tensor.data.len() as u64;
    if got > MAX_TENSOR_BYTES {
        return refuse(format!("{got} bytes"), format!("a tensor has at most {MAX_TENSOR_BYTES}"));
    }
    let fits = match tensor.datatype.size() {
        Some(_) => byte_size(tensor.datatype, &tensor.shape) == Some(got),
        None => count_bytes_elements(&tensor.data) == elements(&tensor.shape),
    };
    if !fits {
        return refuse(
            format!("{got} bytes do not make shape {}", echo_shape(&tensor.shape)),
            "send as many elements as the shape says".into(),
        );
    }
    Ok(axis)
}

fn check_rows(spec: &VersionSpec, declared: &TensorSpec, rows: &mut Option<u64>, got: u64) -> Result<(), Error> {
    match *rows {
        None => *rows = Some(got),
        Some(first) if first == got => {}
        Some(first) => {
            let text = format!(
                "input {:?} of model {:?} has {got} rows, the inputs before it {first}; send equally many rows in all",
                declared.name, spec.name
            );
            return Err(Error::new(Code::InvalidInput, text));
        }
    }
    Ok(())
}

/// `[batch,3,24,-1]`
fn describe(spec: &VersionSpec, declared: &TensorSpec) -> String {
    let batch = spec.batch_axis.then(|| "batch".to_owned());
    let dims: Vec<_> = batch.into_iter().chain(declared.shape().iter().map(ToString::to_string)).collect();
    format!("[{}]", dims.join(","))
}
