//! One log line per request, also for those whose client went away.

use std::sync::Arc;

use hyper::{Method, StatusCode};
use samovar_core::clock::{self, Nanos};
use samovar_core::error::Code;

use super::error::status;

/// What the log will say of a request; it says so when dropped.
pub(super) struct AccessLine<'a> {
    pub(super) enabled: bool,
    pub(super) method: &'a Method,
    /// Without the query.
    pub(super) path: &'a str,
    pub(super) arrived: Nanos,
    pub(super) model: Option<String>,
    pub(super) version: Option<Arc<str>>,
    pub(super) request_id: Option<Arc<str>>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// What was answered; stays `cancelled` where nothing was.
    pub(super) outcome: (StatusCode, Option<Code>),
}

impl<'a> AccessLine<'a> {
    pub(super) fn new(enabled: bool, method: &'a Method, path: &'a str, arrived: Nanos) -> Self {
        Self {
            enabled,
            method,
            path,
            arrived,
            model: None,
            version: None,
            request_id: None,
            bytes_in: 0,
            bytes_out: 0,
            outcome: (status(Code::Cancelled), Some(Code::Cancelled)),
        }
    }
}

impl Drop for AccessLine<'_> {
    fn drop(&mut self) {
        if !self.enabled {
            return;
        }
        let microseconds = clock::now().saturating_sub(self.arrived) / 1_000;
        tracing::info!(
            target: "samovar::access",
            method = self.method.as_str(),
            path = self.path,
            status = self.outcome.0.as_u16(),
            model = self.model.as_deref(),
            version = self.version.as_deref(),
            request_id = self.request_id.as_deref(),
            duration_ms = microseconds as f64 / 1e3,
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            code = self.outcome.1.map(Code::slug),
            "request"
        );
    }
}
