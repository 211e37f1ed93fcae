//! The body of a service's answer on its way to the client.

use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use hyper::body::Body;
use samovar_core::error::Error;

use super::account::Account;
use super::headers::bad;
use super::inflow::Inflow;
use super::source::Source;
use crate::connection::{Broken, Pieces};

/// What of a body came with its head.
#[derive(Debug)]
pub(super) enum Start {
    /// All there is.
    Whole(Bytes),
    /// Perhaps the first piece.
    First(Option<Bytes>),
}

impl Start {
    /// Bytes of the whole body, where they are known.
    pub(super) fn length(&self, source: &impl Source) -> Option<u64> {
        match self {
            Self::Whole(body) => Some(body.len() as u64),
            Self::First(first) => Some(source.left()? + first.as_ref().map_or(0, |first| first.len() as u64)),
        }
    }
}

/// What of the body is there, if it `has_body` at all; an answer in one piece needs no stream. Errors: what the answer
/// ends with.
pub(super) fn start(source: &mut impl Source, has_body: bool) -> Result<Start, Error> {
    if !has_body {
        return Ok(Start::Whole(Bytes::new()));
    }
    let Some(left) = source.left() else { return Ok(Start::First(None)) };
    if left == 0 && source.is_over() {
        return Ok(Start::Whole(Bytes::new()));
    }
    match source.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => Ok(Start::First(None)),
        Poll::Ready(None) => Ok(Start::Whole(Bytes::new())),
        Poll::Ready(Some(piece)) => {
            let piece = piece?;
            Ok(if source.is_over() { Start::Whole(piece) } else { Start::First(Some(piece)) })
        }
    }
}

/// An answer that comes in pieces. Dropped before its end, it cancels what still runs: the client is gone.
pub(super) struct Outflow<S, B> {
    first: Option<Bytes>,
    source: S,
    /// Bytes that the head has announced and that have not come.
    announced: Option<u64>,
    /// The rest of the request's body goes on beside the answer, and no longer.
    inflow: Inflow<B>,
    account: Account,
    /// It breaks off as soon as the pieces before are on their way.
    fault: Option<Error>,
}

impl<S: Source, B: Body<Data = Bytes> + Send + Unpin + 'static> Outflow<S, B> {
    pub(super) fn new(
        first: Option<Bytes>,
        source: S,
        announced: Option<u64>,
        inflow: Inflow<B>,
        account: Account,
    ) -> Self {
        Self { first, source, announced, inflow, account, fault: None }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        if let Poll::Ready(fault) = self.inflow.poll_fault(cx) {
            return Poll::Ready(Err(fault));
        }
        let piece = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(self.source.poll_next(cx)),
        };
        Poll::Ready(match piece {
            Some(piece) => piece.and_then(|piece| self.count(piece)).map(Some),
            None => self.check_end().map(|()| None),
        })
    }

    fn count(&mut self, piece: Bytes) -> Result<Bytes, Error> {
        if let Some(announced) = &mut self.announced {
            let rest = announced.checked_sub(piece.len() as u64);
            *announced = rest.ok_or_else(|| bad("the service sent more than the content-length of its answer"))?;
        }
        self.account.sent(piece.len());
        if self.is_over() {
            self.account.ends(Ok(()));
        }
        Ok(piece)
    }

    fn check_end(&mut self) -> Result<(), Error> {
        if let Some(missing) = self.announced.filter(|announced| *announced > 0) {
            return Err(bad(format!("the service sent {missing} bytes less than the content-length of its answer")));
        }
        self.account.ends(Ok(()));
        Ok(())
    }
}

impl<S: Source, B: Body<Data = Bytes> + Send + Unpin + 'static> Pieces for Outflow<S, B> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if let Some(fault) = self.fault.take() {
            self.account.breaks(&fault);
            return Poll::Ready(Some(Err(Broken)));
        }
        match ready!(self.poll_source(cx)) {
            Ok(piece) => Poll::Ready(piece.map(Ok)),
            Err(fault) => {
                // The connection sends what it has when there is nothing to take, and drops it at an error.
                self.fault = Some(fault);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_over(&self) -> bool {
        self.first.is_none()
            && self.fault.is_none()
            && self.source.is_over()
            && self.announced.is_none_or(|left| left == 0)
    }

    fn left(&self) -> Option<u64> {
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        self.announced.or_else(|| Some(self.source.left()? + first))
    }
}
