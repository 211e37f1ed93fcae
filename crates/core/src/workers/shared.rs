//! Workers that hold instances of several versions, and what one instance has of its worker.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::load_queue::LoadQueue;
use super::output::Owner;
use super::pool::Pool;
use super::scrape::Scrape;
use super::spawn::Worker;
use crate::channel::engine::OWN;
use crate::life::BackOff;
use crate::version::Seat;

/// The wait before a worker that ends again and again, and runs nothing when it does, is started once more.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long a call may run on in a shared worker, where all wait for it, when nobody waits for its answer.
const MOST_IN_VAIN: Duration = Duration::from_secs(10);

/// Where instances find their workers.
#[derive(Debug)]
pub struct Workers {
    pool: Arc<Pool>,
    /// Whose turn it is to load. Not for deaths, whose requests wait, nor within a shared worker, which has turns itself.
    loads: LoadQueue,
    /// The engine ends, and all workers with it.
    is_ending: AtomicBool,
    /// By the name of the group and the index of the instances.
    shared: Mutex<HashMap<(String, usize), Arc<SharedWorker>>>,
}

/// What an instance has of a worker: the whole, or a part.
#[derive(Debug)]
pub struct Berth {
    /// The worker.
    pub worker: Worker,
    /// What frames call the instance.
    pub number: u32,
    /// Through which deaths the instance stays with others, and what user code measures there, if the worker is shared.
    shared: Option<(Arc<SharedWorker>, Arc<Scrape>)>,
}

impl Workers {
    /// Of the processes in `pool`, with so many loads at once.
    #[must_use]
    pub fn new(pool: Arc<Pool>, loads_at_once: usize) -> Arc<Self> {
        let loads = LoadQueue::new(loads_at_once);
        Arc::new(Self { pool, loads, is_ending: AtomicBool::new(false), shared: Mutex::default() })
    }

    /// From now on nobody needs what an unload gives back.
    pub fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    /// True if the engine ends.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// Whose turn it is to load.
    #[must_use]
    pub fn loads(&self) -> &LoadQueue {
        &self.loads
    }

    /// The processes.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// A worker for instance `index` of a version: one of its own, or that of `group`.
    pub async fn take(&self, group: Option<&str>, index: usize, is_urgent: bool) -> io::Result<Berth> {
        let Some(group) = group else { return self.pool.take(is_urgent).await.map(Berth::own) };
        let shared = {
            let mut shared = self.shared.lock();
            let place = shared.entry((group.to_owned(), index));
            Arc::clone(place.or_insert_with(|| SharedWorker::new(group, index, Arc::clone(&self.pool))))
        };
        let (worker, scrape) = shared.enter(is_urgent).await?;
        let number = shared.next_number.fetch_add(1, Ordering::Relaxed);
        Ok(Berth { worker, number, shared: Some((shared, scrape)) })
    }
}

impl Berth {
    /// The whole of a worker.
    #[must_use]
    pub fn own(worker: Worker) -> Self {
        Self { worker, number: OWN, shared: None }
    }

    /// The name of the worker, if it is shared.
    #[must_use]
    pub fn name(&self) -> Option<&Arc<str>> {
        self.shared.as_ref().map(|(shared, _)| &shared.name)
    }

    /// Where the instance is that has been loaded here.
    #[must_use]
    pub fn seat(&self, owner: Owner) -> Seat {
        let Worker { link, pid, .. } = &self.worker;
        let Some((shared, scrape)) = &self.shared else { return Seat::own(Arc::clone(link), *pid, owner) };
        Seat {
            link: Arc::clone(link),
            number: self.number,
            pid: *pid,
            worker: Some(Arc::clone(&shared.name)),
            scrape: Arc::clone(scrape),
        }
    }

    /// The instance is not there any more, and the worker, if nobody else is in it, has so long to end by itself.
    pub async fn leave(&self, patience: Duration) {
        match &self.shared {
            Some((shared, _)) => {
                self.worker.link.detach(self.number);
                self.worker.output.disown(self.number);
                shared.leave(&self.worker, patience).await;
            }
            None => end(&self.worker, patience).await,
        }
    }
}

/// A worker that several versions share, through all its deaths.
#[derive(Debug)]
pub struct SharedWorker {
    /// Group and index: `ranking/0`. No name of a model has a slash.
    name: Arc<str>,
    pool: Arc<Pool>,
    /// Numbers of instances are not used twice.
    next_number: AtomicU32,
    /// Whoever holds this starts or ends the process.
    present: tokio::sync::Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    worker: Option<(Worker, Arc<Scrape>)>,
    /// Instances that are in it, or about to be.
    members: usize,
    /// Of deaths that are nobody's: nothing ran.
    back_off: BackOff,
}

impl SharedWorker {
    fn new(group: &str, index: usize, pool: Arc<Pool>) -> Arc<Self> {
        let name = format!("{group}/{index}").into();
        Arc::new(Self { name, pool, next_number: AtomicU32::new(OWN + 1), present: tokio::sync::Mutex::default() })
    }

    async fn enter(&self, is_urgent: bool) -> io::Result<(Worker, Arc<Scrape>)> {
        let mut present = self.present.lock().await;
        if let Some((worker, _)) = present.worker.take_if(|(worker, _)| worker.has_exited()) {
            let members = std::mem::take(&mut present.members);
            let exit = worker.exited().await;
            tracing::warn!(worker = &*self.name, pid = worker.pid, members, "a shared worker ended by {}", exit.status);
            let (was_busy, has_finished) = worker.link.last_seen();
            if !was_busy {
                let wait = present.back_off.after_death(has_finished, false);
                tokio::time::sleep(wait.unwrap_or(LONGEST_WAIT)).await;
            }
        }
        let found = match &present.worker {
            Some(found) => found.clone(),
            None => {
                let worker = self.pool.take(is_urgent).await?;
                worker.link.share();
                worker.output.share(&self.name);
                tracing::info!(worker = &*self.name, pid = worker.pid, "a shared worker starts");
                let watching = end_if_stuck(Arc::clone(&self.name), worker.clone());
                tokio::spawn(Arc::clone(&worker.metrics).watch("a shared worker is not watched any more", watching));
                // A process has one registry of what user code measures, so that is told once, as of the worker.
                let owner = Owner { model: Arc::clone(&self.name), version: "".into(), instance: 0 };
                let scrape = Scrape::new(owner, Arc::clone(&worker.link));
                present.worker.insert((worker, scrape)).clone()
            }
        };
        present.members += 1;
        Ok(found)
    }

    async fn leave(&self, worker: &Worker, patience: Duration) {
        let mut present = self.present.lock().await;
        if present.worker.as_ref().is_none_or(|(present, _)| !Arc::ptr_eq(&present.link, &worker.link)) {
            return;
        }
        present.members -= 1;
        if present.members == 0 {
            present.worker = None;
            end(worker, patience).await;
        }
    }
}

/// One call that does not end would stop everybody in the worker for good.
async fn end_if_stuck(name: Arc<str>, worker: Worker) {
    while tokio::time::timeout(Duration::from_secs(1), worker.exited()).await.is_err() {
        if worker.link.in_vain().is_some_and(|time| time > MOST_IN_VAIN) {
            let limit_s = MOST_IN_VAIN.as_secs();
            tracing::warn!(worker = &*name, pid = worker.pid, limit_s, "a call ran on for nobody; its worker is ended");
            worker.kill();
        }
    }
}

async fn end(worker: &Worker, patience: Duration) {
    if !patience.is_zero() {
        worker.link.end_worker();
        let _ = tokio::time::timeout(patience, worker.exited()).await;
    }
    worker.kill();
    worker.exited().await;
}
