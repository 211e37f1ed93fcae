//! The doors of one listener: which of them a request is for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use samovar_core::clock::{self, Nanos};
use tokio::sync::Semaphore;

use crate::connection::{self, Handler, Limits, Listener, Outgoing, Pulse, StopSignal, Timers};
use crate::data_plane::DataPlane;
use crate::door::guard::Guard;
use crate::http;

/// Serve `plane` on `listener`, in a tokio runtime, until `stop` says otherwise; each connection holds one permit of
/// `connections`.
///
/// Returns when the last connection has ended or the moment in `stop` has come, whichever is first. Errors only if the
/// listener cannot be used in this runtime; a Unix socket's path is removed at the end.
pub async fn serve(
    listener: Listener,
    plane: Arc<DataPlane>,
    connections: Arc<Semaphore>,
    stop: StopSignal,
) -> io::Result<()> {
    let config = plane.config();
    let timers = Timers { header: seconds(config.header_timeout_s), keep_alive: seconds(config.keep_alive_s) };
    let doors = Arc::new(Doors::new(plane, listener.is_loopback()));
    connection::serve(listener, doors, Limits { timers, connections }, stop).await
}

struct Doors {
    http: http::Door,
}

impl Doors {
    fn new(plane: Arc<DataPlane>, loopback: bool) -> Self {
        let config = plane.config();
        let guard = Guard {
            loopback,
            allowed_hosts: config.allowed_hosts.clone(),
            allowed_origins: config.allowed_origins.clone(),
        };
        Self { http: http::Door::new(plane, guard) }
    }
}

impl Handler for Doors {
    async fn handle(&self, request: Request<Incoming>, pulse: &Pulse) -> Response<Outgoing> {
        self.http.handle(request, pulse).await
    }
}

fn seconds(value: f64) -> Nanos {
    Duration::try_from_secs_f64(value).map_or(clock::NEVER, clock::nanos)
}
