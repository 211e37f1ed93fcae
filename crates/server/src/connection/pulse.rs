//! What a connection is doing, as its IO and its requests tell each other.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use samovar_core::clock::{self, Nanos};

use super::io::{TimedStream, Timers};
use super::serve::StopSignal;

/// How long a client that still sends may do so after our last word, so that it reads the answer before a reset.
const LINGER: Duration = Duration::from_secs(5);
/// The same of one that has nothing left to send but what crossed our end on its way.
const BRIEF_LINGER: Duration = Duration::from_millis(250);

const FRESH: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;
const ANSWERED: u8 = 3;
const STREAMING: u8 = 4;
const MANY: u8 = 5;

/// What goes on with a socket that no longer speaks HTTP.
pub(crate) struct Tunnel(Box<dyn FnOnce(TimedStream, StopSignal) -> Run + Send>);

type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Tunnel {
    /// `run` gets the socket when the answer that switches protocols has been written, and is told of a stop.
    pub(crate) fn new<F: Future<Output = ()> + Send + 'static>(
        run: impl FnOnce(TimedStream, StopSignal) -> F + Send + 'static,
    ) -> Self {
        Self(Box::new(|stream, stop| Box::pin(run(stream, stop))))
    }

    pub(super) async fn run(self, stream: TimedStream, stop: StopSignal) {
        self.0(stream, stop).await;
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tunnel")
    }
}

/// What a connection is doing; shared by its IO and its requests.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// FRESH: nothing came yet. HEAD: part of a head. BUSY: a request runs. ANSWERED: writing, or idle. STREAMING: the
    /// answer comes in pieces, and the next one may take its time. MANY: HTTP/2, whose requests are counted instead;
    /// [`Self::idle_since`] says when it may end.
    phase: AtomicU8,
    /// Since when, or since the last progress in writing.
    since: AtomicU64,
    /// Requests that run now, of a connection that carries MANY.
    running: AtomicUsize,
    /// The answer to be written is one of many.
    has_company: AtomicBool,
    /// How long the client may still be sending when the connection is closed, in nanoseconds.
    linger: AtomicU64,
    /// Who is on the other end; on a Unix socket nobody has an address.
    peer: Option<SocketAddr>,
    /// Left by the request whose answer switches protocols.
    tunnel: Mutex<Option<Tunnel>>,
}

impl Pulse {
    pub(crate) fn new(peer: Option<SocketAddr>) -> Arc<Self> {
        let since = AtomicU64::new(clock::now());
        Arc::new(Self {
            phase: AtomicU8::new(FRESH),
            since,
            running: AtomicUsize::new(0),
            has_company: AtomicBool::new(false),
            linger: AtomicU64::new(0),
            peer,
            tunnel: Mutex::default(),
        })
    }

    /// Who is on the other end.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// A request's head is there; returns when its first byte was.
    pub(crate) fn begin(&self) -> Nanos {
        if self.phase.load(Relaxed) == MANY {
            return clock::now(); // heads are frames, whose first bytes nobody sees
        }
        match self.phase.swap(BUSY, Relaxed) {
            HEAD => self.since.load(Relaxed),
            _ => clock::now(), // pipelined: it came while another request ran
        }
    }

    /// The answer to the one request that runs comes at the same moment as those to others.
    pub(crate) fn keep_company(&self) {
        self.has_company.store(self.phase.load(Relaxed) == BUSY, Relaxed);
    }

    /// The answer is there to be written.
    pub(super) fn answered(&self) {
        self.since.store(clock::now(), Relaxed);
        self.phase.store(ANSWERED, Relaxed);
    }

    /// From now on nothing but a client that does not read ends the connection.
    pub(super) fn begin_stream(&self) {
        self.phase.store(STREAMING, Relaxed);
    }

    /// A body stays unread: give the client time to read the answer before the connection is reset.
    pub(crate) fn linger(&self) {
        self.linger.store(clock::nanos(LINGER), Relaxed);
    }

    /// The connection is closed although its client may not know yet (RFC 9112, 9.6): what it sends meanwhile is no
    /// reason for a reset.
    pub(crate) fn linger_briefly(&self) {
        self.linger.fetch_max(clock::nanos(BRIEF_LINGER), Relaxed);
    }

    /// How long to read on after the last word; not at all if nothing is to be expected.
    pub(crate) fn lingers(&self) -> Option<Nanos> {
        Some(self.linger.load(Relaxed)).filter(|linger| *linger > 0)
    }

    /// Give the socket to `tunnel` once the answer to this request is written; it must be 101.
    pub(crate) fn switch(&self, tunnel: Tunnel) {
        *self.tunnel.lock() = Some(tunnel);
    }

    pub(super) fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel.lock().take()
    }

    /// From now on the connection carries many requests at a time.
    pub(super) fn carry_many(&self) {
        self.phase.store(MANY, Relaxed);
        self.progressed();
    }

    /// Part of an answer is on its way.
    pub(super) fn progressed(&self) {
        self.since.store(clock::now(), Relaxed);
    }

    /// Since when no request has run and no answer has moved; `None` while one runs.
    pub(super) fn idle_since(&self) -> Option<Nanos> {
        (self.running.load(Relaxed) == 0).then(|| self.since.load(Relaxed))
    }

    /// Something was read.
    pub(super) fn came(&self) {
        if matches!(self.phase.load(Relaxed), FRESH | ANSWERED) {
            self.phase.store(HEAD, Relaxed);
            self.since.store(clock::now(), Relaxed);
        }
    }

    /// Is the answer to be written one of many? It is once.
    pub(super) fn take_company(&self) -> bool {
        self.has_company.load(Relaxed) && self.has_company.swap(false, Relaxed)
    }

    /// Something was written.
    pub(super) fn wrote(&self) {
        if self.phase.load(Relaxed) == ANSWERED {
            self.since.store(clock::now(), Relaxed);
        }
    }

    /// Is a request, or part of its body, to be answered?
    pub(super) fn has_request(&self) -> bool {
        match self.phase.load(Relaxed) {
            MANY => self.running.load(Relaxed) > 0,
            phase => phase == BUSY,
        }
    }

    pub(super) fn has_begun_head(&self) -> bool {
        self.phase.load(Relaxed) == HEAD
    }

    /// Is there no other limit than for a client that does not read?
    pub(super) fn streams(&self) -> bool {
        matches!(self.phase.load(Relaxed), STREAMING | MANY)
    }

    pub(super) fn deadline(&self, timers: &Timers) -> Option<Nanos> {
        let limit = match self.phase.load(Relaxed) {
            BUSY | STREAMING | MANY => return None,
            ANSWERED => timers.keep_alive,
            _ => timers.header,
        };
        Some(self.since.load(Relaxed).saturating_add(limit))
    }
}

/// One request among many, until this is dropped.
pub(super) struct Running(Arc<Pulse>);

impl Running {
    pub(super) fn new(pulse: &Arc<Pulse>) -> Self {
        pulse.running.fetch_add(1, Relaxed);
        Self(Arc::clone(pulse))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.progressed();
        self.0.running.fetch_sub(1, Relaxed);
    }
}
