//! Rows in, rows out: which bytes of a stacked tensor are whose.

use bytes::Bytes;

use crate::config::VersionSpec;
use crate::error::{Code, Error};
use crate::pending::Part;
use crate::queue::Item;
use crate::tensor::{Tensor, bytes_row_offsets, elements};

/// Rows of all items together.
#[must_use]
pub fn rows_of(items: &[Item<Part>]) -> u64 {
    items.iter().map(|item| u64::from(item.rows)).sum()
}

/// The bytes of one item's rows of input number `index`.
#[must_use]
pub fn split_input(item: &Item<Part>, index: usize) -> Option<Bytes> {
    let pending = &item.request.pending;
    let tensor = pending.accepted.inputs.get(index)?;
    if u64::from(item.rows) == pending.accepted.rows {
        return Some(tensor.data.clone());
    }
    Rows::of(tensor)?.slice(tensor, item.request.first_row, u64::from(item.rows))
}

/// Where the rows of a tensor start.
#[derive(Debug)]
enum Rows {
    Even(usize),
    At(Vec<usize>),
}

impl Rows {
    /// The rows along the first axis of a tensor.
    fn of(tensor: &Tensor) -> Option<Self> {
        let (rows, rest) = tensor.shape.split_first()?;
        match tensor.datatype.size() {
            Some(size) => Some(Self::Even(usize::try_from(elements(rest)?).ok()?.checked_mul(size)?)),
            None => Some(Self::At(bytes_row_offsets(&tensor.data, *rows, elements(rest)?)?)),
        }
    }

    fn slice(&self, tensor: &Tensor, first: u64, count: u64) -> Option<Bytes> {
        let (first, last) = (usize::try_from(first).ok()?, usize::try_from(first + count).ok()?);
        let (start, end) = match self {
            Self::Even(bytes) => (first.checked_mul(*bytes)?, last.checked_mul(*bytes)?),
            Self::At(offsets) => (*offsets.get(first)?, *offsets.get(last)?),
        };
        (start <= end && end <= tensor.data.len()).then(|| tensor.data.slice(start..end))
    }
}

/// Checked outputs of a call, ready to be given to their owners.
#[derive(Debug)]
pub struct Split {
    rows: u64,
    outputs: Vec<(Tensor, Option<Rows>)>,
}

/// Check what a model returned for `rows` rows against its signature. Errors: `bad_model_output`.
pub fn check_outputs(spec: &VersionSpec, outputs: Vec<Tensor>, rows: u64) -> Result<Split, Error> {
    if outputs.len() != spec.outputs.len() {
        let text = format!(
            "model {:?} returned {} outputs, its signature has {}",
            spec.name,
            outputs.len(),
            spec.outputs.len()
        );
        return Err(Error::new(Code::BadModelOutput, text));
    }
    let mut split = Vec::with_capacity(outputs.len());
    for (declared, tensor) in spec.outputs.iter().zip(outputs) {
        let refuse = |fault: String, cure: String| {
            let text = format!("output {:?} of model {:?}: {fault}; {cure}", declared.name, spec.name);
            Err(Error::new(Code::BadModelOutput, text))
        };
        if !declared.takes(tensor.datatype) {
            let (got, want) = (tensor.datatype.name(), declared.datatype_name());
            return refuse(
                format!("datatype {got}, declared {want}"),
                "convert it with .astype(), or declare what it is".into(),
            );
        }
        let rest = match tensor.shape.split_first() {
            Some((got, rest)) if spec.batch_axis && *got == rows => rest,
            _ if spec.batch_axis => {
                return refuse(
                    format!("shape {:?} for {rows} rows", tensor.shape),
                    "return one row for each row of the inputs".into(),
                );
            }
            _ => tensor.shape.as_slice(),
        };
        if declared.misfit(rest).is_some() {
            let wanted = if spec.batch_axis {
                format!("{:?} behind the batch axis", declared.shape())
            } else {
                format!("{:?}", declared.shape())
            };
            return refuse(format!("shape {:?}", tensor.shape), format!("declared {wanted}"));
        }
        let starts = if spec.batch_axis { Rows::of(&tensor) } else { None };
        split.push((tensor, starts));
    }
    Ok(Split { rows, outputs: split })
}

impl Split {
    /// The outputs of `rows` rows from row `first` on.
    #[must_use]
    pub fn part(&self, first: u64, rows: u64) -> Vec<Tensor> {
        if rows == self.rows {
            return self.outputs.iter().map(|(tensor, _)| tensor.clone()).collect();
        }
        let cut = |(tensor, starts): &(Tensor, Option<Rows>)| {
            let mut part = tensor.clone();
            part.data = starts.as_ref().and_then(|starts| starts.slice(tensor, first, rows)).unwrap_or_default();
            if let Some(axis) = part.shape.first_mut() {
                *axis = rows;
            }
            part
        };
        self.outputs.iter().map(cut).collect()
    }
}
