//! Started workers in reserve, so that a death costs the model's load time and not the start of an interpreter.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::spawn::{Spawner, Worker};

/// Spare workers of one environment.
#[derive(Debug)]
pub struct Pool {
    spawner: Spawner,
    size: usize,
    state: Mutex<State>,
    /// A start has ended, well or not.
    started: Notify,
}

#[derive(Debug, Default)]
struct State {
    spares: VecDeque<Worker>,
    /// Every worker that runs, whoever has it.
    all: Vec<Worker>,
    /// Spares that are being started.
    starting: usize,
    /// Processes that are being started, whoever wants them.
    spawning: usize,
    is_filling: bool,
    /// Modules that every spare has imported: what the loaded runtimes need.
    imports: Vec<String>,
}

impl Pool {
    /// A pool that keeps `size` workers once [`Self::fill`] was called.
    #[must_use]
    pub fn new(spawner: Spawner, size: usize) -> Arc<Self> {
        Arc::new(Self { spawner, size, state: Mutex::default(), started: Notify::new() })
    }

    /// A started worker: where it is urgent a spare if there is one, and otherwise a fresh one with a low priority,
    /// since the start of another spare would compete with what the first is to do. It is the worker that raises its
    /// priority, once it is asked for something urgent.
    pub async fn take(self: &Arc<Self>, is_urgent: bool) -> io::Result<Worker> {
        if !is_urgent {
            return self.spawn(false).await;
        }
        loop {
            let spare = self.state.lock().spares.pop_front();
            self.top_up();
            match spare {
                Some(worker) if worker.has_exited() => {}
                Some(worker) => return Ok(worker),
                None => return self.spawn(true).await,
            }
        }
    }

    /// From now on keep the reserve full. Before the start-up loads have ended, spares would only slow them down.
    pub fn fill(self: &Arc<Self>) {
        self.state.lock().is_filling = true;
        self.top_up();
    }

    /// True once the start is over: what is loaded from now on has neighbours that serve.
    #[must_use]
    pub fn is_filling(&self) -> bool {
        self.state.lock().is_filling
    }

    /// Stop keeping a reserve, and end every worker that still runs, those included that are being started.
    pub async fn end(&self) {
        loop {
            let started = self.started.notified();
            let (all, spawning) = {
                let mut state = self.state.lock();
                state.is_filling = false;
                state.spares.clear();
                (std::mem::take(&mut state.all), state.spawning)
            };
            all.iter().for_each(Worker::kill);
            for worker in all {
                worker.exited().await;
            }
            if spawning == 0 {
                return;
            }
            started.await;
        }
    }

    /// Let spares import these modules too.
    pub fn import(&self, modules: &[String]) {
        let mut state = self.state.lock();
        let known = state.imports.len();
        for module in modules {
            if !state.imports.contains(module) {
                state.imports.push(module.clone());
            }
        }
        if state.imports.len() > known {
            for worker in state.spares.clone() {
                let imports = state.imports.clone();
                let metrics = Arc::clone(&worker.metrics);
                tokio::spawn(metrics.watch("a spare worker has not imported all", prepare(worker, imports)));
            }
        }
    }

    fn top_up(self: &Arc<Self>) {
        let missing = {
            let mut state = self.state.lock();
            let target = if state.is_filling { self.size } else { 0 };
            let missing = target.saturating_sub(state.spares.len() + state.starting);
            state.starting += missing;
            missing
        };
        for _ in 0..missing {
            let pool = Arc::clone(self);
            let metrics = Arc::clone(&pool.spawner.metrics);
            tokio::spawn(metrics.watch("a spare worker was not started", pool.add_spare()));
        }
    }

    /// Start a worker, in a task of its own: whoever wants it may go away meanwhile, the process does not.
    async fn spawn(self: &Arc<Self>, is_urgent: bool) -> io::Result<Worker> {
        self.state.lock().spawning += 1;
        let pool = Arc::clone(self);
        let spawning = tokio::spawn(async move {
            let spawned = pool.spawner.spawn(is_urgent).await;
            let mut state = pool.state.lock();
            state.spawning -= 1;
            if let Ok(worker) = &spawned {
                state.all.push(worker.clone());
                let forgetting = Arc::clone(&pool).forget_at_end(worker.clone());
                tokio::spawn(Arc::clone(&worker.metrics).watch("a worker that has ended is not forgotten", forgetting));
            }
            drop(state);
            pool.started.notify_waiters();
            spawned
        });
        spawning.await.map_err(io::Error::other)?
    }

    /// A worker that has ended still holds descriptors of its channel.
    async fn forget_at_end(self: Arc<Self>, worker: Worker) {
        worker.exited().await;
        let mut state = self.state.lock();
        state.all.retain(|worker| !worker.has_exited());
        state.spares.retain(|worker| !worker.has_exited());
    }

    async fn add_spare(self: Arc<Self>) {
        let spawned = self.spawn(false).await;
        let worker = {
            let mut state = self.state.lock();
            state.starting -= 1;
            match spawned {
                Ok(worker) if state.is_filling => {
                    state.spares.push_back(worker.clone());
                    worker
                }
                Ok(worker) => return worker.kill(),
                Err(error) => return tracing::warn!("a spare worker could not be started: {error}"),
            }
        };
        let imports = self.state.lock().imports.clone();
        prepare(worker, imports).await;
        // A spare that dies in reserve is replaced at the next take; looping here would turn a broken interpreter into
        // a storm of starts.
    }
}

/// Have a spare import what may be needed; what is missing is the load's to complain about.
async fn prepare(worker: Worker, imports: Vec<String>) {
    let _ = worker.link.ask("prepare", serde_json::json!({ "imports": imports }).to_string()).await;
}
