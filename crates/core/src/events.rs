//! What needs a decision of the control plane, in order.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use crate::life::{Cause, State};

/// Something that needs a decision.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Event {
    /// A worker has described a target, or could not.
    Described {
        /// The number that asking for it gave.
        probe: u64,
        /// The description.
        body: Option<serde_json::Value>,
        /// Why there is none.
        cause: Option<Cause>,
    },
    /// A version entered a state.
    Version {
        /// The number that deploying it gave.
        serial: u64,
        /// Model name.
        name: String,
        /// Version name.
        version: String,
        /// The state.
        state: State,
        /// Why.
        cause: Option<Cause>,
    },
    /// A client asked for a load.
    Load {
        /// To be answered under this number.
        ticket: u64,
        /// Model name.
        name: String,
    },
    /// A client asked for an unload.
    Unload {
        /// To be answered under this number.
        ticket: u64,
        /// Model name.
        name: String,
    },
    /// The engine was told to stop.
    Stop,
}

/// Events on their way to the one thread that takes them.
#[derive(Debug, Default)]
pub struct Events {
    queue: Mutex<VecDeque<Event>>,
    arrived: Condvar,
}

impl Events {
    /// Add an event.
    pub fn push(&self, event: Event) {
        self.queue.lock().push_back(event);
        self.arrived.notify_one();
    }

    /// Wait for the next event, for ever or for `limit`.
    pub fn next(&self, limit: Option<Duration>) -> Option<Event> {
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut queue = self.queue.lock();
        loop {
            if let Some(event) = queue.pop_front() {
                return Some(event);
            }
            match until {
                None => self.arrived.wait(&mut queue),
                Some(until) => {
                    if self.arrived.wait_until(&mut queue, until).timed_out() {
                        return queue.pop_front();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_their_order_and_a_wait_ends() {
        let events = Events::default();
        events.push(Event::Load { ticket: 1, name: "a".into() });
        events.push(Event::Stop);
        let text = serde_json::to_string(&events.next(None)).unwrap();
        assert_eq!(text, r#"{"kind":"load","ticket":1,"name":"a"}"#);
        assert!(matches!(events.next(Some(Duration::ZERO)), Some(Event::Stop)));
        assert!(events.next(Some(Duration::from_millis(1))).is_none());
    }
}
