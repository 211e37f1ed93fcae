//! Calls on their way to an instance, and what comes back from it.

use std::sync::Arc;

use super::Version;
use crate::channel::engine::{EndFrame, Link, Sink};
use crate::channel::frame::{BadFrame, bad};
use crate::channel::proto::{Failure, failure};
use crate::channel::transport::{Gather, OutCall, Signature};
use crate::clock::{NEVER, Nanos, now};
use crate::config::ExposeErrors;
use crate::demultiplex::{check_outputs, rows_of, split_input};
use crate::error::{Code, ECHO_BYTES, Error, excerpt};
use crate::metrics::seconds;
use crate::pending::Part;
use crate::queue::Item;
use crate::scheduler::{Assignment, Ended, Outcome};
use crate::statistics::Stages;
use crate::tensor::TensorSpec;

/// Hands the ends of one instance's calls to its version.
#[derive(Debug)]
pub struct InstanceSink {
    /// The version.
    pub version: Arc<Version>,
    /// The instance.
    pub instance: usize,
}

impl Sink for InstanceSink {
    fn ended(&self, end: EndFrame) -> Result<(), BadFrame> {
        self.version.ended(self.instance, end)
    }
}

impl Version {
    pub(super) fn send(self: &Arc<Self>, link: &Link, assignment: &Assignment<Part>) {
        let began = now();
        let items = &assignment.items;
        for item in items.iter() {
            self.metrics.queue.observe(seconds(item.arrived, began));
        }
        let sent = gather(&self.spec.inputs, assignment, self.spec.batch_axis).and_then(|call| link.call(call));
        let moment = now();
        self.metrics.input.observe(seconds(began, moment));
        items.iter().for_each(|item| item.request.pending.mark_sent(moment));
        if let Err(error) = sent {
            tracing::error!(model = %self.name, version = %self.version, "a call could not be sent: {error}");
            let answer = Error::new(
                Code::Internal,
                format!("a call of model {:?} could not be sent; the log tells why", self.name),
            );
            let actions = {
                let mut core = self.core.lock();
                core.scheduler.end(assignment.instance, assignment.call, Outcome::Finished);
                self.dispatch(&mut core, now())
            };
            items.iter().for_each(|item| {
                item.request.pending.fail(answer.clone());
            });
            self.perform(actions);
        }
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
            let ended = core.scheduler.end(instance, frame.call, outcome);
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
        self.metrics.batches.inc();
        self.metrics.items.inc_by(rows);
        self.metrics.batch_size.observe(rows as f64);
        let began = frame.began.clamp(assigned, received);
        self.metrics.compute.observe(seconds(began, received));
        // A fast worker answers before its call is marked as sent.
        let sent = items.iter().map(|item| item.request.pending.sent()).min().unwrap_or(0).clamp(assigned, began);
        items.iter().for_each(|_| self.metrics.wait.observe(seconds(sent, began)));
        let checked = match frame.result {
            Ok(outputs) => check_outputs(&self.spec, outputs, rows),
            Err(failure) => Err(self.explain(items, &failure)),
        };
        let stages =
            Stages { queue: began - sent, input: sent - assigned, compute: received - began, output: now() - received };
        self.metrics.statistics.called(rows, stages);
        match checked {
            Ok(split) => {
                let mut first = 0;
                for item in items {
                    let stages = Stages { queue: stages.queue + assigned.saturating_sub(item.arrived), ..stages };
                    let outputs = split.part(first, u64::from(item.rows));
                    item.request.pending.complete(item.request.index, outputs, stages);
                    first += u64::from(item.rows);
                }
            }
            Err(error) => self.refuse(items, error),
        }
        self.metrics.output.observe(seconds(received, now()));
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
            return Error::new(Code::BadModelOutput, format!("model {:?}: {}", self.name, failure.message));
        }
        if failure.kind() == failure::Kind::Input {
            // As below: it may quote any amount of the input.
            let text = format!("model {:?}: {}", self.name, excerpt(&failure.message, ECHO_BYTES));
            return Error::new(Code::InvalidInput, text);
        }
        let ids: Vec<_> = items.iter().map(|item| &*item.request.pending.accepted.id).collect();
        tracing::error!(
            model = %self.name, version = %self.version, request_id = ids.join(","),
            exception = failure.class_name, traceback = failure.traceback, "the model raised {}", told(failure)
        );
        let text = match self.expose_errors {
            // It may quote any amount of the input; the log has the whole.
            ExposeErrors::Message => format!("model {:?} raised {}", self.name, excerpt(&told(failure), ECHO_BYTES)),
            ExposeErrors::Id => {
                format!("model {:?} raised an exception; the log has it under the id of this request", self.name)
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

/// The frame for a call: its item table, and for each input the rows of all items.
fn gather(inputs: &[TensorSpec], assignment: &Assignment<Part>, batch_axis: bool) -> Result<OutCall, BadFrame> {
    let items = &assignment.items;
    let rows = rows_of(items);
    let mut gathered = Vec::with_capacity(inputs.len());
    for index in 0..inputs.len() {
        let mut pieces = Vec::with_capacity(items.len());
        for item in items.iter() {
            match split_input(item, index) {
                Some(piece) => pieces.push(piece),
                None => return bad("an input does not divide into its rows"),
            }
        }
        let first = &items[0].request.pending.accepted.inputs[index];
        let mut shape = first.shape.clone();
        if batch_axis && let Some(axis) = shape.first_mut() {
            *axis = rows;
        }
        gathered.push(Gather { datatype: first.datatype, shape, pieces });
    }
    Ok(OutCall {
        call: assignment.call,
        instance: assignment.instance as u32,
        deadline: items.iter().map(|item| item.start_by).min().unwrap_or(NEVER),
        rows: if batch_axis { rows as u32 } else { 1 },
        items: items.iter().map(|item| item.request.pending.item(item.rows)).collect(),
        is_fast: Signature::is_fast(inputs),
        inputs: gathered,
    })
}
