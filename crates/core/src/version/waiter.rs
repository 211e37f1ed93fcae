//! The caller's side of a request: waiting, going away, and running out of time.

use std::sync::Arc;

use super::Version;
use crate::clock::{Nanos, now};
use crate::error::{Code, Error};
use crate::pending::{Answer, Part};
use crate::scheduler::Expired;
use crate::tensor::Tensor;

/// Waits for the answer of one request; dropped before it, cancels what is left of it.
pub(super) struct Waiter<'a> {
    pub(super) version: &'a Arc<Version>,
    pub(super) first: u64,
    pub(super) parts: u64,
    pub(super) arrived: Nanos,
    pub(super) is_answered: bool,
}

impl Waiter<'_> {
    pub(super) async fn wait(mut self, receiver: tokio::sync::oneshot::Receiver<Answer>) -> Result<Vec<Tensor>, Error> {
        let answer = receiver.await;
        self.is_answered = true;
        answer.unwrap_or_else(|_| {
            Err(Error::new(Code::Internal, "a request lost its answer; this is a fault of the engine"))
        })
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.is_answered && self.parts == 1 {
            return;
        }
        if !self.is_answered {
            self.version.metrics.statistics.failed(now() - self.arrived);
        }
        for id in self.first..self.first + self.parts {
            let Some(gone) = self.version.core.lock().scheduler.cancel(id) else { continue };
            if !self.is_answered {
                let stage = if gone.call.is_some() { "running" } else { "queue" };
                let labels = [&*self.version.name, &*self.version.version, stage];
                self.version.all_metrics.cancelled.with_label_values(&labels).inc();
            }
            self.version.leave(&gone);
        }
    }
}

impl Version {
    pub(super) fn expire(self: &Arc<Self>, expired: &Expired<Part>) {
        let pending = &expired.request.pending;
        let stage = if expired.call.is_some() { "running" } else { "queue" };
        let limit = if now() >= pending.accepted.deadline { "deadline" } else { "queue timeout" };
        let place = if expired.call.is_some() { "ran" } else { "waited for a free instance" };
        let text = format!("the {limit} passed while the request {place} in model {:?}; allow more time", self.name);
        if pending.fail(Error::new(Code::DeadlineExceeded, text)) {
            self.all_metrics.expired.with_label_values(&[&*self.name, &*self.version, stage]).inc();
        }
        self.leave(expired);
    }

    /// An item left its call: take the call back if it has not begun, else tell the worker once nobody waits.
    pub(super) fn leave(self: &Arc<Self>, expired: &Expired<Part>) {
        let Some((instance, call)) = expired.call else { return self.notify_if_idle() };
        let Some(link) = self.core.lock().instances[instance].link.clone() else { return };
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
        }
    }
}
