//! A request that was admitted: its answer, whole or piece by piece.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::Version;
use super::waiter::Waiter;
use crate::clock::{NEVER, now};
use crate::error::{Code, Error};
use crate::metrics::seconds;
use crate::pending::{Answer, Pending, join};
use crate::request::Piece;
use crate::tensor::{Datatype, Tensor, TensorSpec};

/// A stream that is joined for a caller who wants one answer may have so many bytes.
const MAX_FOLDED_BYTES: usize = 128 << 20;

/// A request on its way. Dropping it cancels it.
#[derive(Debug)]
pub struct Running {
    waiter: Waiter,
    pending: Arc<Pending>,
    answer: oneshot::Receiver<Answer>,
    pieces: Option<mpsc::UnboundedReceiver<Piece>>,
    /// Came, but pieces before it have not been taken.
    ended: Option<Answer>,
    is_over: bool,
}

impl Running {
    pub(super) fn new(
        waiter: Waiter,
        pending: Arc<Pending>,
        answer: oneshot::Receiver<Answer>,
        pieces: Option<mpsc::UnboundedReceiver<Piece>>,
    ) -> Self {
        Self { waiter, pending, answer, pieces, ended: None, is_over: false }
    }

    pub(super) fn pending(&self) -> &Arc<Pending> {
        &self.pending
    }

    /// The version that runs it.
    #[must_use]
    pub fn version(&self) -> &Arc<Version> {
        self.waiter.version()
    }

    /// True when everything has been taken.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The answer of a request that does not stream.
    pub async fn whole(&mut self) -> Answer {
        let answer = (&mut self.answer).await;
        self.finish(answer.unwrap_or_else(|_| Err(lost())))
    }

    /// The answer of a request that streams, its pieces joined along their first axis.
    pub async fn folded(&mut self) -> Result<Vec<Tensor>, Error> {
        let mut pieces = Vec::new();
        let mut bytes = 0;
        while let Some(piece) = self.next().await {
            let tensors = piece?.tensors;
            bytes += tensors.iter().map(|tensor| tensor.data.len()).sum::<usize>();
            if bytes > MAX_FOLDED_BYTES {
                let text = format!(
                    "the stream of model {:?} has more than {MAX_FOLDED_BYTES} bytes, too many for one answer; take it \
                     piece by piece",
                    self.pending.accepted.spec.name
                );
                return Err(Error::new(Code::BadModelOutput, text));
            }
            if !tensors.is_empty() {
                pieces.push(tensors);
            }
        }
        if pieces.is_empty() { self.nothing() } else { join(pieces) }
    }

    /// The outputs of a stream without pieces: no element along the first axis. A scalar has none.
    fn nothing(&self) -> Result<Vec<Tensor>, Error> {
        let spec = &self.pending.accepted.spec;
        let empty = |output: &TensorSpec| {
            let mut shape: Vec<_> = output.shape().iter().map(|dim| u64::try_from(*dim).unwrap_or(0)).collect();
            *shape.first_mut().ok_or_else(|| scalar_missing(&spec.name, &output.name))? = 0;
            let datatype = output.datatype.unwrap_or(Datatype::Fp32);
            Ok(Tensor { datatype, shape, data: Bytes::new() })
        };
        spec.outputs.iter().map(empty).collect()
    }

    /// The next piece, the rest of the answer last; `None` when all has been taken.
    pub async fn next(&mut self) -> Option<Answer> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Self::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if self.ended.is_none()
            && let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(cx)
        {
            self.ended = Some(answer.unwrap_or_else(|_| Err(lost())));
        }
        // Its pieces were sent before the answer, so those that are not there now never come.
        if let Some(piece) = self.pieces.as_mut().and_then(|pieces| match pieces.poll_recv(cx) {
            Poll::Ready(piece) => piece,
            Poll::Pending => None,
        }) {
            self.took_piece();
            return Poll::Ready(Some(Ok(piece)));
        }
        match self.ended.take() {
            Some(answer) => Poll::Ready(Some(self.finish(answer))),
            None => Poll::Pending,
        }
    }

    /// The worker may send one more, and has as long for it as for the first.
    fn took_piece(&self) {
        let Some(outlet) = &self.pending.outlet else { return };
        self.version().runner().prolong(self.waiter.item(), now().saturating_add(self.pending.accepted.timeout));
        outlet.taken();
    }

    fn finish(&mut self, answer: Answer) -> Answer {
        self.is_over = true;
        self.waiter.is_answered = true;
        let (arrived, answered) = (self.waiter.arrived, now());
        let metrics = &self.version().metrics;
        match &answer {
            Ok(_) => {
                metrics.request.observe(seconds(arrived, answered));
                metrics.statistics.succeeded(answered - arrived, self.pending.stages());
            }
            Err(_) => metrics.statistics.failed(answered - arrived),
        }
        answer
    }
}

impl Version {
    /// Give a stream another deadline; [`NEVER`] while its caller takes nothing.
    pub(super) fn prolong(&self, item: u64, deadline: u64) {
        let mut core = self.core.lock();
        core.scheduler.prolong(item, deadline);
        self.arm(&mut core);
    }

    /// When a stream must have its next piece, so many of its pieces waiting for the caller: the connection has its own
    /// patience with one who takes nothing.
    pub(super) fn stream_deadline(pending: &Pending, untaken: usize) -> u64 {
        let is_stalled = untaken >= crate::channel::frame::INITIAL_CREDIT as usize;
        if is_stalled { NEVER } else { now().saturating_add(pending.accepted.timeout) }
    }
}

fn scalar_missing(model: &str, output: &str) -> Error {
    let text =
        format!("the stream of model {model:?} ended without a piece, and output {output:?} is one number; yield one");
    Error::new(Code::BadModelOutput, text)
}

fn lost() -> Error {
    Error::new(Code::Internal, "a request lost its answer; this is a fault of the engine")
}
