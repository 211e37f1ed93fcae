//! Bodies as hyper takes them.

use std::collections::VecDeque;

use http_body_util::BodyExt;
use hyper::header::{ETAG, HeaderValue};

use super::*;

#[tokio::test]
async fn trailers_follow_the_data() {
    let trailers = HeaderMap::from_iter([(ETAG, HeaderValue::from_static("x"))]);
    let mut body = Outgoing::with_tensors(Bytes::from_static(b"ab"), Vec::new(), Some(trailers.clone()));
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
    let mut parts = Outgoing::new(data).in_parts(Pulse::new(None));
    for length in [PART, 1] {
        assert_eq!(parts.frame().await.unwrap().unwrap().into_data().unwrap().len(), length);
    }
    assert!(parts.is_end_stream());
}

#[tokio::test]
async fn tensors_follow_uncopied_in_parts() {
    let tensors = [Bytes::from(vec![7; PART + 1]), Bytes::from(vec![8; 3])];
    let mut body = Outgoing::with_tensors(Bytes::from_static(b"{}"), tensors.to_vec(), None);
    assert_eq!(body.size_hint().exact(), Some(PART as u64 + 6));
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "{}");
    for (length, place) in [(PART, tensors[0].as_ptr()), (1, tensors[0][PART..].as_ptr()), (3, tensors[1].as_ptr())] {
        assert!(!body.is_end_stream());
        let part = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((part.len(), part.as_ptr()), (length, place));
    }
    assert!(body.is_end_stream() && body.frame().await.is_none());
}

#[tokio::test]
async fn a_slow_client_gets_copies_of_what_it_has_not_taken() {
    let tensor = Bytes::from((0..2 * PART + 1).map(|number| number as u8).collect::<Vec<_>>());
    let trailers = HeaderMap::from_iter([(ETAG, HeaderValue::from_static("x"))]);
    let mut body = Outgoing::with_tensors(Bytes::new(), vec![tensor.clone()], Some(trailers.clone()));
    assert_eq!(body.size_hint().exact(), None);
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    if let Some(Rest::Tensors(tensors)) = body.rest.as_deref_mut() {
        tensors.began = Instant::now().checked_sub(2 * PATIENCE);
    }
    let second = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_ne!(second.as_ptr(), tensor[PART..].as_ptr());
    let third = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!([first, second, third].concat(), tensor);
    assert!(!body.is_end_stream());
    assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers);
    assert!(body.is_end_stream());
}

/// Pieces that are there, waited for (`None`) once each, or a break.
#[derive(Default)]
struct Script(VecDeque<Option<Result<Bytes, Broken>>>);

impl Script {
    fn boxed(pieces: impl IntoIterator<Item = Option<&'static str>>) -> Box<Self> {
        Box::new(Self(
            pieces.into_iter().map(|piece| piece.map(|piece| Ok(Bytes::from_static(piece.as_bytes())))).collect(),
        ))
    }
}

impl Pieces for Script {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        match self.0.pop_front() {
            Some(None) => Poll::Pending,
            Some(piece) => Poll::Ready(piece),
            None => Poll::Ready(None),
        }
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn left(&self) -> Option<u64> {
        None
    }
}

fn poll(body: &mut Outgoing) -> Poll<Option<Result<Bytes, Broken>>> {
    let frame = Pin::new(body).poll_frame(&mut Context::from_waker(std::task::Waker::noop()));
    frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())))
}

#[test]
fn pieces_keep_their_order_and_empty_ones_are_nothing() {
    let mut body = Outgoing::in_pieces(Script::boxed([Some("a"), Some(""), None, Some("b")]));
    assert_eq!(body.size_hint().exact(), None);
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(piece))) if piece == "a"));
    assert!(poll(&mut body).is_pending());
    assert!(!body.is_end_stream());
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(piece))) if piece == "b"));
    assert!(body.is_end_stream());
    assert!(matches!(poll(&mut body), Poll::Ready(None)));
}

#[test]
fn a_break_is_an_error_and_not_an_end() {
    let mut body = Outgoing::in_pieces(Box::new(Script(VecDeque::from([Some(Err(Broken))]))));
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(Broken)))));
}

#[test]
fn a_stream_that_waits_for_its_worker_keeps_a_shared_connection() {
    let pulse = Pulse::new(None);
    let mut body = Outgoing::in_pieces(Script::boxed([Some("a"), None, Some("b")])).in_parts(Arc::clone(&pulse));
    assert!(poll(&mut body).is_ready());
    assert!(pulse.idle_since().is_some(), "the client has something to read");
    assert!(poll(&mut body).is_pending());
    assert!(pulse.idle_since().is_none(), "the client has nothing to read");
    assert!(poll(&mut body).is_ready());
    assert!(pulse.idle_since().is_some());
}

#[test]
fn a_stream_alone_has_no_timer_until_it_ends() {
    let timers = super::super::io::Timers { header: 1, keep_alive: 1 };
    let pulse = Pulse::new(None);
    pulse.begin();
    let body = Outgoing::in_pieces(Script::boxed([])).alone(Arc::clone(&pulse));
    assert_eq!(pulse.deadline(&timers), None);
    drop(body);
    assert!(pulse.deadline(&timers).is_some());
    drop(Outgoing::new(Bytes::new()).alone(Arc::clone(&pulse)));
    assert!(pulse.deadline(&timers).is_some());
}

#[test]
fn a_body_is_small() {
    assert!(size_of::<Outgoing>() <= 48, "it is moved several times per request");
}
