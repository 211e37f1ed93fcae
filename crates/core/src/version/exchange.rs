//! An HTTP request that a service answers: head, pieces of the body, and the rest of the request's own body beside.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::Version;
use super::running::Running;
use crate::admission::admit_http;
use crate::error::{Code, Error};
pub use crate::outlet::Gone;
use crate::pending::Pending;
use crate::request::{HttpRequest, Piece, ResponseHead};

/// An HTTP request on its way. Dropping it cancels it.
#[derive(Debug)]
pub struct Exchange {
    running: Running,
    /// Pieces of the body that came with the head.
    ready: VecDeque<Bytes>,
}

/// Where the rest of a request's body goes.
#[derive(Clone, Debug)]
pub struct Upload(Arc<Pending>);

impl Version {
    /// Let the service have a request. Errors: `queue_full`, `not_ready` and what else a closed version says.
    pub fn exchange(self: &Arc<Self>, request: HttpRequest) -> Result<Exchange, Error> {
        let running = self.submit(admit_http(&self.spec, request))?;
        Ok(Exchange { running, ready: VecDeque::new() })
    }
}

impl Exchange {
    /// The head of the response. Errors: `deadline_exceeded`, `worker_lost`, `model_error`, `bad_model_output`.
    pub async fn head(&mut self) -> Result<ResponseHead, Error> {
        let missing = || Error::new(Code::BadModelOutput, "the service answered without a status");
        let piece = self.running.next().await.ok_or_else(missing)??;
        self.ready.extend(body(&piece));
        piece.head.ok_or_else(missing)
    }

    /// The next piece of the response's body; taking one lets the worker send another.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            if let Some(data) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(data)));
            }
            match ready!(self.running.poll_next(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(piece)) => self.ready.extend(body(&piece)),
            }
        }
    }

    /// True when nothing follows what has been taken.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ready.is_empty() && self.running.is_over()
    }

    /// Bytes that follow, if all of them are there.
    #[must_use]
    pub fn size_hint(&self) -> Option<u64> {
        self.running.is_over().then(|| self.ready.iter().map(|data| data.len() as u64).sum())
    }

    /// Where the rest of the request's body goes.
    #[must_use]
    pub fn upload(&self) -> Upload {
        Upload(Arc::clone(self.running.pending()))
    }
}

impl Upload {
    /// Send a piece of the body, once the worker takes one.
    pub async fn send(&self, data: Bytes) -> Result<(), Gone> {
        self.0.outlet.as_ref().ok_or(Gone)?.upload(data, false).await
    }

    /// Say that the body is whole.
    pub async fn finish(&self) -> Result<(), Gone> {
        self.0.outlet.as_ref().ok_or(Gone)?.upload(Bytes::new(), true).await
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(outlet) = &self.running.pending().outlet {
            outlet.close_upload();
        }
    }
}

fn body(piece: &Piece) -> Option<Bytes> {
    piece.tensors.first().map(|tensor| tensor.data.clone()).filter(|data| !data.is_empty())
}
