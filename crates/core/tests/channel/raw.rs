//! One end of a channel written by hand from `docs/channel.md`: sockets, words of the control page, segments.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prost::Message;
use rustix::event::{EventfdFlags, eventfd};
use samovar_core::channel::frame::{DESCRIPTOR_BYTES, Descriptor, Kind};
use samovar_core::channel::segments::{Access, Mapping, create, open};
use samovar_core::channel::socket::{self, Outgoing};
use samovar_core::channel::{FEATURE_SHM, FORMAT_VERSION, proto};
use samovar_core::config::TransportKind;

/// Offsets in one direction of the control page.
pub(crate) const PUSHED: u64 = 0;
pub(crate) const TAKEN: u64 = 64;
pub(crate) const WAITING: u64 = 128;
pub(crate) const ENTRIES: u64 = 192;
pub(crate) const STATES: u64 = 1_216;
pub(crate) const DESCRIPTORS: u64 = 2_240;
/// Bytes of one direction; the second one, from worker to engine, starts there.
pub(crate) const UP: u64 = 18_624;
/// Bytes of the control page.
pub(crate) const CONTROL: u64 = 40_960;

/// A control page and the eventfd of the peer.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) page: Arc<Mapping>,
    wake: Arc<OwnedFd>,
    /// Base of the ring that this side writes.
    base: u64,
}

impl Page {
    pub(crate) fn set(&self, at: u64, value: u32) {
        self.page.word(at).store(value, Ordering::SeqCst);
    }

    pub(crate) fn get(&self, at: u64) -> u32 {
        self.page.word(at).load(Ordering::SeqCst)
    }

    pub(crate) fn wake_peer(&self) {
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
    }

    /// Push a descriptor in slot `position % 256`, as a writer that keeps no slot back.
    pub(crate) fn push(&self, descriptor: &[u8; DESCRIPTOR_BYTES], state: u32) {
        self.push_quietly(descriptor, state);
        self.wake_peer();
    }

    /// The same for a peer that is awake.
    pub(crate) fn push_quietly(&self, descriptor: &[u8; DESCRIPTOR_BYTES], state: u32) {
        let position = self.get(self.base + PUSHED);
        let slot = position % 256;
        assert!(self.page.write(self.base + DESCRIPTORS + 64 * u64::from(slot), descriptor));
        self.set(self.base + STATES + 4 * u64::from(slot), state);
        self.set(self.base + ENTRIES + 4 * u64::from(slot), slot);
        self.set(self.base + PUSHED, position.wrapping_add(1));
    }

    /// The descriptor at `position` of the ring that the peer writes.
    pub(crate) fn pushed_by_peer(&self, position: u32) -> [u8; DESCRIPTOR_BYTES] {
        let base = UP - self.base;
        while self.get(base + PUSHED) == position {
            std::thread::yield_now();
        }
        let slot = self.get(base + ENTRIES + 4 * u64::from(position % 256));
        self.page.read(base + DESCRIPTORS + 64 * u64::from(slot), 64).unwrap().try_into().unwrap()
    }
}

/// A worker's end that says HELLO and then does as the test pleases.
#[derive(Debug)]
pub(crate) struct RawWorker {
    pub(crate) socket: UnixStream,
    /// With shared memory.
    pub(crate) page: Option<Page>,
    pub(crate) segments: HashMap<u32, Mapping>,
}

impl RawWorker {
    pub(crate) fn connect(socket: UnixStream) -> Self {
        let (_, metadata, descriptors) = socket::receive(&socket).unwrap();
        let hello = proto::Hello::decode(metadata.as_slice()).unwrap();
        let page = match <[OwnedFd; 3]>::try_from(descriptors) {
            Ok([control, _, answers]) => {
                let page = Arc::new(open(control, true).unwrap());
                assert_eq!((hello.control_size, page.len()), (CONTROL, CONTROL));
                Some(Page { page, wake: Arc::new(answers), base: UP })
            }
            Err(_) => None,
        };
        let worker = Self { socket, page, segments: HashMap::new() };
        worker.send(Kind::Hello, &proto::Hello { control_size: 0, ..hello });
        worker
    }

    pub(crate) fn send(&self, kind: Kind, message: &impl Message) {
        let _ = socket::send(&self.socket, &Outgoing::new(Descriptor::new(kind, 0), message));
    }

    /// Send a descriptor that says everything, the way that this transport has for it.
    pub(crate) fn say(&self, descriptor: &Descriptor) {
        match &self.page {
            Some(page) => page.push(&descriptor.encode(), 0),
            None => drop(socket::send(&self.socket, &Outgoing::bare(*descriptor))),
        }
    }

    /// Ask for answer memory and read frames until it is there.
    pub(crate) fn receive_memory(&mut self) {
        self.send(Kind::Segment, &proto::Segment { segment: 0, size: 1, writable: true });
        let mut is_granted = false;
        while !is_granted {
            let (descriptor, metadata, mut descriptors) = socket::receive(&self.socket).unwrap();
            if descriptor.kind == Kind::Segment {
                let grant = proto::Segment::decode(metadata.as_slice()).unwrap();
                let mapping = open(descriptors.remove(0), grant.writable).unwrap();
                self.segments.insert(grant.segment, mapping);
                is_granted = grant.writable;
            }
        }
    }
}

/// An engine's end by hand.
#[derive(Debug)]
pub(crate) struct RawEngine {
    pub(crate) socket: UnixStream,
    pub(crate) page: Option<Page>,
}

impl RawEngine {
    /// The engine's end and the socket for the worker's.
    pub(crate) fn new(kind: TransportKind) -> (Self, UnixStream) {
        let (socket, theirs) = UnixStream::pair().unwrap();
        let mut hello = proto::Hello { version: FORMAT_VERSION, features: 0, pid: 1, control_size: 0 };
        let mut descriptors = Vec::new();
        let mut page = None;
        if kind == TransportKind::Shm {
            let (control, mapping) = create(CONTROL, Access::Everybody).unwrap();
            let [calls, answers] = [(); 2].map(|()| eventfd(0, EventfdFlags::NONBLOCK).unwrap());
            (hello.features, hello.control_size) = (FEATURE_SHM, CONTROL);
            page = Some(Page { page: Arc::new(mapping), wake: Arc::new(calls.try_clone().unwrap()), base: 0 });
            descriptors = vec![control, calls, answers];
        }
        let frame = Outgoing { descriptors, ..Outgoing::new(Descriptor::new(Kind::Hello, 0), &hello) };
        socket::send(&socket, &frame).unwrap();
        (Self { socket, page }, theirs)
    }

    /// Grant a segment; for requests it holds `content` at its start.
    pub(crate) fn grant(&self, segment: u32, writable: bool, content: &[u8]) -> Mapping {
        let access = if writable { Access::Everybody } else { Access::CreatorOnly };
        let (descriptor, mapping) = create(4 << 20, access).unwrap();
        assert!(mapping.write(0, content));
        let message = proto::Segment { segment, size: 4 << 20, writable };
        let frame =
            Outgoing { descriptors: vec![descriptor], ..Outgoing::new(Descriptor::new(Kind::Segment, 0), &message) };
        socket::send(&self.socket, &frame).unwrap();
        mapping
    }

    pub(crate) fn send(&self, kind: Kind, call: u64, message: &impl Message) {
        let _ = socket::send(&self.socket, &Outgoing::new(Descriptor::new(kind, call), message));
    }

    pub(crate) fn send_bare(&self, descriptor: &Descriptor) {
        let _ = socket::send(&self.socket, &Outgoing::bare(*descriptor));
    }
}
