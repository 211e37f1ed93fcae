//! A worker in the hands of a test.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;
use samovar_core::error::Error;
use samovar_core::request::ResponseHead;
use samovar_core::version::Gone;
use tokio::sync::{mpsc, oneshot};

use super::source::{Sink, Source};

/// The door's side.
pub(super) struct Fake {
    head: Option<oneshot::Receiver<Result<Answer, Error>>>,
    pieces: mpsc::Receiver<Result<Bytes, Error>>,
    /// Of an answer that came whole.
    whole: Option<VecDeque<Bytes>>,
    sink: FakeSink,
}

#[derive(Clone)]
pub(super) struct FakeSink(mpsc::Sender<Option<Bytes>>);

/// The test's side. One piece at a time is on its way in each direction.
pub(super) struct Worker {
    head: Option<oneshot::Sender<Result<Answer, Error>>>,
    pieces: Option<mpsc::Sender<Result<Bytes, Error>>>,
    uploads: mpsc::Receiver<Option<Bytes>>,
}

struct Answer {
    head: ResponseHead,
    whole: Option<VecDeque<Bytes>>,
}

pub(super) fn pair() -> (Fake, Worker) {
    let (head, head_receiver) = oneshot::channel();
    let (pieces, piece_receiver) = mpsc::channel(1);
    let (uploads, upload_receiver) = mpsc::channel(1);
    let fake = Fake { head: Some(head_receiver), pieces: piece_receiver, whole: None, sink: FakeSink(uploads) };
    (fake, Worker { head: Some(head), pieces: Some(pieces), uploads: upload_receiver })
}

impl Worker {
    fn answer(&mut self, answer: Result<Answer, Error>) {
        assert!(self.head.take().expect("the first answer").send(answer).is_ok(), "the request is gone");
    }

    /// Send the head alone.
    pub(super) fn begin(&mut self, status: u16, headers: &[(&'static str, &'static str)]) {
        self.answer(Ok(Answer { head: head(status, headers), whole: None }));
    }

    /// Send everything.
    pub(super) fn end_with(&mut self, status: u16, headers: &[(&'static str, &'static str)], pieces: &[&'static str]) {
        let whole = pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect();
        self.answer(Ok(Answer { head: head(status, headers), whole: Some(whole) }));
    }

    pub(super) fn fail(&mut self, error: Error) {
        self.answer(Err(error));
    }

    /// Send a piece, once the one before was taken; false if nobody takes any more.
    pub(super) async fn send(&self, piece: impl Into<Bytes>) -> bool {
        self.pieces.as_ref().expect("no end before").send(Ok(piece.into())).await.is_ok()
    }

    pub(super) async fn break_off(&self, error: Error) {
        self.pieces.as_ref().expect("no end before").send(Err(error)).await.unwrap();
    }

    pub(super) fn end(&mut self) {
        self.pieces = None;
    }

    /// Wait until the exchange was dropped.
    pub(super) async fn gone(&self) {
        self.pieces.as_ref().expect("no end before").closed().await;
    }

    /// The next piece of the request's body; `None` at its end.
    pub(super) async fn receive(&mut self) -> Option<Bytes> {
        self.uploads.recv().await.expect("an end before the channel is closed")
    }

    pub(super) fn refuse_uploads(&mut self) {
        self.uploads.close();
    }
}

fn head(status: u16, headers: &[(&'static str, &'static str)]) -> ResponseHead {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    ResponseHead { status, headers: headers.iter().map(|(name, value)| (bytes(name), bytes(value))).collect() }
}

impl Source for Fake {
    type Sink = FakeSink;

    async fn head(&mut self) -> Result<ResponseHead, Error> {
        let answer = self.head.as_mut().expect("asked once").await.expect("the worker answers");
        self.head = None;
        let answer = answer?;
        self.whole = answer.whole;
        Ok(answer.head)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        match &mut self.whole {
            Some(pieces) => Poll::Ready(pieces.pop_front().map(Ok)),
            None => self.pieces.poll_recv(cx),
        }
    }

    fn is_over(&self) -> bool {
        match &self.whole {
            Some(pieces) => pieces.is_empty(),
            None => self.pieces.is_closed() && self.pieces.is_empty(),
        }
    }

    fn left(&self) -> Option<u64> {
        Some(self.whole.as_ref()?.iter().map(|piece| piece.len() as u64).sum())
    }

    fn upload(&self) -> FakeSink {
        self.sink.clone()
    }
}

impl Sink for FakeSink {
    async fn send(&self, data: Bytes) -> Result<(), Gone> {
        self.0.send(Some(data)).await.map_err(|_| Gone)
    }

    async fn finish(&self) -> Result<(), Gone> {
        self.0.send(None).await.map_err(|_| Gone)
    }
}

/// The sink alone, for what only sends.
pub(super) fn sink() -> (FakeSink, Worker) {
    let (fake, worker) = pair();
    (fake.upload(), worker)
}
