//! Datatypes, shapes and tensors.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The largest tensor: 2 GiB.
pub const MAX_TENSOR_BYTES: u64 = 1 << 31;
/// The highest rank.
pub const MAX_RANK: usize = 16;

/// An element type of the Open Inference Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Datatype {
    Bool = 1,
    Uint8 = 2,
    Uint16 = 3,
    Uint32 = 4,
    Uint64 = 5,
    Int8 = 6,
    Int16 = 7,
    Int32 = 8,
    Int64 = 9,
    Fp16 = 10,
    Fp32 = 11,
    Fp64 = 12,
    /// Elements are byte strings, each behind its length as a little-endian u32.
    Bytes = 13,
    Bf16 = 14,
}

impl Datatype {
    /// Every datatype.
    pub const ALL: [Datatype; 14] = [
        Datatype::Bool,
        Datatype::Uint8,
        Datatype::Uint16,
        Datatype::Uint32,
        Datatype::Uint64,
        Datatype::Int8,
        Datatype::Int16,
        Datatype::Int32,
        Datatype::Int64,
        Datatype::Fp16,
        Datatype::Fp32,
        Datatype::Fp64,
        Datatype::Bytes,
        Datatype::Bf16,
    ];

    /// The name on the wire, `FP32` for instance.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Datatype::Bool => "BOOL",
            Datatype::Uint8 => "UINT8",
            Datatype::Uint16 => "UINT16",
            Datatype::Uint32 => "UINT32",
            Datatype::Uint64 => "UINT64",
            Datatype::Int8 => "INT8",
            Datatype::Int16 => "INT16",
            Datatype::Int32 => "INT32",
            Datatype::Int64 => "INT64",
            Datatype::Fp16 => "FP16",
            Datatype::Fp32 => "FP32",
            Datatype::Fp64 => "FP64",
            Datatype::Bytes => "BYTES",
            Datatype::Bf16 => "BF16",
        }
    }

    /// The datatype of this wire name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| datatype.name() == name)
    }

    /// The datatype of this number in a frame.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| *datatype as u32 == number)
    }

    /// Bytes of one element; `None` for BYTES, whose elements differ in length.
    #[must_use]
    pub fn size(self) -> Option<usize> {
        match self {
            Datatype::Bool | Datatype::Uint8 | Datatype::Int8 => Some(1),
            Datatype::Uint16 | Datatype::Int16 | Datatype::Fp16 | Datatype::Bf16 => Some(2),
            Datatype::Uint32 | Datatype::Int32 | Datatype::Fp32 => Some(4),
            Datatype::Uint64 | Datatype::Int64 | Datatype::Fp64 => Some(8),
            Datatype::Bytes => None,
        }
    }
}

/// The length along one axis, as a signature declares it: -1 is "any".
pub type Dim = i64;

/// One input or output of a signature; of some formats only the names are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Name on the wire.
    pub name: String,
    /// Element type; `None` if unknown: any is taken.
    #[serde(deserialize_with = "Option::deserialize")]
    pub datatype: Option<Datatype>,
    /// Lengths without the batch axis, -1 is "any"; `None` if unknown: any shape is taken.
    #[serde(deserialize_with = "Option::deserialize")]
    pub dims: Option<Vec<Dim>>,
}

impl TensorSpec {
    /// True if the datatype and every length are fixed, so that rows say all there is to say.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.datatype.is_some() && self.dims.as_ref().is_some_and(|dims| dims.iter().all(|dim| *dim >= 0))
    }

    /// True if elements of this type are taken.
    #[must_use]
    pub fn takes(&self, datatype: Datatype) -> bool {
        self.datatype.is_none_or(|wanted| wanted == datatype)
    }

    /// The first axis of `shape` (batch axis removed) that does not fit, or `shape.len()` for a wrong rank.
    #[must_use]
    pub fn misfit(&self, shape: &[u64]) -> Option<usize> {
        let dims = self.dims.as_ref()?;
        if shape.len() != dims.len() {
            return Some(shape.len());
        }
        shape.iter().zip(dims).position(|(got, want)| *want >= 0 && *got != *want as u64)
    }

    /// The datatype as clients read it.
    #[must_use]
    pub fn datatype_name(&self) -> &'static str {
        self.datatype.map_or("UNKNOWN", Datatype::name)
    }

    /// The lengths as clients read them: of an unknown shape one axis of any length.
    #[must_use]
    pub fn shape(&self) -> &[Dim] {
        self.dims.as_deref().unwrap_or(&[-1])
    }
}

/// A tensor: row-major little-endian bytes with a datatype and a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Element type.
    pub datatype: Datatype,
    /// Lengths, batch axis included.
    pub shape: Vec<u64>,
    /// The elements. Cloning is cheap; the bytes may stand in a shared segment that lives as long as this handle.
    pub data: Bytes,
}

/// A tensor with its name on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTensor {
    /// Input or output name.
    pub name: String,
    /// The tensor.
    pub tensor: Tensor,
}

/// The number of elements of `shape`, or `None` if it does not fit in 64 bits.
#[must_use]
pub fn elements(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1_u64, |count, length| count.checked_mul(*length))
}

/// The byte size of a tensor of a fixed-size datatype, or `None` for BYTES and on overflow.
#[must_use]
pub fn byte_size(datatype: Datatype, shape: &[u64]) -> Option<u64> {
    elements(shape)?.checked_mul(datatype.size()? as u64)
}

/// The number of length-prefixed elements in `data`, or `None` if a length points past the end.
#[must_use]
pub fn count_bytes_elements(data: &[u8]) -> Option<u64> {
    let mut rest = data;
    let mut count = 0;
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        rest = tail.get(u32::from_le_bytes(*length) as usize..)?;
        count += 1;
    }
    Some(count)
}

/// The offsets at which each of `rows` equal parts of a BYTES tensor of `per_row` elements starts, and the end.
#[must_use]
pub fn bytes_row_offsets(data: &[u8], rows: u64, per_row: u64) -> Option<Vec<usize>> {
    let mut offsets = Vec::with_capacity(usize::try_from(rows).ok()?.checked_add(1)?);
    let mut at = 0_usize;
    for _ in 0..rows {
        offsets.push(at);
        for _ in 0..per_row {
            let (length, _) = data.get(at..)?.split_first_chunk::<4>()?;
            at = at.checked_add(4)?.checked_add(u32::from_le_bytes(*length) as usize)?;
        }
        if at > data.len() {
            return None;
        }
    }
    offsets.push(at);
    (at == data.len()).then_some(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_round_trip() {
        for datatype in Datatype::ALL {
            assert_eq!(Datatype::from_name(datatype.name()), Some(datatype));
            assert_eq!(Datatype::from_number(datatype as u32), Some(datatype));
            assert_eq!(serde_json::to_string(&datatype).unwrap(), format!("\"{}\"", datatype.name()));
        }
    }

    #[test]
    fn overflowing_shapes_have_no_size() {
        assert_eq!(elements(&[1 << 40, 1 << 40]), None);
        assert_eq!(byte_size(Datatype::Fp64, &[1 << 62]), None);
        assert_eq!(byte_size(Datatype::Fp32, &[0, 1 << 40]), Some(0));
    }

    #[test]
    fn bytes_elements_are_counted_and_bounded() {
        let data = [2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0];
        assert_eq!(count_bytes_elements(&data), Some(2));
        assert_eq!(bytes_row_offsets(&data, 2, 1), Some(vec![0, 6, 10]));
        assert_eq!(count_bytes_elements(&[255, 255, 255, 255, 0]), None);
        assert_eq!(bytes_row_offsets(&data, 1, 1), None);
        assert_eq!(bytes_row_offsets(&data, 3, 1), None);
    }

    #[test]
    fn misfit_names_the_axis() {
        let spec = TensorSpec { name: "x".into(), datatype: Some(Datatype::Fp32), dims: Some(vec![3, -1]) };
        assert_eq!(spec.misfit(&[3, 9]), None);
        assert_eq!(spec.misfit(&[4, 9]), Some(0));
        assert_eq!(spec.misfit(&[3]), Some(1));
    }
}
