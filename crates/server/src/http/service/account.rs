//! What is held for a request to a service, and what is said of it, until the last byte of its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hyper::StatusCode;
use samovar_core::error::{Code, Error};
use samovar_core::version::Version;

use super::Asked;
use crate::data_plane::{BodyPermit, Visit};
use crate::door::access::{AccessLine, Status};
use crate::http::door::Door;
use crate::http::{door_name, status};

/// Dropped, it says what became of the request: in the log, in the metrics.
pub(super) struct Account {
    pub(super) visit: Visit,
    /// Room for the body: kept until the end, for it may be run again.
    pub(super) room: BodyPermit,
    line: AccessLine<'static>,
    /// Bytes of the request's body, counted where they are read.
    uploaded: Arc<AtomicU64>,
}

impl Account {
    pub(super) fn new(door: &Door, version: &Arc<Version>, asked: &Asked<'_>, uploaded: Arc<AtomicU64>) -> Self {
        let name = door_name(door.asker);
        let cancelled = Status::Http(status(Code::Cancelled));
        let line = AccessLine::new(door.access_log.then_some(name), asked.parts, cancelled, asked.arrived);
        let mut line = line.into_owned();
        line.model = Some(version.name.to_string());
        line.version = Some(Arc::clone(&version.version));
        line.request_id = Some(Arc::clone(&asked.id));
        let visit = door.plane.visit(name, Arc::clone(version));
        Self { visit, room: door.plane.body_permit(), line, uploaded }
    }

    /// Counts what comes of the request's body.
    pub(super) fn uploaded(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.uploaded)
    }

    /// The head of the answer is there; until its end is, it counts as cancelled.
    pub(super) fn begins(&mut self, status: StatusCode) {
        self.line.outcome.0 = Status::Http(status);
    }

    /// Bytes of the answer are on their way.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.line.bytes_out += bytes as u64;
    }

    /// What became of it. A service that answers with a status of its own fault has failed.
    pub(super) fn ends(&mut self, outcome: Result<(), Code>) {
        let has_failed = matches!(self.line.outcome.0, Status::Http(status) if status.is_server_error());
        let outcome = if has_failed { outcome.and(Err(Code::ModelError)) } else { outcome };
        self.line.outcome.1 = outcome.err();
        self.visit.ends(outcome);
    }

    /// The answer breaks off, which the client sees and the log explains.
    pub(super) fn breaks(&mut self, error: &Error) {
        let (model, request_id) = (self.line.model.as_deref(), self.line.request_id.as_deref());
        tracing::warn!(model, request_id, code = error.code.slug(), "an answer broke off: {}", error.message);
        self.ends(Err(error.code));
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.line.bytes_in = self.uploaded.load(Relaxed);
    }
}
