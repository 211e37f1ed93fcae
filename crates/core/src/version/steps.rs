//! Calls that a worker makes: each runs as a request of its own, on behalf of the request that it is part of.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::{Running, Version};
use crate::channel::engine::{Link, OutPiece, StepFrame};
use crate::channel::frame::{BadFrame, INITIAL_CREDIT, STEP, bad};
use crate::channel::proto::{Failure, failure};
use crate::channel::transport::Gather;
use crate::clock::{NEVER, Nanos, now};
use crate::error::{Code, Error};
use crate::panics::{Panic, catch, contain};
use crate::pending::Part;
use crate::queue::Item;
use crate::request::{InferRequest, Origin, Piece};
use crate::tensor::{NamedTensor, Tensor};
use crate::workers::spawn::PANIC;

/// CALLs, and CANCELs, that are remembered because others overtook them.
const MAX_OVERTAKEN: usize = 1_024;

/// Steps that one worker may wait for at a time: as many as an instance may have calls.
const MAX_OPEN: usize = 65_536;

/// Where other models are found.
pub trait Directory: Send + Sync + std::fmt::Debug {
    /// The version that gets a request.
    fn find(&self, model: &str, version: Option<&str>) -> Result<Arc<Version>, Error>;
}

/// The calls that one worker has made and waits for.
#[derive(Debug, Default)]
pub(super) struct Steps(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    open: HashMap<u64, Open>,
    /// The highest number that has come.
    last: u64,
    /// Lower ones that have not.
    missing: BTreeSet<u64>,
    /// Given up before they came.
    early: BTreeSet<u64>,
}

impl Table {
    /// A CALL has come; it may have overtaken others, or they are not sent at all.
    fn note(&mut self, number: u64) {
        self.missing.remove(&number);
        if number > self.last {
            let oldest = number.saturating_sub(MAX_OVERTAKEN as u64).max(STEP | 1);
            self.missing.extend(oldest.max(self.last + 1)..number);
            self.last = number;
        }
        while self.missing.len() > MAX_OVERTAKEN {
            self.missing.pop_first();
        }
    }

    /// Is this a number whose CALL may still come?
    fn may_come(&self, number: u64) -> bool {
        number > self.last || self.missing.contains(&number)
    }
}

#[derive(Debug)]
struct Open {
    /// The call of the engine that it is part of; 0: none.
    parent: u64,
    /// Ends it when dropped.
    _stop: oneshot::Sender<()>,
    /// Pieces of its answer that the worker takes now.
    credit: Arc<Semaphore>,
}

/// One call of a worker, being run.
struct StepRun {
    number: u64,
    link: Weak<Link>,
    credit: Arc<Semaphore>,
    /// Pieces that were sent.
    parts: u32,
}

impl Steps {
    /// Take in a worker's call and run it.
    pub(super) fn start(
        self: &Arc<Self>,
        (step, link): (StepFrame, Weak<Link>),
        caller: &Arc<Version>,
        (instance, directory): (usize, &Arc<dyn Directory>),
    ) -> Result<(), BadFrame> {
        let credit = Arc::new(Semaphore::new(INITIAL_CREDIT as usize));
        let (stop, stopped) = oneshot::channel();
        let (number, parent) = (step.number, step.target.parent);
        {
            let mut table = self.0.lock();
            if table.open.contains_key(&number) {
                return bad(format!("step {number} came twice"));
            }
            if table.open.len() >= MAX_OPEN {
                return bad(format!("more than {MAX_OPEN} steps at a time"));
            }
            table.note(number);
            if table.early.remove(&number) {
                return Ok(());
            }
            table.open.insert(number, Open { parent, _stop: stop, credit: Arc::clone(&credit) });
        }
        let run = StepRun { number, link, credit, parts: 0 };
        let begun = contain(|| begin(step, caller, instance, &**directory));
        let begun = begun.unwrap_or_else(|panic| Err(caller.failed_step(&panic)));
        let (steps, caller, failing) = (Arc::downgrade(self), Arc::clone(caller), Weak::clone(&run.link));
        tokio::spawn(async move {
            if let Err(panic) = catch(run.run(begun, stopped)).await
                && let Some(link) = failing.upgrade()
            {
                // Nobody knows how many of its pieces were sent: its worker would wait for what does not come.
                caller.panicked(&panic, "the answer to a step was not passed on");
                link.condemn(PANIC);
            }
            if let Some(steps) = steps.upgrade() {
                steps.0.lock().open.remove(&number);
            }
        });
        Ok(())
    }

    /// The worker takes so many more pieces of a step's answer.
    pub(super) fn credited(&self, step: u64, pieces: u32) {
        if let Some(open) = self.0.lock().open.get(&step) {
            open.credit.add_permits(pieces.min(INITIAL_CREDIT) as usize);
        }
    }

    /// The worker no longer waits for a step.
    pub(super) fn dropped(&self, step: u64) {
        let mut table = self.0.lock();
        if table.open.remove(&step).is_none() && table.may_come(step) && table.early.len() < MAX_OVERTAKEN {
            table.early.insert(step);
        }
    }

    /// Nobody waits for a call any more, and so for no step of it.
    pub(super) fn abandon(&self, parent: u64) {
        self.0.lock().open.retain(|_, open| open.parent != parent);
    }

    /// The worker is gone.
    pub(super) fn clear(&self) {
        self.0.lock().open.clear();
    }
}

impl StepRun {
    /// Pass the answer on as it comes; ends early when `stopped` is dropped.
    async fn run(mut self, begun: Result<Running, Error>, stopped: oneshot::Receiver<()>) {
        let outcome = tokio::select! {
            biased;
            _ = stopped => Err(Error::new(Code::Cancelled, "nobody waits for this call any more")),
            outcome = self.pass_on(begun) => outcome,
        };
        let Some(link) = self.link.upgrade() else { return };
        if let Err(error) = outcome {
            let _ = link.fail(self.number, self.parts, failure_of(&error));
        }
    }

    async fn pass_on(&mut self, begun: Result<Running, Error>) -> Result<(), Error> {
        let mut running = begun?;
        let outcome = self.pieces(&mut running).await;
        running.version().count_step(outcome.as_ref().map(|_| ()).map_err(|error| error.code));
        outcome
    }

    async fn pieces(&mut self, running: &mut Running) -> Result<(), Error> {
        let spec = Arc::clone(&running.version().spec);
        let names: Vec<_> = spec.outputs.iter().map(|output| output.name.clone()).collect();
        while let Some(piece) = running.next().await {
            let tensors = gathered(piece?);
            let Some(link) = self.link.upgrade() else { return Ok(()) };
            let names = if tensors.is_empty() { &[][..] } else { &names };
            if running.is_over() {
                let piece = OutPiece { call: self.number, sequence: self.parts, names, tensors: &tensors };
                return link.finish(piece).map_err(|error| unsent(&error));
            }
            drop(link); // a worker that takes nothing must be free to end
            self.credit.acquire().await.map_err(|_| Error::new(Code::Internal, "a step without credit"))?.forget();
            let Some(link) = self.link.upgrade() else { return Ok(()) };
            let piece = OutPiece { call: self.number, sequence: self.parts, names, tensors: &tensors };
            link.part(piece, false).map_err(|error| unsent(&error))?;
            self.parts += 1;
        }
        Ok(())
    }
}

fn unsent(error: &BadFrame) -> Error {
    Error::new(Code::Internal, format!("an answer could not be passed on: {error}"))
}

fn gathered(piece: Piece) -> Vec<Gather> {
    let gather = |tensor: Tensor| Gather { datatype: tensor.datatype, shape: tensor.shape, pieces: vec![tensor.data] };
    piece.tensors.into_iter().map(gather).collect()
}

fn failure_of(error: &Error) -> Failure {
    Failure {
        kind: failure::Kind::Exception as i32,
        message: error.message.clone(),
        code: error.code.slug().to_owned(),
        ..Failure::default()
    }
}

/// What a step takes over from the call that it is part of.
struct Parent {
    id: Arc<str>,
    trace: Option<Arc<str>>,
    origin: Origin,
    /// What is left of its time; a stream, whose deadline moves on, sets none.
    timeout: Option<Nanos>,
}

fn begin(step: StepFrame, caller: &Arc<Version>, instance: usize, directory: &dyn Directory) -> Result<Running, Error> {
    let target = step.target;
    let parent = caller.parent(instance, target.parent)?;
    let version = directory.find(&target.model, Some(target.version.as_str()).filter(|name| !name.is_empty()))?;
    if parent.origin.path.iter().any(|name| version.is_run_by(name)) {
        let path = parent.origin.path.join(" -> ");
        let text = format!("the call {path} -> {} comes back to where it was; let it end before", version.name);
        return Err(Error::new(Code::CallCycle, text));
    }
    if version.spec.service.is_some() {
        let name = &version.name;
        let text = format!("\"{name}\" is a service, which takes no tensors; call \"{name}.<method>\"");
        return Err(Error::new(Code::InvalidInput, text));
    }
    let named = |(name, tensor)| NamedTensor { name, tensor };
    version.begin(InferRequest {
        id: parent.id,
        model: target.model,
        version: None,
        parameters: Vec::new(),
        inputs: target.names.into_iter().zip(step.inputs).map(named).collect(),
        outputs: Vec::new(),
        timeout: parent.timeout,
        queue_timeout: None,
        idempotent: None,
        trace: parent.trace,
        arrived: now(),
        origin: Some(parent.origin),
    })
}

impl Version {
    /// Does a call of this version wait for an instance that `name` has? A service's methods share theirs.
    fn is_run_by(self: &Arc<Self>, name: &str) -> bool {
        let runner = self.runner();
        let is_method = |rest: &str| runner.spec.service.is_some() && rest.starts_with('.');
        name == &*self.name || name.strip_prefix(&*runner.name).is_some_and(|rest| rest.is_empty() || is_method(rest))
    }

    /// On whose behalf a worker calls: that of its call `number`, or its own where that is 0.
    fn parent(&self, instance: usize, number: u64) -> Result<Parent, Error> {
        if number == 0 {
            let origin = Origin { path: [Arc::clone(&self.name)].into(), is_admitted: false };
            return Ok(Parent { id: format!("{}-own", self.name).into(), trace: None, origin, timeout: None });
        }
        let Some((items, has_streamed)) = self.core.lock().scheduler.awaited(instance, number) else {
            return Err(Error::new(Code::Cancelled, "nobody waits for the call that this one is part of"));
        };
        let first = &items[0].request.pending.accepted;
        let before = first.origin.iter().flat_map(|origin| origin.path.iter().cloned());
        let path = before.chain([Arc::from(first.spec.name.as_str())]).collect();
        let origin = Origin { path, is_admitted: true };
        let timeout = if has_streamed { None } else { left(&items) };
        Ok(Parent { id: ids(&items), trace: first.trace.clone(), origin, timeout })
    }

    fn failed_step(&self, panic: &Panic) -> Error {
        self.panicked(panic, "a step did not begin");
        Error::new(Code::Internal, "the engine failed on this step; its log tells why")
    }

    /// A call of a worker has ended; they count under a door of their own.
    fn count_step(&self, outcome: Result<(), Code>) {
        let code = outcome.map_or_else(Code::slug, |()| "ok");
        self.all_metrics.requests.with_label_values(&[&*self.name, &*self.version, "step", code]).inc();
    }
}

/// The time that the most patient of the callers has left.
fn left(items: &[Item<Part>]) -> Option<Nanos> {
    let last = items.iter().map(|item| item.request.pending.accepted.deadline).max()?;
    (last != NEVER).then(|| last.saturating_sub(now()))
}

/// The one request's id, or those of all in a batch.
fn ids(items: &[Item<Part>]) -> Arc<str> {
    let ids: Vec<_> = items.iter().map(|item| &*item.request.pending.accepted.id).collect();
    ids.join(",").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given_up(table: &mut Table, number: u64) -> bool {
        table.note(STEP | number);
        table.early.remove(&(STEP | number))
    }

    #[test]
    fn a_step_given_up_before_it_has_come_is_known_whatever_overtook_it() {
        let steps = Steps::default();
        steps.dropped(STEP | 2);
        let mut table = steps.0.lock();
        assert!(!given_up(&mut table, 3) && !given_up(&mut table, 1));
        drop(table);
        [1, 3, 5].into_iter().for_each(|number| steps.dropped(STEP | number));
        let mut table = steps.0.lock();
        assert!(given_up(&mut table, 2) && given_up(&mut table, 5) && !given_up(&mut table, 4));
        assert!(table.early.is_empty() && table.missing.is_empty(), "those that have come and ended are not kept");
    }

    #[test]
    fn a_worker_that_skips_numbers_is_not_remembered_for_it() {
        let mut table = Table::default();
        [1, 5_000, 900_000, STEP - 1].into_iter().for_each(|number| table.note(STEP | number));
        assert!(table.missing.len() == MAX_OVERTAKEN && table.may_come(u64::MAX - 1) && !table.may_come(STEP | 2));
    }
}
