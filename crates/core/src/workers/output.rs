//! What workers print: read line by line, tagged with their model, and remembered for the cause of a death.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// Lines of standard error that a cause carries.
pub const TAIL_LINES: usize = 50;
/// A longer line is cut into pieces.
const MAX_LINE_BYTES: usize = 8 << 10;
/// A worker puts the ids of the requests it runs between these two characters, ahead of a line.
const TAG_START: u8 = 0x1e;
const TAG_END: u8 = 0x1f;

/// Whose lines these are, once that is known.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Model name.
    pub model: Arc<str>,
    /// Version name.
    pub version: Arc<str>,
    /// Instance.
    pub instance: usize,
}

/// The two output streams of one worker.
#[derive(Debug, Default)]
pub struct Output {
    /// Set when the worker gets its instance.
    pub owner: OnceLock<Owner>,
    tail: Mutex<VecDeque<String>>,
}

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Output {
    /// The last lines of standard error.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        self.tail.lock().iter().cloned().collect()
    }

    /// Read a stream to its end.
    pub async fn read(self: Arc<Self>, pipe: OwnedFd, stream: Stream) {
        let Ok(mut pipe) = Receiver::from_owned_fd(pipe) else { return };
        let mut lines = Lines::default();
        let mut chunk = vec![0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
            lines.feed(&chunk[..length], |line| self.line(line, stream));
        }
        lines.finish(|line| self.line(line, stream));
    }

    fn line(&self, line: &[u8], stream: Stream) {
        let (ids, text) = split_tag(line);
        let text = String::from_utf8_lossy(text);
        if stream == Stream::Stderr {
            let mut tail = self.tail.lock();
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(text.clone().into_owned());
        }
        let stream = if stream == Stream::Stdout { "stdout" } else { "stderr" };
        let ids = String::from_utf8_lossy(ids);
        match (self.owner.get(), &*ids) {
            (Some(Owner { model, version, instance }), "") => {
                tracing::info!(target: "samovar::worker", %model, %version, instance, stream, "{text}");
            }
            (Some(Owner { model, version, instance }), ids) => {
                tracing::info!(target: "samovar::worker", %model, %version, instance, stream, request_id = ids, "{text}");
            }
            (None, _) => tracing::info!(target: "samovar::worker", stream, "{text}"),
        }
    }
}

/// The request ids ahead of a line, and the line.
fn split_tag(line: &[u8]) -> (&[u8], &[u8]) {
    match line.strip_prefix(&[TAG_START]).and_then(|rest| Some((rest, rest.iter().position(|byte| *byte == TAG_END)?)))
    {
        Some((rest, end)) => (&rest[..end], &rest[end + 1..]),
        None => (&[], line),
    }
}

/// Cuts a byte stream into lines of bounded length.
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], mut emit: impl FnMut(&[u8])) {
        for byte in bytes {
            if *byte == b'\n' || self.partial.len() == MAX_LINE_BYTES {
                emit(&self.partial);
                self.partial.clear();
            }
            if *byte != b'\n' {
                self.partial.push(*byte);
            }
        }
    }

    fn finish(self, mut emit: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            emit(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_newlines_and_at_the_limit() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        lines.feed(b"ab\ncd", |line| seen.push(line.to_vec()));
        lines.feed(b"e\n\n", |line| seen.push(line.to_vec()));
        lines.feed(&vec![b'x'; MAX_LINE_BYTES + 1], |line| seen.push(line.to_vec()));
        lines.finish(|line| seen.push(line.to_vec()));
        assert_eq!(seen[..3], [b"ab".to_vec(), b"cde".to_vec(), Vec::new()]);
        assert_eq!(seen[3..].iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LINE_BYTES, 1]);
    }

    #[test]
    fn tags_are_taken_off() {
        assert_eq!(split_tag(b"\x1ea,b\x1fhello"), (b"a,b".as_slice(), b"hello".as_slice()));
        assert_eq!(split_tag(b"hello"), (b"".as_slice(), b"hello".as_slice()));
        assert_eq!(split_tag(b"\x1ehello"), (b"".as_slice(), b"\x1ehello".as_slice()));
    }
}
