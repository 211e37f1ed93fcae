//! The caller's side of a request: waiting, going away, and running out of time.

use std::sync::Arc;
use std::time::Duration;

use super::Version;
use crate::channel::engine::Link;
use crate::clock::{Nanos, now};
use crate::error::{Code, Error};
use crate::pending::Part;
use crate::scheduler::Expired;

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
            let actions = {
                let mut core = self.core.lock();
                core.scheduler.revoke(call);
                self.dispatch(&mut core, now())
            };
            self.perform(actions);
            self.notify_if_idle();
        } else if expired.is_call_abandoned {
            link.cancel(call);
            self.end_if_overrun(instance, call, link);
        }
    }

    /// End the worker of a call that nobody waits for, unless the call ends in time.
    fn end_if_overrun(self: &Arc<Self>, instance: usize, call: u64, link: Arc<Link>) {
        let Some(patience_s) = self.spec.options.hard_kill_after_s else { return };
        let version = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::try_from_secs_f64(patience_s).unwrap_or(Duration::MAX)).await;
            // Numbers of calls are not used twice: this one is there as long as the worker that runs it.
            if version.core.lock().scheduler.holds(instance, call) {
                tracing::warn!(
                    model = %version.name, version = %version.version, instance, hard_kill_after_s = patience_s,
                    "a call ran on for nobody; its worker is killed"
                );
                link.end_overrun();
            }
        });
    }
}
