//! `POST /v2/models/{m}[/versions/{v}]/infer`: decode, call, encode.

use std::sync::Arc;

use bytes::Bytes;
use samovar_core::clock::Nanos;
use samovar_core::error::Error;
use samovar_core::request::{InferRequest, InferResponse};

use super::binary;
use super::door_name;
use super::json_decode::Decoded;
use super::json_encode::{Form, encode, text_length};
use super::reply::Reply;
use super::routes::Target;
use crate::data_plane::{BodyPermit, DataPlane};
use crate::door::body::{self, BodyLimits};
use crate::door::call::Call;
use crate::door::invalid;

/// JSON of this length is read and written beside the threads that serve connections: at 1.5 bytes a nanosecond it would
/// hold up others for 40 us and more, while the way there and back costs 10 to 20 us.
const MIN_ASIDE_BYTES: usize = 64 << 10;

/// Run one request.
pub(super) async fn infer(plane: &Arc<DataPlane>, target: Target<'_>, call: &mut Call<'_>) -> Result<Reply, Error> {
    let door = door_name(call.asker);
    let mut permit = plane.body_permit();
    let prepared = match prepare(plane, &target, call, &mut permit).await {
        Ok(prepared) => prepared,
        Err(error) => {
            plane.refused(door, &target.model, target.version.as_deref(), error.code);
            return Err(error);
        }
    };
    let (request, form) = prepared;
    plane.infer(door, request, async |response| reply(plane, response, form).await).await
}

/// The answer, encoded.
async fn reply(plane: &DataPlane, response: InferResponse, form: Form) -> Result<Reply, Error> {
    let version = Arc::clone(&response.version);
    let encoded = if text_length(&response, &form) < MIN_ASIDE_BYTES {
        encode(&response, &form)?
    } else {
        plane.aside(move || encode(&response, &form)).await??
    };
    Ok(Reply::outputs(encoded, version))
}

/// The body, read and decoded.
async fn prepare(
    plane: &Arc<DataPlane>,
    target: &Target<'_>,
    call: &mut Call<'_>,
    permit: &mut BodyPermit,
) -> Result<(InferRequest, Form), Error> {
    let coding = call.head.check_content()?;
    let json_length = call.head.json_length()?;
    let options = Options { timeout: call.head.timeout()?, idempotent: call.head.idempotent()? };
    let limits = BodyLimits::new(plane.config().max_body_bytes);
    let bytes = body::read(call.body, coding, &limits, |bytes| permit.grow(bytes)).await?;
    call.line.bytes_in = bytes.len() as u64;
    let mut decoded = Decoded::default();
    let read = match json_length {
        Some(0) => raw(plane, target, &bytes, &mut decoded),
        _ => match split(&bytes, json_length) {
            Ok(length) if length < MIN_ASIDE_BYTES => decoded.read(&bytes, length, limits.max_bytes),
            Ok(length) => {
                let read;
                (decoded, read) = read_aside(plane, bytes, length, limits.max_bytes).await?;
                read
            }
            Err(error) => Err(error),
        },
    };
    let own_id: Option<Arc<str>> = decoded.id.take().map(Arc::from);
    if own_id.is_some() {
        call.line.request_id.clone_from(&own_id);
    }
    read?;
    permit.grow(decoded.decoded_bytes)?;
    let id = call.request_id(plane);
    Ok(request(target, call, decoded, options, (id, own_id)))
}

/// What a body with long JSON says, and whether it could be read to its end.
async fn read_aside(
    plane: &DataPlane,
    body: Bytes,
    json_length: usize,
    limit: u64,
) -> Result<(Decoded, Result<(), Error>), Error> {
    let read = move || {
        let mut decoded = Decoded::default();
        let read = decoded.read(&body, json_length, limit);
        (decoded, read)
    };
    plane.aside(read).await
}

/// What headers say of a request.
struct Options {
    timeout: Option<Nanos>,
    idempotent: Option<bool>,
}

fn request(
    target: &Target<'_>,
    call: &Call<'_>,
    decoded: Decoded,
    options: Options,
    (id, own_id): (Arc<str>, Option<Arc<str>>),
) -> (InferRequest, Form) {
    let request = InferRequest {
        id,
        model: target.model.clone().into_owned(),
        version: target.version.clone().map(|version| version.into_owned()),
        parameters: decoded.parameters,
        inputs: decoded.inputs,
        outputs: decoded.outputs.iter().map(|output| output.name.clone()).collect(),
        timeout: options.timeout,
        queue_timeout: decoded.queue_timeout,
        idempotent: options.idempotent,
        trace: call.head.trace(),
        arrived: call.line.arrived,
        origin: None,
    };
    (request, Form { id: own_id, outputs: decoded.outputs, binary_output: decoded.binary_output })
}

/// Where the JSON ends.
fn split(body: &Bytes, json_length: Option<usize>) -> Result<usize, Error> {
    match json_length {
        None => Ok(body.len()),
        Some(length) if length <= body.len() => Ok(length),
        Some(length) => Err(invalid(format!(
            "the header inference-header-content-length says {length}, but the body has {} bytes",
            body.len()
        ))),
    }
}

/// A raw request: no JSON, one input, all outputs binary.
fn raw(plane: &DataPlane, target: &Target<'_>, body: &Bytes, decoded: &mut Decoded) -> Result<(), Error> {
    let metadata = plane.metadata(&target.model, target.version.as_deref())?;
    plane.check_takes_tensors(&target.model)?;
    decoded.inputs = vec![binary::raw_input(&metadata.inputs, body)?];
    decoded.binary_output = true;
    Ok(())
}
