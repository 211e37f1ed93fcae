//! From a request to its answer: guard, route, call, reply.

use std::pin::pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, Response, Version};
use samovar_core::error::{Code, Error};

use super::admin;
use super::control;
use super::docs;
use super::door_name;
use super::error::status;
use super::infer;
use super::reply::Reply;
use super::routes::{self, Route};
use super::service::Meant;
use crate::connection::{Handler, Outgoing, Pulse};
use crate::data_plane::{Asker, DataPlane};
use crate::door::access::{AccessLine, Status};
use crate::door::body;
use crate::door::call::Call;
use crate::door::guard::Guard;
use crate::door::head::Head;
use crate::door::panic;

/// The HTTP door of one listener.
pub(crate) struct Door {
    pub(super) plane: Arc<DataPlane>,
    pub(super) guard: Guard,
    pub(super) access_log: bool,
    pub(super) compresses: bool,
    pub(super) asker: Asker,
}

impl Door {
    pub(crate) fn new(plane: Arc<DataPlane>, guard: Guard, asker: Asker) -> Self {
        let config = plane.config();
        let (access_log, compresses) = (config.access_log, config.compress_responses);
        Self { plane, guard, access_log, compresses, asker }
    }

    /// The answer, be it an error.
    async fn reply(&self, parts: &Parts, call: &mut Call<'_>) -> Reply {
        // Pinned here: a future that takes another one as an argument has room for it twice.
        let routed = panic::catch(pin!(self.route(parts, call))).await;
        let error = match routed {
            Ok(Ok(reply)) => return reply,
            Ok(Err(error)) => error,
            Err(panic) => panic::report(&self.plane, &call.request_id(&self.plane), &*panic),
        };
        let id = call.request_id(&self.plane);
        let allow = (error.code == Code::MethodNotAllowed).then(|| Route::allow(parts.uri.path()));
        let reply = Reply::error(&error, &id, allow);
        let is_coding_refused = error.code == Code::UnsupportedMediaType && call.head.coding().is_err();
        if is_coding_refused { reply.naming_codings() } else { reply }
    }

    async fn route(&self, parts: &Parts, call: &mut Call<'_>) -> Result<Reply, Error> {
        call.head.check_framing()?;
        self.guard.check(&call.head, &parts.uri, parts.version)?;
        let plane = &self.plane;
        let route = Route::find(&parts.method, (parts.uri.path(), parts.uri.query()), self.asker)?;
        if let (Some(model), version) = route.names() {
            call.line.model = Some(model.to_owned());
            call.line.version = version.map(Arc::from).or_else(|| plane.chosen_version(model));
        }
        match route {
            Route::Infer(target) => infer::infer(plane, target, call).await,
            Route::Server => control::server(),
            Route::Live => Ok(control::health(plane.live())),
            Route::Ready => Ok(control::health(plane.ready())),
            Route::Metrics => Ok(Reply::metrics(plane.metrics_text().await)),
            Route::Docs => Ok(Reply::page(docs::page(&plane.services()))),
            Route::Model(target) => control::model(plane, &target),
            Route::Config(target) => control::config(plane, &target),
            Route::Statistics(target) => control::statistics(plane, target.as_ref()),
            Route::ModelReady(target) => control::model_ready(plane, &target),
            Route::Index => control::index(plane, call).await,
            Route::Load(model) => control::load(plane, &model, call).await,
            Route::Unload(model) => control::unload(plane, &model, call).await,
            Route::State => admin::state(plane),
            Route::Events => admin::events(plane, parts.uri.query()).await,
        }
    }

    /// The service that a request is for; every path of the engine is the engine's.
    fn service(&self, request: &Request<Incoming>) -> Option<Meant> {
        let path = request.uri().path();
        if routes::is_of_engine(path, self.asker) {
            return None;
        }
        self.plane.service(request.method().as_str(), path)
    }
}

impl Handler for Door {
    async fn handle(&self, request: Request<Incoming>, pulse: &Arc<Pulse>) -> Response<Outgoing> {
        if let Some(meant) = self.service(&request) {
            // Boxed, like the gRPC door: no other request should pay for its size.
            return Box::pin(self.serve(meant, request, pulse)).await;
        }
        let arrived = pulse.begin();
        let (parts, mut incoming) = request.into_parts();
        let cancelled = Status::Http(status(Code::Cancelled));
        let line = AccessLine::new(self.access_log.then_some(door_name(self.asker)), &parts, cancelled, arrived);
        let mut call = Call { head: Head::new(&parts.headers), body: &mut incoming, asker: self.asker, line };
        let mut reply = self.reply(&parts, &mut call).await;
        if self.compresses {
            reply = reply.compressed(&parts.headers).await;
        }
        if self.access_log {
            call.request_id(&self.plane); // every line has one
        }
        let Call { head, body, mut line, .. } = call;
        line.outcome = (Status::Http(reply.status), reply.code);
        line.bytes_out = reply.length() as u64;
        if let Some(version) = reply.version.take() {
            line.version = Some(version);
        }
        let unread = !(hyper::body::Body::is_end_stream(body) || (!head.expects && body::drain(body).await));
        if unread {
            pulse.linger();
        }
        // HTTP/2 ends a connection by frames of its own.
        let is_last = unread || self.plane.draining() || head.check_framing().is_err();
        if reply.has_company {
            pulse.keep_company();
        }
        let closes = parts.version < Version::HTTP_2 && is_last;
        if closes {
            pulse.linger_briefly();
        }
        reply.into_response(closes)
    }
}

#[cfg(test)]
#[path = "door_tests.rs"]
pub(super) mod tests;
