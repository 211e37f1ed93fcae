//! `POST /v2/models/{m}[/versions/{v}]/infer`: decode, call, encode.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body;
use samovar_core::clock::{NEVER, Nanos};
use samovar_core::error::Error;
use samovar_core::request::{InferRequest, InferResponse};

use super::binary;
use super::door_name;
use super::json_decode::Decoded;
use super::json_encode::{Form, encode, text_length};
use super::records::Records;
use super::reply::Reply;
use super::routes::Target;
use crate::data_plane::{BodyPermit, DataPlane};
use crate::door::body::{self, BodyLimits};
use crate::door::call::Call;
use crate::door::invalid;
use crate::inflate::Coding;

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

/// The answer, encoded: one that is there is not late any more.
async fn reply(plane: &DataPlane, response: InferResponse, form: Form) -> Result<Reply, Error> {
    let (version, has_company) = (Arc::clone(&response.version), response.has_company);
    let encoded = if text_length(&response, &form) < MIN_ASIDE_BYTES {
        encode(&response, &form)?
    } else {
        plane.aside(NEVER, move || encode(&response, &form)).await??
    };
    Ok(Reply::outputs(encoded, version).in_company(has_company))
}

/// The body, read and decoded.
async fn prepare(
    plane: &Arc<DataPlane>,
    target: &Target<'_>,
    call: &mut Call<'_>,
    permit: &mut BodyPermit,
) -> Result<(InferRequest, Form), Error> {
    let options = Options {
        coding: call.head.check_content()?,
        json_length: call.head.json_length()?,
        timeout: call.head.timeout()?,
        idempotent: call.head.idempotent()?,
    };
    let (mut decoded, read) = read(plane, target, call, permit, &options).await?;
    let own_id: Option<Arc<str>> = decoded.id.take().map(Arc::from);
    if own_id.is_some() {
        call.line.request_id.clone_from(&own_id);
    }
    read?;
    if let Some(records) = decoded.records.take() {
        let deadline = plane.deadline(&target.model, target.version.as_deref(), call.line.arrived, options.timeout);
        read_records(plane, target, records, deadline, &mut decoded).await?;
    }
    permit.grow(decoded.decoded_bytes)?;
    let id = call.request_id(plane);
    Ok(request(target, call, decoded, options, (id, own_id)))
}

/// What the body says, as far as it could be read, and whether that is to its end.
async fn read(
    plane: &Arc<DataPlane>,
    target: &Target<'_>,
    call: &mut Call<'_>,
    permit: &mut BodyPermit,
    options: &Options,
) -> Result<(Decoded, Result<(), Error>), Error> {
    let (coding, json_length) = (options.coding, options.json_length);
    let arrived = call.line.arrived;
    let deadline = || plane.deadline(&target.model, target.version.as_deref(), arrived, options.timeout);
    let limits = BodyLimits::new(plane.config().max_body_bytes);
    let limit = limits.max_bytes;
    let grow = |bytes| permit.grow(bytes);
    let is_long = call.body.size_hint().exact().is_some_and(|length| length >= MIN_ASIDE_BYTES as u64);
    if is_long && coding.is_none() && json_length.is_none() {
        let parts = body::read_parts(call.body, &limits, grow).await?;
        call.line.bytes_in = parts.iter().map(|part| part.len() as u64).sum();
        return plane.aside(deadline(), move || decode(|decoded| decoded.read_parts(&parts, limit))).await;
    }
    let bytes = body::read(call.body, coding, &limits, grow).await?;
    call.line.bytes_in = bytes.len() as u64;
    if json_length == Some(0) {
        return Ok(decode(|decoded| raw(plane, target, &bytes, decoded)));
    }
    match split(&bytes, json_length) {
        Ok(length) if length < MIN_ASIDE_BYTES => Ok(decode(|decoded| decoded.read(&bytes, length, limit))),
        Ok(length) => plane.aside(deadline(), move || decode(|decoded| decoded.read(&bytes, length, limit))).await,
        Err(error) => Err(error),
    }
}

/// Inputs by the model's signature, of the rows that were sent in place of them.
async fn read_records(
    plane: &Arc<DataPlane>,
    target: &Target<'_>,
    records: Records,
    deadline: Nanos,
    decoded: &mut Decoded,
) -> Result<(), Error> {
    let metadata = plane.metadata(&target.model, target.version.as_deref())?;
    plane.check_takes_tensors(&target.model)?;
    let limit = BodyLimits::new(plane.config().max_body_bytes).max_bytes;
    decoded.inputs = if records.body.len() < MIN_ASIDE_BYTES {
        records.read(&metadata, limit)?
    } else {
        plane.aside(deadline, move || records.read(&metadata, limit)).await??
    };
    decoded.decoded_bytes += decoded.inputs.iter().map(|input| input.tensor.data.len() as u64).sum::<u64>();
    Ok(())
}

fn decode(read: impl FnOnce(&mut Decoded) -> Result<(), Error>) -> (Decoded, Result<(), Error>) {
    let mut decoded = Decoded::default();
    let read = read(&mut decoded);
    (decoded, read)
}

/// What headers say of a request.
struct Options {
    coding: Option<Coding>,
    json_length: Option<usize>,
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
