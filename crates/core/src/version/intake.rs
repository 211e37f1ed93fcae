//! Requests on their way in: checked, admitted, queued.

use std::sync::Arc;

use super::waiter::Waiter;
use super::{Core, Running, Version};
use crate::admission::{Admitted, admit};
use crate::clock::{Nanos, now};
use crate::config::VersionSpec;
use crate::error::{Code, Error};
use crate::outlet::Outlet;
use crate::pending::{Accepted, Part, Pending};
use crate::request::{InferRequest, InferResponse};
use crate::scheduler::Arrival;
use crate::tensor::{NamedTensor, Tensor};

impl Version {
    /// Run one request to its end; the pieces of a stream are joined along their first axis. Dropping the future cancels
    /// it.
    pub async fn infer(self: &Arc<Self>, request: InferRequest) -> Result<InferResponse, Error> {
        let mut running = self.begin(request)?;
        let tensors = if self.spec.streams { running.folded().await? } else { running.whole().await?.tensors };
        Ok(self.response(running.pending(), tensors))
    }

    /// Admit a request and let it wait for its turn.
    pub fn begin(self: &Arc<Self>, request: InferRequest) -> Result<Running, Error> {
        let runner = self.runner();
        // A version that takes nothing says so first: of one that could not be described no input is known.
        let mut admitted = admit(&self.spec, request)
            .map_err(|error| runner.check_open(&runner.core.lock(), false).err().unwrap_or(error))?;
        if let Some((_, method)) = &self.service {
            admitted.accepted.method.clone_from(method);
        }
        self.submit(admitted)
    }

    pub(super) fn submit(self: &Arc<Self>, admitted: Admitted) -> Result<Running, Error> {
        let runner = self.runner();
        let max_rows = u64::from(self.spec.max_rows());
        let rows = admitted.accepted.rows;
        let parts = self.parts(rows, max_rows)?;
        let arrived = now();
        if runner.poison.holds_any() {
            self.check_poison(runner, &admitted.accepted, arrived)?;
        }
        let is_streamed = self.spec.streams || admitted.accepted.http.is_some();
        let (outlet, pieces) = if is_streamed { Some(Outlet::new()).unzip() } else { (None, None) };
        let (pending, answer) = Pending::new(admitted.accepted, parts, outlet);
        let arrival = |index: usize| {
            let first_row = index as u64 * max_rows;
            Arrival {
                request: Part { pending: Arc::clone(&pending), index, first_row },
                rows: (rows - first_row).min(max_rows) as u32,
                batch_key: admitted.batch_key,
                cost: admitted.bytes / parts as u64,
                start_by: admitted.start_by,
                deadline: pending.accepted.deadline,
                idempotent: admitted.idempotent,
            }
        };
        let (first, actions) = {
            let mut core = runner.core.lock();
            runner
                .check_room(&core, (parts, admitted.bytes), admitted.is_admitted)
                .inspect_err(|_| self.metrics.statistics.failed(0))?;
            let ids: Vec<_> = (0..parts).map(|index| core.scheduler.submit(arrived, arrival(index))).collect();
            (ids[0], runner.dispatch(&mut core, arrived))
        };
        let waiter = Waiter::new(Arc::clone(self), (first, parts as u64), arrived);
        runner.perform(actions);
        Ok(Running::new(waiter, pending, answer, pieces))
    }

    /// One equal to a request that died alone costs no worker.
    #[cold]
    fn check_poison(&self, runner: &Self, request: &Accepted, arrived: Nanos) -> Result<(), Error> {
        if !runner.poison.holds(request, arrived) {
            return Ok(());
        }
        self.metrics.statistics.failed(0);
        self.all_metrics.rejected.with_label_values(&[&*runner.name, &*runner.version, "poison"]).inc();
        let text = format!(
            "the worker of {} died each time it ran a request equal to this one, at last within a minute; look at its input",
            self.spec.title()
        );
        Err(Error::new(Code::PoisonItem, text))
    }

    /// Items of a request of `rows` rows. Limited before anything is allocated for them: rows without elements are free
    /// to send.
    fn parts(&self, rows: u64, max_rows: u64) -> Result<usize, Error> {
        let parts = rows.div_ceil(max_rows).max(1);
        let limit = self.spec.options.max_queue_items.max(1);
        if parts <= limit as u64 {
            return Ok(parts as usize);
        }
        let text = format!(
            "the request makes {parts} items, the queue of {} holds {limit}; send fewer rows",
            self.spec.title()
        );
        Err(Error::new(Code::InvalidInput, text))
    }

    /// Parts of admitted requests are taken while the version drains: those that wait for them do too.
    pub(super) fn check_open(&self, core: &Core, is_admitted: bool) -> Result<(), Error> {
        match &core.closed {
            Some(_) if is_admitted && !core.is_final => Ok(()),
            Some(error) => Err(error.clone()),
            None if core.is_loading => Err(not_ready(&self.spec, "is still loading")),
            None => Ok(()),
        }
    }

    fn check_room(&self, core: &Core, (parts, bytes): (usize, u64), is_admitted: bool) -> Result<(), Error> {
        self.check_open(core, is_admitted)?;
        if is_admitted || core.scheduler.has_room(parts, bytes) {
            return Ok(());
        }
        self.all_metrics.rejected.with_label_values(&[&*self.name, &*self.version, "queue_full"]).inc();
        let text = format!(
            "the queue of {} is full ({} items, {} bytes); try again later",
            self.spec.title(),
            core.scheduler.waiting(),
            core.scheduler.waiting_bytes()
        );
        Err(Error::new(Code::QueueFull, text).retry_after(core.scheduler.drain_s()))
    }

    fn response(&self, pending: &Pending, outputs: Vec<Tensor>) -> InferResponse {
        let mut named: Vec<_> = self
            .spec
            .outputs
            .iter()
            .zip(outputs)
            .map(|(spec, tensor)| NamedTensor { name: spec.name.clone(), tensor })
            .collect();
        if !pending.accepted.outputs.is_empty() {
            let find = |name: &String| named.iter().find(|output| output.name == *name).cloned();
            named = pending.accepted.outputs.iter().filter_map(find).collect();
        }
        InferResponse {
            model: Arc::clone(&self.name),
            version: Arc::clone(&self.version),
            outputs: named,
            has_company: pending.has_company(),
        }
    }
}

/// What a request is answered when its version was unloaded on demand.
#[must_use]
pub fn unloaded(model: &str, version: &str) -> Error {
    let text = format!(
        "version {version:?} of model {model:?} is unloaded; load the model again, by `samovar models load {model}` for \
         instance"
    );
    Error::new(Code::NotReady, text)
}

/// What a request is answered while its version cannot take it.
#[must_use]
pub fn not_ready(spec: &VersionSpec, state: &str) -> Error {
    Error::new(Code::NotReady, format!("{} {state}; try again later", spec.title())).retry_after(1)
}
