//! What a simulation has come across: a check of what never happens proves nothing.

use std::collections::BTreeMap;
use std::fmt;

use samovar_core::scheduler::{Ended, Outcome};

use crate::ledger::Fate;

#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Requests that were turned away, as a queue was full or nothing was open.
    pub(crate) refused: u64,
    /// Items by what became of them.
    pub(crate) fates: BTreeMap<Fate, u64>,
    /// Calls that were sent ahead of a free slot, and of these those that were moved to one elsewhere.
    pub(crate) ahead: u64,
    pub(crate) stranded: u64,
    /// Calls that were taken back as one of their items had ended.
    pub(crate) taken_back: u64,
    /// Calls that were taken back as one of their items may no longer start.
    pub(crate) not_in_time: u64,
    /// Calls that raised and were taken apart; calls that their workers did not begin in time.
    pub(crate) bisected: u64,
    pub(crate) not_started: u64,
    /// Ends of calls that the instance did not hold: late, or from another one.
    pub(crate) late: u64,
    pub(crate) unknown: u64,
    pub(crate) pieces: u64,
    pub(crate) deaths: u64,
    /// Items that ran again after a death.
    pub(crate) rerun: u64,
    /// Looks at a free slot that waited for what measurement promised.
    pub(crate) held: u64,
    /// Versions that took another's traffic.
    pub(crate) reloads: u64,
}

impl Found {
    pub(crate) fn ended(&mut self, outcome: Outcome, ended: &Ended<u64>) {
        match (ended, outcome) {
            (Ended::Unknown, _) => self.unknown += 1,
            (Ended::Again, Outcome::NotStarted) => self.not_started += 1,
            (Ended::Again, _) => self.bisected += 1,
            (Ended::Answer(..), _) => {}
        }
    }

    fn counts(&self) -> [(&'static str, u64); 14] {
        [
            ("refused", self.refused),
            ("sent ahead", self.ahead),
            ("moved", self.stranded),
            ("taken back", self.taken_back),
            ("not in time", self.not_in_time),
            ("bisected", self.bisected),
            ("not started", self.not_started),
            ("late ends", self.late),
            ("unknown ends", self.unknown),
            ("pieces", self.pieces),
            ("deaths", self.deaths),
            ("run again", self.rerun),
            ("held", self.held),
            ("reloads", self.reloads),
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (fate, count) in &other.fates {
            *self.fates.entry(*fate).or_default() += count;
        }
        self.refused += other.refused;
        self.ahead += other.ahead;
        self.stranded += other.stranded;
        self.taken_back += other.taken_back;
        self.not_in_time += other.not_in_time;
        self.bisected += other.bisected;
        self.not_started += other.not_started;
        self.late += other.late;
        self.unknown += other.unknown;
        self.pieces += other.pieces;
        self.deaths += other.deaths;
        self.rerun += other.rerun;
        self.held += other.held;
        self.reloads += other.reloads;
    }

    pub(crate) fn items(&self) -> u64 {
        self.fates.values().sum()
    }

    /// What has hardly ever happened.
    pub(crate) fn missing(&self, least: u64) -> Vec<String> {
        let fates = Fate::ALL.iter().map(|fate| (format!("{fate:?}"), self.fates.get(fate).copied().unwrap_or(0)));
        let counts = self.counts().into_iter().map(|(name, count)| (name.to_owned(), count));
        fates.chain(counts).filter(|(_, count)| *count < least).map(|(name, _)| name).collect()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fate, count) in &self.fates {
            write!(f, "{fate:?} {count}, ")?;
        }
        let counts: Vec<_> = self.counts().iter().map(|(name, count)| format!("{name} {count}")).collect();
        f.write_str(&counts.join(", "))
    }
}
