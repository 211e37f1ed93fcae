//! Started workers in reserve, so that a death costs the model's load time and not the start of an interpreter.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::spawn::{Spawner, Worker};

/// Spare workers of one environment.
#[derive(Debug)]
pub struct Pool {
    spawner: Spawner,
    size: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    spares: VecDeque<Worker>,
    /// Every worker that was started and may still run, whoever has it.
    all: Vec<Worker>,
    starting: usize,
    is_filling: bool,
    /// Modules that every spare has imported: what the loaded runtimes need.
    imports: Vec<String>,
}

impl Pool {
    /// A pool that keeps `size` workers once [`Self::fill`] was called.
    #[must_use]
    pub fn new(spawner: Spawner, size: usize) -> Arc<Self> {
        Arc::new(Self { spawner, size, state: Mutex::default() })
    }

    /// A started worker: a spare, or a fresh one.
    pub async fn take(self: &Arc<Self>) -> io::Result<Worker> {
        loop {
            let spare = self.state.lock().spares.pop_front();
            self.top_up();
            match spare {
                Some(worker) if worker.has_exited() => {}
                Some(worker) => return Ok(worker),
                None => return self.spawn().await,
            }
        }
    }

    /// From now on keep the reserve full. Before the start-up loads have ended, spares would only slow them down.
    pub fn fill(self: &Arc<Self>) {
        self.state.lock().is_filling = true;
        self.top_up();
    }

    /// Stop keeping a reserve, and end every worker that still runs.
    pub async fn end(&self) {
        let all = {
            let mut state = self.state.lock();
            state.is_filling = false;
            state.spares.clear();
            std::mem::take(&mut state.all)
        };
        all.iter().for_each(Worker::kill);
        for worker in all {
            worker.exited().await;
        }
    }

    /// Let spares import a module too.
    pub fn import(&self, modules: &[String]) {
        let mut state = self.state.lock();
        for module in modules {
            if !state.imports.contains(module) {
                state.imports.push(module.clone());
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
            tokio::spawn(async move { pool.add_spare().await });
        }
    }

    async fn spawn(&self) -> io::Result<Worker> {
        let worker = self.spawner.spawn().await?;
        let mut state = self.state.lock();
        state.all.retain(|worker| !worker.has_exited());
        state.all.push(worker.clone());
        Ok(worker)
    }

    async fn add_spare(self: Arc<Self>) {
        let spawned = self.spawn().await;
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
        let _ = worker.link.ask("prepare", serde_json::json!({ "imports": imports }).to_string()).await;
        // A spare that dies in reserve is replaced at the next take; looping here would turn a broken interpreter into
        // a storm of starts.
    }
}
