//! The reader of ModelInfer without its door.

use bytes::Bytes;
use samovar_core::error::Error;
use samovar_core::tensor::{MAX_TENSOR_BYTES, NamedTensor};

use super::decode::Decoded;

/// The inputs of a `ModelInferRequest`, without its frame.
pub fn decode_grpc(message: &Bytes) -> Result<Vec<NamedTensor>, Error> {
    let mut decoded = Decoded::default();
    decoded.read(message, MAX_TENSOR_BYTES)?;
    Ok(decoded.inputs)
}
