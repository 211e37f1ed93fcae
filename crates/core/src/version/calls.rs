//! Calls on their way to an instance, and what comes back from it.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::Version;
use super::steps::{Directory, Steps};
use crate::channel::engine::{EndFrame, Link, Sink, StepFrame};
use crate::channel::frame::{BadFrame, STEP, bad};
use crate::channel::proto::{Failure, failure};
use crate::channel::transport::{Gather, OutCall, Signature};
use crate::clock::{NEVER, Nanos, now};
use crate::config::ExposeErrors;
use crate::demultiplex::{Split, check_outputs, rows_of, split_input};
use crate::error::{Code, ECHO_BYTES, Error, excerpt};
use crate::metrics::{VersionMetrics, seconds};
use crate::pending::Part;
use crate::queue::Item;
use crate::request::Piece;
use crate::scheduler::{Assignment, Ended, Outcome};
use crate::statistics::Stages;

/// What Python calls the end of a task that nobody waits for.
const CANCELLED: &str = "CancelledError";
/// Another model's error grows by a name with every step that passes it on.
const MAX_STEP_BYTES: usize = 1_024;

/// Hands what one instance's worker says to its version.
#[derive(Debug)]
pub struct InstanceSink {
    version: Arc<Version>,
    instance: usize,
    link: Weak<Link>,
    directory: Arc<dyn Directory>,
    steps: Arc<Steps>,
}

impl InstanceSink {
    /// For the worker of `link`, which is `instance` of `version`; it finds other models in `directory`.
    #[must_use]
    pub fn new(version: Arc<Version>, instance: usize, link: &Arc<Link>, directory: Arc<dyn Directory>) -> Self {
        Self { version, instance, link: Arc::downgrade(link), directory, steps: Arc::default() }
    }
}

impl Sink for InstanceSink {
    fn holds(&self, call: u64) -> bool {
        self.version.core.lock().scheduler.holds(self.instance, call)
    }

    fn part(&self, call: u64, piece: Piece) -> Result<(), BadFrame> {
        self.version.streamed(self.instance, call, piece)
    }

    fn ended(&self, end: EndFrame) -> Result<(), BadFrame> {
        self.steps.abandon(end.call);
        self.version.ended(self.instance, end)
    }

    fn credited(&self, call: u64, pieces: u32) -> Result<(), BadFrame> {
        if call & STEP != 0 {
            self.steps.credited(call, pieces);
        } else if let Some((items, _)) = self.version.core.lock().scheduler.awaited(self.instance, call)
            && let Some(outlet) = &items[0].request.pending.outlet
        {
            outlet.credited(pieces);
        }
        Ok(())
    }

    fn called(&self, step: StepFrame) -> Result<(), BadFrame> {
        self.steps.start((step, Weak::clone(&self.link)), &self.version, (self.instance, &self.directory))
    }

    fn dropped(&self, step: u64) {
        self.steps.dropped(step);
    }

    fn is_relayed(&self) -> bool {
        self.version.spec.is_relayed()
    }

    fn unsent(&self, call: u64, fault: BadFrame) {
        self.version.unsent(self.instance, call, &fault);
    }

    fn abandoned(&self, call: u64) {
        self.steps.abandon(call);
    }

    fn closed(&self) {
        self.steps.clear();
    }
}

impl Version {
    pub(super) fn send(self: &Arc<Self>, (link, number): (&Arc<Link>, u32), assignment: &Assignment<Part>) {
        let began = now();
        let items = &assignment.items;
        let metrics = self.meter(items);
        for item in items.iter() {
            metrics.queue.observe(seconds(item.arrived, began));
        }
        if let Some(outlet) = &items[0].request.pending.outlet
            && !outlet.begin(link, assignment.call)
        {
            let text = format!("a worker of {} died and took a part of this request's body along", self.spec.title());
            let answer = Error::new(Code::WorkerLost, text + "; send it again");
            return self.withdraw(assignment.instance, assignment.call, &answer);
        }
        let sent = gather(number, assignment).and_then(|call| link.call(call));
        let moment = now();
        metrics.input.observe(seconds(began, moment));
        items.iter().for_each(|item| item.request.pending.mark_sent(moment));
        if let Err(error) = sent {
            self.unsent(assignment.instance, assignment.call, &error);
        }
    }

    /// A call could not be sent.
    fn unsent(self: &Arc<Self>, instance: usize, call: u64, fault: &BadFrame) {
        tracing::error!(model = %self.name, version = %self.version, "a call could not be sent: {fault}");
        let text = format!("a call of {} could not be sent; the log tells why", self.spec.title());
        self.withdraw(instance, call, &Error::new(Code::Internal, text));
    }

    /// What a call counts under: this version, or the method of it that takes tensors.
    fn meter(&self, items: &[Item<Part>]) -> &VersionMetrics {
        let method = &items[0].request.pending.accepted.method;
        if method.is_empty() {
            return &self.metrics;
        }
        self.meters.get().and_then(|meters| meters.get(method)).unwrap_or(&self.metrics)
    }

    /// Answer for a call that no worker has.
    pub(super) fn withdraw(self: &Arc<Self>, instance: usize, call: u64, answer: &Error) {
        let (ended, actions) = {
            let mut core = self.core.lock();
            let ended = core.scheduler.end(now(), (instance, call), Outcome::Finished);
            (ended, self.dispatch(&mut core, now()))
        };
        if let Ended::Answer(items, _) = ended {
            items.iter().for_each(|item| {
                item.request.pending.fail(answer.clone());
            });
        }
        self.perform(actions);
    }

    /// A piece of the answer to a call came from an instance.
    fn streamed(self: &Arc<Self>, instance: usize, call: u64, mut piece: Piece) -> Result<(), BadFrame> {
        let Some(items) = self.core.lock().scheduler.piece(instance, call) else {
            return bad(format!("PART of call {call} that instance {instance} does not hold"));
        };
        let item = &items[0];
        let pending = &item.request.pending;
        let Some(outlet) = &pending.outlet else { return bad(format!("PART of call {call}, which does not stream")) };
        if pending.accepted.http.is_some() {
            copy_body(&mut piece);
        } else if let Err(error) = check_outputs(&pending.accepted.spec, piece.tensors.clone(), 1) {
            self.refuse(&items, error);
            let gone = self.core.lock().scheduler.cancel(item.id);
            if let Some(gone) = gone {
                self.leave(&gone);
            }
            return Ok(());
        }
        let untaken = outlet.push(piece);
        self.prolong(item.id, Self::stream_deadline(pending, untaken));
        Ok(())
    }

    /// A call came back from an instance.
    pub(super) fn ended(self: &Arc<Self>, instance: usize, frame: EndFrame) -> Result<(), BadFrame> {
        let received = now();
        let outcome = match &frame.result {
            Ok(_) => Outcome::Finished,
            Err(failure) => match failure.kind() {
                failure::Kind::Exception | failure::Kind::Input => Outcome::Raised,
                failure::Kind::Output => Outcome::Finished,
                failure::Kind::NotStarted => Outcome::NotStarted,
            },
        };
        let (ended, actions, is_idle) = {
            let mut core = self.core.lock();
            let ended = core.scheduler.end(received, (instance, frame.call), outcome);
            if outcome != Outcome::NotStarted {
                core.instances[instance].finished_calls += 1;
            }
            let actions = self.dispatch(&mut core, received);
            (ended, actions, core.scheduler.waiting() == 0 && core.scheduler.running() == 0)
        };
        // The worker gets its next call before this one's answers are made.
        self.perform(actions);
        match ended {
            Ended::Unknown => return bad(format!("END of call {} that instance {instance} does not hold", frame.call)),
            Ended::Again => {}
            Ended::Answer(items, assigned) => self.answer(&items, assigned, received, frame),
        }
        if is_idle {
            self.idle.notify_waiters();
        }
        Ok(())
    }

    pub(super) fn answer(&self, items: &[Item<Part>], assigned: Nanos, received: Nanos, frame: EndFrame) {
        let rows = rows_of(items);
        let metrics = self.meter(items);
        metrics.batches.inc();
        metrics.items.inc_by(rows);
        metrics.batch_size.observe(rows as f64);
        let began = frame.began.clamp(assigned, received);
        metrics.compute.observe(seconds(began, received));
        // A fast worker answers before its call is marked as sent.
        let sent = items.iter().map(|item| item.request.pending.sent()).min().unwrap_or(0).clamp(assigned, began);
        items.iter().for_each(|_| metrics.wait.observe(seconds(sent, began)));
        let checked = match frame.result {
            Ok(piece) => check_answer(items, piece, rows),
            Err(failure) => Err(self.explain(items, &failure)),
        };
        let stages =
            Stages { queue: began - sent, input: sent - assigned, compute: received - began, output: now() - received };
        metrics.statistics.called(rows, stages);
        match checked {
            Ok(Checked::Whole(piece)) => {
                let stages = Stages { queue: stages.queue + assigned.saturating_sub(items[0].arrived), ..stages };
                items[0].request.pending.end(piece, stages);
            }
            Ok(Checked::Rows(split)) => {
                let mut first = 0;
                for item in items {
                    let stages = Stages { queue: stages.queue + assigned.saturating_sub(item.arrived), ..stages };
                    let outputs = split.part(first, u64::from(item.rows));
                    item.request.pending.complete(item.request.index, outputs, (stages, items.len() > 1));
                    first += u64::from(item.rows);
                }
            }
            Err(error) => self.refuse(items, error),
        }
        metrics.output.observe(seconds(received, now()));
    }

    pub(super) fn refuse(&self, items: &[Item<Part>], error: Error) {
        if error.code == Code::BadModelOutput {
            let ids: Vec<_> = items.iter().map(|item| &*item.request.pending.accepted.id).collect();
            tracing::error!(model = %self.name, version = %self.version, request_id = ids.join(","), "{}", error.message);
        }
        for item in items {
            item.request.pending.fail(error.clone());
        }
    }

    /// The error for a failure in user code; the whole text goes to the log.
    pub(super) fn explain(&self, items: &[Item<Part>], failure: &Failure) -> Error {
        if failure.kind() == failure::Kind::Output {
            return Error::new(Code::BadModelOutput, format!("{}: {}", self.spec.title(), failure.message));
        }
        if failure.kind() == failure::Kind::Input {
            // As below: it may quote any amount of the input.
            let text = format!("{}: {}", self.spec.title(), excerpt(&failure.message, ECHO_BYTES));
            return Error::new(Code::InvalidInput, text);
        }
        if let Some(code) = Code::from_slug(&failure.code) {
            // Another model's answer, passed on: it names its step.
            return Error::new(code, format!("{:?}: {}", self.name, excerpt(&failure.message, MAX_STEP_BYTES)));
        }
        if failure.class_name == CANCELLED && items.iter().all(|item| item.request.pending.is_over()) {
            return Error::new(Code::Cancelled, "nobody waits for this request any more"); // as they were told to
        }
        let ids: Vec<_> = items.iter().map(|item| &*item.request.pending.accepted.id).collect();
        tracing::error!(
            model = %self.name, version = %self.version, request_id = ids.join(","),
            exception = failure.class_name, traceback = failure.traceback, "the model raised {}", told(failure)
        );
        let text = match self.expose_errors {
            // It may quote any amount of the input; the log has the whole.
            ExposeErrors::Message => format!("{} raised {}", self.spec.title(), excerpt(&told(failure), ECHO_BYTES)),
            ExposeErrors::Id => {
                format!("{} raised an exception; the log has it under the id of this request", self.spec.title())
            }
        };
        Error::new(Code::ModelError, text)
    }
}

/// `ValueError: too small`, or the class alone where the exception says nothing.
fn told(failure: &Failure) -> String {
    match failure.message.as_str() {
        "" => failure.class_name.clone(),
        message => format!("{}: {message}", failure.class_name),
    }
}

/// What a call answered, checked.
enum Checked {
    /// The answer of the one request in it, or what is left of a stream.
    Whole(Piece),
    /// The rows of all.
    Rows(Split),
}

fn check_answer(items: &[Item<Part>], mut piece: Piece, rows: u64) -> Result<Checked, Error> {
    let accepted = &items[0].request.pending.accepted;
    if accepted.http.is_some() {
        copy_body(&mut piece);
        return Ok(Checked::Whole(piece));
    }
    if accepted.spec.streams && piece.tensors.is_empty() {
        return Ok(Checked::Whole(piece));
    }
    let split = check_outputs(&accepted.spec, piece.tensors, rows)?;
    if accepted.spec.streams {
        return Ok(Checked::Whole(Piece { head: None, tensors: split.part(0, rows) }));
    }
    Ok(Checked::Rows(split))
}

/// A client may take its time with a body, and must not hold the worker's memory meanwhile.
fn copy_body(piece: &mut Piece) {
    for tensor in &mut piece.tensors {
        tensor.data = Bytes::copy_from_slice(&tensor.data);
    }
}

/// The frame for a call of instance `number` of its worker: its item table, and for each input the rows of all items.
fn gather(number: u32, assignment: &Assignment<Part>) -> Result<OutCall, BadFrame> {
    let items = &assignment.items;
    let first = &items[0].request.pending.accepted;
    let batch_axis = first.spec.batch_axis;
    let rows = rows_of(items);
    let mut gathered = Vec::with_capacity(first.inputs.len());
    for (index, input) in first.inputs.iter().enumerate() {
        let mut pieces = Vec::with_capacity(items.len());
        for item in items.iter() {
            match split_input(item, index) {
                Some(piece) => pieces.push(piece),
                None => return bad("an input does not divide into its rows"),
            }
        }
        let mut shape = input.shape.clone();
        if batch_axis && let Some(axis) = shape.first_mut() {
            *axis = rows;
        }
        gathered.push(Gather { datatype: input.datatype, shape, pieces });
    }
    Ok(OutCall {
        call: assignment.call,
        instance: number,
        deadline: items.iter().map(|item| item.start_by).min().unwrap_or(NEVER),
        rows: if batch_axis { rows as u32 } else { 1 },
        items: items.iter().map(|item| item.request.pending.item(item.rows)).collect(),
        is_fast: first.method.is_empty() && first.http.is_none() && Signature::is_fast(&first.spec.inputs),
        inputs: gathered,
        method: first.method.clone(),
        http: first.http.as_ref().map(|http| Box::new(http.head.clone())),
        is_open: first.http.as_ref().is_some_and(|http| http.is_open),
    })
}
