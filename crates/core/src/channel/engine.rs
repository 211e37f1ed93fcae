//! The engine's end of a channel.
//!
//! A [`Link`] is one worker: its socket, its transport, the questions and calls that are open, the instances that it
//! holds. One task reads what the worker sends ([`Link::run`]); everything else is called from anywhere and never waits.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{Notify, oneshot};

use super::frame::{
    BadFrame, Descriptor, FLAG_FAILED, FLAG_LAST, FLAG_RELEASED, FLAG_TENSOR, Kind, Reference, STEP, bad,
};
use super::inflow::{Inflows, News};
use super::inline::InlineTransport;
use super::line::Line;
use super::lookout::lookout;
use super::outbox::Outbox;
use super::proto;
use super::ring::Consumer;
use super::shm::ShmTransport;
use super::socket::{self, Outgoing};
use super::transport::{Fetched, Gather, Message, OutCall, Signature, Transport, decode, tensor_limit};
use super::{FEATURE_SHM, FORMAT_VERSION};
use crate::clock::{Nanos, now};
use crate::config::TransportKind;
use crate::request::{Piece, ResponseHead};
use crate::tensor::Tensor;

/// How long the socket of a dead worker is read on.
const LAST_WORDS: Duration = Duration::from_millis(20);
/// A turn of the runtime that took less than this had nothing to do: the processor goes to whoever wants it. With a yield
/// after every turn, one connection got 17,149 answers a second, and 23,568 so.
const IDLE_TURN: Nanos = 2_000;

/// Number of the instance of a worker that holds no other; those of a shared worker count from 1.
pub const OWN: u32 = 0;

/// A call that came back.
#[derive(Debug)]
pub struct EndFrame {
    /// Its number.
    pub call: u64,
    /// When the worker began it, by the worker's word.
    pub began: Nanos,
    /// What is left of its answer: outputs in the order of the signature, lengths checked against shapes; or what went
    /// wrong.
    pub result: Result<Piece, proto::Failure>,
}

/// A worker calls another model.
#[derive(Debug)]
pub struct StepFrame {
    /// Its number, of the worker's counting.
    pub number: u64,
    /// What is called, and on whose behalf.
    pub target: proto::Target,
    /// Inputs by the names in `target`.
    pub inputs: Vec<Tensor>,
}

/// Who is told what a worker does. An error is a bad frame: it ends the worker.
pub trait Sink: Send + Sync + std::fmt::Debug {
    /// Is this a call that the worker runs? What comes in pieces for another is not kept.
    fn holds(&self, call: u64) -> bool;
    /// A piece of the answer to a call, in order; more may follow.
    fn part(&self, call: u64, piece: Piece) -> Result<(), BadFrame>;
    /// A call came back.
    fn ended(&self, end: EndFrame) -> Result<(), BadFrame>;
    /// The worker takes so many more pieces of a call's request body, or of the answer to a call of its own.
    fn credited(&self, call: u64, pieces: u32) -> Result<(), BadFrame>;
    /// The worker calls another model.
    fn called(&self, step: StepFrame) -> Result<(), BadFrame>;
    /// The worker no longer waits for a call of its own.
    fn dropped(&self, step: u64);
    /// True if the worker's thread reads the ring at once, whatever runs.
    fn is_relayed(&self) -> bool {
        false
    }
    /// A call that waited for its turn in a shared worker could not be sent.
    fn unsent(&self, call: u64, fault: BadFrame) {
        let _ = (call, fault);
    }
    /// Nobody waits for a call of the engine any more.
    fn abandoned(&self, call: u64);
    /// Nothing more comes from the worker.
    fn closed(&self);
}

/// The engine's end of one worker's channel.
#[derive(Debug)]
pub struct Link {
    outbox: Outbox,
    transport: Arc<dyn Transport>,
    /// Open questions; `None` once nobody will answer any more.
    asks: Mutex<Option<HashMap<u64, oneshot::Sender<proto::Tell>>>>,
    next_ask: AtomicU64,
    /// The instances that it holds, by the number that frames give them.
    attached: ArcSwap<BTreeMap<u32, Arc<Attached>>>,
    /// Calls that wait for their turn, if the worker is shared.
    line: OnceLock<Mutex<Line>>,
    /// Answers that come in pieces.
    inflows: Mutex<Inflows>,
    /// The worker is to end now, for this cause.
    condemned: Notify,
    sentence: OnceLock<&'static str>,
}

/// An instance that a worker holds.
#[derive(Debug)]
struct Attached {
    sink: Arc<dyn Sink>,
    signature: Signature,
}

/// The turn of a load or unload in a shared worker: nothing else runs there until it is dropped.
#[derive(Debug)]
pub struct Errand {
    link: Arc<Link>,
    turn: oneshot::Receiver<()>,
    has_begun: bool,
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.turn.close();
        // One that ended the worker stays what the worker did last.
        let is_over = (self.has_begun || self.turn.try_recv().is_ok()) && self.link.asks.lock().is_some();
        if let Some(line) = self.link.line.get().filter(|_| is_over) {
            line.lock().end_errand();
            self.link.advance(line);
        }
    }
}

/// Nothing is read from the worker any more once this is dropped.
struct Closing<'a>(&'a Link);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        *self.0.asks.lock() = None;
        if let Some(line) = self.0.line.get() {
            line.lock().close();
        }
        self.0.attached.load().values().for_each(|attached| attached.sink.closed());
    }
}

/// What [`Link::run`] reads from.
#[derive(Debug)]
pub struct Inbound {
    socket: OwnedReadHalf,
    ring: Option<(Consumer, AsyncFd<OwnedFd>)>,
}

impl Link {
    /// Say HELLO on `socket` and start the task that writes to it. Must run inside the tokio runtime.
    pub fn new(socket: std::os::unix::net::UnixStream, kind: TransportKind) -> io::Result<(Arc<Self>, Inbound)> {
        socket.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(socket)?.into_split();
        let outbox = Outbox::new(write);
        let (transport, ring): (Arc<dyn Transport>, _) = match kind {
            TransportKind::Inline => {
                outbox.send(hello(0, 0, Vec::new()));
                (Arc::new(InlineTransport), None)
            }
            TransportKind::Shm => {
                let opened = ShmTransport::open()?;
                outbox.send(hello(FEATURE_SHM, super::ring::CONTROL_BYTES, opened.descriptors));
                (Arc::new(opened.transport), Some((opened.consumer, super::segments::watch(opened.answers)?)))
            }
        };
        let link = Self {
            outbox,
            transport,
            asks: Mutex::new(Some(HashMap::new())),
            next_ask: AtomicU64::new(1),
            attached: ArcSwap::default(),
            line: OnceLock::new(),
            inflows: Mutex::default(),
            condemned: Notify::new(),
            sentence: OnceLock::new(),
        };
        Ok((Arc::new(link), Inbound { socket: read, ring }))
    }

    /// Send everything another way.
    #[cfg(test)]
    pub(crate) fn set_transport(&mut self, transport: Arc<dyn Transport>) {
        self.transport = transport;
    }

    /// From now on what the worker says of instance `number` goes to `sink`.
    pub fn attach(&self, number: u32, sink: Arc<dyn Sink>, signature: Signature) {
        let attached = Arc::new(Attached { sink, signature });
        self.attached.rcu(|instances| {
            let mut instances = BTreeMap::clone(instances);
            instances.insert(number, Arc::clone(&attached));
            instances
        });
    }

    /// The worker does not hold this instance any more.
    pub fn detach(&self, number: u32) {
        self.attached.rcu(|instances| {
            let mut instances = BTreeMap::clone(instances);
            instances.remove(&number);
            instances
        });
    }

    /// From now on the worker holds several instances, which take turns.
    pub fn share(&self) {
        let _ = self.line.set(Mutex::default());
    }

    /// Wait for the turn of a load or unload in a shared worker; in another it is at once.
    pub async fn errand(self: &Arc<Self>) -> Result<Option<Errand>, WorkerGone> {
        let Some(line) = self.line.get() else { return Ok(None) };
        let turn = line.lock().add_errand();
        let mut errand = Errand { link: Arc::clone(self), turn, has_begun: false };
        self.advance(line);
        if self.asks.lock().is_none() {
            return Err(WorkerGone);
        }
        (&mut errand.turn).await.map_err(|_| WorkerGone)?;
        errand.has_begun = true;
        Ok(Some(errand))
    }

    /// How long a shared worker has run a call that nobody waits for.
    #[must_use]
    pub fn in_vain(&self) -> Option<Duration> {
        self.line.get()?.lock().in_vain(|call| self.transport.has_started(call))
    }

    /// Did a shared worker run a call, a load or an unload when it ended, and had it finished a call before?
    #[must_use]
    pub fn last_seen(&self) -> (bool, bool) {
        let line = self.line.get().map(Mutex::lock);
        line.map_or((false, false), |line| (line.is_busy(|call| self.transport.has_started(call)), line.has_finished))
    }

    /// Bytes of request memory that calls, or inputs kept by the worker, use.
    #[must_use]
    pub fn request_bytes(&self) -> u64 {
        self.transport.request_bytes()
    }

    /// Send a call, or let it wait for its turn.
    pub fn call(&self, call: OutCall) -> Result<(), BadFrame> {
        let Some(line) = self.line.get() else { return self.transport.send_call(&self.outbox, call) };
        line.lock().add(call);
        self.advance(line);
        Ok(())
    }

    /// Send what is next in line.
    fn advance(&self, line: &Mutex<Line>) {
        let mut line = line.lock(); // while it is held nobody overtakes
        while let Some(call) = line.next() {
            let (instance, number) = (call.instance, call.call);
            let Err(fault) = self.transport.send_call(&self.outbox, call) else { continue };
            line.forget(number);
            if let Some(attached) = self.attached.load().get(&instance).cloned() {
                // Whoever is told may hold the lock of its version now.
                tokio::spawn(async move { attached.sink.unsent(number, fault) });
            }
        }
    }

    /// Take back a call that has not begun; false if it has.
    #[must_use]
    pub fn revoke(&self, call: u64) -> bool {
        let Some(line) = self.line.get() else { return self.transport.revoke(call) };
        if line.lock().withdraw(call) {
            return true;
        }
        let is_revoked = self.transport.revoke(call);
        if is_revoked {
            line.lock().forget(call);
            self.advance(line);
        }
        is_revoked
    }

    /// Has this call begun?
    #[must_use]
    pub fn has_started(&self, call: u64) -> bool {
        let has_started = |call| self.transport.has_started(call);
        self.line.get().map_or_else(|| has_started(call), |line| line.lock().is_running(call, has_started))
    }

    /// Tell the worker that nobody waits for a call any more.
    pub fn cancel(&self, call: u64) {
        let descriptor = Descriptor::new(Kind::Cancel, call);
        if let Some(line) = self.line.get() {
            line.lock().abandon(call);
        }
        // In a shared worker there is none that this concerns: it calls no others, and nothing that it runs streams.
        let own = self.attached.load().get(&OWN).cloned();
        if own.as_ref().is_some_and(|own| own.sink.is_relayed()) {
            // In the ring, in front of the ends of its steps: what waits for one is to be cancelled, not to see it fail.
            self.transport.send_bare(&self.outbox, &descriptor);
        } else {
            self.outbox.send(Outgoing::bare(descriptor));
        }
        if let Some(own) = own {
            own.sink.abandoned(call);
        }
    }

    /// Let the worker send one more piece of a call's answer.
    pub fn credit(&self, call: u64) {
        if self.inflows.lock().credit(call) {
            let mut descriptor = Descriptor::new(Kind::Credit, call);
            descriptor.rows = 1;
            self.transport.send_bare(&self.outbox, &descriptor);
        }
    }

    /// Send a piece of a call's request body, or of the answer to a worker's call.
    pub fn part(&self, piece: OutPiece<'_>, is_last: bool) -> Result<(), BadFrame> {
        let mut descriptor = Descriptor::new(Kind::Part, piece.call);
        descriptor.sequence = piece.sequence;
        descriptor.flags = if is_last { FLAG_LAST } else { 0 };
        let message = proto::Part { names: piece.names.to_vec(), ..proto::Part::default() };
        self.transport.send(&self.outbox, descriptor, Message::Part(message), piece.tensors)
    }

    /// Answer a worker's call with its outputs.
    pub fn finish(&self, piece: OutPiece<'_>) -> Result<(), BadFrame> {
        let mut descriptor = Descriptor::new(Kind::End, piece.call);
        descriptor.sequence = piece.sequence;
        let message = proto::End { names: piece.names.to_vec(), ..proto::End::default() };
        self.transport.send(&self.outbox, descriptor, Message::End(message), piece.tensors)
    }

    /// Answer a worker's call with what went wrong after `parts` pieces.
    pub fn fail(&self, step: u64, parts: u32, failure: proto::Failure) -> Result<(), BadFrame> {
        let mut descriptor = Descriptor::new(Kind::End, step);
        (descriptor.sequence, descriptor.flags) = (parts, FLAG_FAILED);
        let message = proto::End { failure: Some(failure), ..proto::End::default() };
        self.transport.send(&self.outbox, descriptor, Message::End(message), &[])
    }

    /// Tell the worker to end by itself.
    pub fn end_worker(&self) {
        let ask = proto::Ask { verb: "end".into(), body: String::new() };
        self.outbox.send(Outgoing::new(Descriptor::new(Kind::Ask, 0), &ask));
    }

    /// End the worker for this cause, a name for metrics.
    pub fn condemn(&self, cause: &'static str) {
        let _ = self.sentence.set(cause);
        self.condemned.notify_one();
    }

    /// The cause for which the engine ended the worker, if it did.
    #[must_use]
    pub fn sentence(&self) -> Option<&'static str> {
        self.sentence.get().copied()
    }

    /// Ask a question; an error if the worker dies before it answers.
    pub async fn ask(&self, verb: &str, body: String) -> Result<proto::Tell, WorkerGone> {
        let number = self.next_ask.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.asks.lock().as_mut().ok_or(WorkerGone)?.insert(number, sender);
        let ask = proto::Ask { verb: verb.to_owned(), body };
        self.outbox.send(Outgoing::new(Descriptor::new(Kind::Ask, number), &ask));
        receiver.await.map_err(|_| WorkerGone)
    }

    /// Read what the worker sends until `death` completes or the worker ends the socket. What had been sent before a
    /// death is still read. Ends with an error for a bad frame.
    pub async fn run(&self, mut inbound: Inbound, death: impl Future<Output = ()>) -> Result<(), BadFrame> {
        let _closing = Closing(self); // also where what follows panics
        let outcome = tokio::select! {
            outcome = self.read_socket(&mut inbound.socket) => outcome,
            outcome = self.read_ring(inbound.ring.as_mut()) => outcome,
            fault = self.outbox.fault() => Err(fault),
            () = self.condemned.notified() => Ok(()),
            // A child of the worker may hold the socket open; what the worker itself had sent is here already.
            () = async { death.await; tokio::time::sleep(LAST_WORDS).await } => Ok(()),
        };
        match (&outcome, inbound.ring.as_mut()) {
            (Ok(()), Some((consumer, _))) => self.drain_ring(consumer).map(|_| ()),
            _ => outcome,
        }
    }

    async fn read_ring(&self, ring: Option<&mut (Consumer, AsyncFd<OwnedFd>)>) -> Result<(), BadFrame> {
        let Some((consumer, answers)) = ring else { return std::future::pending().await };
        let mut expects_soon = false;
        loop {
            if self.drain_ring(consumer)? {
                continue;
            }
            let began = now();
            let has_news = expects_soon && look_out(consumer, began + lookout()).await;
            if !has_news && consumer.prepare_sleep() {
                let Ok(mut ready) = answers.readable().await else { return Ok(()) };
                let _ = rustix::io::read(ready.get_inner(), &mut [0_u8; 8]);
                ready.clear_ready();
            }
            expects_soon = now() - began < lookout();
        }
    }

    /// Handle everything in the ring; true if there was anything.
    fn drain_ring(&self, consumer: &mut Consumer) -> Result<bool, BadFrame> {
        let mut any = false;
        while let Some(entry) = consumer.pop()? {
            consumer.acknowledge();
            any = true;
            self.handle_shm(&Descriptor::decode(&entry.descriptor)?)?;
        }
        Ok(any)
    }

    fn handle_shm(&self, descriptor: &Descriptor) -> Result<(), BadFrame> {
        match descriptor.kind {
            Kind::End | Kind::Part | Kind::Call => {
                let attached = self.attached(descriptor)?;
                let fetched = Arc::clone(&self.transport).fetch(&self.outbox, descriptor, &attached.signature)?;
                self.arrived(&*attached.sink, descriptor, fetched)
            }
            Kind::Release => self.transport.released(&self.outbox, descriptor),
            Kind::Credit => self.attached(descriptor)?.sink.credited(descriptor.call, descriptor.rows),
            Kind::Cancel if descriptor.call & STEP != 0 => {
                self.attached(descriptor)?.sink.dropped(descriptor.call);
                Ok(())
            }
            kind => bad(format!("{kind:?} from a worker")),
        }
    }

    /// Whose frame it is; a worker that nothing has been loaded into has nothing to say.
    fn attached(&self, descriptor: &Descriptor) -> Result<Arc<Attached>, BadFrame> {
        let Descriptor { kind, instance, .. } = descriptor;
        let found = self.attached.load().get(instance).cloned();
        found.map_or_else(|| bad(format!("{kind:?} of instance {instance}, which the worker does not hold")), Ok)
    }

    async fn read_socket(&self, stream: &mut OwnedReadHalf) -> Result<(), BadFrame> {
        loop {
            match socket::read(stream).await {
                Ok(None) => return Ok(()),
                Ok(Some((descriptor, metadata))) => self.handle_socket(stream, &descriptor, &metadata).await?,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return bad(error.to_string()),
                Err(_) => return Ok(()),
            }
        }
    }

    async fn handle_socket(
        &self,
        stream: &mut OwnedReadHalf,
        descriptor: &Descriptor,
        metadata: &[u8],
    ) -> Result<(), BadFrame> {
        match descriptor.kind {
            Kind::Hello => check_hello(&decode::<proto::Hello>(metadata)?),
            Kind::Tell => {
                let tell = decode::<proto::Tell>(metadata)?;
                if let Some(asker) = self.asks.lock().as_mut().and_then(|asks| asks.remove(&descriptor.call)) {
                    let _ = asker.send(tell);
                }
                Ok(())
            }
            Kind::Segment => self.transport.segment(&self.outbox, &decode::<proto::Segment>(metadata)?),
            Kind::End | Kind::Part | Kind::Call if descriptor.segment == 0 => {
                let attached = self.attached(descriptor)?;
                let fetched = read_inline(stream, descriptor, metadata, &attached.signature).await?;
                self.arrived(&*attached.sink, descriptor, fetched)
            }
            _ => self.handle_shm(descriptor),
        }
    }

    /// A frame with tensors is there as a whole.
    fn arrived(&self, sink: &dyn Sink, descriptor: &Descriptor, fetched: Fetched) -> Result<(), BadFrame> {
        let (call, tensors) = (descriptor.call, fetched.tensors);
        match fetched.message {
            Message::Call(message) => sink.called(step(call, message, tensors)?),
            Message::Part(part) => {
                let piece = Piece { head: part.http.map(ResponseHead::from_proto), tensors };
                let is_known = || sink.holds(call);
                let news = self.inflows.lock().part(descriptor, piece, is_known)?;
                self.tell(sink, call, news)
            }
            Message::End(message) => {
                let end = self.end_frame(descriptor, message, tensors)?;
                let is_known = || sink.holds(call);
                let news = self.inflows.lock().end(descriptor.sequence, end, is_known)?;
                self.tell(sink, call, news)
            }
        }
    }

    /// Pass on what has become complete; the end of a call frees what it had.
    fn tell(&self, sink: &dyn Sink, call: u64, news: News) -> Result<(), BadFrame> {
        for piece in news.pieces {
            sink.part(call, piece)?;
        }
        let Some((end, is_released)) = news.end else { return Ok(()) };
        self.transport.ended(&self.outbox, call, is_released);
        if let Some(line) = self.line.get() {
            {
                let mut line = line.lock();
                line.forget(call);
                line.has_finished = true;
            }
            self.advance(line);
        }
        sink.ended(end)
    }

    fn end_frame(
        &self,
        descriptor: &Descriptor,
        message: proto::End,
        tensors: Vec<Tensor>,
    ) -> Result<(EndFrame, bool), BadFrame> {
        let result = match message.failure {
            Some(failure) if descriptor.has(FLAG_FAILED) => Err(failure),
            None if !descriptor.has(FLAG_FAILED) => {
                Ok(Piece { head: message.http.map(ResponseHead::from_proto), tensors })
            }
            _ => return bad("END whose flag and failure disagree"),
        };
        Ok((EndFrame { call: descriptor.call, began: descriptor.deadline, result }, descriptor.has(FLAG_RELEASED)))
    }
}

/// A piece that the engine sends, and its place in its stream.
#[derive(Clone, Copy, Debug)]
pub struct OutPiece<'a> {
    /// The call that it belongs to.
    pub call: u64,
    /// Pieces before it.
    pub sequence: u32,
    /// Names of the outputs; none for a request body.
    pub names: &'a [String],
    /// The outputs, or the bytes of a body.
    pub tensors: &'a [Gather],
}

fn step(number: u64, message: proto::Call, inputs: Vec<Tensor>) -> Result<StepFrame, BadFrame> {
    let Some(target) = message.target.filter(|_| number & STEP != 0) else {
        return bad("a CALL from a worker needs a target and a number of its own");
    };
    if target.names.len() != inputs.len() {
        return bad(format!("{} names for {} inputs", target.names.len(), inputs.len()));
    }
    Ok(StepFrame { number, target, inputs })
}

/// The worker died before it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerGone;

/// Look at the ring until there is something in it, at most until then, whenever the runtime has done what else there is.
async fn look_out(consumer: &Consumer, until: Nanos) -> bool {
    let mut before = now();
    while before < until {
        tokio::task::yield_now().await;
        if consumer.has_unread() {
            return true;
        }
        let after = now();
        if after - before < IDLE_TURN {
            std::thread::yield_now();
        }
        before = after;
    }
    false
}

fn hello(features: u64, control_size: u64, descriptors: Vec<OwnedFd>) -> Outgoing {
    let message = proto::Hello { version: FORMAT_VERSION, features, pid: std::process::id(), control_size };
    Outgoing { descriptors, ..Outgoing::new(Descriptor::new(Kind::Hello, 0), &message) }
}

fn check_hello(hello: &proto::Hello) -> Result<(), BadFrame> {
    if hello.version == FORMAT_VERSION {
        return Ok(());
    }
    bad(format!("the worker speaks format {}, the engine {FORMAT_VERSION}; install one samovar in both", hello.version))
}

async fn read_inline(
    stream: &mut OwnedReadHalf,
    descriptor: &Descriptor,
    metadata: &[u8],
    signature: &Signature,
) -> Result<Fetched, BadFrame> {
    let message = Message::decode(descriptor.kind, metadata)?;
    let listed = message.tensors();
    if usize::from(descriptor.tensor_count) != listed.len() || descriptor.has(FLAG_TENSOR) {
        return bad("a frame on the socket lists its tensors in the metadata");
    }
    if listed.len() > tensor_limit(descriptor.kind, signature) {
        return bad(format!("{} tensors, more than {:?} may have", listed.len(), descriptor.kind));
    }
    let mut tensors = Vec::with_capacity(listed.len());
    for tensor in listed {
        let reference = Reference::check(tensor)?;
        if reference.place.is_some() {
            return bad("a shared-memory tensor on the inline transport");
        }
        let data = socket::read_long(stream, reference.length).await.or_else(|error| bad(error.to_string()))?;
        reference.check_content(&data)?;
        tensors.push(Tensor { datatype: reference.datatype, shape: reference.shape, data: data.into() });
    }
    Ok(Fetched { message, tensors })
}
