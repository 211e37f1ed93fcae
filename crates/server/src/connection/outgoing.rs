//! The body of an answer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::pulse::{Pulse, Running};

/// Most that HTTP/2 gets at once. What it has is out of our sight until it is sent, so this much must leave within the
/// time that a connection may stand still.
const PART: usize = 256 << 10;

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
    Pieces(Flow),
}

impl Outgoing {
    /// `data` and nothing behind it.
    pub(crate) fn new(data: Bytes) -> Self {
        Self { data, rest: None, pulse: None }
    }

    /// `data`, then `trailers`.
    pub(crate) fn with_trailers(data: Bytes, trailers: HeaderMap) -> Self {
        Self { rest: Some(Box::new(Rest::Trailers(trailers))), ..Self::new(data) }
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
            let Some(Rest::Pieces(flow)) = this.rest.as_deref_mut() else {
                let Some(Rest::Trailers(trailers)) = this.rest.take().map(|rest| *rest) else {
                    return Poll::Ready(None);
                };
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            };
            match ready!(flow.poll(cx, this.pulse.as_ref())) {
                Some(piece) => this.data = piece?,
                None => this.rest = None,
            }
        }
        Poll::Ready(Some(Ok(Frame::data(this.take()))))
    }

    fn is_end_stream(&self) -> bool {
        let is_over = match self.rest.as_deref() {
            None => true,
            Some(Rest::Trailers(_)) => false,
            Some(Rest::Pieces(flow)) => flow.pieces.is_over(),
        };
        is_over && self.data.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let left = match self.rest.as_deref() {
            None => Some(0),
            // No content-length beside trailers: clients of gRPC expect none.
            Some(Rest::Trailers(_)) => None,
            Some(Rest::Pieces(flow)) => flow.pieces.left(),
        };
        left.map(|left| SizeHint::with_exact(left + self.data.len() as u64)).unwrap_or_default()
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
