//! The life of a version: its states, why it is where it is, and when a dead instance comes back.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Transitions that are remembered.
const EVENTS: usize = 64;
/// A version without a live instance counts as ready this long: a request would wait less than that.
pub const DEGRADED_GRACE: Duration = Duration::from_secs(1);
/// Waits after the first deaths in a row without a finished call; one death more gives up.
const BACK_OFF: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// Where a version is in its life, in the order of what comes before its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits until it is its turn to be loaded.
    Configured,
    /// Its first instances are being loaded.
    Loading,
    /// They are loaded, and run samples before there are any requests.
    Warming,
    /// At least one instance takes calls.
    Ready,
    /// Every instance is restarting.
    Degraded,
    /// It takes no new requests and ends what it has.
    Draining,
    /// It is gone.
    Unloaded,
    /// It could not be loaded, or died too often.
    Failed,
}

impl State {
    /// Lower-case name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Configured => "configured",
            State::Loading => "loading",
            State::Warming => "warming",
            State::Ready => "ready",
            State::Degraded => "degraded",
            State::Draining => "draining",
            State::Unloaded => "unloaded",
            State::Failed => "failed",
        }
    }

    /// True before it has taken requests, or failed.
    #[must_use]
    pub fn is_coming(self) -> bool {
        matches!(self, State::Configured | State::Loading | State::Warming)
    }
}

/// Why something failed, and what a person can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    /// One line.
    pub message: String,
    /// Class of the exception.
    pub exception: Option<String>,
    /// Where it was raised, as Python prints it.
    #[serde(default)]
    pub traceback: String,
    /// Signal or exit status of the worker.
    pub signal: Option<String>,
    /// The last lines that the worker wrote to standard error, at most 50.
    pub stderr: Vec<String>,
    /// What to try.
    pub next_step: String,
}

/// One transition.
#[derive(Clone, Debug, Serialize)]
pub struct LifeEvent {
    /// Unix time in seconds.
    pub time: f64,
    /// The state entered.
    pub state: State,
    /// Why.
    pub message: String,
}

/// State, cause and history of a version.
#[derive(Debug)]
pub struct Life {
    state: State,
    since: std::time::Instant,
    cause: Option<Cause>,
    events: VecDeque<LifeEvent>,
}

impl Default for Life {
    fn default() -> Self {
        let mut life =
            Self { state: State::Configured, since: std::time::Instant::now(), cause: None, events: VecDeque::new() };
        life.note("configured");
        life
    }
}

impl Life {
    /// The present state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it failed, or why an instance last died.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// The last transitions, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<LifeEvent> {
        self.events.iter().cloned().collect()
    }

    /// The last of them.
    #[must_use]
    pub fn newest(&self) -> Option<&LifeEvent> {
        self.events.back()
    }

    /// Would a request succeed now?
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self.state {
            State::Ready => true,
            State::Degraded => self.since.elapsed() < DEGRADED_GRACE,
            _ => false,
        }
    }

    /// Enter a state; false if it was there already. What is unloaded stays so, and what drains can only unload; an
    /// instance that is still on its way takes no version back to where another had been.
    pub fn enter(&mut self, state: State, message: &str, cause: Option<Cause>) -> bool {
        let is_over = self.state == State::Unloaded || (self.state == State::Draining && state != State::Unloaded);
        if is_over || (state.is_coming() && state < self.state) {
            return false;
        }
        if cause.is_some() || state == State::Ready {
            self.cause = cause;
        }
        if self.state == state {
            return false;
        }
        self.state = state;
        self.since = std::time::Instant::now();
        self.note(message);
        true
    }

    /// Remember something that is no transition.
    pub fn note(&mut self, message: &str) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.events.push_back(LifeEvent { time, state: self.state, message: message.to_owned() });
    }
}

/// When a dead instance is started again.
#[derive(Debug, Default)]
pub struct BackOff {
    deaths_in_a_row: usize,
}

impl BackOff {
    /// The wait before the next start, or `None` to give up. A worker that had finished a call, or one that an item
    /// killed twice, restarts at once; that item's first death was none of the model's either.
    pub fn after_death(&mut self, has_finished_call: bool, is_charged_to_item: bool) -> Option<Duration> {
        if has_finished_call {
            self.deaths_in_a_row = 0;
        }
        if is_charged_to_item {
            self.deaths_in_a_row = self.deaths_in_a_row.saturating_sub(1);
        }
        if has_finished_call || is_charged_to_item {
            return Some(Duration::ZERO);
        }
        let wait = BACK_OFF.get(self.deaths_in_a_row).copied();
        self.deaths_in_a_row += 1;
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_death_in_a_row_gives_up() {
        let mut back_off = BackOff::default();
        let waits: Vec<_> = (0..5).map(|_| back_off.after_death(false, false)).collect();
        assert_eq!(waits[..4], BACK_OFF.map(Some));
        assert_eq!(waits[4], None);
    }

    #[test]
    fn a_finished_call_or_a_poison_item_restarts_at_once() {
        let mut back_off = BackOff::default();
        assert_eq!(back_off.after_death(false, false), Some(BACK_OFF[0]));
        assert_eq!(back_off.after_death(false, true), Some(Duration::ZERO));
        assert_eq!(back_off.after_death(false, false), Some(BACK_OFF[0]));
        assert_eq!(back_off.after_death(false, false), Some(BACK_OFF[1]));
        assert_eq!(back_off.after_death(true, false), Some(Duration::ZERO));
        assert_eq!(back_off.after_death(false, false), Some(BACK_OFF[0]));
    }

    #[test]
    fn an_instance_that_loads_late_or_again_takes_no_version_back() {
        let mut life = Life::default();
        assert!(life.enter(State::Loading, "the first", None) && life.enter(State::Warming, "the first", None));
        assert!(!life.enter(State::Loading, "the second", None));
        assert!(life.enter(State::Ready, "both", None) && life.enter(State::Degraded, "died", None));
        assert!(!life.enter(State::Loading, "again", None) && !life.enter(State::Warming, "again", None));
        assert_eq!(life.state(), State::Degraded);
    }

    #[test]
    fn a_version_that_just_lost_its_instances_is_still_ready() {
        let mut life = Life::default();
        assert!(!life.is_ready());
        assert!(life.enter(State::Ready, "loaded", None) && life.is_ready());
        assert!(life.enter(State::Degraded, "died", Some(Cause::default())) && life.is_ready());
        assert!(!life.enter(State::Degraded, "died", None));
        assert!(life.cause().is_some());
        assert_eq!(life.events().len(), 3);
    }
}
