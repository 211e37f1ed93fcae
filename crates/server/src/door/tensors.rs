//! Tensors out of a client's bytes.

use bytes::Bytes;
use samovar_core::error::{Code, Error, echo, echo_shape};
use samovar_core::tensor::{Datatype, MAX_TENSOR_BYTES, Tensor, byte_size, count_bytes_elements, elements};

use super::{invalid, within};

/// `data` as a tensor, if its size fits its shape and its elements are well formed.
pub(crate) fn tensor(datatype: Datatype, shape: Vec<u64>, data: Bytes) -> Result<Tensor, Error> {
    let got = data.len() as u64;
    if got > MAX_TENSOR_BYTES {
        return Err(invalid(format!("a tensor has {got} bytes, more than the limit of {MAX_TENSOR_BYTES}")));
    }
    let fault = match datatype {
        Datatype::Bytes => bytes_fault(&shape, &data),
        _ => match byte_size(datatype, &shape) {
            Some(want) if want == got => None,
            Some(want) => {
                Some(format!("{got} bytes, {} of shape {} takes {want}", datatype.name(), echo_shape(&shape)))
            }
            None => Some(format!("shape {} has more bytes than 64 bits count", echo_shape(&shape))),
        },
    };
    if let Some(fault) = fault {
        return Err(invalid(fault));
    }
    if datatype == Datatype::Bool && data.iter().any(|byte| *byte > 1) {
        return Err(invalid("a byte of a BOOL tensor is neither 0 nor 1"));
    }
    Ok(Tensor { datatype, shape, data })
}

fn bytes_fault(shape: &[u64], data: &[u8]) -> Option<String> {
    let Some(got) = count_bytes_elements(data) else {
        return Some("a length of a BYTES element points behind the end of the data".to_owned());
    };
    let want = elements(shape);
    (want != Some(got)).then(|| format!("{got} BYTES elements do not fit shape {}", echo_shape(shape)))
}

/// A tensor's elements that are too many or too few for its shape.
#[cold]
pub(crate) fn miscounted(got: u64, wanted: u64) -> Error {
    invalid(if got > wanted {
        format!("data has more elements than its shape wants ({wanted})")
    } else {
        format!("data has {got} elements, its shape wants {wanted}")
    })
}

/// Tensors that take more than `limit` bytes once they are decoded.
#[cold]
pub(crate) fn too_large(limit: u64) -> Error {
    Error::new(Code::PayloadTooLarge, format!("the tensors of the request take more than the limit of {limit} bytes"))
}

/// How many elements `shape` has.
pub(crate) fn count(shape: &[u64]) -> Result<u64, Error> {
    elements(shape).ok_or_else(|| invalid(format!("shape {} has more elements than 64 bits count", echo_shape(shape))))
}

/// The datatype of this wire name.
pub(crate) fn datatype(name: &str) -> Result<Datatype, Error> {
    Datatype::from_name(name).ok_or_else(|| unknown_datatype(name))
}

#[cold]
fn unknown_datatype(name: &str) -> Error {
    let known = Datatype::ALL.map(Datatype::name).join(", ");
    invalid(format!("unknown datatype \"{}\"; want one of {known}", echo(name)))
}

/// `fault` with the name of the input before it.
#[cold]
pub(crate) fn in_input(name: &str, fault: Error) -> Error {
    within(&format!("input \"{}\"", echo(name)), fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_must_fit_shapes() {
        let tensor_of = |datatype, shape: &[u64], data: &'static [u8]| {
            tensor(datatype, shape.to_vec(), Bytes::from_static(data)).map_err(|error| error.message)
        };
        assert!(tensor_of(Datatype::Bf16, &[2], &[0; 4]).is_ok());
        assert!(tensor_of(Datatype::Fp32, &[0, 7], &[]).is_ok());
        assert!(tensor_of(Datatype::Bytes, &[1], b"\x01\0\0\0a").is_ok());
        assert!(tensor_of(Datatype::Fp32, &[2], &[0; 4]).unwrap_err().contains("takes 8"));
        assert!(tensor_of(Datatype::Fp64, &[1 << 62, 2], &[0; 4]).unwrap_err().contains("64 bits"));
        assert!(tensor_of(Datatype::Bytes, &[1], b"\x09\0\0\0a").unwrap_err().contains("behind the end"));
        assert!(tensor_of(Datatype::Bytes, &[2], b"\x01\0\0\0a").unwrap_err().contains("1 BYTES elements"));
        assert!(tensor_of(Datatype::Bool, &[1], &[2]).unwrap_err().contains("BOOL"));
    }
}
