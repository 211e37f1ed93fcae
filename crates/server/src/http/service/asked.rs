//! One request to a service, as its door sees it and as the worker gets it.

use std::sync::Arc;

use hyper::Version;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use samovar_core::clock::Nanos;
use samovar_core::error::Error;
use samovar_core::request::{HttpHead, HttpRequest};

use super::account::Account;
use super::headers;
use super::inflow::Inflow;
use crate::connection::Pulse;
use crate::door::body::BodyLimits;
use crate::door::head::Head;

/// One request.
pub(super) struct Asked<'a> {
    pub(super) parts: &'a Parts,
    pub(super) head: Head<'a>,
    pub(super) id: Arc<str>,
    pub(super) arrived: Nanos,
    pub(super) pulse: &'a Arc<Pulse>,
    pub(super) idempotent: bool,
    pub(super) is_upgrade: bool,
}

impl Asked<'_> {
    /// What the worker gets; all of the body, or its start.
    pub(super) async fn request(
        &self,
        account: &mut Account,
        inflow: &mut Inflow<Incoming>,
        limits: &BodyLimits,
    ) -> Result<HttpRequest, Error> {
        let coding = self.head.coding()?;
        let timeout = self.head.timeout()?;
        let idempotent = self.head.idempotent()?.unwrap_or(self.idempotent);
        let (body, is_all) = inflow.take(coding, limits, |bytes| account.room.grow(bytes)).await?;
        Ok(HttpRequest {
            id: Arc::clone(&self.id),
            head: self.head(coding.is_some()),
            body,
            is_whole: is_all && !self.is_upgrade,
            timeout,
            idempotent,
            trace: self.head.trace(),
            arrived: self.arrived,
        })
    }

    fn head(&self, is_inflated: bool) -> HttpHead {
        let (parts, uri) = (self.parts, &self.parts.uri);
        HttpHead {
            method: parts.method.as_str().to_owned(),
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            headers: headers::passed(parts, self.is_upgrade, is_inflated),
            version: match parts.version {
                Version::HTTP_10 => "1.0",
                Version::HTTP_2 => "2",
                _ => "1.1",
            },
            scheme: "http",
            client: self.pulse.peer().map(|peer| peer.to_string()).unwrap_or_default(),
            is_upgrade: self.is_upgrade,
        }
    }
}
