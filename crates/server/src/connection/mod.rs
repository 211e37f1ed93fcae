//! Connections, whatever is spoken on them: listeners, limits and timers, and how they end.

mod http2;
mod io;
mod listener;
mod outgoing;
mod serve;
mod sniff;

pub(crate) use io::{Pulse, Timers};
pub use listener::{Address, Listener, bind};
pub(crate) use outgoing::Outgoing;
pub use serve::StopSignal;
pub(crate) use serve::{Handler, Limits, serve};
