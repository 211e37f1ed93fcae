//! One log line per request, also for those whose client went away.

use std::borrow::Cow;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::http::request::Parts;
use samovar_core::clock::{self, Nanos};
use samovar_core::error::Code;

use crate::log::ACCESS;

/// What a protocol calls an outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Status {
    Http(StatusCode),
    /// `grpc-status`.
    Grpc(u8),
}

/// What the log will say of a request; it says so when dropped.
pub(crate) struct AccessLine<'a> {
    /// Nothing is said without one.
    door: Option<&'static str>,
    method: Cow<'a, str>,
    /// Without the query.
    path: Cow<'a, str>,
    pub(crate) arrived: Nanos,
    pub(crate) model: Option<String>,
    pub(crate) version: Option<Arc<str>>,
    pub(crate) request_id: Option<Arc<str>>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// What was answered; stays `cancelled` where nothing was.
    pub(crate) outcome: (Status, Option<Code>),
}

impl<'a> AccessLine<'a> {
    /// The line of a request; `cancelled` is what stands there if its client goes away.
    pub(crate) fn new(door: Option<&'static str>, parts: &'a Parts, cancelled: Status, arrived: Nanos) -> Self {
        Self {
            door,
            method: Cow::Borrowed(parts.method.as_str()),
            path: Cow::Borrowed(parts.uri.path()),
            arrived,
            model: None,
            version: None,
            request_id: None,
            bytes_in: 0,
            bytes_out: 0,
            outcome: (cancelled, Some(Code::Cancelled)),
        }
    }

    /// The same, for an answer that outlives its request.
    pub(crate) fn into_owned(mut self) -> AccessLine<'static> {
        AccessLine {
            door: self.door.take(), // the line is said once
            method: Cow::Owned(std::mem::take(&mut self.method).into_owned()),
            path: Cow::Owned(std::mem::take(&mut self.path).into_owned()),
            arrived: self.arrived,
            model: self.model.take(),
            version: self.version.take(),
            request_id: self.request_id.take(),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            outcome: self.outcome,
        }
    }
}

impl Drop for AccessLine<'_> {
    fn drop(&mut self) {
        let Some(door) = self.door else { return };
        let microseconds = clock::now().saturating_sub(self.arrived) / 1_000;
        let (status, grpc_status) = match self.outcome.0 {
            Status::Http(status) => (Some(status.as_u16()), None),
            Status::Grpc(status) => (None, Some(status)),
        };
        tracing::info!(
            target: ACCESS,
            message = "request",
            door,
            method = &*self.method,
            path = &*self.path,
            status,
            grpc_status,
            model = self.model.as_deref(),
            version = self.version.as_deref(),
            request_id = self.request_id.as_deref(),
            duration_ms = microseconds as f64 / 1e3,
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            code = self.outcome.1.map(Code::slug),
        );
    }
}
