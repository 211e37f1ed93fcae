//! A panic in the door or the data plane is one failed request.

use std::any::Any;

use samovar_core::error::{Code, Error};
pub(crate) use samovar_core::panics::catch;
use samovar_core::panics::text;

use crate::data_plane::DataPlane;

/// Count `panic` and log it under `id`; what the client reads of it.
pub(crate) fn report(plane: &DataPlane, id: &str, panic: &(dyn Any + Send)) -> Error {
    plane.panicked();
    tracing::error!(request_id = id, panic = text(panic), "a request failed in the engine");
    Error::new(Code::Internal, "the engine failed on this request; its log has more under the request id")
}
