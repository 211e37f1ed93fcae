//! Where an answer comes from: the exchange with a worker.

use std::future::Future;
use std::task::{Context, Poll};

use bytes::Bytes;
use samovar_core::error::Error;
use samovar_core::request::ResponseHead;
use samovar_core::version::{Exchange, Gone, Upload};

/// One request that runs; dropped, it is cancelled. Tests have their own.
pub(super) trait Source: Send + 'static {
    type Sink: Sink;

    /// The head of the answer, once.
    fn head(&mut self) -> impl Future<Output = Result<ResponseHead, Error>> + Send;

    /// The next piece of its body; whoever sends them waits for those before to be taken.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>>;

    /// Does nothing follow what was taken?
    fn is_over(&self) -> bool;

    /// Bytes of the body that are left, where all of it is there already.
    fn left(&self) -> Option<u64>;

    /// Where the rest of the request's body goes.
    fn upload(&self) -> Self::Sink;
}

/// Takes the rest of a request's body.
pub(super) trait Sink: Send + Sync + 'static {
    /// Waits until there is room for `data`.
    fn send(&self, data: Bytes) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Nothing follows.
    fn finish(&self) -> impl Future<Output = Result<(), Gone>> + Send;
}

impl Source for Exchange {
    type Sink = Upload;

    fn head(&mut self) -> impl Future<Output = Result<ResponseHead, Error>> + Send {
        Self::head(self)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        Self::poll_next(self, cx)
    }

    fn is_over(&self) -> bool {
        Self::is_over(self)
    }

    fn left(&self) -> Option<u64> {
        self.size_hint()
    }

    fn upload(&self) -> Upload {
        Self::upload(self)
    }
}

impl Sink for Upload {
    fn send(&self, data: Bytes) -> impl Future<Output = Result<(), Gone>> + Send {
        Self::send(self, data)
    }

    fn finish(&self) -> impl Future<Output = Result<(), Gone>> + Send {
        Self::finish(self)
    }
}
