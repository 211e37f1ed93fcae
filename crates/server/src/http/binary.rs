//! The binary tensor extension: blobs behind the JSON, sliced out of the body without a copy, and raw requests.

use bytes::Bytes;
use samovar_core::error::Error;
use samovar_core::tensor::{Datatype, Dim, NamedTensor, TensorSpec, byte_size};

use crate::door::invalid;
use crate::door::tensors::{in_input, tensor};

/// What follows the JSON in a body, taken from the front.
pub(super) struct Blobs {
    rest: Bytes,
}

impl Blobs {
    pub(super) fn new(rest: Bytes) -> Self {
        Self { rest }
    }

    /// The next `size` bytes.
    pub(super) fn take(&mut self, size: u64) -> Result<Bytes, Error> {
        match usize::try_from(size) {
            Ok(size) if size <= self.rest.len() => Ok(self.rest.split_to(size)),
            _ => {
                Err(invalid(format!("binary_data_size is {size}, but {} bytes of the body are left", self.rest.len())))
            }
        }
    }

    /// Every byte must have been taken.
    pub(super) fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(invalid(format!("{} bytes behind the last binary input belong to no input", self.rest.len())))
    }
}

/// The input of a raw request (`Inference-Header-Content-Length: 0`): the whole body is the one input of the model,
/// whose shape follows from its signature.
///
/// One variable axis is deduced from the size. Where two are and one of them is the first, that is the batch axis and 1.
/// A BYTES input must have one element per row; the body is that element.
pub(super) fn raw_input(inputs: &[TensorSpec], body: &Bytes) -> Result<NamedTensor, Error> {
    let [spec] = inputs else {
        return Err(invalid(format!(
            "a raw request (Inference-Header-Content-Length: 0) needs a model of one input, this one has {}",
            inputs.len()
        )));
    };
    let (Some(datatype), Some(dims)) = (spec.datatype, &spec.dims) else {
        return Err(in_input(
            &spec.name,
            invalid(
                "a raw request needs a known datatype and shape; send the JSON header, or declare them in samovar.toml",
            ),
        ));
    };
    let (shape, data) = match datatype {
        Datatype::Bytes => raw_bytes(&spec.name, dims, body)?,
        _ => (raw_shape(&spec.name, datatype, dims, body.len() as u64)?, body.clone()),
    };
    let tensor = tensor(datatype, shape, data).map_err(|fault| in_input(&spec.name, fault))?;
    Ok(NamedTensor { name: spec.name.clone(), tensor })
}

fn raw_shape(name: &str, datatype: Datatype, declared: &[Dim], size: u64) -> Result<Vec<u64>, Error> {
    let mut dims = declared.to_vec();
    let variable = |dims: &[i64]| dims.iter().filter(|dim| **dim < 0).count();
    if variable(&dims) == 2
        && let Some(first @ ..=-1) = dims.first_mut()
    {
        *first = 1;
    }
    let known: Vec<u64> = dims.iter().filter_map(|dim| u64::try_from(*dim).ok()).collect();
    let per_step = byte_size(datatype, &known).unwrap_or(0);
    let deduced = match variable(&dims) {
        0 => 0,
        1 if per_step > 0 && size.is_multiple_of(per_step) => size / per_step,
        1 => {
            return Err(in_input(
                name,
                invalid(format!(
                    "{size} bytes are no multiple of {per_step}, one step along the variable axis of {dims:?}"
                )),
            ));
        }
        _ => {
            let fault = format!(
                "the shape {declared:?} cannot be deduced, more than one axis is variable; send the JSON header"
            );
            return Err(in_input(name, invalid(fault)));
        }
    };
    Ok(dims.iter().map(|dim| u64::try_from(*dim).unwrap_or(deduced)).collect())
}

fn raw_bytes(name: &str, dims: &[Dim], body: &Bytes) -> Result<(Vec<u64>, Bytes), Error> {
    let shape = match dims {
        [1 | ..=-1] => vec![1],
        [1 | ..=-1, 1] => vec![1, 1],
        dims => {
            let fault = format!("a raw request with BYTES needs the shape [1] per row, this one is {dims:?}");
            return Err(in_input(name, invalid(fault)));
        }
    };
    let length = u32::try_from(body.len()).map_err(|_| invalid("a BYTES element is longer than 4 GiB"))?;
    let mut element = Vec::with_capacity(body.len() + 4);
    element.extend_from_slice(&length.to_le_bytes());
    element.extend_from_slice(body);
    Ok((shape, Bytes::from(element)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(datatype: Datatype, dims: &[i64]) -> TensorSpec {
        TensorSpec { name: "x".into(), datatype: Some(datatype), dims: Some(dims.to_vec()) }
    }

    fn raw_shape_of(dims: &[i64], size: usize) -> Result<Vec<u64>, String> {
        let input = raw_input(&[spec(Datatype::Fp32, dims)], &Bytes::from(vec![0; size]));
        input.map(|input| input.tensor.shape).map_err(|error| error.message)
    }

    #[test]
    fn raw_shapes_are_deduced() {
        assert_eq!(raw_shape_of(&[3, 2], 24), Ok(vec![3, 2]));
        assert_eq!(raw_shape_of(&[-1, 16], 64), Ok(vec![1, 16]));
        assert_eq!(raw_shape_of(&[-1, 16], 128), Ok(vec![2, 16]));
        assert_eq!(raw_shape_of(&[-1, -1, 3], 36), Ok(vec![1, 3, 3]));
        assert_eq!(raw_shape_of(&[3, -1], 0), Ok(vec![3, 0]));
        assert_eq!(raw_shape_of(&[], 4), Ok(vec![]));
    }

    #[test]
    fn raw_requests_that_do_not_fit_are_refused() {
        assert!(raw_shape_of(&[3, 2], 20).unwrap_err().contains("20 bytes, FP32 of shape [3, 2] takes 24"));
        assert!(raw_shape_of(&[-1, 16], 60).unwrap_err().contains("no multiple of 64"));
        assert!(raw_shape_of(&[-1, -1, -1], 4).unwrap_err().contains("more than one axis"));
        assert!(raw_shape_of(&[3, -1, -1], 12).unwrap_err().contains("more than one axis"));
        assert!(raw_shape_of(&[0, -1], 4).unwrap_err().contains("no multiple of 0"));
        assert!(raw_shape_of(&[i64::MAX, i64::MAX, -1], 4).is_err());
        assert!(raw_input(&[], &Bytes::new()).is_err());
    }

    #[test]
    fn a_raw_bytes_body_is_one_element() {
        for (dims, shape) in [(&[1][..], vec![1]), (&[-1, 1], vec![1, 1])] {
            let input = raw_input(&[spec(Datatype::Bytes, dims)], &Bytes::from_static(b"ab")).unwrap();
            assert_eq!(input.tensor.shape, shape);
            assert_eq!(&input.tensor.data[..], b"\x02\0\0\0ab");
        }
        assert!(raw_input(&[spec(Datatype::Bytes, &[-1, 2])], &Bytes::from_static(b"ab")).is_err());
    }

    #[test]
    fn blobs_are_slices_and_must_be_consumed() {
        let body = Bytes::from_static(b"abcdef");
        let mut blobs = Blobs::new(body.clone());
        assert_eq!(blobs.take(4).unwrap().as_ptr(), body.as_ptr());
        assert!(blobs.end().is_err());
        assert!(blobs.take(3).is_err());
        assert!(blobs.take(u64::MAX).is_err());
        assert_eq!(blobs.take(2).unwrap(), "ef");
        assert!(blobs.end().is_ok());
    }
}
