//! What must hold of a request for any bytes, whatever the protocol in which it was said, and one function per parser for
//! `make fuzz`, which looks for bytes of which it does not.

use samovar_core::error::{Code, ECHO_BYTES, Error};
use samovar_core::request::Parameters;
use samovar_core::tensor::{
    Datatype, MAX_RANK, MAX_TENSOR_BYTES, NamedTensor, byte_size, count_bytes_elements, elements,
};

use crate::door::limits::{MAX_INPUTS, MAX_OUTPUTS, MAX_PARAMETERS};

pub use crate::grpc::fuzzing::grpc_request;
pub use crate::http::fuzzing::{binary_request, json_request};

/// The words of the longest message, the list of datatypes in it, around what it quotes.
const OWN_WORDS: usize = 240;

/// Only the client's faults, in bounded words, and nothing in them that a log or a terminal would act on.
pub(crate) fn check_error(error: &Error) {
    assert!(matches!(error.code, Code::InvalidRequest | Code::InvalidName | Code::PayloadTooLarge), "{error}");
    assert!(error.message.len() <= ECHO_BYTES + OWN_WORDS, "{} bytes: {error}", error.message.len());
    assert!(!error.message.chars().any(char::is_control), "{error}");
}

/// Inputs within the limits, each once, whose bytes are what their shapes say.
pub(crate) fn check_inputs(inputs: &[NamedTensor]) {
    assert!(inputs.len() <= MAX_INPUTS);
    assert!(is_set(inputs.iter().map(|input| &*input.name)));
    for NamedTensor { tensor, .. } in inputs {
        assert!(tensor.shape.len() <= MAX_RANK && tensor.data.len() as u64 <= MAX_TENSOR_BYTES);
        match tensor.datatype {
            Datatype::Bytes => assert_eq!(count_bytes_elements(&tensor.data), elements(&tensor.shape)),
            datatype => assert_eq!(byte_size(datatype, &tensor.shape), Some(tensor.data.len() as u64)),
        }
        assert!(tensor.datatype != Datatype::Bool || tensor.data.iter().all(|byte| *byte <= 1));
    }
}

/// Outputs within the limit, each once.
pub(crate) fn check_outputs<'a>(names: impl Iterator<Item = &'a str> + Clone) {
    assert!(names.clone().count() <= MAX_OUTPUTS);
    assert!(is_set(names));
}

/// Parameters within the limit, each once, none of them reserved.
pub(crate) fn check_parameters(parameters: &Parameters) {
    assert!(parameters.len() <= MAX_PARAMETERS);
    assert!(is_set(parameters.iter().map(|(name, _)| &**name)));
    assert!(parameters.iter().all(|(name, _)| !name.starts_with("triton_")));
}

fn is_set<'a>(names: impl Iterator<Item = &'a str>) -> bool {
    let mut names: Vec<_> = names.collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    names.len() == count
}

/// Try what earlier searches kept for a target.
#[cfg(test)]
pub(crate) fn replay(target: &str, check: impl Fn(&[u8])) {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let kept: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
    assert!(kept.len() > 10);
    for entry in kept {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}
