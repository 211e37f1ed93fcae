//! What Python decides and Rust obeys: settings of the engine and the specification of one version.
//!
//! There are no defaults here: Python's dataclasses (`samovar/config.py`) hold them and send every value.

use serde::{Deserialize, Serialize};

use crate::tensor::TensorSpec;

/// How frames travel between the engine and a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// Rings and tensors in shared memory.
    Shm,
    /// Everything through the socket.
    Inline,
}

/// What clients may do to the set of models over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Control {
    /// Nothing.
    None,
    /// Load and unload by name.
    Explicit,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people on a terminal.
    Text,
    /// One object per line.
    Json,
}

/// Whose answer an exception in a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchErrors {
    /// That of the item that raises it, which is found by running halves again.
    Isolated,
    /// That of every item in the call; nothing runs again.
    Shared,
}

/// What an error tells of an exception in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExposeErrors {
    /// Exception class and message.
    Message,
    /// The request id alone.
    Id,
}

/// Settings of the engine process; mirrors `samovar.config.ServerConfig` field by field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// Address to bind: an IP address, a host name, or `unix:/path`.
    pub host: String,
    /// HTTP port; 0 picks a free one.
    pub http_port: u16,
    /// gRPC port; 0 picks a free one. A Unix socket speaks both protocols.
    pub grpc_port: u16,
    /// Path of the admin socket, if there is to be one.
    #[serde(deserialize_with = "Option::deserialize")]
    pub admin_socket: Option<String>,
    /// Does the engine start without an admin socket where it cannot be bound?
    pub admin_optional: bool,
    /// May clients load and unload models?
    pub control: Control,
    /// Engine ready only if every model is.
    pub strict_readiness: bool,
    /// Longest wait for running requests at a stop.
    pub drain_timeout_s: f64,
    /// Keep serving this long after readiness turned false.
    pub drain_delay_s: f64,
    /// Log line format.
    pub log_format: LogFormat,
    /// One line per request?
    pub access_log: bool,
    /// What callers learn of a model's exception.
    pub expose_errors: ExposeErrors,
    /// Tokio worker threads.
    pub engine_threads: usize,
    /// Largest request body, and largest decoded body.
    pub max_body_bytes: u64,
    /// Compress answers for clients that take it?
    pub compress_responses: bool,
    /// All request bodies in memory together.
    pub max_bodies_bytes: u64,
    /// Requests in flight.
    pub max_requests: usize,
    /// Connections.
    pub max_connections: usize,
    /// Longest time for a request's head.
    pub header_timeout_s: f64,
    /// Longest silence between two requests of a connection.
    pub keep_alive_s: f64,
    /// Origins besides Host from which a browser page may call.
    pub allowed_origins: Vec<String>,
    /// Hosts besides the loopback names that the Host header may have on a loopback bind.
    pub allowed_hosts: Vec<String>,
    /// Loads at once.
    pub max_loads: usize,
    /// Started workers kept in reserve.
    pub spare_workers: usize,
    /// How frames travel.
    pub transport: TransportKind,
    /// Command that starts a worker; the engine appends nothing.
    pub worker_command: Vec<String>,
}

/// One version to be served; mirrors what `samovar.control` sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionSpec {
    /// Model name.
    pub name: String,
    /// Version name.
    pub version: String,
    /// Runtime that loads it.
    pub runtime: String,
    /// JSON that the runtime's `load` understands; opaque here.
    pub source: serde_json::Value,
    /// Inputs, in the order of the call.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, in the order of the answer.
    pub outputs: Vec<TensorSpec>,
    /// True if the first axis of every input and output is the batch axis.
    pub batch_axis: bool,
    /// How models and settings are configured.
    pub options: ModelOptions,
    /// Modules that a spare worker imports, so that a restart need not.
    pub imports: Vec<String>,
    /// The worker that inspected it, to become instance 0.
    pub probe: Option<u64>,
    /// Its answer comes in pieces.
    pub streams: bool,
    /// Names of the models that it calls.
    pub uses: Vec<String>,
    /// What it is reached by, if it is a service.
    #[serde(deserialize_with = "Option::deserialize")]
    pub service: Option<ServiceSpec>,
}

/// What a service is reached by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// Paths of its methods.
    pub routes: Vec<RouteSpec>,
    /// Paths below which everything is its own.
    pub mounts: Vec<String>,
    /// Methods that take and give tensors: models to clients of the Open Inference Protocol.
    pub methods: Vec<MethodSpec>,
    /// For people.
    pub description: String,
}

/// A path of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// HTTP methods.
    pub methods: Vec<String>,
    /// The path; `{name}` stands for any one segment.
    pub path: String,
    /// May a request run twice, whatever its HTTP method?
    pub idempotent: bool,
}

/// A method of a service that takes and gives tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodSpec {
    /// Name of the method.
    pub name: String,
    /// Inputs, in the order of the call.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, in the order of the answer.
    pub outputs: Vec<TensorSpec>,
}

/// The `worker` of a model whose instances share none.
const OWN_WORKER: &str = "own";

/// The runtime of what could not be described.
const UNDESCRIBED: &str = "unknown";

impl VersionSpec {
    /// False where nothing is known but a name.
    #[must_use]
    pub fn is_described(&self) -> bool {
        self.runtime != UNDESCRIBED
    }

    /// What messages call it: `model "stn"`, `service "plates"`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {:?}", if self.service.is_some() { "service" } else { "model" }, self.name)
    }

    /// Most rows of one call.
    #[must_use]
    pub fn max_rows(&self) -> u32 {
        if self.batch_axis { self.options.max_batch_size.max(1) } else { 1 }
    }

    /// True if its calls may wait for answers of other models, or for clients: its workers' threads read everything.
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        self.streams || !self.uses.is_empty() || self.service.is_some()
    }

    /// A version of which nothing is known but its name: its target could not be described, and it never serves.
    #[must_use]
    pub fn undescribed(name: String, version: String) -> Self {
        let options = ModelOptions {
            max_batch_size: 1,
            max_queue_delay_ms: None,
            instances: 1,
            worker: OWN_WORKER.into(),
            concurrency: 1,
            threads: 1,
            idempotent: false,
            batch_errors: BatchErrors::Isolated,
            writable_inputs: false,
            warm_up: None,
            load_timeout_s: 0.0,
            request_timeout_s: 0.0,
            max_request_timeout_s: None,
            hard_kill_after_s: None,
            max_memory_bytes: None,
            max_queue_items: 0,
            max_queue_bytes: 0,
        };
        let (inputs, outputs, source) = (Vec::new(), Vec::new(), serde_json::Value::Null);
        Self {
            name,
            version,
            runtime: UNDESCRIBED.into(),
            source,
            inputs,
            outputs,
            batch_axis: false,
            options,
            imports: Vec::new(),
            probe: None,
            streams: false,
            uses: Vec::new(),
            service: None,
        }
    }
}

/// Settings of one model; mirrors `samovar.config.ModelConfig` field by field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelOptions {
    /// Most rows of one call.
    pub max_batch_size: u32,
    /// Longest wait for batch mates while a slot is free; none: only where measurement says that waiting pays.
    #[serde(deserialize_with = "Option::deserialize")]
    pub max_queue_delay_ms: Option<f64>,
    /// Loaded copies.
    pub instances: usize,
    /// Which worker holds an instance: `own`, or that of the group of this name.
    pub worker: String,
    /// Calls at a time per instance.
    pub concurrency: usize,
    /// Processor threads of one instance.
    pub threads: usize,
    /// May a request run twice?
    pub idempotent: bool,
    /// Whose answer is an exception?
    pub batch_errors: BatchErrors,
    /// Give the model writable copies of its inputs?
    pub writable_inputs: bool,
    /// Run samples before it takes requests; none: the worker decides by what the model is.
    #[serde(deserialize_with = "Option::deserialize")]
    pub warm_up: Option<bool>,
    /// Longest time of a load and its warm-up.
    pub load_timeout_s: f64,
    /// Time limit of a request that names none.
    pub request_timeout_s: f64,
    /// Longest time limit of a request; none: any.
    #[serde(deserialize_with = "Option::deserialize")]
    pub max_request_timeout_s: Option<f64>,
    /// How long a call may run on for nobody; none: as long as it likes.
    #[serde(deserialize_with = "Option::deserialize")]
    pub hard_kill_after_s: Option<f64>,
    /// Address space of an instance's worker; the worker sets it.
    #[serde(deserialize_with = "Option::deserialize")]
    pub max_memory_bytes: Option<u64>,
    /// Items waiting.
    pub max_queue_items: usize,
    /// Bytes waiting.
    pub max_queue_bytes: u64,
}

impl ModelOptions {
    /// The group whose workers hold its instances, if they share them with other models.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        Some(&*self.worker).filter(|worker| *worker != OWN_WORKER)
    }
}
