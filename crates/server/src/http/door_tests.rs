//! The door over a real socket and a data plane without models.

use samovar_core::clock::NEVER;
use samovar_core::config::{
    Control, EngineConfig, ExposeErrors, LogFormat, MethodSpec, RouteSpec, ServiceSpec, TransportKind, VersionSpec,
};
use samovar_core::events::Events;
use samovar_core::life::Cause;
use samovar_core::metrics::Metrics;
use samovar_core::registry::Registry;
use samovar_core::workers::pool::Pool;
use samovar_core::workers::shared::Workers;
use samovar_core::workers::spawn::Spawner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::*;
use crate::connection::{Address, bind};
use crate::doors::serve;
use crate::listeners::Addresses;

fn config() -> EngineConfig {
    EngineConfig {
        host: "127.0.0.1".into(),
        http_port: 0,
        grpc_port: 0,
        admin_socket: None,
        admin_optional: false,
        control: Control::None,
        strict_readiness: false,
        drain_timeout_s: 1.0,
        drain_delay_s: 0.0,
        log_format: LogFormat::Text,
        access_log: true,
        expose_errors: ExposeErrors::Message,
        engine_threads: 1,
        max_body_bytes: 1_000,
        compress_responses: false,
        max_bodies_bytes: 100_000,
        max_requests: 10,
        max_connections: 10,
        header_timeout_s: 10.0,
        keep_alive_s: 60.0,
        allowed_origins: vec![],
        allowed_hosts: vec![],
        max_loads: 1,
        spare_workers: 0,
        transport: TransportKind::Inline,
        worker_command: vec!["/bin/false".into()],
    }
}

struct Running {
    plane: Arc<DataPlane>,
    registry: Arc<Registry>,
    port: u16,
    _stop: watch::Sender<Option<crate::connection::Stop>>,
}

/// A data plane without models, behind `address`.
pub(in crate::http) fn plane(address: &Address) -> (Arc<DataPlane>, Arc<Registry>) {
    plane_with(config(), address)
}

fn plane_with(config: EngineConfig, address: &Address) -> (Arc<DataPlane>, Arc<Registry>) {
    let (metrics, events) = (Arc::new(Metrics::default()), Arc::new(Events::default()));
    let spawner = Spawner::new(config.worker_command.clone(), config.transport, Arc::clone(&metrics)).unwrap();
    let workers = Workers::new(Pool::new(spawner, 0), 1);
    let drain = std::time::Duration::from_secs(1);
    let registry = Registry::new(workers, Arc::clone(&metrics), Arc::clone(&events), config.expose_errors, drain);
    let addresses = Addresses { http: address.clone(), grpc: None, admin: None };
    (DataPlane::new(config, addresses, Arc::clone(&registry), metrics, events), registry)
}

fn start() -> Running {
    start_with(config())
}

fn start_with(config: EngineConfig) -> Running {
    let listener = bind("127.0.0.1", 0).unwrap();
    let (plane, registry) = plane_with(config, listener.address());
    let port = listener.address().port.unwrap();
    let (stop, stopped) = watch::channel(None);
    let connections = Arc::new(tokio::sync::Semaphore::new(10));
    tokio::spawn(serve(listener, Arc::clone(&plane), connections, stopped));
    Running { plane, registry, port, _stop: stop }
}

/// Status, head and body of an answer.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).expect(&self.body);
        assert!(!body["id"].as_str().unwrap().is_empty());
        assert!(!body["error"].as_str().unwrap().is_empty());
        body["code"].as_str().unwrap().to_owned()
    }

    fn closes(&self) -> bool {
        self.head.contains("connection: close")
    }
}

/// Send `request`, read one answer (by its content-length, unless the method is HEAD).
async fn ask(stream: &mut TcpStream, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length =
        head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; if request.starts_with("HEAD") { 0 } else { length }];
    stream.read_exact(&mut body).await.unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: String::from_utf8(body).unwrap() }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    async fn ask(&self, request: &str) -> Answer {
        ask(&mut self.connect().await, request).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await
    }

    async fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n");
        self.ask(&format!("{head}{body}")).await
    }
}

#[tokio::test]
async fn the_engine_describes_itself() {
    let door = start();
    let about: serde_json::Value = serde_json::from_str(&door.get("/v2").await.body).unwrap();
    assert_eq!(about["name"], "samovar");
    assert_eq!(door.get("/v2/health/live").await.status, 200);
    assert_eq!(door.get("/v2/health/ready").await.status, 503);
    door.plane.mark_started();
    let ready = door.get("/v2/health/ready?x=1").await;
    assert_eq!((ready.status, ready.body.as_str()), (200, ""));
    assert_eq!(door.ask("HEAD /v2 HTTP/1.1\r\nhost: localhost\r\n\r\n").await.status, 200);
    let metrics = door.get("/metrics").await;
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"));
    assert_eq!(door.post("/v2/repository/index", "", "").await.body, "[]");
    assert_eq!(door.post("/v2/repository/index", "", r#"{"ready":1}"#).await.code(), "invalid_request");
}

#[tokio::test]
async fn wrong_requests_have_their_codes() {
    let door = start();
    for (path, status, code) in [
        ("/nothing", 404, "not_found"),
        ("/v2/models/m", 404, "unknown_model"),
        ("/v2/models/m/ready", 404, "unknown_model"),
        ("/v2/models/%2e%2e", 400, "invalid_name"),
        ("/v2/models/m/infer", 405, "method_not_allowed"),
    ] {
        let answer = door.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}");
        assert!(!answer.closes());
    }
    assert!(door.get("/v2/models/m/infer").await.head.contains("allow: post"));
    assert_eq!(door.get(&format!("/{}", "x".repeat(9_000))).await.code(), "uri_too_long");
    let infer = |headers: &'static str, body: &'static str| door.post("/v2/models/m/infer", headers, body);
    assert_eq!(infer("", r#"{"inputs":[]}"#).await.code(), "unknown_model");
    assert_eq!(infer("inference-header-content-length: 0\r\n", "x").await.code(), "unknown_model");
    for (headers, body) in [
        ("", ""),
        ("", "{"),
        ("inference-header-content-length: 3\r\n", "{}"),
        ("samovar-timeout-ms: 0\r\n", r#"{"inputs":[]}"#),
        ("samovar-idempotent: yes\r\n", r#"{"inputs":[]}"#),
    ] {
        let answer = infer(headers, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{headers}{body}");
    }
    let codings = |answer: &Answer| answer.head.contains("accept-encoding: gzip, deflate");
    let pickle = infer("content-type: application/x-pickle\r\n", "x").await;
    assert_eq!((pickle.status, codings(&pickle)), (415, false));
    let brotli = infer("content-encoding: br\r\n", "x").await;
    assert_eq!((brotli.status, codings(&brotli)), (415, true));
    let no_gzip = infer("content-encoding: gzip\r\n", "x").await;
    assert_eq!((no_gzip.status, no_gzip.code().as_str()), (400, "invalid_request"));
    assert_eq!(door.post("/v2/repository/models/m/load", "", "{}").await.code(), "control_disabled");
}

#[tokio::test]
async fn what_is_neither_a_path_nor_a_service_is_told_where_both_are() {
    let door = start();
    let answer = door.get("/nothing").await.body;
    assert!(answer.contains("POST /v2/repository/index") && answer.contains("GET /docs"), "{answer}");
    let docs = door.get("/docs").await;
    assert!(docs.head.contains("content-type: text/html") && docs.body.contains("serves no services"));
    let connect = door.ask("CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!((connect.status, connect.code().as_str()), (405, "method_not_allowed"));
}

/// A service that could not be loaded, mounted at a path of the engine too.
fn failed_service() -> VersionSpec {
    let mut spec = VersionSpec::undescribed("plates".into(), "1".into());
    spec.service = Some(ServiceSpec {
        routes: vec![RouteSpec { methods: vec!["POST".into()], path: "/plates/recognize".into(), idempotent: false }],
        mounts: vec!["/plates".into(), "/ui".into(), "/metrics".into(), "/v2/nothing".into()],
        methods: vec![MethodSpec { name: "recognize".into(), inputs: vec![], outputs: vec![] }],
        description: "Reads number plates.".into(),
    });
    spec
}

#[tokio::test]
async fn paths_of_a_service_are_its_own_and_those_of_the_engine_are_not() {
    let door = start();
    door.registry.declare_failed(failed_service(), Cause { message: "broken".into(), ..Cause::default() });
    for path in ["/plates", "/plates/recognize?x=1", "/ui/a/b"] {
        let answer = door.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "model_failed"), "{path}");
        assert!(answer.head.contains("x-request-id: "), "{}", answer.head);
    }
    assert_eq!(door.get("/platesx").await.code(), "not_found");
    assert_eq!(door.get("/v2/nothing").await.code(), "not_found");
    assert_eq!(door.get(&format!("/plates/{}", "x".repeat(9_000))).await.code(), "uri_too_long");
    assert!(door.get("/metrics").await.body.contains("code=\"model_failed\",door=\"http\",model=\"plates\""));
    assert!(door.get("/docs").await.body.contains("Reads number plates."));
}

#[tokio::test]
async fn a_service_is_no_model_and_says_what_it_is() {
    let door = start();
    door.registry.declare_failed(failed_service(), Cause::default());
    let answer = door.post("/v2/models/plates/infer", "", r#"{"inputs":[]}"#).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"));
    for part in ["takes no tensors", "POST /plates/recognize", "plates.recognize"] {
        assert!(answer.body.contains(part), "{}", answer.body);
    }
}

#[tokio::test]
async fn ids_come_back_in_errors() {
    let door = start();
    let id = |answer: Answer| serde_json::from_str::<serde_json::Value>(&answer.body).unwrap()["id"].clone();
    let infer = |headers: &'static str, body: &'static str| door.post("/v2/models/m/infer", headers, body);
    assert_eq!(id(infer("x-request-id: h\r\n", r#"{"id":"j","inputs":[]}"#).await), "j");
    assert_eq!(id(infer("x-request-id: h\r\n", r#"{"id":"j","inputs":5}"#).await), "j");
    assert_eq!(id(infer("x-request-id: h\r\n", r#"{"inputs":[]}"#).await), "h");
}

#[tokio::test]
async fn foreign_pages_are_refused() {
    let door = start();
    let with = |headers: &str| format!("GET /v2 HTTP/1.1\r\n{headers}\r\n");
    assert_eq!(door.ask(&with("host: evil.example\r\n")).await.status, 421);
    assert_eq!(door.ask(&with("host: localhost\r\norigin: http://evil.example\r\n")).await.status, 403);
    assert_eq!(door.ask(&with("host: localhost\r\norigin: http://localhost\r\n")).await.status, 200);
    assert_eq!(door.ask(&with("")).await.status, 400);
}

#[tokio::test]
async fn bodies_beyond_the_limit_close_the_connection() {
    let door = start();
    let announced = "POST /v2/models/m/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n";
    for expect in ["", "expect: 100-continue\r\n"] {
        let answer = door.ask(&format!("{announced}{expect}\r\n")).await;
        assert_eq!((answer.status, answer.code().as_str()), (413, "payload_too_large"));
        assert!(answer.closes());
    }
    let chunk = "x".repeat(600);
    let chunked = format!(
        "POST /v2/models/m/infer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n258\r\n{chunk}\r\n258\r\n{chunk}\r\n"
    );
    let answer = door.ask(&chunked).await;
    assert_eq!((answer.status, answer.closes()), (413, true));
}

/// All threads but the one that serves every connection are busy until the sender is dropped.
fn occupy(plane: &Arc<DataPlane>) -> (std::sync::mpsc::Sender<()>, Vec<tokio::task::JoinHandle<()>>) {
    let (release, released) = std::sync::mpsc::channel();
    let released = Arc::new(parking_lot::Mutex::new(released));
    let processors = std::thread::available_parallelism().unwrap().get();
    let busy = |_| {
        let (plane, released) = (Arc::clone(plane), Arc::clone(&released));
        tokio::spawn(async move { drop(plane.aside(NEVER, move || released.lock().recv()).await) })
    };
    (release, (0..processors).map(busy).collect())
}

#[tokio::test]
async fn a_long_body_is_read_while_others_are_answered() {
    let door = start_with(EngineConfig { max_body_bytes: 1 << 20, max_bodies_bytes: 1 << 22, ..config() });
    let (release, busy) = occupy(&door.plane);
    let body = |count: usize| {
        let numbers = vec!["0.5"; count].join(",");
        format!(
            r#"{{"id":"{count}","inputs":[{{"name":"x","datatype":"FP32","shape":[{count}],"data":[{numbers}]}}]}}"#
        )
    };
    let (short, long) = (body(5), body(50_000));
    let long = door.post("/v2/models/m/infer", "", &long);
    let shorts = async {
        for _ in 0..3 {
            let answer = door.post("/v2/models/m/infer", "", &short).await;
            assert_eq!((answer.status, answer.code().as_str()), (404, "unknown_model"));
        }
        drop(release); // only now can the long one be read
    };
    let (answer, ()) = tokio::join!(long, shorts);
    assert_eq!((answer.status, answer.code().as_str()), (404, "unknown_model"));
    assert!(answer.body.contains("\"50000\""), "{}", answer.body);
    for task in busy {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_long_body_that_waits_longer_than_its_deadline_is_answered_then() {
    let door = start_with(EngineConfig { max_body_bytes: 1 << 20, max_bodies_bytes: 1 << 22, ..config() });
    let (release, busy) = occupy(&door.plane);
    let long =
        format!(r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"FP32","data":[{}1]}}]}}"#, "1,".repeat(50_000));
    let answer = door.post("/v2/models/m/infer", "samovar-timeout-ms: 20\r\n", &long).await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "deadline_exceeded"));
    drop(release);
    for task in busy {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_survives_refusals_and_ends_with_draining() {
    let door = start();
    let mut stream = door.connect().await;
    let refused = "POST /v2/models/m/infer HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nbody";
    for _ in 0..3 {
        let answer = ask(&mut stream, refused).await;
        assert_eq!((answer.status, answer.closes()), (415, false));
    }
    door.plane.begin_drain();
    let live = "GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let last = ask(&mut stream, live).await;
    assert_eq!((last.status, last.closes()), (200, true));
    // What was sent before the answer was read meets no reset, which could cost the answer.
    let answered = std::time::Instant::now();
    for _ in 0..2 {
        let sent = stream.write_all(live.as_bytes()).await;
        assert!(sent.is_ok() || answered.elapsed() > std::time::Duration::from_millis(200), "{sent:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
