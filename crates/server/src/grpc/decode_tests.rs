//! Held against the encoder that prost generates.

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;
use samovar_core::error::Code;
use samovar_core::tensor::Datatype;

use super::*;
use crate::proto::inference::infer_parameter::ParameterChoice;
use crate::proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::proto::inference::{InferParameter, InferTensorContents, ModelInferRequest};

fn read(message: &ModelInferRequest) -> Result<Decoded, Error> {
    read_bytes(message.encode_to_vec(), 1 << 20)
}

fn read_bytes(message: Vec<u8>, limit: u64) -> Result<Decoded, Error> {
    let mut decoded = Decoded::default();
    decoded.read(&Bytes::from(message), limit)?;
    Ok(decoded)
}

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    }
}

fn request(inputs: Vec<InferInputTensor>, raw: &[&'static [u8]]) -> ModelInferRequest {
    let raw_input_contents = raw.iter().map(|raw| Bytes::from_static(raw)).collect();
    ModelInferRequest { model_name: "m".into(), inputs, raw_input_contents, ..ModelInferRequest::default() }
}

fn with_contents(datatype: &str, shape: &[i64], contents: InferTensorContents) -> ModelInferRequest {
    request(vec![InferInputTensor { contents: Some(contents), ..input("x", datatype, shape) }], &[])
}

fn fault(message: &ModelInferRequest) -> String {
    let error = read(message).unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest, "{error}");
    error.message
}

fn choice(choice: ParameterChoice) -> InferParameter {
    InferParameter { parameter_choice: Some(choice) }
}

#[test]
fn raw_tensors_are_slices_of_the_message() {
    let message = request(vec![input("a", "FP16", &[2]), input("b", "BYTES", &[1])], &[b"abcd", b"\x01\0\0\0z"]);
    let bytes = Bytes::from(message.encode_to_vec());
    let mut decoded = Decoded::default();
    decoded.read(&bytes, 0).unwrap();
    let [a, b] = &decoded.inputs[..] else { panic!("two inputs") };
    assert!(bytes.as_ptr_range().contains(&a.tensor.data.as_ptr()));
    assert_eq!((&a.tensor.data[..], a.tensor.datatype), (&b"abcd"[..], Datatype::Fp16));
    assert_eq!((&b.tensor.data[..], b.name.as_str()), (&b"\x01\0\0\0z"[..], "b"));
    assert_eq!(decoded.decoded_bytes, 0);
}

#[test]
fn packed_floats_stay_where_they_are() {
    let contents = InferTensorContents { fp32_contents: vec![1.5, -2.0], ..Default::default() };
    let decoded = read(&with_contents("FP32", &[2, 1], contents)).unwrap();
    assert_eq!(&decoded.inputs[0].tensor.data[..], [1.5_f32.to_le_bytes(), (-2.0_f32).to_le_bytes()].concat());
    assert_eq!(decoded.decoded_bytes, 0);
}

#[test]
fn everything_else_of_a_request_is_read() {
    let outputs = vec![InferRequestedOutputTensor { name: "o".into(), parameters: BTreeMap::new() }];
    let parameters = BTreeMap::from([
        ("b".to_owned(), choice(ParameterChoice::BoolParam(false))),
        ("d".to_owned(), choice(ParameterChoice::DoubleParam(0.5))),
        ("i".to_owned(), choice(ParameterChoice::Int64Param(-3))),
        ("s".to_owned(), choice(ParameterChoice::StringParam("text".into()))),
        ("timeout".to_owned(), choice(ParameterChoice::Int64Param(5))),
        ("u".to_owned(), choice(ParameterChoice::Uint64Param(7))),
    ]);
    let message = ModelInferRequest {
        model_version: "2".into(),
        id: "id".into(),
        parameters,
        outputs,
        ..request(vec![input("x", "FP32", &[0])], &[])
    };
    let decoded = read(&message).unwrap();
    assert_eq!(
        (decoded.model.as_str(), decoded.version.as_deref(), decoded.id.as_deref()),
        ("m", Some("2"), Some("id"))
    );
    assert_eq!((decoded.queue_timeout, &decoded.outputs[..]), (Some(5_000), &["o".to_owned()][..]));
    let wanted = [
        ("b", Parameter::Bool(false)),
        ("d", Parameter::Double(0.5)),
        ("i", Parameter::Int(-3)),
        ("s", Parameter::String("text".into())),
        ("u", Parameter::Int(7)),
    ];
    assert_eq!(decoded.parameters, wanted.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn wrong_tensors_say_what_is_wrong() {
    let contents = |ints: Vec<i32>| InferTensorContents { int_contents: ints, ..Default::default() };
    for (message, text) in [
        (with_contents("INT8", &[1], contents(vec![128])), "input \"x\": `128` does not fit INT8"),
        (with_contents("INT16", &[1], contents(vec![-32_769])), "`-32769` does not fit INT16"),
        (with_contents("INT32", &[3], contents(vec![1, 2])), "data has 2 elements, its shape wants 3"),
        (with_contents("INT32", &[1], contents(vec![1, 2])), "more elements than its shape wants (1)"),
        (with_contents("FP32", &[1], contents(vec![1])), "its contents are int_contents; FP32 wants fp32_contents"),
        (with_contents("FP16", &[1], contents(vec![1])), "FP16 has no typed contents; send it in raw_input_contents"),
        (with_contents("INT32", &[i64::MAX, 3], contents(vec![1])), "more elements than 64 bits count"),
        (request(vec![input("x", "FP32", &[-1])], &[b"abcd"]), "input \"x\": `-1` does not fit a length in `shape`"),
        (request(vec![input("x", "FP32", &[1; 17])], &[b"abcd"]), "more than 16 axes"),
        (request(vec![input("x", "FP33", &[1])], &[b"abcd"]), "unknown datatype \"FP33\""),
        (request(vec![input("x", "", &[1])], &[b"abcd"]), "it has no `datatype`"),
        (request(vec![input("", "FP32", &[1])], &[b"abcd"]), "an input has no `name`"),
        (request(vec![input("x", "FP32", &[1])], &[]), "it has neither `contents` nor raw_input_contents"),
        (request(vec![input("x", "FP32", &[2])], &[b"abcd"]), "4 bytes, FP32 of shape [2] takes 8"),
        (request(vec![input("x", "FP32", &[1])], &[b"abcd", b""]), "1 inputs and 2 raw_input_contents"),
        (request(vec![input("x", "BOOL", &[1]); 2], &[b"\0", b"\0"]), "the request has this input twice"),
        (request(vec![input("x", "BOOL", &[1])], &[b"\x02"]), "neither 0 nor 1"),
    ] {
        let got = fault(&message);
        assert!(got.contains(text), "{got}; wanted {text}");
    }
    let mut both = with_contents("INT32", &[1], contents(vec![1]));
    both.raw_input_contents = vec![Bytes::from_static(b"abcd")];
    assert!(fault(&both).contains("both `contents` and raw_input_contents"));
}

#[test]
fn wrong_requests_say_what_is_wrong() {
    let good = || request(vec![input("x", "BOOL", &[1])], &[b"\x01"]);
    let with_parameter = |key: &str, value: InferParameter| ModelInferRequest {
        parameters: BTreeMap::from([(key.to_owned(), value)]),
        ..good()
    };
    let output = |name: &str, key: Option<&str>| InferRequestedOutputTensor {
        name: name.into(),
        parameters: key.map(|key| (key.to_owned(), InferParameter::default())).into_iter().collect(),
    };
    let with_outputs = |outputs: Vec<InferRequestedOutputTensor>| ModelInferRequest { outputs, ..good() };
    for (message, text) in [
        (with_parameter("triton_x", choice(ParameterChoice::BoolParam(true))), "`triton_` are reserved"),
        (
            with_parameter("u", choice(ParameterChoice::Uint64Param(u64::MAX))),
            "parameter \"u\": `18446744073709551615`",
        ),
        (with_parameter("n", InferParameter::default()), "want a boolean, a number or a string"),
        (with_parameter("timeout", choice(ParameterChoice::Int64Param(-1))), "microseconds"),
        (with_outputs(vec![output("o", None), output("o", None)]), "wants output \"o\" twice"),
        (with_outputs(vec![output("", None)]), "an output has no `name`"),
        (with_outputs(vec![output("o", Some("classification"))]), "the classification extension is not served"),
        (with_outputs(vec![output("o", Some("shared_memory_region"))]), "shared memory of clients is not taken"),
        (ModelInferRequest { id: "x".repeat(1_025), ..good() }, "1025 bytes"),
    ] {
        let got = fault(&message);
        assert!(got.contains(text), "{got}; wanted {text}");
    }
    for name in ["", "..", "a/b"] {
        let error = read(&ModelInferRequest { model_name: name.into(), ..good() }).unwrap_err();
        assert_eq!(error.code, Code::InvalidName, "{name}");
    }
    let long = "n".repeat(256);
    for message in
        [ModelInferRequest { model_name: long.clone(), ..good() }, ModelInferRequest { model_version: long, ..good() }]
    {
        let mut decoded = Decoded::default();
        let error = decoded.read(&message.encode_to_vec().into(), 0).unwrap_err();
        assert_eq!(error.code, Code::InvalidName);
        assert!(decoded.model.len() < 256 && decoded.version.is_none(), "what is no name is not kept for the log");
    }
    let counted =
        |inputs: usize| read_bytes([&[0x0a, 1, b'm'][..], &[0x2a, 0].repeat(inputs)].concat(), 0).unwrap_err();
    assert!(counted(1_024).message.contains("an input has no `name`"));
    assert!(counted(1_025).message.contains("more than 1024 inputs"));
    assert!(read_bytes(vec![0x08, 1], 0).unwrap_err().message.contains("another type of value in `model_name`"));
    assert!(read_bytes(vec![0x0a, 1, 0xff], 0).unwrap_err().message.contains("`model_name` is not UTF-8"));
}

#[test]
fn contents_take_no_more_than_the_limit() {
    let contents = InferTensorContents { int64_contents: vec![0; 100], ..Default::default() };
    let message = with_contents("INT64", &[100], contents).encode_to_vec();
    assert!(message.len() < 130);
    assert_eq!(read_bytes(message.clone(), 800).unwrap().decoded_bytes, 800);
    assert_eq!(read_bytes(message, 799).unwrap_err().code, Code::PayloadTooLarge);
}

/// A tensor as typed contents, and as little-endian bytes.
fn typed() -> impl Strategy<Value = (&'static str, InferTensorContents, Vec<u8>, usize)> {
    fn bytes<T, const N: usize>(values: &[T], to: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
        values.iter().flat_map(to).collect()
    }
    let none = InferTensorContents::default;
    prop_oneof![
        prop::collection::vec(any::<bool>(), 0..9).prop_map(move |v| {
            let data = bytes(&v, |x| [u8::from(*x)]);
            ("BOOL", InferTensorContents { bool_contents: v.clone(), ..none() }, data, v.len())
        }),
        prop::collection::vec(any::<i8>(), 0..9).prop_map(move |v| {
            let int_contents = v.iter().map(|x| i32::from(*x)).collect();
            ("INT8", InferTensorContents { int_contents, ..none() }, bytes(&v, |x| x.to_le_bytes()), v.len())
        }),
        prop::collection::vec(any::<i32>(), 0..9).prop_map(move |v| {
            let data = bytes(&v, |x| x.to_le_bytes());
            ("INT32", InferTensorContents { int_contents: v.clone(), ..none() }, data, v.len())
        }),
        prop::collection::vec(any::<i64>(), 0..9).prop_map(move |v| {
            let data = bytes(&v, |x| x.to_le_bytes());
            ("INT64", InferTensorContents { int64_contents: v.clone(), ..none() }, data, v.len())
        }),
        prop::collection::vec(any::<u16>(), 0..9).prop_map(move |v| {
            let uint_contents = v.iter().map(|x| u32::from(*x)).collect();
            ("UINT16", InferTensorContents { uint_contents, ..none() }, bytes(&v, |x| x.to_le_bytes()), v.len())
        }),
        prop::collection::vec(any::<u64>(), 0..9).prop_map(move |v| {
            let data = bytes(&v, |x| x.to_le_bytes());
            ("UINT64", InferTensorContents { uint64_contents: v.clone(), ..none() }, data, v.len())
        }),
        prop::collection::vec(any::<f32>(), 0..9).prop_map(move |v| {
            let data = bytes(&v, |x| x.to_le_bytes());
            ("FP32", InferTensorContents { fp32_contents: v.clone(), ..none() }, data, v.len())
        }),
        prop::collection::vec(any::<f64>(), 0..9).prop_map(move |v| {
            let data = bytes(&v, |x| x.to_le_bytes());
            ("FP64", InferTensorContents { fp64_contents: v.clone(), ..none() }, data, v.len())
        }),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 0..9).prop_map(move |v| {
            let data = v.iter().flat_map(|x| [&(x.len() as u32).to_le_bytes()[..], x].concat()).collect();
            let count = v.len();
            let bytes_contents = v.into_iter().map(Bytes::from).collect();
            ("BYTES", InferTensorContents { bytes_contents, ..none() }, data, count)
        }),
    ]
}

/// The same contents, each number a field of its own: what an encoder without packing writes.
fn unpacked(contents: &InferTensorContents) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut varint = |number: u8, value: u64| {
        bytes.push(number << 3);
        prost::encoding::encode_varint(value, &mut bytes);
    };
    contents.bool_contents.iter().for_each(|x| varint(1, u64::from(*x)));
    contents.int_contents.iter().for_each(|x| varint(2, i64::from(*x).cast_unsigned()));
    contents.int64_contents.iter().for_each(|x| varint(3, x.cast_unsigned()));
    contents.uint_contents.iter().for_each(|x| varint(4, u64::from(*x)));
    contents.uint64_contents.iter().for_each(|x| varint(5, *x));
    contents.fp32_contents.iter().for_each(|x| bytes.extend([&[6 << 3 | 5][..], &x.to_le_bytes()].concat()));
    contents.fp64_contents.iter().for_each(|x| bytes.extend([&[7 << 3 | 1][..], &x.to_le_bytes()].concat()));
    let elements = InferTensorContents { bytes_contents: contents.bytes_contents.clone(), ..Default::default() };
    bytes.extend(elements.encode_to_vec());
    bytes
}

proptest! {
    #[test]
    fn typed_contents_are_little_endian_bytes((datatype, contents, data, count) in typed(), is_packed: bool) {
        let shape = [i64::try_from(count).unwrap(), 1];
        let whole = if is_packed { contents.encode_to_vec() } else { unpacked(&contents) };
        let whole = Bytes::from(whole);
        let kind = (Datatype::from_name(datatype).unwrap(), &shape.map(i64::cast_unsigned)[..]);
        prop_assert_eq!(&contents::read(&whole, &whole, kind, 1_000).unwrap().bytes[..], &data[..]);
        let decoded = read(&with_contents(datatype, &shape, contents)).unwrap();
        prop_assert_eq!(&decoded.inputs[0].tensor.data[..], &data[..]);
    }

    #[test]
    fn no_message_does_harm(message in prop::collection::vec(any::<u8>(), 0..64)) {
        let size = message.len();
        if let Ok(decoded) = read_bytes(message, 100) {
            prop_assert!(decoded.decoded_bytes <= 100);
            let sliced: usize = decoded.inputs.iter().map(|input| input.tensor.data.len()).sum();
            prop_assert!(sliced <= size + 100);
        }
    }

    #[test]
    fn a_damaged_message_does_no_harm(at in 0_usize..60, byte: u8) {
        let contents = InferTensorContents { int_contents: vec![1, 2, 3], ..Default::default() };
        let mut message = with_contents("INT32", &[3], contents).encode_to_vec();
        if let Some(place) = message.get_mut(at) {
            *place = byte;
        }
        let _ = read_bytes(message, 100);
    }
}
