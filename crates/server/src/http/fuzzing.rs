//! What must hold of an infer request's body for any bytes; `make fuzz` looks for bytes of which it does not.

use bytes::Bytes;
use samovar_core::request::Parameter;
use samovar_core::tensor::{Datatype, NamedTensor, TensorSpec};
use serde_json::{Value, json};

use super::binary::raw_input;
use super::json_decode::{Decoded, WantedOutput};
use super::records::Records;
use crate::data_plane::ModelMetadata;
use crate::fuzzing::{check_error, check_inputs, check_outputs, check_parameters};

/// Small enough to be met.
const LIMIT: u64 = 1_000;
/// The bytes are a body of JSON alone.
pub fn json_request(input: &[u8]) {
    let body = Bytes::copy_from_slice(input);
    let decoded = read(&body, body.len());
    check_in_parts(&body, decoded.as_ref());
    let Some(decoded) = decoded else { return };
    if let Some(records) = &decoded.records {
        check_records(records, input);
    }
    check_beside_serde(&decoded, input);
    check_sent_again(&decoded);
}

/// As rows of two tables, whose tensors have as many as there are records.
fn check_records(records: &Records, text: &[u8]) {
    let tensor = |name: &str, datatype, dims: &[i64]| TensorSpec {
        name: name.into(),
        datatype: Some(datatype),
        dims: Some(dims.to_vec()),
    };
    let table = |inputs, columns: &[&str]| ModelMetadata {
        name: "m".into(),
        versions: Vec::new(),
        platform: String::new(),
        inputs,
        outputs: Vec::new(),
        columns: columns.iter().map(ToString::to_string).collect(),
    };
    let matrix = table(vec![tensor("x", Datatype::Fp32, &[-1, 2])], &["a", "b"]);
    let apart = table(vec![tensor("a", Datatype::Bytes, &[-1]), tensor("b", Datatype::Int16, &[-1, 1])], &[]);
    for metadata in [matrix, apart] {
        match records.read(&metadata, LIMIT) {
            Ok(inputs) => {
                check_inputs(&inputs);
                assert_eq!(inputs.len(), metadata.inputs.len());
                let Ok(value) = serde_json::from_slice::<Value>(text) else { continue };
                let rows = value["records"].as_array().map_or(0, Vec::len) as u64;
                assert!(inputs.iter().all(|input| input.tensor.shape.first() == Some(&rows)));
            }
            Err(error) => check_error(&error),
        }
    }
}

/// A zero byte, which JSON cannot have, stands between the JSON and the blobs; if it is the first, the request is raw,
/// and the signature of its input follows.
pub fn binary_request(input: &[u8]) {
    let Some(place) = input.iter().position(|byte| *byte == 0) else { return };
    let (json, rest) = (&input[..place], &input[place + 1..]);
    if json.is_empty() {
        return raw_request(rest);
    }
    let body = Bytes::from([json, rest].concat());
    let Some(decoded) = read(&body, json.len()) else { return };
    let tensors: u64 = decoded.inputs.iter().map(|input| input.tensor.data.len() as u64).sum();
    assert_eq!(tensors - decoded.decoded_bytes, rest.len() as u64, "blobs that belong to nobody");
    check_sent_again(&decoded);
}

/// One byte each for datatype and rank, then one for each length, then the body.
fn raw_request(input: &[u8]) {
    let [datatype, rank, rest @ ..] = input else { return };
    let Some((dims, body)) = rest.split_at_checked(usize::from(rank % 5)) else { return };
    let dims: Vec<i64> = dims.iter().map(|dim| i64::from(*dim as i8)).collect();
    let datatype = Datatype::ALL[usize::from(*datatype) % Datatype::ALL.len()];
    let spec = TensorSpec { name: "x".into(), datatype: Some(datatype), dims: Some(dims.clone()) };
    match raw_input(&[spec], &Bytes::copy_from_slice(body)) {
        Ok(input) => {
            check_inputs(std::slice::from_ref(&input));
            assert_eq!(input.tensor.datatype, datatype);
            let fits = |(got, declared): (&u64, &i64)| *declared < 0 || *got == *declared as u64;
            assert!(input.tensor.shape.len() == dims.len() && input.tensor.shape.iter().zip(&dims).all(fits));
        }
        Err(error) => check_error(&error),
    }
}

/// Cut in three, the body says the same.
fn check_in_parts(body: &Bytes, whole: Option<&Decoded>) {
    let (first, second) = (body.len() / 3, body.len() * 2 / 3);
    let parts = [body.slice(..first), body.slice(first..second), body.slice(second..)];
    let mut decoded = Decoded::default();
    let is_read = decoded.read_parts(&parts, LIMIT).is_ok();
    assert_eq!(is_read, whole.is_some());
    if let Some(whole) = whole {
        let said = (&decoded.id, &decoded.inputs, &decoded.outputs, decoded.records.is_some());
        assert_eq!(said, (&whole.id, &whole.inputs, &whole.outputs, whole.records.is_some()));
    }
}

/// Decode, and check that the limits hold.
fn read(body: &Bytes, json_length: usize) -> Option<Decoded> {
    let mut decoded = Decoded::default();
    if let Err(error) = decoded.read(body, json_length, LIMIT) {
        check_error(&error);
        return None;
    }
    assert!(decoded.decoded_bytes <= LIMIT);
    check_inputs(&decoded.inputs);
    check_outputs(decoded.outputs.iter().map(|output| &*output.name));
    check_parameters(&decoded.parameters);
    Some(decoded)
}

/// Another reader of JSON takes the text too, and reads the same names, shapes and whole numbers.
fn check_beside_serde(decoded: &Decoded, text: &[u8]) {
    let value: Value = match serde_json::from_slice(text) {
        Ok(value) => value,
        // A number in a member that nobody reads; here such members are checked for syntax alone.
        Err(fault) if fault.to_string().starts_with("number out of range") => return,
        // Likewise half a surrogate pair in a string that nobody reads.
        Err(fault) if fault.to_string().contains("surrogate") || fault.to_string().contains("hex escape") => return,
        Err(fault) => panic!("taken, but serde_json says {fault}"),
    };
    let inputs = value["inputs"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!(inputs.len(), decoded.inputs.len());
    for (input, read) in inputs.iter().zip(&decoded.inputs) {
        assert_eq!(input["name"], json!(read.name));
        let axes: Option<Vec<u64>> = input["shape"].as_array().map(|axes| axes.iter().filter_map(whole).collect());
        assert_eq!(axes.as_ref(), Some(&read.tensor.shape));
        assert_eq!(input["datatype"], json!(read.tensor.datatype.name()));
        let mut elements = Vec::new();
        flatten(&input["data"], &mut elements);
        if let Some(bytes) = encode(&elements, read.tensor.datatype) {
            assert_eq!(bytes, read.tensor.data);
        }
    }
}

/// An axis; to serde_json `-0` is a number with a fraction.
fn whole(axis: &Value) -> Option<u64> {
    axis.as_u64().or_else(|| (axis.as_f64() == Some(0.0)).then_some(0))
}

fn flatten<'a>(value: &'a Value, elements: &mut Vec<&'a Value>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| flatten(value, elements)),
        Value::Null => {}
        other => elements.push(other),
    }
}

/// Little-endian bytes; `None` for floating point, which serde_json reads to the nearest but one.
fn encode(elements: &[&Value], datatype: Datatype) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for element in elements {
        match datatype {
            Datatype::Bytes => {
                let text = element.as_str()?;
                bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
            Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => return None,
            _ => {
                let whole = element.as_bool().map(i128::from).or_else(|| element.as_u64().map(i128::from));
                let whole = whole.or_else(|| element.as_i64().map(i128::from))?;
                bytes.extend_from_slice(&whole.to_le_bytes()[..datatype.size()?]);
            }
        }
    }
    Some(bytes)
}

/// The same request, written with blobs, is read as the same.
fn check_sent_again(decoded: &Decoded) {
    let input = |NamedTensor { name, tensor }: &NamedTensor| {
        let parameters = json!({"binary_data_size": tensor.data.len()});
        json!({"name": name, "datatype": tensor.datatype.name(), "shape": tensor.shape, "parameters": parameters})
    };
    let output = |wanted: &WantedOutput| json!({"name": wanted.name, "parameters": {"binary_data": wanted.binary}});
    let inputs: Vec<_> = decoded.inputs.iter().map(input).collect();
    let outputs: Vec<_> = decoded.outputs.iter().map(output).collect();
    let mut parameters: serde_json::Map<String, Value> =
        decoded.parameters.iter().map(|(name, value)| (name.clone(), parameter(value))).collect();
    parameters.insert("binary_data_output".into(), json!(decoded.binary_output));
    if let Some(timeout) = decoded.queue_timeout {
        parameters.insert("timeout".into(), json!(timeout.div_ceil(1_000)));
    }
    let request = json!({"id": decoded.id, "parameters": parameters, "inputs": inputs, "outputs": outputs});
    let mut body = serde_json::to_vec(&request).expect("a value without odd keys");
    let json_length = body.len();
    decoded.inputs.iter().for_each(|input| body.extend_from_slice(&input.tensor.data));
    let mut again = Decoded::default();
    again.read(&Bytes::from(body), json_length, LIMIT).expect("what was read can be read again");
    assert_eq!((&again.id, &again.inputs, &again.outputs), (&decoded.id, &decoded.inputs, &decoded.outputs));
    assert_eq!((again.binary_output, again.queue_timeout), (decoded.binary_output, decoded.queue_timeout));
    assert_eq!(again.decoded_bytes, 0);
    assert_eq!(again.parameters.len(), decoded.parameters.len());
}

fn parameter(value: &Parameter) -> Value {
    match value {
        Parameter::Bool(value) => json!(value),
        Parameter::Int(value) => json!(value),
        Parameter::Double(value) => json!(value),
        Parameter::String(value) => json!(value),
    }
}

#[cfg(test)]
mod tests {
    use crate::fuzzing::replay;

    #[test]
    fn what_fuzzing_kept_still_holds() {
        replay("json_request", super::json_request);
        replay("binary_request", super::binary_request);
    }
}
