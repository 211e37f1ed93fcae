//! What is told of a version to the control plane and to the owner of the engine.

use serde::Serialize;

use crate::config::{ModelOptions, VersionSpec};
use crate::life::{Cause, LifeEvent, State};
use crate::tensor::TensorSpec;
use crate::version::Version;

/// A version: what it is, and how it fares.
#[derive(Debug, Serialize)]
pub struct VersionReport {
    /// The number that deploying it gave.
    pub serial: u64,
    /// Model name.
    pub name: String,
    /// Version name.
    pub version: String,
    /// Where it is in its life.
    pub state: State,
    /// How many loads are to begin before its own, if it waits for its turn.
    pub loads_before: Option<usize>,
    /// Why it failed, or why an instance last died.
    pub cause: Option<Cause>,
    /// Its history.
    pub events: Vec<LifeEvent>,
    /// Live instances.
    pub instances: Vec<InstanceReport>,
    /// Runtime that loads it.
    pub runtime: String,
    /// What the runtime was told to load.
    pub source: serde_json::Value,
    /// Inputs without the batch axis.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, likewise.
    pub outputs: Vec<TensorSpec>,
    /// True if the first axis of every tensor is the batch axis.
    pub batch_axis: bool,
    /// Its settings.
    pub options: ModelOptions,
}

/// A live instance.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceReport {
    /// Its number.
    pub index: usize,
    /// Its process.
    pub pid: u32,
    /// The name of its worker, if that is shared.
    pub worker: Option<String>,
}

impl Version {
    /// What may be known of it.
    #[must_use]
    pub fn report(&self, loads_before: Option<usize>) -> VersionReport {
        let VersionSpec { name, version, runtime, source, inputs, outputs, batch_axis, options, .. } =
            VersionSpec::clone(&self.spec);
        let instances = self.gauges().instances;
        let life = self.life.lock();
        VersionReport {
            serial: self.serial,
            name,
            version,
            state: life.state(),
            loads_before,
            cause: life.cause().cloned(),
            events: life.events(),
            instances,
            runtime,
            source,
            inputs,
            outputs,
            batch_axis,
            options,
        }
    }
}
