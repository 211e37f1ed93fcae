//! Tensors as an infer response: numbers straight into one buffer, blobs behind the JSON. Large ones are not copied.

use std::sync::Arc;

use bytes::Bytes;
use samovar_core::error::{Code, Error, echo};
use samovar_core::request::InferResponse;
use samovar_core::tensor::{Datatype, NamedTensor, Tensor};

use super::json_decode::WantedOutput;
use super::json_string::write_string;
use crate::connection::MIN_TENSOR;

/// How the client wants the outputs.
#[derive(Default)]
pub(super) struct Form {
    /// The client's own id, given back to it.
    pub(super) id: Option<Arc<str>>,
    /// Outputs asked for by name; empty: all.
    pub(super) outputs: Vec<WantedOutput>,
    /// Are outputs that were not asked for by name binary?
    pub(super) binary_output: bool,
}

impl Form {
    fn is_binary(&self, name: &str) -> bool {
        self.outputs.iter().find(|output| output.name == name).map_or(self.binary_output, |output| output.binary)
    }
}

/// A response body.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) body: Bytes,
    /// Blobs that follow `body`, from where the worker left them.
    pub(super) tensors: Vec<Bytes>,
    /// Length of the JSON if blobs follow it.
    pub(super) json_length: Option<usize>,
}

/// `response` as a body.
///
/// Errors with `invalid_request` for an output that JSON cannot carry, `bad_model_output` for a malformed BYTES tensor.
pub(super) fn encode(response: &InferResponse, form: &Form) -> Result<Encoded, Error> {
    let mut out = Vec::with_capacity(capacity(response, form));
    out.extend_from_slice(b"{\"model_name\":");
    write_string(&mut out, &response.model);
    out.extend_from_slice(b",\"model_version\":");
    write_string(&mut out, &response.version);
    if let Some(id) = &form.id {
        out.extend_from_slice(b",\"id\":");
        write_string(&mut out, id);
    }
    out.extend_from_slice(b",\"outputs\":[");
    let mut any_binary = false;
    for (number, output) in response.outputs.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        let binary = form.is_binary(&output.name);
        any_binary |= binary;
        write_output(&mut out, output, binary)?;
    }
    out.extend_from_slice(b"]}");
    let json_length = any_binary.then_some(out.len());
    let mut tensors = Vec::new();
    for output in response.outputs.iter().filter(|output| form.is_binary(&output.name)) {
        if tensors.is_empty() && output.tensor.data.len() < MIN_TENSOR {
            out.extend_from_slice(&output.tensor.data);
        } else {
            tensors.push(output.tensor.data.clone());
        }
    }
    Ok(Encoded { body: Bytes::from(out), tensors, json_length })
}

/// About how many characters of JSON `response` takes: 12 for a number.
pub(super) fn text_length(response: &InferResponse, form: &Form) -> usize {
    response
        .outputs
        .iter()
        .filter(|output| !form.is_binary(&output.name))
        .map(|output| characters(&output.tensor))
        .sum()
}

fn characters(tensor: &Tensor) -> usize {
    let bytes = tensor.data.len();
    match tensor.datatype {
        Datatype::Bytes => bytes + bytes / 8,
        datatype => bytes / datatype.size().unwrap_or(1) * if bytes == 1 { 5 } else { 12 },
    }
}

/// About the length of the body, so that the buffer seldom grows: exact for blobs that are copied.
fn capacity(response: &InferResponse, form: &Form) -> usize {
    let outputs = response.outputs.iter().map(|output| {
        let data = match output.tensor.data.len() {
            _ if !form.is_binary(&output.name) => characters(&output.tensor),
            length if length < MIN_TENSOR => length,
            _ => 0,
        };
        128 + output.name.len() + data
    });
    192 + form.id.as_ref().map_or(0, |id| id.len()) + outputs.sum::<usize>()
}

fn write_output(out: &mut Vec<u8>, output: &NamedTensor, binary: bool) -> Result<(), Error> {
    out.extend_from_slice(b"{\"name\":");
    write_string(out, &output.name);
    out.extend_from_slice(b",\"datatype\":\"");
    out.extend_from_slice(output.tensor.datatype.name().as_bytes());
    out.extend_from_slice(b"\",\"shape\":[");
    let mut number = itoa::Buffer::new();
    separated(out, output.tensor.shape.iter(), |out, length| {
        out.extend_from_slice(number.format(*length).as_bytes());
    });
    if binary {
        out.extend_from_slice(b"],\"parameters\":{\"binary_data_size\":");
        out.extend_from_slice(number.format(output.tensor.data.len()).as_bytes());
        out.extend_from_slice(b"}}");
        return Ok(());
    }
    out.extend_from_slice(b"],\"data\":[");
    write_data(out, output)?;
    out.extend_from_slice(b"]}");
    Ok(())
}

/// Write `items` with commas between them.
#[inline]
fn separated<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    let mut first = true;
    for item in items {
        if !first {
            out.push(b',');
        }
        first = false;
        write(out, item);
    }
}

macro_rules! write_numbers {
    ($out:expr, $data:expr, $number:ty, $write:expr) => {{
        const SIZE: usize = size_of::<$number>();
        let (numbers, _) = $data.as_chunks::<SIZE>();
        let mut write = $write;
        separated($out, numbers.iter(), |out, bytes| write(out, <$number>::from_le_bytes(*bytes)));
    }};
}

fn write_data(out: &mut Vec<u8>, output: &NamedTensor) -> Result<(), Error> {
    let data = &output.tensor.data[..];
    let mut integer = itoa::Buffer::new();
    let mut float = zmij::Buffer::new();
    macro_rules! integers {
        ($number:ty) => {
            write_numbers!(out, data, $number, |out: &mut Vec<u8>, value| {
                out.extend_from_slice(integer.format(value).as_bytes());
            })
        };
    }
    // f32 and f64 apart: the shortest text that reads back as the same f32 is shorter than that of its f64.
    macro_rules! floats {
        ($number:ty) => {
            write_numbers!(out, data, $number, |out: &mut Vec<u8>, value: $number| {
                let text = if value.is_finite() { float.format_finite(value) } else { "null" };
                out.extend_from_slice(text.as_bytes());
            })
        };
    }
    match output.tensor.datatype {
        Datatype::Bool => separated(out, data.iter(), |out, value| {
            out.extend_from_slice(if *value == 0 { b"false" } else { b"true" });
        }),
        Datatype::Uint8 => integers!(u8),
        Datatype::Uint16 => integers!(u16),
        Datatype::Uint32 => integers!(u32),
        Datatype::Uint64 => integers!(u64),
        Datatype::Int8 => integers!(i8),
        Datatype::Int16 => integers!(i16),
        Datatype::Int32 => integers!(i32),
        Datatype::Int64 => integers!(i64),
        Datatype::Fp32 => floats!(f32),
        Datatype::Fp64 => floats!(f64),
        Datatype::Bytes => write_strings(out, output)?,
        datatype @ (Datatype::Fp16 | Datatype::Bf16) => {
            return Err(not_json(&output.name, &format!("{} does not travel as JSON", datatype.name())));
        }
    }
    Ok(())
}

fn write_strings(out: &mut Vec<u8>, output: &NamedTensor) -> Result<(), Error> {
    let mut rest = &output.tensor.data[..];
    let mut first = true;
    while !rest.is_empty() {
        let element = rest
            .split_first_chunk::<4>()
            .and_then(|(length, tail)| tail.split_at_checked(u32::from_le_bytes(*length) as usize));
        let Some((element, tail)) = element else {
            let message = format!("output \"{}\": a length points behind the end of the data", echo(&output.name));
            return Err(Error::new(Code::BadModelOutput, message));
        };
        let text = std::str::from_utf8(element).map_err(|_| not_json(&output.name, "its bytes are not UTF-8"))?;
        if !first {
            out.push(b',');
        }
        first = false;
        write_string(out, text);
        rest = tail;
    }
    Ok(())
}

#[cold]
fn not_json(name: &str, why: &str) -> Error {
    let name = echo(name);
    let message = format!("output \"{name}\": {why}; ask for it with the output parameter `binary_data`: true");
    Error::new(Code::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::super::json_decode::Decoded;
    use super::*;
    use proptest::prelude::*;

    fn response(outputs: Vec<NamedTensor>) -> InferResponse {
        InferResponse { model: "m".into(), version: "1".into(), outputs, has_company: false }
    }

    fn tensor(datatype: Datatype, shape: &[u64], data: Vec<u8>) -> NamedTensor {
        NamedTensor { name: "y".into(), tensor: Tensor { datatype, shape: shape.to_vec(), data: data.into() } }
    }

    fn json(output: NamedTensor) -> Result<String, Error> {
        let form = Form::default();
        let encoded = encode(&response(vec![output]), &form)?;
        assert_eq!(encoded.json_length, None);
        Ok(String::from_utf8(encoded.body.to_vec()).unwrap())
    }

    #[test]
    fn a_response_has_its_members_in_order() {
        let encoded = encode(
            &response(vec![tensor(Datatype::Fp32, &[1, 2], [1.0_f32, 0.1].map(f32::to_le_bytes).concat())]),
            &Form { id: Some("a\"b".into()), ..Form::default() },
        );
        let wanted = r#"{"model_name":"m","model_version":"1","id":"a\"b","outputs":[{"name":"y","datatype":"FP32","shape":[1,2],"data":[1.0,0.1]}]}"#;
        assert_eq!(encoded.unwrap().body, wanted);
    }

    #[test]
    fn what_json_has_no_number_for_is_null() {
        let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0].map(f32::to_le_bytes).concat();
        assert!(json(tensor(Datatype::Fp32, &[4], values)).unwrap().contains("[null,null,null,-0.0]"));
        let values = [f64::NAN, 1e300].map(f64::to_le_bytes).concat();
        assert!(json(tensor(Datatype::Fp64, &[2], values)).unwrap().contains("[null,1e+300]"));
    }

    #[test]
    fn what_json_cannot_carry_names_the_binary_extension() {
        for output in [
            tensor(Datatype::Fp16, &[1], vec![0, 0]),
            tensor(Datatype::Bf16, &[1], vec![0, 0]),
            tensor(Datatype::Bytes, &[1], vec![1, 0, 0, 0, 0xff]),
        ] {
            let error = json(output).unwrap_err();
            assert_eq!(error.code, Code::InvalidRequest);
            assert!(error.message.contains("binary_data"), "{}", error.message);
        }
        let error = json(tensor(Datatype::Bytes, &[1], vec![9, 0, 0, 0])).unwrap_err();
        assert_eq!(error.code, Code::BadModelOutput);
    }

    #[test]
    fn strings_and_booleans_have_their_form() {
        assert!(
            json(tensor(Datatype::Bytes, &[2], b"\x02\0\0\0a\"\0\0\0\0".to_vec())).unwrap().contains(r#"["a\"",""]"#)
        );
        assert!(json(tensor(Datatype::Bool, &[2], vec![1, 0])).unwrap().contains("[true,false]"));
        assert!(json(tensor(Datatype::Fp32, &[0], vec![])).unwrap().contains("\"data\":[]"));
    }

    #[test]
    fn blobs_follow_in_the_order_of_the_outputs() {
        let mut outputs = vec![tensor(Datatype::Uint8, &[2], vec![1, 2]), tensor(Datatype::Fp16, &[1], vec![3, 4])];
        outputs[0].name = "a".into();
        outputs[1].name = "b".into();
        let wanted =
            vec![WantedOutput { name: "a".into(), binary: false }, WantedOutput { name: "b".into(), binary: true }];
        let encoded = encode(&response(outputs.clone()), &Form { id: None, outputs: wanted, binary_output: true });
        let encoded = encoded.unwrap();
        let (head, blobs) = encoded.body.split_at(encoded.json_length.unwrap());
        let head: serde_json::Value = serde_json::from_slice(head).unwrap();
        assert_eq!(head["outputs"][0]["data"], serde_json::json!([1, 2]));
        assert_eq!(head["outputs"][1]["parameters"]["binary_data_size"], 2);
        assert_eq!(blobs, [3, 4]);
        let all = encode(&response(outputs), &Form { binary_output: true, ..Form::default() }).unwrap();
        assert_eq!(all.body[all.json_length.unwrap()..], [1, 2, 3, 4]);
    }

    /// What an answer says, sent back as a request.
    fn round_trip(output: NamedTensor, binary: bool) -> NamedTensor {
        let form = Form { binary_output: binary, ..Form::default() };
        let encoded = encode(&response(vec![output]), &form).unwrap();
        let json_length = encoded.json_length.unwrap_or(encoded.body.len());
        let (head, blobs) = encoded.body.split_at(json_length);
        let head = std::str::from_utf8(head).unwrap().replace("\"outputs\"", "\"inputs\"");
        let body = Bytes::from([head.as_bytes(), blobs].concat());
        let mut decoded = Decoded::default();
        decoded.read(&body, head.len(), 1 << 20).unwrap();
        decoded.inputs.remove(0)
    }

    proptest! {
        #[test]
        fn every_datatype_comes_back(
            number in 0_usize..14, values in proptest::collection::vec(any::<u64>(), 0..20), binary in any::<bool>(),
        ) {
            let datatype = Datatype::ALL[number];
            prop_assume!(binary || !matches!(datatype, Datatype::Fp16 | Datatype::Bf16));
            let finite = |bits: u64| match datatype {
                Datatype::Bool => (bits & 1).to_le_bytes(),
                Datatype::Fp32 if !f32::from_bits(bits as u32).is_finite() => [0; 8],
                Datatype::Fp64 if !f64::from_bits(bits).is_finite() => [0; 8],
                _ => bits.to_le_bytes(),
            };
            let data = match datatype.size() {
                Some(size) => values.iter().flat_map(|bits| finite(*bits).into_iter().take(size)).collect(),
                None => values.iter().flat_map(|bits| {
                    let text = format!("{bits:x}\"é\n");
                    [(text.len() as u32).to_le_bytes().to_vec(), text.into_bytes()].concat()
                }).collect::<Vec<u8>>(),
            };
            let output = tensor(datatype, &[values.len() as u64], data);
            prop_assert_eq!(round_trip(output.clone(), binary), output);
        }
    }
}
