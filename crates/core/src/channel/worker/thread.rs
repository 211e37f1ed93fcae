//! The thread that reads the socket: memory, questions, cancellations, and the end of the engine.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::{Incoming, Input, WorkerEnd};
use crate::channel::HEARTBEAT;
use crate::channel::frame::{Descriptor, Kind, Reference};
use crate::channel::lookout::lookout;
use crate::channel::proto;
use crate::channel::segments::open;
use crate::channel::shm::wake;
use crate::channel::socket::{self, receive_exact};
use crate::channel::transport::{Message, Signature, decode};
use crate::clock::{Nanos, now};
use crate::tensor::TensorSpec;

/// How long the socket may be silent before the worker looks whether its parent is still the engine.
const PARENT_CHECK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Of the thread that waits for the interpreter; the usual 2 MiB count where `max_memory_bytes` is set.
const BEAT_STACK_BYTES: usize = 128 << 10;

/// In thousandths of the machine's memory: as if the worker used a third of it more than it does.
const MORE_LIKELY: i32 = 333;
/// The greatest `oom_score_adj`.
const MOST_LIKELY: i32 = 1_000;

impl WorkerEnd {
    /// Read the socket, and the ring where that is relayed, until the engine is gone.
    pub(super) fn read_socket(self: Arc<Self>) {
        let _ = self.reader.set(std::thread::current().id());
        let mut last_news = 0;
        let outcome = loop {
            if let Err(error) = self.read_next(&mut last_news) {
                break error;
            }
        };
        if outcome.kind() != io::ErrorKind::UnexpectedEof && outcome.kind() != io::ErrorKind::ConnectionReset {
            // Not eprintln, which panics where nobody reads any more.
            let _ = writeln!(io::stderr(), "samovar worker: {outcome}");
        }
    }

    /// Deal with what has come, or wait for it; `last_news` is when the relayed ring had something.
    fn read_next(self: &Arc<Self>, last_news: &mut Nanos) -> io::Result<()> {
        if !self.is_relayed() {
            return if self.await_frame()? { self.read_frame() } else { Ok(()) };
        }
        if self.relay()? {
            let before = std::mem::replace(last_news, now());
            if *last_news - before < lookout() && self.look_out(*last_news + lookout()) && !self.has_frame() {
                return Ok(());
            }
        }
        if !self.await_frame()? {
            return Ok(());
        }
        // What was pushed before the frame was sent comes before it: a CALL before the pieces of its body.
        self.relay()?;
        if self.has_frame() { self.read_frame() } else { Ok(()) }
    }

    /// False if the frame that was there has been read, by whoever needed memory that came behind it.
    fn has_frame(&self) -> bool {
        let mut watched = [PollFd::new(&self.socket, PollFlags::IN)];
        matches!(poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
    }

    /// Take one frame from the socket; only the thread does this.
    pub(super) fn read_frame(self: &Arc<Self>) -> io::Result<()> {
        let (descriptor, metadata, descriptors) = socket::receive(&self.socket)?;
        self.handle(&descriptor, &metadata, descriptors)
    }

    /// Wait until there is something in the socket (true) or in the relayed ring (false); `UnexpectedEof` when the
    /// engine is gone and somebody else keeps the socket open.
    fn await_frame(&self) -> io::Result<bool> {
        loop {
            let mut watched = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.work, PollFlags::IN)];
            let count = if self.is_relayed() && self.shm.is_some() { 2 } else { 1 };
            match poll(&mut watched[..count], Some(&PARENT_CHECK)) {
                Ok(0) if self.is_child.load(Ordering::Relaxed) && !is_parent(self.engine) => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) if watched[0].revents().is_empty() => {
                    let _ = rustix::io::read(&self.work, &mut [0_u8; 8]);
                    return Ok(false);
                }
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn handle(
        self: &Arc<Self>,
        descriptor: &Descriptor,
        metadata: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<()> {
        match descriptor.kind {
            Kind::Segment => self.granted(&decode(metadata).map_err(socket::invalid)?, descriptors)?,
            Kind::Ask => {
                let ask: proto::Ask = decode(metadata).map_err(socket::invalid)?;
                if ask.verb == HEARTBEAT {
                    self.beat(descriptor.call);
                    return Ok(());
                }
                match ask.verb.as_str() {
                    "load" => self.prepare_load(&ask.body)?,
                    "unload" => self.forget(&ask.body)?,
                    "end" => self.ended.store(true, Ordering::Release),
                    _ => {}
                }
                if ask.verb != "end" {
                    let ask = Incoming::Ask { number: descriptor.call, verb: ask.verb, body: ask.body };
                    self.inbox.lock().push_back(ask);
                }
            }
            Kind::Call if descriptor.segment != 0 => {
                self.running.lock().entry(descriptor.call).or_default();
                if !self.is_relayed() {
                    self.strays.lock().push_back(*descriptor);
                } else if self.may_begin(descriptor) {
                    let call = self.open_call(descriptor).map_err(socket::invalid)?;
                    self.inbox.lock().push_back(Incoming::Call(call));
                }
            }
            Kind::Call | Kind::Part | Kind::End if descriptor.segment == 0 => {
                self.receive_inline(descriptor, metadata)?
            }
            _ => self.heard(descriptor).map_err(socket::invalid)?,
        }
        wake(self.work_descriptor());
        Ok(())
    }

    /// A load says what the fast path leaves out, and whether the ring is the thread's from now on: the model may wait
    /// for answers of others, or for a slow client, while calls arrive.
    fn prepare_load(&self, body: &str) -> io::Result<()> {
        let load: Load = serde_json::from_str(body)?;
        let (inputs, outputs, batch_axis) = (load.inputs, load.outputs, load.batch_axis);
        let signature = Arc::new(Signature { inputs, outputs, batch_axis });
        self.signatures.lock().insert(load.instance, signature);
        if self.shm.is_some() && (load.streams || !load.uses.is_empty() || load.service.is_some()) {
            self.is_relayed.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Answer once the interpreter has run something. Whoever runs it may not let go of it for long, and this thread has
    /// others to listen to meanwhile.
    fn beat(self: &Arc<Self>, number: u64) {
        let end = Arc::clone(self);
        let beat = move || {
            if let Some(pulse) = end.pulse.get() {
                pulse();
            }
            end.tell(number, true, "{}".into());
        };
        let thread = std::thread::Builder::new().name("samovar-beat".into()).stack_size(BEAT_STACK_BYTES);
        if thread.spawn(beat).is_err() {
            self.tell(number, true, "{}".into()); // without memory for a thread nothing is known, which is no death
        }
    }

    /// An unload of one of several instances says which; its calls are over.
    fn forget(&self, body: &str) -> io::Result<()> {
        let unload: Unload = serde_json::from_str(body)?;
        self.signatures.lock().remove(&unload.instance);
        Ok(())
    }

    pub(super) fn granted(&self, grant: &proto::Segment, mut descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let mut segments = self.segments.lock();
        match (grant.segment, descriptors.pop()) {
            (0, _) => segments.said.refusals += 1,
            (segment, Some(descriptor)) => {
                let mapping = Arc::new(open(&descriptor, grant.writable)?);
                if grant.writable {
                    segments.arena.add(segment, mapping.len());
                    segments.answers.insert(segment, mapping);
                    segments.said.grants += 1;
                } else {
                    segments.requests.insert(segment, mapping);
                }
            }
            (segment, None) => {
                segments.requests.remove(&segment);
            }
        }
        self.granted.notify_all();
        Ok(())
    }

    fn receive_inline(self: &Arc<Self>, descriptor: &Descriptor, metadata: &[u8]) -> io::Result<()> {
        let message = Message::decode(descriptor.kind, metadata).map_err(socket::invalid)?;
        let mut inputs = Vec::with_capacity(message.tensors().len());
        for tensor in message.tensors() {
            let reference = Reference::check(tensor).map_err(socket::invalid)?;
            let mut data = vec![0; reference.length as usize];
            receive_exact(self.socket.as_fd(), &mut data, &mut Vec::new())?;
            inputs.push(Input { datatype: reference.datatype, shape: reference.shape, data: data.into() });
        }
        match message {
            Message::Call(message) => {
                let call = self.claimed(descriptor, message, inputs, None);
                self.inbox.lock().push_back(Incoming::Call(call));
            }
            message => self.answered(descriptor, message, inputs).map_err(socket::invalid)?,
        }
        Ok(())
    }
}

/// What this end reads of a load.
#[derive(serde::Deserialize)]
struct Load {
    #[serde(default)]
    instance: u32,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    batch_axis: bool,
    #[serde(default)]
    streams: bool,
    #[serde(default)]
    uses: Vec<String>,
    service: Option<serde::de::IgnoredAny>,
}

/// What this end reads of an unload.
#[derive(serde::Deserialize)]
struct Unload {
    #[serde(default)]
    instance: u32,
}

/// Kill this process and its children. The engine put the worker in a group of its own; elsewhere only the worker ends.
pub(super) fn end_process_group() {
    let own = rustix::process::getpid();
    if rustix::process::getpgrp() == own {
        let _ = rustix::process::kill_process_group(own, Signal::KILL);
    }
    let _ = rustix::process::kill_process(own, Signal::KILL);
}

/// Ask the kernel to continue this process, should it be stopped, when the engine's thread that started it ends: only
/// what runs can end its children. SIGKILL would come before the socket ends and leave them behind.
/// If `engine` is not the parent, it ended before the kernel was asked, and nothing would ever come.
pub(super) fn wake_at_end_of(engine: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::CONT))?;
    if is_parent(engine) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::NotConnected, "the engine that started this worker is gone"))
}

/// Where memory runs out the kernel is to choose this process, whose model starts again, and not the engine, with which
/// everybody's requests would be lost. The score is the engine's until now, as children have that of their parents.
pub(super) fn be_ended_before_the_engine() {
    const SCORE: &str = "/proc/self/oom_score_adj";
    let own = std::fs::read_to_string(SCORE).ok().and_then(|score| score.trim().parse::<i32>().ok());
    if let Some(own) = own {
        // Raising it needs no rights; without /proc nothing can be done.
        let _ = std::fs::write(SCORE, (own + MORE_LIKELY).min(MOST_LIKELY).to_string());
    }
}

fn is_parent(engine: u32) -> bool {
    rustix::process::getppid().is_some_and(|parent| parent.as_raw_nonzero().get() as u32 == engine)
}
