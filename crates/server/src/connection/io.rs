//! A connection with its timers.
//!
//! hyper's own header timer is created and dropped with every request. Here one `Sleep` per connection is armed when a
//! read or write has to wait, and compared with the true deadline when it fires: a request that comes in one piece
//! touches no timer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use samovar_core::clock::{self, Nanos};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
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

/// What tokio's timer rounds to.
const TIMER_TICK: Duration = Duration::from_millis(1);

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
        Self { stream, pulse, timers, sleep, replay: Bytes::new(), write_blocked: None, linger_until: None }
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
        loop {
            let now = clock::now();
            if now >= deadline {
                return Poll::Ready(());
            }
            let due = Instant::now() + Duration::from_nanos((deadline - now).min(u64::MAX / 4));
            // A later deadline than the armed one waits until that fires; most never get there.
            if self.sleep.deadline() > due + TIMER_TICK {
                self.sleep.as_mut().reset(due);
            }
            ready!(self.sleep.as_mut().poll(cx));
            self.sleep.as_mut().reset(due);
        }
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
        let written = this.stream().poll_write(cx, bytes);
        this.after_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.stream().poll_write_vectored(cx, slices);
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
