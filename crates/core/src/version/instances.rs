//! Instances that come and go, and the end of a version.

use std::sync::Arc;

use super::{InstanceSlot, Version};
use crate::channel::engine::{Link, OWN};
use crate::clock::now;
use crate::error::{Code, Error};
use crate::workers::output::Owner;
use crate::workers::scrape::Scrape;

/// Where an instance that takes calls is.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Its worker.
    pub link: Arc<Link>,
    /// What frames call it.
    pub number: u32,
    /// The worker's process.
    pub pid: u32,
    /// The worker's name, if it is shared.
    pub worker: Option<Arc<str>>,
    /// What user code in the worker measures.
    pub scrape: Arc<Scrape>,
}

impl Seat {
    /// The only instance of a worker.
    #[must_use]
    pub fn own(link: Arc<Link>, pid: u32, owner: Owner) -> Self {
        Self { number: OWN, pid, worker: None, scrape: Scrape::new(owner, Arc::clone(&link)), link }
    }
}

/// What a death left.
#[derive(Clone, Copy, Debug)]
pub struct DeathReport {
    /// True if the worker ran a call of it.
    pub was_running: bool,
    /// True if the worker had finished a call since it was loaded.
    pub has_finished_call: bool,
    /// True if the death is the fault of one item that had killed before.
    pub is_charged_to_item: bool,
}

impl Version {
    /// How lines and metrics name an instance.
    #[must_use]
    pub fn owner(&self, instance: usize) -> Owner {
        Owner { model: Arc::clone(&self.name), version: Arc::clone(&self.version), instance }
    }

    /// An instance has loaded: calls go to it from now on.
    pub fn instance_up(self: &Arc<Self>, instance: usize, seat: Seat) {
        let actions = {
            let mut core = self.core.lock();
            core.instances[instance] = InstanceSlot { seat: Some(seat), ..InstanceSlot::default() };
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
            let lost =
                core.scheduler.instance_down(instance, |call| slot.link().is_none_or(|link| link.has_started(call)));
            let report = DeathReport {
                was_running: lost.was_running,
                has_finished_call: slot.finished_calls > 0,
                is_charged_to_item: lost.is_charged_to_item,
            };
            (lost, report, self.dispatch(&mut core, now()))
        };
        self.metrics.retries.inc_by(lost.rerun as u64);
        for item in lost.lost {
            let text = format!(
                "the worker of {} died while it ran this request, which may not run twice; \
                 send it again if running it twice does no harm",
                self.spec.title()
            );
            item.request.pending.fail(Error::new(Code::WorkerLost, text));
        }
        for item in lost.poison {
            if report.is_charged_to_item {
                self.poison.remember(&item.request.pending.accepted, now());
            }
            let text =
                format!("the worker of {} died each time it ran this request; look at its input", self.spec.title());
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

    pub(super) fn notify_if_idle(&self) {
        if self.is_idle() {
            self.idle.notify_waiters();
        }
    }
}
