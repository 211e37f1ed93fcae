//! A connection that carries many requests at a time.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use samovar_core::clock::{self, Nanos};

use super::io::TimedStream;
use super::pulse::{Pulse, Running};
use super::serve::{GRACE, Handler, StopSignal, let_go, requests, stopped};

/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// HTTP/2's measure of a head: names, values and 32 bytes for each pair.
const MAX_HEADER_LIST: u32 = 16 << 10;
/// What a client may send of one body before we read it; 64 KiB, the protocol's own, cost 26 % with images.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same of all bodies of a connection.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Requests opened and reset at once before they were seen: more end the connection ("rapid reset"). A client that gives up
/// 250 calls while it connects sends as many; with 20, hyper's own, it lost its other calls too.
const MAX_RESET_UNSEEN: usize = 1_024;
/// Streams that we had to reset because of the client's faults: more end the connection.
const MAX_FAULTY_STREAMS: usize = 1_024;
/// How often a silent HTTP/2 client is asked for a sign of life, and how long it may take to give one.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an idle client may take to hang up once it was told to.
const FAREWELL: Duration = Duration::from_secs(5);
/// tokio's timers are good for two years; a limit of "never" is looked at again.
const LONGEST_SLEEP: Duration = Duration::from_secs(1 << 20);

/// Serve `stream`, whose start was read, until it ends, is idle for `keep_alive`, or is told to stop.
pub(super) async fn serve<H: Handler>(
    stream: TimedStream,
    handler: Arc<H>,
    (pulse, keep_alive): (Arc<Pulse>, Nanos),
    mut stop: StopSignal,
) {
    pulse.carry_many();
    let carrier = Arc::clone(&pulse);
    let service = service_fn(move |request| {
        let (handler, pulse, running) = (Arc::clone(&handler), Arc::clone(&carrier), Running::new(&carrier));
        async move {
            let response = handler.handle(request, &pulse).await;
            drop(running);
            Ok::<_, Infallible>(response.map(|body| body.in_parts(pulse)))
        }
    });
    let mut connection = pin!(builder().serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = idle(&pulse, keep_alive) => {}
        () = stopped(&mut stop) => {}
    }
    // The client is told which requests were taken, so that it may send the others elsewhere; it hangs up, or is cut.
    connection.as_mut().graceful_shutdown();
    pulse.linger_briefly();
    pulse.progressed();
    let held = requests(&stop);
    let requests_end = async {
        tokio::time::sleep(GRACE).await; // for those that the client sent before it heard of the end
        let_go(held, &pulse).await
    };
    tokio::select! {
        _ = connection => {}
        () = idle(&pulse, clock::nanos(FAREWELL)) => {}
        never = requests_end => match never {},
    }
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(MAX_RESET_UNSEEN)
        .max_local_error_reset_streams(MAX_FAULTY_STREAMS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Ready when a connection of many requests has had none, and no progress, for `limit`.
async fn idle(pulse: &Pulse, limit: Nanos) {
    loop {
        let now = clock::now();
        // While a request runs, the limit begins now at the earliest.
        let due = pulse.idle_since().unwrap_or(now).saturating_add(limit);
        if due <= now {
            return;
        }
        tokio::time::sleep(Duration::from_nanos(due - now).min(LONGEST_SLEEP)).await;
    }
}
