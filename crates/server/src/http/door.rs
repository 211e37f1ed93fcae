//! From a request to its answer: guard, route, call, reply.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, Response};
use samovar_core::error::{Code, Error};

use super::access::AccessLine;
use super::body;
use super::call::Call;
use super::control;
use super::guard::Guard;
use super::head::Head;
use super::infer::{self, panicked};
use super::io::Pulse;
use super::reply::Reply;
use super::routes::Route;
use super::serve::Handler;
use crate::data_plane::DataPlane;

/// The HTTP door of one listener.
pub(super) struct Door {
    plane: Arc<DataPlane>,
    guard: Guard,
    access_log: bool,
}

impl Door {
    pub(super) fn new(plane: Arc<DataPlane>, loopback: bool) -> Self {
        let config = plane.config();
        let guard = Guard {
            loopback,
            allowed_hosts: config.allowed_hosts.clone(),
            allowed_origins: config.allowed_origins.clone(),
        };
        let access_log = config.access_log;
        Self { plane, guard, access_log }
    }

    /// The answer, be it an error.
    async fn reply(&self, parts: &Parts, call: &mut Call<'_>) -> Reply {
        let error = match catch_panic(self.route(parts, call)).await {
            Ok(Ok(reply)) => return reply,
            Ok(Err(error)) => error,
            Err(panic) => {
                let id = call.request_id(&self.plane);
                self.plane.panicked();
                tracing::error!(request_id = &*id, panic = panic_text(&*panic), "a request failed in the engine");
                panicked()
            }
        };
        let id = call.request_id(&self.plane);
        let allow = (error.code == Code::MethodNotAllowed).then(|| Route::allow(parts.uri.path()));
        let reply = Reply::error(&error, &id, allow);
        let is_coding_refused = error.code == Code::UnsupportedMediaType && call.head.coding().is_err();
        if is_coding_refused { reply.naming_codings() } else { reply }
    }

    async fn route(&self, parts: &Parts, call: &mut Call<'_>) -> Result<Reply, Error> {
        self.guard.check(&call.head, &parts.uri, parts.version)?;
        let plane = &self.plane;
        let route = Route::find(&parts.method, parts.uri.path(), parts.uri.query())?;
        if let (Some(model), version) = route.names() {
            call.line.model = Some(model.to_owned());
            call.line.version = version.map(Arc::from).or_else(|| plane.chosen_version(model));
        }
        match route {
            Route::Infer(target) => infer::infer(plane, target, call).await,
            Route::Server => control::server(),
            Route::Live => Ok(control::health(plane.live())),
            Route::Ready => Ok(control::health(plane.ready())),
            Route::Metrics => Ok(Reply::metrics(plane.metrics_text())),
            Route::Model(target) => control::model(plane, &target),
            Route::ModelReady(target) => control::model_ready(plane, &target),
            Route::Index => control::index(plane, call).await,
            Route::Load(model) => control::load(plane, &model, call).await,
            Route::Unload(model) => control::unload(plane, &model, call).await,
        }
    }
}

impl Handler for Door {
    async fn handle(&self, request: Request<Incoming>, pulse: &Pulse) -> Response<Full<Bytes>> {
        let arrived = pulse.begin();
        let (parts, mut incoming) = request.into_parts();
        let line = AccessLine::new(self.access_log, &parts.method, parts.uri.path(), arrived);
        let mut call = Call { head: Head::new(&parts.headers), body: &mut incoming, line };
        let mut reply = self.reply(&parts, &mut call).await;
        if self.access_log {
            call.request_id(&self.plane); // every line has one
        }
        let Call { head, body, mut line } = call;
        line.outcome = (reply.status, reply.code);
        line.bytes_out = reply.body.len() as u64;
        if let Some(version) = reply.version.take() {
            line.version = Some(version);
        }
        let unread = !(hyper::body::Body::is_end_stream(body) || (!head.expects && body::drain(body).await));
        if unread {
            pulse.linger();
        }
        reply.into_response(unread || self.plane.draining())
    }
}

/// `future`, but a panic is its result.
async fn catch_panic<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
