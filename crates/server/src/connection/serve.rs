//! Accepting connections, and ending them.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use samovar_core::metrics::Metrics;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::http2;
use super::io::{Stream, TimedStream, Timers};
use super::listener::{BACKLOG, Listener, Socket, SocketFile};
use super::outgoing::Outgoing;
use super::pulse::Pulse;
use super::sniff::{Protocol, sniff};

/// Bytes of a request's head; hyper answers 431 beyond. Its own limit of 100 headers stays: set, it would cost an
/// allocation per request.
const MAX_HEADER_BYTES: usize = 32 << 10;
/// The wait after a failed accept: out of descriptors, some must be closed before the next try can succeed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// After a stop a connection that is silent stays open this long: a request that comes on it is answered, with the word
/// that it is the last. Closed at once, it would meet requests on their way, and its client could not tell whether they ran.
pub(crate) const GRACE: Duration = Duration::from_millis(500);
/// How often a connection that is to end is asked whether it still has a request.
const LOOK: Duration = Duration::from_millis(20);

/// What every connection of a door is told when it is to take nothing new.
#[derive(Clone, Debug)]
pub struct Stop {
    /// When what has not ended by itself is cut.
    pub end: Instant,
    /// Held by each connection until its request, should it have one, is answered; gone when none can bring another.
    pub requests: Option<mpsc::Sender<Infallible>>,
}

impl Stop {
    /// A stop that nobody waits for.
    #[must_use]
    pub fn by(end: Instant) -> Self {
        Self { end, requests: None }
    }
}

/// `None` means go on. A dropped sender means: end now.
pub type StopSignal = watch::Receiver<Option<Stop>>;

/// What answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// The answer to one request. Dropped when the client is gone.
    fn handle(&self, request: Request<Incoming>, pulse: &Arc<Pulse>)
    -> impl Future<Output = Response<Outgoing>> + Send;
}

/// Limits of the connections of one door.
pub(crate) struct Limits {
    pub(crate) timers: Timers,
    /// One permit per connection; listeners share it.
    pub(crate) connections: Arc<Semaphore>,
    /// Where panics outside of requests are counted.
    pub(crate) metrics: Arc<Metrics>,
}

/// A listening socket in the runtime.
enum Acceptor {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Removed with the acceptor; of a socket that was inherited nothing is.
        _file: Option<SocketFile>,
    },
}

impl Acceptor {
    fn new(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(socket) => Self::Tcp(TcpListener::from_std(socket)?),
            Socket::Unix(socket, file) => Self::Unix { listener: UnixListener::from_std(socket)?, _file: file },
        })
    }

    async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Some(peer)))
            }
            Self::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| (Stream::Unix(stream), None)),
        }
    }

    /// The connections that the kernel keeps for us. They would be reset with the socket; those of one that others
    /// listen on too are theirs. What fails here concerns one connection, which is gone.
    fn rest(self) -> Vec<(Stream, Option<SocketAddr>)> {
        let (mut tcp, mut unix) = (None, None);
        match self {
            Self::Tcp(listener) => tcp = listener.into_std().ok(),
            Self::Unix { listener, _file } => unix = listener.into_std().ok(),
        }
        let tcp = std::iter::from_fn(|| tcp.as_mut()?.accept().ok()).filter_map(|(stream, peer)| {
            stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).ok()?;
            Some((Stream::Tcp(TcpStream::from_std(stream).ok()?), Some(peer)))
        });
        let unix = std::iter::from_fn(|| unix.as_mut()?.accept().ok()).filter_map(|(stream, _)| {
            stream.set_nonblocking(true).ok()?;
            Some((Stream::Unix(UnixStream::from_std(stream).ok()?), None))
        });
        tcp.chain(unix).take(BACKLOG as usize).collect()
    }
}

/// Serve `listener` with `handler` until `stop` says otherwise; returns when the last connection has ended.
pub(crate) async fn serve<H: Handler>(
    listener: Listener,
    handler: Arc<H>,
    limits: Limits,
    mut stop: StopSignal,
) -> io::Result<()> {
    let stopping = stop.clone();
    let is_shared = listener.is_inherited();
    let acceptor = Acceptor::new(listener.socket)?;
    let mut connections = JoinSet::new();
    let serve = |accepted, permit, connections: &mut JoinSet<()>| {
        let served = connection(accepted, Arc::clone(&handler), limits.timers, stopping.clone());
        connections.spawn(async move {
            served.await;
            drop::<Option<OwnedSemaphorePermit>>(permit);
        });
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(ended) = connections.join_next() => {
                count_panic(ended, &limits.metrics);
                continue;
            }
            accepted = acceptor.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    accept_failed(&error).await;
                    continue;
                }
            },
        };
        // At the limit one connection waits here, the next ones in the kernel's backlog. At a stop it is served too:
        // what was accepted is not dropped.
        let permit = tokio::select! {
            () = stopped(&mut stop) => None,
            permit = Arc::clone(&limits.connections).acquire_owned() => permit.ok(),
        };
        serve(accepted, permit, &mut connections);
    }
    if is_shared {
        drop(acceptor);
    } else {
        for accepted in acceptor.rest() {
            serve(accepted, Arc::clone(&limits.connections).try_acquire_owned().ok(), &mut connections);
        }
    }
    let deadline = stop.borrow().as_ref().map_or_else(Instant::now, |stop| stop.end);
    let ended = async {
        while let Some(ended) = connections.join_next().await {
            count_panic(ended, &limits.metrics);
        }
    };
    if tokio::time::timeout_at(deadline, ended).await.is_err() {
        tracing::warn!(connections = connections.len(), "the time to drain is over, connections are cut");
        connections.shutdown().await;
    }
    Ok(())
}

/// What fails outside of a request costs its connection.
fn count_panic(ended: Result<(), JoinError>, metrics: &Metrics) {
    if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
        metrics.panicked(&panic, "a connection is closed");
    }
}

/// Ready when the door is told to stop.
pub(crate) async fn stopped(stop: &mut StopSignal) {
    // Err: the sender is gone.
    stop.wait_for(Option::is_some).await.ok();
}

/// Ready when the grace of a stop is over; and that of a head which has begun, over too. What comes of it is to be held
/// as [`Stop::requests`] says.
async fn parting(stop: &mut StopSignal, pulse: &Pulse) -> Option<mpsc::Sender<Infallible>> {
    stopped(stop).await;
    let held = requests(stop);
    let began = Instant::now();
    tokio::time::sleep(GRACE).await;
    while pulse.has_begun_head() && began.elapsed() < 2 * GRACE {
        tokio::time::sleep(LOOK).await;
    }
    held
}

/// What a connection holds as long as it has a request.
pub(super) fn requests(stop: &StopSignal) -> Option<mpsc::Sender<Infallible>> {
    stop.borrow().as_ref().and_then(|stop| stop.requests.clone())
}

/// Let go of `held` when the connection has no request any more. Never ready.
pub(super) async fn let_go(held: Option<mpsc::Sender<Infallible>>, pulse: &Pulse) -> Infallible {
    while held.is_some() && pulse.has_request() {
        tokio::time::sleep(LOOK).await;
    }
    drop(held);
    std::future::pending().await
}

/// An accept error never ends the loop: most are about one connection, the others end by themselves.
async fn accept_failed(error: &io::Error) {
    let about_one = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::InvalidInput
    );
    if !about_one {
        tracing::warn!(%error, "a connection could not be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// One connection, from accept to close.
async fn connection<H: Handler>(
    (stream, peer): (Stream, Option<SocketAddr>),
    handler: Arc<H>,
    timers: Timers,
    mut stop: StopSignal,
) {
    let pulse = Pulse::new(peer);
    let mut stream = TimedStream::new(stream, Arc::clone(&pulse), timers);
    let sniffed = tokio::select! {
        biased;
        sniffed = sniff(&mut stream) => sniffed,
        _ = parting(&mut stop, &pulse) => {
            pulse.linger_briefly();
            stream.shutdown().await.ok();
            return;
        }
    };
    let Some((protocol, start)) = sniffed else { return };
    stream.replay(start);
    match protocol {
        Protocol::Http1 => http1(stream, handler, pulse, stop).await,
        Protocol::Http2 => http2::serve(stream, handler, (pulse, timers.keep_alive), stop).await,
    }
}

async fn http1<H: Handler>(stream: TimedStream, handler: Arc<H>, pulse: Arc<Pulse>, mut stop: StopSignal) {
    let carrier = Arc::clone(&pulse);
    let service = service_fn(move |request| {
        let (handler, pulse) = (Arc::clone(&handler), Arc::clone(&carrier));
        async move {
            let response = handler.handle(request, &pulse).await;
            Ok::<_, Infallible>(response.map(|body| body.alone(pulse)))
        }
    });
    let mut builder = http1::Builder::new();
    builder.max_header_size(MAX_HEADER_BYTES).header_read_timeout(None);
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let parted = {
        let told = stop.clone();
        let mut parting = pin!(parting(&mut stop, &pulse));
        let mut is_asked = false;
        poll_fn(|cx| {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(Ok(ended));
            }
            // Each request polls its connection three times or more: asked once, it wakes this task when told.
            if is_asked && told.has_changed().is_ok_and(|is_told| !is_told) {
                return Poll::Pending;
            }
            is_asked = true;
            parting.as_mut().poll(cx).map(Err)
        })
        .await
    };
    let ended = match parted {
        Ok(ended) => ended,
        Err(held) => {
            pulse.linger_briefly();
            Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                ended = &mut connection => ended,
                never = let_go(held, &pulse) => match never {},
            }
        }
    };
    // Errors are the client's: it went away, or sent what is no HTTP and was told so.
    if let (Ok(()), Some(tunnel)) = (ended, pulse.take_tunnel()) {
        let parts = connection.into_parts();
        let mut stream = parts.io.into_inner();
        stream.replay(parts.read_buf);
        pulse.begin_stream();
        pulse.linger();
        tunnel.run(stream, stop).await;
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
