//! What is sent and answered; the same as in the benchmarks, so that figures of both can be held side by side.

use bytes::Bytes;
use samovar_core::tensor::{Datatype, NamedTensor, Tensor};

/// Name of the input.
pub(crate) const INPUT: &str = "x";

/// FP32[1,16]: numbers of few digits.
pub(crate) fn echo() -> (Vec<u64>, Vec<f32>) {
    (vec![1, 16], (0..16_u8).map(|number| f32::from(number) / 8.0).collect())
}

/// FP32[1,3,224,224]: numbers of all digits, about as many below zero as above.
pub(crate) fn image() -> (Vec<u64>, Vec<f32>) {
    let mut state = 1_u64;
    let mut uniform = || {
        // Knuth's MMIX generator; its upper bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 24) as f32
    };
    // Four together are nearly a bell; times the root of 3, one of deviation 1.
    let values = (0..3 * 224 * 224).map(|_| (uniform() + uniform() + uniform() + uniform() - 2.0) * 3_f32.sqrt());
    (vec![1, 3, 224, 224], values.collect())
}

/// The body of a request as Python writes it: members in the order of the specification, every number as a double.
pub(crate) fn body((shape, values): &(Vec<u64>, Vec<f32>)) -> Bytes {
    let values: Vec<f64> = values.iter().copied().map(f64::from).collect();
    let (shape, data) = (serde_json::json!(shape), serde_json::json!(values));
    format!(r#"{{"inputs":[{{"name":"{INPUT}","shape":{shape},"datatype":"FP32","data":{data}}}]}}"#).into()
}

/// The same as little-endian bytes.
pub(crate) fn bytes(values: &[f32]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The same as a tensor.
pub(crate) fn tensor(name: &str, (shape, values): &(Vec<u64>, Vec<f32>)) -> NamedTensor {
    let tensor = Tensor { datatype: Datatype::Fp32, shape: shape.clone(), data: bytes(values) };
    NamedTensor { name: name.into(), tensor }
}
