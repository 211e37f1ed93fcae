//! A whole request: from the client's bytes to the answer's, with everything of an engine between them but processes.
//!
//! Client, engine and worker take turns on one thread, so that who waits for whom is the same in every run. The worker is
//! the real end of a channel over shared memory; in place of Python it answers with its input.

use std::error::Error;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use samovar_core::channel::engine::Link;
use samovar_core::channel::frame::BadFrame;
use samovar_core::channel::segments;
use samovar_core::channel::worker::{CallFrame, Incoming, Output, WorkerEnd};
use samovar_core::config::{EngineConfig, TransportKind, VersionSpec};
use samovar_core::events::Events;
use samovar_core::metrics::Metrics;
use samovar_core::registry::Registry;
use samovar_core::tensor::Datatype;
use samovar_core::workers::pool::Pool;
use samovar_core::workers::shared::Workers;
use samovar_core::workers::spawn::Spawner;
use samovar_server::connection::{Address, bind};
use samovar_server::data_plane::DataPlane;
use samovar_server::doors;
use samovar_server::listeners::Addresses;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use crate::data;

/// The echo benchmark over one connection.
pub(crate) fn request(rounds: u64) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve_and_ask(rounds));
    // The worker's thread waits for the end of its socket.
    runtime.shutdown_timeout(Duration::from_millis(1));
    outcome
}

async fn serve_and_ask(rounds: u64) -> Result<(), Box<dyn Error>> {
    let listener = bind("127.0.0.1", 0)?;
    let address = listener.address().clone();
    let (plane, registry) = plane(address.clone())?;
    registry.deploy_into(model()?, worker().await?).await.map_err(|_| "the worker is gone")?;
    plane.mark_started();
    let (_stop, stopped) = watch::channel(None);
    tokio::spawn(doors::serve(listener, plane, Arc::new(Semaphore::new(10)), stopped));
    let mut stream = TcpStream::connect((address.host, address.port.unwrap_or_default())).await?;
    stream.set_nodelay(true)?;
    let body = data::body(&data::echo());
    let head = "POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost:8000\r\nContent-Type: application/json\r\n";
    let request = [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
    let mut answer = first_answer(&mut stream, &request).await?;
    for _ in 0..rounds {
        stream.write_all(&request).await?;
        stream.read_exact(&mut answer).await?;
    }
    if answer.starts_with(b"HTTP/1.1 200 ") { Ok(()) } else { Err("not every answer is like the first".into()) }
}

/// All others have its length.
async fn first_answer(stream: &mut TcpStream, request: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"]}]}") {
        if stream.read_buf(&mut answer).await? == 0 || answer.len() > 10_000 {
            return Err(String::from_utf8_lossy(&answer).into());
        }
    }
    Ok(answer)
}

fn plane(http: Address) -> Result<(Arc<DataPlane>, Arc<Registry>), Box<dyn Error>> {
    let config = config()?;
    let (metrics, events) = (Arc::new(Metrics::default()), Arc::new(Events::default()));
    let spawner = Spawner::new(config.worker_command.clone(), config.transport, Arc::clone(&metrics))?;
    let workers = Workers::new(Pool::new(spawner, 0), config.max_loads);
    let drain = Duration::from_secs(1);
    let registry = Registry::new(workers, Arc::clone(&metrics), Arc::clone(&events), config.expose_errors, drain);
    let addresses = Addresses { http, grpc: None, admin: None };
    Ok((DataPlane::new(config, addresses, Arc::clone(&registry), metrics, events), registry))
}

/// Both ends of a channel; the worker's answers every call from now on.
async fn worker() -> Result<Arc<Link>, Box<dyn Error>> {
    let (ours, theirs) = UnixStream::pair()?;
    let (link, inbound) = Link::new(ours, TransportKind::Shm)?;
    let running = Arc::clone(&link);
    tokio::spawn(async move { running.run(inbound, std::future::pending()).await });
    let end = tokio::task::spawn_blocking(|| WorkerEnd::connect(theirs.into(), || {})).await??;
    tokio::spawn(async move {
        if let Err(error) = work(end).await {
            eprintln!("the worker ends: {error}");
        }
    });
    Ok(link)
}

async fn work(end: Arc<WorkerEnd>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let first = Arc::clone(&end);
    tokio::task::spawn_blocking(move || serve_first(&first)).await??;
    let work = segments::watch(end.work_descriptor().try_clone()?)?;
    loop {
        while let Some(incoming) = end.poll()? {
            serve(&end, incoming);
        }
        work.readable().await?.clear_ready();
    }
}

/// Serve up to the first call, on a thread: that call waits for the memory of its answer, which the engine grants.
fn serve_first(end: &Arc<WorkerEnd>) -> Result<(), BadFrame> {
    while let Some(incoming) = end.wait()? {
        let is_call = matches!(incoming, Incoming::Call(_));
        serve(end, incoming);
        if is_call {
            break;
        }
    }
    Ok(())
}

fn serve(end: &WorkerEnd, incoming: Incoming) {
    match incoming {
        Incoming::Call(call) => echo(end, call),
        Incoming::Ask { number, .. } => end.tell(number, true, "{}".into()),
    }
}

fn echo(end: &WorkerEnd, mut call: CallFrame) {
    let inputs: Vec<_> =
        std::mem::take(&mut call.inputs).into_iter().map(|input| (input.shape, input.data.to_vec())).collect();
    let output = |(shape, data)| Output { datatype: Datatype::Fp32, shape, data };
    let outputs: Vec<_> = inputs.iter().map(|(shape, data)| output((shape.clone(), &data[..]))).collect();
    end.finish(call, &outputs);
}

/// The defaults, as far as they matter here.
fn config() -> serde_json::Result<EngineConfig> {
    serde_json::from_value(json!({
        "host": "127.0.0.1", "http_port": 0, "grpc_port": 0, "admin_socket": null, "admin_optional": false,
        "control": "none", "strict_readiness": false, "drain_timeout_s": 1.0, "drain_delay_s": 0.0,
        "log_format": "text", "access_log": true, "expose_errors": "message", "engine_threads": 1,
        "max_body_bytes": 67_108_864, "compress_responses": false, "max_bodies_bytes": 1_073_741_824,
        "max_requests": 1_000, "max_connections": 1_000, "header_timeout_s": 10.0, "keep_alive_s": 60.0,
        "allowed_origins": [], "allowed_hosts": [], "max_loads": 1, "spare_workers": 0, "transport": "shm",
        "worker_command": ["/bin/false"],
    }))
}

fn model() -> serde_json::Result<VersionSpec> {
    let tensor = |name: &str| json!({ "name": name, "datatype": "FP32", "dims": [16] });
    serde_json::from_value(json!({
        "name": "echo", "version": "1", "runtime": "python", "source": null,
        "inputs": [tensor(data::INPUT)], "outputs": [tensor("output")], "batch_axis": true, "imports": [],
        "probe": null, "streams": false, "uses": [], "service": null,
        "options": {
            "max_batch_size": 32, "max_queue_delay_ms": 0.0, "instances": 1, "concurrency": 1, "threads": 1, "worker": "own",
            "idempotent": true, "batch_errors": "isolated", "writable_inputs": false, "warm_up": null, "load_timeout_s": 60.0, "request_timeout_s": 30.0, "max_request_timeout_s": null, "hard_kill_after_s": null, "max_memory_bytes": null,
            "max_queue_items": 1_000, "max_queue_bytes": 1_073_741_824,
        },
    }))
}
