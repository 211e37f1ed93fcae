//! Connections over real sockets, with short limits.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

use super::super::listener::bind;
use super::*;

/// Answers `/` at once, `/wait` when told, `/big` with 32 MiB, and counts requests that were dropped.
#[derive(Default)]
struct Fake {
    begun: Notify,
    go_on: Notify,
    dropped: Notify,
    drops: AtomicUsize,
}

struct OnDrop<'a>(&'a Fake, bool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        if self.1 {
            self.0.drops.fetch_add(1, Ordering::SeqCst);
            self.0.dropped.notify_one();
        }
    }
}

impl Handler for Fake {
    async fn handle(&self, request: Request<Incoming>, pulse: &Arc<Pulse>) -> Response<Outgoing> {
        pulse.begin();
        let mut unfinished = OnDrop(self, true);
        let path = request.uri().path().to_owned();
        let mut body = Bytes::from_static(b"ok");
        match path.as_str() {
            "/wait" => {
                self.begun.notify_one();
                self.go_on.notified().await;
            }
            "/big" => body = Bytes::from(vec![b'x'; 32 << 20]),
            "/unread" => pulse.linger(),
            "/panic" => panic!("outside of what a door catches"),
            _ => drop(request.into_body().collect().await),
        }
        unfinished.1 = false;
        Response::new(Outgoing::new(body))
    }
}

struct Door {
    fake: Arc<Fake>,
    stop: watch::Sender<Option<Stop>>,
    port: u16,
    served: tokio::task::JoinHandle<io::Result<()>>,
    metrics: Arc<Metrics>,
}

const MILLISECOND: u64 = 1_000_000;

fn start_with(host: &str, header_ms: u64, keep_alive_ms: u64, max_connections: usize) -> Door {
    let listener = bind(host, 0).unwrap();
    let port = listener.address().port.unwrap_or(0);
    let fake = Arc::new(Fake::default());
    let metrics = Arc::<Metrics>::default();
    let (stop, signal) = watch::channel(None);
    let timers = Timers { header: header_ms * MILLISECOND, keep_alive: keep_alive_ms * MILLISECOND };
    let served = tokio::spawn(serve(
        listener,
        Arc::clone(&fake),
        Limits { timers, connections: Arc::new(Semaphore::new(max_connections)), metrics: Arc::clone(&metrics) },
        signal,
    ));
    Door { fake, stop, port, served, metrics }
}

fn start(header_ms: u64, keep_alive_ms: u64) -> Door {
    start_with("127.0.0.1", header_ms, keep_alive_ms, 8)
}

impl Door {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    async fn end(self, patience: Duration) {
        self.stop.send(Some(Stop::by(Instant::now() + patience))).unwrap();
        self.served.await.unwrap().unwrap();
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// One answer, whose body is `ok`.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\nok") {
        let byte = stream.read_u8().await.expect("an answer");
        text.push(byte);
    }
    String::from_utf8(text).unwrap()
}

async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.ok();
    String::from_utf8(text).unwrap()
}

const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
const WAIT: &str = "GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n";
const LONG: u64 = 60_000;

#[tokio::test]
async fn connections_are_kept_and_pipelined() {
    let door = start(LONG, LONG);
    let mut stream = door.connect().await;
    for _ in 0..3 {
        send(&mut stream, GET).await;
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
    send(&mut stream, &GET.repeat(2)).await;
    answer(&mut stream).await;
    answer(&mut stream).await;
    door.end(Duration::ZERO).await;
}

#[tokio::test]
async fn a_panic_costs_its_connection_and_is_counted() {
    let door = start(LONG, LONG);
    let (mut other, mut stream) = (door.connect().await, door.connect().await);
    send(&mut stream, &GET.replace("/ ", "/panic ")).await;
    assert_eq!(rest(&mut stream).await, "");
    while door.metrics.panics.get() == 0 {
        tokio::task::yield_now().await;
    }
    send(&mut other, GET).await;
    assert!(answer(&mut other).await.starts_with("HTTP/1.1 200"));
    send(&mut door.connect().await, GET).await;
    assert_eq!(door.metrics.panics.get(), 1);
    door.end(Duration::ZERO).await;
}

#[tokio::test]
async fn a_silent_connection_is_closed_without_a_word() {
    let door = start(50, LONG);
    assert_eq!(rest(&mut door.connect().await).await, "");
    door.end(Duration::ZERO).await;
}

#[tokio::test]
async fn a_head_that_does_not_end_is_a_timeout() {
    let door = start(50, LONG);
    let mut stream = door.connect().await;
    send(&mut stream, "GET / HT").await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 408"));
    let mut stream = door.connect().await;
    send(&mut stream, GET).await;
    answer(&mut stream).await;
    send(&mut stream, "GET / HTTP/1.1\r\nhost: ").await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 408"));
    door.end(Duration::ZERO).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_answer() {
    let door = start(LONG, 50);
    let mut stream = door.connect().await;
    send(&mut stream, GET).await;
    answer(&mut stream).await;
    assert_eq!(rest(&mut stream).await, "");
    let mut stream = door.connect().await;
    send(&mut stream, WAIT).await;
    door.fake.begun.notified().await;
    door.fake.go_on.notify_one();
    answer(&mut stream).await;
    assert_eq!(rest(&mut stream).await, "");
    door.end(Duration::ZERO).await;
}

#[tokio::test]
async fn a_running_request_has_no_connection_timer() {
    let door = start(30, 30);
    let mut stream = door.connect().await;
    send(&mut stream, WAIT).await;
    door.fake.begun.notified().await;
    tokio::time::sleep(Duration::from_millis(100)).await; // longer than both limits
    door.fake.go_on.notify_one();
    answer(&mut stream).await;
    door.end(Duration::ZERO).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let door = start(LONG, 100);
    let mut stream = door.connect().await;
    send(&mut stream, "GET /big HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    // 32 MiB are more than the buffers of both sockets; nothing is read until the engine gave up.
    let closed = async { while door.served_connections().await > 0 {} };
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("the connection ends");
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.ok();
    assert!(got.len() < 32 << 20);
    door.end(Duration::ZERO).await;
}

impl Door {
    /// Handlers and connections hold the fake: one is here, one is in the accept loop.
    async fn served_connections(&self) -> usize {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Arc::strong_count(&self.fake) - 2
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_drops_its_request() {
    let door = start(LONG, LONG);
    let mut stream = door.connect().await;
    send(&mut stream, WAIT).await;
    door.fake.begun.notified().await;
    drop(stream);
    door.fake.dropped.notified().await;
    let mut half_closed = door.connect().await;
    send(&mut half_closed, WAIT).await;
    door.fake.begun.notified().await;
    half_closed.shutdown().await.unwrap();
    door.fake.dropped.notified().await;
    assert_eq!(door.fake.drops.load(Ordering::SeqCst), 2);
    door.end(Duration::ZERO).await;
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_lets_requests_finish() {
    let door = start(LONG, LONG);
    let mut idle = door.connect().await;
    send(&mut idle, GET).await;
    answer(&mut idle).await;
    let mut fresh = door.connect().await;
    let mut busy = door.connect().await;
    send(&mut busy, WAIT).await;
    door.fake.begun.notified().await;
    door.stop.send(Some(Stop::by(Instant::now() + Duration::from_secs(60)))).unwrap();
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut fresh).await, "");
    assert!(!door.served.is_finished());
    door.fake.go_on.notify_one();
    let last = answer(&mut busy).await;
    assert!(last.contains("connection: close"), "{last}");
    assert_eq!(rest(&mut busy).await, "");
    door.served.await.unwrap().unwrap();
    assert_eq!(door.fake.drops.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_request_that_meets_a_stop_is_answered() {
    let door = start(LONG, LONG);
    let mut kept = door.connect().await;
    send(&mut kept, GET).await;
    answer(&mut kept).await;
    let mut fresh = door.connect().await;
    let mut begun = door.connect().await;
    send(&mut begun, "GET / HT").await;
    let (requests, mut ended) = mpsc::channel(1);
    let end = Instant::now() + Duration::from_secs(60);
    door.stop.send(Some(Stop { end, requests: Some(requests) })).unwrap();
    for _ in 0..10 {
        tokio::task::yield_now().await; // every connection hears of it
    }
    for stream in [&mut kept, &mut fresh] {
        send(stream, GET).await;
        assert!(answer(stream).await.starts_with("HTTP/1.1 200"));
    }
    send(&mut begun, "TP/1.1\r\nhost: localhost\r\n\r\n").await;
    answer(&mut begun).await;
    for stream in [&mut kept, &mut fresh, &mut begun] {
        assert_eq!(rest(stream).await, "");
    }
    door.stop.send_modify(|stop| stop.as_mut().unwrap().requests = None);
    assert!(ended.recv().await.is_none(), "every connection has let go");
    drop((kept, fresh, begun));
    door.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_is_held_up_by_requests_alone() {
    let door = start(LONG, LONG);
    let mut busy = door.connect().await;
    send(&mut busy, WAIT).await;
    door.fake.begun.notified().await;
    let mut idle = door.connect().await;
    let mut partial = door.connect().await;
    send(&mut partial, "GET / HT").await;
    let (requests, mut ended) = mpsc::channel(1);
    let end = Instant::now() + Duration::from_secs(60);
    door.stop.send(Some(Stop { end, requests: Some(requests) })).unwrap();
    assert_eq!(rest(&mut idle).await, "");
    door.stop.send_modify(|stop| stop.as_mut().unwrap().requests = None);
    assert!(tokio::time::timeout(GRACE * 2, ended.recv()).await.is_err(), "one is still running");
    door.fake.go_on.notify_one();
    assert!(answer(&mut busy).await.contains("connection: close"));
    assert!(ended.recv().await.is_none(), "a head that does not end is not waited for");
    drop((busy, idle, partial));
    door.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_that_crosses_its_end_is_not_reset() {
    let door = start(LONG, LONG);
    let mut idle = door.connect().await;
    door.stop.send(Some(Stop::by(Instant::now() + Duration::from_secs(60)))).unwrap();
    assert_eq!(rest(&mut idle).await, "");
    let crossed = Instant::now();
    send(&mut idle, GET).await;
    let is_end =
        idle.write_all(GET.as_bytes()).await.is_ok() && idle.read(&mut [0; 1]).await.is_ok_and(|read| read == 0);
    assert!(is_end || crossed.elapsed() > Duration::from_millis(200), "an end, and no reset");
    drop(idle);
    door.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_that_wait_to_be_accepted_are_served_at_a_stop_unless_others_listen_too() {
    for is_shared in [false, true] {
        let mut listener = bind("127.0.0.1", 0).unwrap();
        listener.share(is_shared);
        let port = listener.address().port.unwrap();
        let mut waiting = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        send(&mut waiting, GET).await;
        let (_stop, signal) = watch::channel(Some(Stop::by(Instant::now() + Duration::from_secs(60))));
        let timers = Timers { header: LONG * MILLISECOND, keep_alive: LONG * MILLISECOND };
        let limits = Limits { timers, connections: Arc::new(Semaphore::new(8)), metrics: Arc::default() };
        let served = tokio::spawn(serve(listener, Arc::new(Fake::default()), limits, signal));
        if is_shared {
            assert!(waiting.read_u8().await.is_err(), "left to the others, who are none here");
        } else {
            answer(&mut waiting).await;
        }
        drop(waiting);
        served.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_stop_cuts_what_does_not_end_in_time() {
    let door = start(LONG, LONG);
    let mut busy = door.connect().await;
    send(&mut busy, WAIT).await;
    door.fake.begun.notified().await;
    let fake = Arc::clone(&door.fake);
    door.end(Duration::from_millis(50)).await;
    assert_eq!(fake.drops.load(Ordering::SeqCst), 1);
    assert_eq!(rest(&mut busy).await, "");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let door = start_with("127.0.0.1", LONG, LONG, 1);
    let mut first = door.connect().await;
    send(&mut first, GET).await;
    answer(&mut first).await;
    let mut second = door.connect().await;
    send(&mut second, GET).await;
    let early = tokio::time::timeout(Duration::from_millis(50), answer(&mut second)).await;
    assert!(early.is_err());
    drop(first);
    // The bytes read so far are none: the second was not accepted.
    assert!(answer(&mut second).await.starts_with("HTTP/1.1 200"));
    door.end(Duration::ZERO).await;
}

#[tokio::test]
async fn an_answer_is_read_although_the_body_was_not() {
    let door = start(LONG, LONG);
    let mut stream = door.connect().await;
    send(&mut stream, "POST /unread HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8388608\r\n\r\n").await;
    let sent = stream.write_all(&vec![0; 8 << 20]).await;
    assert!(sent.is_ok(), "the engine reads on for a while: {sent:?}");
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    drop(stream);
    door.end(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn large_heads_and_many_headers_are_refused() {
    let door = start(LONG, LONG);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
    let large = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(33 << 10));
    for head in [many, large] {
        let mut stream = door.connect().await;
        stream.write_all(head.as_bytes()).await.ok();
        assert!(rest(&mut stream).await.starts_with("HTTP/1.1 431"));
    }
    let mut stream = door.connect().await;
    send(&mut stream, "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx").await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 400"));
    door.end(Duration::ZERO).await;
}

#[tokio::test]
async fn expectations_are_met_when_the_body_is_read() {
    let door = start(LONG, LONG);
    let mut stream = door.connect().await;
    send(&mut stream, "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n").await;
    let mut word = [0; 25];
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    send(&mut stream, "x").await;
    answer(&mut stream).await;
    send(&mut stream, "POST /unread HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n").await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"), "no 100 for a body that nobody wants");
    drop(stream);
    door.end(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn unix_sockets_are_served() {
    let path = PathBuf::from(format!("{}/samovar-serve-{}.sock", std::env::temp_dir().display(), std::process::id()));
    let door = start_with(&format!("unix:{}", path.display()), LONG, LONG, 8);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    send(&mut stream, GET).await;
    answer(&mut stream).await;
    door.end(Duration::ZERO).await;
    assert!(!path.exists());
}
