use proptest::prelude::*;
use samovar_core::error::Code;

use super::*;

const LIMIT: u64 = 1 << 20;

/// Decode `json` with `blob` behind it.
fn decode_with(json: &str, blob: &[u8]) -> Result<Decoded, Error> {
    let body = Bytes::from([json.as_bytes(), blob].concat());
    let mut decoded = Decoded::default();
    decoded.read(&body, json.len(), LIMIT).map(|()| decoded)
}

fn decode(json: &str) -> Result<Decoded, Error> {
    decode_with(json, b"")
}

fn one_input(members: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x",{members}}}]}}"#)
}

#[test]
fn a_whole_request_is_read() {
    let json = r#"{"id":"7","parameters":{"binary_data_output":true,"timeout":1500,"a":true,"b":-3,"c":0.5,"d":"é"},
        "inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[[1,2.5]]},
                  {"name":"y","shape":[2],"datatype":"INT16","parameters":{"binary_data_size":4}}],
        "outputs":[{"name":"p","parameters":{"binary_data":true}},{"name":"q"}]}"#;
    let decoded = decode_with(json, &[1, 0, 2, 0]).unwrap();
    assert_eq!(decoded.id.as_deref(), Some("7"));
    assert!(decoded.binary_output);
    assert_eq!(decoded.queue_timeout, Some(1_500_000));
    let wanted = [
        ("a".to_owned(), Parameter::Bool(true)),
        ("b".to_owned(), Parameter::Int(-3)),
        ("c".to_owned(), Parameter::Double(0.5)),
        ("d".to_owned(), Parameter::String("é".to_owned())),
    ];
    assert_eq!(decoded.parameters, wanted);
    assert_eq!(decoded.inputs[0].tensor.data, [1_f32, 2.5].map(f32::to_le_bytes).concat());
    assert_eq!(decoded.inputs[0].tensor.shape, [1, 2]);
    assert_eq!(decoded.inputs[1].tensor.data, &[1, 0, 2, 0][..]);
    assert_eq!(decoded.outputs[0], WantedOutput { name: "p".into(), binary: true });
    assert_eq!(decoded.outputs[1], WantedOutput { name: "q".into(), binary: false });
    assert_eq!(decoded.decoded_bytes, 8);
}

#[test]
fn members_may_come_in_any_order() {
    for members in [
        r#""data":[1,2],"shape":[2],"datatype":"UINT8""#,
        r#""datatype":"UINT8","data":[1,2],"shape":[2]"#,
        r#""shape":[2],"datatype":"UINT8","data":[1,2],"unknown":{"a":[{}]}"#,
    ] {
        let decoded = decode(&one_input(members)).unwrap();
        assert_eq!(decoded.inputs[0].tensor.data, &[1, 2][..], "{members}");
    }
}

#[test]
fn absent_null_and_empty_are_the_same() {
    let decoded = decode(r#"{"id":null,"parameters":null,"inputs":[],"outputs":null}"#).unwrap();
    assert_eq!(decoded.id, None);
    assert_eq!(decode(r#"{"id":"","inputs":[]}"#).unwrap().id, None);
    let input = one_input(r#""datatype":"BOOL","shape":[0],"parameters":null,"data":[]"#);
    assert!(decode(&input).unwrap().inputs[0].tensor.data.is_empty());
}

#[test]
fn bad_requests_are_refused_with_their_reason() {
    let input = |members: &str| one_input(members);
    let good = r#""datatype":"UINT8","shape":[1]"#;
    let many = |count: usize, what: &str| vec![what; count].join(",");
    let table = [
        (String::new(), "body is empty"),
        ("null".into(), "`{`"),
        ("[]".into(), "`{`"),
        ("{}".into(), "no `inputs`"),
        (r#"{"inputs":{}}"#.into(), "`[`"),
        (r#"{"inputs":[],"inputs":[]}"#.into(), "`inputs` stands twice"),
        (r#"{"inputs":[],"id":1}"#.into(), "a string"),
        (r#"{"inputs":[],"id":"\ud800"}"#.into(), "surrogate"),
        (format!(r#"{{"inputs":[],"id":"{}"}}"#, "x".repeat(1_025)), "1025 bytes"),
        (r#"{"inputs":[]} x"#.into(), "end of the document"),
        (r#"{"inputs":[],"parameters":{"triton_x":1}}"#.into(), "reserved"),
        (r#"{"inputs":[],"parameters":{"a":[1]}}"#.into(), "\"a\": want a boolean"),
        (r#"{"inputs":[],"parameters":{"a":1,"a":1}}"#.into(), "twice"),
        (r#"{"inputs":[],"parameters":{"a":9223372036854775808}}"#.into(), "does not fit INT64"),
        (r#"{"inputs":[],"parameters":{"a":1e999}}"#.into(), "does not fit"),
        (r#"{"inputs":[],"parameters":{"timeout":-1}}"#.into(), "got -1, want a whole number of microseconds"),
        (r#"{"inputs":[],"parameters":{"timeout":1.5}}"#.into(), "got 1.5, want a whole number"),
        (r#"{"inputs":[],"parameters":{"binary_data_output":1}}"#.into(), "true or false"),
        (r#"{"inputs":[{"datatype":"UINT8","shape":[1],"data":[1]}]}"#.into(), "no `name`"),
        (input(r#""shape":[1],"data":[1]"#), "no `datatype`"),
        (input(r#""datatype":"UINT8","data":[1]"#), "no `shape`"),
        (input(r#""datatype":"uint8","shape":[1],"data":[1]"#), "unknown datatype"),
        (input(good), "neither `data` nor"),
        (input(&format!(r#"{good},"data":[1],"parameters":{{"binary_data_size":1}}"#)), "both"),
        (input(&format!(r#"{good},"data":[1],"data":[1]"#)), "`data` stands twice"),
        (input(&format!(r#"{good},"data":[1,2]"#)), "input \"x\": data has more"),
        (input(&format!(r#"{good},"parameters":{{"binary_data_size":1}}"#)), "0 bytes of the body are left"),
        (input(&format!(r#"{good},"parameters":{{"binary_data_size":-1}}"#)), "does not fit a size"),
        (input(&format!(r#"{good},"parameters":{{"shared_memory_region":"r"}}"#)), "shared memory"),
        (input(r#""datatype":"UINT8","shape":[-1],"data":[1]"#), "`-1` does not fit a length"),
        (input(r#""datatype":"UINT8","shape":[9223372036854775808],"data":[1]"#), "fewer elements"),
        (input(r#""datatype":"UINT8","shape":[18446744073709551616],"data":[1]"#), "64 bits"),
        (input(r#""datatype":"UINT8","shape":1,"data":[1]"#), "`[`"),
        (input(&format!(r#""datatype":"UINT8","shape":[{}],"data":[1]"#, many(17, "1"))), "more than 16 axes"),
        (
            format!(r#"{{"inputs":[{}]}}"#, many(2, r#"{"name":"x","datatype":"UINT8","shape":[1],"data":[1]}"#)),
            "input \"x\": the request has this input twice",
        ),
        (r#"{"inputs":[],"outputs":[{}]}"#.into(), "no `name`"),
        (r#"{"inputs":[],"outputs":[{"name":"p"},{"name":"p"}]}"#.into(), "\"p\" twice"),
        (r#"{"inputs":[],"outputs":[{"name":"p","parameters":{"classification":1}}]}"#.into(), "classification"),
    ];
    for (json, wanted) in table {
        let error = decode(&json).unwrap_err();
        assert_eq!(error.code, Code::InvalidRequest, "{json}");
        assert!(error.message.contains(wanted), "{json}: {}", error.message);
        assert!(error.message.len() < 600);
    }
}

#[test]
fn counts_have_limits() {
    let inputs = |count: usize| {
        let input = |number| format!(r#"{{"name":"{number}","datatype":"UINT8","shape":[0],"data":[]}}"#);
        format!(r#"{{"inputs":[{}]}}"#, (0..count).map(input).collect::<Vec<_>>().join(","))
    };
    assert!(decode(&inputs(1_024)).is_ok());
    assert!(decode(&inputs(1_025)).is_err());
    let outputs = |count: usize| {
        let output = |number| format!(r#"{{"name":"{number}"}}"#);
        format!(r#"{{"inputs":[],"outputs":[{}]}}"#, (0..count).map(output).collect::<Vec<_>>().join(","))
    };
    assert!(decode(&outputs(64)).is_ok());
    assert!(decode(&outputs(65)).is_err());
}

#[test]
fn json_tensors_share_one_limit() {
    let input = |name: &str| {
        format!(r#"{{"name":"{name}","datatype":"FP64","shape":[100000],"data":[{}1]}}"#, "1,".repeat(99_999))
    };
    assert!(decode(&format!(r#"{{"inputs":[{}]}}"#, input("a"))).is_ok());
    let error = decode(&format!(r#"{{"inputs":[{},{}]}}"#, input("a"), input("b"))).unwrap_err();
    assert_eq!(error.code, Code::PayloadTooLarge);
}

#[test]
fn the_id_is_known_even_if_the_rest_is_wrong() {
    let body = Bytes::from_static(br#"{"id":"7","inputs":[{"name":1}]}"#);
    let mut decoded = Decoded::default();
    assert!(decoded.read(&body, body.len(), LIMIT).is_err());
    assert_eq!(decoded.id.as_deref(), Some("7"));
}

#[test]
fn binary_tensors_are_not_copied() {
    let json = one_input(r#""datatype":"UINT8","shape":[3],"parameters":{"binary_data_size":3}"#);
    let body = Bytes::from([json.as_bytes(), b"abc"].concat());
    let mut decoded = Decoded::default();
    decoded.read(&body, json.len(), LIMIT).unwrap();
    assert_eq!(decoded.inputs[0].tensor.data.as_ptr(), body[json.len()..].as_ptr());
    assert_eq!(decoded.decoded_bytes, 0);
    assert!(decode_with(&json, b"abcd").unwrap_err().message.contains("belong to no input"));
}

/// Numbers, words and strings with commas.
const MIXED: &str = r#"{"id":"1,2, 3,-4","inputs":[{"name":"x","shape":[12],"datatype":"FP32","data":[1,-2.5,
    3.25e1, 4,5,6,7.0000001,8,9, 10,11,12]},{"name":"y","data":["1,2","\u00e9,1, 2"],"shape":[2],"datatype":"BYTES"}]}"#;

fn parts(text: &[u8], cuts: &[usize]) -> Vec<Bytes> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).chain([0, text.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| Bytes::copy_from_slice(&text[pair[0]..pair[1]])).collect()
}

#[test]
fn a_string_across_two_parts_is_read() {
    let (cut, end) = (MIXED.find(", 3").unwrap(), MIXED.len());
    let mut decoded = Decoded::default();
    decoded.read_parts(&parts(MIXED.as_bytes(), &[cut, end]), LIMIT).unwrap();
    assert_eq!(decoded.id.as_deref(), Some("1,2, 3,-4"));
}

#[test]
fn a_fault_in_parts_has_its_place_in_the_whole() {
    let text = MIXED.replace("11,12", "11,,12");
    let mut decoded = Decoded::default();
    let error = decoded.read_parts(&parts(text.as_bytes(), &[150, 170, 200]), LIMIT).unwrap_err();
    assert!(error.message.contains("`,12]"), "{}", error.message);
    assert_eq!(error.message, decode(&text).unwrap_err().message);
}

proptest! {
    #[test]
    fn any_parts_say_what_the_whole_says(
        cuts in proptest::collection::vec(any::<usize>(), 0..6), at in any::<usize>(), byte in any::<u8>(),
    ) {
        let mut text = MIXED.as_bytes().to_vec();
        if byte < 128 {
            let at = at % text.len();
            text[at] = byte;
        }
        let (mut in_parts, mut whole) = (Decoded::default(), Decoded::default());
        let result = in_parts.read_parts(&parts(&text, &cuts), LIMIT);
        prop_assert_eq!(result, whole.read(&Bytes::from(text), MIXED.len(), LIMIT));
        prop_assert_eq!((in_parts.id, in_parts.inputs), (whole.id, whole.inputs));
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200), split in 0_usize..200) {
        let body = Bytes::from(bytes);
        let split = split.min(body.len());
        Decoded::default().read(&body, split, LIMIT).ok();
    }

    #[test]
    fn mutilated_requests_do_no_harm(at in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
        let json = br#"{"id":"7","parameters":{"timeout":1500,"a":-3,"d":"x"},"inputs":[{"name":"x","shape":[1,2],
            "datatype":"FP32","data":[[1,2.5]]},{"name":"y","data":["a","\u00e9"],"shape":[2],"datatype":"BYTES"}],
            "outputs":[{"name":"p","parameters":{"binary_data":true}}]}"#;
        let mut body = json.to_vec();
        let length = body.len();
        body[at % length] = byte;
        body.truncate(length - cut % length);
        let body = Bytes::from(body);
        let mut decoded = Decoded::default();
        if decoded.read(&body, body.len(), LIMIT).is_ok() {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok());
        }
    }
}
