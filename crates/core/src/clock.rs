//! The one clock of the engine and its workers.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`: the same number in every process of the machine.
pub type Nanos = u64;

/// A moment that never comes.
pub const NEVER: Nanos = u64::MAX;

/// The present moment.
#[must_use]
pub fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// `duration` as nanoseconds, saturating.
#[must_use]
pub fn nanos(duration: std::time::Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}
