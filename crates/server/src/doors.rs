//! The doors of one listener: which of them a request is for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response, Version};
use samovar_core::clock::{self, Nanos};
use samovar_core::error::Code;
use tokio::sync::Semaphore;

use crate::connection::{self, Handler, Limits, Listener, Outgoing, Pulse, StopSignal, Timers};
use crate::data_plane::{Asker, DataPlane};
use crate::door::guard::Guard;
use crate::{grpc, http};

/// Commands and dashboards of one user; they take nothing from the clients' connections.
const MAX_OWNER_CONNECTIONS: usize = 64;

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
    let limits = Limits { timers: timers(&plane), connections, metrics: Arc::clone(plane.metrics()) };
    let doors = Arc::new(Doors::new(plane, listener.is_loopback()));
    connection::serve(listener, doors, limits, stop).await
}

/// Serve the HTTP door to the owner of the engine, who may ask for more than clients.
pub(crate) async fn serve_owner(listener: Listener, plane: Arc<DataPlane>, stop: StopSignal) -> io::Result<()> {
    let connections = Arc::new(Semaphore::new(MAX_OWNER_CONNECTIONS));
    let limits = Limits { timers: timers(&plane), connections, metrics: Arc::clone(plane.metrics()) };
    let door = Arc::new(http::Door::new(Arc::clone(&plane), guard(&plane, false), Asker::Owner));
    connection::serve(listener, door, limits, stop).await
}

/// What each door calls an error: the status of HTTP, and that of gRPC.
#[must_use]
pub fn statuses(code: Code) -> (u16, u8) {
    (http::status(code).as_u16(), grpc::status(code))
}

struct Doors {
    http: http::Door,
    grpc: grpc::Door,
}

impl Doors {
    fn new(plane: Arc<DataPlane>, loopback: bool) -> Self {
        let guard = guard(&plane, loopback);
        let http = http::Door::new(Arc::clone(&plane), guard.clone(), Asker::Client);
        Self { http, grpc: grpc::Door::new(plane, guard) }
    }
}

impl Handler for Doors {
    async fn handle(&self, request: Request<Incoming>, pulse: &Arc<Pulse>) -> Response<Outgoing> {
        if request.version() == Version::HTTP_2 && request.headers().get(CONTENT_TYPE).is_some_and(grpc::is_grpc) {
            // Boxed: beside the other door's future, this one would make every request's task larger.
            return Box::pin(self.grpc.handle(request, pulse)).await;
        }
        self.http.handle(request, pulse).await
    }
}

fn guard(plane: &DataPlane, loopback: bool) -> Guard {
    let config = plane.config();
    Guard { loopback, allowed_hosts: config.allowed_hosts.clone(), allowed_origins: config.allowed_origins.clone() }
}

fn timers(plane: &DataPlane) -> Timers {
    let config = plane.config();
    Timers { header: seconds(config.header_timeout_s), keep_alive: seconds(config.keep_alive_s) }
}

fn seconds(value: f64) -> Nanos {
    Duration::try_from_secs_f64(value).map_or(clock::NEVER, clock::nanos)
}
