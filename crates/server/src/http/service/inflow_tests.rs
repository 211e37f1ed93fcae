//! Bodies that a test sends, with a clock that jumps.

use std::convert::Infallible;
use std::time::Duration;

use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

use super::super::fake;
use super::*;

struct Parts {
    parts: mpsc::UnboundedReceiver<Bytes>,
    announced: Option<u64>,
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.parts.poll_recv(cx).map(|part| part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_closed() && self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map(SizeHint::with_exact).unwrap_or_default()
    }
}

fn body(announced: Option<u64>) -> (Inflow<Parts>, mpsc::UnboundedSender<Bytes>) {
    let (sender, parts) = mpsc::unbounded_channel();
    (Inflow::new(Parts { parts, announced }, Pulse::new(None)), sender)
}

async fn take(inflow: &mut Inflow<Parts>, max_bytes: u64) -> Result<(Bytes, bool), Code> {
    let taken = inflow.take(None, &BodyLimits::new(max_bytes), |_| Ok(())).await;
    taken.map_err(|error| error.code)
}

const LIMIT: u64 = 64 << 20;

#[tokio::test(start_paused = true)]
async fn a_short_body_is_waited_for() {
    let (mut inflow, sender) = body(Some(4));
    let ((taken, ()), pulse) = (
        tokio::join!(take(&mut inflow, LIMIT), async {
            sender.send("ab".into()).unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            sender.send("cd".into()).unwrap();
            drop(sender);
        }),
        Arc::clone(&inflow.pulse),
    );
    assert_eq!(taken, Ok(("abcd".into(), true)));
    assert_eq!(inflow.bytes().load(Relaxed), 4);
    drop(inflow);
    assert!(pulse.lingers().is_none());
}

#[tokio::test(start_paused = true)]
async fn of_an_endless_body_only_what_is_there_is_taken() {
    let (mut inflow, sender) = body(None);
    assert_eq!(take(&mut inflow, LIMIT).await, Ok((Bytes::new(), false)));
    sender.send("ab".into()).unwrap();
    assert_eq!(take(&mut inflow, LIMIT).await, Ok(("ab".into(), false)));
    sender.send("c".into()).unwrap();
    drop(sender);
    assert_eq!(take(&mut inflow, LIMIT).await, Ok(("c".into(), true)), "it came to its end");
    assert_eq!(take(&mut inflow, LIMIT).await, Ok((Bytes::new(), true)));
}

#[tokio::test(start_paused = true)]
async fn a_long_body_is_not_waited_for_and_too_long_a_one_is_refused() {
    let (mut inflow, _sender) = body(Some(MAX_WHOLE + 1));
    assert_eq!(take(&mut inflow, LIMIT).await, Ok((Bytes::new(), false)));
    assert_eq!(take(&mut inflow, MAX_WHOLE).await, Err(Code::PayloadTooLarge));
    let pulse = Arc::clone(&inflow.pulse);
    drop(inflow);
    assert!(pulse.lingers().is_some(), "its client may be sending");
}

#[tokio::test(start_paused = true)]
async fn what_follows_goes_on_in_pieces_at_the_pace_of_the_worker() {
    let (mut inflow, sender) = body(None);
    let (sink, mut worker) = fake::sink();
    inflow.pump(sink, BodyLimits::new(LIMIT));
    for _ in 0..3 {
        sender.send(vec![7; PIECE + 1].into()).unwrap();
    }
    drop(sender);
    for length in [PIECE, 1, PIECE, 1, PIECE, 1] {
        // An hour per piece: none of it is the client's.
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(worker.receive().await.unwrap().len(), length);
    }
    assert_eq!(worker.receive().await, None);
    tokio::task::yield_now().await;
    assert!(!inflow.end(false).await);
    assert_eq!(inflow.bytes().load(Relaxed), 3 * (PIECE as u64 + 1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_and_a_large_body_are_faults() {
    let (mut inflow, sender) = body(None);
    let (sink, _worker) = fake::sink();
    inflow.pump(sink, BodyLimits::new(LIMIT));
    assert_eq!(inflow.fault().await.code, Code::BodyTimeout);
    drop(sender);
    let (mut inflow, sender) = body(None);
    let (sink, mut worker) = fake::sink();
    inflow.pump(sink, BodyLimits::new(3));
    sender.send("ab".into()).unwrap();
    assert_eq!(worker.receive().await.unwrap(), "ab");
    sender.send("cd".into()).unwrap();
    assert_eq!(inflow.fault().await.code, Code::PayloadTooLarge);
    assert!(inflow.end(false).await);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_wants_no_more_is_no_fault() {
    let (mut inflow, sender) = body(None);
    let (sink, mut worker) = fake::sink();
    inflow.pump(sink, BodyLimits::new(LIMIT));
    worker.refuse_uploads();
    sender.send("ab".into()).unwrap();
    let fault = tokio::time::timeout(Duration::from_secs(60), inflow.fault()).await;
    assert!(fault.is_err());
    assert!(inflow.end(false).await, "nobody reads the rest");
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_stops_reading() {
    let (mut inflow, sender) = body(None);
    let (sink, _worker) = fake::sink();
    inflow.pump(sink, BodyLimits::new(LIMIT));
    drop(inflow);
    sender.closed().await;
}
