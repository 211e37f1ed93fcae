//! Versions that leave: on demand, replaced by others, with the engine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Deployed, Registry};
use crate::error::{Code, Error};
use crate::life::State;
use crate::panics::catch;
use crate::version::{not_ready, unloaded};

/// How long a version that was replaced stays open; between looking it up and reaching it a request never waits.
const LATECOMERS: Duration = Duration::from_millis(500);

impl Registry {
    /// Drain and unload a version, and with it one that loads in order to take over from it; false if there is none to
    /// unload. Returns at once, the rest happens behind.
    pub fn retire(self: &Arc<Self>, model: &str, version: &str) -> bool {
        let is_meant =
            |deployed: &Arc<Deployed>| &*deployed.version.name == model && &*deployed.version.version == version;
        let mut meant: Vec<_> = self.incoming.lock().extract_if(.., |deployed| is_meant(deployed)).collect();
        meant.extend(self.routes.load().get(model).and_then(|routes| routes.versions.get(version)).cloned());
        meant.retain(|deployed| deployed.version.enter(State::Draining, "draining", None));
        let deadline = Instant::now() + self.drain_timeout;
        for deployed in &meant {
            self.announce(&deployed.version);
            let (registry, deployed) = (Arc::clone(self), Arc::clone(deployed));
            let error = unloaded(&deployed.version.name, &deployed.version.version);
            self.end_behind(async move { registry.end(&deployed, deadline, error).await });
        }
        !meant.is_empty()
    }

    /// End every version, after what waits and runs in them, or at `deadline`: what calls others before those.
    pub async fn end_all(self: &Arc<Self>, deadline: Instant) {
        self.workers.end();
        let mut all = self.deployed();
        all.append(&mut self.incoming.lock());
        all.retain(|deployed| deployed.version.life.lock().state() != State::Unloaded);
        for deployed in &all {
            if deployed.version.enter(State::Draining, "draining", None) {
                self.announce(&deployed.version);
            }
            deployed.version.close(shutting_down(), false);
        }
        while !all.is_empty() {
            let mut ends = JoinSet::new();
            for deployed in next_to_end(&mut all) {
                let registry = Arc::clone(self);
                ends.spawn(async move { registry.end(&deployed, deadline, shutting_down()).await });
            }
            while ends.join_next().await.is_some() {}
        }
        let mut behind = std::mem::take(&mut *self.endings.lock());
        while behind.join_next().await.is_some() {}
    }

    pub(super) fn end_behind(&self, end: impl Future<Output = ()> + Send + 'static) {
        let mut endings = self.endings.lock();
        while endings.try_join_next().is_some() {}
        let metrics = Arc::clone(&self.metrics);
        endings.spawn(async move {
            if let Err(panic) = catch(end).await {
                metrics.panicked(&panic, "a version was not ended");
            }
        });
    }

    async fn end(&self, deployed: &Deployed, deadline: Instant, error: Error) {
        let version = &deployed.version;
        version.close(error.clone(), false);
        let _ = tokio::time::timeout_at(deadline, version.drained()).await;
        version.close(error, true);
        deployed.stop.send_replace(true);
        let crew = deployed.crew.lock().take();
        if let Some(mut crew) = crew {
            while crew.join_next().await.is_some() {}
        }
        if version.enter(State::Unloaded, "unloaded", None) {
            self.announce(version);
        }
    }
}

/// Those of `all` that none of the others calls; where they call each other in a circle, all.
fn next_to_end(all: &mut Vec<Arc<Deployed>>) -> Vec<Arc<Deployed>> {
    let used: BTreeSet<_> = all.iter().flat_map(|deployed| deployed.version.spec.uses.clone()).collect();
    let is_used = |deployed: &Arc<Deployed>| {
        let own = &deployed.version.name;
        used.iter().any(|name| **name == **own || name.strip_prefix(&**own).is_some_and(|rest| rest.starts_with('.')))
    };
    let free: Vec<_> = all.extract_if(.., |deployed| !is_used(deployed)).collect();
    if free.is_empty() { std::mem::take(all) } else { free }
}

/// End a version that another one took over from, or that failed to take over: quietly, its name lives on.
pub(super) async fn replace(over: &Deployed, drain_timeout: Duration) {
    let version = &over.version;
    // A request that looked up its version just before the routes changed may not have reached it yet.
    tokio::time::sleep(LATECOMERS).await;
    let _ = tokio::time::timeout(drain_timeout, version.drained()).await;
    version.close(not_ready(&version.spec, "was replaced"), true);
    over.stop.send_replace(true);
    let crew = over.crew.lock().take();
    if let Some(mut crew) = crew {
        while crew.join_next().await.is_some() {}
    }
}

/// What requests are answered that the end of the engine cuts off.
fn shutting_down() -> Error {
    Error::new(Code::ShuttingDown, "the engine has shut down before this request ended; send it to another one")
        .retry_after(1)
}
