//! What every door does with a request, whatever its protocol.

pub(crate) mod access;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod guard;
pub(crate) mod head;
pub(crate) mod limits;
pub(crate) mod names;
pub(crate) mod panic;
pub(crate) mod tensors;

use samovar_core::error::{Code, Error};

/// Whole seconds after which to come again: what the error says, and always something where there was no room.
pub(crate) fn retry_after(error: &Error) -> Option<u32> {
    let least = matches!(error.code, Code::QueueFull | Code::Overloaded).then_some(1);
    error.retry_after_s.map(|seconds| seconds.max(1)).or(least)
}

/// An `invalid_request`.
#[cold]
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidRequest, message)
}

/// `fault` with the place that it is in before it.
#[cold]
pub(crate) fn within(place: &str, mut fault: Error) -> Error {
    fault.message = format!("{place}: {}", fault.message);
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overload_always_says_when_to_come_back() {
        assert_eq!(retry_after(&Error::new(Code::QueueFull, "")), Some(1));
        assert_eq!(retry_after(&Error::new(Code::Overloaded, "").retry_after(3)), Some(3));
        assert_eq!(retry_after(&Error::new(Code::NotReady, "")), None);
        assert_eq!(retry_after(&Error::new(Code::NotReady, "").retry_after(2)), Some(2));
    }
}
