//! `records`: the rows of a table as JSON objects by column name, in place of `inputs`.
//!
//! A table is a model with one value per row in each input, or with one input whose row has a named value per column.

use bytes::Bytes;
use samovar_core::error::{Error, echo};
use samovar_core::tensor::{Datatype, NamedTensor, Tensor, TensorSpec};

use super::json::Cursor;
use super::json_array::scalar;
use crate::data_plane::ModelMetadata;
use crate::door::tensors::too_large;
use crate::door::{invalid, within};

/// Where the array of a request's records begins in its body.
#[derive(Clone, Debug)]
pub(super) struct Records {
    pub(super) body: Bytes,
    pub(super) start: usize,
}

impl Records {
    /// The inputs that the records are, of at most `limit` bytes.
    ///
    /// `null` is a missing value: NaN of floats, the empty text. Errors name the record and the column.
    pub(super) fn read(&self, metadata: &ModelMetadata, limit: u64) -> Result<Vec<NamedTensor>, Error> {
        let mut table = Table::of(metadata)?;
        let mut cursor = Cursor::new(&self.body).back_to(self.start);
        let mut rows = 0;
        cursor.array(|cursor| {
            table.row(cursor, rows)?;
            rows += 1;
            if table.bytes() > limit { Err(too_large(limit)) } else { Ok(()) }
        })?;
        Ok(table.tensors(rows))
    }
}

/// Bytes of the values of one column, row after row.
struct Column<'a> {
    name: &'a str,
    datatype: Datatype,
    /// Axes of one row: none, or `[1]`.
    axes: &'a [i64],
    rows: u64,
    data: Vec<u8>,
}

struct Table<'a> {
    columns: Vec<Column<'a>>,
    /// Name, datatype and bytes of an element of the input whose row all columns are, side by side.
    matrix: Option<(&'a str, Datatype, usize)>,
}

impl<'a> Table<'a> {
    fn of(metadata: &'a ModelMetadata) -> Result<Self, Error> {
        if let ([matrix], [_, ..]) = (&*metadata.inputs, &*metadata.columns) {
            let sized = matrix.datatype.and_then(|datatype| Some((datatype, datatype.size()?)));
            let (datatype, size) = sized.ok_or_else(|| no_table(metadata))?;
            let column = |name: &'a String| Column { name, datatype, axes: &[], rows: 0, data: Vec::new() };
            let columns = metadata.columns.iter().map(column).collect();
            return Ok(Self { columns, matrix: Some((&matrix.name, datatype, size)) });
        }
        let column = |spec: &'a TensorSpec| {
            let axes = match spec.shape() {
                [-1, axes @ ..] if matches!(axes, [] | [1]) => axes,
                _ => return None,
            };
            Some(Column { name: &spec.name, datatype: spec.datatype?, axes, rows: 0, data: Vec::new() })
        };
        let columns: Option<Vec<_>> = metadata.inputs.iter().map(column).collect();
        columns.map(|columns| Self { columns, matrix: None }).ok_or_else(|| no_table(metadata))
    }

    /// Read one record.
    fn row(&mut self, cursor: &mut Cursor<'_>, row: u64) -> Result<(), Error> {
        let mut next = 0; // records have their members in one order, which is mostly that of the columns
        cursor
            .object(|cursor, key| {
                let is_next = self.columns.get(next).is_some_and(|column| column.name == key);
                let place =
                    if is_next { Some(next) } else { self.columns.iter().position(|column| column.name == key) };
                let Some(column) = place.and_then(|place| self.columns.get_mut(place)) else {
                    return Err(invalid(format!("there is no column \"{}\"; {}", echo(key), self.names())));
                };
                next = place.map_or(next, |place| place + 1);
                column.value(cursor, row).map_err(|fault| within(&format!("column \"{}\"", echo(key)), fault))
            })
            .and_then(|()| match self.columns.iter().find(|column| column.rows == row) {
                None => Ok(()),
                Some(column) => Err(invalid(format!(
                    "column \"{}\" is missing; null stands for a value that nobody knows",
                    echo(column.name)
                ))),
            })
            .map_err(|fault| within(&format!("record {row}"), fault))
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
        format!("the model has {}", echo(&names.join(", ")))
    }

    fn bytes(&self) -> u64 {
        self.columns.iter().map(|column| column.data.len() as u64).sum()
    }

    fn tensors(self, rows: u64) -> Vec<NamedTensor> {
        let Some((name, datatype, size)) = self.matrix else {
            return self.columns.into_iter().map(|column| column.tensor(rows)).collect();
        };
        let mut values: Vec<_> = self.columns.iter().map(|column| column.data.chunks_exact(size)).collect();
        let mut data = Vec::with_capacity(self.bytes() as usize);
        for _ in 0..rows {
            values.iter_mut().for_each(|values| data.extend_from_slice(values.next().unwrap_or_default()));
        }
        let shape = vec![rows, self.columns.len() as u64];
        vec![NamedTensor { name: name.to_owned(), tensor: Tensor { datatype, shape, data: Bytes::from(data) } }]
    }
}

impl Column<'_> {
    fn value(&mut self, cursor: &mut Cursor<'_>, row: u64) -> Result<(), Error> {
        if self.rows != row {
            return Err(invalid("it is given twice"));
        }
        self.rows += 1;
        let is_float = matches!(self.datatype, Datatype::Fp32 | Datatype::Fp64);
        match cursor.token() {
            Some(b'n') if is_float || self.datatype == Datatype::Bytes => {
                cursor.null()?;
                self.data.extend_from_slice(match self.datatype {
                    Datatype::Fp32 => &NAN32,
                    Datatype::Fp64 => &NAN64,
                    _ => &[0; 4], // the length of an empty text
                });
                Ok(())
            }
            Some(b't' | b'f') if is_float => {
                let value = cursor.boolean()?;
                match self.datatype {
                    Datatype::Fp32 => self.data.extend_from_slice(&f32::from(value).to_le_bytes()),
                    _ => self.data.extend_from_slice(&f64::from(value).to_le_bytes()),
                }
                Ok(())
            }
            _ => scalar(cursor, self.datatype, &mut self.data),
        }
    }

    fn tensor(self, rows: u64) -> NamedTensor {
        let axes = self.axes.iter().map(|axis| axis.unsigned_abs());
        let shape = std::iter::once(rows).chain(axes).collect();
        let tensor = Tensor { datatype: self.datatype, shape, data: Bytes::from(self.data) };
        NamedTensor { name: self.name.to_owned(), tensor }
    }
}

const NAN32: [u8; 4] = f32::NAN.to_le_bytes();
const NAN64: [u8; 8] = f64::NAN.to_le_bytes();

fn no_table(metadata: &ModelMetadata) -> Error {
    invalid(format!(
        "model \"{}\" takes no `records`: it has no column names, or inputs of more than one value per row; send \
         `inputs`",
        metadata.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, datatype: Datatype, dims: &[i64]) -> TensorSpec {
        TensorSpec { name: name.into(), datatype: Some(datatype), dims: Some(dims.to_vec()) }
    }

    fn metadata(inputs: Vec<TensorSpec>, columns: &[&str]) -> ModelMetadata {
        ModelMetadata {
            name: "m".into(),
            versions: vec![],
            platform: String::new(),
            inputs,
            outputs: vec![],
            columns: columns.iter().map(ToString::to_string).collect(),
        }
    }

    fn matrix() -> ModelMetadata {
        metadata(vec![spec("x", Datatype::Fp64, &[-1, 2])], &["age", "paid"])
    }

    fn people() -> ModelMetadata {
        metadata(vec![spec("city", Datatype::Bytes, &[-1]), spec("age", Datatype::Int64, &[-1, 1])], &[])
    }

    fn read(text: &str, metadata: &ModelMetadata) -> Result<Vec<NamedTensor>, String> {
        let body = Bytes::from(format!("{{\"records\":{text}}}"));
        Records { body, start: 11 }.read(metadata, 1_000).map_err(|error| error.message)
    }

    fn floats(tensor: &Tensor) -> Vec<f64> {
        tensor.data.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    #[test]
    fn records_are_the_rows_of_a_matrix() {
        let inputs = read(r#"[{"age": 41, "paid": true}, {"paid": 0.5, "age": null}]"#, &matrix()).unwrap();
        let [input] = &*inputs else { panic!("{inputs:?}") };
        assert_eq!((&*input.name, &*input.tensor.shape), ("x", &[2, 2][..]));
        let values = floats(&input.tensor);
        assert_eq!((values[0], values[1], values[3]), (41.0, 1.0, 0.5));
        assert!(values[2].is_nan());
    }

    #[test]
    fn records_are_an_input_for_each_column() {
        let inputs = read(r#"[{"age": 41, "city": "oslo"}, {"age": 7, "city": null}]"#, &people()).unwrap();
        let [city, age] = &*inputs else { panic!("{inputs:?}") };
        assert_eq!((&*city.tensor.shape, &city.tensor.data[..]), (&[2][..], &b"\x04\0\0\0oslo\0\0\0\0"[..]));
        assert_eq!((&*age.tensor.shape, age.tensor.data.len()), (&[2, 1][..], 16));
    }

    #[test]
    fn no_records_are_no_rows() {
        assert_eq!(read("[]", &matrix()).unwrap()[0].tensor.shape, [0, 2]);
        assert_eq!(read("[]", &people()).unwrap()[0].tensor.shape, [0]);
    }

    #[test]
    fn faults_name_record_and_column() {
        for (text, wanted) in [
            (r#"[{"age": 1, "paid": 2}, {"age": "x", "paid": 2}]"#, r#"record 1: column "age": "#),
            (r#"[{"age": 1, "payed": 2}]"#, r#"record 0: there is no column "payed"; the model has "age", "paid""#),
            (r#"[{"age": 1}]"#, r#"record 0: column "paid" is missing; null"#),
            (r#"[{"age": 1, "age": 2, "paid": 2}]"#, r#"record 0: column "age": it is given twice"#),
            ("[[1, 2]]", "record 0: JSON at byte 12"),
            (r#"{"age": 1}"#, "want `[`"),
        ] {
            let message = read(text, &matrix()).unwrap_err();
            assert!(message.contains(wanted), "{text}: {message}");
        }
        assert!(read(r#"[{"age": null, "city": ""}]"#, &people()).unwrap_err().contains("column \"age\": "));
        assert!(read(r#"[{"age": 1, "city": 7}]"#, &people()).unwrap_err().contains("want a string"));
    }

    #[test]
    fn what_is_no_table_takes_none() {
        for model in [
            metadata(vec![spec("x", Datatype::Fp32, &[-1, 2])], &[]),
            metadata(vec![spec("x", Datatype::Fp32, &[2])], &[]),
            metadata(vec![TensorSpec { name: "x".into(), datatype: None, dims: None }], &[]),
        ] {
            assert!(read("[]", &model).unwrap_err().contains("takes no `records`"));
        }
    }

    #[test]
    fn inputs_have_a_limit() {
        let many = format!("[{}{{\"age\":1,\"paid\":2}}]", "{\"age\":1,\"paid\":2},".repeat(99));
        assert!(read(&many, &matrix()).unwrap_err().contains("more than the limit of 1000 bytes"));
    }
}
