//! The worker's end of a channel.
//!
//! A thread of its own reads the socket: descriptors, questions, cancellations, and the end of the engine, upon which it
//! kills the worker's process group. Whoever runs the model takes calls with [`WorkerEnd::take`] and answers them.

mod answers;
mod calls;
mod thread;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use self::calls::InputRange;
use self::thread::{end_process_group, wake_at_end_of};
use super::arena::Arena;
use super::frame::{BadFrame, Descriptor, Kind, bad};
use super::ring::{Consumer, Direction, Producer};
use super::segments::{Mapping, open};
use super::socket::{self, Outgoing};
use super::transport::{Signature, decode};
use super::{FEATURE_SHM, FORMAT_VERSION, proto};
use crate::clock::{Nanos, now};
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
    /// Set once nobody waits for the answer.
    pub cancelled: Arc<AtomicBool>,
    began: Nanos,
    deadline: Nanos,
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
    /// Readable when [`WorkerEnd::take`] is worth a call.
    work: OwnedFd,
    inbox: Mutex<VecDeque<Incoming>>,
    cancelled: Mutex<Cancelled>,
    ended: AtomicBool,
    signature: Mutex<Option<Arc<Signature>>>,
    segments: Mutex<Segments>,
    /// Signalled when `segments` changed.
    granted: Condvar,
    held_bytes: AtomicU64,
    /// The model was told that it keeps too much.
    has_warned: AtomicBool,
    shm: Option<SharedMemory>,
    /// Calls whose descriptor came through the socket because the ring was full.
    strays: Mutex<VecDeque<Descriptor>>,
}

#[derive(Debug, Default)]
struct Cancelled {
    running: HashMap<u64, Arc<AtomicBool>>,
    /// Not yet reported to the event loop.
    news: Vec<u64>,
}

#[derive(Debug, Default)]
struct Segments {
    requests: HashMap<u32, Arc<Mapping>>,
    answers: HashMap<u32, Arc<Mapping>>,
    arena: Arena,
    is_refused: bool,
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
            inbox: Mutex::default(),
            cancelled: Mutex::default(),
            ended: AtomicBool::new(false),
            signature: Mutex::default(),
            segments: Mutex::default(),
            granted: Condvar::new(),
            held_bytes: AtomicU64::new(0),
            has_warned: AtomicBool::new(false),
            shm,
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

    /// The descriptor to wait on beside [`Self::take`].
    #[must_use]
    pub fn work_descriptor(&self) -> &OwnedFd {
        &self.work
    }

    /// True when the engine wants this worker to end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Numbers of the calls that were cancelled since the last look.
    #[must_use]
    pub fn take_cancelled(&self) -> Vec<u64> {
        std::mem::take(&mut self.cancelled.lock().news)
    }

    /// Wait for the next call or question; `None` when the engine wants this worker to end.
    pub fn wait(self: &Arc<Self>) -> Result<Option<Incoming>, BadFrame> {
        loop {
            if let Some(incoming) = self.take()? {
                return Ok(Some(incoming));
            }
            if self.has_ended() {
                return Ok(None);
            }
            let _ = poll(&mut [PollFd::new(&self.work, PollFlags::IN)], None);
            self.clear_work();
        }
    }

    /// The next call or question, for an event loop that saw the work descriptor readable.
    pub fn poll(self: &Arc<Self>) -> Result<Option<Incoming>, BadFrame> {
        self.clear_work();
        self.take()
    }

    fn clear_work(&self) {
        let _ = rustix::io::read(&self.work, &mut [0_u8; 8]);
    }

    /// The next call or question. `None`: there is nothing, and the work descriptor becomes readable when there is.
    pub fn take(self: &Arc<Self>) -> Result<Option<Incoming>, BadFrame> {
        loop {
            let incoming = self.inbox.lock().pop_front();
            match incoming {
                Some(Incoming::Call(mut call)) => {
                    call.began = now();
                    if call.began < call.deadline && !call.cancelled.load(Ordering::Acquire) {
                        return Ok(Some(Incoming::Call(call)));
                    }
                    self.not_started(call.call, call.instance);
                    continue;
                }
                Some(ask) => return Ok(Some(ask)),
                None => {}
            }
            let Some(shm) = &self.shm else { return Ok(None) };
            let stray = self.strays.lock().pop_front();
            if let Some(descriptor) = stray {
                let is_cancelled = self.is_cancelled(descriptor.call);
                if is_cancelled || now() >= descriptor.deadline {
                    self.not_started(descriptor.call, descriptor.instance);
                    continue;
                }
                return self.open_call(&descriptor).map(|call| Some(Incoming::Call(call)));
            }
            let mut consumer = shm.consumer.lock();
            let Some(entry) = consumer.pop()? else {
                if consumer.prepare_sleep() {
                    self.trim();
                    return Ok(None);
                }
                continue;
            };
            let descriptor = Descriptor::decode(&entry.descriptor)?;
            let is_mine = match descriptor.kind {
                Kind::Release => {
                    self.answer_released(&descriptor);
                    false
                }
                Kind::Call if now() >= descriptor.deadline => {
                    if consumer.refuse(&entry) {
                        self.not_started(descriptor.call, descriptor.instance);
                    }
                    false
                }
                Kind::Call => {
                    // Known before it is claimed: from then on a CANCEL may come.
                    self.cancelled.lock().running.entry(descriptor.call).or_default();
                    let is_claimed = consumer.claim(&entry);
                    if !is_claimed {
                        self.cancelled.lock().running.remove(&descriptor.call);
                    }
                    is_claimed
                }
                kind => return bad(format!("{kind:?} in the ring")),
            };
            consumer.acknowledge();
            drop(consumer);
            if is_mine {
                return self.open_call(&descriptor).map(|call| Some(Incoming::Call(call)));
            }
        }
    }

    fn is_cancelled(&self, call: u64) -> bool {
        self.cancelled.lock().running.get(&call).is_some_and(|flag| flag.load(Ordering::Acquire))
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
