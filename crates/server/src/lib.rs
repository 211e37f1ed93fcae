//! Samovar's doors: network protocols in front of one data plane.
//!
//! A door decodes, calls [`data_plane::DataPlane`], encodes; status numbers come from its own table.

pub mod connection;
pub mod control_log;
pub mod data_plane;
mod deflate;
mod describe;
mod door;
pub mod doors;
pub mod engine;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod grpc;
#[cfg(feature = "guard")]
#[doc(hidden)]
pub mod guard;
mod http;
mod inflate;
pub mod listeners;
pub mod log;
mod memory;
pub mod proto;
