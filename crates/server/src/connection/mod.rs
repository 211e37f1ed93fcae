//! Connections, whatever is spoken on them: listeners, limits and timers, and how they end.

mod http2;
mod io;
mod listener;
mod outgoing;
mod pulse;
mod serve;
mod sniff;

pub(crate) use io::Timers;
pub use listener::{Address, Listener, bind, inherit};
pub(crate) use outgoing::{Broken, MIN_TENSOR, Outgoing, Pieces};
pub(crate) use pulse::{Pulse, Tunnel};
pub(crate) use serve::{GRACE, Handler, Limits, serve, stopped};
pub use serve::{Stop, StopSignal};
