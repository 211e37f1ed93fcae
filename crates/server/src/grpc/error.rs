//! The status numbers of this door, and the trailers that carry an error.

use std::collections::BTreeMap;
use std::fmt::Write;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use prost::Message;
use prost_types::Any;
use samovar_core::error::{Code, Error};

use crate::door::retry_after;
use crate::proto::status::{ErrorInfo, RetryInfo, Status};

pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// Bytes of a message. It travels twice and may triple on the way, and grpcio refuses trailers from 8 KiB on.
const MAX_MESSAGE_BYTES: usize = 1_024;

pub(super) const OK: u8 = 0;
const CANCELLED: u8 = 1;
const INVALID_ARGUMENT: u8 = 3;
const DEADLINE_EXCEEDED: u8 = 4;
const NOT_FOUND: u8 = 5;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;

/// The status of each code; without a wildcard, so that a new code does not compile before it has one.
pub(crate) fn status(code: Code) -> u8 {
    match code {
        Code::InvalidRequest | Code::InvalidInput | Code::UnknownOutput | Code::InvalidName | Code::UriTooLong => {
            INVALID_ARGUMENT
        }
        // No precondition that the caller could meet: like HTTP's 403.
        Code::ForbiddenOrigin | Code::ForbiddenHost | Code::ControlDisabled => PERMISSION_DENIED,
        Code::UnknownModel | Code::UnknownVersion => NOT_FOUND,
        // gRPC's words for an unknown method, and for an unknown compression.
        Code::NotFound | Code::MethodNotAllowed | Code::UnsupportedMediaType => UNIMPLEMENTED,
        Code::PayloadTooLarge | Code::QueueFull | Code::Overloaded => RESOURCE_EXHAUSTED,
        Code::DeadlineExceeded | Code::BodyTimeout => DEADLINE_EXCEEDED,
        Code::Cancelled => CANCELLED,
        Code::ModelError
        | Code::BadModelOutput
        | Code::PoisonItem
        | Code::CallCycle
        | Code::LoadFailed
        | Code::Internal => INTERNAL,
        Code::NotReady | Code::ModelFailed | Code::ShuttingDown | Code::WorkerLost => UNAVAILABLE,
    }
}

/// Write `error` into `trailers`, with the id under which the log has it.
pub(super) fn write(trailers: &mut HeaderMap, error: &Error, id: &str) {
    let number = status(error.code);
    let message = shortened(&error.message);
    trailers.insert(GRPC_STATUS, HeaderValue::from(u16::from(number)));
    let details = base64(&details(error, message, id).encode_to_vec());
    for (name, text) in [(GRPC_MESSAGE, percent_encoded(message)), (GRPC_DETAILS, details)] {
        // Both encodings are visible ASCII.
        trailers.extend(HeaderValue::try_from(text).map(|value| (name, value)));
    }
}

fn details(error: &Error, message: &str, id: &str) -> Status {
    let info = ErrorInfo {
        reason: error.code.slug().to_owned(),
        domain: "samovar".to_owned(),
        metadata: BTreeMap::from([("id".to_owned(), id.to_owned())]),
    };
    let mut details = vec![any("google.rpc.ErrorInfo", &info)];
    if let Some(seconds) = retry_after(error) {
        let retry_delay = Some(prost_types::Duration { seconds: i64::from(seconds), nanos: 0 });
        details.push(any("google.rpc.RetryInfo", &RetryInfo { retry_delay }));
    }
    Status { code: i32::from(status(error.code)), message: message.to_owned(), details }
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

fn shortened(message: &str) -> &str {
    let mut end = message.len().min(MAX_MESSAGE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

/// As the protocol wants it: visible ASCII and spaces as they are, but for the percent sign.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").ok(); // a String takes everything
        }
    }
    encoded
}

/// RFC 4648, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..=group.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_an_error_status() {
        for code in Code::ALL {
            assert!((1..=16).contains(&status(*code)), "{}", code.slug());
        }
    }

    #[test]
    fn trailers_carry_slug_id_and_hint() {
        let error = Error::new(Code::QueueFull, "full: 100 %\né");
        let mut trailers = HeaderMap::new();
        write(&mut trailers, &error, "7");
        let read = details(&error, &error.message, "7");
        assert_eq!(trailers["grpc-status"], "8");
        assert_eq!(trailers["grpc-message"], "full: 100 %25%0A%C3%A9");
        assert_eq!(trailers["grpc-status-details-bin"], base64(&read.encode_to_vec()));
        assert_eq!((read.code, &read.message), (8, &error.message));
        let info = ErrorInfo::decode(&read.details[0].value[..]).unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str(), &info.metadata["id"][..]),
            ("queue_full", "samovar", "7")
        );
        let retry = RetryInfo::decode(&read.details[1].value[..]).unwrap();
        assert_eq!(retry.retry_delay.unwrap().seconds, 1);
        assert_eq!(details(&Error::new(Code::InvalidInput, ""), "", "7").details.len(), 1);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(shortened(&"é".repeat(2_000)).len(), 1_024);
        assert_eq!(shortened(&format!("a{}", "é".repeat(2_000))).len(), 1_023);
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy"), ("\u{fb}\u{ff}", "w7vDvw")]
        {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }
}
