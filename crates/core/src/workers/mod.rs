//! Worker processes: starting them, reading what they print, keeping spares, and running the instances of a version.

pub mod instance;
pub mod load_queue;
pub mod output;
pub mod pool;
pub mod scrape;
pub mod shared;
pub mod spawn;
