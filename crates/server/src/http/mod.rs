//! The HTTP door: the Open Inference Protocol v2 with JSON and binary tensors, health and metrics.
//!
//! ```text
//! connection ─ door ─ guard, routes ─┬ control                             ─┬ reply
//!                                    └ infer: body, decode, call, encode   ─┘
//! ```

mod binary;
mod call;
mod control;
mod door;
mod error;
mod infer;
mod json;
mod json_array;
mod json_decode;
mod json_encode;
mod json_string;
mod number;
mod reply;
mod routes;

use std::sync::Arc;
use std::time::Duration;

use samovar_core::clock::{self, Nanos};

use crate::connection::{self, Limits, Listener, StopSignal, Timers};
use crate::data_plane::DataPlane;

/// The name of this door in metrics.
const DOOR: &str = "http";

/// Serve `plane` on `listener`, in a tokio runtime, until `stop` says otherwise.
///
/// Returns when the last connection has ended or the moment in `stop` has come, whichever is first. Errors only if the
/// listener cannot be used in this runtime; a Unix socket's path is removed at the end.
pub async fn serve(listener: Listener, plane: Arc<DataPlane>, stop: StopSignal) -> std::io::Result<()> {
    let config = plane.config();
    let limits = Limits {
        timers: Timers { header: seconds(config.header_timeout_s), keep_alive: seconds(config.keep_alive_s) },
        max_connections: config.max_connections.max(1),
    };
    let door = Arc::new(door::Door::new(plane, listener.is_loopback()));
    connection::serve(listener, door, limits, stop).await
}

fn seconds(value: f64) -> Nanos {
    Duration::try_from_secs_f64(value).map_or(clock::NEVER, clock::nanos)
}
