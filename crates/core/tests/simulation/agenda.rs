//! The simulated clock, and what is to happen.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use samovar_core::clock::Nanos;
use samovar_core::queue::ItemId;
use samovar_core::scheduler::{CallId, Outcome};

use crate::random::Random;

/// One of the workers that an instance of a version has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) version: usize,
    pub(crate) instance: usize,
    pub(crate) epoch: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// Clients of a model ask.
    Arrive { model: usize },
    /// One of them asks again.
    Return { model: usize },
    /// The client of a request goes away.
    Leave { request: usize },
    /// A version's timer rings.
    Wake { version: usize },
    /// A worker looks at its ring.
    Claim { at: At },
    /// A call is over in its worker.
    Done { at: At, call: CallId, raises: bool },
    /// The engine reads the end of a call.
    Seen { at: At, call: CallId, outcome: Outcome },
    /// The engine reads a piece of an answer.
    Piece { at: At, call: CallId },
    /// A client takes a piece.
    Taken { version: usize, item: ItemId },
    /// A call has run on for nobody too long.
    Overrun { at: At, call: CallId },
    /// A worker has lived long enough.
    Age { at: At },
    /// A worker dies of a call.
    Kill { at: At, call: CallId },
    /// A worker dies.
    Die { at: At },
    /// The engine hears of it.
    Down { at: At },
    /// An instance has loaded.
    Up { version: usize, instance: usize },
    /// A version that drains has had its time.
    Expel { version: usize },
}

/// An event, first the earlier one, and of one moment the one that was planned first.
struct Planned {
    moment: Nanos,
    number: u64,
    event: Event,
}

impl Planned {
    fn order(&self) -> Reverse<(Nanos, u64)> {
        Reverse((self.moment, self.number))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

/// What is to happen in a world, and when it is there.
pub(crate) struct Agenda {
    pub(crate) now: Nanos,
    pub(crate) random: Random,
    events: BinaryHeap<Planned>,
    planned: u64,
}

impl Agenda {
    pub(crate) fn new(random: Random) -> Self {
        Self { now: 1, random, events: BinaryHeap::new(), planned: 0 }
    }

    pub(crate) fn at(&mut self, moment: Nanos, event: Event) {
        self.planned += 1;
        self.events.push(Planned { moment, number: self.planned, event });
    }

    /// At some moment from now on, `longest` from now at the latest.
    pub(crate) fn soon(&mut self, longest: Nanos, event: Event) {
        let moment = self.now + self.random.below(longest);
        self.at(moment, event);
    }

    /// What happens next; it is that late then.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let planned = self.events.pop()?;
        self.now = planned.moment;
        Some(planned.event)
    }
}
