//! The scheduler, its queue and its batcher under a simulated clock and random faults: a million items in seconds.
//!
//! Each seed is a world ([`world`]): versions with random settings ([`plan`]) are driven as the engine drives them
//! ([`served`]), and a ledger of its own ([`ledger`]) knows what is promised of each item.
#![allow(clippy::unwrap_used, missing_docs)]

mod agenda;
mod found;
mod ledger;
mod plan;
mod random;
mod served;
mod world;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use found::Found;

/// Continuous integration looks at the same worlds each time, so that no change fails for another's fault.
const SEED: u64 = 1;
const ITEMS: u64 = 1_000_000;

/// A number in the environment.
fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// So many worlds, from `seed` on.
fn simulate(seed: u64, worlds: u64) -> Found {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(0);
    let explore = || {
        let mut found = Found::default();
        loop {
            let world = next.fetch_add(1, Ordering::Relaxed);
            if world >= worlds {
                return found;
            }
            found.add(&world::run(seed + world));
        }
    };
    let mut found = Found::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(explore)).collect();
        let joined: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        joined.into_iter().for_each(|part| match part {
            Ok(part) => found.add(&part),
            Err(fault) => std::panic::resume_unwind(fault),
        });
    });
    found
}

#[test]
fn every_item_gets_one_answer_that_is_its_own_and_none_starts_late() {
    let (seed, items) = (setting("SAMOVAR_SIMULATION_SEED", SEED), setting("SAMOVAR_SIMULATION_ITEMS", ITEMS));
    let worlds = items.div_ceil(world::ITEMS).max(1);
    let began = Instant::now();
    let found = simulate(seed, worlds);
    let seconds = began.elapsed().as_secs_f64();
    // Past the capture of output: which seeds held is worth a line.
    writeln!(
        std::io::stderr(),
        "simulation: {} items in {worlds} worlds, seeds {seed} to {}, {seconds:.1} s, {:.0} items/s\n{found}",
        found.items(),
        seed + worlds - 1,
        found.items() as f64 / seconds,
    )
    .unwrap();
    let missing = found.missing(items / 10_000);
    assert!(missing.is_empty(), "{missing:?} hardly ever happened: nothing is proven of it");
}
