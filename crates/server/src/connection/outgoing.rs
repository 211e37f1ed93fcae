//! The body of an answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::io::Pulse;

/// Most that HTTP/2 gets at once. What it has is out of our sight until it is sent, so this much must leave within the
/// time that a connection may stand still.
const PART: usize = 256 << 10;

/// Bytes, and trailers where the protocol has them.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    data: Bytes,
    trailers: Option<Box<HeaderMap>>,
    /// Told of each part that is taken, where a connection carries many answers.
    pulse: Option<Arc<Pulse>>,
}

impl Outgoing {
    /// `data` and nothing behind it.
    pub(crate) fn new(data: Bytes) -> Self {
        Self { data, trailers: None, pulse: None }
    }

    /// `data`, then `trailers`.
    pub(crate) fn with_trailers(data: Bytes, trailers: HeaderMap) -> Self {
        Self { trailers: Some(Box::new(trailers)), ..Self::new(data) }
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
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if !this.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(this.take()))));
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(*trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.trailers {
            // No content-length beside trailers: clients of gRPC expect none.
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.data.len() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::header::{ETAG, HeaderValue};

    use super::*;

    #[tokio::test]
    async fn trailers_follow_the_data() {
        let trailers = HeaderMap::from_iter([(ETAG, HeaderValue::from_static("x"))]);
        let mut body = Outgoing::with_trailers(Bytes::from_static(b"ab"), trailers.clone());
        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
        assert!(!body.is_end_stream());
        assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers);
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }

    #[tokio::test]
    async fn data_goes_whole_or_in_parts() {
        let data = Bytes::from(vec![7; PART + 1]);
        let mut whole = Outgoing::new(data.clone());
        assert_eq!(whole.size_hint().exact(), Some(PART as u64 + 1));
        assert_eq!(whole.frame().await.unwrap().unwrap().into_data().unwrap().as_ptr(), data.as_ptr());
        assert!(whole.is_end_stream());
        let mut parts = Outgoing::new(data).in_parts(Pulse::new());
        for length in [PART, 1] {
            assert_eq!(parts.frame().await.unwrap().unwrap().into_data().unwrap().len(), length);
        }
        assert!(parts.is_end_stream());
    }
}
