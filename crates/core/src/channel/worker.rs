//! The worker's end of a channel.
//!
//! A thread of its own reads the socket: descriptors, questions, cancellations, and the end of the engine, upon which it
//! kills the worker's process group. Whoever runs the model takes calls with [`WorkerEnd::take`] and answers them.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use prost::Message;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::process::Signal;

use super::arena::{Arena, Range};
use super::engine::{Signature, decode};
use super::frame::{
    BadFrame, Descriptor, FLAG_FAILED, FLAG_RELEASED, FLAG_TENSOR, Kind, Reference, bad, inline_reference,
    shm_reference,
};
use super::proto;
use super::ring::{Consumer, Direction, Producer};
use super::segments::{Mapping, Slice, open};
use super::shm::wake;
use super::socket::{self, Outgoing, receive_exact};
use super::{ALIGNMENT, FEATURE_SHM, FORMAT_VERSION, align};
use crate::clock::{Nanos, now};
use crate::tensor::{Datatype, TensorSpec};

/// Inputs kept beyond their call: past this much the next calls get copies, so that keepers cannot starve the channel.
const MAX_HELD_BYTES: u64 = 256 << 20;
/// A range as large as this is given back at once; the news of a smaller one waits for the next frame.
const URGENT_RELEASE_BYTES: u64 = 1 << 20;
/// An idle channel keeps at most this much answer memory.
const RETAINED_BYTES: u64 = 64 << 20;

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

const OPEN: u8 = 0;
const HELD: u8 = 1;
const RELEASED: u8 = 2;

/// The input range of a call in shared memory; the engine hears when the last view dies.
#[derive(Debug)]
struct InputRange {
    end: Weak<WorkerEnd>,
    call: u64,
    range: Range,
    state: AtomicU8,
}

impl Drop for InputRange {
    fn drop(&mut self) {
        if self.state.load(Ordering::Acquire) == HELD
            && let Some(end) = self.end.upgrade()
        {
            end.release(self.call, self.range);
        }
    }
}

/// The worker's end of its channel.
#[derive(Debug)]
pub struct WorkerEnd {
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

/// Why an answer could not be sent.
#[derive(Debug)]
struct NoRoom;

impl WorkerEnd {
    /// Take the set-up socket from descriptor 0, where the engine left it, and shake hands on it. User code that reads
    /// standard input afterwards gets its end.
    pub fn take_over_stdin() -> io::Result<Arc<Self>> {
        let socket = rustix::stdio::stdin().try_clone_to_owned()?;
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        Self::connect(socket)
    }

    /// Shake hands on `socket` and start the thread that reads it.
    pub fn connect(socket: OwnedFd) -> io::Result<Arc<Self>> {
        let (descriptor, metadata, descriptors) = socket::receive(&socket)?;
        if descriptor.kind != Kind::Hello {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the first frame is not HELLO"));
        }
        let hello: proto::Hello = decode(&metadata).map_err(socket::invalid)?;
        if hello.version != FORMAT_VERSION {
            let text = format!("the engine speaks format {}, this worker {FORMAT_VERSION}", hello.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        die_with(hello.pid)?;
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
        std::thread::Builder::new().name("samovar-io".into()).spawn(move || reader.read_socket())?;
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
        }
    }

    /// The next call or question. `None`: there is nothing, and the work descriptor becomes readable when there is.
    pub fn take(self: &Arc<Self>) -> Result<Option<Incoming>, BadFrame> {
        let _ = rustix::io::read(&self.work, &mut [0_u8; 8]);
        loop {
            if let Some(incoming) = self.inbox.lock().pop_front() {
                return Ok(Some(incoming));
            }
            let Some(shm) = &self.shm else { return Ok(None) };
            let stray = self.strays.lock().pop_front();
            if let Some(descriptor) = stray {
                if now() >= descriptor.deadline {
                    self.not_started(&descriptor);
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
                        self.not_started(&descriptor);
                    }
                    false
                }
                Kind::Call => consumer.claim(&entry),
                kind => return bad(format!("{kind:?} in the ring")),
            };
            consumer.acknowledge();
            drop(consumer);
            if is_mine {
                return self.open_call(&descriptor).map(|call| Some(Incoming::Call(call)));
            }
        }
    }

    /// Answer a question.
    pub fn tell(&self, number: u64, ok: bool, body: String) {
        let _ = self.send(&Outgoing::new(Descriptor::new(Kind::Tell, number), &proto::Tell { ok, body }));
    }

    /// Answer a call with its outputs, in the order of the signature. Where the engine grants no memory for them, the
    /// answer is that.
    pub fn finish(&self, mut call: CallFrame, outputs: &[Output<'_>]) {
        let mut descriptor = self.close(&mut call);
        match &self.shm {
            Some(shm) => {
                if self.finish_shm(shm, &mut descriptor, outputs).is_err() {
                    let bytes: usize = outputs.iter().map(|output| output.data.len()).sum();
                    let message =
                        format!("the engine grants no memory for outputs of {bytes} bytes; return less per call");
                    let kind = proto::failure::Kind::Output as i32;
                    self.send_failure(descriptor, proto::Failure { kind, message, ..proto::Failure::default() });
                }
            }
            None => {
                let tensors =
                    outputs.iter().map(|o| inline_reference(o.data.len() as u64, o.datatype, &o.shape)).collect();
                descriptor.tensor_count = outputs.len() as u16;
                let mut frame = Outgoing::new(descriptor, &proto::End { failure: None, tensors });
                frame.tensors = outputs.iter().map(|output| Bytes::copy_from_slice(output.data)).collect();
                let _ = self.send(&frame);
            }
        }
        drop(call);
    }

    /// Answer a call with what went wrong.
    pub fn fail(&self, mut call: CallFrame, failure: proto::Failure) {
        let descriptor = self.close(&mut call);
        self.send_failure(descriptor, failure);
    }

    fn send_failure(&self, mut descriptor: Descriptor, failure: proto::Failure) {
        descriptor.flags |= FLAG_FAILED;
        let _ = self.send(&Outgoing::new(descriptor, &proto::End { failure: Some(failure), tensors: Vec::new() }));
    }

    /// The END descriptor of a call. Its inputs count as released if nobody else looks at them.
    fn close(&self, call: &mut CallFrame) -> Descriptor {
        call.inputs.clear();
        self.cancelled.lock().running.remove(&call.call);
        let mut descriptor = Descriptor::new(Kind::End, call.call);
        descriptor.instance = call.instance;
        descriptor.deadline = call.began;
        match &call.range {
            Some(range) if Arc::strong_count(range) > 1 => {
                self.held_bytes.fetch_add(range.range.length, Ordering::Relaxed);
                range.state.store(HELD, Ordering::Release);
            }
            Some(range) => {
                range.state.store(RELEASED, Ordering::Release);
                descriptor.flags |= FLAG_RELEASED;
            }
            None => descriptor.flags |= FLAG_RELEASED,
        }
        descriptor
    }

    fn finish_shm(
        &self,
        shm: &SharedMemory,
        descriptor: &mut Descriptor,
        outputs: &[Output<'_>],
    ) -> Result<(), NoRoom> {
        if outputs.is_empty() {
            self.push(shm, descriptor, true);
            return Ok(());
        }
        let signature = self.signature.lock().clone();
        let fast = signature.as_deref().and_then(|signature| fast_rows(signature, outputs));
        let total: u64 = outputs.iter().map(|output| align(output.data.len() as u64)).sum();
        let bound = if fast.is_some() { 0 } else { metadata_bound(outputs) };
        let (range, mapping) = self.allocate(align(bound) + total).ok_or(NoRoom)?;
        let mut at = range.offset + align(bound);
        let mut references = Vec::new();
        for output in outputs {
            let length = output.data.len() as u64;
            if !mapping.write(at, output.data) {
                return Err(NoRoom);
            }
            references.push(shm_reference(
                (range.segment, range.generation, at),
                length,
                output.datatype,
                &output.shape,
            ));
            at += align(length);
        }
        descriptor.segment = range.segment;
        descriptor.generation = range.generation;
        descriptor.offset = (range.offset / ALIGNMENT) as u32;
        descriptor.tensor_count = outputs.len() as u16;
        if let Some(rows) = fast {
            descriptor.flags |= FLAG_TENSOR;
            descriptor.rows = rows;
            descriptor.tensor_offset = descriptor.offset;
            descriptor.tensor_length = outputs[0].data.len() as u32;
            descriptor.datatype = outputs[0].datatype as u8;
        } else {
            let metadata = proto::End { failure: None, tensors: references }.encode_to_vec();
            descriptor.metadata_length = metadata.len() as u32;
            if !mapping.write(range.offset, &metadata) {
                return Err(NoRoom);
            }
        }
        self.push(shm, descriptor, true);
        Ok(())
    }

    /// Answer memory; asks the engine for more where there is none. `None` if it refuses.
    fn allocate(&self, length: u64) -> Option<(Range, Arc<Mapping>)> {
        let mut segments = self.segments.lock();
        loop {
            if let Some(range) = segments.arena.allocate(length) {
                let mapping = Arc::clone(segments.answers.get(&range.segment)?);
                return Some((range, mapping));
            }
            segments.is_refused = false;
            let before = segments.arena.size();
            let wish = proto::Segment { segment: 0, size: length, writable: true };
            self.send(&Outgoing::new(Descriptor::new(Kind::Segment, 0), &wish)).ok()?;
            while segments.arena.size() == before && !segments.is_refused {
                self.granted.wait(&mut segments);
            }
            if segments.is_refused {
                return None;
            }
        }
    }

    /// Give idle answer memory back.
    fn trim(&self) {
        let mut segments = self.segments.lock();
        if segments.arena.used() > 0 || segments.arena.size() <= RETAINED_BYTES {
            return;
        }
        for segment in segments.arena.trim() {
            segments.answers.remove(&segment);
            let message = proto::Segment { segment, size: 0, writable: true };
            let _ = self.send(&Outgoing::new(Descriptor::new(Kind::Segment, 0), &message));
        }
    }

    fn push(&self, shm: &SharedMemory, descriptor: &Descriptor, is_urgent: bool) {
        let mut producer = shm.producer.lock();
        if !matches!(producer.push(&descriptor.encode()), Ok(true)) {
            let _ = self.send(&Outgoing::bare(*descriptor));
        } else if is_urgent && producer.must_wake() {
            wake(&shm.answers);
        }
    }

    /// The last view of a call's inputs died after its END.
    fn release(&self, call: u64, range: Range) {
        self.held_bytes.fetch_sub(range.length, Ordering::Relaxed);
        let Some(shm) = &self.shm else { return };
        let mut descriptor = Descriptor::new(Kind::Release, call);
        descriptor.segment = range.segment;
        descriptor.generation = range.generation;
        self.push(shm, &descriptor, range.length >= URGENT_RELEASE_BYTES);
    }

    fn not_started(&self, descriptor: &Descriptor) {
        let mut end = Descriptor::new(Kind::End, descriptor.call);
        end.instance = descriptor.instance;
        end.flags = FLAG_FAILED | FLAG_RELEASED;
        let failure = proto::Failure { kind: proto::failure::Kind::NotStarted as i32, ..proto::Failure::default() };
        let _ = self.send(&Outgoing::new(end, &proto::End { failure: Some(failure), tensors: Vec::new() }));
    }

    fn answer_released(&self, descriptor: &Descriptor) {
        let offset = u64::from(descriptor.offset) * ALIGNMENT;
        self.segments.lock().arena.release(descriptor.segment, offset, descriptor.generation);
    }

    fn send(&self, frame: &Outgoing) -> io::Result<()> {
        let _writing = self.writing.lock();
        socket::send(&self.socket, frame)
    }

    /// The mapping of a request segment; its SEGMENT may still be on the socket when a call in it is in the ring.
    fn request_mapping(&self, segment: u32) -> Arc<Mapping> {
        let mut segments = self.segments.lock();
        loop {
            if let Some(mapping) = segments.requests.get(&segment) {
                return Arc::clone(mapping);
            }
            self.granted.wait(&mut segments);
        }
    }

    fn open_call(self: &Arc<Self>, descriptor: &Descriptor) -> Result<CallFrame, BadFrame> {
        let mapping = self.request_mapping(descriptor.segment);
        let place = (descriptor.segment, descriptor.generation, u64::from(descriptor.offset) * ALIGNMENT);
        let Some(metadata) = mapping.read(place.2, u64::from(descriptor.metadata_length)) else {
            return bad("metadata outside of its segment");
        };
        let message: proto::Call = decode(metadata)?;
        let references = if descriptor.has(FLAG_TENSOR) {
            let Some(signature) = self.signature.lock().clone() else { return bad("CALL before any load") };
            let shape = signature.fast_shape(&signature.inputs, descriptor.rows)?;
            let offset = u64::from(descriptor.tensor_offset) * ALIGNMENT;
            let length = u64::from(descriptor.tensor_length);
            let Some(datatype) = Datatype::from_number(u32::from(descriptor.datatype)) else { return bad("datatype") };
            vec![Reference::check(&shm_reference((place.0, place.1, offset), length, datatype, &shape))?]
        } else {
            message.tensors.iter().map(Reference::check).collect::<Result<Vec<_>, _>>()?
        };
        // What the engine frees with this call: from the metadata to the end of the last tensor.
        let end = references.iter().filter_map(|r| r.place.map(|place| place.2 + r.length)).max().unwrap_or(place.2);
        let range =
            Range { segment: place.0, generation: place.1, offset: place.2, length: end.saturating_sub(place.2) };
        let copies = self.held_bytes.load(Ordering::Relaxed) > MAX_HELD_BYTES;
        let owner = Arc::new(InputRange {
            end: Arc::downgrade(self),
            call: descriptor.call,
            range,
            state: AtomicU8::new(OPEN),
        });
        let mut inputs = Vec::with_capacity(references.len());
        for reference in references {
            let offset = reference.place.map_or(0, |place| place.2);
            let Some(slice) = Slice::new(Arc::clone(&mapping), offset, reference.length, Arc::clone(&owner)) else {
                return bad("a tensor outside of its segment");
            };
            let data = if copies { Bytes::copy_from_slice(slice.as_ref()) } else { Bytes::from_owner(slice) };
            inputs.push(Input { datatype: reference.datatype, shape: reference.shape, data });
        }
        Ok(self.claimed(descriptor, message.items, inputs, Some(owner)))
    }

    fn claimed(
        &self,
        descriptor: &Descriptor,
        items: Vec<proto::Item>,
        inputs: Vec<Input>,
        range: Option<Arc<InputRange>>,
    ) -> CallFrame {
        let cancelled = Arc::new(AtomicBool::new(false));
        self.cancelled.lock().running.insert(descriptor.call, Arc::clone(&cancelled));
        CallFrame {
            call: descriptor.call,
            instance: descriptor.instance,
            rows: descriptor.rows,
            items,
            inputs,
            cancelled,
            began: now(),
            range,
        }
    }

    /// True if inputs are copied because too many are kept beyond their call.
    #[must_use]
    pub fn holds_too_much(&self) -> bool {
        self.held_bytes.load(Ordering::Relaxed) > MAX_HELD_BYTES
    }

    /// Read the socket until the engine is gone; then end the worker and all its children.
    fn read_socket(self: Arc<Self>) {
        let outcome = loop {
            match socket::receive(&self.socket) {
                Ok((descriptor, metadata, descriptors)) => {
                    if let Err(error) = self.handle(&descriptor, &metadata, descriptors) {
                        break error;
                    }
                }
                Err(error) => break error,
            }
        };
        if outcome.kind() != io::ErrorKind::UnexpectedEof && outcome.kind() != io::ErrorKind::ConnectionReset {
            eprintln!("samovar worker: {outcome}");
        }
        end_process_group();
    }

    fn handle(self: &Arc<Self>, descriptor: &Descriptor, metadata: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<()> {
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
            Kind::Call if descriptor.segment != 0 => self.strays.lock().push_back(*descriptor),
            Kind::Call => self.receive_inline(descriptor, &decode(metadata).map_err(socket::invalid)?)?,
            kind => return Err(socket::invalid(BadFrame(format!("{kind:?} from the engine")))),
        }
        wake(&self.work);
        Ok(())
    }

    fn granted(&self, grant: &proto::Segment, mut descriptors: Vec<OwnedFd>) -> io::Result<()> {
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

    fn receive_inline(self: &Arc<Self>, descriptor: &Descriptor, message: &proto::Call) -> io::Result<()> {
        let mut inputs = Vec::with_capacity(message.tensors.len());
        for tensor in &message.tensors {
            let reference = Reference::check(tensor).map_err(socket::invalid)?;
            let mut data = vec![0; reference.length as usize];
            receive_exact(self.socket.as_fd(), &mut data, &mut Vec::new())?;
            inputs.push(Input { datatype: reference.datatype, shape: reference.shape, data: data.into() });
        }
        if now() >= descriptor.deadline {
            self.not_started(descriptor);
            return Ok(());
        }
        let call = self.claimed(descriptor, message.items.clone(), inputs, None);
        self.inbox.lock().push_back(Incoming::Call(call));
        Ok(())
    }
}

/// The rows of the one output, if they and the signature say its whole shape.
fn fast_rows(signature: &Signature, outputs: &[Output<'_>]) -> Option<u32> {
    let [output] = outputs else { return None };
    if !Signature::is_fast(&signature.outputs) || output.data.len() as u64 > u64::from(u32::MAX) {
        return None;
    }
    let rows = if signature.batch_axis { u32::try_from(*output.shape.first()?).ok()? } else { 1 };
    (signature.fast_shape(&signature.outputs, rows).ok()? == output.shape).then_some(rows)
}

/// No reference takes more than 80 bytes beside its dims, and no dim more than 10.
fn metadata_bound(outputs: &[Output<'_>]) -> u64 {
    outputs.iter().map(|output| 80 + 10 * output.shape.len() as u64).sum()
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
fn end_process_group() {
    let own = rustix::process::getpid();
    if rustix::process::getpgrp() == own {
        let _ = rustix::process::kill_process_group(own, Signal::KILL);
    }
    let _ = rustix::process::kill_process(own, Signal::KILL);
}

/// Ask the kernel to kill this process when the engine's thread that started it ends: the second line behind the
/// socket. If `engine` is not the parent, it ended before the kernel was asked, and nothing would ever come.
fn die_with(engine: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    match rustix::process::getppid() {
        Some(parent) if parent.as_raw_nonzero().get() as u32 == engine => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::NotConnected, "the engine that started this worker is gone")),
    }
}
