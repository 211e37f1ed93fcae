//! The channel between the engine and one worker: frames, shared segments, rings, and both ends.
//!
//! `docs/channel.md` describes the format with a worked example.

pub mod arena;
pub mod engine;
pub mod exports;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod inflow;
pub mod inline;
mod line;
mod lookout;
pub mod outbox;
pub mod ring;
pub mod segments;
pub mod shm;
pub mod socket;
pub mod stream;
pub mod transport;
pub mod worker;

/// The messages of `proto/channel.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/samovar.channel.rs"));
}

/// Version of the format; both ends must name the same.
pub const FORMAT_VERSION: u32 = 1;
/// Feature bit: rings and tensors in shared memory.
pub const FEATURE_SHM: u64 = 1;
/// The question whether a worker lives.
pub const HEARTBEAT: &str = "heartbeat";
/// An idle channel keeps at most this much memory for requests, and as much for answers.
const RETAINED_BYTES: u64 = 64 << 20;
/// Alignment of metadata and tensors in a segment: a cache line, and enough for any SIMD load.
pub const ALIGNMENT: u64 = 64;

/// The next multiple of [`ALIGNMENT`].
#[must_use]
pub const fn align(offset: u64) -> u64 {
    offset.next_multiple_of(ALIGNMENT)
}
