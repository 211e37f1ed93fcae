//! Codecs without their doors, for `make bench-guard`, which counts instructions.

pub use crate::grpc::guard::decode_grpc;
pub use crate::http::guard::{decode_json, encode_json};
