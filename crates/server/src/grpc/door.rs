//! From a call to its answer: guard, method, call, trailers.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response};
use samovar_core::error::{Code, Error, echo};

use super::error::{self, GRPC_STATUS, OK, status};
use super::frame::Frame;
use super::{DOOR, control, infer};
use crate::connection::{Handler, Outgoing, Pulse};
use crate::data_plane::{Asker, DataPlane};
use crate::door::access::{AccessLine, Status};
use crate::door::call::Call;
use crate::door::guard::Guard;
use crate::door::head::Head;
use crate::door::panic;

const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const CODINGS: HeaderValue = HeaderValue::from_static("identity, deflate, gzip");
const GRPC: HeaderValue = HeaderValue::from_static(super::CONTENT_TYPE);

/// The gRPC door of one listener.
pub(crate) struct Door {
    plane: Arc<DataPlane>,
    guard: Guard,
    access_log: bool,
}

impl Door {
    pub(crate) fn new(plane: Arc<DataPlane>, guard: Guard) -> Self {
        let access_log = plane.config().access_log;
        Self { plane, guard, access_log }
    }

    async fn reply(&self, parts: &Parts, call: &mut Call<'_>) -> Result<Frame, Error> {
        match panic::catch(self.method(parts, call)).await {
            Ok(result) => result,
            Err(panic) => Err(panic::report(&self.plane, &call.request_id(&self.plane), &*panic)),
        }
    }

    async fn method(&self, parts: &Parts, call: &mut Call<'_>) -> Result<Frame, Error> {
        self.guard.check(&call.head, &parts.uri, parts.version)?;
        if parts.method != Method::POST {
            let message = format!("{} is no method of gRPC; want POST", echo(parts.method.as_str()));
            return Err(Error::new(Code::MethodNotAllowed, message));
        }
        let plane = &self.plane;
        let path = parts.uri.path();
        let method = path.strip_prefix("/inference.GRPCInferenceService/");
        match method {
            Some("ModelInfer") => infer::infer(plane, call).await,
            Some("ServerLive") => control::server_live(plane, call).await,
            Some("ServerReady") => control::server_ready(plane, call).await,
            Some("ModelReady") => control::model_ready(plane, call).await,
            Some("ServerMetadata") => control::server_metadata(plane, call).await,
            Some("ModelMetadata") => control::model_metadata(plane, call).await,
            Some("ModelConfig") => control::model_config(plane, call).await,
            Some("ModelStatistics") => control::model_statistics(plane, call).await,
            Some("RepositoryIndex") => control::repository_index(plane, call).await,
            Some("RepositoryModelLoad") => control::load(plane, call).await,
            Some("RepositoryModelUnload") => control::unload(plane, call).await,
            None if path == "/grpc.health.v1.Health/Check" => control::health_check(plane, call).await,
            _ => Err(unknown_method(path)),
        }
    }
}

#[cold]
fn unknown_method(path: &str) -> Error {
    let message = format!(
        "method \"{}\" is not served; inference.GRPCInferenceService and grpc.health.v1.Health/Check are",
        echo(path)
    );
    Error::new(Code::NotFound, message)
}

impl Handler for Door {
    async fn handle(&self, request: Request<Incoming>, pulse: &Arc<Pulse>) -> Response<Outgoing> {
        let arrived = pulse.begin();
        let (parts, mut incoming) = request.into_parts();
        let cancelled = Status::Grpc(status(Code::Cancelled));
        let line = AccessLine::new(self.access_log.then_some(DOOR), &parts, cancelled, arrived);
        let mut call = Call { head: Head::new(&parts.headers), body: &mut incoming, asker: Asker::Client, line };
        let result = self.reply(&parts, &mut call).await;
        if self.access_log {
            call.request_id(&self.plane); // every line has one
        }
        call.line.outcome = match &result {
            Ok(_) => (Status::Grpc(OK), None),
            Err(error) => (Status::Grpc(status(error.code)), Some(error.code)),
        };
        match result {
            Ok(frame) => {
                call.line.bytes_out = frame.length() as u64;
                answered(frame)
            }
            Err(error) => refused(&error, &call.request_id(&self.plane)),
        }
    }
}

fn answered(frame: Frame) -> Response<Outgoing> {
    let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from(u16::from(OK)))]);
    let mut response = Response::new(Outgoing::with_tensors(frame.start, frame.rest, Some(trailers)));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// An answer of headers alone, which are the trailers.
fn refused(error: &Error, id: &str) -> Response<Outgoing> {
    let mut response = Response::new(Outgoing::default());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    error::write(headers, error, id);
    if error.code == Code::UnsupportedMediaType {
        headers.insert(ACCEPT_ENCODING, CODINGS);
    }
    response
}
