//! Names of models and versions: `[A-Za-z0-9_][A-Za-z0-9._-]{0,254}`.

use samovar_core::error::{Code, Error, echo};

const MAX_NAME_BYTES: usize = 255;

/// Could a model or version have this name?
pub(crate) fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    name.len() <= MAX_NAME_BYTES
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric() || first == b'_')
        && name.bytes().all(is_inner)
}

/// `name` if it is one. Errors with `invalid_name`.
pub(crate) fn check_name(name: &str) -> Result<&str, Error> {
    if is_name(name) { Ok(name) } else { Err(invalid_name(name)) }
}

/// What is said to a name that is none, as the client wrote it.
#[cold]
pub(crate) fn invalid_name(raw: &str) -> Error {
    let message = format!(
        "\"{}\" is no name; names are letters, digits, `_`, `.` and `-`, at most {MAX_NAME_BYTES}, and start with no dot or dash",
        echo(raw)
    );
    Error::new(Code::InvalidName, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_slash_and_no_dot_in_front() {
        for name in ["a", "_", "9", "model..1", "A.b-c_d", &"x".repeat(255)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "-a", "a b", "a/b", "a\0", "é", "a:b", &"x".repeat(256)] {
            assert_eq!(check_name(name).unwrap_err().code, Code::InvalidName, "{name}");
        }
    }
}
