//! What a request whose answer comes in pieces has beside its answer: the pieces, their credit, and the rest of its body.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use crate::channel::engine::{Link, OutPiece};
use crate::channel::frame::INITIAL_CREDIT;
use crate::channel::transport::Gather;
use crate::request::Piece;
use crate::tensor::Datatype;

/// The worker's side of a stream, as seen from the caller's.
#[derive(Debug)]
pub struct Outlet {
    pieces: mpsc::UnboundedSender<Piece>,
    /// Pieces that the caller has not taken; the worker's credit bounds them.
    untaken: AtomicUsize,
    /// Where it runs, once it does.
    place: Mutex<Option<(Weak<Link>, u64)>>,
    /// Pieces of the request's body that the worker takes now. Closed when nobody takes any more.
    upload: Semaphore,
    /// Pieces of the request's body that were sent; changes under the lock of `place`.
    uploaded: AtomicU32,
}

/// Nobody takes the rest of a request's body any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Outlet {
    /// An outlet, and where its pieces come out.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Piece>) {
        let (pieces, receiver) = mpsc::unbounded_channel();
        let outlet = Self {
            pieces,
            untaken: AtomicUsize::new(0),
            place: Mutex::new(None),
            upload: Semaphore::new(0),
            uploaded: AtomicU32::new(0),
        };
        (outlet, receiver)
    }

    /// It runs now, as `call` of `link`'s worker. False if another worker was sent a piece of the body.
    pub(crate) fn begin(&self, link: &Arc<Link>, call: u64) -> bool {
        let mut place = self.place.lock();
        let has_begun = place.replace((Arc::downgrade(link), call)).is_some();
        if !has_begun {
            self.upload.add_permits(INITIAL_CREDIT as usize);
        }
        !has_begun || self.uploaded.load(Ordering::Acquire) == 0
    }

    /// A piece has come from the worker; how many wait for the caller now.
    pub(crate) fn push(&self, piece: Piece) -> usize {
        let untaken = self.untaken.fetch_add(1, Ordering::AcqRel) + 1;
        let _ = self.pieces.send(piece);
        untaken
    }

    /// The caller took a piece: the worker may send another.
    pub(crate) fn taken(&self) {
        self.untaken.fetch_sub(1, Ordering::AcqRel);
        if let Some((link, call)) = self.at() {
            link.credit(call);
        }
    }

    /// The worker takes so many more pieces of the body.
    pub(crate) fn credited(&self, pieces: u32) {
        self.upload.add_permits(pieces.min(INITIAL_CREDIT) as usize);
    }

    /// Nobody takes the rest of the body any more.
    pub(crate) fn close_upload(&self) {
        self.upload.close();
    }

    /// Send a piece of the request's body once the worker takes one.
    pub(crate) async fn upload(&self, data: Bytes, is_last: bool) -> Result<(), Gone> {
        self.upload.acquire().await.map_err(|_| Gone)?.forget();
        let (link, call, sequence) = self.next_piece().ok_or(Gone)?;
        let body = Gather { datatype: Datatype::Uint8, shape: vec![data.len() as u64], pieces: vec![data] };
        let tensors = if body.length() == 0 { &[] } else { std::slice::from_ref(&body) };
        link.part(OutPiece { call, sequence, names: &[], tensors }, is_last).map_err(|_| Gone)
    }

    /// Where the next piece of the body goes, and its number there.
    fn next_piece(&self) -> Option<(Arc<Link>, u64, u32)> {
        let place = self.place.lock();
        let (link, call) = place.as_ref()?;
        Some((link.upgrade()?, *call, self.uploaded.fetch_add(1, Ordering::AcqRel)))
    }

    fn at(&self) -> Option<(Arc<Link>, u64)> {
        let place = self.place.lock();
        let (link, call) = place.as_ref()?;
        Some((link.upgrade()?, *call))
    }
}
