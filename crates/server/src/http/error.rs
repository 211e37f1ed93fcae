//! The status numbers of this door, and error bodies.

use bytes::Bytes;
use hyper::StatusCode;
use samovar_core::error::{Code, Error};
use serde::Serialize;

/// The status of each code; without a wildcard, so that a new code does not compile before it has one.
pub(crate) fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest | Code::InvalidInput | Code::UnknownOutput | Code::InvalidName => StatusCode::BAD_REQUEST,
        Code::ForbiddenOrigin | Code::ControlDisabled => StatusCode::FORBIDDEN,
        Code::UnknownModel | Code::UnknownVersion | Code::NotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UriTooLong => StatusCode::URI_TOO_LONG,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::ForbiddenHost => StatusCode::MISDIRECTED_REQUEST,
        Code::QueueFull | Code::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        Code::Cancelled => client_closed_request(),
        Code::ModelError
        | Code::BadModelOutput
        | Code::PoisonItem
        | Code::CallCycle
        | Code::LoadFailed
        | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::NotReady | Code::ModelFailed | Code::ShuttingDown | Code::WorkerLost => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// 499, nginx's number for a client that went away; seen in logs alone.
fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    code: &'a str,
    id: &'a str,
}

/// What a client reads: `{"error": text, "code": slug, "id": request id}`.
pub(super) fn body(error: &Error, id: &str) -> Bytes {
    let body = ErrorBody { error: &error.message, code: error.code.slug(), id };
    // Three strings always serialise.
    serde_json::to_vec(&body).map(Bytes::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_an_error_status() {
        for code in Code::ALL {
            let status = status(*code);
            assert!(status.is_client_error() || status.is_server_error(), "{}", code.slug());
        }
        assert_eq!(status(Code::Cancelled).as_u16(), 499);
    }

    #[test]
    fn bodies_are_json_whatever_the_message() {
        let body = body(&Error::new(Code::InvalidRequest, "a \"b\"\n\u{1}"), "7");
        let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(read, serde_json::json!({"error": "a \"b\"\n\u{1}", "code": "invalid_request", "id": "7"}));
    }
}
