//! Lines on their way to stderr, written by a thread of their own; those of requests a few times per second.
//!
//! A thread that is woken for each line costs the request that wrote it 30 us at one connection on two processors
//! (p50 of an echo: 105 us against 75 us), so the writer sleeps between writes and finds what has gathered.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Bytes that wait for a slow reader; lines beyond are dropped and counted, a request never waits for its line.
const MAX_WAITING_BYTES: usize = 4 << 20;
/// The pause between two writes.
const PAUSE: Duration = Duration::from_millis(20);

/// Where lines are left.
#[derive(Clone, Debug)]
pub(super) struct Sink(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    dropped: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// The writer waits to be told of the next line, and has not been.
    is_parked: bool,
    /// What waits is not to wait for others.
    is_urgent: bool,
    is_closed: bool,
}

/// The writer's thread.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Start to write to `output`. Without a thread every line is dropped and counted.
    pub(super) fn start(output: impl Write + Send + 'static) -> (Sink, Self) {
        let shared = Arc::new(Shared::default());
        let writing = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("samovar-log".into()).spawn(move || writing.write_to(output)).ok();
        (Sink(Arc::clone(&shared)), Self { shared, thread })
    }

    /// Lines that were dropped because the reader was too slow.
    pub(super) fn dropped_lines(&self) -> usize {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    /// Writes what waits.
    fn drop(&mut self) {
        self.shared.state.lock().is_closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn write_to(&self, mut output: impl Write) {
        let mut batch = Vec::new();
        loop {
            {
                let mut state = self.state.lock();
                if !state.is_closed && !state.is_urgent && !batch.is_empty() {
                    self.changed.wait_for(&mut state, PAUSE);
                }
                batch.clear();
                while state.waiting.is_empty() && !state.is_closed {
                    state.is_parked = true;
                    self.changed.wait(&mut state);
                }
                state.is_urgent = false;
                std::mem::swap(&mut state.waiting, &mut batch);
            }
            if batch.is_empty() {
                return;
            }
            // There is nobody to tell of an error.
            output.write_all(&batch).and_then(|()| output.flush()).ok();
        }
    }
}

impl Sink {
    /// Leave `line` to be written, at once if it `is_urgent`.
    pub(super) fn push(&self, line: &[u8], is_urgent: bool) {
        let mut state = self.0.state.lock();
        if state.waiting.len() + line.len() > MAX_WAITING_BYTES || state.is_closed {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(line);
        state.is_urgent |= is_urgent;
        if std::mem::take(&mut state.is_parked) || is_urgent {
            self.0.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc;

    use super::*;

    /// Hands each write to a channel and waits until it is taken.
    struct Slow(mpsc::SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_keep_their_order_and_none_is_lost_at_the_end() {
        let (sender, written) = mpsc::sync_channel(1_000);
        let (sink, writer) = Writer::start(Slow(sender));
        for number in 0..500 {
            sink.push(format!("{number}\n").as_bytes(), number % 7 == 0);
        }
        drop(writer);
        let text: Vec<u8> = written.try_iter().flatten().collect();
        let expected: String = (0..500).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_no_time() {
        let (sender, written) = mpsc::sync_channel(0);
        let (sink, writer) = Writer::start(Slow(sender));
        let line = vec![b'x'; 1 << 20];
        (0..20).for_each(|_| sink.push(&line, false));
        assert!(writer.dropped_lines() >= 20 - 2 * (MAX_WAITING_BYTES >> 20));
        let reading = std::thread::spawn(move || written.iter().map(|bytes| bytes.len()).sum::<usize>());
        let dropped = writer.dropped_lines();
        drop(writer);
        assert_eq!(reading.join().unwrap() >> 20, 20 - dropped);
    }
}
