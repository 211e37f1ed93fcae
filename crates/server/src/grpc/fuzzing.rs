//! What must hold of a ModelInferRequest for any bytes; `make fuzz` looks for bytes of which it does not.

use bytes::Bytes;
use prost::Message;
use samovar_core::request::Parameter;
use samovar_core::tensor::Datatype;

use super::decode::Decoded;
use crate::fuzzing::{check_error, check_inputs, check_outputs, check_parameters};
use crate::proto::inference::infer_parameter::ParameterChoice;
use crate::proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::proto::inference::{InferParameter, ModelInferRequest};

/// Small enough to be met.
const LIMIT: u64 = 1_000;

/// The bytes are a message, without its frame.
pub fn grpc_request(input: &[u8]) {
    let mut decoded = Decoded::default();
    if let Err(error) = decoded.read(&Bytes::copy_from_slice(input), LIMIT) {
        return check_error(&error);
    }
    assert!(decoded.decoded_bytes <= LIMIT);
    check_inputs(&decoded.inputs);
    check_outputs(decoded.outputs.iter().map(String::as_str));
    check_parameters(&decoded.parameters);
    check_beside_prost(&decoded, input);
    check_sent_again(&decoded);
}

/// The generated reader, where it takes the bytes too, reads the same.
fn check_beside_prost(decoded: &Decoded, input: &[u8]) {
    // It also reads what we skip, and may refuse that.
    let Ok(message) = ModelInferRequest::decode(input) else { return };
    assert_eq!(message.model_name, decoded.model);
    assert_eq!(message.model_version, decoded.version.as_deref().unwrap_or_default());
    assert_eq!(message.id, decoded.id.as_deref().unwrap_or_default());
    assert_eq!(message.inputs.len(), decoded.inputs.len());
    for (index, (input, read)) in message.inputs.iter().zip(&decoded.inputs).enumerate() {
        assert_eq!((&input.name, input.datatype.as_str()), (&read.name, read.tensor.datatype.name()));
        assert!(input.shape.iter().map(|length| *length as u64).eq(read.tensor.shape.iter().copied()));
        match (message.raw_input_contents.get(index), &input.contents) {
            (Some(raw), _) => assert_eq!(raw, &read.tensor.data),
            (None, Some(contents)) if read.tensor.datatype == Datatype::Int32 => {
                let bytes: Vec<u8> = contents.int_contents.iter().flat_map(|value| value.to_le_bytes()).collect();
                assert_eq!(bytes, read.tensor.data);
            }
            (None, Some(contents)) if read.tensor.datatype == Datatype::Fp32 => {
                let bytes: Vec<u8> = contents.fp32_contents.iter().flat_map(|value| value.to_le_bytes()).collect();
                assert_eq!(bytes, read.tensor.data);
            }
            _ => {}
        }
    }
    assert!(message.outputs.iter().map(|output| &output.name).eq(&decoded.outputs));
}

/// The same request, written by prost with raw contents, is read as the same.
fn check_sent_again(decoded: &Decoded) {
    let input = |input: &samovar_core::tensor::NamedTensor| InferInputTensor {
        name: input.name.clone(),
        datatype: input.tensor.datatype.name().into(),
        shape: input.tensor.shape.iter().map(|length| *length as i64).collect(),
        ..InferInputTensor::default()
    };
    let output =
        |name: &String| InferRequestedOutputTensor { name: name.clone(), ..InferRequestedOutputTensor::default() };
    let timeout = decoded.queue_timeout.map(|timeout| Parameter::Int(timeout.div_ceil(1_000) as i64));
    let timeout = timeout.map(|value| ("timeout".to_owned(), value));
    let message = ModelInferRequest {
        model_name: decoded.model.clone(),
        model_version: decoded.version.clone().unwrap_or_default(),
        id: decoded.id.clone().unwrap_or_default(),
        parameters: decoded
            .parameters
            .iter()
            .chain(&timeout)
            .map(|(key, value)| (key.clone(), choice(value)))
            .collect(),
        inputs: decoded.inputs.iter().map(input).collect(),
        outputs: decoded.outputs.iter().map(output).collect(),
        raw_input_contents: decoded.inputs.iter().map(|input| input.tensor.data.clone()).collect(),
    };
    let mut again = Decoded::default();
    again.read(&Bytes::from(message.encode_to_vec()), 0).expect("what was read can be read again");
    assert_eq!((&again.model, &again.version, &again.id), (&decoded.model, &decoded.version, &decoded.id));
    assert_eq!((&again.inputs, &again.outputs), (&decoded.inputs, &decoded.outputs));
    assert_eq!((again.parameters.len(), again.queue_timeout), (decoded.parameters.len(), decoded.queue_timeout));
}

fn choice(value: &Parameter) -> InferParameter {
    let choice = match value {
        Parameter::Bool(value) => ParameterChoice::BoolParam(*value),
        Parameter::Int(value) => ParameterChoice::Int64Param(*value),
        Parameter::Double(value) => ParameterChoice::DoubleParam(*value),
        Parameter::String(value) => ParameterChoice::StringParam(value.clone()),
    };
    InferParameter { parameter_choice: Some(choice) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_fuzzing_kept_still_holds() {
        crate::fuzzing::replay("grpc_request", super::grpc_request);
    }
}
