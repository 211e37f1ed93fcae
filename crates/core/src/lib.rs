//! Samovar's data plane: tensors, requests, batching, scheduling and the channel to the workers.
//!
//! Nothing here knows a network protocol or Python. The pure parts ([`batcher`], [`queue`], [`scheduler`])
//! take the time as an argument, so that tests drive them with a simulated clock.

pub mod admission;
pub mod batcher;
pub mod channel;
pub mod clock;
pub mod config;
pub mod demultiplex;
pub mod drain;
pub mod error;
pub mod events;
pub mod exposition;
pub mod history;
pub mod hold;
pub mod life;
pub mod metrics;
pub mod outlet;
pub mod panics;
pub mod pending;
pub mod queue;
pub mod registry;
pub mod report;
pub mod request;
pub mod routing;
pub mod scheduler;
pub mod statistics;
pub mod tensor;
pub mod version;
pub mod workers;
