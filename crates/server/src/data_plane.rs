//! The one object that every door calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use samovar_core::clock::now;
use samovar_core::config::{Control, EngineConfig};
use samovar_core::error::{Code, Error};
use samovar_core::events::{Event, Events};
use samovar_core::history::News;
use samovar_core::life::State;
use samovar_core::metrics::Metrics;
use samovar_core::registry::Registry;
use samovar_core::report::VersionReport;
use samovar_core::request::{InferRequest, InferResponse};
use samovar_core::tensor::TensorSpec;
use samovar_core::version::Version;
use serde::Serialize;
use tokio::sync::{Notify, oneshot};

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

/// Who is on the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Whoever reaches a door.
    Client,
    /// The user who runs the engine: nobody else can open the admin socket.
    Owner,
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

/// Room for a request body in the engine's memory; given back when dropped.
#[derive(Debug)]
pub struct BodyPermit {
    plane: Arc<DataPlane>,
    bytes: u64,
}

impl BodyPermit {
    /// Take room for `bytes` more. Errors: `overloaded` when all bodies together would pass the limit.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Error> {
        let limit = self.plane.config.max_bodies_bytes;
        let held = self.plane.body_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes += bytes;
        if held <= limit {
            return Ok(());
        }
        let text = format!("request bodies hold {held} bytes of memory together, at most {limit}; try again later");
        Err(Error::new(Code::Overloaded, text).retry_after(1))
    }
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        self.plane.body_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What doors call.
#[derive(Debug)]
pub struct DataPlane {
    config: EngineConfig,
    addresses: Addresses,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    /// When it was made, as Unix time in seconds.
    started: f64,
    /// Start-up loads have ended.
    is_started: AtomicBool,
    is_draining: AtomicBool,
    /// Draining, and the delay before refusing is over.
    is_refusing: AtomicBool,
    in_flight: AtomicUsize,
    /// Wakes whoever waits for `in_flight` to be 0.
    idle: Notify,
    body_bytes: AtomicU64,
    next_id: AtomicU64,
    tickets: Mutex<HashMap<u64, oneshot::Sender<Result<(), Error>>>>,
}

/// A request that counts as in flight until this is dropped.
struct InFlight<'a>(&'a DataPlane);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl DataPlane {
    /// A data plane over the versions of `registry`.
    #[must_use]
    pub fn new(
        config: EngineConfig,
        addresses: Addresses,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        events: Arc<Events>,
    ) -> Arc<Self> {
        // Two engines behind one balancer should not give the same ids.
        let seed = now().rotate_left(24) ^ (u64::from(std::process::id()) << 48);
        Arc::new(Self {
            config,
            addresses,
            registry,
            metrics,
            events,
            started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            is_started: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            is_refusing: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
            body_bytes: AtomicU64::new(0),
            next_id: AtomicU64::new(seed),
            tickets: Mutex::default(),
        })
    }

    /// Settings of the engine.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// The engine is up: true until it exits.
    #[must_use]
    pub fn live(&self) -> bool {
        true
    }

    /// Start-up loads ended and not draining; if readiness is strict, every model is ready too.
    #[must_use]
    pub fn ready(&self) -> bool {
        let is_up = self.is_started.load(Ordering::Acquire) && !self.draining();
        let counts = |version: &Arc<Version>| version.life.lock().state() != State::Unloaded;
        is_up
            && (!self.config.strict_readiness
                || self.registry.versions().iter().filter(|v| counts(v)).all(|v| v.ready().is_ok()))
    }

    /// True once the engine was told to stop.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Would a request to this version succeed now? The error says why not.
    pub fn model_ready(&self, model: &str, version: Option<&str>) -> Result<(), Error> {
        let version = self.registry.find(model, version)?;
        if self.draining() {
            return Err(shutting_down());
        }
        version.ready()
    }

    /// Signature of a version, ready or not.
    pub fn metadata(&self, model: &str, version: Option<&str>) -> Result<ModelMetadata, Error> {
        let found = self.registry.find(model, version)?;
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
        })
    }

    /// Configuration of a version, ready or not.
    pub fn model_config(&self, model: &str, version: Option<&str>) -> Result<ModelConfig, Error> {
        Ok(describe::config(&self.registry.find(model, version)?.spec))
    }

    /// What a version has done; every version of the model, or of every model, where none is named. What is unloaded is
    /// told only by name.
    pub fn statistics(&self, model: Option<&str>, version: Option<&str>) -> Result<ModelStatisticsResponse, Error> {
        let versions = match (model, version) {
            (Some(model), Some(_)) => vec![self.registry.find(model, version)?],
            (Some(model), None) => self.registry.find_all(model)?,
            (None, _) => self.registry.versions(),
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
                State::Loading => "LOADING",
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
        self.registry.versions().into_iter().map(entry).collect()
    }

    /// Load or reload by name; waits for the end of the load. Errors: `control_disabled` unless the owner asks,
    /// `unknown_model`, `load_failed`, `shutting_down`.
    pub async fn load(&self, model: &str, asker: Asker) -> Result<(), Error> {
        self.control(model, asker, |ticket, name| Event::Load { ticket, name }).await
    }

    /// Unload by name; waits for the end of the unload. Errors as [`Self::load`].
    pub async fn unload(&self, model: &str, asker: Asker) -> Result<(), Error> {
        self.control(model, asker, |ticket, name| Event::Unload { ticket, name }).await
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

    /// Room for a body, none yet.
    #[must_use]
    pub fn body_permit(self: &Arc<Self>) -> BodyPermit {
        BodyPermit { plane: Arc::clone(self), bytes: 0 }
    }

    /// Run one request and let its door `encode` the answer. Dropping the future cancels it. What came of both is
    /// counted in the metrics under `door`.
    pub async fn infer<T>(
        &self,
        door: &'static str,
        request: InferRequest,
        encode: impl FnOnce(InferResponse) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let found = self.registry.find(&request.model, request.version.as_deref());
        let version = match found {
            Ok(version) => version,
            Err(error) => {
                self.count(door, "", "", Err(error.code));
                return Err(error);
            }
        };
        let answer = match self.take_permit(&version) {
            Ok(_permit) => version.infer(request).await.and_then(encode),
            Err(error) => Err(error),
        };
        self.count(door, &version.name, &version.version, answer.as_ref().map(|_| ()).map_err(|error| error.code));
        answer
    }

    /// Count a request that was refused before [`Self::infer`]. Names that are not configured count as empty, so that
    /// clients cannot make new series.
    pub fn refused(&self, door: &'static str, model: &str, version: Option<&str>, code: Code) {
        let known = self.registry.find(model, version).ok();
        let (name, version) = known.as_ref().map_or(("", ""), |found| (&*found.name, &*found.version));
        self.count(door, name, version, Err(code));
    }

    /// The version that a request gets which names none.
    #[must_use]
    pub fn chosen_version(&self, model: &str) -> Option<Arc<str>> {
        self.registry.find(model, None).ok().map(|found| Arc::clone(&found.version))
    }

    /// A short request id, unique in this process.
    #[must_use]
    pub fn make_id(&self) -> Arc<str> {
        format!("{:016x}", self.next_id.fetch_add(1, Ordering::Relaxed)).into()
    }

    /// Count a panic.
    pub fn panicked(&self) {
        self.metrics.panics.inc();
    }

    /// The metrics in Prometheus text format.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        self.metrics.encode(&self.registry.gauges())
    }

    /// Start-up loads have ended.
    pub fn mark_started(&self) {
        self.is_started.store(true, Ordering::Release);
    }

    /// Readiness turns false; requests are still served.
    pub fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// New requests are refused from now on, and nobody waits any longer for a load: the control plane has stopped.
    pub fn refuse(&self) {
        self.is_refusing.store(true, Ordering::Release);
        self.tickets.lock().clear();
    }

    /// Wait until no request is in flight.
    pub async fn drained(&self) {
        loop {
            let notified = self.idle.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.in_flight.load(Ordering::Acquire) == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Answer a load or unload that a client asked for.
    pub fn reply(&self, ticket: u64, result: Result<(), Error>) {
        if let Some(asker) = self.tickets.lock().remove(&ticket) {
            let _ = asker.send(result);
        }
    }

    async fn control(&self, model: &str, asker: Asker, event: impl FnOnce(u64, String) -> Event) -> Result<(), Error> {
        if asker == Asker::Client && self.config.control != Control::Explicit {
            let text = "models cannot be loaded or unloaded over this door; start the engine with --control explicit";
            return Err(Error::new(Code::ControlDisabled, text));
        }
        let ticket = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (waiting, reply) = oneshot::channel();
        {
            let mut tickets = self.tickets.lock();
            if self.draining() {
                return Err(shutting_down()); // the control plane looks at nothing more
            }
            tickets.insert(ticket, waiting);
        }
        self.events.push(event(ticket, model.to_owned()));
        reply.await.unwrap_or_else(|_| Err(shutting_down()))
    }

    fn take_permit(&self, version: &Version) -> Result<InFlight<'_>, Error> {
        let before = self.in_flight.fetch_add(1, Ordering::AcqRel);
        let permit = InFlight(self);
        if self.is_refusing.load(Ordering::Acquire) {
            return Err(shutting_down());
        }
        let limit = self.config.max_requests;
        if before < limit {
            return Ok(permit);
        }
        self.metrics.rejected.with_label_values(&[&*version.name, &*version.version, "overloaded"]).inc();
        Err(Error::new(Code::Overloaded, format!("{limit} requests are in flight, the limit; try again later"))
            .retry_after(1))
    }

    fn count(&self, door: &str, model: &str, version: &str, outcome: Result<(), Code>) {
        let code = outcome.map_or_else(Code::slug, |()| "ok");
        self.metrics.requests.with_label_values(&[model, version, door, code]).inc();
    }
}

fn shutting_down() -> Error {
    Error::new(Code::ShuttingDown, "the engine is shutting down; send the request to another one").retry_after(1)
}
