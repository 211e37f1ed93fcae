//! The HTTP door: the Open Inference Protocol v2 with JSON and binary tensors, health and metrics; and services.
//!
//! ```text
//! connection ─ door ─┬ guard, routes ─┬ control, docs                       ─┬ reply
//!                    │                └ infer: body, decode, call, encode   ─┘
//!                    └ service: what is no path of the engine, and somebody's
//! ```

mod admin;
mod binary;
mod compression;
mod control;
mod docs;
mod door;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(feature = "guard")]
pub(crate) mod guard;
mod infer;
mod json;
mod json_array;
mod json_decode;
mod json_encode;
mod json_pieces;
mod json_string;
mod number;
mod number_lanes;
mod number_run;
mod records;
mod reply;
mod routes;
mod service;

pub(crate) use door::Door;
pub(crate) use error::status;

use crate::data_plane::Asker;

/// The name of this door in metrics and in the log.
fn door_name(asker: Asker) -> &'static str {
    match asker {
        Asker::Client => "http",
        Asker::Owner => "admin",
    }
}
