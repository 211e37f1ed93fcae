//! Outputs as a `ModelInferResponse` in its frame.

use samovar_core::error::{Code, Error};
use samovar_core::request::InferResponse;

use super::frame::{Frame, framed_with};
use crate::proto::inference::ModelInferResponse;
use crate::proto::inference::model_infer_response::InferOutputTensor;

/// The field of `ModelInferResponse` that has the tensors; no number is higher.
const RAW_OUTPUT_CONTENTS: u32 = 6;

/// `response` with the client's own `id`. Large tensors are not copied.
pub(super) fn encode(response: InferResponse, id: Option<&str>) -> Result<Frame, Error> {
    let mut message = ModelInferResponse {
        model_name: response.model.to_string(),
        model_version: response.version.to_string(),
        id: id.unwrap_or_default().to_owned(),
        outputs: Vec::with_capacity(response.outputs.len()),
        ..ModelInferResponse::default()
    };
    let mut tensors = Vec::with_capacity(response.outputs.len());
    for output in response.outputs {
        let shape = output.tensor.shape.iter().map(|length| length.cast_signed()).collect();
        let datatype = output.tensor.datatype.name().to_owned();
        message.outputs.push(InferOutputTensor { name: output.name, datatype, shape, ..InferOutputTensor::default() });
        tensors.push(output.tensor.data);
    }
    framed_with(&message, RAW_OUTPUT_CONTENTS, tensors)
        .ok_or_else(|| Error::new(Code::BadModelOutput, "the outputs together are larger than the 4 GiB of a message"))
}
