//! Outputs as a `ModelInferResponse` in its frame.

use bytes::Bytes;
use samovar_core::error::{Code, Error};
use samovar_core::request::InferResponse;

use super::frame::framed;
use crate::proto::inference::ModelInferResponse;
use crate::proto::inference::model_infer_response::InferOutputTensor;

/// `response` with the client's own `id`. The tensors are copied, once: the segment in which a worker left them is free
/// as soon as the answer is encoded, however slowly the client reads.
pub(super) fn encode(response: InferResponse, id: Option<&str>) -> Result<Bytes, Error> {
    let mut message = ModelInferResponse {
        model_name: response.model.to_string(),
        model_version: response.version.to_string(),
        id: id.unwrap_or_default().to_owned(),
        outputs: Vec::with_capacity(response.outputs.len()),
        raw_output_contents: Vec::with_capacity(response.outputs.len()),
        ..ModelInferResponse::default()
    };
    for output in response.outputs {
        let shape = output.tensor.shape.iter().map(|length| length.cast_signed()).collect();
        let datatype = output.tensor.datatype.name().to_owned();
        message.outputs.push(InferOutputTensor { name: output.name, datatype, shape, ..InferOutputTensor::default() });
        message.raw_output_contents.push(output.tensor.data);
    }
    framed(&message)
        .ok_or_else(|| Error::new(Code::BadModelOutput, "the outputs together are larger than the 4 GiB of a message"))
}
