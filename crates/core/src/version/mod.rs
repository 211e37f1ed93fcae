//! One version that serves: its scheduler behind one short lock, and the side effects that the scheduler asks for.

mod alarm;
mod calls;
pub mod exchange;
mod instances;
mod intake;
mod poison;
mod running;
pub mod steps;
mod waiter;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::alarm::Alarm;
pub use self::calls::InstanceSink;
pub use self::exchange::{Exchange, Gone, Upload};
pub use self::instances::{DeathReport, Seat};
pub use self::intake::{not_ready, unloaded};
use self::poison::Poison;
pub use self::running::Running;
use crate::batcher::Policy;
use crate::channel::engine::Link;
use crate::channel::transport::Signature;
use crate::clock::{NEVER, Nanos, nanos, now};
use crate::config::{BatchErrors, ExposeErrors, VersionSpec};
use crate::error::{Code, Error};
use crate::history::History;
use crate::life::{Cause, Life, State};
use crate::metrics::{Metrics, VersionGauges, VersionMetrics};
use crate::panics::{Panic, contain};
use crate::pending::Part;
use crate::report::InstanceReport;
use crate::scheduler::{Assignment, Expired, Limits, Scheduler};
use crate::tensor::TensorSpec;
use crate::workers::scrape::Scrape;

/// A timer with nothing to do still looks, so that it notices that its version is gone.
const LONGEST_SLEEP: std::time::Duration = std::time::Duration::from_secs(60);

/// A timer that failed looks again, as deadlines are kept by nobody else.
const AFTER_PANIC: Nanos = 100_000_000;

/// Numbers for a version's calls in a shared worker: enough for 20,000 a second during seven years.
const CALL_BITS: u32 = 42;

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
    pub metrics: Arc<VersionMetrics>,
    /// Those of its methods that take tensors, if it is a service.
    meters: OnceLock<HashMap<String, Arc<VersionMetrics>>>,
    all_metrics: Arc<Metrics>,
    history: Arc<History>,
    signature: Signature,
    expose_errors: ExposeErrors,
    /// The one lock on the path of a request, held for the scheduler's decisions only.
    core: Mutex<Core>,
    /// Wakes the timer when something is due earlier than it knows.
    earlier: Arc<Notify>,
    /// Rings when the batcher wants to look again. None where calls hold one row, or where no descriptor is left for it.
    alarm: Option<Arc<Alarm>>,
    /// Wakes whoever waits for the version to be empty.
    idle: Notify,
    /// Requests that killed its workers.
    poison: Poison,
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
    /// The moment for which the alarm is set; it may be past.
    alarm: Nanos,
}

#[derive(Clone, Debug, Default)]
struct InstanceSlot {
    /// Goes with the worker.
    seat: Option<Seat>,
    finished_calls: u64,
    /// Somebody looks whether its worker lives.
    is_suspected: bool,
}

impl InstanceSlot {
    fn link(&self) -> Option<&Arc<Link>> {
        self.seat.as_ref().map(|seat| &seat.link)
    }

    fn has(&self, link: &Arc<Link>) -> bool {
        self.link().is_some_and(|own| Arc::ptr_eq(own, link))
    }
}

/// What the scheduler wants done, outside of the lock.
#[derive(Debug, Default)]
struct Actions {
    expired: Vec<Expired<Part>>,
    /// Link and number of the instance, and what it gets.
    sends: Vec<(Arc<Link>, u32, Assignment<Part>)>,
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
        let mut version = Self::idle(serial, Arc::new(spec), metrics, history, expose_errors);
        if version.spec.max_rows() > 1 {
            version.alarm = Alarm::new().map(Arc::new).ok();
        }
        let version = Arc::new(version);
        version.record(&version.life.lock());
        tokio::spawn(run_timer(Arc::downgrade(&version), Arc::clone(&version.earlier), version.alarm.clone()));
        version
    }

    /// What a service's methods are to clients that speak of models: each a version of its own, run by the service.
    #[must_use]
    pub fn methods(self: &Arc<Self>) -> Vec<Arc<Self>> {
        let specs = self.spec.service.iter().flat_map(|service| &service.methods);
        let methods: Vec<_> = specs
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
            .collect();
        let meter = |method: &Arc<Self>| Some((method.service.as_ref()?.1.clone(), Arc::clone(&method.metrics)));
        let _ = self.meters.set(methods.iter().filter_map(meter).collect());
        methods
    }

    fn idle(
        serial: u64,
        spec: Arc<VersionSpec>,
        metrics: Arc<Metrics>,
        history: Arc<History>,
        expose_errors: ExposeErrors,
    ) -> Self {
        let options = &spec.options;
        let delay = |ms: f64| nanos(std::time::Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default());
        let policy = Policy { max_batch_size: spec.max_rows(), max_queue_delay: options.max_queue_delay_ms.map(delay) };
        let limits = Limits { items: options.max_queue_items, bytes: options.max_queue_bytes };
        let (instances, concurrency) = (options.instances.max(1), options.concurrency.max(1));
        let mut scheduler = Scheduler::new(policy, limits, instances, concurrency);
        if spec.is_relayed() {
            scheduler = scheduler.without_prefetch();
        }
        if spec.options.batch_errors == BatchErrors::Shared {
            scheduler = scheduler.with_shared_errors();
        }
        if spec.options.group().is_some() {
            // In a shared worker an instance has one call at a time, under a number that no other version uses.
            scheduler = scheduler.without_prefetch().counting_from(serial << CALL_BITS);
        }
        let core = Core {
            scheduler,
            instances: vec![InstanceSlot::default(); instances],
            is_loading: true,
            closed: None,
            is_final: false,
            timer: NEVER,
            alarm: NEVER,
        };
        Self {
            serial,
            name: spec.name.as_str().into(),
            version: spec.version.as_str().into(),
            life: Arc::default(),
            service: None,
            metrics: Arc::new(metrics.version(&spec.name, &spec.version)),
            meters: OnceLock::new(),
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
            alarm: None,
            idle: Notify::new(),
            poison: Poison::default(),
            spec,
        }
    }

    /// Whoever has the instances: this version, or the service whose method it is.
    fn runner(self: &Arc<Self>) -> &Arc<Self> {
        self.service.as_ref().map_or(self, |(service, _)| service)
    }

    /// Would a request succeed now? The error says why not.
    pub fn ready(self: &Arc<Self>) -> Result<(), Error> {
        let runner = self.runner();
        runner.check_open(&runner.core.lock(), false)?;
        if self.life.lock().is_ready() { Ok(()) } else { Err(not_ready(&self.spec, "is restarting")) }
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
            instances: core.instances.iter().enumerate().filter_map(report_of).collect(),
        }
    }

    /// What the user code of each live instance measures.
    #[must_use]
    pub fn scrapes(&self) -> Vec<Arc<Scrape>> {
        let scrape = |slot: &InstanceSlot| Some(Arc::clone(&slot.seat.as_ref()?.scrape));
        self.core.lock().instances.iter().filter_map(scrape).collect()
    }

    /// Count and log a panic that was contained; `what` says what failed.
    pub fn panicked(&self, panic: &Panic, what: &str) {
        self.all_metrics.panicked(panic, &format!("{}: {what}", self.spec.title()));
    }

    /// A worker died or could not be started.
    pub fn count_restart(&self, cause: &str) {
        self.all_metrics.worker_restarts.with_label_values(&[&*self.name, &*self.version, cause]).inc();
    }

    /// What is to be done at `now`. The lock is held; nothing here blocks.
    fn dispatch(&self, core: &mut Core, now: Nanos) -> Actions {
        let instances = &core.instances;
        let take_back =
            |instance: usize, call| instances[instance].link().is_some_and(|link: &Arc<Link>| link.revoke(call));
        let expired = core.scheduler.expire(now, take_back);
        let mut sends = Vec::new();
        loop {
            while let Some(assignment) = core.scheduler.next(now) {
                if let Some(seat) = &core.instances[assignment.instance].seat {
                    sends.push((Arc::clone(&seat.link), seat.number, assignment));
                }
            }
            let Some((instance, call)) = core.scheduler.stranded() else { break };
            if !take_back(instance, call) {
                break; // it has begun, or is still on its way
            }
            core.scheduler.revoke(call);
        }
        self.arm(core);
        Actions { expired, sends }
    }

    /// Set the timer for what is due next.
    fn arm(&self, core: &mut Core) {
        let look = core.scheduler.next_look();
        let mut wake = core.scheduler.next_expiry();
        match &self.alarm {
            // It may ring too early, which wakes the timer once; setting it for every item would cost more.
            Some(alarm) if look < core.alarm => {
                core.alarm = look;
                alarm.set(look);
            }
            Some(_) => {}
            None => wake = wake.min(look),
        }
        if wake < core.timer {
            core.timer = wake;
            self.earlier.notify_one();
        }
    }

    fn perform(self: &Arc<Self>, actions: Actions) {
        for (link, number, assignment) in actions.sends {
            // Whoever performs it has a request, or a worker, of its own, which a call of others must not cost.
            if let Err(panic) = contain(|| self.send((&link, number), &assignment)) {
                self.panicked(&panic, "a call was not sent");
                let text = format!("the engine failed on a call of {}; its log tells why", self.spec.title());
                self.withdraw(assignment.instance, assignment.call, &Error::new(Code::Internal, text));
            }
        }
        for expired in actions.expired {
            if let Err(panic) = contain(|| self.expire(&expired)) {
                self.panicked(&panic, "a request that ran out of time was not answered");
            }
        }
    }

    /// Do what is due; when something will be next. `has_rung`: the alarm is over.
    fn do_due(self: &Arc<Self>, has_rung: bool) -> Nanos {
        let (actions, due) = {
            let mut core = self.core.lock();
            // Nothing is earlier than 0, so that this round does not wake itself.
            core.timer = 0;
            if has_rung {
                core.alarm = NEVER;
            }
            let actions = self.dispatch(&mut core, now());
            let look = if self.alarm.is_none() { core.scheduler.next_look() } else { NEVER };
            core.timer = core.scheduler.next_expiry().min(look);
            (actions, core.timer)
        };
        self.perform(actions);
        due
    }
}

impl Drop for Version {
    /// The task of the timer holds the alarm; it ends when it finds no version.
    fn drop(&mut self) {
        self.earlier.notify_one();
    }
}

fn report_of((index, slot): (usize, &InstanceSlot)) -> Option<InstanceReport> {
    let seat = slot.seat.as_ref()?;
    Some(InstanceReport { index, pid: seat.pid, worker: seat.worker.as_ref().map(ToString::to_string) })
}

/// The outputs that an answer of an instance may have: those of the signature, or of the service's methods, or a body.
fn answers_of(spec: &VersionSpec) -> Vec<TensorSpec> {
    let Some(service) = &spec.service else { return spec.outputs.clone() };
    let most = service.methods.iter().map(|method| method.outputs.len()).max().unwrap_or(0).max(1);
    vec![TensorSpec { name: String::new(), datatype: None, dims: None }; most]
}

/// Calls [`Version::dispatch`] when something is due: a deadline, or a batch that has waited long enough.
async fn run_timer(version: std::sync::Weak<Version>, earlier: Arc<Notify>, alarm: Option<Arc<Alarm>>) {
    let mut has_rung = false;
    loop {
        let Some(strong) = version.upgrade() else { return };
        let due = contain(|| strong.do_due(has_rung)).unwrap_or_else(|panic| {
            strong.panicked(&panic, "its timer looks again");
            now().saturating_add(AFTER_PANIC)
        });
        drop(strong);
        let wait = std::time::Duration::from_nanos(due.saturating_sub(now())).min(LONGEST_SLEEP);
        has_rung = tokio::select! {
            () = tokio::time::sleep(wait) => false,
            () = earlier.notified() => false,
            () = rung(alarm.as_deref()) => true,
        };
    }
}

async fn rung(alarm: Option<&Alarm>) {
    match alarm {
        Some(alarm) => alarm.rung().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "panic_tests.rs"]
mod tests;
