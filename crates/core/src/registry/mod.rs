//! Which versions exist, which of them gets a request, and how one takes over from another.

mod ending;
#[cfg(feature = "guard")]
mod guard;
mod routes;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::ending::replace;
use self::routes::{Routes, lookup, services_of, unknown};
use crate::config::{ExposeErrors, VersionSpec};
use crate::error::{Code, Error, echo};
use crate::events::{Event, Events};
use crate::history::History;
use crate::life::{Cause, State};
use crate::metrics::{Metrics, VersionGauges};
use crate::report::VersionReport;
use crate::routing::RouteTable;
use crate::version::Version;
use crate::version::steps::Directory;
use crate::workers::instance::{Crew, Observer};
use crate::workers::scrape::Scrape;
use crate::workers::shared::Workers;
use crate::workers::spawn::Worker;

/// How far down it is looked whether what a version calls is ready; calls in a circle are refused before they are served.
const MAX_DEPTH: usize = 16;

/// A version with what ends it.
#[derive(Debug)]
pub struct Deployed {
    /// The version.
    pub version: Arc<Version>,
    /// Its methods that are models to clients, if it is a service.
    methods: Vec<Arc<Version>>,
    stop: watch::Sender<bool>,
    /// The instances' tasks.
    crew: Mutex<Option<JoinSet<()>>>,
}

impl Deployed {
    fn new(version: Arc<Version>, stop: watch::Sender<bool>) -> Self {
        Self { methods: version.methods(), version, stop, crew: Mutex::default() }
    }

    /// The version itself, or its method of this name.
    fn named(&self, method: Option<&str>) -> Option<&Arc<Version>> {
        let Some(method) = method else { return Some(&self.version) };
        self.methods.iter().find(|version| version.name.rsplit_once('.').is_some_and(|(_, name)| name == method))
    }
}

/// Every version that the engine knows.
#[derive(Debug)]
pub struct Registry {
    /// What requests see; replaced as a whole, so that a look at it takes no lock.
    routes: ArcSwap<BTreeMap<String, Routes>>,
    /// Whose an HTTP request is that names no model; made anew with `routes`.
    services: ArcSwap<RouteTable<Version>>,
    /// Serialises changes of `routes`, and holds versions that load in order to take over.
    incoming: Mutex<Vec<Arc<Deployed>>>,
    /// Versions that end behind the back of whoever asked for it; the engine waits for them before it goes.
    endings: Mutex<JoinSet<()>>,
    next_serial: AtomicU64,
    workers: Arc<Workers>,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    history: Arc<History>,
    expose_errors: ExposeErrors,
    drain_timeout: Duration,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new(
        workers: Arc<Workers>,
        metrics: Arc<Metrics>,
        events: Arc<Events>,
        expose_errors: ExposeErrors,
        drain_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            routes: ArcSwap::default(),
            services: ArcSwap::default(),
            incoming: Mutex::default(),
            endings: Mutex::default(),
            next_serial: AtomicU64::new(1),
            workers,
            metrics,
            events,
            history: Arc::default(),
            expose_errors,
            drain_timeout,
        })
    }

    /// The version that gets a request: the named one, else of those that serve the highest integer, else `default`,
    /// else the last deployed. `<service>.<method>` is a model too.
    pub fn find(&self, model: &str, version: Option<&str>) -> Result<Arc<Version>, Error> {
        let routes = self.routes.load();
        let (of_model, method) = lookup(&routes, model)?;
        let Some(name) = version else { return of_model.chosen.named(method).cloned().ok_or_else(|| unknown(model)) };
        let found = of_model.versions.get(name).and_then(|deployed| deployed.named(method));
        found.cloned().ok_or_else(|| {
            let known: Vec<_> = of_model.versions.keys().map(String::as_str).collect();
            let text = format!("model {model:?} has no version {:?}; it has {}", echo(name), known.join(", "));
            Error::new(Code::UnknownVersion, text)
        })
    }

    /// Every version of a model.
    pub fn find_all(&self, model: &str) -> Result<Vec<Arc<Version>>, Error> {
        let routes = self.routes.load();
        let (of_model, method) = lookup(&routes, model)?;
        Ok(of_model.versions.values().filter_map(|deployed| deployed.named(method)).cloned().collect())
    }

    /// Would a request to this version succeed now? What it calls must be ready too. The error says why not.
    pub fn ready(&self, version: &Arc<Version>) -> Result<(), Error> {
        self.ready_below(version, MAX_DEPTH)
    }

    fn ready_below(&self, version: &Arc<Version>, depth: usize) -> Result<(), Error> {
        version.ready()?;
        for name in version.spec.uses.iter().filter(|_| depth > 0) {
            self.ready_below(&self.find(name, None)?, depth - 1).map_err(|mut error| {
                error.message = format!("{} calls {name:?}: {}", version.spec.title(), error.message);
                error
            })?;
        }
        Ok(())
    }

    /// Every version.
    #[must_use]
    pub fn versions(&self) -> Vec<Arc<Version>> {
        self.deployed().iter().map(|deployed| Arc::clone(&deployed.version)).collect()
    }

    /// Every version that is a model to clients: no service, but the methods of services that take tensors.
    #[must_use]
    pub fn models(&self) -> Vec<Arc<Version>> {
        let of = |deployed: &Arc<Deployed>| match deployed.version.spec.service {
            Some(_) => deployed.methods.clone(),
            None => vec![Arc::clone(&deployed.version)],
        };
        self.deployed().iter().flat_map(of).collect()
    }

    /// The services that new requests get, by name.
    #[must_use]
    pub fn services(&self) -> Vec<Arc<Version>> {
        services_of(&self.routes.load())
    }

    /// The service whose request this is, and whether the request may run twice.
    #[must_use]
    pub fn service(&self, method: &str, path: &str) -> Option<(Arc<Version>, bool)> {
        let found = self.services.load().find(method, path)?;
        Some((found.service, found.is_idempotent))
    }

    /// Names of the versions of a model, but those that leave or have left.
    #[must_use]
    pub fn version_names(&self, model: &str) -> Vec<String> {
        let has_left = |state| matches!(state, State::Draining | State::Unloaded);
        let is_there = |deployed: &Deployed| !has_left(deployed.version.life.lock().state());
        let routes = self.routes.load();
        let versions = lookup(&routes, model).into_iter().flat_map(|(routes, _)| &routes.versions);
        versions.filter(|(_, deployed)| is_there(deployed)).map(|(name, _)| name.clone()).collect()
    }

    /// What the control plane may know of every version.
    #[must_use]
    pub fn reports(&self) -> Vec<VersionReport> {
        let loads = self.workers.loads();
        self.versions().iter().map(|version| version.report(loads.before(version.serial))).collect()
    }

    /// What became of every version.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// For a scrape.
    #[must_use]
    pub fn gauges(&self) -> Vec<VersionGauges> {
        self.versions().iter().map(|version| version.gauges()).collect()
    }

    /// What the user code of every live instance measures; instances that share a worker have one.
    #[must_use]
    pub fn scrapes(&self) -> Vec<Arc<Scrape>> {
        let mut seen = HashSet::new();
        let mut scrapes: Vec<_> = self.versions().iter().flat_map(|version| version.scrapes()).collect();
        scrapes.retain(|scrape| seen.insert(Arc::as_ptr(scrape)));
        scrapes
    }

    /// Load a version; `worker` has imported its file already. If one of that name serves, it serves on until the new
    /// one is ready. The number is the deployment's, for its events. Must run inside the tokio runtime.
    pub fn deploy(self: &Arc<Self>, spec: VersionSpec, worker: Option<Worker>) -> u64 {
        self.workers.pool().import(&spec.imports);
        let instances = spec.options.instances.max(1);
        let serial = self.next_serial.fetch_add(1, Ordering::Relaxed);
        let version = self.version(serial, spec);
        let (stop, stopped) = watch::channel(false);
        let mut incoming = self.incoming.lock();
        let deployed = Arc::new(Deployed::new(Arc::clone(&version), stop));
        let crew = Arc::new(Crew {
            version: Arc::clone(&version),
            workers: Arc::clone(&self.workers),
            observer: Arc::clone(self) as Arc<dyn Observer>,
            directory: Arc::clone(self) as Arc<dyn Directory>,
            stop: stopped,
            given_up: 0.into(),
            untried: instances.into(),
        });
        let mut tasks = JoinSet::new();
        let mut worker = worker;
        if version.spec.options.group().is_some()
            && let Some(worker) = worker.take()
        {
            worker.kill(); // it has a place with others
        }
        for index in 0..instances {
            tasks.spawn(Arc::clone(&crew).run(index, worker.take()));
        }
        *deployed.crew.lock() = Some(tasks);
        let serves = self.serving(&version).is_some_and(|old| old.version.is_any_up());
        if serves {
            incoming.push(deployed);
        } else {
            self.install(deployed);
        }
        serial
    }

    /// List a model that could not even be described.
    pub fn declare_failed(self: &Arc<Self>, spec: VersionSpec, cause: Cause) {
        let serial = self.next_serial.fetch_add(1, Ordering::Relaxed);
        let version = self.version(serial, spec);
        let text = format!("{} has failed: {}; {}", version.spec.title(), cause.message, cause.next_step);
        version.close(Error::new(Code::ModelFailed, text), true);
        let message = cause.message.clone();
        version.enter(State::Failed, &message, Some(cause));
        let _changes = self.incoming.lock();
        if self.serving(&version).is_none_or(|old| !old.version.is_any_up()) {
            self.install(Arc::new(Deployed::new(version, watch::channel(false).0)));
        }
    }

    fn version(&self, serial: u64, spec: VersionSpec) -> Arc<Version> {
        Version::new(serial, spec, Arc::clone(&self.metrics), Arc::clone(&self.history), self.expose_errors)
    }

    fn deployed(&self) -> Vec<Arc<Deployed>> {
        self.routes.load().values().flat_map(|routes| routes.versions.values().cloned()).collect()
    }

    fn serving(&self, version: &Version) -> Option<Arc<Deployed>> {
        self.routes.load().get(&*version.name)?.versions.get(&*version.version).cloned()
    }

    /// Let a version get the requests of its name. The lock on `incoming` is held.
    fn install(&self, deployed: Arc<Deployed>) {
        let mut routes = BTreeMap::clone(&self.routes.load());
        let name = deployed.version.name.to_string();
        let of_model =
            routes.entry(name).or_insert_with(|| Routes { versions: BTreeMap::new(), chosen: Arc::clone(&deployed) });
        of_model.versions.insert(deployed.version.version.to_string(), deployed);
        of_model.choose();
        self.store(routes);
    }

    fn store(&self, routes: BTreeMap<String, Routes>) {
        let services = services_of(&routes);
        let specs = services.iter().filter_map(|version| Some((Arc::clone(version), version.spec.service.as_ref()?)));
        self.services.store(Arc::new(RouteTable::new(specs)));
        self.routes.store(Arc::new(routes));
    }

    /// A version has changed its state: another one may be better for requests that name none.
    fn choose(&self, model: &str) {
        let _changes = self.incoming.lock();
        let mut routes = BTreeMap::clone(&self.routes.load());
        if routes.get_mut(model).is_some_and(Routes::choose) {
            self.store(routes);
        }
    }

    fn announce(&self, version: &Version) {
        let life = version.life.lock();
        tracing::info!(model = %version.name, version = %version.version, state = life.state().name(), "version is {}", life.state().name());
        self.events.push(Event::Version {
            serial: version.serial,
            name: version.name.to_string(),
            version: version.version.to_string(),
            state: life.state(),
            cause: life.cause().cloned(),
        });
        drop(life);
        self.choose(&version.name);
    }

    /// A version that loaded in order to take over has become ready, or has failed.
    fn settle(&self, version: &Arc<Version>, is_ready: bool) -> Option<Arc<Deployed>> {
        let mut incoming = self.incoming.lock();
        let place = incoming.iter().position(|deployed| Arc::ptr_eq(&deployed.version, version))?;
        let deployed = incoming.remove(place);
        let old = self.serving(version);
        if is_ready {
            self.install(deployed);
            return old;
        }
        if let Some(old) = old {
            let cause = version.life.lock().cause().map_or_else(String::new, |cause| cause.message.clone());
            old.version.note(&format!("a newer load failed and this one serves on: {cause}"));
        }
        Some(deployed)
    }
}

impl Directory for Registry {
    fn find(&self, model: &str, version: Option<&str>) -> Result<Arc<Version>, Error> {
        Registry::find(self, model, version)
    }
}

impl Observer for Registry {
    fn changed(&self, version: &Arc<Version>) {
        let state = version.life.lock().state();
        if matches!(state, State::Ready | State::Failed)
            && let Some(over) = self.settle(version, state == State::Ready)
        {
            let drain_timeout = self.drain_timeout;
            self.end_behind(async move { replace(&over, drain_timeout).await });
        }
        self.announce(version);
    }
}
