//! Connections, whatever is spoken on them: listeners, limits and timers, and how they end.

mod io;
mod listener;
mod serve;

pub(crate) use io::{Pulse, Timers};
pub use listener::{Address, Listener, bind};
pub use serve::StopSignal;
pub(crate) use serve::{Handler, Limits, serve};
