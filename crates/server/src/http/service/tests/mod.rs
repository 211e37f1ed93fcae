//! The door in front of a worker that a test plays, over real sockets.

mod answers;
mod bodies;
mod http2;
mod upgrades;

use std::time::Duration;

use samovar_core::config::{ExposeErrors, ServiceSpec, VersionSpec};
use samovar_core::history::History;
use samovar_core::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::fake::{Worker, pair};
use super::*;
use crate::connection::{self, Handler, Limits, Stop, Timers, bind};
use crate::http::door::tests::plane;

/// Every request is for the service.
struct Served {
    door: Door,
    version: Arc<Version>,
    workers: mpsc::UnboundedSender<(HttpRequest, Worker)>,
}

impl Handler for Served {
    async fn handle(&self, request: Request<Incoming>, pulse: &Arc<Pulse>) -> Response<Outgoing> {
        let queue = |request| {
            let (fake, worker) = pair();
            self.workers.send((request, worker)).ok();
            Ok(fake)
        };
        self.door.exchange((Arc::clone(&self.version), false), request, pulse, queue).await
    }
}

struct Running {
    plane: Arc<crate::data_plane::DataPlane>,
    port: u16,
    workers: mpsc::UnboundedReceiver<(HttpRequest, Worker)>,
    stop: watch::Sender<Option<Stop>>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

const MILLISECOND: u64 = 1_000_000;

fn start(keep_alive_ms: u64) -> Running {
    let listener = bind("127.0.0.1", 0).unwrap();
    let port = listener.address().port.unwrap();
    let (plane, _) = plane(listener.address());
    let guard = crate::door::guard::Guard { loopback: true, allowed_hosts: vec![], allowed_origins: vec![] };
    let mut spec = VersionSpec::undescribed("plates".into(), "1".into());
    spec.service = Some(ServiceSpec {
        routes: vec![],
        mounts: vec!["/plates".into()],
        methods: vec![],
        description: String::new(),
    });
    let metrics = Arc::new(Metrics::default());
    let version = Version::new(1, spec, metrics, Arc::new(History::default()), ExposeErrors::Message);
    let (sender, workers) = mpsc::unbounded_channel();
    let door = Door::new(Arc::clone(&plane), guard, crate::data_plane::Asker::Client);
    let timers = Timers { header: 10_000 * MILLISECOND, keep_alive: keep_alive_ms * MILLISECOND };
    let limits = Limits { timers, connections: Arc::new(Semaphore::new(8)), metrics: Arc::default() };
    let (stop, stopped) = watch::channel(None);
    let served =
        tokio::spawn(connection::serve(listener, Arc::new(Served { door, version, workers: sender }), limits, stopped));
    Running { plane, port, workers, stop, served }
}

const LONG: u64 = 60_000;
const GET: &str = "GET /plates/x%20y?z=%20 HTTP/1.1\r\nhost: localhost\r\nx-request-id: seven\r\n\r\n";

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn request(&mut self) -> (HttpRequest, Worker) {
        self.workers.recv().await.unwrap()
    }

    /// What the metrics count, as `code count`.
    async fn counted(&self, code: &str) -> bool {
        self.plane
            .metrics_text()
            .await
            .contains(&format!("code=\"{code}\",door=\"http\",model=\"plates\",version=\"1\"}} 1"))
    }
}

/// Read up to `end`.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let byte = stream.read_u8().await;
        text.push(byte.unwrap_or_else(|_| panic!("{end:?} after {:?}", String::from_utf8_lossy(&text))));
    }
    String::from_utf8(text).unwrap().to_ascii_lowercase()
}

async fn head(stream: &mut TcpStream) -> String {
    until(stream, "\r\n\r\n").await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.ok();
    String::from_utf8(text).unwrap()
}

/// Wait until `is_so`; what is waited for is on its way.
async fn eventually(is_so: impl AsyncFn() -> bool) {
    while !is_so().await {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
