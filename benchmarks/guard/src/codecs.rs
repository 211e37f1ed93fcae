//! Bodies to tensors and back, without a door around them.

use std::error::Error;
use std::hint::black_box;

use bytes::Bytes;
use prost::Message;
use samovar_core::request::InferResponse;
use samovar_server::guard;
use samovar_server::proto::inference::ModelInferRequest;
use samovar_server::proto::inference::model_infer_request::InferInputTensor;

use crate::data;

/// JSON of the echo benchmark.
pub(crate) fn decode_echo(rounds: u64) -> Result<(), Box<dyn Error>> {
    decode_json(&data::body(&data::echo()), rounds)
}

/// JSON of a picture.
pub(crate) fn decode_image(rounds: u64) -> Result<(), Box<dyn Error>> {
    decode_json(&data::body(&data::image()), rounds)
}

fn decode_json(body: &Bytes, rounds: u64) -> Result<(), Box<dyn Error>> {
    for _ in 0..rounds {
        black_box(guard::decode_json(black_box(body))?);
    }
    Ok(())
}

/// The answer of the echo benchmark.
pub(crate) fn encode_echo(rounds: u64) -> Result<(), Box<dyn Error>> {
    let outputs = vec![data::tensor("output", &data::echo())];
    let response = InferResponse { model: "echo".into(), version: "1".into(), outputs, has_company: false };
    for _ in 0..rounds {
        black_box(guard::encode_json(black_box(&response))?);
    }
    Ok(())
}

/// The message of the echo benchmark.
pub(crate) fn decode_grpc(rounds: u64) -> Result<(), Box<dyn Error>> {
    let (shape, values) = data::echo();
    let input = InferInputTensor {
        name: data::INPUT.into(),
        datatype: "FP32".into(),
        shape: shape.iter().map(|length| *length as i64).collect(),
        ..InferInputTensor::default()
    };
    let message = ModelInferRequest {
        model_name: "echo".into(),
        inputs: vec![input],
        raw_input_contents: vec![data::bytes(&values)],
        ..ModelInferRequest::default()
    };
    let message = Bytes::from(message.encode_to_vec());
    for _ in 0..rounds {
        black_box(guard::decode_grpc(black_box(&message))?);
    }
    Ok(())
}
