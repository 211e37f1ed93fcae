//! Keeping the instances of one version alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::Instant as Deadline;

use super::load_queue::Turn;
use super::shared::{Berth, Workers};
use super::spawn::{Exit, HANG, HARD_KILL, PANIC, Worker};
use crate::error::{Code, Error};
use crate::life::{BackOff, Cause, State};
use crate::panics::catch;
use crate::version::steps::Directory;
use crate::version::{InstanceSink, Version};

/// How long a worker may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// The same where a call outlived the drain time: most models do nothing beside a call.
const HURRIED_GOODBYE: Duration = Duration::from_millis(500);

/// Longer than any load, and not too long to be added to a moment.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);
/// How long an instance that leaves a shared worker waits for what its neighbours run.
const NEIGHBOURS: Duration = Duration::from_secs(30);

const READ_STDERR: &str =
    "read the last lines it printed; a SIGKILL that nobody sent is often the kernel short of memory";

/// Told of every transition.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// `version` entered a state.
    fn changed(&self, version: &Arc<Version>);
}

/// What the instances of a version share.
#[derive(Debug)]
pub struct Crew {
    /// The version.
    pub version: Arc<Version>,
    /// Where workers come from.
    pub workers: Arc<Workers>,
    /// Told of transitions.
    pub observer: Arc<dyn Observer>,
    /// Where its workers find other models.
    pub directory: Arc<dyn Directory>,
    /// True once the version is to end.
    pub stop: watch::Receiver<bool>,
    /// Instances that gave up.
    pub given_up: AtomicUsize,
    /// Instances whose first load has not ended.
    pub untried: AtomicUsize,
}

/// What stays of an instance while its workers come and go.
struct Keeping {
    index: usize,
    stop: watch::Receiver<bool>,
    /// A worker that has imported the model's file already.
    first: Option<Worker>,
    back_off: BackOff,
    has_served: bool,
    /// No load of it has ended before.
    is_untried: bool,
}

/// A question on the way to the first request.
struct Step {
    verb: &'static str,
    body: serde_json::Value,
    /// How causes name what is done until its answer.
    deed: &'static str,
    /// And when that is.
    when: &'static str,
}

/// What the answer to one says.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Told {
    /// Of `load`: there are samples, to be run by `warm`.
    warms: bool,
    /// Of `warm`: what was wrong with samples that nobody declared.
    note: Option<String>,
}

/// Why a load did not succeed.
enum LoadEnd {
    Raised(Cause),
    TimedOut(Cause),
    Died(Cause, &'static str),
    /// A neighbour ended the worker before it was its turn.
    Lost(Exit),
    /// The version is to end.
    Stopped,
}

impl Crew {
    /// Run instance `index` until the version ends: load, serve, and again after a death. `first` is a worker that has
    /// imported the model's file already.
    pub async fn run(self: Arc<Self>, index: usize, first: Option<Worker>) {
        let (stop, back_off) = (self.stop.clone(), BackOff::default());
        let mut keeping = Keeping { index, stop, first, back_off, has_served: false, is_untried: true };
        while !*keeping.stop.borrow() {
            let mut current = None;
            let ended = match catch(self.live(&mut keeping, &mut current)).await {
                Ok(ended) => ended,
                Err(panic) => {
                    self.version.panicked(&panic, "an instance is started again");
                    self.after_panic(&mut keeping, current).await
                }
            };
            let Some(wait) = ended else { return };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopped(&mut keeping.stop) => return,
            }
        }
    }

    /// One life of an instance, in `current`; how long to wait before the next, `None` for never.
    async fn live(&self, keeping: &mut Keeping, current: &mut Option<Berth>) -> Option<Duration> {
        let group = self.version.spec.options.group();
        let turn = match keeping.is_untried && group.is_none() {
            true => tokio::select! {
                turn = self.workers.loads().turn(self.version.serial) => Some(turn),
                () = stopped(&mut keeping.stop) => return None,
            },
            false => None,
        };
        let berth = match keeping.first.take() {
            Some(worker) => Ok(Berth::own(worker)),
            None => self.workers.take(group, keeping.index, !self.is_in_background(keeping.is_untried)).await,
        };
        match berth {
            Ok(berth) => self.load_and_serve(keeping, current.insert(berth), turn).await,
            Err(error) => {
                drop(turn);
                self.tried(&mut keeping.is_untried);
                let message = format!("a worker could not be started: {error}");
                let cause = Cause {
                    message,
                    next_step: "look at the limits of processes and memory".into(),
                    ..Cause::default()
                };
                self.ready_if_settled("every instance has been tried");
                self.after_death(cause, "spawn", &mut keeping.back_off, (false, false))
            }
        }
    }

    /// The engine failed on an instance, whose worker may live: it is ended as if it had died.
    async fn after_panic(&self, keeping: &mut Keeping, current: Option<Berth>) -> Option<Duration> {
        if let Some(berth) = current {
            berth.leave(Duration::ZERO).await;
        }
        let report = self.version.instance_down(keeping.index);
        self.tried(&mut keeping.is_untried);
        let cause = Cause {
            message: format!("the engine failed on instance {} of {}", keeping.index, self.version.spec.title()),
            next_step: "the log tells why".into(),
            ..Cause::default()
        };
        self.after_death(cause, PANIC, &mut keeping.back_off, (report.has_finished_call, false))
    }

    /// The rest of it in a worker; `turn` is the one among the loads, until it is loaded.
    async fn load_and_serve(&self, keeping: &mut Keeping, berth: &Berth, turn: Option<Turn>) -> Option<Duration> {
        let Keeping { index, stop, back_off, has_served, is_untried, .. } = keeping;
        let index = *index;
        let loaded = self.load(index, !*has_served, berth, stop).await;
        drop(turn);
        match loaded {
            Ok(seconds) => {
                self.tried(is_untried);
                self.version.metrics.load.set(seconds);
                *has_served = true;
            }
            Err(LoadEnd::Lost(exit)) => return self.after_neighbour(berth, &exit),
            Err(end) => {
                berth.leave(Duration::ZERO).await;
                if matches!(end, LoadEnd::Stopped) {
                    return None;
                }
                self.tried(is_untried);
                self.ready_if_settled("every instance has been tried");
                // What the user's code says about itself will not change by asking again; a death may.
                return match end {
                    LoadEnd::Raised(cause) | LoadEnd::TimedOut(cause) if !*has_served => self.give_up(cause),
                    LoadEnd::Raised(cause) => self.after_death(cause, "load", back_off, (false, false)),
                    LoadEnd::TimedOut(cause) => self.after_death(cause, "load_timeout", back_off, (false, false)),
                    LoadEnd::Died(cause, kind) => self.after_death(cause, kind, back_off, (false, false)),
                    LoadEnd::Lost(_) | LoadEnd::Stopped => None,
                };
            }
        }
        let worker = &berth.worker;
        self.version.instance_up(index, berth.seat(self.version.owner(index)));
        self.ready_if_settled(&format!("instance {index} is loaded (pid {})", worker.pid));
        tokio::select! {
            exit = worker.exited() => {
                let report = self.version.instance_down(index);
                if berth.name().is_some() && !report.was_running {
                    return self.after_neighbour(berth, &exit);
                }
                let cause = self.death(index, berth, &exit, "while it served");
                // An item that kills a shared worker is none of the neighbours': the model answers for it.
                let is_charged_to_call = report.is_charged_to_item || matches!(exit.cause, HARD_KILL | HANG);
                let is_excused = is_charged_to_call && berth.name().is_none();
                self.after_death(cause, exit.cause, back_off, (report.has_finished_call, is_excused))
            }
            () = stopped(stop) => {
                self.say_goodbye(berth).await;
                self.version.instance_down(index);
                None
            }
        }
    }

    /// The first load of an instance has ended, or a later one.
    fn tried(&self, is_untried: &mut bool) {
        if std::mem::take(is_untried) {
            self.untried.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Take traffic once the first load of every instance has ended, well or not, and one of them is up: a version that
    /// took over with the first of four would have a quarter of the old one's capacity.
    fn ready_if_settled(&self, message: &str) {
        if self.untried.load(Ordering::Acquire) == 0 && self.version.is_any_up() {
            self.version.open();
            self.enter(State::Ready, message, None);
        }
    }

    /// Requests wait for who comes back after a death; for who comes first beside others none do.
    fn is_in_background(&self, is_first: bool) -> bool {
        is_first && self.workers.pool().is_filling()
    }

    /// Load the model into a worker and warm it up; the seconds it took.
    async fn load(
        &self,
        index: usize,
        is_first: bool,
        berth: &Berth,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<f64, LoadEnd> {
        let (version, Berth { worker, number, .. }) = (&self.version, berth);
        let errand = tokio::select! {
            errand = worker.link.errand() => errand,
            () = stopped(stop) => return Err(LoadEnd::Stopped),
        };
        let Ok(_errand) = errand else { return Err(LoadEnd::Lost(worker.exited().await)) };
        let began = Instant::now();
        worker.output.own(*number, version.owner(index));
        let directory = Arc::clone(&self.directory);
        let sink = Arc::new(InstanceSink::new(Arc::clone(version), index, &worker.link, directory));
        worker.link.attach(*number, sink, version.signature().clone());
        let mut body = serde_json::to_value(&*version.spec).unwrap_or_default();
        body["instance"] = (*number).into();
        body["in_background"] = self.is_in_background(is_first).into();
        self.enter(State::Loading, &format!("instance {index} is being loaded"), None);
        let limit = Duration::try_from_secs_f64(version.spec.options.load_timeout_s).unwrap_or(FOR_EVER);
        let until = Deadline::now() + limit.min(FOR_EVER);
        let loaded = self
            .ask(index, berth, stop, until, &Step { verb: "load", body, deed: "load", when: "while it loaded" })
            .await?;
        if loaded.warms {
            self.enter(State::Warming, &format!("instance {index} runs samples"), None);
            let body = serde_json::json!({ "instance": number });
            let step = Step { verb: "warm", body, deed: "load and run its samples", when: "while it ran samples" };
            let warmed = self.ask(index, berth, stop, until, &step).await?;
            if let Some(note) = warmed.note.filter(|_| is_first) {
                version.note(&note);
                tracing::info!(model = %version.name, version = %version.version, "{note}");
            }
        }
        Ok(began.elapsed().as_secs_f64())
    }

    /// Have the worker take a step of a load, and wait for its end, in a shared worker in the errand of the caller.
    async fn ask(
        &self,
        index: usize,
        berth: &Berth,
        stop: &mut watch::Receiver<bool>,
        until: Deadline,
        step: &Step,
    ) -> Result<Told, LoadEnd> {
        let Berth { worker, number, .. } = berth;
        let asking = tokio::time::timeout_at(until, worker.link.ask(step.verb, step.body.to_string()));
        let told = tokio::select! {
            told = asking => told,
            () = self.cannot_wait(stop, berth) => {
                worker.kill();
                return Err(LoadEnd::Stopped);
            }
        };
        match told {
            Ok(Ok(told)) if told.ok => Ok(serde_json::from_str(&told.body).unwrap_or_default()),
            Ok(Ok(told)) => {
                let mut cause = parse_failure(&told.body);
                // The lines that it printed are on their way through a pipe of their own.
                tokio::time::sleep(Duration::from_millis(20)).await;
                cause.stderr = worker.output.tail(*number);
                Err(LoadEnd::Raised(cause))
            }
            Ok(Err(_)) => {
                let exit = worker.exited().await;
                Err(LoadEnd::Died(self.death(index, berth, &exit, step.when), exit.cause))
            }
            Err(_) => {
                let cause = self.timeout(index, berth, step.deed);
                worker.kill();
                worker.exited().await;
                Err(LoadEnd::TimedOut(cause))
            }
        }
    }

    /// The version is to end and its load is not waited for: at once, but where that costs neighbours their worker.
    async fn cannot_wait(&self, stop: &mut watch::Receiver<bool>, berth: &Berth) {
        stopped(stop).await;
        if berth.name().is_some() {
            tokio::time::sleep(GOODBYE).await;
        }
    }

    fn timeout(&self, index: usize, berth: &Berth, deed: &str) -> Cause {
        let limit = self.version.spec.options.load_timeout_s;
        let title = self.version.spec.title();
        Cause {
            message: format!("instance {index} of {title} did not {deed} within {limit} s"),
            exception: None,
            traceback: String::new(),
            signal: None,
            stderr: berth.worker.output.tail(berth.number),
            next_step: "find what it waits for, or raise load_timeout_s".into(),
        }
    }

    fn death(&self, index: usize, berth: &Berth, exit: &Exit, when: &str) -> Cause {
        let (what, next_step) = match &exit.bad_frame {
            _ if exit.cause == HARD_KILL => (
                "was killed for a call that ran on for nobody".to_owned(),
                "see why it does not end, or raise hard_kill_after_s",
            ),
            _ if exit.cause == HANG => (
                "gave no sign of life after nobody waited for its call any more, and was killed".to_owned(),
                "see what stops it, or holds the interpreter's lock (GIL): C code that runs for seconds ought to release it",
            ),
            _ if exit.cause == PANIC => (
                "was ended because the engine failed on what it sent".to_owned(),
                "the log tells what failed: a fault of the engine",
            ),
            Some(frame) => (format!("sent a {frame} and was ended"), READ_STDERR),
            None => (format!("ended by {}", exit.status), READ_STDERR),
        };
        let shared = berth.name().map(|name| format!(", {name:?},")).unwrap_or_default();
        Cause {
            message: format!("the worker of instance {index} of {}{shared} {what} {when}", self.version.spec.title()),
            exception: None,
            traceback: String::new(),
            signal: Some(exit.status.clone()),
            stderr: berth.worker.output.tail(berth.number),
            next_step: next_step.into(),
        }
    }

    /// Something else than this instance ended their worker: it starts again with the next.
    fn after_neighbour(&self, berth: &Berth, exit: &Exit) -> Option<Duration> {
        let version = &self.version;
        version.count_restart("neighbour");
        let name = berth.name().map_or("", |name| name);
        let message =
            format!("the worker {name:?} ended by {} while nothing of this model ran; it restarts", exit.status);
        if version.is_any_up() || version.life.lock().state().is_coming() {
            version.note(&message);
        } else {
            let next_step = "look at the log for the model that ran there".into();
            let cause = Cause { message: message.clone(), next_step, ..Cause::default() };
            self.enter(State::Degraded, &message, Some(cause));
        }
        Some(Duration::ZERO)
    }

    fn after_death(&self, cause: Cause, kind: &str, back_off: &mut BackOff, charge: (bool, bool)) -> Option<Duration> {
        let version = &self.version;
        version.count_restart(kind);
        let Some(wait) = back_off.after_death(charge.0, charge.1) else { return self.give_up(cause) };
        let lines = cause.stderr.join(" | ");
        tracing::warn!(model = %version.name, version = %version.version, restart_in_s = wait.as_secs_f64(), stderr = lines, "{}", cause.message);
        if version.is_any_up() {
            version.note(&cause.message);
        } else if !version.life.lock().state().is_coming() {
            let message = cause.message.clone();
            self.enter(State::Degraded, &message, Some(cause));
        } else {
            version.note(&cause.message);
        }
        Some(wait)
    }

    /// No more starts of this instance. If it was the last one, the version has failed.
    fn give_up(&self, cause: Cause) -> Option<Duration> {
        let version = &self.version;
        let given_up = self.given_up.fetch_add(1, Ordering::AcqRel) + 1;
        if version.is_any_up() || given_up < version.spec.options.instances {
            version.note(&cause.message);
            return None;
        }
        let text = format!("{} has failed: {}; {}", version.spec.title(), cause.message, cause.next_step);
        tracing::error!(
            model = %version.name, version = %version.version, exception = cause.exception, signal = cause.signal,
            traceback = cause.traceback,
            next_step = cause.next_step, stderr = cause.stderr.join(" | "), "{}", cause.message
        );
        version.close(Error::new(Code::ModelFailed, text), true);
        let message = cause.message.clone();
        self.enter(State::Failed, &message, Some(cause));
        None
    }

    fn enter(&self, state: State, message: &str, cause: Option<Cause>) {
        if self.version.enter(state, message, cause) {
            self.observer.changed(&self.version);
        }
    }

    /// Let user code run its `unload`, then leave the worker.
    async fn say_goodbye(&self, berth: &Berth) {
        let (version, worker) = (&self.version, &berth.worker);
        let (patience, limit) =
            if version.is_idle() { (NEIGHBOURS, GOODBYE) } else { (HURRIED_GOODBYE, HURRIED_GOODBYE) };
        let goodbye = async {
            let _errand = tokio::time::timeout(patience, worker.link.errand()).await?;
            let body =
                serde_json::json!({ "instance": berth.number, "is_final": self.workers.is_ending() }).to_string();
            tokio::time::timeout(limit, worker.link.ask("unload", body)).await
        };
        match goodbye.await {
            Ok(Ok(told)) if !told.ok => {
                let cause = parse_failure(&told.body);
                tracing::warn!(
                    model = %version.name, version = %version.version, exception = cause.exception,
                    traceback = cause.traceback, "unload failed: {}", cause.message
                );
            }
            Ok(_) => {}
            Err(_) => {
                tracing::warn!(
                    model = %version.name, version = %version.version,
                    "a worker had not unloaded after {} s and was ended", limit.as_secs_f64()
                );
                worker.kill();
            }
        }
        berth.leave(limit).await;
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever could say so is gone, which says so too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The failure that a worker told, with the shape of its JSON.
#[must_use]
pub fn parse_failure(body: &str) -> Cause {
    #[derive(serde::Deserialize)]
    struct Told {
        message: String,
        exception: Option<String>,
        #[serde(default)]
        traceback: String,
        #[serde(default)]
        next_step: String,
    }
    match serde_json::from_str::<Told>(body) {
        Ok(told) => Cause {
            message: told.message,
            exception: told.exception,
            traceback: told.traceback,
            next_step: told.next_step,
            ..Cause::default()
        },
        Err(error) => Cause { message: format!("the worker told what could not be read: {error}"), ..Cause::default() },
    }
}
