//! An infer request's body as tensors: the Open Inference Protocol's JSON with the binary tensor extension.

use bytes::Bytes;
use samovar_core::clock::Nanos;
use samovar_core::error::Error;
use samovar_core::request::{Parameter, Parameters};
use samovar_core::tensor::{Datatype, NamedTensor, Tensor};

use super::binary::Blobs;
use super::json::Cursor;
use super::json_array;
use super::json_pieces::pieces;
use super::number;
use super::records::Records;
use crate::door::invalid;
use crate::door::limits::{
    check_axes, check_id, check_input_is_new, check_input_parameter, check_inputs, check_output_is_new,
    check_output_parameter, check_outputs, check_parameter, in_parameter, queue_timeout,
};
use crate::door::tensors::{self, in_input};

/// An output that the client asked for by name.
#[derive(Debug, PartialEq)]
pub(super) struct WantedOutput {
    pub(super) name: String,
    /// As a binary blob instead of JSON?
    pub(super) binary: bool,
}

/// What a body says.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// The client's own id. Set as soon as it was read, so that an error behind it can carry it.
    pub(super) id: Option<String>,
    pub(super) parameters: Parameters,
    /// The parameter `timeout`.
    pub(super) queue_timeout: Option<Nanos>,
    pub(super) inputs: Vec<NamedTensor>,
    /// What is sent in place of inputs; what it means, the model's signature says.
    pub(super) records: Option<Records>,
    pub(super) outputs: Vec<WantedOutput>,
    /// Are outputs that were not asked for by name binary?
    pub(super) binary_output: bool,
    /// Bytes of tensors that were made from JSON, on top of the body itself.
    pub(super) decoded_bytes: u64,
}

impl Decoded {
    /// Read `body`, whose first `json_length` bytes are the JSON; tensors made from it take at most `limit` bytes.
    ///
    /// Errors with `invalid_request` or `payload_too_large`. Binary tensors are slices of `body`.
    pub(super) fn read(&mut self, body: &Bytes, json_length: usize, limit: u64) -> Result<(), Error> {
        let text = body.get(..json_length).unwrap_or_default();
        if text.is_empty() {
            return Err(invalid("the body is empty; want the JSON of an infer request"));
        }
        let start = self.document(Cursor::new(text), Blobs::new(body.slice(json_length..)), limit)?;
        self.records = start.map(|start| Records { body: body.clone(), start });
        Ok(())
    }

    /// The same of a body in `parts` which is JSON alone.
    pub(super) fn read_parts(&mut self, parts: &[Bytes], limit: u64) -> Result<(), Error> {
        if let [whole] = parts {
            return self.read(whole, whole.len(), limit);
        }
        let mut decoded = Self::default();
        if let Ok(None) = decoded.document(Cursor::over(&pieces(parts)), Blobs::new(Bytes::new()), limit) {
            *self = decoded;
            return Ok(());
        }
        // A string lies across two pieces, or records may, or there is a fault, whose place is told in the whole text.
        let body = Bytes::from(parts.concat());
        self.read(&body, body.len(), limit)
    }

    /// Where records begin, if there are some.
    fn document(&mut self, mut cursor: Cursor<'_>, mut blobs: Blobs, limit: u64) -> Result<Option<usize>, Error> {
        let records = self.envelope(&mut cursor, &mut blobs, limit)?;
        cursor.end()?;
        blobs.end()?;
        Ok(records)
    }

    fn envelope(&mut self, cursor: &mut Cursor<'_>, blobs: &mut Blobs, limit: u64) -> Result<Option<usize>, Error> {
        let mut seen = Seen::default();
        let mut records = None;
        cursor.object(|cursor, key| match key {
            "id" => {
                seen.once(key, 0)?;
                self.id(cursor)
            }
            "parameters" => {
                seen.once(key, 1)?;
                self.request_parameters(cursor)
            }
            "inputs" => {
                seen.once(key, 2)?;
                cursor.array(|cursor| self.input(cursor, blobs, limit))
            }
            "outputs" => {
                seen.once(key, 3)?;
                if cursor.null()? { Ok(()) } else { cursor.array(|cursor| self.output(cursor)) }
            }
            "records" => {
                seen.once(key, 4)?;
                records = Some(cursor.position());
                cursor.skip()
            }
            _ => cursor.skip(),
        })?;
        match (seen.has(2), records) {
            (true, Some(_)) => Err(invalid("the request has both `inputs` and `records`; send one of them")),
            (false, None) => Err(invalid("the request has no `inputs`")),
            _ => Ok(records),
        }
    }

    fn id(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        if cursor.null()? {
            return Ok(());
        }
        let id = cursor.string()?;
        check_id(&id)?;
        if !id.is_empty() {
            self.id = Some(id.into_owned());
        }
        Ok(())
    }

    fn request_parameters(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        let mut seen = Seen::default();
        parameters(cursor, |cursor, key| match key {
            "binary_data_output" => {
                seen.once(key, 0)?;
                self.binary_output = cursor.boolean().map_err(|fault| in_parameter(key, fault))?;
                Ok(())
            }
            "timeout" => {
                seen.once(key, 1)?;
                let value = parameter_value(cursor).map_err(|fault| in_parameter(key, fault))?;
                self.queue_timeout = queue_timeout(&value)?;
                Ok(())
            }
            _ => self.parameter(cursor, key),
        })
    }

    fn parameter(&mut self, cursor: &mut Cursor<'_>, key: &str) -> Result<(), Error> {
        check_parameter(&self.parameters, key)?;
        let value = parameter_value(cursor).map_err(|fault| in_parameter(key, fault))?;
        self.parameters.push((key.to_owned(), value));
        Ok(())
    }

    fn input(&mut self, cursor: &mut Cursor<'_>, blobs: &mut Blobs, limit: u64) -> Result<(), Error> {
        check_inputs(self.inputs.len())?;
        let mut input = Input { limit: limit.saturating_sub(self.decoded_bytes), ..Input::default() };
        let input = match input.read(cursor) {
            Ok(()) => input.finish(blobs, &mut self.decoded_bytes)?,
            Err(fault) => return Err(input.name.map_or(fault.clone(), |name| in_input(&name, fault))),
        };
        check_input_is_new(&self.inputs, &input.name)?;
        self.inputs.push(input);
        Ok(())
    }

    fn output(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        check_outputs(self.outputs.len())?;
        let output = wanted_output(cursor)?;
        check_output_is_new(self.outputs.iter().map(|other| &other.name), &output.name)?;
        self.outputs.push(output);
        Ok(())
    }
}

/// One element of `inputs` while it is read. Its members may come in any order.
#[derive(Default)]
struct Input<'a> {
    name: Option<String>,
    datatype: Option<Datatype>,
    shape: Option<Vec<u64>>,
    binary_size: Option<u64>,
    /// `data`, read at once where datatype and shape stand before it,
    data: Option<Bytes>,
    /// else the cursor at its start.
    later: Option<Cursor<'a>>,
    seen: Seen,
    /// Bytes that its data may take.
    limit: u64,
}

impl<'a> Input<'a> {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Error> {
        // Cursor::object lends the cursor with its own lifetime, so positions can be kept.
        cursor.object(|cursor, key| match key {
            "name" => {
                self.seen.once(key, 0)?;
                self.name = Some(cursor.string()?.into_owned());
                Ok(())
            }
            "datatype" => {
                self.seen.once(key, 1)?;
                let name = cursor.string()?;
                self.datatype = Some(tensors::datatype(&name)?);
                Ok(())
            }
            "shape" => {
                self.seen.once(key, 2)?;
                self.shape = Some(shape(cursor)?);
                Ok(())
            }
            "parameters" => {
                self.seen.once(key, 3)?;
                self.parameters(cursor)
            }
            "data" => {
                self.seen.once(key, 4)?;
                self.data(cursor)
            }
            _ => cursor.skip(),
        })
    }

    fn data(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Error> {
        if let (Some(datatype), Some(shape)) = (self.datatype, &self.shape) {
            self.data = Some(json_array::read(cursor, datatype, shape, self.limit)?);
            return Ok(());
        }
        self.later = Some(cursor.clone());
        cursor.skip()
    }

    fn parameters(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        let mut seen = Seen::default();
        parameters(cursor, |cursor, key| match key {
            "binary_data_size" => {
                seen.once(key, 0)?;
                let size = number::integer_of(cursor, "a size in bytes").map_err(|fault| in_parameter(key, fault))?;
                self.binary_size = Some(size);
                Ok(())
            }
            _ => {
                check_input_parameter(key)?;
                cursor.skip()
            }
        })
    }

    fn finish(mut self, blobs: &mut Blobs, decoded: &mut u64) -> Result<NamedTensor, Error> {
        let name = self.name.take().ok_or_else(|| invalid("an input has no `name`"))?;
        let datatype = self.datatype.ok_or_else(|| in_input(&name, invalid("it has no `datatype`")))?;
        let shape = self.shape.take().ok_or_else(|| in_input(&name, invalid("it has no `shape`")))?;
        let tensor = self.tensor(datatype, shape, blobs, decoded).map_err(|fault| in_input(&name, fault))?;
        Ok(NamedTensor { name, tensor })
    }

    fn tensor(
        self,
        datatype: Datatype,
        shape: Vec<u64>,
        blobs: &mut Blobs,
        decoded: &mut u64,
    ) -> Result<Tensor, Error> {
        let data = match (self.data, self.later) {
            (Some(data), _) => Some(data),
            (None, Some(mut cursor)) => Some(json_array::read(&mut cursor, datatype, &shape, self.limit)?),
            (None, None) => None,
        };
        match (data, self.binary_size) {
            (Some(data), None) => {
                *decoded += data.len() as u64;
                Ok(Tensor { datatype, shape, data })
            }
            (None, Some(size)) => tensors::tensor(datatype, shape, blobs.take(size)?),
            (Some(_), Some(_)) => Err(invalid("it has both `data` and `binary_data_size`")),
            (None, None) => Err(invalid("it has neither `data` nor `binary_data_size`")),
        }
    }
}

fn wanted_output(cursor: &mut Cursor<'_>) -> Result<WantedOutput, Error> {
    let mut seen = Seen::default();
    let mut name = None;
    let mut binary = false;
    cursor.object(|cursor, key| match key {
        "name" => {
            seen.once(key, 0)?;
            name = Some(cursor.string()?.into_owned());
            Ok(())
        }
        "parameters" => {
            seen.once(key, 1)?;
            output_parameters(cursor, &mut binary)
        }
        _ => cursor.skip(),
    })?;
    let name = name.ok_or_else(|| invalid("an output has no `name`"))?;
    Ok(WantedOutput { name, binary })
}

fn output_parameters(cursor: &mut Cursor<'_>, binary: &mut bool) -> Result<(), Error> {
    let mut seen = Seen::default();
    parameters(cursor, |cursor, key| match key {
        "binary_data" => {
            seen.once(key, 0)?;
            *binary = cursor.boolean().map_err(|fault| in_parameter(key, fault))?;
            Ok(())
        }
        _ => {
            check_output_parameter(key)?;
            cursor.skip()
        }
    })
}

/// Read a `parameters` object; `null`, which pydantic clients send, is an empty one.
fn parameters(
    cursor: &mut Cursor<'_>,
    member: impl FnMut(&mut Cursor<'_>, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    if cursor.null()? { Ok(()) } else { cursor.object(member) }
}

fn parameter_value(cursor: &mut Cursor<'_>) -> Result<Parameter, Error> {
    match cursor.token() {
        Some(b't' | b'f') => cursor.boolean().map(Parameter::Bool),
        Some(b'"') => cursor.string().map(|text| Parameter::String(text.into_owned())),
        Some(b'-' | b'0'..=b'9') => {
            let is_whole = cursor.clone().number()?.bytes().all(|byte| matches!(byte, b'-' | b'0'..=b'9'));
            if is_whole {
                number::integer_of(cursor, "INT64").map(Parameter::Int)
            } else {
                number::float64(cursor).map(Parameter::Double)
            }
        }
        _ => Err(invalid("want a boolean, a number or a string")),
    }
}

fn shape(cursor: &mut Cursor<'_>) -> Result<Vec<u64>, Error> {
    let mut shape = Vec::with_capacity(4);
    cursor.array(|cursor| {
        check_axes(shape.len())?;
        shape.push(number::integer_of(cursor, "a length in `shape`")?);
        Ok(())
    })?;
    Ok(shape)
}

/// Which keys of an object were there.
#[derive(Default)]
struct Seen(u8);

impl Seen {
    fn once(&mut self, key: &str, number: u8) -> Result<(), Error> {
        if self.has(number) {
            return Err(invalid(format!("the key `{key}` stands twice in one object")));
        }
        self.0 |= 1 << number;
        Ok(())
    }

    fn has(&self, number: u8) -> bool {
        self.0 & 1 << number != 0
    }
}

#[cfg(test)]
#[path = "json_decode_tests.rs"]
mod tests;
