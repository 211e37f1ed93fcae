//! One version that serves: its scheduler behind one short lock, and the side effects that the scheduler asks for.

mod calls;
pub mod exchange;
mod running;
pub mod steps;
mod waiter;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

pub use self::calls::InstanceSink;
pub use self::exchange::{Exchange, Gone, Upload};
pub use self::running::Running;
use self::waiter::Waiter;
use crate::admission::{Admitted, admit};
use crate::batcher::Policy;
use crate::channel::engine::Link;
use crate::channel::transport::Signature;
use crate::clock::{NEVER, Nanos, now};
use crate::config::{ExposeErrors, VersionSpec};
use crate::error::{Code, Error};
use crate::history::History;
use crate::life::{Cause, Life, State};
use crate::metrics::{Metrics, VersionGauges, VersionMetrics};
use crate::outlet::Outlet;
use crate::pending::{Part, Pending};
use crate::request::{InferRequest, InferResponse};
use crate::scheduler::{Arrival, Assignment, Expired, Limits, Scheduler};
use crate::tensor::{NamedTensor, Tensor, TensorSpec};
use crate::workers::output::Owner;
use crate::workers::scrape::Scrape;

/// A timer with nothing to do still looks, so that it notices that its version is gone.
const LONGEST_SLEEP: std::time::Duration = std::time::Duration::from_secs(60);

/// One version that serves.
#[derive(Debug)]
pub struct Version {
    /// Number of this deployment; a reload of the same name has another.
    pub serial: u64,
    /// What it is.
    pub spec: Arc<VersionSpec>,
    /// Model name.
    pub name: Arc<str>,
    /// Version name.
    pub version: Arc<str>,
    /// State and history. Not on the path of a request, apart from a look at the state. A method shares its service's.
    pub life: Arc<Mutex<Life>>,
    /// The service whose method this is, and the method's name there.
    service: Option<(Arc<Version>, String)>,
    /// Its metrics.
    pub metrics: VersionMetrics,
    all_metrics: Arc<Metrics>,
    history: Arc<History>,
    signature: Signature,
    expose_errors: ExposeErrors,
    /// The one lock on the path of a request, held for the scheduler's decisions only.
    core: Mutex<Core>,
    /// Wakes the timer when something is due earlier than it knows.
    earlier: Arc<Notify>,
    /// Wakes whoever waits for the version to be empty.
    idle: Notify,
}

#[derive(Debug)]
struct Core {
    scheduler: Scheduler<Part>,
    instances: Vec<InstanceSlot>,
    /// It takes nothing before its instances have been tried.
    is_loading: bool,
    /// What new requests are answered from now on.
    closed: Option<Error>,
    /// That holds for parts of admitted requests too.
    is_final: bool,
    /// The moment for which the timer is set.
    timer: Nanos,
}

#[derive(Clone, Debug, Default)]
struct InstanceSlot {
    link: Option<Arc<Link>>,
    pid: Option<u32>,
    /// What its user code measures; goes with the worker.
    scrape: Option<Arc<Scrape>>,
    finished_calls: u64,
}

/// What the scheduler wants done, outside of the lock.
#[derive(Debug, Default)]
struct Actions {
    expired: Vec<Expired<Part>>,
    sends: Vec<(Arc<Link>, Assignment<Part>)>,
}

/// What a death left.
#[derive(Clone, Copy, Debug)]
pub struct DeathReport {
    /// True if the worker had finished a call since it was loaded.
    pub has_finished_call: bool,
    /// True if the death is the fault of one item that had killed before.
    pub is_charged_to_item: bool,
}

impl Version {
    /// A version with no live instance yet. Must run inside the tokio runtime: its timer is started.
    #[must_use]
    pub fn new(
        serial: u64,
        spec: VersionSpec,
        metrics: Arc<Metrics>,
        history: Arc<History>,
        expose_errors: ExposeErrors,
    ) -> Arc<Self> {
        let version = Arc::new(Self::idle(serial, Arc::new(spec), metrics, history, expose_errors));
        version.record(&version.life.lock());
        tokio::spawn(run_timer(Arc::downgrade(&version), Arc::clone(&version.earlier)));
        version
    }

    /// What a service's methods are to clients that speak of models: each a version of its own, run by the service.
    #[must_use]
    pub fn methods(self: &Arc<Self>) -> Vec<Arc<Self>> {
        let methods = self.spec.service.iter().flat_map(|service| &service.methods);
        methods
            .map(|method| {
                let mut spec = VersionSpec::clone(&self.spec);
                spec.name = format!("{}.{}", self.name, method.name);
                (spec.inputs, spec.outputs) = (method.inputs.clone(), method.outputs.clone());
                spec.service = None;
                let (metrics, history) = (Arc::clone(&self.all_metrics), Arc::clone(&self.history));
                let mut version = Self::idle(self.serial, Arc::new(spec), metrics, history, self.expose_errors);
                version.life = Arc::clone(&self.life);
                version.service = Some((Arc::clone(self), method.name.clone()));
                Arc::new(version)
            })
            .collect()
    }

    fn idle(
        serial: u64,
        spec: Arc<VersionSpec>,
        metrics: Arc<Metrics>,
        history: Arc<History>,
        expose_errors: ExposeErrors,
    ) -> Self {
        let options = &spec.options;
        let max_batch_size = if spec.batch_axis { options.max_batch_size.max(1) } else { 1 };
        let delay = std::time::Duration::try_from_secs_f64(options.max_queue_delay_ms / 1e3).unwrap_or_default();
        let policy = Policy { max_batch_size, max_queue_delay: crate::clock::nanos(delay) };
        let limits = Limits { items: options.max_queue_items, bytes: options.max_queue_bytes };
        let (instances, concurrency) = (options.instances.max(1), options.concurrency.max(1));
        let scheduler = Scheduler::new(policy, limits, instances, concurrency);
        let core = Core {
            scheduler: if spec.is_relayed() { scheduler.without_prefetch() } else { scheduler },
            instances: vec![InstanceSlot::default(); instances],
            is_loading: true,
            closed: None,
            is_final: false,
            timer: NEVER,
        };
        Self {
            serial,
            name: spec.name.as_str().into(),
            version: spec.version.as_str().into(),
            life: Arc::default(),
            service: None,
            metrics: metrics.version(&spec.name, &spec.version),
            all_metrics: metrics,
            history,
            signature: Signature {
                inputs: spec.inputs.clone(),
                outputs: answers_of(&spec),
                batch_axis: spec.batch_axis,
            },
            expose_errors,
            core: Mutex::new(core),
            earlier: Arc::default(),
            idle: Notify::new(),
            spec,
        }
    }

    /// Run one request to its end; the pieces of a stream are joined along their first axis. Dropping the future cancels
    /// it.
    pub async fn infer(self: &Arc<Self>, request: InferRequest) -> Result<InferResponse, Error> {
        let mut running = self.begin(request)?;
        let tensors = if self.spec.streams { running.folded().await? } else { running.whole().await?.tensors };
        Ok(self.response(running.pending(), tensors))
    }

    /// Admit a request and let it wait for its turn.
    pub fn begin(self: &Arc<Self>, request: InferRequest) -> Result<Running, Error> {
        let runner = self.runner();
        // A version that takes nothing says so first: of one that could not be described no input is known.
        let mut admitted = admit(&self.spec, request)
            .map_err(|error| runner.check_open(&runner.core.lock(), false).err().unwrap_or(error))?;
        if let Some((_, method)) = &self.service {
            admitted.accepted.method.clone_from(method);
        }
        self.submit(admitted)
    }

    /// Whoever has the instances: this version, or the service whose method it is.
    fn runner(self: &Arc<Self>) -> &Arc<Self> {
        self.service.as_ref().map_or(self, |(service, _)| service)
    }

    fn submit(self: &Arc<Self>, admitted: Admitted) -> Result<Running, Error> {
        let runner = self.runner();
        let max_rows = u64::from(if self.spec.batch_axis { self.spec.options.max_batch_size.max(1) } else { 1 });
        let rows = admitted.accepted.rows;
        let parts = self.parts(rows, max_rows)?;
        let arrived = now();
        let is_streamed = self.spec.streams || admitted.accepted.http.is_some();
        let (outlet, pieces) = if is_streamed { Some(Outlet::new()).unzip() } else { (None, None) };
        let (pending, answer) = Pending::new(admitted.accepted, parts, outlet);
        let arrival = |index: usize| {
            let first_row = index as u64 * max_rows;
            Arrival {
                request: Part { pending: Arc::clone(&pending), index, first_row },
                rows: (rows - first_row).min(max_rows) as u32,
                batch_key: admitted.batch_key,
                cost: admitted.bytes / parts as u64,
                start_by: admitted.start_by,
                deadline: pending.accepted.deadline,
                idempotent: admitted.idempotent,
            }
        };
        let (first, actions) = {
            let mut core = runner.core.lock();
            runner
                .check_room(&core, (parts, admitted.bytes), admitted.is_admitted)
                .inspect_err(|_| self.metrics.statistics.failed(0))?;
            let ids: Vec<_> = (0..parts).map(|index| core.scheduler.submit(arrived, arrival(index))).collect();
            (ids[0], runner.dispatch(&mut core, arrived))
        };
        let waiter = Waiter::new(Arc::clone(self), (first, parts as u64), arrived);
        runner.perform(actions);
        Ok(Running::new(waiter, pending, answer, pieces))
    }

    /// Would a request succeed now? The error says why not.
    pub fn ready(self: &Arc<Self>) -> Result<(), Error> {
        let runner = self.runner();
        runner.check_open(&runner.core.lock(), false)?;
        if self.life.lock().is_ready() { Ok(()) } else { Err(not_ready(&self.name, "is restarting")) }
    }

    /// True if an instance can take calls.
    #[must_use]
    pub fn is_any_up(&self) -> bool {
        self.core.lock().scheduler.is_any_up()
    }

    /// Inputs, outputs and batch axis.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Take requests from now on.
    pub fn open(&self) {
        self.core.lock().is_loading = false;
    }

    /// An instance has loaded: calls go to it from now on.
    pub fn instance_up(self: &Arc<Self>, instance: usize, link: Arc<Link>, pid: u32) {
        let owner = Owner { model: Arc::clone(&self.name), version: Arc::clone(&self.version), instance };
        let scrape = Scrape::new(owner, Arc::clone(&link));
        let actions = {
            let mut core = self.core.lock();
            core.instances[instance] =
                InstanceSlot { link: Some(link), pid: Some(pid), scrape: Some(scrape), finished_calls: 0 };
            core.scheduler.instance_up(instance);
            self.dispatch(&mut core, now())
        };
        self.perform(actions);
    }

    /// An instance died. Its calls run again elsewhere, or are answered.
    pub fn instance_down(self: &Arc<Self>, instance: usize) -> DeathReport {
        let (lost, report, actions) = {
            let mut core = self.core.lock();
            let slot = std::mem::take(&mut core.instances[instance]);
            let lost = core
                .scheduler
                .instance_down(instance, |call| slot.link.as_ref().is_none_or(|link| link.has_started(call)));
            let report =
                DeathReport { has_finished_call: slot.finished_calls > 0, is_charged_to_item: lost.is_charged_to_item };
            (lost, report, self.dispatch(&mut core, now()))
        };
        self.metrics.retries.inc_by(lost.rerun as u64);
        for item in lost.lost {
            let text = format!(
                "the worker of model {:?} died while it ran this request, which may not run twice; \
                 send it again if running it twice does no harm",
                self.name
            );
            item.request.pending.fail(Error::new(Code::WorkerLost, text));
        }
        for item in lost.poison {
            let text =
                format!("the worker of model {:?} died each time it ran this request; look at its input", self.name);
            item.request.pending.fail(Error::new(Code::PoisonItem, text));
        }
        self.perform(actions);
        self.notify_if_idle();
        report
    }

    /// Take no new requests; if `is_final`, answer those that wait and those that run with `error`.
    pub fn close(self: &Arc<Self>, error: Error, is_final: bool) {
        let (waiting, running) = {
            let mut core = self.core.lock();
            core.closed = Some(error.clone());
            core.is_final |= is_final;
            if is_final { (core.scheduler.drain(), core.scheduler.abandon()) } else { Default::default() }
        };
        for item in waiting {
            item.request.pending.fail(error.clone());
        }
        for left in running {
            left.request.pending.fail(error.clone());
            self.leave(&left);
        }
        self.idle.notify_waiters();
    }

    /// Wait until nothing waits and nothing runs.
    pub async fn drained(&self) {
        loop {
            let notified = self.idle.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.is_idle() {
                return;
            }
            notified.await;
        }
    }

    /// True if nothing waits and nothing runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let core = self.core.lock();
        core.scheduler.waiting() == 0 && core.scheduler.running() == 0
    }

    /// Enter a state; true if it is a new one.
    pub fn enter(&self, state: State, message: &str, cause: Option<Cause>) -> bool {
        let mut life = self.life.lock();
        let is_new = life.enter(state, message, cause);
        if is_new {
            self.record(&life);
        }
        is_new
    }

    /// Remember something that is no transition.
    pub fn note(&self, message: &str) {
        let mut life = self.life.lock();
        life.note(message);
        self.record(&life);
    }

    /// The newest entry of its life goes into the history of all.
    fn record(&self, life: &Life) {
        if let Some(event) = life.newest() {
            self.history.push(&self.name, &self.version, event.clone());
        }
    }

    /// For a scrape and for the state of instances.
    #[must_use]
    pub fn gauges(&self) -> VersionGauges {
        let state = self.life.lock().state().name();
        let core = self.core.lock();
        VersionGauges {
            model: Arc::clone(&self.name),
            version: Arc::clone(&self.version),
            queue_items: core.scheduler.waiting(),
            queue_bytes: core.scheduler.waiting_bytes(),
            in_flight: core.scheduler.running(),
            state,
            pids: core.instances.iter().enumerate().filter_map(|(index, slot)| Some((index, slot.pid?))).collect(),
        }
    }

    /// What the user code of each live instance measures.
    #[must_use]
    pub fn scrapes(&self) -> Vec<Arc<Scrape>> {
        self.core.lock().instances.iter().filter_map(|slot| slot.scrape.clone()).collect()
    }

    /// A worker died or could not be started.
    pub fn count_restart(&self, cause: &str) {
        self.all_metrics.worker_restarts.with_label_values(&[&*self.name, &*self.version, cause]).inc();
    }

    /// Items of a request of `rows` rows. Limited before anything is allocated for them: rows without elements are free
    /// to send.
    fn parts(&self, rows: u64, max_rows: u64) -> Result<usize, Error> {
        let parts = rows.div_ceil(max_rows).max(1);
        let limit = self.spec.options.max_queue_items.max(1);
        if parts <= limit as u64 {
            return Ok(parts as usize);
        }
        let text = format!(
            "the request makes {parts} items, the queue of model {:?} holds {limit}; send fewer rows",
            self.name
        );
        Err(Error::new(Code::InvalidInput, text))
    }

    /// Parts of admitted requests are taken while the version drains: those that wait for them do too.
    fn check_open(&self, core: &Core, is_admitted: bool) -> Result<(), Error> {
        match &core.closed {
            Some(_) if is_admitted && !core.is_final => Ok(()),
            Some(error) => Err(error.clone()),
            None if core.is_loading => Err(not_ready(&self.name, "is still loading")),
            None => Ok(()),
        }
    }

    fn check_room(&self, core: &Core, (parts, bytes): (usize, u64), is_admitted: bool) -> Result<(), Error> {
        self.check_open(core, is_admitted)?;
        if is_admitted || core.scheduler.has_room(parts, bytes) {
            return Ok(());
        }
        self.all_metrics.rejected.with_label_values(&[&*self.name, &*self.version, "queue_full"]).inc();
        let text = format!(
            "the queue of model {:?} is full ({} items, {} bytes); try again later",
            self.name,
            core.scheduler.waiting(),
            core.scheduler.waiting_bytes()
        );
        Err(Error::new(Code::QueueFull, text).retry_after(1))
    }

    /// What is to be done at `now`. The lock is held; nothing here blocks.
    fn dispatch(&self, core: &mut Core, now: Nanos) -> Actions {
        let expired = core.scheduler.expire(now);
        let mut sends = Vec::new();
        loop {
            while let Some(assignment) = core.scheduler.next(now) {
                if let Some(link) = core.instances[assignment.instance].link.clone() {
                    sends.push((link, assignment));
                }
            }
            let Some((instance, call)) = core.scheduler.stranded() else { break };
            if !core.instances[instance].link.as_ref().is_some_and(|link| link.revoke(call)) {
                break; // it has begun, or is still on its way
            }
            core.scheduler.revoke(call);
        }
        self.arm(core);
        Actions { expired, sends }
    }

    /// Set the timer for what is due next.
    fn arm(&self, core: &mut Core) {
        let wake = core.scheduler.next_wake();
        if wake < core.timer {
            core.timer = wake;
            self.earlier.notify_one();
        }
    }

    fn perform(self: &Arc<Self>, actions: Actions) {
        for (link, assignment) in actions.sends {
            self.send(&link, &assignment);
        }
        for expired in actions.expired {
            self.expire(&expired);
        }
    }

    fn response(&self, pending: &Pending, outputs: Vec<Tensor>) -> InferResponse {
        let mut named: Vec<_> = self
            .spec
            .outputs
            .iter()
            .zip(outputs)
            .map(|(spec, tensor)| NamedTensor { name: spec.name.clone(), tensor })
            .collect();
        if !pending.accepted.outputs.is_empty() {
            let find = |name: &String| named.iter().find(|output| output.name == *name).cloned();
            named = pending.accepted.outputs.iter().filter_map(find).collect();
        }
        InferResponse { model: Arc::clone(&self.name), version: Arc::clone(&self.version), outputs: named }
    }

    fn notify_if_idle(&self) {
        if self.is_idle() {
            self.idle.notify_waiters();
        }
    }
}

/// The outputs that an answer of an instance may have: those of the signature, or of the service's methods, or a body.
fn answers_of(spec: &VersionSpec) -> Vec<TensorSpec> {
    let Some(service) = &spec.service else { return spec.outputs.clone() };
    let most = service.methods.iter().map(|method| method.outputs.len()).max().unwrap_or(0).max(1);
    vec![TensorSpec { name: String::new(), datatype: None, dims: None }; most]
}

/// What a request is answered when its version was unloaded on demand.
#[must_use]
pub fn unloaded(model: &str, version: &str) -> Error {
    let text = format!(
        "version {version:?} of model {model:?} is unloaded; load the model again, by `samovar models load {model}` for \
         instance"
    );
    Error::new(Code::NotReady, text)
}

/// What a request is answered while its version cannot take it.
#[must_use]
pub fn not_ready(model: &str, state: &str) -> Error {
    Error::new(Code::NotReady, format!("model {model:?} {state}; try again later")).retry_after(1)
}

/// Calls [`Version::dispatch`] when something is due: a deadline, or a batch that has waited long enough.
async fn run_timer(version: std::sync::Weak<Version>, earlier: Arc<Notify>) {
    loop {
        let Some(strong) = version.upgrade() else { return };
        let (actions, due) = {
            let mut core = strong.core.lock();
            // Nothing is earlier than 0, so that this round does not wake itself.
            core.timer = 0;
            let actions = strong.dispatch(&mut core, now());
            core.timer = core.scheduler.next_wake();
            (actions, core.timer)
        };
        strong.perform(actions);
        drop(strong);
        let wait = std::time::Duration::from_nanos(due.saturating_sub(now())).min(LONGEST_SLEEP);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = earlier.notified() => {}
        }
    }
}
