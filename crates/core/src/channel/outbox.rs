//! What the engine has to say on a worker's socket, in order, and a task that says it.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Notify, mpsc};

use super::frame::BadFrame;
use super::socket::{self, Outgoing};
use crate::panics::{Panic, catch};

/// Most frames that wait for a worker to read its socket; each may hold memory or a descriptor of the engine.
const MAX_UNREAD_FRAMES: usize = 16_384;

/// Frames on their way to the socket.
#[derive(Clone, Debug)]
pub struct Outbox {
    frames: mpsc::UnboundedSender<Outgoing>,
    fault: Arc<Fault>,
}

/// A bad frame that was noticed elsewhere than in [`Link::run`](super::engine::Link::run), which ends with it.
#[derive(Debug, Default)]
struct Fault {
    reason: OnceLock<BadFrame>,
    /// Of the task that writes.
    panic: Mutex<Option<Panic>>,
    noticed: Notify,
    /// Frames in the outbox.
    queued: AtomicUsize,
}

impl Outbox {
    /// Start the task that writes to `socket`. Must run inside the tokio runtime.
    pub(super) fn new(socket: OwnedWriteHalf) -> Self {
        let (frames, receiver) = mpsc::unbounded_channel();
        let fault = Arc::<Fault>::default();
        let outbox = Self { frames, fault };
        let writing = write_frames(socket, receiver, Arc::clone(&outbox.fault));
        let fault = Arc::clone(&outbox.fault);
        tokio::spawn(async move {
            if let Err(panic) = catch(writing).await {
                *fault.panic.lock() = Some(panic);
                fault.noticed.notify_one();
            }
        });
        outbox
    }

    /// Queue a frame; it is dropped if the worker is gone. A worker that lets too many pile up is ended.
    pub fn send(&self, frame: Outgoing) {
        if self.fault.queued.fetch_add(1, Ordering::Relaxed) < MAX_UNREAD_FRAMES {
            let _ = self.frames.send(frame);
        } else {
            self.refuse(BadFrame(format!("the worker leaves {MAX_UNREAD_FRAMES} frames unread")));
        }
    }

    /// End the worker for this.
    pub fn refuse(&self, reason: BadFrame) {
        let _ = self.fault.reason.set(reason);
        self.fault.noticed.notify_one();
    }

    /// Why the worker is to be ended, once it is; a panic of the task that writes becomes one of whoever waits here.
    pub(super) async fn fault(&self) -> BadFrame {
        self.fault.noticed.notified().await;
        let panic = self.fault.panic.lock().take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        self.fault.reason.get().cloned().unwrap_or_default()
    }
}

/// Write queued frames until the worker is gone or the link is dropped.
async fn write_frames(socket: OwnedWriteHalf, mut frames: mpsc::UnboundedReceiver<Outgoing>, fault: Arc<Fault>) {
    while let Some(frame) = frames.recv().await {
        fault.queued.fetch_sub(1, Ordering::Relaxed);
        if write_frame(&socket, &frame).await.is_err() {
            return;
        }
    }
}

async fn write_frame(socket: &OwnedWriteHalf, frame: &Outgoing) -> io::Result<()> {
    let head = frame.head();
    let mut descriptors: &[OwnedFd] = &frame.descriptors;
    let mut rest: &[u8] = &head;
    let mut tensors = frame.tensors.iter();
    loop {
        while !rest.is_empty() {
            socket.writable().await?;
            let stream: &UnixStream = socket.as_ref();
            match stream
                .try_io(tokio::io::Interest::WRITABLE, || socket::send_with_descriptors(stream, rest, descriptors))
            {
                Ok(sent) => {
                    rest = &rest[sent..];
                    descriptors = &[];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        match tensors.next() {
            Some(tensor) => rest = tensor,
            None => return Ok(()),
        }
    }
}
