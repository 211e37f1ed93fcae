//! ModelInfer: frame, decode, call, encode.

use std::sync::Arc;

use samovar_core::clock::Nanos;
use samovar_core::error::{Code, Error};
use samovar_core::request::{InferRequest, InferResponse};

use super::DOOR;
use super::decode::Decoded;
use super::encode::encode;
use super::frame::{self, Frame};
use crate::data_plane::{BodyPermit, DataPlane};
use crate::door::body::BodyLimits;
use crate::door::call::Call;

/// Run one request; the answer in its frame.
pub(super) async fn infer(plane: &Arc<DataPlane>, call: &mut Call<'_>) -> Result<Frame, Error> {
    let mut permit = plane.body_permit();
    let mut decoded = Decoded::default();
    let prepared = prepare(plane, call, &mut permit, &mut decoded).await;
    let own_id: Option<Arc<str>> = decoded.id.take().map(Arc::from);
    if own_id.is_some() {
        call.line.request_id.clone_from(&own_id);
    }
    let (model, version) = (decoded.model.as_str(), decoded.version.as_deref());
    if !model.is_empty() {
        call.line.model = Some(model.to_owned());
        call.line.version = version.map(Arc::from).or_else(|| plane.chosen_version(model));
    }
    let options = match prepared {
        Ok(options) => options,
        Err(error) => {
            plane.refused(DOOR, model, version, error.code);
            return Err(error);
        }
    };
    let request = InferRequest {
        id: call.request_id(plane),
        model: decoded.model,
        version: decoded.version,
        parameters: decoded.parameters,
        inputs: decoded.inputs,
        outputs: decoded.outputs,
        timeout: options.timeout,
        queue_timeout: decoded.queue_timeout,
        idempotent: options.idempotent,
        trace: call.head.trace(),
        arrived: call.line.arrived,
        origin: None,
    };
    let (frame, version) = plane
        .infer(DOOR, request, async |response: InferResponse| {
            let version = Arc::clone(&response.version);
            Ok((encode(response, own_id.as_deref())?, version))
        })
        .await?;
    call.line.version = Some(version);
    Ok(frame)
}

/// What metadata says of a request.
struct Options {
    timeout: Option<Nanos>,
    idempotent: Option<bool>,
}

/// The message, read and decoded.
async fn prepare(
    plane: &Arc<DataPlane>,
    call: &mut Call<'_>,
    permit: &mut BodyPermit,
    decoded: &mut Decoded,
) -> Result<Options, Error> {
    let coding = call.head.message_coding()?;
    let timeout = [call.head.grpc_timeout()?, call.head.timeout()?].into_iter().flatten().min();
    let options = Options { timeout, idempotent: call.head.idempotent()? };
    let limits = BodyLimits::new(plane.config().max_body_bytes);
    let message = frame::read(call.body, coding, &limits, |bytes| permit.grow(bytes)).await?;
    call.line.bytes_in = message.len() as u64;
    decoded.read(&message, limits.max_bytes)?;
    permit.grow(decoded.decoded_bytes)?;
    if options.timeout == Some(0) {
        return Err(Error::new(Code::DeadlineExceeded, "the deadline had passed when the request came"));
    }
    Ok(options)
}
