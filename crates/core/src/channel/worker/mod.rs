//! The worker's end of a channel.
//!
//! A thread of its own reads the socket: descriptors, questions, cancellations, and the end of the engine, upon which it
//! kills the worker's process group. Whoever runs the model takes calls with [`WorkerEnd::take`] and answers them.

mod answers;
mod calls;
mod relay;
mod steps;
mod streams;
mod thread;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

pub use self::answers::NoRoom;
use self::calls::InputRange;
pub use self::streams::{CallState, Step, StepNews};
use self::thread::{be_ended_before_the_engine, end_process_group, wake_at_end_of};
use super::arena::Arena;
use super::frame::{BadFrame, Descriptor, Kind};
use super::lookout::lookout_after;
use super::ring::{Consumer, Direction, Producer};
use super::segments::{Mapping, open};
use super::shm::wake;
use super::socket::{self, Outgoing};
use super::transport::{Signature, decode};
use super::{FEATURE_SHM, FORMAT_VERSION, proto};
use crate::clock::{NEVER, Nanos, now};
use crate::tensor::Datatype;

/// Inputs kept beyond their call: past this much the next calls get copies, so that keepers cannot starve the channel.
const MAX_HELD_BYTES: u64 = 256 << 20;
/// A range as large as this is given back at once; the news of a smaller one waits for the next frame.
const URGENT_RELEASE_BYTES: u64 = 1 << 20;

/// What the engine wants.
#[derive(Debug)]
pub enum Incoming {
    /// Run this; it has been claimed.
    Call(CallFrame),
    /// Answer this.
    Ask {
        /// Number that the answer must bear.
        number: u64,
        /// What is asked.
        verb: String,
        /// JSON.
        body: String,
    },
}

/// One input as the model sees it.
#[derive(Clone, Debug)]
pub struct Input {
    /// Element type.
    pub datatype: Datatype,
    /// The whole shape.
    pub shape: Vec<u64>,
    /// The bytes; the memory stays the client's until the last clone is dropped.
    pub data: Bytes,
}

/// A call that has been claimed.
#[derive(Debug)]
pub struct CallFrame {
    /// Its number.
    pub call: u64,
    /// The instance it is for.
    pub instance: u32,
    /// Rows along the batch axis.
    pub rows: u32,
    /// The items in it.
    pub items: Vec<proto::Item>,
    /// One per input, in the order of the signature.
    pub inputs: Vec<Input>,
    /// Of a service: the method that takes the inputs; empty for a model.
    pub method: String,
    /// Of a service: the HTTP request whose body, as far as it has come, is the one input.
    pub http: Option<Box<proto::HttpRequest>>,
    /// What the engine says of it while it runs.
    pub state: Arc<CallState>,
    /// The engine will have answered by then.
    pub deadline: Nanos,
    began: Nanos,
    /// Pieces of the answer that were sent.
    parts: u32,
    range: Option<Arc<InputRange>>,
}

/// One output of a call.
#[derive(Debug)]
pub struct Output<'a> {
    /// Element type.
    pub datatype: Datatype,
    /// The whole shape.
    pub shape: Vec<u64>,
    /// The bytes.
    pub data: &'a [u8],
}

/// The worker's end of its channel.
#[derive(Debug)]
pub struct WorkerEnd {
    /// Process id of the engine, by its own word.
    engine: u32,
    /// The engine is the parent of this process, and the end of either is the end of both.
    is_child: AtomicBool,
    socket: OwnedFd,
    /// Serialises frames on the socket.
    writing: Mutex<()>,
    /// Made readable by the engine when it has pushed to a ring that nobody reads; without rings, as `relay`.
    work: OwnedFd,
    /// Made readable by this process when its thread has something for whoever runs the model.
    relay: OwnedFd,
    /// The thread reads the ring too: whoever runs the model may be waiting for something else.
    is_relayed: AtomicBool,
    reader: OnceLock<ThreadId>,
    inbox: Mutex<VecDeque<Incoming>>,
    /// Calls that run, or are about to.
    running: Mutex<HashMap<u64, Arc<CallState>>>,
    /// Calls of this worker that it waits for.
    steps: Mutex<HashMap<u64, Arc<Step>>>,
    next_step: AtomicU64,
    /// Numbers of calls and steps that something has come for; kept once somebody has asked for them.
    news: Mutex<Option<Vec<u64>>>,
    ended: AtomicBool,
    /// Returns when the interpreter has run something; nothing where there is none.
    pulse: OnceLock<fn()>,
    /// Of the instances that are loaded, by number: what the fast path leaves out.
    signatures: Mutex<BTreeMap<u32, Arc<Signature>>>,
    segments: Mutex<Segments>,
    /// Signalled when `segments` changed.
    granted: Condvar,
    held_bytes: AtomicU64,
    /// The model was told that it keeps too much.
    has_warned: AtomicBool,
    shm: Option<SharedMemory>,
    /// How long the last wait took; a short one may be followed by another.
    last_wait: AtomicU64,
    /// When it ended.
    taken: AtomicU64,
    /// Calls whose descriptor came through the socket because the ring was full.
    strays: Mutex<VecDeque<Descriptor>>,
}

#[derive(Debug, Default)]
struct Segments {
    requests: HashMap<u32, Arc<Mapping>>,
    answers: HashMap<u32, Arc<Mapping>>,
    arena: Arena,
    /// What the engine has said to wishes for answer memory.
    said: Said,
    /// Threads that wait for such an answer; what is idle meanwhile may be for them.
    waiting: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    grants: u64,
    refusals: u64,
}

#[derive(Debug)]
struct SharedMemory {
    consumer: Mutex<Consumer>,
    producer: Mutex<Producer>,
    /// Wakes the engine.
    answers: OwnedFd,
}

impl WorkerEnd {
    /// Take the set-up socket from descriptor 0, where the engine left it, and shake hands on it. User code that reads
    /// standard input afterwards gets its end.
    pub fn take_over_stdin() -> io::Result<Arc<Self>> {
        let socket = rustix::stdio::stdin().try_clone_to_owned()?;
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        let end = Self::connect(socket, end_process_group)?;
        wake_at_end_of(end.engine)?;
        be_ended_before_the_engine();
        end.is_child.store(true, Ordering::Relaxed);
        Ok(end)
    }

    /// Shake hands on `socket` and start the thread that reads it; it calls `engine_gone` when the engine has ended.
    pub fn connect(socket: OwnedFd, engine_gone: impl FnOnce() + Send + 'static) -> io::Result<Arc<Self>> {
        let (descriptor, metadata, descriptors) = socket::receive(&socket)?;
        if descriptor.kind != Kind::Hello {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the first frame is not HELLO"));
        }
        let hello: proto::Hello = decode(&metadata).map_err(socket::invalid)?;
        if hello.version != FORMAT_VERSION {
            let text = format!("the engine speaks format {}, this worker {FORMAT_VERSION}", hello.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let (shm, work) = if hello.features & FEATURE_SHM != 0 {
            let [control, work, answers]: [OwnedFd; 3] = descriptors
                .try_into()
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "HELLO without descriptors"))?;
            let page = Arc::new(open(control, true)?);
            let consumer = Consumer::new(&page, Direction::Down).map_err(socket::invalid)?;
            let producer = Producer::new(&page, Direction::Up).map_err(socket::invalid)?;
            (Some(SharedMemory { consumer: Mutex::new(consumer), producer: Mutex::new(producer), answers }), work)
        } else {
            (None, eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
        };
        let end = Arc::new(Self {
            engine: hello.pid,
            is_child: AtomicBool::new(false),
            socket,
            writing: Mutex::default(),
            work,
            relay: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            is_relayed: AtomicBool::new(false),
            reader: OnceLock::new(),
            inbox: Mutex::default(),
            running: Mutex::default(),
            steps: Mutex::default(),
            next_step: AtomicU64::new(1),
            news: Mutex::default(),
            ended: AtomicBool::new(false),
            pulse: OnceLock::new(),
            signatures: Mutex::default(),
            segments: Mutex::default(),
            granted: Condvar::new(),
            held_bytes: AtomicU64::new(0),
            has_warned: AtomicBool::new(false),
            shm,
            last_wait: AtomicU64::new(NEVER),
            taken: AtomicU64::new(now()),
            strays: Mutex::default(),
        });
        let message = proto::Hello {
            version: FORMAT_VERSION,
            features: hello.features,
            pid: std::process::id(),
            control_size: 0,
        };
        end.send(&Outgoing::new(Descriptor::new(Kind::Hello, 0), &message))?;
        let reader = Arc::clone(&end);
        std::thread::Builder::new().name("samovar-io".into()).spawn(move || {
            // A thread that panicked is deaf; nobody would end the worker.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(|| reader.read_socket()));
            engine_gone();
        })?;
        Ok(end)
    }

    /// The descriptor to wait on beside [`Self::take`]; another one once a load has made the worker relayed.
    #[must_use]
    pub fn work_descriptor(&self) -> &OwnedFd {
        if self.is_relayed() { &self.relay } else { &self.work }
    }

    fn is_relayed(&self) -> bool {
        self.is_relayed.load(Ordering::Acquire)
    }

    /// From now on the worker lives if `pulse` returns; it is called by a thread of its own.
    pub fn watch_pulse(&self, pulse: fn()) {
        let _ = self.pulse.set(pulse);
    }

    /// True when the engine wants this worker to end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Numbers of calls and steps for which something has come since the last look: a cancellation, a piece, credit.
    #[must_use]
    pub fn take_news(&self) -> Vec<u64> {
        std::mem::take(self.news.lock().get_or_insert_default())
    }

    /// Wait for the next call or question; `None` when the engine wants this worker to end.
    pub fn wait(self: &Arc<Self>) -> Result<Option<Incoming>, BadFrame> {
        let began = now();
        let lookout = lookout_after(began.saturating_sub(self.taken.load(Ordering::Relaxed)));
        let expects_soon = self.last_wait.load(Ordering::Relaxed) < lookout;
        loop {
            if let Some(incoming) = self.take()? {
                let taken = now();
                self.last_wait.store(taken - began, Ordering::Relaxed);
                self.taken.store(taken, Ordering::Relaxed);
                return Ok(Some(incoming));
            }
            if self.has_ended() {
                return Ok(None);
            }
            if !(expects_soon && !self.is_relayed() && self.look_out(began + lookout)) {
                self.await_work();
            }
        }
    }

    /// Look at the ring until there is something in it, at most until then; others that want the processor get it.
    /// False: there is nothing, and the engine will wake us for the next.
    fn look_out(&self, until: Nanos) -> bool {
        let Some(shm) = &self.shm else { return false };
        shm.consumer.lock().stay_awake();
        while now() < until {
            if shm.consumer.lock().has_unread() {
                return true;
            }
            std::thread::yield_now();
        }
        !shm.consumer.lock().prepare_sleep()
    }

    /// The next call or question, for an event loop that saw the work descriptor readable.
    pub fn poll(self: &Arc<Self>) -> Result<Option<Incoming>, BadFrame> {
        self.clear_work();
        self.take()
    }

    /// Wait for either descriptor: a load may change which of them counts while this waits.
    fn await_work(&self) {
        let mut watched = [&self.relay, &self.work].map(|descriptor| PollFd::new(descriptor, PollFlags::IN));
        let count = if self.is_relayed() { 1 } else { 2 };
        let _ = poll(&mut watched[..count], None);
        for (descriptor, watched) in [&self.relay, &self.work].into_iter().zip(&watched[..count]) {
            if !watched.revents().is_empty() {
                let _ = rustix::io::read(descriptor, &mut [0_u8; 8]);
            }
        }
        if count == 2 && self.is_relayed() {
            wake(&self.work); // what was read may have been for the thread
        }
    }

    fn clear_work(&self) {
        let _ = rustix::io::read(self.work_descriptor(), &mut [0_u8; 8]);
    }

    /// The next call or question. `None`: there is nothing, and the work descriptor becomes readable when there is.
    pub fn take(self: &Arc<Self>) -> Result<Option<Incoming>, BadFrame> {
        loop {
            let incoming = self.inbox.lock().pop_front();
            match incoming {
                Some(Incoming::Call(mut call)) => {
                    call.began = now();
                    if call.began < call.deadline && !call.state.is_cancelled() {
                        return Ok(Some(Incoming::Call(call)));
                    }
                    self.not_started(call.call, call.instance);
                    continue;
                }
                Some(ask) => return Ok(Some(ask)),
                None => {}
            }
            if self.is_relayed() {
                return Ok(None);
            }
            let stray = self.strays.lock().pop_front();
            let descriptor = match stray {
                Some(descriptor) => Some(descriptor).filter(|descriptor| self.may_begin(descriptor)),
                None => match self.next_in_ring()? {
                    None => return Ok(None),
                    Some(found) => found,
                },
            };
            if let Some(descriptor) = descriptor {
                return self.open_call(&descriptor).map(|call| Some(Incoming::Call(call)));
            }
        }
    }

    /// Answer a question.
    pub fn tell(&self, number: u64, ok: bool, body: String) {
        let _ = self.send(&Outgoing::new(Descriptor::new(Kind::Tell, number), &proto::Tell { ok, body }));
    }

    fn send(&self, frame: &Outgoing) -> io::Result<()> {
        let _writing = self.writing.lock();
        socket::send(&self.socket, frame)
    }
}
