//! Many steps at once in random order, against a model: each has one end, gets its own bytes, and leaves nothing.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use samovar_core::channel::engine::StepFrame;
use samovar_core::channel::proto;
use samovar_core::channel::worker::{Step, StepNews};
use samovar_core::config::TransportKind;
use tokio::runtime::Runtime;

use crate::harness::*;
use crate::steps::{answer, begin, finish};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// What one of the two ends does; `which` picks one of the steps that it can do so with.
#[derive(Clone, Debug)]
enum Act {
    /// The worker calls.
    Begin { length: usize },
    /// The engine sends a piece, if it has credit for one.
    Part { which: usize, length: usize },
    /// The engine sends the end.
    End { which: usize, fails: bool },
    /// The worker takes what has come of one step, and lets as many more come.
    Take { which: usize },
    /// The worker gives a step up.
    Drop { which: usize },
}

fn act() -> impl Strategy<Value = Act> {
    let length = || prop_oneof![8 => 0..600_usize, 1 => 60_000..80_000_usize];
    prop_oneof![
        4 => length().prop_map(|length| Act::Begin { length }),
        6 => (any::<usize>(), length()).prop_map(|(which, length)| Act::Part { which, length }),
        2 => (any::<usize>(), prop::bool::weighted(0.3)).prop_map(|(which, fails)| Act::End { which, fails }),
        4 => any::<usize>().prop_map(|which| Act::Take { which }),
        1 => any::<usize>().prop_map(|which| Act::Drop { which }),
    ]
}

/// A step as both ends should see it.
struct Modelled {
    step: Arc<Step>,
    /// Lengths of the pieces that were sent, the end's last.
    sent: Vec<usize>,
    taken: usize,
    has_ended: bool,
    fails: bool,
    is_dropped: bool,
    is_over: bool,
}

struct World {
    engine: Engine,
    worker: Worker,
    steps: Vec<Modelled>,
    /// Pieces that the engine may send now.
    credit: HashMap<u64, u32>,
}

/// The bytes of one piece: they tell step and place.
fn piece(number: u64, place: usize, length: usize) -> Vec<u8> {
    pattern(number ^ (place as u64) << 32, length)
}

impl World {
    fn pick(&self, which: usize, can: impl Fn(&Modelled) -> bool) -> Option<usize> {
        let those: Vec<_> = (0..self.steps.len()).filter(|at| can(&self.steps[*at])).collect();
        those.get(which % those.len().max(1)).copied()
    }

    /// Take in what the worker has said; the step that it calls, if that was it.
    fn hear(&mut self, heard: Heard) -> Option<StepFrame> {
        match heard {
            Heard::Credit(step, pieces) => *self.credit.entry(step).or_default() += pieces,
            Heard::Called(step) => return Some(step),
            Heard::Dropped(_) | Heard::Part(..) => {}
        }
        None
    }

    async fn begin(&mut self, length: usize) {
        let number = self.steps.len() as u64;
        let step = begin(&self.worker, &piece(number, 0, length));
        let frame = loop {
            let heard = self.engine.heard().await;
            if let Some(frame) = self.hear(heard) {
                break frame;
            }
        };
        assert!(frame.number == step.number && frame.inputs[0].data == piece(number, 0, length));
        self.credit.insert(step.number, 4);
        let (sent, taken) = (Vec::new(), 0);
        self.steps.push(Modelled {
            step,
            sent,
            taken,
            has_ended: false,
            fails: false,
            is_dropped: false,
            is_over: false,
        });
    }

    fn part(&mut self, which: usize, length: usize) {
        let credit = &self.credit;
        let Some(at) = self.pick(which, |step| !step.has_ended && credit[&step.step.number] > 0) else { return };
        let step = &mut self.steps[at];
        *self.credit.get_mut(&step.step.number).unwrap() -= 1;
        let place = step.sent.len();
        step.sent.push(length);
        answer(&self.engine, step.step.number, place as u32, piece(at as u64, place, length));
    }

    fn end(&mut self, which: usize, fails: bool) {
        let Some(at) = self.pick(which, |step| !step.has_ended) else { return };
        let step = &mut self.steps[at];
        (step.has_ended, step.fails) = (true, fails);
        let (number, place) = (step.step.number, step.sent.len());
        if fails {
            let failure = proto::Failure { message: number.to_string(), ..proto::Failure::default() };
            self.engine.link.fail(number, place as u32, failure).unwrap();
        } else {
            step.sent.push(50);
            finish(&self.engine, number, place as u32, piece(at as u64, place, 50));
        }
    }

    fn take(&mut self, which: usize) {
        let Some(at) = self.pick(which, |step| !step.is_over && !step.is_dropped) else { return };
        while let Some(news) = self.steps[at].step.take() {
            self.check(at, news);
        }
    }

    /// What has come is what was sent next.
    fn check(&mut self, at: usize, news: StepNews) {
        let step = &mut self.steps[at];
        assert!(!step.is_over, "something came behind the end");
        let outputs = match news {
            StepNews::Part(outputs) => {
                self.worker.end.credit(step.step.number);
                outputs
            }
            StepNews::End(Ok(outputs)) => {
                assert!(step.has_ended && !step.fails && step.taken + 1 == step.sent.len());
                step.is_over = true;
                outputs
            }
            StepNews::End(Err(failure)) => {
                assert!(step.fails && step.taken == step.sent.len());
                assert_eq!(failure.message, step.step.number.to_string());
                step.is_over = true;
                return;
            }
        };
        assert!(outputs[0].1.data == piece(at as u64, step.taken, step.sent[step.taken]));
        step.taken += 1;
    }

    fn give_up(&mut self, which: usize) {
        let Some(at) = self.pick(which, |step| !step.is_over && !step.is_dropped) else { return };
        self.worker.end.drop_step(&self.steps[at].step);
        self.steps[at].is_dropped = true;
    }

    async fn apply(&mut self, act: Act) {
        while let Some(heard) = self.engine.try_heard() {
            self.hear(heard);
        }
        match act {
            Act::Begin { length } => self.begin(length).await,
            Act::Part { which, length } => self.part(which, length),
            Act::End { which, fails } => self.end(which, fails),
            Act::Take { which } => self.take(which),
            Act::Drop { which } => self.give_up(which),
        }
    }

    /// End what has not ended, take what has not been taken: nothing is left.
    async fn finish(mut self) {
        while self.steps.iter().any(|step| !step.has_ended) {
            self.end(0, false);
        }
        for at in 0..self.steps.len() {
            while !self.steps[at].is_over && !self.steps[at].is_dropped {
                let news = self.steps[at].step.wait();
                self.check(at, news);
            }
            assert!(self.steps[at].is_dropped || self.steps[at].step.take().is_none());
        }
        self.steps.clear();
        until_answers_are_free(&self.engine.link, &self.worker).await;
        self.worker.end.credit(0); // the engine reads the news of small ranges with the next frame
        until_all_is_free(&self.engine.link).await;
        self.engine.close();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_step_has_one_end_and_its_own_bytes_and_leaves_nothing(
        acts in prop::collection::vec(act(), 1..150), is_inline in prop::bool::weighted(0.3)
    ) {
        let kind = if is_inline { TransportKind::Inline } else { TransportKind::Shm };
        RUNTIME.block_on(async {
            let (engine, worker) = relayed(kind, byte_signature()).await;
            let mut world = World { engine, worker, steps: Vec::new(), credit: HashMap::new() };
            for act in acts {
                world.apply(act).await;
            }
            world.finish().await;
        });
    }
}
