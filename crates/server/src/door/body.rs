//! Reading a request's body within its limits.

use std::future::{Future, poll_fn};
use std::mem::take;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use samovar_core::error::{Code, Error};
use tokio::time::{Instant, Sleep};

use super::invalid;
use crate::inflate::{Coding, Inflater};

/// A buffer starts no larger than this, whatever length the client announces. A picture as JSON is 3 MB; what is never
/// written takes no memory.
const MAX_FIRST_BUFFER: u64 = 4 << 20;
/// Where a body may stay in parts, those of this length are not copied. Each may lie in a buffer of 400 KiB of its own.
const MIN_PART: usize = 128 << 10;
/// At most this much of a refused body is read to keep the connection.
const MAX_DRAIN: usize = 64 << 10;

/// What a body may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    pub(crate) max_bytes: u64,
    /// No rate is asked of the first moments.
    pub(crate) grace: Duration,
    pub(crate) min_bytes_per_s: u64,
}

impl BodyLimits {
    /// At least 1 KiB/s after 10 s.
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, grace: Duration::from_secs(10), min_bytes_per_s: 1 << 10 }
    }

    /// What is said to a body of `got` bytes, where that is known.
    pub(crate) fn too_large(&self, got: Option<u64>) -> Error {
        let got = got.map(|got| format!(" of {got} bytes")).unwrap_or_default();
        let message = format!("the body{got} is larger than the limit of {} bytes", self.max_bytes);
        Error::new(Code::PayloadTooLarge, message)
    }

    fn time_for(&self, bytes: u64) -> Duration {
        self.grace + Duration::from_nanos(bytes.saturating_mul(1_000_000_000 / self.min_bytes_per_s.max(1)))
    }
}

/// Read all of `body`, inflating what `coding` says; `grow` takes room for each part that has come. A body of one part
/// that is not compressed is not copied.
///
/// Errors with `payload_too_large` (before anything is read where the length is announced), `body_timeout`,
/// `invalid_request` where the body ends early or does not inflate, and what `grow` says.
pub(crate) async fn read<B>(
    body: &mut B,
    coding: Option<Coding>,
    limits: &BodyLimits,
    mut grow: impl FnMut(u64) -> Result<(), Error>,
) -> Result<Bytes, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = announced(body, limits)?;
    if let Some(coding) = coding {
        // Boxed: no other body should carry its size.
        return Box::pin(inflate(body, Inflater::new(coding, limits.max_bytes), limits, grow)).await;
    }
    let mut pace = Pace::new();
    let Some(first) = pace.next_part(body, limits, &mut grow).await? else { return Ok(Bytes::new()) };
    if body.is_end_stream() {
        return Ok(first);
    }
    let Some(second) = pace.next_part(body, limits, &mut grow).await? else { return Ok(first) };
    let mut whole = Vec::with_capacity(first_capacity(announced, first.len() + second.len()));
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    drop((first, second));
    while !body.is_end_stream()
        && let Some(part) = pace.next_part(body, limits, &mut grow).await?
    {
        reserve(&mut whole, part.len(), announced);
        whole.extend_from_slice(&part);
    }
    Ok(Bytes::from(whole))
}

/// Read all of `body`, which is not compressed, as [`read`] does, and leave long parts as they come.
pub(crate) async fn read_parts<B>(
    body: &mut B,
    limits: &BodyLimits,
    mut grow: impl FnMut(u64) -> Result<(), Error>,
) -> Result<Vec<Bytes>, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    announced(body, limits)?;
    let (mut pace, mut parts, mut short) = (Pace::new(), Vec::new(), Vec::new());
    while let Some(part) = pace.next_part(body, limits, &mut grow).await? {
        let is_long = part.len() >= MIN_PART;
        if !is_long {
            short.extend_from_slice(&part);
        }
        if !short.is_empty() && (is_long || short.len() >= MIN_PART) {
            parts.push(Bytes::from(take(&mut short)));
        }
        if is_long {
            parts.push(part);
        }
    }
    if !short.is_empty() {
        parts.push(Bytes::from(short));
    }
    Ok(parts)
}

/// The length that the client announces, if any; more than may be is refused before anything is read.
fn announced<B: Body>(body: &B, limits: &BodyLimits) -> Result<Option<u64>, Error> {
    let announced = body.size_hint().exact();
    if announced.is_some_and(|announced| announced > limits.max_bytes) {
        return Err(limits.too_large(announced));
    }
    Ok(announced)
}

/// Only what comes out takes room: the compressed parts go as they come.
async fn inflate<B>(
    body: &mut B,
    mut inflater: Inflater,
    limits: &BodyLimits,
    mut grow: impl FnMut(u64) -> Result<(), Error>,
) -> Result<Bytes, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut pace = Pace::new();
    while let Some(part) = pace.next_part(body, limits, &mut |_| Ok(())).await? {
        inflater.push(&part, &mut grow).await?;
    }
    inflater.finish()
}

/// How much a buffer starts with, `come` bytes being there.
pub(crate) fn first_capacity(announced: Option<u64>, come: usize) -> usize {
    let announced = announced.unwrap_or(0).min(MAX_FIRST_BUFFER);
    usize::try_from(announced).unwrap_or(0).max(come)
}

/// Room for `more`: doubled, but never beyond the announced length.
pub(crate) fn reserve(whole: &mut Vec<u8>, more: usize, announced: Option<u64>) {
    if whole.capacity() - whole.len() >= more {
        return;
    }
    let left =
        announced.and_then(|length| usize::try_from(length).ok()).map(|length| length.saturating_sub(whole.len()));
    let wanted = whole.len().min(left.unwrap_or(usize::MAX)).max(more);
    whole.reserve_exact(wanted);
}

/// The time that a body has taken.
pub(crate) struct Pace {
    /// Set by the first wait: a body that came with its head has no clock.
    started: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    bytes: u64,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { started: None, sleep: None, bytes: 0 }
    }

    /// The next part that is not empty, counted.
    pub(crate) async fn next_part<B: Body<Data = Bytes> + Unpin>(
        &mut self,
        body: &mut B,
        limits: &BodyLimits,
        grow: &mut impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(Ok(frame)),
                Poll::Pending => self.poll_late(cx, limits).map(|()| Err(self.too_slow())),
            });
            let part = match frame.await? {
                None => return Ok(None),
                Some(Err(_)) => return Err(invalid("the body ends before its announced end")),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            self.bytes += part.len() as u64;
            if self.bytes > limits.max_bytes {
                return Err(limits.too_large(None));
            }
            if !part.is_empty() {
                grow(part.len() as u64)?;
                return Ok(Some(part));
            }
        }
    }

    /// `time` passed in which the body was not wanted.
    pub(crate) fn excuse(&mut self, time: Duration) {
        if let Some(started) = &mut self.started {
            *started += time;
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>, limits: &BodyLimits) -> Poll<()> {
        let started = *self.started.get_or_insert_with(Instant::now);
        let due = started + limits.time_for(self.bytes);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }

    fn too_slow(&self) -> Error {
        let message = format!("the body arrives too slowly: {} bytes so far; send at least 1 KiB/s", self.bytes);
        Error::new(Code::BodyTimeout, message)
    }
}

/// Read the rest of a refused body if it is there already and small, so that the connection can be kept.
pub(crate) async fn drain<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> bool {
    let mut left = MAX_DRAIN;
    poll_fn(|cx| {
        loop {
            if body.is_end_stream() {
                return Poll::Ready(true);
            }
            let length = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
                Poll::Ready(Some(Err(_))) | Poll::Pending => return Poll::Ready(false),
            };
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return Poll::Ready(false),
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use hyper::body::{Frame, SizeHint};

    use super::*;

    /// Parts that come after a wait each.
    struct Parts {
        parts: VecDeque<(Duration, Bytes)>,
        announced: Option<u64>,
        sleep: Option<Pin<Box<Sleep>>>,
    }

    impl Parts {
        fn new(announced: Option<u64>, parts: &[(u64, &'static [u8])]) -> Self {
            let parts = parts.iter().map(|(wait, part)| (Duration::from_secs(*wait), Bytes::from_static(part)));
            Self { parts: parts.collect(), announced, sleep: None }
        }
    }

    impl Body for Parts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some((wait, _)) = self.parts.front().cloned() else { return Poll::Ready(None) };
            if !wait.is_zero() {
                let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            Poll::Ready(self.parts.pop_front().map(|(_, part)| Ok(Frame::data(part))))
        }

        fn is_end_stream(&self) -> bool {
            self.announced.is_some() && self.parts.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            self.announced.map(SizeHint::with_exact).unwrap_or_default()
        }
    }

    async fn read_parts(body: &mut Parts, max_bytes: u64) -> Result<(Bytes, u64), Code> {
        let mut room = 0;
        let grow = |bytes| {
            room += bytes;
            if room > 1_000_000 { Err(Error::new(Code::Overloaded, "")) } else { Ok(()) }
        };
        let bytes = read(body, None, &BodyLimits::new(max_bytes), grow).await.map_err(|error| error.code)?;
        Ok((bytes, room))
    }

    #[tokio::test(start_paused = true)]
    async fn one_part_is_not_copied() {
        let part: &'static [u8] = b"whole";
        for announced in [Some(5), None] {
            let (bytes, room) = read_parts(&mut Parts::new(announced, &[(0, part)]), 5).await.unwrap();
            assert_eq!((bytes.as_ptr(), room), (part.as_ptr(), 5));
        }
        let (bytes, _) = read_parts(&mut Parts::new(None, &[]), 5).await.unwrap();
        assert!(bytes.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn parts_are_joined_and_counted() {
        let parts: &[(u64, &'static [u8])] = &[(0, b"ab"), (1, b""), (1, b"cd"), (0, b"e")];
        for announced in [Some(5), None] {
            let (bytes, room) = read_parts(&mut Parts::new(announced, parts), 5).await.unwrap();
            assert_eq!((&bytes[..], room), (&b"abcde"[..], 5));
            assert_eq!(read_parts(&mut Parts::new(None, parts), 4).await.unwrap_err(), Code::PayloadTooLarge);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn long_parts_stay_and_short_ones_are_joined() {
        static LONG: [u8; MIN_PART] = [7; MIN_PART];
        let parts: &[(u64, &'static [u8])] =
            &[(0, b"ab"), (1, b"c"), (0, &LONG), (1, &LONG), (0, b"d"), (0, &LONG[1..])];
        let total = 3 + 3 * MIN_PART as u64;
        let read = async |max_bytes| {
            let mut body = Parts::new(Some(total), parts);
            read_parts_of(&mut body, max_bytes).await
        };
        let got = read(total).await.unwrap();
        assert_eq!(got.iter().map(Bytes::len).collect::<Vec<_>>(), [3, MIN_PART, MIN_PART, MIN_PART]);
        assert_eq!((got[1].as_ptr(), got[2].as_ptr()), (LONG.as_ptr(), LONG.as_ptr()));
        assert_eq!(read(total - 1).await.unwrap_err(), Code::PayloadTooLarge);
        assert_eq!(read_parts_of(&mut Parts::new(Some(0), &[]), 9).await.unwrap(), Vec::<Bytes>::new());
    }

    async fn read_parts_of(body: &mut Parts, max_bytes: u64) -> Result<Vec<Bytes>, Code> {
        super::read_parts(body, &BodyLimits::new(max_bytes), |_| Ok(())).await.map_err(|error| error.code)
    }

    #[tokio::test(start_paused = true)]
    async fn an_announced_excess_is_refused_unread() {
        let mut body = Parts::new(Some(6), &[(0, b"abcdef")]);
        assert_eq!(read_parts(&mut body, 5).await.unwrap_err(), Code::PayloadTooLarge);
        assert_eq!(body.parts.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_bodies_time_out_and_steady_ones_do_not() {
        static KIB: [u8; 1_024] = [0; 1_024];
        let steady = vec![(1, &KIB[..]); 60];
        assert!(read_parts(&mut Parts::new(None, &steady), 1 << 20).await.is_ok());
        let slow = vec![(2, &KIB[..]); 60];
        assert_eq!(read_parts(&mut Parts::new(None, &slow), 1 << 20).await.unwrap_err(), Code::BodyTimeout);
        let start = Instant::now();
        let stuck = read_parts(&mut Parts::new(Some(2), &[(0, b"a"), (9_999, b"b")]), 9).await;
        assert_eq!(stuck.unwrap_err(), Code::BodyTimeout);
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn room_that_is_not_there_is_overload() {
        static MEGABYTE: [u8; 600_000] = [0; 600_000];
        let parts = vec![(0, &MEGABYTE[..]); 2];
        assert_eq!(read_parts(&mut Parts::new(None, &parts), 1 << 30).await.unwrap_err(), Code::Overloaded);
    }

    #[tokio::test(start_paused = true)]
    async fn compressed_bodies_are_inflated_and_counted_as_such() {
        // `hello` five times, as zlib.
        static PACKED: &[u8] = b"\x78\x9c\xcb\x48\xcd\xc9\xc9\xcf\xc0\x42\x00\x00\x86\xc4\x0a\x65";
        let parts: &[(u64, &'static [u8])] = &[(0, &PACKED[..3]), (1, &PACKED[3..])];
        let read_packed = async |max_bytes| {
            let mut room = 0;
            let grow = |bytes| {
                room += bytes;
                Ok(())
            };
            let limits = BodyLimits::new(max_bytes);
            let bytes = read(&mut Parts::new(None, parts), Some(Coding::Deflate), &limits, grow).await;
            bytes.map(|bytes| (bytes, room)).map_err(|error| error.code)
        };
        assert_eq!(read_packed(25).await.unwrap(), (Bytes::from("hello".repeat(5)), 25));
        assert_eq!(read_packed(24).await.unwrap_err(), Code::PayloadTooLarge);
        assert_eq!(read_packed(9).await.unwrap_err(), Code::PayloadTooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn small_rests_are_drained() {
        static PART: [u8; 40_000] = [0; 40_000];
        assert!(drain(&mut Parts::new(None, &[(0, b"ab"), (0, b"c")])).await);
        assert!(!drain(&mut Parts::new(None, &[(0, b"ab"), (1, b"c")])).await);
        assert!(!drain(&mut Parts::new(None, &[(0, &PART), (0, &PART)])).await);
    }

    #[test]
    fn buffers_grow_by_what_has_come() {
        assert_eq!(first_capacity(Some(1 << 40), 10), 4 << 20);
        assert_eq!(first_capacity(Some(100), 10), 100);
        assert_eq!(first_capacity(None, 10), 10);
        let mut whole = vec![0; 1_000];
        reserve(&mut whole, 10, Some(1_500));
        assert!(whole.capacity() <= 1_500);
        reserve(&mut whole, 2_000, None);
        assert!(whole.capacity() >= 3_000);
    }
}
