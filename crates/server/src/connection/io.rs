//! A connection with its timers.
//!
//! hyper's own header timer is created and dropped with every request. Here one `Sleep` per connection is armed when a
//! read or write has to wait, and compared with the true deadline when it fires: a request that comes in one piece
//! touches no timer.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use samovar_core::clock::{self, Nanos};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep};

use super::pulse::Pulse;

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timers {
    /// From a head's first byte to its last, and from the accept to the first byte.
    pub(crate) header: Nanos,
    /// Between two requests, and without progress while an answer is written.
    pub(crate) keep_alive: Nanos,
}

/// Pieces that are not longer together are copied, which costs less than to have the kernel gather them.
const SMALL: usize = 1 << 10;

/// `slices` as one, if they have room in `whole`.
fn gather<'a>(slices: &[io::IoSlice<'_>], whole: &'a mut [u8; SMALL]) -> Option<&'a [u8]> {
    let mut end = 0;
    for slice in slices {
        whole.get_mut(end..end + slice.len())?.copy_from_slice(slice);
        end += slice.len();
    }
    whole.get(..end)
}

/// A socket of either kind.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket that ends when a deadline of its connection passes.
pub(crate) struct TimedStream {
    stream: Stream,
    pulse: Arc<Pulse>,
    timers: Timers,
    sleep: Pin<Box<Sleep>>,
    /// When `sleep` ends.
    armed: Nanos,
    /// Read before, to be read again.
    replay: Bytes,
    /// Since when part of an answer waits for the client to read.
    write_blocked: Option<Nanos>,
    /// When lingering ends, once the write side is shut.
    linger_until: Option<Nanos>,
}

impl TimedStream {
    pub(crate) fn new(stream: Stream, pulse: Arc<Pulse>, timers: Timers) -> Self {
        let sleep = Box::pin(tokio::time::sleep(Duration::from_nanos(timers.header)));
        let armed = clock::now().saturating_add(timers.header);
        let (replay, write_blocked, linger_until) = (Bytes::new(), None, None);
        Self { stream, pulse, timers, sleep, armed, replay, write_blocked, linger_until }
    }

    /// Read `start` once more, before what follows it.
    pub(super) fn replay(&mut self, start: Bytes) {
        let rest = std::mem::replace(&mut self.replay, start);
        if !rest.is_empty() {
            self.replay = [&*self.replay, &rest].concat().into();
        }
    }

    /// Ready when `deadline` has passed; else the task is woken then, or earlier.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Nanos) -> Poll<()> {
        // A later deadline than the armed one waits until that fires; most never get there, and read no clock.
        if self.armed > deadline {
            self.arm(deadline);
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if clock::now() >= deadline {
                return Poll::Ready(());
            }
            self.arm(deadline);
        }
    }

    fn arm(&mut self, deadline: Nanos) {
        let left = deadline.saturating_sub(clock::now()).min(u64::MAX / 4);
        self.sleep.as_mut().reset(Instant::now() + Duration::from_nanos(left));
        self.armed = deadline;
    }

    /// Ready when a client has not read for too long.
    fn poll_stuck(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.write_blocked.get_or_insert_with(clock::now);
        if !self.pulse.streams() {
            return self.poll_expired(cx);
        }
        self.poll_deadline(cx, since.saturating_add(self.timers.keep_alive))
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.pulse.deadline(&self.timers) {
            Some(deadline) => self.poll_deadline(cx, deadline),
            None => Poll::Pending,
        }
    }

    fn stream(&mut self) -> Pin<&mut Stream> {
        Pin::new(&mut self.stream)
    }

    /// The end of a connection whose client does not speak: a word for one that had begun, silence for an idle one.
    fn give_up(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.pulse.has_begun_head() {
            return Ok(()); // reads as the end of the stream
        }
        if self.write_blocked.is_none() {
            let answer = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            let _best_effort = self.stream().poll_write(cx, answer);
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Ready to write; pending once for the first part of an answer that is one of many.
    ///
    /// So all of them are made before the first is written, and written one right after the other. With the work on the
    /// next answer between two writes, a client that reads many connections falls asleep meanwhile, and each write pays
    /// for waking it: 13 % of the engine's time at 32 connections.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pulse.take_company() { pin!(yield_now()).poll(cx) } else { Poll::Ready(()) }
    }

    fn after_write(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(_)) => {
                self.write_blocked = None;
                self.pulse.wrote();
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                ready!(self.poll_stuck(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        written
    }

    /// Read on, into nothing, until the client has read our answer and closed, or time is up.
    fn poll_linger(&mut self, cx: &mut Context<'_>, limit: Nanos) -> Poll<io::Result<()>> {
        let until = *self.linger_until.get_or_insert_with(|| clock::now().saturating_add(limit));
        let mut waste = [0; 4_096];
        loop {
            let mut buffer = ReadBuf::new(&mut waste);
            let read = self.stream().poll_read(cx, &mut buffer);
            match read {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && clock::now() < until => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return self.poll_deadline(cx, until).map(Ok),
            }
        }
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.replay.is_empty() {
            let length = this.replay.len().min(buffer.remaining());
            buffer.put_slice(&this.replay.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match this.stream().poll_read(cx, buffer) {
            Poll::Pending => {
                ready!(this.poll_expired(cx));
                Poll::Ready(this.give_up(cx))
            }
            read => {
                if buffer.filled().len() > before {
                    this.pulse.came();
                }
                read
            }
        }
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_turn(cx));
        let written = this.stream().poll_write(cx, bytes);
        this.after_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_turn(cx));
        let mut small = [0; SMALL];
        let written = match gather(slices, &mut small) {
            Some(whole) => this.stream().poll_write(cx, whole),
            None => this.stream().poll_write_vectored(cx, slices),
        };
        this.after_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // hyper ends each round with a flush, but reads again only after data came: the timer of an idle connection
        // is armed here. The read that follows a wake sees that it has passed.
        if this.linger_until.is_none() && this.poll_expired(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        this.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger_until.is_none() {
            ready!(this.stream().poll_shutdown(cx))?;
        }
        match this.pulse.lingers() {
            Some(limit) => this.poll_linger(cx, limit),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// Either kind's own method.
macro_rules! delegate {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Stream::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn connected(pulse: &Arc<Pulse>) -> (TcpStream, TimedStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), async { listener.accept().await });
        let timers = Timers { header: 60_000_000_000, keep_alive: 60_000_000_000 };
        (client.unwrap(), TimedStream::new(Stream::Tcp(accepted.unwrap().0), Arc::clone(pulse), timers))
    }

    #[tokio::test]
    async fn an_answer_in_company_waits_for_one_turn() {
        let pulse = Pulse::new(None);
        let (mut client, mut stream) = connected(&pulse).await;
        for (has_company, wanted) in [(true, 2), (false, 1), (true, 2)] {
            pulse.begin();
            if has_company {
                pulse.keep_company();
            }
            pulse.answered();
            let mut polls = 0;
            let mut write = async |bytes: &[u8]| {
                poll_fn(|cx| {
                    polls += 1;
                    Pin::new(&mut stream).poll_write(cx, bytes)
                })
                .await
                .unwrap()
            };
            assert_eq!(write(b"one").await + write(b"two").await, 6);
            assert_eq!(polls, wanted + 1, "{has_company}"); // the second part goes at once
        }
        let mut read = [0; 18];
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"onetwoonetwoonetwo");
    }

    #[tokio::test]
    async fn pieces_arrive_whole_whatever_their_length() {
        let (mut client, mut stream) = connected(&Pulse::new(None)).await;
        for length in [0, 1, SMALL / 2, SMALL / 2 + 1, SMALL, 3 * SMALL] {
            let (first, second) = (vec![b'a'; length], vec![b'b'; length]);
            let slices = [io::IoSlice::new(&first), io::IoSlice::new(&[]), io::IoSlice::new(&second)];
            let written = stream.write_vectored(&slices).await.unwrap();
            assert_eq!(written, 2 * length);
            let mut read = vec![0; written];
            client.read_exact(&mut read).await.unwrap();
            assert_eq!(read, [first, second].concat());
        }
    }
}
