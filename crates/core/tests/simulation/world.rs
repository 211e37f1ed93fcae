//! Models whose versions come and go, their clients and their workers: one run of chance from a seed to the last answer.

use std::collections::VecDeque;

use samovar_core::clock::Nanos;
use samovar_core::queue::ItemId;

use crate::agenda::{Agenda, At, Event};
use crate::found::Found;
use crate::ledger::Fate;
use crate::plan::{MS, Plan, US};
use crate::random::Random;
use crate::served::Served;

/// Items that the versions of one world are given, at least.
pub(crate) const ITEMS: u64 = 2_500;
/// Events after which a world of so few items has got stuck.
const MOST_EVENTS: u64 = 4_000_000;
/// Within this a client who has its answer asks again.
const RETURN: Nanos = 100 * US;
/// Events that a failure tells of.
const REMEMBERED: usize = 40;

/// One of the names that clients know.
struct Model {
    is_shared: bool,
    /// The version that takes requests, the one that takes what belongs to earlier ones, and the one that loads.
    current: Option<usize>,
    draining: Option<usize>,
    loading: Option<usize>,
}

/// A request as its client knows it.
struct Asked {
    model: usize,
    version: usize,
    first: ItemId,
    /// Items, and those of them that have no answer.
    items: u64,
    owed: u64,
    is_answered: bool,
}

pub(crate) struct World {
    agenda: Agenda,
    models: Vec<Model>,
    versions: Vec<Served>,
    requests: Vec<Asked>,
    found: Found,
    items: u64,
    /// Share of arrivals with which a new version begins to load.
    reloading: f64,
    /// Shared workers die of nothing but what they run.
    is_steady: bool,
    is_ending: bool,
    trace: Trace,
}

/// Where a world has got to; told when it fails.
struct Trace {
    seed: u64,
    step: u64,
    plans: Vec<Plan>,
    last: VecDeque<(Nanos, Event)>,
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (version, plan) in self.plans.iter().enumerate() {
                eprintln!("version {version}: {plan:?}");
            }
            for (moment, event) in &self.last {
                eprintln!("{moment:>14} ns {event:?}");
            }
            eprintln!(
                "the world of seed {seed} fails at step {step}; see it again: SAMOVAR_SIMULATION_SEED={seed} \
                 SAMOVAR_SIMULATION_ITEMS=1 cargo test -p samovar-core --test simulation",
                seed = self.seed,
                step = self.step
            );
        }
    }
}

/// Run the world of a seed to its end.
pub(crate) fn run(seed: u64) -> Found {
    let mut world = World::new(seed);
    while let Some(event) = world.agenda.next() {
        world.step(event);
    }
    let stuck = world.versions.iter().filter(|served| !served.is_retired).count();
    assert_eq!(stuck, 0, "versions with items that wait for ever");
    assert!(world.requests.iter().all(|asked| asked.is_answered), "a request was never answered");
    assert_eq!(world.found.items(), world.items, "items that ended, of those that were taken");
    world.found
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let models = (0..random.between(1, 3))
            .map(|_| Model { is_shared: random.chance(0.3), current: None, draining: None, loading: None })
            .collect();
        let (reloading, is_steady) = (random.pick(&[0.0, 0.001, 0.02]), random.chance(0.5));
        let mut world = Self {
            agenda: Agenda::new(random),
            models,
            versions: Vec::new(),
            requests: Vec::new(),
            found: Found::default(),
            items: 0,
            reloading,
            is_steady,
            is_ending: false,
            trace: Trace { seed, step: 0, plans: Vec::new(), last: VecDeque::with_capacity(REMEMBERED) },
        };
        for model in 0..world.models.len() {
            world.load(model);
            world.agenda.soon(MS, Event::Arrive { model });
        }
        world
    }

    fn step(&mut self, event: Event) {
        self.trace.step += 1;
        if self.trace.last.len() == REMEMBERED {
            self.trace.last.pop_front();
        }
        self.trace.last.push_back((self.agenda.now, event));
        assert!(self.trace.step < MOST_EVENTS, "a world that does not end");
        self.apply(event);
        if let Some(version) = version_of(event) {
            self.answer(version);
            self.retire(version);
        }
    }

    fn apply(&mut self, event: Event) {
        if version_of(event).is_some_and(|version| self.versions[version].is_retired) {
            return;
        }
        let (agenda, found) = (&mut self.agenda, &mut self.found);
        match event {
            Event::Arrive { model } => self.arrive(model),
            Event::Return { model } => {
                if let Some(current) = self.models[model].current {
                    self.ask(model, current);
                }
            }
            Event::Leave { request } => self.leave(request),
            Event::Wake { version } => self.versions[version].wake(agenda, found),
            Event::Claim { at } => self.claim(at),
            Event::Done { at, call, raises } => {
                self.versions[at.version].done(agenda, at, call, raises);
                self.let_others_claim(at);
            }
            Event::Seen { at, call, outcome } => self.versions[at.version].seen(agenda, found, (at, call), outcome),
            Event::Piece { at, call } => self.versions[at.version].piece(agenda, found, at, call),
            Event::Taken { version, item } => self.versions[version].taken(agenda, item),
            Event::Overrun { at, call } => self.versions[at.version].overrun(agenda, at, call),
            Event::Age { .. } if self.is_ending => {}
            Event::Kill { at, call } if !self.versions[at.version].runs(at, call) => {}
            Event::Age { at } | Event::Die { at } | Event::Kill { at, .. } => self.die(at),
            Event::Down { at } => self.versions[at.version].go_down(agenda, found, at),
            Event::Up { version, instance } => self.come_up(version, instance),
            Event::Expel { version } => self.close(version, true),
        }
    }

    /// A version of a model begins to load.
    fn load(&mut self, model: usize) {
        let serial = self.versions.len();
        let shared = self.models[model].is_shared.then_some(self.is_steady);
        let plan = Plan::new(&mut self.agenda.random, serial as u64, shared);
        for instance in 0..plan.instances {
            self.agenda.soon(5 * MS, Event::Up { version: serial, instance });
        }
        self.trace.plans.push(plan.clone());
        self.versions.push(Served::new(serial, plan));
        self.models[model].loading = Some(serial);
    }

    /// The first instance of a version that loads makes it the one that serves; the one before it drains.
    fn come_up(&mut self, version: usize, instance: usize) {
        self.versions[version].come_up(&mut self.agenda, &mut self.found, instance);
        let Some(model) = self.models.iter_mut().find(|model| model.loading == Some(version)) else { return };
        (model.loading, model.draining, model.current) = (None, model.current, Some(version));
        if let Some(before) = model.draining {
            self.found.reloads += 1;
            let patience = self.agenda.random.pick(&[0, 10 * MS, 1_000 * MS, 100_000 * MS]);
            self.agenda.at(self.agenda.now + patience, Event::Expel { version: before });
            self.close(before, false);
        }
    }

    fn close(&mut self, version: usize, is_final: bool) {
        self.versions[version].close(&mut self.agenda, &mut self.found, is_final);
        self.answer(version);
        self.retire(version);
    }

    fn retire(&mut self, version: usize) {
        let served = &mut self.versions[version];
        if served.is_closed && !served.is_retired && served.ledger.is_idle() {
            served.retire(&self.agenda);
        }
    }

    fn arrive(&mut self, model: usize) {
        let Some(current) = self.models[model].current else {
            return self.agenda.soon(MS, Event::Arrive { model });
        };
        let burst = self.versions[current].plan.burst;
        (0..burst).for_each(|_| self.ask(model, current));
        if self.items >= ITEMS {
            return self.end(model);
        }
        let interval = self.versions[current].plan.interval;
        let moment = self.agenda.now + self.agenda.random.exponential(interval);
        self.agenda.at(moment, Event::Arrive { model });
        if self.models[model].loading.is_none() && self.agenda.random.chance(self.reloading) {
            self.load(model);
        }
    }

    /// No more requests for a model: what it has is finished, or ended.
    fn end(&mut self, model: usize) {
        self.is_ending = true;
        if let Some(version) = self.models[model].loading.take() {
            self.close(version, false);
        }
        if let Some(version) = self.models[model].current.take() {
            let is_final = self.agenda.random.chance(0.3);
            self.close(version, is_final);
        }
    }

    fn ask(&mut self, model: usize, current: usize) {
        // What belongs to a request that was taken is taken too, whatever waits and whoever drains.
        let is_admitted = self.agenda.random.chance(0.05);
        let draining = self.models[model].draining.filter(|version| is_admitted && !self.versions[*version].is_final);
        let version = draining.filter(|version| !self.versions[*version].is_retired).unwrap_or(current);
        let served = &mut self.versions[version];
        let request = served.plan.request(&mut self.agenda.random);
        let number = self.requests.len();
        let items = request.items.len() as u64;
        // Known before it is taken, as it may end at once.
        self.requests.push(Asked { model, version, first: 0, items, owed: items, is_answered: false });
        match served.submit(&mut self.agenda, &mut self.found, (number, &request), is_admitted) {
            None => {
                self.requests.pop();
                self.found.refused += 1;
            }
            Some(first) => {
                self.requests[number].first = first;
                self.items += items;
                if let Some(after) = request.leaves {
                    self.agenda.at(self.agenda.now + after, Event::Leave { request: number });
                }
                self.answer(version);
            }
        }
    }

    /// The client goes away, or has its answer and leaves what is left of its request.
    fn leave(&mut self, request: usize) {
        let Asked { version, first, items, .. } = self.requests[request];
        if self.versions[version].is_retired {
            return;
        }
        for id in first..first + items {
            self.versions[version].cancel(&mut self.agenda, &mut self.found, id);
        }
        self.answer(version);
        self.retire(version);
    }

    /// Clients hear of what became of their items: of the first that failed, or that all are there.
    fn answer(&mut self, version: usize) {
        let served = &mut self.versions[version];
        for (request, fate) in std::mem::take(&mut served.ledger.ended) {
            *self.found.fates.entry(fate).or_default() += 1;
            let asked = &mut self.requests[request];
            asked.owed -= 1;
            let is_over = fate != Fate::Answered || asked.owed == 0;
            if !is_over || std::mem::replace(&mut asked.is_answered, true) {
                continue;
            }
            if asked.items > 1 {
                self.agenda.at(self.agenda.now, Event::Leave { request });
            }
            if served.plan.returns && fate != Fate::Cancelled && self.agenda.random.chance(0.95) {
                self.agenda.soon(RETURN, Event::Return { model: asked.model });
            }
        }
    }

    /// Instances of the same number of models that share workers live in the same worker, which runs one call at a time.
    fn neighbours(&self, at: At) -> impl Iterator<Item = usize> + use<> {
        let is_shared = self.versions[at.version].plan.is_shared;
        let is_neighbour = |version: &usize| {
            let served = &self.versions[*version];
            !served.is_retired && if is_shared { served.plan.is_shared } else { *version == at.version }
        };
        (0..self.versions.len()).filter(is_neighbour).collect::<Vec<_>>().into_iter()
    }

    fn claim(&mut self, at: At) {
        let is_taken = |version: usize| version != at.version && self.versions[version].is_busy(at.instance);
        if !self.versions[at.version].plan.is_shared || !self.neighbours(at).any(is_taken) {
            self.versions[at.version].claim(&mut self.agenda, at);
        }
    }

    fn let_others_claim(&mut self, at: At) {
        if self.versions[at.version].plan.is_shared {
            for version in self.neighbours(at) {
                self.versions[version].look(&mut self.agenda, at.instance);
            }
        }
    }

    fn die(&mut self, at: At) {
        if self.versions[at.version].is_current(at) {
            for version in self.neighbours(at) {
                self.versions[version].die(&mut self.agenda, at.instance);
            }
        }
    }
}

fn version_of(event: Event) -> Option<usize> {
    match event {
        Event::Arrive { .. } | Event::Return { .. } | Event::Leave { .. } => None,
        Event::Wake { version } | Event::Taken { version, .. } => Some(version),
        Event::Up { version, .. } | Event::Expel { version } => Some(version),
        Event::Claim { at } | Event::Done { at, .. } | Event::Seen { at, .. } | Event::Piece { at, .. } => {
            Some(at.version)
        }
        Event::Overrun { at, .. }
        | Event::Kill { at, .. }
        | Event::Age { at }
        | Event::Die { at }
        | Event::Down { at } => Some(at.version),
    }
}
