//! How much of everything one request may have, and what is said to one that has more.

use samovar_core::clock::Nanos;
use samovar_core::error::{Error, echo};
use samovar_core::request::{Parameter, Parameters};
use samovar_core::tensor::{MAX_RANK, NamedTensor};

use super::tensors::in_input;
use super::{invalid, within};

/// Bytes of the body of a request that is no inference.
pub(crate) const MAX_CONTROL_BYTES: u64 = 1 << 20;
pub(crate) const MAX_INPUTS: usize = 1_024;
pub(crate) const MAX_OUTPUTS: usize = 64;
pub(crate) const MAX_PARAMETERS: usize = 256;
/// A longer request id than any log wants.
const MAX_ID_BYTES: usize = 1_024;
/// Of an input, output or parameter. Each is compared with all before it: names of 100 KiB that differ in their last
/// byte alone would hold the engine's thread for seconds.
const MAX_NAME_BYTES: usize = 1_024;

/// Is there room for an input behind so many?
pub(crate) fn check_inputs(count: usize) -> Result<(), Error> {
    if count < MAX_INPUTS {
        return Ok(());
    }
    Err(invalid(format!("the request has more than {MAX_INPUTS} inputs")))
}

/// Is `name` not among `inputs`, and short enough to be looked for?
pub(crate) fn check_input_is_new(inputs: &[NamedTensor], name: &str) -> Result<(), Error> {
    check_length(name).map_err(|fault| in_input(name, fault))?;
    if inputs.iter().all(|other| other.name != name) {
        return Ok(());
    }
    Err(in_input(name, invalid("the request has this input twice")))
}

/// Is there room for an output behind so many?
pub(crate) fn check_outputs(count: usize) -> Result<(), Error> {
    if count < MAX_OUTPUTS {
        return Ok(());
    }
    Err(invalid(format!("the request wants more than {MAX_OUTPUTS} outputs")))
}

/// Is `name` not among `outputs`, and short enough to be looked for?
pub(crate) fn check_output_is_new<'a>(mut outputs: impl Iterator<Item = &'a String>, name: &str) -> Result<(), Error> {
    check_length(name).map_err(|fault| within(&format!("output \"{}\"", echo(name)), fault))?;
    if outputs.all(|other| other != name) {
        return Ok(());
    }
    Err(invalid(format!("the request wants output \"{}\" twice", echo(name))))
}

/// May `key` join `parameters`?
pub(crate) fn check_parameter(parameters: &Parameters, key: &str) -> Result<(), Error> {
    check_length(key).map_err(|fault| in_parameter(key, fault))?;
    let fault = if key.starts_with("triton_") {
        "keys that start with `triton_` are reserved".to_owned()
    } else if parameters.len() == MAX_PARAMETERS {
        format!("a request takes at most {MAX_PARAMETERS} of them")
    } else if parameters.iter().any(|(name, _)| name == key) {
        "the key stands there twice".to_owned()
    } else {
        return Ok(());
    };
    Err(in_parameter(key, invalid(fault)))
}

/// The parameter `timeout`: how long a request may wait, in microseconds; 0 is no limit of its own.
pub(crate) fn queue_timeout(value: &Parameter) -> Result<Option<Nanos>, Error> {
    let got = match value {
        Parameter::Int(microseconds @ 0..) => {
            return Ok((*microseconds > 0).then(|| microseconds.unsigned_abs().saturating_mul(1_000)));
        }
        Parameter::Int(number) => number.to_string(),
        Parameter::Double(number) => number.to_string(),
        Parameter::Bool(value) => value.to_string(),
        Parameter::String(text) => format!("\"{}\"", echo(text)),
    };
    Err(in_parameter("timeout", invalid(format!("got {got}, want a whole number of microseconds"))))
}

/// May a parameter of this name stand with an input?
pub(crate) fn check_input_parameter(key: &str) -> Result<(), Error> {
    if key.starts_with("shared_memory_") {
        return Err(invalid("shared memory of clients is not taken"));
    }
    Ok(())
}

/// May a parameter of this name stand with an output?
pub(crate) fn check_output_parameter(key: &str) -> Result<(), Error> {
    if key == "classification" {
        return Err(invalid("the classification extension is not served"));
    }
    check_input_parameter(key)
}

/// May a parameter of this name stand with a load?
pub(crate) fn check_load_parameter(key: &str) -> Result<(), Error> {
    if key == "config" || key.starts_with("file:") {
        let key = echo(key);
        return Err(invalid(format!("the load parameter \"{key}\" is not taken; models are what their files say")));
    }
    Ok(())
}

fn check_length(name: &str) -> Result<(), Error> {
    if name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    Err(invalid(format!("its name has {} bytes, at most {MAX_NAME_BYTES} are taken", name.len())))
}

/// Is `id` short enough?
pub(crate) fn check_id(id: &str) -> Result<(), Error> {
    if id.len() <= MAX_ID_BYTES {
        return Ok(());
    }
    Err(invalid(format!("`id` has {} bytes, at most {MAX_ID_BYTES} are taken", id.len())))
}

/// Is there room for an axis behind so many?
pub(crate) fn check_axes(count: usize) -> Result<(), Error> {
    if count < MAX_RANK {
        return Ok(());
    }
    Err(invalid(format!("its shape has more than {MAX_RANK} axes")))
}

/// `fault` with the name of the parameter before it.
#[cold]
pub(crate) fn in_parameter(key: &str, fault: Error) -> Error {
    within(&format!("parameter \"{}\"", echo(key)), fault)
}
