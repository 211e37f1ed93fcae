//! The engine process: JSON in, JSON out, the GIL released wherever something waits.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use samovar_core::config::{EngineConfig, VersionSpec};
use samovar_core::error::{Code, Error};
use samovar_core::life::Cause;
use samovar_server::engine::Engine as ServerEngine;
use samovar_server::listeners::StartError;
use serde::{Deserialize, Serialize};

/// What the control plane says to a load or unload that it cannot do.
#[derive(Deserialize)]
struct Refusal {
    code: String,
    message: String,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(Code::from_slug(&refusal.code).unwrap_or(Code::LoadFailed), refusal.message)
    }
}

/// The data plane of one engine process.
#[pyclass(frozen, module = "samovar._core")]
#[derive(Debug)]
pub(crate) struct Engine(Arc<ServerEngine>);

fn parse<'a, T: serde::Deserialize<'a>>(what: &str, text: &'a str) -> PyResult<T> {
    serde_json::from_str(text).map_err(|error| PyValueError::new_err(format!("{what}: {error}")))
}

fn print(value: &impl Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// An OSError with its number, so that Python gets the right subclass; its file name is the listener that could not be
/// bound.
fn os_error(error: &StartError) -> PyErr {
    let (listener, text) = (error.listener, error.cause.to_string());
    PyOSError::new_err((error.cause.raw_os_error().unwrap_or(0), text, listener))
}

/// Check the JSON of the engine's settings.
#[pyfunction]
pub(crate) fn check_settings(settings: &str) -> PyResult<()> {
    parse::<EngineConfig>("settings", settings).map(|_| ())
}

/// Check the JSON of a version.
#[pyfunction]
pub(crate) fn check_version(spec: &str) -> PyResult<()> {
    parse::<VersionSpec>("version", spec).map(|_| ())
}

#[pymethods]
impl Engine {
    #[new]
    fn new(py: Python<'_>, settings: &str, inherited: Vec<String>) -> PyResult<Self> {
        let config: EngineConfig = parse("settings", settings)?;
        py.detach(|| ServerEngine::start(config, &inherited)).map(Self).map_err(|error| os_error(&error))
    }

    fn addresses(&self) -> PyResult<String> {
        print(self.0.addresses())
    }

    fn probe(&self, request: String, is_passing: bool) -> u64 {
        self.0.probe(request, is_passing)
    }

    fn discard(&self, probe: u64) {
        self.0.discard(probe);
    }

    fn deploy(&self, spec: &str) -> PyResult<u64> {
        Ok(self.0.deploy(parse("version", spec)?))
    }

    fn declare_failed(&self, name: String, version: String, cause: &str) -> PyResult<()> {
        self.0.declare_failed(name, version, parse::<Cause>("cause", cause)?);
        Ok(())
    }

    fn retire(&self, name: &str, version: &str) -> bool {
        self.0.retire(name, version)
    }

    fn versions(&self) -> PyResult<String> {
        print(&self.0.versions())
    }

    fn next_event(&self, py: Python<'_>, timeout_s: Option<f64>) -> PyResult<Option<String>> {
        let limit = timeout_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        py.detach(|| self.0.next_event(limit)).map(|event| print(&event)).transpose()
    }

    fn reply(&self, ticket: u64, error: Option<&str>) -> PyResult<()> {
        let refusal = error.map(|error| parse::<Refusal>("error", error)).transpose()?;
        self.0.reply(ticket, refusal.map_or(Ok(()), |refusal| Err(refusal.into())));
        Ok(())
    }

    fn mark_started(&self) {
        self.0.mark_started();
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }

    fn log(&self, level: &str, message: &str, fields: &str) -> PyResult<()> {
        samovar_server::control_log::write(level, message, fields).map_err(PyValueError::new_err)
    }
}
