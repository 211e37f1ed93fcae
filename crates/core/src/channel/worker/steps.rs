//! Calls that this worker makes, and what the engine says of calls while they run.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::streams::Step;
use super::{Input, Output, WorkerEnd};
use crate::channel::frame::{BadFrame, Descriptor, FLAG_LAST, Kind, STEP};
use crate::channel::proto;
use crate::channel::transport::Message;

impl WorkerEnd {
    /// Call another model. `None` where the engine grants no memory for the inputs.
    pub fn begin(
        self: &Arc<Self>,
        target: proto::Target,
        item: proto::Item,
        inputs: &[Output<'_>],
    ) -> Option<Arc<Step>> {
        let number = STEP | self.next_step.fetch_add(1, Ordering::Relaxed);
        let step = Arc::new(Step::new(number));
        self.steps.lock().insert(number, Arc::clone(&step));
        let message = proto::Call { items: vec![item], target: Some(target), ..proto::Call::default() };
        if self.send_with_tensors(Descriptor::new(Kind::Call, number), Message::Call(message), inputs).is_err() {
            self.steps.lock().remove(&number);
            return None;
        }
        Some(step)
    }

    /// Let the engine send one more piece of the answer to a call of ours, or of the body of one of its calls.
    pub fn credit(&self, call: u64) {
        let mut descriptor = Descriptor::new(Kind::Credit, call);
        descriptor.rows = 1;
        self.say(&descriptor);
    }

    /// Nobody waits for a step any more; nothing is said of one that has ended.
    pub fn drop_step(&self, step: &Step) {
        if self.steps.lock().remove(&step.number).is_some() {
            self.say(&Descriptor::new(Kind::Cancel, step.number));
        }
    }

    pub(super) fn cancelled(&self, call: u64) {
        let state = self.running.lock().get(&call).cloned();
        if let Some(state) = state {
            state.cancel();
            self.note(call);
        }
    }

    pub(super) fn credited(&self, call: u64, pieces: u32) {
        let state = self.running.lock().get(&call).cloned();
        if let Some(state) = state {
            state.credit(pieces);
            self.note(call);
        }
    }

    /// A PART or END has come: of a step's answer, or of a request's body. Of calls that are over nothing is kept.
    pub(super) fn answered(
        &self,
        descriptor: &Descriptor,
        message: Message,
        inputs: Vec<Input>,
    ) -> Result<(), BadFrame> {
        let call = descriptor.call;
        if call & STEP == 0 {
            let state = self.running.lock().get(&call).cloned();
            let piece = inputs.into_iter().next().map(|input| input.data).unwrap_or_default();
            if let Some(state) = state {
                state.put_body(descriptor.sequence, piece, descriptor.has(FLAG_LAST))?;
                self.note(call);
            }
            return Ok(());
        }
        let is_end = descriptor.kind == Kind::End;
        let step = if is_end { self.steps.lock().remove(&call) } else { self.steps.lock().get(&call).cloned() };
        let Some(step) = step else { return Ok(()) };
        match message {
            Message::Part(part) => step.part(descriptor.sequence, named(part.names, inputs))?,
            Message::End(proto::End { failure: Some(failure), .. }) => step.end(descriptor.sequence, Err(failure))?,
            Message::End(end) => step.end(descriptor.sequence, Ok(named(end.names, inputs)))?,
            Message::Call(_) => {}
        }
        self.note(call);
        Ok(())
    }

    /// Remember for whoever runs an event loop that something has come for `call`.
    fn note(&self, call: u64) {
        if let Some(news) = self.news.lock().as_mut() {
            news.push(call);
        }
    }
}

fn named(names: Vec<String>, inputs: Vec<Input>) -> Vec<(String, Input)> {
    names.into_iter().zip(inputs).collect()
}
