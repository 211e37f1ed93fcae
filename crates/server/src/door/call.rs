//! One request on its way through its door.

use std::sync::Arc;

use hyper::body::Incoming;

use super::access::AccessLine;
use super::head::Head;
use crate::data_plane::{Asker, DataPlane};

/// What routes and methods see of a request.
pub(crate) struct Call<'a> {
    pub(crate) head: Head<'a>,
    pub(crate) body: &'a mut Incoming,
    pub(crate) asker: Asker,
    /// What the log will say.
    pub(crate) line: AccessLine<'a>,
}

impl Call<'_> {
    /// The id of this request: the client's (from its message, else `x-request-id`), else a new one.
    pub(crate) fn request_id(&mut self, plane: &DataPlane) -> Arc<str> {
        let head = &self.head;
        let make = || head.request_id().map_or_else(|| plane.make_id(), Arc::from);
        Arc::clone(self.line.request_id.get_or_insert_with(make))
    }
}
