//! The extension module `samovar._core`: conversions and a list, no logic.

mod buffer;
mod engine;
mod worker;

use pyo3::prelude::*;
use samovar_core::error::Code;
use samovar_server::doors::statuses;

/// Every error slug with its meaning, in the order of the catalogue.
#[pyfunction]
fn error_codes() -> Vec<(&'static str, &'static str)> {
    Code::ALL.iter().map(|code| (code.slug(), code.meaning())).collect()
}

/// Every error slug with its status over HTTP and over gRPC, in the order of the catalogue.
#[pyfunction]
fn error_statuses() -> Vec<(&'static str, u16, u8)> {
    let statuses = |code: &Code| {
        let (http, grpc) = statuses(*code);
        (code.slug(), http, grpc)
    };
    Code::ALL.iter().map(statuses).collect()
}

/// The data plane for the engine process, the frame channel for a worker process.
#[pymodule]
mod _core {
    #[pymodule_export]
    use super::buffer::TensorBuffer;
    #[pymodule_export]
    use super::engine::{Engine, check_settings, check_version};
    #[pymodule_export]
    use super::worker::{Ask, Call, Step, WorkerChannel};
    #[pymodule_export]
    use super::{error_codes, error_statuses};

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
