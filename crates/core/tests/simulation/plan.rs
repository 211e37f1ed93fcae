//! What a simulated version is like, what its clients want and what befalls it: drawn anew for each.

use samovar_core::batcher::Policy;
use samovar_core::clock::{NEVER, Nanos};
use samovar_core::scheduler::{CallId, Limits};
use samovar_core::tensor::MAX_TENSOR_BYTES;

use crate::random::Random;

pub(crate) const MS: Nanos = 1_000_000;
pub(crate) const US: Nanos = 1_000;

/// How long calls take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Times {
    Constant,
    /// Half to one and a half of the mean.
    Uniform,
    /// Pareto with an index of 1.5: most are short, a few take a hundred times as long.
    HeavyTail,
    /// One of 20 takes 50 times as long.
    Stalls,
}

/// What an item does to the worker that runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    Harmless,
    Raises,
    Kills,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) policy: Policy,
    pub(crate) limits: Limits,
    pub(crate) instances: usize,
    pub(crate) concurrency: usize,
    pub(crate) prefetches: bool,
    /// Number of the first call.
    pub(crate) first_call: CallId,
    /// Its instances live in workers that they share with other versions, which take turns.
    pub(crate) is_shared: bool,
    /// Calls travel through a socket: none can be taken back, and all that were sent count as begun.
    pub(crate) is_inline: bool,
    /// Its answers come in pieces.
    pub(crate) streams: bool,
    times: Times,
    /// Mean time of a call, and of each row more.
    cost: (Nanos, Nanos),
    /// Mean time between requests, and how many come at once.
    pub(crate) interval: f64,
    pub(crate) burst: u64,
    /// Clients ask again when they have their answer, so often that many of all requests are theirs.
    pub(crate) returns: bool,
    keys: u64,
    /// Share of items that are as large as a batch may be.
    large: f64,
    bytes: u64,
    /// Mean allowance for waiting and for the whole; [`NEVER`]: as long as it takes.
    queue_timeout: Nanos,
    timeout: Nanos,
    /// Shares: of requests, of calls, of requests again.
    not_idempotent: f64,
    raising: f64,
    killing: f64,
    pub(crate) failing_calls: f64,
    pub(crate) unsent: f64,
    leaving: f64,
    /// Its workers die of nothing but what they run.
    pub(crate) is_steady: bool,
    /// Mean time that an instance lives.
    pub(crate) life: Option<f64>,
    /// How long a call may run on for nobody.
    pub(crate) hard_kill: Option<Nanos>,
    /// User code hears that nobody waits, and ends.
    pub(crate) hears_cancel: bool,
}

/// The rows of one item.
pub(crate) struct Wish {
    pub(crate) rows: u32,
    pub(crate) cost: u64,
    pub(crate) nature: Nature,
}

/// What a client asks for.
pub(crate) struct Request {
    pub(crate) items: Vec<Wish>,
    pub(crate) batch_key: u64,
    pub(crate) idempotent: bool,
    /// From its arrival on.
    pub(crate) queue_timeout: Nanos,
    pub(crate) timeout: Nanos,
    /// When the client goes away.
    pub(crate) leaves: Option<Nanos>,
}

impl Plan {
    /// `shared`: its workers are shared, and whether these die of nothing but what they run.
    pub(crate) fn new(random: &mut Random, serial: u64, shared: Option<bool>) -> Self {
        let is_shared = shared.is_some();
        let is_steady = shared.unwrap_or_else(|| random.chance(0.5));
        let streams = !is_shared && random.chance(0.15);
        let is_relayed = streams || random.chance(0.15);
        let max_batch_size = if streams { 1 } else { random.pick(&[1, 2, 4, 8, 8, 32]) };
        let instances = random.between(1, 4) as usize;
        let concurrency = if is_shared { 1 } else { random.pick(&[1, 1, 1, 2, 4, 16]) };
        let cost = (random.pick(&[20 * US, MS, 5 * MS, 50 * MS]), random.pick(&[0, 10 * US, 100 * US]));
        let call = (cost.0 + u64::from(max_batch_size / 2) * cost.1) as f64;
        let load = random.pick(&[0.1, 0.5, 0.8, 1.0, 1.5, 5.0]);
        let burst = random.pick(&[1, 1, 4, 20]);
        let rows_at_once = f64::from(max_batch_size).max(2.0) / 2.0;
        let returns = random.chance(0.3);
        let interval = if returns { 20.0 } else { 1.0 } * call * burst as f64
            / ((instances * concurrency) as f64 * rows_at_once * load);
        let allowance = |random: &mut Random| random.pick(&[3.0, 10.0, 30.0, 300.0]) * call;
        let bytes = random.pick(&[1_000, 1_000, 1 << 20, MAX_TENSOR_BYTES / 3]);
        Self {
            policy: Policy {
                max_batch_size,
                max_queue_delay: random.pick(&[None, None, Some(0), Some(100 * US), Some(2 * call as Nanos)]),
            },
            limits: Limits {
                items: random.pick(&[4, 32, 128, 2_048]),
                bytes: random.pick(&[bytes, 8 * bytes, 10_000 * bytes]),
            },
            instances,
            concurrency,
            prefetches: !is_shared && !is_relayed,
            first_call: if is_shared { serial << 42 } else { 1 },
            is_shared,
            // The line in front of a shared worker knows which call runs there, whatever it travels through.
            is_inline: !is_shared && random.chance(0.2),
            streams,
            times: random.pick(&[Times::Constant, Times::Uniform, Times::HeavyTail, Times::Stalls]),
            cost,
            interval,
            burst,
            returns,
            keys: random.pick(&[1, 1, 2, 4]),
            large: random.pick(&[0.0, 0.1, 0.5]),
            bytes,
            queue_timeout: if random.chance(0.3) { allowance(random) as Nanos } else { NEVER },
            timeout: if random.chance(0.8) { allowance(random) as Nanos } else { NEVER },
            not_idempotent: random.pick(&[0.0, 0.0, 0.1, 1.0]),
            raising: random.pick(&[0.0, 0.0, 0.01, 0.1]),
            killing: random.pick(&[0.0, 0.0, 0.002, 0.02]),
            failing_calls: random.pick(&[0.0, 0.0, 0.02]),
            unsent: random.pick(&[0.0, 0.0, 0.0, 0.005]),
            leaving: random.pick(&[0.0, 0.02, 0.3]),
            is_steady,
            life: random.pick(&[20.0, 500.0].map(|calls| (!is_steady).then_some(calls * call))),
            hard_kill: random.pick(&[None, (!is_steady).then_some(5 * call as Nanos)]),
            hears_cancel: random.chance(0.5),
        }
    }

    pub(crate) fn request(&self, random: &mut Random) -> Request {
        let parts = if self.policy.max_batch_size > 1 && random.chance(0.05) { random.between(2, 3) } else { 1 };
        let items = (0..parts).map(|_| self.wish(random)).collect();
        let allowance = |mean: Nanos, random: &mut Random| match mean {
            NEVER => NEVER,
            mean => 1 + random.below(2 * mean),
        };
        let leaves = random.chance(self.leaving).then(|| random.below(4 * self.cost.0));
        Request {
            items,
            batch_key: random.below(self.keys),
            idempotent: !random.chance(self.not_idempotent),
            queue_timeout: allowance(self.queue_timeout, random),
            timeout: allowance(self.timeout, random),
            leaves,
        }
    }

    fn wish(&self, random: &mut Random) -> Wish {
        let max = u64::from(self.policy.max_batch_size);
        let rows = match max {
            1 => 1,
            _ if random.chance(0.02) => 0,
            _ if random.chance(self.large) => max,
            _ => random.between(1, max.div_ceil(4)),
        };
        let nature = match random.share() {
            share if share < self.killing => Nature::Kills,
            share if share < self.killing + self.raising => Nature::Raises,
            _ => Nature::Harmless,
        };
        Wish { rows: rows as u32, cost: random.below(self.bytes), nature }
    }

    /// How long a call of so many rows takes.
    pub(crate) fn time(&self, random: &mut Random, rows: u64) -> Nanos {
        let mean = (self.cost.0 + rows * self.cost.1) as f64;
        let time = match self.times {
            Times::Constant => mean,
            Times::Uniform => mean * (0.5 + random.share()),
            Times::HeavyTail => mean / 3.0 * (1.0 - random.share()).powf(-1.0 / 1.5).min(300.0),
            Times::Stalls => mean * if random.chance(0.05) { 50.0 } else { 0.5 },
        };
        time as Nanos
    }

    /// How long the next piece of a stream may take.
    pub(crate) fn patience(&self) -> Nanos {
        if self.timeout == NEVER { 100 * self.cost.0 } else { self.timeout }
    }
}
