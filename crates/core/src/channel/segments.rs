//! Shared memory: sealed memfds and their mappings. The one file of this crate with `unsafe` code.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use tokio::io::unix::AsyncFd;

/// Who may write through the descriptor that is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only the mapping that the creator made.
    CreatorOnly,
    /// Everybody who has the descriptor.
    Everybody,
}

/// Create memory of a fixed size. The descriptor has no name anywhere; its size is sealed; with
/// [`Access::CreatorOnly`] later mappings can only be read.
pub fn create(size: u64, access: Access) -> io::Result<(OwnedFd, Mapping)> {
    let descriptor = memfd_create("samovar", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&descriptor, size)?;
    fcntl_add_seals(&descriptor, SealFlags::SHRINK | SealFlags::GROW)?;
    let mapping = Mapping::new(&descriptor, size, true)?;
    if access == Access::CreatorOnly {
        fcntl_add_seals(&descriptor, SealFlags::FUTURE_WRITE)?;
    }
    fcntl_add_seals(&descriptor, SealFlags::SEAL)?;
    Ok((descriptor, mapping))
}

/// Map memory that the peer created. The size is the descriptor's own, and its seals keep it from shrinking.
pub fn open(descriptor: impl AsFd, writable: bool) -> io::Result<Mapping> {
    let seals = rustix::fs::fcntl_get_seals(&descriptor)?;
    if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the segment's size is not sealed"));
    }
    let size = u64::try_from(fstat(&descriptor)?.st_size).unwrap_or(0);
    Mapping::new(descriptor, size, writable)
}

/// Let the runtime watch an eventfd, a pidfd or a timerfd. It stands here because tokio asks for `unsafe`.
pub fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always gives the same open descriptor, and it lives as long as the `AsyncFd` that owns it.
    Ok(unsafe { AsyncFd::register(descriptor)? })
}

/// A mapped segment; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    size: usize,
    writable: bool,
}

// SAFETY: the mapping is plain memory that stays mapped until drop; all access goes through checked methods, shared
// words are atomics, and a byte range has one writer by the arena's bookkeeping.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(descriptor: impl AsFd, size: u64, writable: bool) -> io::Result<Self> {
        let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a fresh shared mapping at an address of the kernel's choice; nothing else refers to it.
        let start = unsafe { mmap(ptr::null_mut(), size, protection, MapFlags::SHARED, descriptor, 0)? };
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, size, writable })
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.size as u64
    }

    /// Where it starts in this process.
    #[must_use]
    pub fn address(&self) -> usize {
        self.start.as_ptr() as usize
    }

    /// False: a mapping has at least one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// `offset..offset + length` as indices, if it lies inside.
    fn bounds(&self, offset: u64, length: u64) -> Option<(usize, usize)> {
        let end = offset.checked_add(length)?;
        (end <= self.len()).then_some((offset as usize, length as usize))
    }

    /// The bytes of a range; `None` if it does not lie inside. A peer that breaks the one-writer rule can change what
    /// is read, never what is accessed: lengths and references in it must be copied before they are checked.
    #[must_use]
    pub fn read(&self, offset: u64, length: u64) -> Option<&[u8]> {
        let (start, length) = self.bounds(offset, length)?;
        // SAFETY: inside the mapping, which lives as long as `self`; bytes have no invalid values.
        Some(unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(start), length) })
    }

    /// Copy `data` to `offset`; false if it does not fit or the mapping is read-only.
    #[must_use]
    pub fn write(&self, offset: u64, data: &[u8]) -> bool {
        let Some((start, length)) = self.bounds(offset, data.len() as u64).filter(|_| self.writable) else {
            return false;
        };
        // SAFETY: inside the mapping; the caller owns the range by the arena, so nobody else writes it.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), self.start.as_ptr().add(start), length) };
        true
    }

    /// The 32-bit word at `offset`, shared with the peer.
    ///
    /// # Panics
    /// If it lies outside, is not aligned, or the mapping is read-only: offsets are constants of the control page.
    #[must_use]
    pub fn word(&self, offset: u64) -> &AtomicU32 {
        let (start, _) = self.bounds(offset, 4).expect("a word of the control page lies inside it");
        assert!(start.is_multiple_of(4) && self.writable, "a shared word is aligned and writable");
        // SAFETY: inside, aligned, and only ever accessed as an atomic.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(start).cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this size; `Slice` and every borrower keep the mapping alive.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.size) };
    }
}

/// A range of a mapping that keeps it mapped, with something (`guard`) to be dropped when the bytes are no longer used.
#[derive(Debug)]
pub struct Slice<G> {
    mapping: Arc<Mapping>,
    offset: u64,
    length: u64,
    _guard: G,
}

impl<G> Slice<G> {
    /// The range, if it lies inside the mapping.
    #[must_use]
    pub fn new(mapping: Arc<Mapping>, offset: u64, length: u64, guard: G) -> Option<Self> {
        mapping.bounds(offset, length)?;
        Some(Self { mapping, offset, length, _guard: guard })
    }
}

impl<G> AsRef<[u8]> for Slice<G> {
    fn as_ref(&self) -> &[u8] {
        self.mapping.read(self.offset, self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_segment_cannot_be_mapped_writable_or_resized() {
        let (descriptor, mapping) = create(4096, Access::CreatorOnly).unwrap();
        assert!(mapping.write(10, b"abc"));
        assert!(open(&descriptor, true).is_err());
        let view = open(&descriptor, false).unwrap();
        assert_eq!(view.read(10, 3), Some(b"abc".as_slice()));
        assert!(!view.write(0, b"x"));
        assert!(ftruncate(&descriptor, 0).is_err() && ftruncate(&descriptor, 8192).is_err());
    }

    #[test]
    fn ranges_outside_are_refused() {
        let (_, mapping) = create(4096, Access::Everybody).unwrap();
        assert!(mapping.read(4000, 97).is_none());
        assert!(mapping.read(u64::MAX, 2).is_none());
        assert!(!mapping.write(4095, b"ab"));
        assert!(Slice::new(Arc::new(mapping), 1, 4096, ()).is_none());
    }

    #[test]
    fn a_descriptor_that_could_shrink_is_refused() {
        let descriptor = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&descriptor, 4096).unwrap();
        assert!(open(&descriptor, false).is_err());
    }
}
