//! `ModelInferRequest` as tensors.
//!
//! Read by hand, because generated code would build a structure of 100 bytes and more for each field of two: a message
//! within the limit could fill the memory of the machine.

use bytes::Bytes;
use samovar_core::clock::Nanos;
use samovar_core::error::{Error, echo};
use samovar_core::request::{Parameter, Parameters};
use samovar_core::tensor::{Datatype, NamedTensor, Tensor};

use super::contents;
use super::wire::{Cursor, Value};
use crate::door::invalid;
use crate::door::limits::{
    check_axes, check_id, check_input_is_new, check_input_parameter, check_inputs, check_output_is_new,
    check_output_parameter, check_outputs, check_parameter, in_parameter, queue_timeout,
};
use crate::door::names::check_name;
use crate::door::tensors::{self, in_input};

/// What a message says.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// A name, checked before it is kept: it goes into the log, where a client shall not write megabytes.
    pub(super) model: String,
    /// Likewise.
    pub(super) version: Option<String>,
    /// The client's own id. Set as soon as it was read, so that an error behind it can carry it.
    pub(super) id: Option<String>,
    pub(super) parameters: Parameters,
    /// The parameter `timeout`.
    pub(super) queue_timeout: Option<Nanos>,
    pub(super) inputs: Vec<NamedTensor>,
    /// Names of the outputs wanted.
    pub(super) outputs: Vec<String>,
    /// Bytes of tensors that were made from typed contents, on top of the message itself.
    pub(super) decoded_bytes: u64,
}

/// Parts of a message whose meaning depends on others.
#[derive(Default)]
struct Parts<'a> {
    inputs: Vec<&'a [u8]>,
    raw: Vec<&'a [u8]>,
}

impl Decoded {
    /// Read `message`; tensors made from typed contents take at most `limit` bytes.
    ///
    /// Errors with `invalid_request`, `invalid_name` or `payload_too_large`. Raw tensors are slices of `message`.
    pub(super) fn read(&mut self, message: &Bytes, limit: u64) -> Result<(), Error> {
        let parts = self.envelope(message)?;
        check_name(&self.model)?; // for one that does not stand there
        let (inputs, raws) = (parts.inputs.len(), parts.raw.len());
        if raws > 0 && inputs != raws {
            return Err(invalid(format!(
                "the request has {inputs} inputs and {raws} raw_input_contents; send one for each input, or none"
            )));
        }
        for (index, input) in parts.inputs.into_iter().enumerate() {
            let limit = limit.saturating_sub(self.decoded_bytes);
            let input = Input::read(input)?.finish(message, parts.raw.get(index).copied(), limit)?;
            check_input_is_new(&self.inputs, &input.tensor.name)?;
            self.decoded_bytes += input.decoded_bytes;
            self.inputs.push(input.tensor);
        }
        Ok(())
    }

    fn envelope<'a>(&mut self, message: &'a [u8]) -> Result<Parts<'a>, Error> {
        let mut parts = Parts::default();
        let mut cursor = Cursor::new(message);
        while let Some((number, value)) = cursor.field()? {
            match number {
                1 => self.model = check_name(value.text("model_name")?)?.to_owned(),
                2 => self.version(value.text("model_version")?)?,
                3 => self.id(value.text("id")?)?,
                4 => self.request_parameter(value.bytes("parameters")?)?,
                5 => {
                    check_inputs(parts.inputs.len())?;
                    parts.inputs.push(value.bytes("inputs")?);
                }
                6 => self.output(value.bytes("outputs")?)?,
                7 => {
                    check_inputs(parts.raw.len())?;
                    parts.raw.push(value.bytes("raw_input_contents")?);
                }
                _ => {}
            }
        }
        Ok(parts)
    }

    fn version(&mut self, version: &str) -> Result<(), Error> {
        self.version = if version.is_empty() { None } else { Some(check_name(version)?.to_owned()) };
        Ok(())
    }

    fn id(&mut self, id: &str) -> Result<(), Error> {
        check_id(id)?;
        self.id = Some(id.to_owned()).filter(|id| !id.is_empty());
        Ok(())
    }

    fn request_parameter(&mut self, entry: &[u8]) -> Result<(), Error> {
        let (key, value) = map_entry(entry)?;
        let value = parameter(value).map_err(|fault| in_parameter(key, fault));
        if key == "timeout" {
            self.queue_timeout = queue_timeout(&value?)?;
            return Ok(());
        }
        check_parameter(&self.parameters, key)?;
        self.parameters.push((key.to_owned(), value?));
        Ok(())
    }

    fn output(&mut self, output: &[u8]) -> Result<(), Error> {
        check_outputs(self.outputs.len())?;
        let mut name = "";
        let mut cursor = Cursor::new(output);
        while let Some((number, value)) = cursor.field()? {
            match number {
                1 => name = value.text("name")?,
                2 => check_output_parameter(map_entry(value.bytes("parameters")?)?.0)?,
                _ => {}
            }
        }
        if name.is_empty() {
            return Err(invalid("an output has no `name`"));
        }
        check_output_is_new(self.outputs.iter(), name)?;
        self.outputs.push(name.to_owned());
        Ok(())
    }
}

/// One element of `inputs`.
#[derive(Default)]
struct Input<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: Vec<u64>,
    contents: Option<&'a [u8]>,
}

struct Finished {
    tensor: NamedTensor,
    decoded_bytes: u64,
}

impl<'a> Input<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Error> {
        let mut input = Self::default();
        let mut cursor = Cursor::new(message);
        while let Some((number, value)) = cursor.field()? {
            input.field(number, value).map_err(|fault| input.named(fault))?;
        }
        if input.name.is_empty() { Err(invalid("an input has no `name`")) } else { Ok(input) }
    }

    /// `fault` with the name of this input, if it is known.
    fn named(&self, fault: Error) -> Error {
        if self.name.is_empty() { fault } else { in_input(self.name, fault) }
    }

    fn field(&mut self, number: u32, value: Value<'a>) -> Result<(), Error> {
        match number {
            1 => self.name = value.text("name")?,
            2 => self.datatype = value.text("datatype")?,
            3 => self.axes(value)?,
            4 => check_input_parameter(map_entry(value.bytes("parameters")?)?.0)?,
            5 if self.contents.is_some() => return Err(invalid("its `contents` stand there twice")),
            5 => self.contents = Some(value.bytes("contents")?),
            _ => {}
        }
        Ok(())
    }

    /// `shape`, packed or one axis of it.
    fn axes(&mut self, value: Value<'_>) -> Result<(), Error> {
        let Value::Bytes(packed) = value else { return self.axis(value.varint("shape")?) };
        let mut cursor = Cursor::new(packed);
        while !cursor.is_at_end() {
            self.axis(cursor.varint()?)?;
        }
        Ok(())
    }

    fn axis(&mut self, bits: u64) -> Result<(), Error> {
        check_axes(self.shape.len())?;
        let length = bits.cast_signed();
        let length =
            u64::try_from(length).map_err(|_| invalid(format!("`{length}` does not fit a length in `shape`")))?;
        self.shape.push(length);
        Ok(())
    }

    fn finish(self, message: &Bytes, raw: Option<&[u8]>, limit: u64) -> Result<Finished, Error> {
        let (name, contents) = (self.name, self.contents);
        let (tensor, decoded_bytes) =
            self.tensor(message, (raw, contents), limit).map_err(|fault| in_input(name, fault))?;
        Ok(Finished { tensor: NamedTensor { name: name.to_owned(), tensor }, decoded_bytes })
    }

    fn tensor(self, message: &Bytes, data: (Option<&[u8]>, Option<&[u8]>), limit: u64) -> Result<(Tensor, u64), Error> {
        if self.datatype.is_empty() {
            return Err(invalid("it has no `datatype`"));
        }
        let datatype = tensors::datatype(self.datatype)?;
        match data {
            (Some(raw), None) => Ok((tensors::tensor(datatype, self.shape, message.slice_ref(raw))?, 0)),
            (None, Some(contents)) => typed(contents, message, (datatype, self.shape), limit),
            (Some(_), Some(_)) => Err(invalid("it has both `contents` and raw_input_contents")),
            // No elements are no contents.
            (None, None) if tensors::count(&self.shape)? == 0 => {
                Ok((Tensor { datatype, shape: self.shape, data: Bytes::new() }, 0))
            }
            (None, None) => Err(invalid("it has neither `contents` nor raw_input_contents")),
        }
    }
}

fn typed(
    contents: &[u8],
    message: &Bytes,
    (datatype, shape): (Datatype, Vec<u64>),
    limit: u64,
) -> Result<(Tensor, u64), Error> {
    let data = contents::read(contents, message, (datatype, &shape), limit)?;
    Ok((Tensor { datatype, shape, data: data.bytes }, data.decoded_bytes))
}

/// Key and value of an entry of a map; an absent one is empty.
fn map_entry(entry: &[u8]) -> Result<(&str, &[u8]), Error> {
    let (mut key, mut value): (&str, &[u8]) = ("", &[]);
    let mut cursor = Cursor::new(entry);
    while let Some((number, field)) = cursor.field()? {
        match number {
            1 => key = field.text("key")?,
            2 => value = field.bytes("value")?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// An `InferParameter`; of several choices the last one counts.
fn parameter(message: &[u8]) -> Result<Parameter, Error> {
    let mut parameter = None;
    let mut cursor = Cursor::new(message);
    while let Some((number, value)) = cursor.field()? {
        parameter = Some(match (number, value) {
            (1, value) => Parameter::Bool(value.varint("bool_param")? != 0),
            (2, value) => Parameter::Int(value.varint("int64_param")?.cast_signed()),
            (3, value) => Parameter::String(value.text("string_param")?.to_owned()),
            (4, Value::Fixed64(bits)) => Parameter::Double(f64::from_le_bytes(bits)),
            (5, value) => {
                let value = value.varint("uint64_param")?;
                Parameter::Int(i64::try_from(value).map_err(|_| invalid(format!("`{value}` does not fit INT64")))?)
            }
            (4, _) => return Err(invalid("its double_param is no number of 64 bits")),
            (number, _) => return Err(invalid(format!("it has the unknown kind {}", echo(&number.to_string())))),
        });
    }
    parameter.ok_or_else(|| invalid("want a boolean, a number or a string"))
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
