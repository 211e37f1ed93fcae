//! What is told of the engine and its versions: to clients, and to the owner.

use std::sync::Arc;
use std::time::Duration;

use samovar_core::config::{Control, VersionSpec};
use samovar_core::error::Error;
use samovar_core::history::News;
use samovar_core::life::State;
use samovar_core::report::VersionReport;
use samovar_core::tensor::TensorSpec;
use samovar_core::version::Version;
use serde::Serialize;

use super::DataPlane;
use crate::describe;
use crate::listeners::Addresses;
use crate::proto::inference::{ModelConfig, ModelStatisticsResponse};

/// What a client may know of a version.
#[derive(Clone, Debug)]
pub struct ModelMetadata {
    /// Model name.
    pub name: Arc<str>,
    /// Names of its versions.
    pub versions: Vec<String>,
    /// Triton's name of the runtime: `onnxruntime_onnx`, `python`.
    pub platform: String,
    /// Inputs; dims with the batch axis (-1) in front where there is one.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, likewise.
    pub outputs: Vec<TensorSpec>,
    /// Names of the values in a row of the one input, where a table's columns stand in it side by side.
    pub columns: Vec<String>,
}

/// One line of the repository index.
#[derive(Clone, Debug)]
pub struct IndexEntry {
    /// Model name.
    pub name: String,
    /// Version name.
    pub version: String,
    /// Open Inference Protocol state: READY, UNAVAILABLE, LOADING, UNLOADING.
    pub state: &'static str,
    /// Why it is in this state; empty when ready.
    pub reason: String,
}

/// The engine and all its versions, as its owner sees them.
#[derive(Debug, Serialize)]
pub struct EngineState<'a> {
    pid: u32,
    version: &'static str,
    /// Unix time in seconds.
    started: f64,
    ready: bool,
    draining: bool,
    control: Control,
    addresses: &'a Addresses,
    models: Vec<VersionReport>,
}

/// Names of the columns of a matrix that is the one input.
fn columns(spec: &VersionSpec) -> Vec<String> {
    let ([matrix], true) = (&*spec.inputs, spec.batch_axis) else { return Vec::new() };
    let &[width] = matrix.shape() else { return Vec::new() };
    let told = spec.source.get("columns").and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> = told.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    if width < 0 || usize::try_from(width) == Ok(names.len()) { names } else { Vec::new() }
}

impl DataPlane {
    /// A version of which more is known than a name. Errors: of one that could not be described, why.
    fn described(&self, model: &str, version: Option<&str>) -> Result<Arc<Version>, Error> {
        let found = self.registry.find(model, version)?;
        if found.spec.is_described() { Ok(found) } else { found.ready().map(|()| found) }
    }

    /// Signature of a version, ready or not.
    pub fn metadata(&self, model: &str, version: Option<&str>) -> Result<ModelMetadata, Error> {
        let found = self.described(model, version)?;
        let with_batch = |specs: &[TensorSpec]| {
            let batch = found.spec.batch_axis.then_some(-1);
            let shape = |spec: &TensorSpec| TensorSpec {
                dims: spec.dims.as_ref().map(|dims| batch.into_iter().chain(dims.iter().copied()).collect()),
                ..spec.clone()
            };
            specs.iter().map(shape).collect()
        };
        Ok(ModelMetadata {
            name: Arc::clone(&found.name),
            versions: self.registry.version_names(&found.name),
            platform: describe::platform(&found.spec.runtime).to_owned(),
            inputs: with_batch(&found.spec.inputs),
            outputs: with_batch(&found.spec.outputs),
            columns: columns(&found.spec),
        })
    }

    /// Configuration of a version, ready or not.
    pub fn model_config(&self, model: &str, version: Option<&str>) -> Result<ModelConfig, Error> {
        Ok(describe::config(&self.described(model, version)?.spec))
    }

    /// What a version has done; every version of the model, or of every model, where none is named. What is unloaded is
    /// told only by name.
    pub fn statistics(&self, model: Option<&str>, version: Option<&str>) -> Result<ModelStatisticsResponse, Error> {
        let versions = match (model, version) {
            (Some(model), Some(_)) => vec![self.registry.find(model, version)?],
            (Some(model), None) => self.registry.find_all(model)?,
            (None, _) => self.registry.models(),
        };
        let is_told = |found: &&Arc<Version>| version.is_some() || found.life.lock().state() != State::Unloaded;
        let model_stats = versions.iter().filter(is_told).map(|found| describe::statistics(found)).collect();
        Ok(ModelStatisticsResponse { model_stats })
    }

    /// Every configured model and version.
    #[must_use]
    pub fn index(&self) -> Vec<IndexEntry> {
        let entry = |version: Arc<Version>| {
            let life = version.life.lock();
            let state = match life.state() {
                State::Ready => "READY",
                State::Degraded if life.is_ready() => "READY",
                State::Configured | State::Loading | State::Warming => "LOADING",
                State::Draining => "UNLOADING",
                State::Degraded | State::Unloaded | State::Failed => "UNAVAILABLE",
            };
            let cause = life.cause().map(|cause| cause.message.clone());
            let reason = match life.state() {
                State::Ready => String::new(),
                State::Unloaded => "unloaded".to_owned(),
                state => cause.unwrap_or_else(|| state.name().to_owned()),
            };
            IndexEntry { name: version.name.to_string(), version: version.version.to_string(), state, reason }
        };
        self.registry.models().into_iter().map(entry).collect()
    }

    /// Where clients connect.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The engine and all its versions.
    #[must_use]
    pub fn state(&self) -> EngineState<'_> {
        EngineState {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            started: self.started,
            ready: self.ready(),
            draining: self.draining(),
            control: self.config.control,
            addresses: &self.addresses,
            models: self.registry.reports(),
        }
    }

    /// What happened to versions after number `after`; waits up to `limit` for it.
    pub async fn events_after(&self, after: u64, model: Option<&str>, limit: Duration) -> News {
        self.registry.history().after(after, model, limit).await
    }
}
