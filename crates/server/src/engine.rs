//! One engine process: the runtime, the doors, the workers, and their end.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use samovar_core::channel::engine::OWN;
use samovar_core::config::{EngineConfig, VersionSpec};
use samovar_core::error::Error;
use samovar_core::events::{Event, Events};
use samovar_core::life::Cause;
use samovar_core::metrics::Metrics;
use samovar_core::panics::catch;
use samovar_core::registry::Registry;
use samovar_core::report::VersionReport;
use samovar_core::workers::instance::parse_failure;
use samovar_core::workers::pool::Pool;
use samovar_core::workers::shared::Workers;
use samovar_core::workers::spawn::{Spawner, Worker};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::connection::{GRACE, Listener, Stop};
use crate::data_plane::DataPlane;
use crate::listeners::{self, Addresses, Listeners, StartError};
use crate::{log, memory};

/// Longest time for importing and describing a user's file.
const PROBE_LIMIT: Duration = Duration::from_secs(120);
/// Connections may take this long to read their last answer after the requests have ended.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    runtime: Runtime,
    plane: Arc<DataPlane>,
    registry: Arc<Registry>,
    pool: Arc<Pool>,
    events: Arc<Events>,
    /// Workers that described a target and wait for a version to take them.
    probes: Mutex<HashMap<u64, Worker>>,
    next_probe: AtomicU64,
    probing: Semaphore,
    describers: Mutex<Describers>,
    /// Doors that were inherited open when the loads of the start have ended: until then their clients wait, or are
    /// another engine's.
    waiting: Mutex<Option<Vec<Listener>>>,
    /// Tells the doors to take no new connections, and by when to end.
    stop_doors: watch::Sender<Option<Stop>>,
    doors: Mutex<Option<JoinHandle<()>>>,
    /// The same for the admin socket, which outlives the doors: its owner watches the end.
    stop_admin: watch::Sender<Option<Stop>>,
    admin: Mutex<Option<JoinHandle<()>>>,
    log: Mutex<Option<log::Guard>>,
}

/// Workers that describe one target after another, for models that will not have a worker of their own.
#[derive(Debug, Default)]
struct Describers {
    idle: Vec<Worker>,
    /// Targets that are still to be described; with the last one they end, and what they have imported with them.
    awaited: usize,
}

impl Engine {
    /// Start the threads, bind the doors, begin to start workers. `inherited` names the doors, `http` or `grpc`, of the
    /// sockets that the process was started with (`LISTEN_FDS`), which are opened by [`Self::mark_started`].
    pub fn start(config: EngineConfig, inherited: &[String]) -> Result<Arc<Self>, StartError> {
        memory::keep_freed();
        let log = log::init(config.log_format);
        let listeners = Listeners::open(&config, inherited)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.engine_threads.max(1))
            .thread_name("samovar")
            .enable_all()
            .build()?;
        let events = Arc::new(Events::default());
        let metrics = Arc::new(Metrics::default());
        let spawner = Spawner::new(config.worker_command.clone(), config.transport, Arc::clone(&metrics))?;
        let pool = Pool::new(spawner, config.spare_workers);
        let drain_timeout = seconds(config.drain_timeout_s);
        let registry = Registry::new(
            Workers::new(Arc::clone(&pool), config.max_loads),
            Arc::clone(&metrics),
            Arc::clone(&events),
            config.expose_errors,
            drain_timeout,
        );
        let probes_at_once = config.engine_threads + 1;
        let plane = DataPlane::new(config, listeners.addresses(), Arc::clone(&registry), metrics, Arc::clone(&events));
        let (stop_admin, stopped) = watch::channel(None);
        let admin = runtime.spawn(listeners::serve_owner(listeners.admin, Arc::clone(&plane), stopped));
        let engine = Arc::new(Self {
            plane,
            registry,
            pool,
            events,
            probes: Mutex::default(),
            next_probe: AtomicU64::new(1),
            probing: Semaphore::new(probes_at_once),
            describers: Mutex::default(),
            waiting: Mutex::new(Some(listeners.doors)),
            stop_doors: watch::Sender::new(None),
            doors: Mutex::default(),
            stop_admin,
            admin: Mutex::new(Some(admin)),
            runtime,
            log: Mutex::new(Some(log)),
        });
        engine.watch_signals()?;
        if inherited.is_empty() {
            engine.open_doors();
        }
        Ok(engine)
    }

    fn open_doors(&self) {
        if let Some(listeners) = self.waiting.lock().take() {
            let doors = listeners::serve(listeners, Arc::clone(&self.plane), self.stop_doors.subscribe());
            *self.doors.lock() = Some(self.runtime.spawn(doors));
        }
    }

    /// Where the doors are.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        self.plane.addresses()
    }

    /// Let a worker describe a target, and keep that worker, unless it `is_passing` and describes others too; the answer
    /// is an event that bears the number given here.
    #[must_use]
    pub fn probe(self: &Arc<Self>, request: String, is_passing: bool) -> u64 {
        let probe = self.next_probe.fetch_add(1, Ordering::Relaxed);
        let engine = Arc::clone(self);
        if is_passing {
            self.describers.lock().awaited += 1;
        }
        self.runtime.spawn(async move {
            let described = catch(engine.describe(probe, request, is_passing)).await;
            if is_passing {
                engine.end_describers();
            }
            let (body, cause) = match described {
                Ok(Ok(body)) => (Some(body), None),
                Ok(Err(cause)) => (None, Some(cause)),
                Err(panic) => {
                    engine.plane.metrics().panicked(&panic, "a target was not described");
                    let message = "the engine failed while the target was described; its log tells why".into();
                    (None, Some(Cause { message, ..Cause::default() }))
                }
            };
            engine.events.push(Event::Described { probe, body, cause });
        });
        probe
    }

    fn end_describers(&self) {
        let mut describers = self.describers.lock();
        describers.awaited -= 1;
        if describers.awaited == 0 {
            describers.idle.drain(..).for_each(|worker| worker.kill());
        }
    }

    async fn describe(&self, probe: u64, request: String, is_passing: bool) -> Result<serde_json::Value, Cause> {
        // Imports are CPU time: more at once than there are threads would only make each of them late.
        let _turn = self.probing.acquire().await;
        let failed = |message: String| Cause { message, ..Cause::default() };
        let describer = if is_passing { self.describers.lock().idle.pop() } else { None };
        let worker = match describer.filter(|worker| !worker.has_exited()) {
            Some(worker) => worker,
            None => {
                let taken = self.pool.take(!self.pool.is_filling()).await;
                taken.map_err(|error| failed(format!("a worker could not be started: {error}")))?
            }
        };
        let told = match tokio::time::timeout(PROBE_LIMIT, worker.link.ask("describe", request)).await {
            Ok(Ok(told)) => told,
            Ok(Err(_)) => return Err(probe_died(&worker).await),
            Err(_) => {
                worker.kill();
                let next_step = "move what takes long from the module into load()".to_owned();
                let message = format!("the target was not imported within {} s", PROBE_LIMIT.as_secs());
                return Err(Cause { stderr: worker.output.tail(OWN), next_step, ..failed(message) });
            }
        };
        if told.ok {
            if is_passing {
                self.describers.lock().idle.push(worker);
            } else {
                self.probes.lock().insert(probe, worker);
            }
            return serde_json::from_str(&told.body).map_err(|error| failed(format!("description: {error}")));
        }
        worker.kill();
        worker.exited().await;
        Err(Cause { stderr: worker.output.tail(OWN), ..parse_failure(&told.body) })
    }

    /// End a probed worker that no version took.
    pub fn discard(&self, probe: u64) {
        if let Some(worker) = self.probes.lock().remove(&probe) {
            worker.kill();
        }
    }

    /// Load a version; it takes over from one of the same name when it is ready. Its events bear the number given here.
    pub fn deploy(&self, spec: VersionSpec) -> u64 {
        let worker = spec.probe.and_then(|probe| self.probes.lock().remove(&probe));
        let _runtime = self.runtime.enter();
        self.registry.deploy(spec, worker)
    }

    /// List a model that could not even be described.
    pub fn declare_failed(&self, name: String, version: String, cause: Cause) {
        let _runtime = self.runtime.enter();
        self.registry.declare_failed(VersionSpec::undescribed(name, version), cause);
    }

    /// Drain and unload a version; false if there is none.
    #[must_use]
    pub fn retire(&self, name: &str, version: &str) -> bool {
        let _runtime = self.runtime.enter();
        self.registry.retire(name, version)
    }

    /// State of every version.
    #[must_use]
    pub fn versions(&self) -> Vec<VersionReport> {
        self.registry.reports()
    }

    /// Wait for something that needs a decision.
    #[must_use]
    pub fn next_event(&self, limit: Option<Duration>) -> Option<Event> {
        self.events.next(limit)
    }

    /// End a load or unload that a client asked for.
    pub fn reply(&self, ticket: u64, result: Result<(), Error>) {
        self.plane.reply(ticket, result);
    }

    /// Start-up loads have ended: readiness may turn true, and spares may start.
    pub fn mark_started(&self) {
        self.plane.mark_started();
        self.open_doors();
        if let Some(log) = &*self.log.lock() {
            log.leave_terminal();
        }
        let _runtime = self.runtime.enter();
        self.pool.fill();
    }

    /// Drain and end everything, the log too. Blocks.
    pub fn stop(&self) {
        self.runtime.block_on(self.shut_down());
        drop(self.log.lock().take());
    }

    /// Order: readiness turns false; after the delay no connection is accepted, and each that is open is told to close:
    /// for a moment it may still bring a request. From then on requests are refused; what is in flight ends within the
    /// drain time; workers end; then the last connections, and those of the owner.
    async fn shut_down(&self) {
        let config = self.plane.config();
        self.plane.begin_drain();
        self.plane.end_control();
        tokio::time::sleep(seconds(config.drain_delay_s)).await;
        let deadline = Instant::now() + seconds(config.drain_timeout_s);
        let doors = self.end_requests(deadline).await;
        self.plane.refuse();
        if tokio::time::timeout_at(deadline, self.plane.drained()).await.is_err() {
            tracing::warn!("the drain time is over, requests in flight are ended");
        }
        self.registry.end_all(deadline).await;
        self.pool.end().await;
        self.registry.history().close();
        let last = Instant::now() + LAST_ANSWERS;
        self.stop_admin.send_replace(Some(Stop::by(last)));
        let admin = self.admin.lock().take();
        for task in [doors, admin].into_iter().flatten() {
            let _ = tokio::time::timeout_at(last, task).await;
        }
        tracing::info!("the engine has stopped");
    }

    /// Tell the doors to stop, and wait until no connection has a request or brings another; the doors, if they are still
    /// open by then, for clients who have not read their answer.
    async fn end_requests(&self, deadline: Instant) -> Option<JoinHandle<()>> {
        let (requests, mut ended) = mpsc::channel(1);
        self.stop_doors.send_replace(Some(Stop { end: deadline + LAST_ANSWERS, requests: Some(requests) }));
        let mut doors = self.doors.lock().take()?;
        if tokio::time::timeout_at(deadline.min(Instant::now() + GRACE), &mut doors).await.is_ok() {
            return None;
        }
        self.stop_doors.send_modify(|stop| stop.iter_mut().for_each(|stop| stop.requests = None));
        let _ = tokio::time::timeout_at(deadline, ended.recv()).await;
        Some(doors)
    }

    /// The first SIGTERM or SIGINT drains, the second ends the process at once; workers follow their engine.
    fn watch_signals(&self) -> io::Result<()> {
        let _runtime = self.runtime.enter();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (plane, events) = (Arc::clone(&self.plane), Arc::clone(&self.events));
        tokio::spawn(async move {
            let mut number = next_signal(&mut terminate, &mut interrupt).await;
            tracing::info!(signal = number, "draining; a second signal ends at once");
            plane.begin_drain();
            events.push(Event::Stop);
            number = next_signal(&mut terminate, &mut interrupt).await;
            tracing::warn!(signal = number, "ended by a second signal");
            std::process::exit(128 + number);
        });
        Ok(())
    }
}

async fn probe_died(worker: &Worker) -> Cause {
    let exit = worker.exited().await;
    Cause {
        message: format!("the worker that imported the target ended by {}", exit.status),
        signal: Some(exit.status),
        stderr: worker.output.tail(OWN),
        next_step: "run `python FILE` to see it end; what the module does on import must not end the process".into(),
        ..Cause::default()
    }
}

async fn next_signal(terminate: &mut tokio::signal::unix::Signal, interrupt: &mut tokio::signal::unix::Signal) -> i32 {
    tokio::select! {
        _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
        _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
    }
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::from_secs(86_400))
}
