//! The caller's side of a request: waiting, going away, and running out of time.

use std::sync::Arc;
use std::time::Duration;

use super::Version;
use crate::channel::HEARTBEAT;
use crate::channel::engine::{Link, WorkerGone};
use crate::clock::{Nanos, now};
use crate::error::{Code, Error};
use crate::panics::catch;
use crate::pending::Part;
use crate::scheduler::Expired;
use crate::workers::spawn::{HANG, HARD_KILL};

/// How long a call may run for nobody before its worker is asked whether it lives, and again after every answer.
const BEFORE_ASKING: Duration = Duration::from_millis(500);
/// How long the answer may take: long for a machine under load, and short for those who wait for the instance.
const PATIENCE: Duration = Duration::from_secs(1);
/// How much longer where others wait for answers of the same worker: what holds it up may be the call of one of them.
const LONGEST_SILENCE: Duration = Duration::from_secs(9);

/// Stands for whoever waits for the answer of one request; dropped before that, it cancels what is left of it.
#[derive(Debug)]
pub(super) struct Waiter {
    version: Arc<Version>,
    /// Number of the first item, and how many there are.
    items: (u64, u64),
    pub(super) arrived: Nanos,
    pub(super) is_answered: bool,
}

impl Waiter {
    pub(super) fn new(version: Arc<Version>, items: (u64, u64), arrived: Nanos) -> Self {
        Self { version, items, arrived, is_answered: false }
    }

    pub(super) fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// Number of the one item of a stream.
    pub(super) fn item(&self) -> u64 {
        self.items.0
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.is_answered && self.items.1 == 1 {
            return;
        }
        if !self.is_answered {
            self.version.metrics.statistics.failed(now() - self.arrived);
        }
        let runner = self.version.runner();
        for id in self.items.0..self.items.0 + self.items.1 {
            let Some(gone) = runner.core.lock().scheduler.cancel(id) else { continue };
            if !self.is_answered {
                let stage = if gone.call.is_some() { "running" } else { "queue" };
                let labels = [&*self.version.name, &*self.version.version, stage];
                self.version.all_metrics.cancelled.with_label_values(&labels).inc();
            }
            runner.leave(&gone);
        }
    }
}

impl Version {
    pub(super) fn expire(self: &Arc<Self>, expired: &Expired<Part>) {
        let pending = &expired.request.pending;
        let stage = if expired.call.is_some() { "running" } else { "queue" };
        let limit = if now() >= pending.accepted.deadline { "deadline" } else { "queue timeout" };
        let place = if expired.call.is_some() { "ran" } else { "waited for a free instance" };
        let text = format!("the {limit} passed while the request {place} in {}; allow more time", self.spec.title());
        if pending.fail(Error::new(Code::DeadlineExceeded, text)) {
            self.all_metrics.expired.with_label_values(&[&*self.name, &*self.version, stage]).inc();
        }
        self.leave(expired);
    }

    /// An item left its call: take the call back if it has not begun, else tell the worker once nobody waits.
    pub(super) fn leave(self: &Arc<Self>, expired: &Expired<Part>) {
        let Some((instance, call)) = expired.call else { return self.notify_if_idle() };
        let Some(link) = self.core.lock().instances[instance].link().cloned() else { return };
        if link.revoke(call) {
            let (actions, is_late) = {
                let mut core = self.core.lock();
                // With a free slot it would have begun at once.
                let is_late = core.scheduler.runs(instance, call)
                    && !std::mem::replace(&mut core.instances[instance].is_suspected, true);
                core.scheduler.revoke(call);
                (self.dispatch(&mut core, now()), is_late)
            };
            self.perform(actions);
            self.notify_if_idle();
            if is_late {
                self.behind(Arc::clone(self).end_if_deaf(instance, link));
            }
        } else if expired.is_call_abandoned {
            link.cancel(call);
            self.behind(Arc::clone(self).end_if_overrun(instance, call, link));
        }
    }

    fn behind(self: &Arc<Self>, watching: impl Future<Output = ()> + Send + 'static) {
        let version = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(panic) = catch(watching).await {
                version.panicked(&panic, "a worker is not watched any more");
            }
        });
    }

    /// End the worker of a call that nobody waits for, unless the call ends in time: in that of `hard_kill_after_s`, or
    /// as long as the worker shows that it lives.
    async fn end_if_overrun(self: Arc<Self>, instance: usize, call: u64, link: Arc<Link>) {
        let patience = self
            .spec
            .options
            .hard_kill_after_s
            .map_or(Duration::MAX, |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        let cause = tokio::select! {
            () = tokio::time::sleep(patience) => HARD_KILL,
            hangs = self.hangs(instance, call, &link) => if hangs { HANG } else { return },
        };
        // Numbers of calls are not used twice: this one is there as long as the worker that runs it.
        if self.core.lock().scheduler.holds(instance, call) {
            self.condemn(instance, &link, cause);
        }
    }

    /// Ask the worker of a call that nobody waits for whether it lives, until the call ends; true once it does not.
    async fn hangs(&self, instance: usize, call: u64, link: &Link) -> bool {
        loop {
            tokio::time::sleep(BEFORE_ASKING).await;
            {
                let core = self.core.lock();
                if !core.scheduler.holds(instance, call) {
                    return false;
                }
                // What was sent ahead, or waits in the line of a shared worker, proves nothing.
                if !core.scheduler.runs(instance, call) || !link.has_started(call) {
                    continue;
                }
            }
            let sign = link.ask(HEARTBEAT, "{}".into());
            tokio::pin!(sign);
            let mut given = tokio::time::timeout(PATIENCE, &mut sign).await;
            if given.is_err() && self.core.lock().scheduler.is_needed(instance, |call| link.has_started(call)) {
                given = tokio::time::timeout(LONGEST_SILENCE, &mut sign).await;
            }
            match given {
                Ok(Ok(_)) => {}
                Ok(Err(WorkerGone)) => return false,
                Err(_) => return true,
            }
        }
    }

    /// A call ran out of time that a worker with nothing else to do had not begun: end that one if it does not answer.
    async fn end_if_deaf(self: Arc<Self>, instance: usize, link: Arc<Link>) {
        tokio::time::sleep(BEFORE_ASKING).await;
        let is_deaf = self.is_idle_at(instance, &link)
            && tokio::time::timeout(PATIENCE, link.ask(HEARTBEAT, "{}".into())).await.is_err();
        if is_deaf && self.is_idle_at(instance, &link) {
            return self.condemn(instance, &link, HANG);
        }
        let mut core = self.core.lock();
        if core.instances[instance].has(&link) {
            core.instances[instance].is_suspected = false;
        }
    }

    /// Is this still the instance's worker, and does it run nothing, for whomever?
    fn is_idle_at(&self, instance: usize, link: &Arc<Link>) -> bool {
        let core = self.core.lock();
        core.instances[instance].has(link)
            && !link.last_seen().0
            && !core.scheduler.is_needed(instance, |call| link.has_started(call))
    }

    fn condemn(&self, instance: usize, link: &Link, cause: &'static str) {
        let why = if cause == HARD_KILL { "hard_kill_after_s is over" } else { "it gives no sign of life" };
        tracing::warn!(
            model = %self.name, version = %self.version, instance,
            "nobody waits for what a worker runs, and {why}; it is killed"
        );
        link.condemn(cause);
    }
}
