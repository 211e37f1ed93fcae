//! The gRPC door: `inference.GRPCInferenceService` and `grpc.health.v1.Health`.
//!
//! gRPC is a thin frame on HTTP/2, and the connections are those of the HTTP door; the requests of ModelInfer are read
//! where they lie, so that a tensor is a slice of the body and a malicious message costs no more than its bytes.
//!
//! ```text
//! connection ─ door ─ guard, method ─┬ control, health                              ─┬ frame, trailers
//!                                    └ infer: frame, decode (wire), call, encode    ─┘
//! ```

mod contents;
mod control;
mod decode;
mod door;
mod encode;
mod error;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(feature = "guard")]
pub(crate) mod guard;
mod infer;
mod wire;

use hyper::header::HeaderValue;

pub(crate) use door::Door;
pub(crate) use error::status;

/// The name of this door in metrics and in the log.
const DOOR: &str = "grpc";
/// What names a request, and an answer, as gRPC.
const CONTENT_TYPE: &str = "application/grpc";

/// Does a request of this content type want the gRPC door?
pub(crate) fn is_grpc(content_type: &HeaderValue) -> bool {
    let rest = content_type.as_bytes().strip_prefix(CONTENT_TYPE.as_bytes());
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_of_grpc() {
        for yes in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
            assert!(is_grpc(&HeaderValue::from_static(yes)), "{yes}");
        }
        for no in ["application/grpc-web", "application/json", "application/grpcx", ""] {
            assert!(!is_grpc(&HeaderValue::from_static(no)), "{no}");
        }
    }
}
