//! Who may write where: an allocator over segments, as pure bookkeeping.
//!
//! One side of a channel owns one arena for what it writes. Every range has a generation; a frame that names an old
//! one is a bad frame.

use std::collections::BTreeMap;

use super::align;

/// A piece of a segment that has one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The segment.
    pub segment: u32,
    /// Which use of these bytes this is.
    pub generation: u32,
    /// Where it starts; a multiple of 64.
    pub offset: u64,
    /// Bytes, a multiple of 64.
    pub length: u64,
}

#[derive(Debug)]
struct Block {
    size: u64,
    /// Free stretches: start → length. Neighbours are merged.
    free: BTreeMap<u64, u64>,
    /// Used stretches: start → (length, generation).
    used: BTreeMap<u64, (u64, u32)>,
}

impl Block {
    fn new(size: u64) -> Self {
        Self { size, free: BTreeMap::from([(0, size)]), used: BTreeMap::new() }
    }

    fn allocate(&mut self, length: u64, generation: u32) -> Option<u64> {
        let (start, free) = self.free.iter().find(|(_, free)| **free >= length).map(|(start, free)| (*start, *free))?;
        self.free.remove(&start);
        if free > length {
            self.free.insert(start + length, free - length);
        }
        self.used.insert(start, (length, generation));
        Some(start)
    }

    fn release(&mut self, offset: u64, generation: u32) -> Option<u64> {
        let (length, _) = self.used.get(&offset).copied().filter(|(_, current)| *current == generation)?;
        self.used.remove(&offset);
        let (mut start, mut end) = (offset, offset + length);
        if let Some((before, size)) = self.free.range(..offset).next_back().map(|(at, size)| (*at, *size))
            && before + size == offset
        {
            self.free.remove(&before);
            start = before;
        }
        if let Some(size) = self.free.remove(&end) {
            end += size;
        }
        self.free.insert(start, end - start);
        Some(length)
    }
}

/// An allocator over the segments that its owner may write.
#[derive(Debug, Default)]
pub struct Arena {
    blocks: BTreeMap<u32, Block>,
    next_generation: u32,
    used: u64,
}

impl Arena {
    /// Add a segment of `size` bytes.
    pub fn add(&mut self, segment: u32, size: u64) {
        self.blocks.insert(segment, Block::new(size / super::ALIGNMENT * super::ALIGNMENT));
    }

    /// Take `length` bytes, rounded up to 64 (an empty range takes 64); `None` where no segment has that much in one piece.
    pub fn allocate(&mut self, length: u64) -> Option<Range> {
        let length = align(length.max(1));
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let (segment, offset) = self
            .blocks
            .iter_mut()
            .find_map(|(segment, block)| block.allocate(length, generation).map(|offset| (*segment, offset)))?;
        self.used += length;
        Some(Range { segment, generation, offset, length })
    }

    /// Give a range back; false if it is not in use under this generation.
    pub fn release(&mut self, segment: u32, offset: u64, generation: u32) -> bool {
        let released = self.blocks.get_mut(&segment).and_then(|block| block.release(offset, generation));
        self.used -= released.unwrap_or(0);
        released.is_some()
    }

    /// Remove the segments that hold nothing, apart from the first, and say which they were.
    pub fn trim(&mut self) -> Vec<u32> {
        let idle: Vec<_> = self
            .blocks
            .iter()
            .skip(1)
            .filter(|(_, block)| block.used.is_empty())
            .map(|(segment, _)| *segment)
            .collect();
        idle.iter().for_each(|segment| {
            self.blocks.remove(segment);
        });
        idle
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.blocks.values().map(|block| block.size).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ranges_never_overlap_and_all_memory_returns(steps in prop::collection::vec((any::<bool>(), 0..3_000_u64, any::<usize>()), 1..200)) {
            let mut arena = Arena::default();
            arena.add(1, 4096);
            arena.add(2, 8192);
            let mut held: Vec<Range> = Vec::new();
            for (allocates, length, which) in steps {
                if allocates {
                    if let Some(range) = arena.allocate(length) {
                        prop_assert!(range.length >= length && range.offset.is_multiple_of(64));
                        for other in held.iter().filter(|other| other.segment == range.segment) {
                            prop_assert!(range.offset + range.length <= other.offset || other.offset + other.length <= range.offset);
                        }
                        held.push(range);
                    }
                } else if !held.is_empty() {
                    let range = held.swap_remove(which % held.len());
                    prop_assert!(!arena.release(range.segment, range.offset, range.generation.wrapping_sub(1)));
                    prop_assert!(arena.release(range.segment, range.offset, range.generation));
                    prop_assert!(!arena.release(range.segment, range.offset, range.generation));
                }
                prop_assert_eq!(arena.used(), held.iter().map(|range| range.length).sum::<u64>());
            }
            for range in held {
                prop_assert!(arena.release(range.segment, range.offset, range.generation));
            }
            prop_assert_eq!(arena.used(), 0);
            prop_assert_eq!(arena.trim(), vec![2]);
            prop_assert_eq!(arena.allocate(4096).map(|range| range.offset), Some(0));
        }
    }

    #[test]
    fn a_range_larger_than_any_hole_is_refused() {
        let mut arena = Arena::default();
        arena.add(1, 128);
        assert!(arena.allocate(129).is_none());
        assert!(arena.allocate(0).is_some_and(|range| range.length == 64));
        assert!(arena.allocate(65).is_none());
        assert_eq!(arena.used(), 64);
    }
}
