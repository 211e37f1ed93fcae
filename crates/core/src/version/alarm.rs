//! A timer that is on time: tokio's own is late by up to two milliseconds, more than most waits for batch mates.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;

use crate::channel::segments::watch;
use crate::clock::{NEVER, Nanos};

/// Rings once, at the moment that was set last.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    /// An alarm that is not set. Must be made inside the tokio runtime.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self { timer: watch(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?)? })
    }

    /// Ring at `moment`: at once if it is past, not at all if it never comes.
    pub(super) fn set(&self, moment: Nanos) {
        // A value of 0 would switch the timer off.
        let moment = if moment == NEVER { 0 } else { moment.max(1) };
        let value =
            Timespec { tv_sec: (moment / 1_000_000_000).cast_signed(), tv_nsec: (moment % 1_000_000_000) as i64 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // It fails for descriptors that are no timers and for times that are none.
        let _ = rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once);
    }

    /// Wait until it has rung.
    pub(super) async fn rung(&self) {
        loop {
            let Ok(mut ready) = self.timer.readable().await else { return std::future::pending().await };
            let mut count = [0_u8; 8];
            if ready.try_io(|timer| Ok(rustix::io::read(timer, &mut count)?)).is_ok() {
                return;
            }
        }
    }
}
