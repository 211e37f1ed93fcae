//! Versions whose workers are the test's.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;
use samovar_core::channel::engine::{Link, OWN};
use samovar_core::channel::frame::BadFrame;
use samovar_core::channel::proto;
use samovar_core::channel::worker::{CallFrame, Step, StepNews};
use samovar_core::clock::now;
use samovar_core::config::{ExposeErrors, TransportKind, VersionSpec};
use samovar_core::error::{Code, Error};
use samovar_core::request::{InferRequest, InferResponse};
use samovar_core::tensor::{Datatype, NamedTensor, Tensor};
use samovar_core::version::steps::Directory;
use samovar_core::version::{InstanceSink, Seat, Version};
use tokio::task::JoinHandle;

use crate::harness::*;

/// The name of a model at which looking it up fails.
pub(crate) const PANICS: &str = "panics";

/// Versions by their names.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<HashMap<String, Arc<Version>>>);

impl Directory for Names {
    fn find(&self, model: &str, _version: Option<&str>) -> Result<Arc<Version>, Error> {
        assert_ne!(model, PANICS, "nothing has this name");
        let found = self.0.lock().get(model).cloned();
        found.ok_or_else(|| Error::new(Code::UnknownModel, format!("no model {model:?}")))
    }
}

/// A model of any number of UINT8, one call at a time; it may wait for others.
pub(crate) fn spec(name: &str) -> VersionSpec {
    let tensor = |name: &str| serde_json::json!({ "name": name, "datatype": "UINT8", "dims": [-1] });
    serde_json::from_value(serde_json::json!({
        "name": name, "version": "1", "runtime": "python", "source": null,
        "inputs": [tensor("x")], "outputs": [tensor("y")], "batch_axis": false, "imports": [], "probe": null,
        "streams": false, "uses": ["others"], "service": null,
        "options": {
            "max_batch_size": 1, "max_queue_delay_ms": 0.0, "worker": "own", "instances": 1, "concurrency": 1, "threads": 1,
            "idempotent": true, "batch_errors": "isolated", "writable_inputs": false, "warm_up": null, "load_timeout_s": 30.0, "request_timeout_s": 30.0, "max_request_timeout_s": null, "hard_kill_after_s": null, "max_memory_bytes": null,
            "max_queue_items": 1, "max_queue_bytes": 1000
        }
    }))
    .unwrap()
}

/// A model that streams.
pub(crate) fn streaming(name: &str) -> VersionSpec {
    VersionSpec { streams: true, ..spec(name) }
}

/// A service with a method `f` that takes tensors.
pub(crate) fn service(name: &str) -> VersionSpec {
    let model = spec(name);
    let method = serde_json::json!({ "name": "f", "inputs": model.inputs, "outputs": model.outputs });
    let service = serde_json::json!({ "routes": [], "mounts": [], "methods": [method], "description": "" });
    VersionSpec {
        inputs: Vec::new(),
        outputs: Vec::new(),
        service: Some(serde_json::from_value(service).unwrap()),
        ..model
    }
}

/// A version with one live instance.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) version: Arc<Version>,
    pub(crate) worker: Worker,
    /// Ends with the worker.
    run: JoinHandle<Result<(), BadFrame>>,
    names: Arc<Names>,
}

impl Stage {
    pub(crate) async fn new(names: &Arc<Names>, spec: VersionSpec) -> Self {
        let version = Version::new(1, spec, Arc::default(), Arc::default(), ExposeErrors::Message);
        version.open();
        for served in version.methods().into_iter().chain([Arc::clone(&version)]) {
            names.0.lock().insert(served.name.to_string(), served);
        }
        let (worker, run) = start(&version, names).await;
        Self { version, worker, run, names: Arc::clone(names) }
    }

    /// What its instance does when its worker dies, up to the next worker.
    pub(crate) async fn die(&mut self) -> Result<(), BadFrame> {
        self.worker.close_socket();
        let outcome = self.outcome().await;
        self.version.instance_down(0);
        outcome
    }

    /// How the channel ended.
    pub(crate) async fn outcome(&mut self) -> Result<(), BadFrame> {
        tokio::time::timeout(LIMIT, &mut self.run).await.expect("the channel ends").unwrap()
    }

    /// Another worker takes over.
    pub(crate) async fn revive(&mut self) {
        (self.worker, self.run) = start(&self.version, &self.names).await;
    }

    /// A request of a client, which waits for its answer.
    pub(crate) fn request(&self, id: &str) -> JoinHandle<Result<InferResponse, Error>> {
        let (version, request) = (Arc::clone(&self.version), request(id));
        tokio::spawn(async move { version.infer(request).await })
    }

    /// The call of such a request.
    pub(crate) async fn next_call(&self) -> CallFrame {
        let worker = self.worker.clone();
        tokio::task::spawn_blocking(move || worker.next_call()).await.unwrap()
    }

    /// Call another model on behalf of a call, or of nobody (0).
    pub(crate) async fn step(&self, model: &str, parent: u64) -> Arc<Step> {
        let target = proto::Target { model: model.into(), names: vec!["x".into()], parent, ..proto::Target::default() };
        let worker = self.worker.clone();
        let begin = move || worker.end.begin(target, proto::Item::default(), &[flat(b"abc")]).unwrap();
        tokio::task::spawn_blocking(begin).await.unwrap()
    }
}

async fn start(version: &Arc<Version>, names: &Arc<Names>) -> (Worker, JoinHandle<Result<(), BadFrame>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (link, inbound) = Link::new(ours, TransportKind::Shm).unwrap();
    let directory = Arc::clone(names) as Arc<dyn Directory>;
    let sink = Arc::new(InstanceSink::new(Arc::clone(version), 0, &link, directory));
    link.attach(OWN, sink, version.signature().clone());
    let runner = Arc::clone(&link);
    let run = tokio::spawn(async move { runner.run(inbound, std::future::pending()).await });
    let worker = tokio::task::spawn_blocking(|| Worker::connect(theirs)).await.unwrap();
    let load = serde_json::to_string(&*version.spec).unwrap();
    let loading = worker.clone();
    let answering = tokio::task::spawn_blocking(move || {
        let (number, ..) = loading.next_ask();
        loading.end.tell(number, true, String::new());
    });
    assert!(link.ask("load", load).await.unwrap().ok);
    answering.await.unwrap();
    version.instance_up(0, Seat::own(link, 0, version.owner(0)));
    (worker, run)
}

/// A request with one input.
pub(crate) fn request(id: &str) -> InferRequest {
    let tensor = Tensor { datatype: Datatype::Uint8, shape: vec![3], data: "abc".into() };
    InferRequest {
        id: id.into(),
        model: String::new(),
        version: None,
        parameters: Vec::new(),
        inputs: vec![NamedTensor { name: "x".into(), tensor }],
        outputs: Vec::new(),
        timeout: None,
        queue_timeout: None,
        idempotent: None,
        trace: None,
        arrived: now(),
        origin: None,
    }
}

/// One axis of UINT8.
pub(crate) fn flat(data: &[u8]) -> samovar_core::channel::worker::Output<'_> {
    samovar_core::channel::worker::Output { shape: vec![data.len() as u64], ..output(data) }
}

/// How a step ended; its pieces before that are left out.
pub(crate) async fn ended(step: &Arc<Step>) -> Result<Vec<u8>, proto::Failure> {
    let step = Arc::clone(step);
    let waiting = tokio::task::spawn_blocking(move || {
        loop {
            if let StepNews::End(result) = step.wait() {
                return result.map(|outputs| outputs.first().map(|(_, y)| y.data.to_vec()).unwrap_or_default());
            }
        }
    });
    tokio::time::timeout(LIMIT, waiting).await.expect("the step ends").unwrap()
}

/// Wait for what other tasks are about to do.
pub(crate) async fn until_async(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("it comes true");
}
