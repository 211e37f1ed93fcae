//! One HTTP request on its way through the door.

use std::sync::Arc;

use hyper::body::Incoming;

use crate::data_plane::{Asker, DataPlane};
use crate::door::access::AccessLine;
use crate::door::head::Head;

/// What routes see of a request.
pub(super) struct Call<'a> {
    pub(super) head: Head<'a>,
    pub(super) body: &'a mut Incoming,
    pub(super) asker: Asker,
    /// What the log will say.
    pub(super) line: AccessLine<'a>,
}

impl Call<'_> {
    /// The id of this request: the client's (from its JSON, else `x-request-id`), else a new one.
    pub(super) fn request_id(&mut self, plane: &DataPlane) -> Arc<str> {
        let head = &self.head;
        let make = || head.request_id().map_or_else(|| plane.make_id(), Arc::from);
        Arc::clone(self.line.request_id.get_or_insert_with(make))
    }
}
