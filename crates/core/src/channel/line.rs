//! The line in front of a shared worker: who is next.
//!
//! Such a worker does one thing at a time, a call of one of its instances or an *errand* (the load or unload of one).
//! Each instance has at most one call here and they go in the order of their coming, so instances take turns. An errand
//! goes alone: whatever ends the worker meanwhile is its doing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::transport::OutCall;

/// Calls that the worker has: the one that runs and the next, so that it need not wait for it.
const MOST_SENT: usize = 2;

#[derive(Debug)]
struct Sent {
    call: u64,
    /// Since when nobody waits for it.
    abandoned: Option<Instant>,
}

/// Calls and errands of one worker.
#[derive(Debug, Default)]
pub(super) struct Line {
    calls: VecDeque<OutCall>,
    /// Calls that the worker has, in the order of their sending.
    sent: VecDeque<Sent>,
    errands: VecDeque<oneshot::Sender<()>>,
    /// An errand runs.
    is_away: bool,
    /// Waiting calls that go before the next errand: neither keeps the other waiting for long.
    first: usize,
    /// A call has ended since the worker was started.
    pub(super) has_finished: bool,
}

impl Line {
    /// Let a call wait.
    pub(super) fn add(&mut self, call: OutCall) {
        self.calls.push_back(call);
    }

    /// Let an errand wait; it hears when it may begin.
    pub(super) fn add_errand(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        if self.errands.is_empty() {
            self.first = self.calls.len();
        }
        self.errands.push_back(sender);
        receiver
    }

    /// The errand that ran is over.
    pub(super) fn end_errand(&mut self) {
        self.is_away = false;
        self.first = self.calls.len();
    }

    /// The next call to be sent; an errand whose turn it is is told.
    pub(super) fn next(&mut self) -> Option<OutCall> {
        while !self.is_away {
            if self.errands.is_empty() || (self.first > 0 && !self.calls.is_empty()) {
                if self.sent.len() == MOST_SENT {
                    return None;
                }
                let call = self.calls.pop_front()?;
                self.first = self.first.saturating_sub(1);
                self.sent.push_back(Sent { call: call.call, abandoned: None });
                return Some(call);
            }
            if !self.sent.is_empty() {
                return None;
            }
            // One that nobody waits for any more is passed over.
            self.is_away = self.errands.pop_front()?.send(()).is_ok();
        }
        None
    }

    /// Take a call back that waits; false if it does not.
    pub(super) fn withdraw(&mut self, call: u64) -> bool {
        let place = self.calls.iter().position(|waiting| waiting.call == call);
        place.and_then(|place| self.calls.remove(place)).is_some()
    }

    /// The worker no longer has this call.
    pub(super) fn forget(&mut self, call: u64) {
        self.sent.retain(|sent| sent.call != call);
    }

    /// Is this the one call that runs? `has_started` may take a call that was sent for one.
    pub(super) fn is_running(&self, call: u64, has_started: impl Fn(u64) -> bool) -> bool {
        self.running(has_started).is_some_and(|sent| sent.call == call)
    }

    /// Does the worker run a call or an errand?
    pub(super) fn is_busy(&self, has_started: impl Fn(u64) -> bool) -> bool {
        self.is_away || self.running(has_started).is_some()
    }

    /// Nobody waits for a call any more.
    pub(super) fn abandon(&mut self, call: u64) {
        if let Some(sent) = self.sent.iter_mut().find(|sent| sent.call == call) {
            sent.abandoned = Some(Instant::now());
        }
    }

    /// How long the call that runs has been run for nobody.
    pub(super) fn in_vain(&self, has_started: impl Fn(u64) -> bool) -> Option<Duration> {
        self.running(has_started)?.abandoned.map(|since| since.elapsed())
    }

    fn running(&self, has_started: impl Fn(u64) -> bool) -> Option<&Sent> {
        self.sent.iter().find(|sent| has_started(sent.call))
    }

    /// Nobody's turn comes any more.
    pub(super) fn close(&mut self) {
        self.errands.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NEVER;

    fn call(number: u64) -> OutCall {
        OutCall {
            call: number,
            instance: 1,
            deadline: NEVER,
            rows: 1,
            items: Vec::new(),
            inputs: Vec::new(),
            is_fast: false,
            method: String::new(),
            http: None,
            is_open: false,
        }
    }

    fn next(line: &mut Line) -> Option<u64> {
        line.next().map(|call| call.call)
    }

    #[test]
    fn two_calls_are_sent_and_one_of_them_runs() {
        let mut line = Line::default();
        (1..=3).for_each(|number| line.add(call(number)));
        assert_eq!([next(&mut line), next(&mut line), next(&mut line)], [Some(1), Some(2), None]);
        assert!(line.is_running(1, |_| true) && !line.is_running(2, |_| true));
        assert!(line.is_running(2, |call| call == 2) && !line.is_running(1, |call| call == 2));
        assert!(!line.is_busy(|_| false));
        line.abandon(2);
        assert!(line.in_vain(|_| true).is_none() && line.in_vain(|call| call == 2).is_some());
        line.forget(1);
        assert!(line.withdraw(3) && !line.withdraw(2));
        assert_eq!(next(&mut line), None);
    }

    #[test]
    fn an_errand_goes_alone_between_the_calls_before_and_after_it() {
        let mut line = Line::default();
        (1..=3).for_each(|number| line.add(call(number)));
        let mut errand = line.add_errand();
        line.add(call(4));
        assert_eq!([next(&mut line), next(&mut line)], [Some(1), Some(2)]);
        line.forget(1);
        assert_eq!([next(&mut line), next(&mut line)], [Some(3), None]);
        line.forget(2);
        assert_eq!(next(&mut line), None);
        assert!(errand.try_recv().is_err());
        line.forget(3);
        assert_eq!(next(&mut line), None);
        assert!(errand.try_recv().is_ok() && line.is_busy(|_| false));
        line.end_errand();
        assert_eq!([next(&mut line), next(&mut line)], [Some(4), None]);
    }

    #[test]
    fn calls_and_errands_take_turns() {
        let mut line = Line::default();
        let errands: Vec<_> = (0..3).map(|_| line.add_errand()).collect();
        line.add(call(1));
        let mut order = Vec::new();
        for mut errand in errands {
            while let Some(call) = next(&mut line) {
                order.push(call);
                line.forget(call);
            }
            assert!(errand.try_recv().is_ok());
            order.push(0);
            line.add(call(order.len() as u64 + 10));
            line.end_errand();
        }
        assert_eq!(order, [0, 1, 11, 0, 14, 0]);
    }

    #[test]
    fn an_errand_that_nobody_waits_for_is_passed_over() {
        let mut line = Line::default();
        drop(line.add_errand());
        line.add(call(1));
        assert_eq!(next(&mut line), Some(1));
        assert!(!line.is_busy(|_| false));
    }
}
