//! The one object that every door calls.

mod aside;
mod control;
mod description;
mod scrape;
mod visit;

use std::collections::HashMap;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use samovar_core::admission;
use samovar_core::clock::{NEVER, Nanos, now};
use samovar_core::config::EngineConfig;
use samovar_core::error::{Code, Error};
use samovar_core::events::Events;
use samovar_core::life::State;
use samovar_core::metrics::Metrics;
use samovar_core::registry::Registry;
use samovar_core::request::{InferRequest, InferResponse};
use samovar_core::version::Version;
use tokio::sync::{Notify, oneshot};

use self::aside::Aside;
pub use self::control::Asker;
pub use self::description::{EngineState, IndexEntry, ModelMetadata};
pub use self::visit::Visit;
use crate::listeners::Addresses;

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
    /// For long conversions of bodies and answers.
    aside: Aside,
    next_id: AtomicU64,
    tickets: Mutex<HashMap<u64, oneshot::Sender<Result<(), Error>>>>,
}

/// A request that counts as in flight until this is dropped.
#[derive(Debug)]
struct InFlight<P: Deref<Target = DataPlane>>(P);

impl<P: Deref<Target = DataPlane>> InFlight<P> {
    /// Errors: `shutting_down`, `overloaded`.
    fn take(plane: P, version: &Version) -> Result<Self, Error> {
        let before = plane.in_flight.fetch_add(1, Ordering::AcqRel);
        let permit = Self(plane);
        if permit.0.is_refusing.load(Ordering::Acquire) {
            return Err(shutting_down());
        }
        let limit = permit.0.config.max_requests;
        if before < limit {
            return Ok(permit);
        }
        permit.0.metrics.rejected.with_label_values(&[&*version.name, &*version.version, "overloaded"]).inc();
        Err(Error::new(Code::Overloaded, format!("{limit} requests are in flight, the limit; try again later"))
            .retry_after(1))
    }
}

impl<P: Deref<Target = DataPlane>> Drop for InFlight<P> {
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
            aside: Aside::new(),
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
                || self.registry.versions().iter().filter(|v| counts(v)).all(|v| self.registry.ready(v).is_ok()))
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
        self.registry.ready(&version)
    }

    /// Room for a body, none yet.
    #[must_use]
    pub fn body_permit(self: &Arc<Self>) -> BodyPermit {
        BodyPermit { plane: Arc::clone(self), bytes: 0 }
    }

    /// When a request must be answered that arrived then and brings its `timeout`, or has its model's. Of a model that is
    /// not there: never.
    #[must_use]
    pub(crate) fn deadline(&self, model: &str, version: Option<&str>, arrived: Nanos, timeout: Option<Nanos>) -> Nanos {
        let found = self.registry.find(model, version).ok();
        let timeout = found.map_or(timeout, |found| Some(admission::timeout(&found.spec, timeout)));
        timeout.map_or(NEVER, |timeout| arrived.saturating_add(timeout))
    }

    /// Do what takes long beside the threads that serve connections, on as many as there are processors. Dropping the
    /// future drops what has not begun. Errors with `shutting_down` and `deadline_exceeded`.
    ///
    /// Boxed: few requests need it, and what every request's future can hold is moved about with it.
    pub(crate) fn aside<T: Send + 'static>(
        &self,
        deadline: Nanos,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Pin<Box<dyn Future<Output = Result<T, Error>> + Send + '_>> {
        Box::pin(self.aside.run(deadline, work))
    }

    /// Run one request and let its door `encode` the answer. Dropping the future cancels it. What came of both is
    /// counted in the metrics under `door`.
    pub async fn infer<T>(
        &self,
        door: &'static str,
        request: InferRequest,
        encode: impl AsyncFnOnce(InferResponse) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let found = self.registry.find(&request.model, request.version.as_deref());
        let version = match found {
            Ok(version) => version,
            Err(error) => {
                self.count(door, "", "", Err(error.code));
                return Err(error);
            }
        };
        let permit = visit::check_takes_tensors(&version, &request.model).and_then(|()| InFlight::take(self, &version));
        let answer = match permit {
            Ok(_permit) => match version.infer(request).await {
                Ok(response) => encode(response).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        self.count(door, &version.name, &version.version, answer.as_ref().map(|_| ()).map_err(|error| error.code));
        answer
    }

    /// Count a request that was refused before [`Self::infer`]. Names that are not configured count as empty, so that
    /// clients cannot make new series.
    pub fn refused(&self, door: &'static str, model: &str, version: Option<&str>, code: Code) {
        let Ok(known) = self.registry.find(model, version) else { return self.count(door, "", "", Err(code)) };
        if code == Code::DeadlineExceeded {
            self.metrics.expired.with_label_values(&[&*known.name, &*known.version, "door"]).inc();
        }
        self.count(door, &known.name, &known.version, Err(code));
    }

    /// The version that a request gets which names none.
    #[must_use]
    pub fn chosen_version(&self, model: &str) -> Option<Arc<str>> {
        self.registry.find(model, None).ok().map(|found| Arc::clone(&found.version))
    }

    /// A short request id, unique in this process.
    #[must_use]
    pub fn make_id(&self) -> Arc<str> {
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        let digits: [u8; 16] =
            std::array::from_fn(|place| b"0123456789abcdef"[(number >> (60 - 4 * place) & 15) as usize]);
        str::from_utf8(&digits).unwrap_or_default().into()
    }

    /// What is measured.
    #[must_use]
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Count a panic.
    pub fn panicked(&self) {
        self.metrics.panics.inc();
    }

    /// Start-up loads have ended.
    pub fn mark_started(&self) {
        self.is_started.store(true, Ordering::Release);
    }

    /// Readiness turns false; requests are still served.
    pub fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// Nobody waits any longer for a load: the control plane has stopped.
    pub fn end_control(&self) {
        self.tickets.lock().clear();
    }

    /// New requests are refused from now on.
    pub fn refuse(&self) {
        self.is_refusing.store(true, Ordering::Release);
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

    fn count(&self, door: &str, model: &str, version: &str, outcome: Result<(), Code>) {
        let code = outcome.map_or_else(Code::slug, |()| "ok");
        self.metrics.requests.with_label_values(&[model, version, door, code]).inc();
    }
}

fn shutting_down() -> Error {
    Error::new(Code::ShuttingDown, "the engine is shutting down; send the request to another one").retry_after(1)
}
