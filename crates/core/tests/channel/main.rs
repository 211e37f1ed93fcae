//! Both ends of a channel against each other, and each end against a hostile peer.
#![allow(clippy::unwrap_used, missing_docs)]

mod acts;
mod bodies;
mod calls;
mod document;
mod faults;
mod harness;
mod hostile_engine;
mod hostile_worker;
mod interleavings;
mod lending;
mod lifetimes;
mod nested;
mod raw;
mod relaying;
mod sharing;
mod stage;
mod steps;
mod streamed;
mod streams;
