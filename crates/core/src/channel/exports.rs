//! Memory that one worker wrote and another may read: a large tensor passes from a model to the next by reference.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};

use super::segments::Mapping;

/// Smaller tensors are copied: that costs less than a reference does.
pub const MIN_BYTES: usize = 64 << 10;

/// Where each answer segment of this process starts. A tensor's bytes keep their segment mapped, so an address of theirs
/// that lies in one of these names it.
static EXPORTS: Mutex<BTreeMap<usize, Export>> = Mutex::new(BTreeMap::new());

#[derive(Clone, Debug)]
struct Export {
    mapping: Weak<Mapping>,
    descriptor: Arc<OwnedFd>,
}

/// A segment that others may be granted, until this is dropped.
#[derive(Debug)]
pub struct Published {
    start: usize,
}

/// Where bytes lie.
#[derive(Debug)]
pub struct Place {
    /// The segment; dead once nobody holds bytes in it.
    pub mapping: Weak<Mapping>,
    /// Read-only.
    pub descriptor: Arc<OwnedFd>,
    /// From the start of the segment.
    pub offset: u64,
    /// Bytes of the whole segment.
    pub size: u64,
}

/// Let tensors in this segment be passed on by reference. `descriptor` may write; what others get may not.
pub fn publish(mapping: &Arc<Mapping>, descriptor: &OwnedFd) -> io::Result<Published> {
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let read_only = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let start = mapping.address();
    EXPORTS.lock().insert(start, Export { mapping: Arc::downgrade(mapping), descriptor: Arc::new(read_only) });
    Ok(Published { start })
}

impl Drop for Published {
    fn drop(&mut self) {
        EXPORTS.lock().remove(&self.start);
    }
}

/// The segment in which `bytes` lie, if it is a published one and they are aligned as in a range.
#[must_use]
pub fn find(bytes: &[u8]) -> Option<Place> {
    let address = bytes.as_ptr() as usize;
    let (start, export) = {
        let exports = EXPORTS.lock();
        let (start, export) = exports.range(..=address).next_back()?;
        (*start, export.clone())
    };
    let size = export.mapping.upgrade()?.len();
    let offset = (address - start) as u64;
    let lies_inside = offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= size);
    (lies_inside && offset.is_multiple_of(super::ALIGNMENT)).then_some(Place {
        mapping: export.mapping,
        descriptor: export.descriptor,
        offset,
        size,
    })
}

#[cfg(test)]
mod tests {
    use super::super::segments::{Access, create, open};
    use super::*;

    #[test]
    fn bytes_are_found_in_their_segment_while_it_is_published() {
        let (descriptor, mapping) = create(8192, Access::Everybody).unwrap();
        let mapping = Arc::new(mapping);
        assert!(mapping.write(4096, b"abc"));
        let published = publish(&mapping, &descriptor).unwrap();
        let place = find(mapping.read(4096, 3).unwrap()).unwrap();
        assert_eq!((place.offset, place.size), (4096, 8192));
        assert!(find(mapping.read(4097, 3).unwrap()).is_none(), "not aligned");
        assert!(find(&[0; 3]).is_none() && find(b"static").is_none());
        let view = open(&place.descriptor, false).unwrap();
        assert_eq!(view.read(4096, 3).unwrap(), b"abc");
        assert!(open(&place.descriptor, true).is_err(), "a reader cannot write");
        drop(published);
        assert!(find(mapping.read(4096, 3).unwrap()).is_none());
    }
}
