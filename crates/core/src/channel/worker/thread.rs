//! The thread that reads the socket: memory, questions, cancellations, and the end of the engine.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::{Incoming, Input, WorkerEnd};
use crate::channel::frame::{BadFrame, Descriptor, Kind, Reference};
use crate::channel::proto;
use crate::channel::segments::open;
use crate::channel::shm::wake;
use crate::channel::socket::{self, receive_exact};
use crate::channel::transport::{Signature, decode};
use crate::tensor::TensorSpec;

/// How long the socket may be silent before the worker looks whether its parent is still the engine.
const PARENT_CHECK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

impl WorkerEnd {
    /// Read the socket until the engine is gone.
    pub(super) fn read_socket(self: Arc<Self>) {
        let outcome = loop {
            match self.await_frame().and_then(|()| socket::receive(&self.socket)) {
                Ok((descriptor, metadata, descriptors)) => {
                    if let Err(error) = self.handle(&descriptor, &metadata, descriptors) {
                        break error;
                    }
                }
                Err(error) => break error,
            }
        };
        if outcome.kind() != io::ErrorKind::UnexpectedEof && outcome.kind() != io::ErrorKind::ConnectionReset {
            // Not eprintln, which panics where nobody reads any more.
            let _ = writeln!(io::stderr(), "samovar worker: {outcome}");
        }
    }

    /// Wait for something to read; `UnexpectedEof` when the engine is gone and somebody else keeps the socket open.
    fn await_frame(&self) -> io::Result<()> {
        loop {
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&PARENT_CHECK)) {
                Ok(0) if self.is_child.load(Ordering::Relaxed) && !is_parent(self.engine) => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
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
            Kind::Cancel => {
                let mut cancelled = self.cancelled.lock();
                if let Some(flag) = cancelled.running.get(&descriptor.call) {
                    flag.store(true, Ordering::Release);
                    cancelled.news.push(descriptor.call);
                }
            }
            Kind::Ask => {
                let ask: proto::Ask = decode(metadata).map_err(socket::invalid)?;
                match ask.verb.as_str() {
                    "load" => *self.signature.lock() = Some(Arc::new(signature_of(&ask.body)?)),
                    "end" => self.ended.store(true, Ordering::Release),
                    _ => {}
                }
                if ask.verb != "end" {
                    let ask = Incoming::Ask { number: descriptor.call, verb: ask.verb, body: ask.body };
                    self.inbox.lock().push_back(ask);
                }
            }
            Kind::Release => self.answer_released(descriptor),
            Kind::Call if descriptor.segment != 0 => {
                self.cancelled.lock().running.entry(descriptor.call).or_default();
                self.strays.lock().push_back(*descriptor);
            }
            Kind::Call => self.receive_inline(descriptor, &decode(metadata).map_err(socket::invalid)?)?,
            kind => return Err(socket::invalid(BadFrame(format!("{kind:?} from the engine")))),
        }
        wake(&self.work);
        Ok(())
    }

    pub(super) fn granted(&self, grant: &proto::Segment, mut descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let mut segments = self.segments.lock();
        match (grant.segment, descriptors.pop()) {
            (0, _) => segments.is_refused = true,
            (segment, Some(descriptor)) => {
                let mapping = Arc::new(open(&descriptor, grant.writable)?);
                if grant.writable {
                    segments.arena.add(segment, mapping.len());
                    segments.answers.insert(segment, mapping);
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

    pub(super) fn receive_inline(self: &Arc<Self>, descriptor: &Descriptor, message: &proto::Call) -> io::Result<()> {
        let mut inputs = Vec::with_capacity(message.tensors.len());
        for tensor in &message.tensors {
            let reference = Reference::check(tensor).map_err(socket::invalid)?;
            let mut data = vec![0; reference.length as usize];
            receive_exact(self.socket.as_fd(), &mut data, &mut Vec::new())?;
            inputs.push(Input { datatype: reference.datatype, shape: reference.shape, data: data.into() });
        }
        let call = self.claimed(descriptor, message.items.clone(), inputs, None);
        self.inbox.lock().push_back(Incoming::Call(call));
        Ok(())
    }
}

fn signature_of(load: &str) -> io::Result<Signature> {
    #[derive(serde::Deserialize)]
    struct Load {
        inputs: Vec<TensorSpec>,
        outputs: Vec<TensorSpec>,
        batch_axis: bool,
    }
    let load: Load = serde_json::from_str(load)?;
    Ok(Signature { inputs: load.inputs, outputs: load.outputs, batch_axis: load.batch_axis })
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

fn is_parent(engine: u32) -> bool {
    rustix::process::getppid().is_some_and(|parent| parent.as_raw_nonzero().get() as u32 == engine)
}
