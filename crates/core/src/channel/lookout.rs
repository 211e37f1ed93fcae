//! How long an end of a ring looks at it before it sleeps.

use std::sync::LazyLock;
use std::thread::available_parallelism;

use rustix::thread::sched_getaffinity;

use crate::clock::Nanos;

/// Waking both ends costs a client that asks again at once three quarters of its wait.
const LOOKOUT: Nanos = 200_000;
/// What the slowest calls are worth.
const LONGEST: Nanos = 1_000_000;

/// An end that was last woken within this time looks for as long before it sleeps, so that who asks later than that costs
/// nothing; 0 where nobody looks.
pub(super) fn lookout() -> Nanos {
    static LASTS: LazyLock<Nanos> = LazyLock::new(|| {
        let processors = sched_getaffinity(None).map_or(1, |set| set.count() as usize);
        let allowed = available_parallelism().map_or(1, usize::from);
        if pays(processors, allowed) { LOOKOUT } else { 0 }
    });
    *LASTS
}

/// As [`lookout`], of a worker whose last call took `busy`: an eighth of that is a small price, and its client has more to
/// send and read. With batches of 7 ms, 0.3 ms apart, a network answers 3 % more.
pub(super) fn lookout_after(busy: Nanos) -> Nanos {
    match lookout() {
        0 => 0,
        least => (busy / 8).clamp(least, LONGEST),
    }
}

/// Whoever looks on the only processor keeps it from the other end. And where a quota, as of a container, allows the time of
/// fewer processors than there are, looking uses it up: the kernel stops the whole group for the rest of each 100 ms.
fn pays(processors: usize, allowed: usize) -> bool {
    processors > 1 && allowed == processors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_looks_on_one_processor_or_within_a_quota() {
        let cases = [(1, 1), (2, 1), (4, 2), (2, 2), (64, 64)];
        assert_eq!(cases.map(|(processors, allowed)| pays(processors, allowed)), [false, false, false, true, true]);
    }

    #[test]
    fn slow_calls_are_worth_a_longer_look() {
        let found = [0, 1_000_000, 4_000_000, 60_000_000_000].map(lookout_after);
        let wanted = if lookout() == 0 { [0; 4] } else { [LOOKOUT, LOOKOUT, 500_000, LONGEST] };
        assert_eq!(found, wanted);
    }
}
