//! The body of an answer.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::pulse::{Pulse, Running};

/// Most that HTTP/2 gets at once. What it has is out of our sight until it is sent, so this much must leave within the
/// time that a connection may stand still.
const PART: usize = 256 << 10;

/// A tensor from here on is sent from where the worker left it. Below, a copy costs less than another part of a body.
pub(crate) const MIN_TENSOR: usize = 64 << 10;
/// How long a client may take for a large answer before the rest of it is copied: whoever reads slowly must not keep the
/// memory of a worker.
const PATIENCE: Duration = Duration::from_millis(100);

/// An answer that comes in pieces; dropped when it is over, or its client gone.
pub(crate) trait Pieces: Send {
    /// The next piece; `None` at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>>;

    /// Does nothing follow what was taken?
    fn is_over(&self) -> bool;

    /// Bytes to come, where that is known.
    fn left(&self) -> Option<u64>;
}

/// An answer breaks off: the client must see that this was not all.
#[derive(Debug)]
pub(crate) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the answer broke off")
    }
}

impl std::error::Error for Broken {}

/// Bytes, and what follows them.
#[derive(Default)]
pub(crate) struct Outgoing {
    /// Of an answer in pieces the one that is being taken.
    data: Bytes,
    /// Boxed: few answers have any.
    rest: Option<Box<Rest>>,
    /// Told of each part that is taken, where a connection carries many answers.
    pulse: Option<Arc<Pulse>>,
}

enum Rest {
    /// Where the protocol has them.
    Trailers(HeaderMap),
    Tensors(Tensors),
    Pieces(Flow),
}

impl Outgoing {
    /// `data` and nothing behind it.
    pub(crate) fn new(data: Bytes) -> Self {
        Self { data, rest: None, pulse: None }
    }

    /// `data`, then `tensors` from where the worker left them, then `trailers`.
    pub(crate) fn with_tensors(data: Bytes, tensors: Vec<Bytes>, trailers: Option<HeaderMap>) -> Self {
        let rest = match (tensors.is_empty(), trailers) {
            (true, trailers) => trailers.map(Rest::Trailers),
            (false, trailers) => {
                Some(Rest::Tensors(Tensors { left: tensors.into(), began: None, is_copied: false, trailers }))
            }
        };
        Self { rest: rest.map(Box::new), ..Self::new(data) }
    }

    /// What comes in `pieces`.
    pub(crate) fn in_pieces(pieces: Box<dyn Pieces>) -> Self {
        let flow = Flow { pieces, waiting: None, alone: None };
        Self { rest: Some(Box::new(Rest::Pieces(flow))), ..Self::default() }
    }

    /// The same as the one answer that its connection carries now.
    pub(super) fn alone(mut self, pulse: Arc<Pulse>) -> Self {
        match self.rest.as_deref_mut() {
            Some(Rest::Pieces(flow)) => flow.alone = Some(Alone::new(pulse)),
            _ => pulse.answered(),
        }
        self
    }

    /// The same in parts, each of which counts as progress of `pulse`.
    pub(super) fn in_parts(self, pulse: Arc<Pulse>) -> Self {
        Self { pulse: Some(pulse), ..self }
    }

    fn take(&mut self) -> Bytes {
        let Some(pulse) = &self.pulse else { return std::mem::take(&mut self.data) };
        pulse.progressed();
        self.data.split_to(self.data.len().min(PART))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        while this.data.is_empty() {
            match this.rest.as_deref_mut() {
                None => return Poll::Ready(None),
                Some(Rest::Trailers(trailers)) => {
                    let trailers = std::mem::take(trailers);
                    this.rest = None;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Some(Rest::Tensors(tensors)) => match tensors.next() {
                    Some(part) => this.data = part,
                    None => this.rest = tensors.trailers.take().map(|trailers| Box::new(Rest::Trailers(trailers))),
                },
                Some(Rest::Pieces(flow)) => match ready!(flow.poll(cx, this.pulse.as_ref())) {
                    Some(piece) => this.data = piece?,
                    None => this.rest = None,
                },
            }
        }
        Poll::Ready(Some(Ok(Frame::data(this.take()))))
    }

    fn is_end_stream(&self) -> bool {
        let is_over = match self.rest.as_deref() {
            None => true,
            Some(Rest::Trailers(_)) => false,
            Some(Rest::Tensors(tensors)) => tensors.left.is_empty() && tensors.trailers.is_none(),
            Some(Rest::Pieces(flow)) => flow.pieces.is_over(),
        };
        is_over && self.data.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let left = match self.rest.as_deref() {
            None => Some(0),
            // No content-length beside trailers: clients of gRPC expect none.
            Some(Rest::Trailers(_)) => None,
            Some(Rest::Tensors(tensors)) if tensors.trailers.is_some() => None,
            Some(Rest::Tensors(tensors)) => Some(tensors.left.iter().map(|tensor| tensor.len() as u64).sum()),
            Some(Rest::Pieces(flow)) => flow.pieces.left(),
        };
        left.map(|left| SizeHint::with_exact(left + self.data.len() as u64)).unwrap_or_default()
    }
}

/// Large tensors, which nobody copies while the client keeps up.
struct Tensors {
    left: VecDeque<Bytes>,
    /// When the first part was taken.
    began: Option<Instant>,
    is_copied: bool,
    trailers: Option<HeaderMap>,
}

impl Tensors {
    /// The next part. Parts are small enough that a slow client is seen between them.
    fn next(&mut self) -> Option<Bytes> {
        if self.began.get_or_insert_with(Instant::now).elapsed() > PATIENCE && !self.is_copied {
            self.is_copied = true;
            for tensor in &mut self.left {
                *tensor = Bytes::copy_from_slice(tensor);
            }
        }
        let tensor = self.left.front_mut()?;
        let part = tensor.split_to(tensor.len().min(PART));
        if tensor.is_empty() {
            self.left.pop_front();
        }
        Some(part)
    }
}

/// Pieces, and what their connection is told of them.
struct Flow {
    pieces: Box<dyn Pieces>,
    /// On a connection of many answers: this one has nothing to send, which is no fault of the client.
    waiting: Option<Running>,
    alone: Option<Alone>,
}

impl Flow {
    fn poll(&mut self, cx: &mut Context<'_>, pulse: Option<&Arc<Pulse>>) -> Poll<Option<Result<Bytes, Broken>>> {
        let piece = self.pieces.poll_piece(cx);
        if piece.is_ready() {
            self.waiting = None;
        } else if self.waiting.is_none() {
            self.waiting = pulse.map(Running::new);
        }
        piece
    }
}

/// The one stream of a connection, until this is dropped.
struct Alone(Arc<Pulse>);

impl Alone {
    fn new(pulse: Arc<Pulse>) -> Self {
        pulse.begin_stream();
        Self(pulse)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.answered();
    }
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
