//! An engine's end and a worker's end in one process.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use samovar_core::channel::engine::{EndFrame, Link, OWN, Sink, StepFrame};
use samovar_core::channel::frame::BadFrame;
use samovar_core::channel::proto;
use samovar_core::channel::transport::{Gather, OutCall, Signature};
use samovar_core::channel::worker::{CallFrame, Incoming, Input, Output, WorkerEnd};
use samovar_core::clock::NEVER;
use samovar_core::config::TransportKind;
use samovar_core::request::Piece;
use samovar_core::tensor::{Datatype, Tensor, TensorSpec};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Far longer than anything here takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Run each of these tests over both transports.
macro_rules! on_both_transports {
    ($($name:ident),* $(,)?) => {
        mod shm {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(samovar_core::config::TransportKind::Shm).await;
            })*
        }
        mod inline {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(samovar_core::config::TransportKind::Inline).await;
            })*
        }
    };
}
pub(crate) use on_both_transports;

/// What a worker says beside the ends of calls.
#[derive(Debug)]
pub(crate) enum Heard {
    Part(u64, Piece),
    Credit(u64, u32),
    Called(StepFrame),
    Dropped(u64),
}

/// Passes what a worker says on to the test.
#[derive(Debug)]
struct Recorder {
    ends: mpsc::UnboundedSender<EndFrame>,
    heard: mpsc::UnboundedSender<Heard>,
}

impl Sink for Recorder {
    fn holds(&self, _call: u64) -> bool {
        true
    }

    fn part(&self, call: u64, piece: Piece) -> Result<(), BadFrame> {
        self.hear(Heard::Part(call, piece))
    }

    fn ended(&self, end: EndFrame) -> Result<(), BadFrame> {
        let _ = self.ends.send(end);
        Ok(())
    }

    fn credited(&self, call: u64, pieces: u32) -> Result<(), BadFrame> {
        self.hear(Heard::Credit(call, pieces))
    }

    fn called(&self, step: StepFrame) -> Result<(), BadFrame> {
        self.hear(Heard::Called(step))
    }

    fn dropped(&self, step: u64) {
        let _ = self.hear(Heard::Dropped(step));
    }

    fn abandoned(&self, _call: u64) {}

    fn closed(&self) {}
}

impl Recorder {
    fn hear(&self, heard: Heard) -> Result<(), BadFrame> {
        let _ = self.heard.send(heard);
        Ok(())
    }
}

/// The engine's side of a channel whose other side is the test's.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) link: Arc<Link>,
    ends: mpsc::UnboundedReceiver<EndFrame>,
    heard: mpsc::UnboundedReceiver<Heard>,
    run: JoinHandle<Result<(), BadFrame>>,
    death: Option<oneshot::Sender<()>>,
}

impl Engine {
    /// Must run inside a runtime.
    pub(crate) fn new(kind: TransportKind, signature: Signature) -> (Self, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (link, inbound) = Link::new(ours, kind).unwrap();
        let (sender, ends) = mpsc::unbounded_channel();
        let (hearer, heard) = mpsc::unbounded_channel();
        link.attach(OWN, Arc::new(Recorder { ends: sender, heard: hearer }), signature);
        let (death, died) = oneshot::channel::<()>();
        let runner = Arc::clone(&link);
        let run = tokio::spawn(async move {
            let death = async {
                let _ = died.await;
            };
            runner.run(inbound, death).await
        });
        (Self { link, ends, heard, run, death: Some(death) }, theirs)
    }

    pub(crate) async fn end(&mut self) -> EndFrame {
        let next = async {
            tokio::select! {
                biased;
                end = self.ends.recv() => end.expect("the link keeps its sink"),
                outcome = &mut self.run => panic!("the link has ended: {outcome:?}"),
            }
        };
        tokio::time::timeout(LIMIT, next).await.expect("an END comes in time")
    }

    pub(crate) fn try_end(&mut self) -> Option<EndFrame> {
        self.ends.try_recv().ok()
    }

    /// What the worker says next beside the ends of calls.
    pub(crate) async fn heard(&mut self) -> Heard {
        let next = tokio::time::timeout(LIMIT, self.heard.recv()).await;
        next.expect("the worker says something in time").expect("the link keeps its sink")
    }

    pub(crate) fn try_heard(&mut self) -> Option<Heard> {
        self.heard.try_recv().ok()
    }

    /// Let the engine hear that the worker process is dead.
    pub(crate) fn announce_death(&mut self) {
        self.death.take().map(|death| death.send(()));
    }

    /// How the link ended.
    pub(crate) async fn outcome(&mut self) -> Result<(), BadFrame> {
        let ended = tokio::time::timeout(LIMIT, &mut self.run).await;
        ended.expect("the link ends in time").expect("the link does not panic")
    }

    /// Answer of the call that ends next, which must be `call`.
    pub(crate) async fn outputs_of(&mut self, call: u64) -> Vec<Tensor> {
        let end = self.end().await;
        assert_eq!(end.call, call);
        end.result.expect("the call succeeds").tensors
    }

    pub(crate) fn close(self) {
        self.run.abort();
    }
}

/// The worker's side, driven by the test.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) end: Arc<WorkerEnd>,
    is_engine_gone: Arc<AtomicBool>,
    socket: Arc<UnixStream>,
}

impl Worker {
    /// Blocks until the engine has said HELLO.
    pub(crate) fn connect(socket: UnixStream) -> Self {
        let is_engine_gone = Arc::new(AtomicBool::new(false));
        let (flag, spare) = (Arc::clone(&is_engine_gone), socket.try_clone().unwrap());
        let end = WorkerEnd::connect(OwnedFd::from(socket), move || flag.store(true, Ordering::Release)).unwrap();
        let _ = end.take_news(); // from now on they are kept
        Self { end, is_engine_gone, socket: Arc::new(spare) }
    }

    /// The next call or question; `None` when the engine wants this worker to end, or has ended itself.
    pub(crate) fn next(&self) -> Option<Incoming> {
        let began = Instant::now();
        loop {
            if let Some(incoming) = self.end.poll().expect("the engine sends good frames") {
                return Some(incoming);
            }
            if self.end.has_ended() || self.is_engine_gone() {
                return None;
            }
            assert!(began.elapsed() < LIMIT, "the engine sends nothing");
            let step = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            let _ = poll(&mut [PollFd::new(self.end.work_descriptor(), PollFlags::IN)], Some(&step));
        }
    }

    pub(crate) fn next_call(&self) -> CallFrame {
        match self.next() {
            Some(Incoming::Call(call)) => call,
            other => panic!("wanted a call, got {other:?}"),
        }
    }

    pub(crate) fn next_ask(&self) -> (u64, String, String) {
        match self.next() {
            Some(Incoming::Ask { number, verb, body }) => (number, verb, body),
            other => panic!("wanted a question, got {other:?}"),
        }
    }

    pub(crate) fn is_engine_gone(&self) -> bool {
        self.is_engine_gone.load(Ordering::Acquire)
    }

    /// What the engine sees when the process ends.
    pub(crate) fn close_socket(&self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// Answer with copies of the inputs.
    pub(crate) fn echo(&self, mut call: CallFrame) {
        let copy = |input: Input| (input.datatype, input.shape, input.data.to_vec());
        let copies: Vec<_> = std::mem::take(&mut call.inputs).into_iter().map(copy).collect();
        let outputs: Vec<_> = copies
            .iter()
            .map(|(datatype, shape, data)| Output { datatype: *datatype, shape: shape.clone(), data })
            .collect();
        self.end.finish(call, &outputs);
    }

    /// Echo every call on a thread of its own until the engine says end.
    pub(crate) fn echo_all(&self) -> std::thread::JoinHandle<()> {
        let worker = self.clone();
        std::thread::spawn(move || {
            while let Some(incoming) = worker.next() {
                match incoming {
                    Incoming::Call(call) => worker.echo(call),
                    Incoming::Ask { number, body, .. } => worker.end.tell(number, true, body),
                }
            }
        })
    }
}

/// Both ends, with the model loaded.
pub(crate) async fn pair(kind: TransportKind, signature: Signature) -> (Engine, Worker) {
    loaded(kind, signature, false).await
}

/// Both ends of a worker whose thread reads everything: its model streams.
pub(crate) async fn relayed(kind: TransportKind, signature: Signature) -> (Engine, Worker) {
    loaded(kind, signature, true).await
}

async fn loaded(kind: TransportKind, signature: Signature, streams: bool) -> (Engine, Worker) {
    let load = load_body(&signature, streams);
    let (engine, socket) = Engine::new(kind, signature);
    let worker = tokio::task::spawn_blocking(|| Worker::connect(socket)).await.unwrap();
    let loader = worker.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let (number, verb, _) = loader.next_ask();
        assert_eq!(verb, "load");
        loader.end.tell(number, true, "{}".into());
    });
    assert!(engine.link.ask("load", load).await.unwrap().ok);
    answer.await.unwrap();
    (engine, worker)
}

/// The body of the question that loads a model.
pub(crate) fn load_body(signature: &Signature, streams: bool) -> String {
    let Signature { inputs, outputs, batch_axis } = signature;
    serde_json::json!({ "inputs": inputs, "outputs": outputs, "batch_axis": batch_axis, "streams": streams })
        .to_string()
}

/// Wait until the worker has read what was sent to it; no call may be on its way.
pub(crate) async fn read_all(link: &Link, worker: &Worker) {
    let reader = worker.clone();
    let answering = tokio::task::spawn_blocking(move || {
        let (number, ..) = reader.next_ask();
        reader.end.tell(number, true, String::new());
        assert!(reader.end.poll().unwrap().is_none(), "nothing but a question was expected");
    });
    assert!(link.ask("ping", String::new()).await.unwrap().ok);
    answering.await.unwrap();
}

/// Wait for what another thread is about to do.
#[track_caller]
pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "it never came true");
        std::thread::yield_now();
    }
}

/// Wait until no request memory is in use.
pub(crate) async fn until_all_is_free(link: &Link) {
    let began = Instant::now();
    while link.request_bytes() > 0 {
        assert!(began.elapsed() < LIMIT, "{} bytes are never released", link.request_bytes());
        tokio::task::yield_now().await;
    }
}

/// Wait until the worker has read everything, and so heard that none of its answers is looked at any more.
pub(crate) async fn until_answers_are_free(link: &Link, worker: &Worker) {
    let began = Instant::now();
    read_all(link, worker).await;
    while worker.end.answer_bytes() > 0 {
        assert!(began.elapsed() < LIMIT, "{} bytes are never given back", worker.end.answer_bytes());
        read_all(link, worker).await;
    }
}

/// Equal inputs and outputs, with a batch axis.
pub(crate) fn echoing(tensors: &[(Datatype, &[i64])]) -> Signature {
    let specs: Vec<_> = tensors
        .iter()
        .enumerate()
        .map(|(index, (datatype, dims))| TensorSpec {
            name: format!("t{index}"),
            datatype: Some(*datatype),
            dims: Some(dims.to_vec()),
        })
        .collect();
    Signature { inputs: specs.clone(), outputs: specs, batch_axis: true }
}

/// A call whose first axis is its rows, with one item.
pub(crate) fn out_call(call: u64, signature: &Signature, inputs: Vec<Gather>) -> OutCall {
    let rows = inputs.first().and_then(|input| input.shape.first()).map_or(1, |rows| *rows as u32);
    let item = proto::Item { id: format!("r{call}"), rows, ..proto::Item::default() };
    OutCall {
        call,
        instance: 0,
        deadline: NEVER,
        rows,
        items: vec![item],
        inputs,
        is_fast: Signature::is_fast(&signature.inputs),
        method: String::new(),
        http: None,
        is_open: false,
    }
}

pub(crate) fn gather(datatype: Datatype, shape: &[u64], data: impl Into<Bytes>) -> Gather {
    Gather { datatype, shape: shape.to_vec(), pieces: vec![data.into()] }
}

/// A UINT8 call of one row with these bytes.
pub(crate) fn bytes_call(call: u64, data: impl Into<Bytes>) -> OutCall {
    let data = data.into();
    let signature = byte_signature();
    out_call(call, &signature, vec![gather(Datatype::Uint8, &[1, data.len() as u64], data)])
}

/// One row of UINT8.
pub(crate) fn output(data: &[u8]) -> Output<'_> {
    Output { datatype: Datatype::Uint8, shape: vec![1, data.len() as u64], data }
}

/// Any number of UINT8 per row.
pub(crate) fn byte_signature() -> Signature {
    echoing(&[(Datatype::Uint8, &[-1])])
}

/// Bytes that tell which call they belong to.
pub(crate) fn pattern(call: u64, length: usize) -> Vec<u8> {
    let seed = call.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    let mut bytes = seed.repeat(length / 8 + 1);
    bytes.truncate(length);
    bytes
}
