//! What every door does with a request, whatever its protocol.

pub(crate) mod access;
pub(crate) mod body;
pub(crate) mod guard;
pub(crate) mod head;
pub(crate) mod limits;
pub(crate) mod panic;
pub(crate) mod tensors;

use samovar_core::error::{Code, Error};

/// An `invalid_request`.
#[cold]
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidRequest, message)
}
