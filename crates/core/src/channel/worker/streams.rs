//! What comes in pieces to a worker: the body of a request, and the answers to calls of its own.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::Input;
use crate::channel::frame::{BadFrame, INITIAL_CREDIT};
use crate::channel::proto;
use crate::channel::stream::Ordered;

/// What the engine has to say of a running call.
#[derive(Debug)]
pub struct CallState {
    is_cancelled: AtomicBool,
    flow: Mutex<Flow>,
    /// Signalled when `flow` or `is_cancelled` changed.
    changed: Condvar,
}

#[derive(Debug)]
struct Flow {
    body: Ordered<Bytes>,
    /// Pieces of the answer that may be sent.
    credit: u32,
}

impl Default for CallState {
    fn default() -> Self {
        Self {
            is_cancelled: AtomicBool::new(false),
            flow: Mutex::new(Flow { body: Ordered::default(), credit: INITIAL_CREDIT }),
            changed: Condvar::new(),
        }
    }
}

impl CallState {
    /// True once nobody waits for the answer.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// Wait until a piece of the answer may be sent; false if nobody waits for it any more.
    #[must_use]
    pub fn wait_for_credit(&self) -> bool {
        let mut flow = self.flow.lock();
        while flow.credit == 0 && !self.is_cancelled() {
            self.changed.wait(&mut flow);
        }
        !self.is_cancelled()
    }

    /// True if a piece of the answer may be sent.
    #[must_use]
    pub fn has_credit(&self) -> bool {
        self.flow.lock().credit > 0
    }

    /// The next piece of the request's body, if it has come.
    #[must_use]
    pub fn take_body(&self) -> Option<Bytes> {
        self.flow.lock().body.take()
    }

    /// True when the whole body has been taken.
    #[must_use]
    pub fn is_body_over(&self) -> bool {
        self.flow.lock().body.is_over()
    }

    pub(super) fn cancel(&self) {
        let _flow = self.flow.lock(); // so that nobody misses it between a look and the wait
        self.is_cancelled.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    pub(super) fn credit(&self, pieces: u32) {
        let mut flow = self.flow.lock();
        flow.credit = flow.credit.saturating_add(pieces);
        self.changed.notify_all();
    }

    /// Use the credit for one piece; false if there is none.
    pub(super) fn spend(&self) -> bool {
        let mut flow = self.flow.lock();
        let left = flow.credit.checked_sub(1);
        flow.credit = left.unwrap_or(0);
        left.is_some()
    }

    pub(super) fn put_body(&self, sequence: u32, piece: Bytes, is_last: bool) -> Result<(), BadFrame> {
        let mut flow = self.flow.lock();
        flow.body.put(sequence, piece)?;
        if is_last { flow.body.end(sequence.saturating_add(1)) } else { Ok(()) }
    }

    /// The body came with the call.
    pub(super) fn end_body(&self) {
        let _ = self.flow.lock().body.end(0);
    }
}

/// What came back from a call of this worker.
#[derive(Debug)]
pub enum StepNews {
    /// Outputs by name; more follow.
    Part(Vec<(String, Input)>),
    /// The last outputs, or what went wrong.
    End(Result<Vec<(String, Input)>, proto::Failure>),
}

/// A call of another model that this worker waits for.
#[derive(Debug)]
pub struct Step {
    /// Its number, of this worker's counting.
    pub number: u64,
    inflow: Mutex<Inflow>,
    /// Signalled when `inflow` changed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inflow {
    parts: Ordered<Vec<(String, Input)>>,
    end: Option<Result<Vec<(String, Input)>, proto::Failure>>,
}

impl Inflow {
    fn take(&mut self) -> Option<StepNews> {
        if let Some(part) = self.parts.take() {
            return Some(StepNews::Part(part));
        }
        if self.parts.is_over() { self.end.take().map(StepNews::End) } else { None }
    }
}

impl Step {
    pub(super) fn new(number: u64) -> Self {
        Self { number, inflow: Mutex::default(), changed: Condvar::new() }
    }

    /// What has come next, if it has.
    #[must_use]
    pub fn take(&self) -> Option<StepNews> {
        self.inflow.lock().take()
    }

    /// Wait for what comes next. After the end nothing does.
    #[must_use]
    pub fn wait(&self) -> StepNews {
        let mut inflow = self.inflow.lock();
        loop {
            match inflow.take() {
                Some(news) => return news,
                None => self.changed.wait(&mut inflow),
            }
        }
    }

    pub(super) fn part(&self, sequence: u32, outputs: Vec<(String, Input)>) -> Result<(), BadFrame> {
        self.inflow.lock().parts.put(sequence, outputs)?;
        self.changed.notify_all();
        Ok(())
    }

    pub(super) fn end(&self, parts: u32, result: Result<Vec<(String, Input)>, proto::Failure>) -> Result<(), BadFrame> {
        let mut inflow = self.inflow.lock();
        inflow.parts.end(parts)?;
        inflow.end = Some(result);
        self.changed.notify_all();
        Ok(())
    }
}
