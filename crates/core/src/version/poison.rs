//! Requests that killed workers: remembered for a while, so that an equal one costs none.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::clock::Nanos;
use crate::pending::Accepted;
use crate::request::Parameter;

/// How long one is remembered.
const MEMORY: Nanos = 60_000_000_000;
/// How many are; the oldest leave.
const MOST: usize = 1_024;
/// Larger requests are not: reading this much takes some 10 ms, in which the thread serves nobody.
const MAX_BYTES: usize = 16 << 20;
/// Headers that differ between requests that are equal to whoever answers them.
const NAMES_OF_ONE: [&[u8]; 5] =
    [b"traceparent", b"tracestate", b"x-request-id", b"samovar-timeout-ms", b"request-timeout"];

/// The requests of one version that died alone. Empty, it costs a request one look at a flag.
#[derive(Debug, Default)]
pub(super) struct Poison {
    holds_any: AtomicBool,
    state: RandomState,
    known: Mutex<VecDeque<Known>>,
}

#[derive(Debug)]
struct Known {
    /// Of everything but the bytes, which are read only where this is equal.
    outline: u64,
    content: u64,
    until: Nanos,
}

impl Poison {
    /// Remember a request from `now` on.
    pub(super) fn remember(&self, request: &Accepted, now: Nanos) {
        if size(request) > MAX_BYTES {
            return;
        }
        let (outline, content) = (self.outline(request), self.content(request));
        let mut known = self.known.lock();
        known.retain(|one| (one.outline, one.content) != (outline, content));
        if known.len() == MOST {
            known.pop_front();
        }
        known.push_back(Known { outline, content, until: now.saturating_add(MEMORY) });
        self.holds_any.store(true, Ordering::Release);
    }

    /// Is any remembered at all?
    pub(super) fn holds_any(&self) -> bool {
        self.holds_any.load(Ordering::Acquire)
    }

    /// Is an equal request remembered at `now`?
    pub(super) fn holds(&self, request: &Accepted, now: Nanos) -> bool {
        let outline = self.outline(request);
        {
            let mut known = self.known.lock();
            while known.front().is_some_and(|oldest| oldest.until <= now) {
                known.pop_front();
            }
            self.holds_any.store(!known.is_empty(), Ordering::Release);
            if size(request) > MAX_BYTES || known.iter().all(|one| one.outline != outline) {
                return false;
            }
        }
        let content = self.content(request); // without the lock: it may take milliseconds
        self.known.lock().iter().any(|one| (one.outline, one.content) == (outline, content))
    }

    fn outline(&self, request: &Accepted) -> u64 {
        let mut hasher = self.state.build_hasher();
        request.method.hash(&mut hasher);
        for input in &request.inputs {
            (input.datatype, &input.shape, input.data.len()).hash(&mut hasher);
        }
        for (name, value) in &request.parameters {
            name.hash(&mut hasher);
            match value {
                Parameter::Bool(value) => (0, value).hash(&mut hasher),
                Parameter::Int(value) => (1, value).hash(&mut hasher),
                Parameter::Double(value) => (2, value.to_bits()).hash(&mut hasher),
                Parameter::String(value) => (3, value).hash(&mut hasher),
            }
        }
        if let Some(http) = &request.http {
            let head = &http.head;
            (&head.method, &head.path, &head.query).hash(&mut hasher);
            for header in head.headers.iter().filter(|header| !NAMES_OF_ONE.contains(&&*header.name)) {
                (&header.name, &header.value).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    fn content(&self, request: &Accepted) -> u64 {
        let mut hasher = self.state.build_hasher();
        request.inputs.iter().for_each(|input| input.data.hash(&mut hasher));
        hasher.finish()
    }
}

fn size(request: &Accepted) -> usize {
    request.inputs.iter().map(|input| input.data.len()).sum()
}

#[cfg(test)]
#[path = "poison_tests.rs"]
mod tests;
