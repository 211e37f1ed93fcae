//! What workers print: read line by line, tagged with their model, and remembered for the cause of a death.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::channel::engine::OWN;

/// Lines of standard error that a cause carries.
pub const TAIL_LINES: usize = 50;
/// A longer line is cut into pieces.
const MAX_LINE_BYTES: usize = 8 << 10;
/// A worker puts the number of an instance and the ids of the requests it runs between these two characters, ahead of a
/// line: `3:r7,r8`.
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
    /// By the number of the instance. What has no number is of the only one, or in a shared worker of nobody.
    owners: Mutex<BTreeMap<u32, Owner>>,
    /// Name of a shared worker.
    worker: OnceLock<Arc<str>>,
    /// The last lines of standard error, with the number of the instance.
    tail: Mutex<VecDeque<(u32, String)>>,
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
    /// From now on lines with this number are `owner`'s.
    pub fn own(&self, number: u32, owner: Owner) {
        self.owners.lock().insert(number, owner);
    }

    /// The instance is not there any more.
    pub fn disown(&self, number: u32) {
        self.owners.lock().remove(&number);
    }

    /// From now on they are those of a shared worker.
    pub fn share(&self, worker: &Arc<str>) {
        let _ = self.worker.set(Arc::clone(worker));
    }

    /// The last lines of standard error that are an instance's, or nobody's.
    #[must_use]
    pub fn tail(&self, number: u32) -> Vec<String> {
        let is_meant = |(of, _): &&(u32, String)| *of == number || *of == OWN;
        self.tail.lock().iter().filter(is_meant).map(|(_, line)| line.clone()).collect()
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
        let (number, ids, text) = split_tag(line);
        let text = String::from_utf8_lossy(text);
        if stream == Stream::Stderr {
            let mut tail = self.tail.lock();
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back((number, text.clone().into_owned()));
        }
        let owner = self.owners.lock().get(&number).cloned();
        let (model, version) = owner.as_ref().map(|owner| (&*owner.model, &*owner.version)).unzip();
        let instance = owner.as_ref().map(|owner| owner.instance);
        let worker = self.worker.get().map(|name| &**name);
        let stream = if stream == Stream::Stdout { "stdout" } else { "stderr" };
        let ids = String::from_utf8_lossy(ids);
        let request_id = Some(&*ids).filter(|ids| !ids.is_empty());
        tracing::info!(target: "samovar::worker", model, version, instance, worker, stream, request_id, "{text}");
    }
}

/// The number of the instance and the request ids ahead of a line, and the line.
fn split_tag(line: &[u8]) -> (u32, &[u8], &[u8]) {
    let Some(rest) = line.strip_prefix(&[TAG_START]) else { return (OWN, &[], line) };
    let Some(end) = rest.iter().position(|byte| *byte == TAG_END) else { return (OWN, &[], line) };
    let (tag, text) = (&rest[..end], &rest[end + 1..]);
    let colon = tag.iter().position(|byte| *byte == b':').unwrap_or(tag.len());
    let number = std::str::from_utf8(&tag[..colon]).ok().and_then(|number| number.parse().ok());
    (number.unwrap_or(OWN), tag.get(colon + 1..).unwrap_or_default(), text)
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
        assert_eq!(split_tag(b"\x1e3:a,b:c\x1fhello"), (3, b"a,b:c".as_slice(), b"hello".as_slice()));
        assert_eq!(split_tag(b"\x1e\x1fhello"), (0, b"".as_slice(), b"hello".as_slice()));
        assert_eq!(split_tag(b"hello"), (0, b"".as_slice(), b"hello".as_slice()));
        assert_eq!(split_tag(b"\x1ehello"), (0, b"".as_slice(), b"\x1ehello".as_slice()));
    }

    #[test]
    fn the_last_lines_of_an_instance_are_its_own_and_nobodys() {
        let output = Output::default();
        for line in [b"\x1e1:\x1fone".as_slice(), b"\x1e2:r\x1ftwo", b"nobody"] {
            output.line(line, Stream::Stderr);
        }
        assert_eq!(output.tail(1), ["one", "nobody"]);
        assert_eq!(output.tail(2), ["two", "nobody"]);
    }
}
