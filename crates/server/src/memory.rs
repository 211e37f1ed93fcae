//! What the engine's allocator keeps for the next large body.
#![allow(unsafe_code)]

/// Free memory that stays at the end of an arena: six pictures as JSON. More would hide from the tests of floods what
/// these leave behind.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: i32 = 24 << 20;
/// Larger blocks are mappings of their own, which go back at once: a body of 16 MiB is no such block.
#[cfg(target_env = "gnu")]
const LARGEST_KEPT: i32 = 20 << 20;

/// Keep freed memory instead of giving it back after each request. glibc does that for a picture as JSON, 3 MB, and the
/// faults of 730 new pages are then a quarter of what the thread of its connection has to do: with 64 MiB
/// kept, 480 requests a second became 556, of 602 KB 3,184 became 4,362.
pub(crate) fn keep_freed() {
    // SAFETY: numbers alone are passed, and glibc lets any thread change them at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_KEPT);
    }
}
