//! The codec of JSON without its door.

use bytes::Bytes;
use samovar_core::error::Error;
use samovar_core::request::InferResponse;
use samovar_core::tensor::{MAX_TENSOR_BYTES, NamedTensor};

use super::json_decode::Decoded;
use super::json_encode::{Form, encode};

/// The inputs of an infer request's body, JSON alone.
pub fn decode_json(body: &Bytes) -> Result<Vec<NamedTensor>, Error> {
    let mut decoded = Decoded::default();
    decoded.read(body, body.len(), MAX_TENSOR_BYTES)?;
    Ok(decoded.inputs)
}

/// The body of an answer, JSON alone.
pub fn encode_json(response: &InferResponse) -> Result<Bytes, Error> {
    Ok(encode(response, &Form::default())?.body)
}
