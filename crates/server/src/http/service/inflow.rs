//! The body of a request on its way to a service: whole, so that the request can be run again, or as it comes.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use hyper::body::Body;
use samovar_core::error::{Code, Error};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::source::Sink;
use crate::connection::Pulse;
use crate::door::body::{self, BodyLimits, Pace};
use crate::inflate::Coding;

/// A longer body is not kept until the answer is there: it goes on as it comes, and its request runs once.
const MAX_WHOLE: u64 = 8 << 20;
/// Most that is looked for in a body of unknown length before its request goes on.
const FIRST: usize = 64 << 10;
/// Most that goes to a worker at once.
pub(super) const PIECE: usize = 64 << 10;

/// A body, and what has become of it.
pub(super) struct Inflow<B> {
    state: State<B>,
    pace: Pace,
    bytes: Arc<AtomicU64>,
    /// Learns that the client may still be sending.
    pulse: Arc<Pulse>,
}

enum State<B> {
    Here(B),
    /// A task sends it on; true: all of it.
    Pumped(JoinHandle<Result<bool, Error>>),
    Read,
    /// Nobody wants the rest.
    Unread,
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Inflow<B> {
    pub(super) fn new(body: B, pulse: Arc<Pulse>) -> Self {
        let state = if body.is_end_stream() { State::Read } else { State::Here(body) };
        Self { state, pace: Pace::new(), bytes: Arc::default(), pulse }
    }

    /// How much has come so far; counts on.
    pub(super) fn bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes)
    }

    /// What goes with the request, and whether it is all: of a body that is short or compressed all of it, of another
    /// one what is there. `grow` takes room for it.
    ///
    /// Errors as [`body::read`].
    pub(super) async fn take(
        &mut self,
        coding: Option<Coding>,
        limits: &BodyLimits,
        mut grow: impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<(Bytes, bool), Error> {
        let State::Here(body) = &mut self.state else { return Ok((Bytes::new(), true)) };
        let announced = body.size_hint().exact();
        let is_kept = coding.is_some() || announced.is_some_and(|length| length <= MAX_WHOLE);
        let (bytes, is_all) = if is_kept {
            (body::read(body, coding, limits, grow).await?, true)
        } else if announced.is_some_and(|length| length > limits.max_bytes) {
            return Err(limits.too_large(announced));
        } else {
            come(body, &mut self.pace, limits, &mut grow).await?
        };
        self.bytes.fetch_add(bytes.len() as u64, Relaxed);
        if is_all {
            self.state = State::Read;
        }
        Ok((bytes, is_all))
    }

    /// Send on what follows, beside the answer.
    pub(super) fn pump(&mut self, sink: impl Sink, limits: BodyLimits) {
        match std::mem::replace(&mut self.state, State::Unread) {
            State::Here(body) => {
                let pace = std::mem::replace(&mut self.pace, Pace::new());
                let pumped = pump(body, pace, limits, sink, Arc::clone(&self.bytes));
                self.state = State::Pumped(tokio::spawn(pumped));
            }
            other => self.state = other,
        }
    }

    /// What [`Self::poll_fault`] is ready with.
    pub(super) async fn fault(&mut self) -> Error {
        poll_fn(|cx| self.poll_fault(cx)).await
    }

    /// The answer is there, and nobody wants the rest. Must the connection close because that is too much to be read?
    pub(super) async fn end(&mut self, expects: bool) -> bool {
        self.look();
        if let State::Here(body) = &mut self.state
            && (body.is_end_stream() || (!expects && body::drain(body).await))
        {
            self.state = State::Read;
        }
        !matches!(self.state, State::Read)
    }
}

impl<B> Inflow<B> {
    /// Ready with what is wrong with the rest of the body, if something is.
    pub(super) fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let State::Pumped(task) = &mut self.state else { return Poll::Pending };
        let ended = ready!(Pin::new(task).poll(cx));
        self.state = State::Unread;
        match ended {
            Ok(Ok(is_all)) => {
                if is_all {
                    self.state = State::Read;
                }
                Poll::Pending
            }
            Ok(Err(fault)) => Poll::Ready(fault),
            Err(_) => Poll::Ready(Error::new(Code::Internal, "the engine failed on the body of this request")),
        }
    }

    /// See whether the task has ended.
    fn look(&mut self) {
        _ = self.poll_fault(&mut Context::from_waker(Waker::noop()));
    }
}

impl<B> Drop for Inflow<B> {
    fn drop(&mut self) {
        self.look();
        match &self.state {
            State::Read => return,
            State::Pumped(task) => task.abort(),
            State::Here(_) | State::Unread => {}
        }
        self.pulse.linger();
    }
}

/// What of `body` is there without a wait, and whether that is all.
async fn come<B: Body<Data = Bytes> + Unpin>(
    body: &mut B,
    pace: &mut Pace,
    limits: &BodyLimits,
    grow: &mut impl FnMut(u64) -> Result<(), Error>,
) -> Result<(Bytes, bool), Error> {
    let mut come = Vec::new();
    let mut has_yielded = false;
    while come.len() < FIRST {
        match at_once(pace.next_part(body, limits, grow)).await {
            Some(part) => match part? {
                Some(part) => come.extend_from_slice(&part),
                None => return Ok((come.into(), true)),
            },
            None if has_yielded => break,
            None => {
                // The connection reads on when it is asked to, which it just was.
                tokio::task::yield_now().await;
                has_yielded = true;
            }
        }
    }
    let is_all = body.is_end_stream();
    Ok((come.into(), is_all))
}

/// The outcome of `future`, if it needs no wait.
async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        })
    })
    .await
}

/// Send `body` on as fast as it comes and the worker takes it; true if that was all of it.
async fn pump<B: Body<Data = Bytes> + Unpin>(
    mut body: B,
    mut pace: Pace,
    limits: BodyLimits,
    sink: impl Sink,
    bytes: Arc<AtomicU64>,
) -> Result<bool, Error> {
    while !body.is_end_stream()
        && let Some(mut part) = pace.next_part(&mut body, &limits, &mut |_| Ok(())).await?
    {
        bytes.fetch_add(part.len() as u64, Relaxed);
        let wanted_again = Instant::now();
        while !part.is_empty() {
            let piece = part.split_to(part.len().min(PIECE));
            if sink.send(piece).await.is_err() {
                return Ok(body.is_end_stream() && part.is_empty());
            }
        }
        // The worker's time is not the client's.
        pace.excuse(wanted_again.elapsed());
    }
    sink.finish().await.ok();
    Ok(true)
}

#[cfg(test)]
#[path = "inflow_tests.rs"]
mod tests;
