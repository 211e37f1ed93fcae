//! What a route answers, before it is HTTP.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, VARY,
};
use hyper::{HeaderMap, Response, StatusCode};
use samovar_core::error::{Code, Error};
use serde::Serialize;

use super::json_encode::Encoded;
use super::{compression, error};
use crate::connection::Outgoing;
use crate::door::retry_after;
use crate::inflate::Coding;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BLOBS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const PAGE: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Status, headers and body of an answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    content_type: Option<HeaderValue>,
    pub(super) body: Bytes,
    /// Large tensors that follow `body`.
    tensors: Vec<Bytes>,
    /// How `body` is compressed.
    coding: Option<Coding>,
    /// Another client may get `body` in another coding.
    varies: bool,
    /// Bytes of JSON in front of blobs, before any compression.
    json_length: Option<usize>,
    allow: Option<&'static str>,
    /// Tell which codings a body may have? With a 415 it says that the coding was at fault (RFC 9110, 15.5.16).
    names_codings: bool,
    retry_after_s: Option<u32>,
    /// For the log.
    pub(super) code: Option<Code>,
    /// For the log: the version that ran.
    pub(super) version: Option<Arc<str>>,
    /// Others are answered at the same moment.
    pub(super) has_company: bool,
}

impl Reply {
    /// A status and no body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            content_type: None,
            body: Bytes::new(),
            tensors: Vec::new(),
            coding: None,
            varies: false,
            json_length: None,
            allow: None,
            names_codings: false,
            retry_after_s: None,
            code: None,
            version: None,
            has_company: false,
        }
    }

    fn ok(content_type: HeaderValue, body: Bytes) -> Self {
        Self { content_type: Some(content_type), body, ..Self::empty(StatusCode::OK) }
    }

    /// `value` as JSON.
    pub(super) fn json(value: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(value).map_err(|fault| Error::new(Code::Internal, fault.to_string()))?;
        Ok(Self::ok(JSON, body.into()))
    }

    /// Metrics in Prometheus' text format.
    pub(super) fn metrics(text: String) -> Self {
        Self::ok(METRICS, text.into())
    }

    /// A page for people.
    pub(super) fn page(html: String) -> Self {
        Self::ok(PAGE, html.into())
    }

    /// Outputs of `version`.
    pub(super) fn outputs(encoded: Encoded, version: Arc<str>) -> Self {
        let Encoded { body, tensors, json_length } = encoded;
        let content_type = if json_length.is_some() { BLOBS } else { JSON };
        Self { tensors, json_length, version: Some(version), ..Self::ok(content_type, body) }
    }

    /// The same, with others at the same moment if it `has_company`.
    pub(super) fn in_company(self, has_company: bool) -> Self {
        Self { has_company, ..self }
    }

    /// Bytes of the whole body.
    pub(super) fn length(&self) -> usize {
        self.body.len() + self.tensors.iter().map(Bytes::len).sum::<usize>()
    }

    /// `error`, with the id under which the log has it.
    pub(super) fn error(error: &Error, id: &str, allow: Option<&'static str>) -> Self {
        Self {
            status: error::status(error.code),
            allow,
            retry_after_s: retry_after(error),
            code: Some(error.code),
            ..Self::ok(JSON, error::body(error, id))
        }
    }

    /// The same answer, with the codings that a body may have.
    pub(super) fn naming_codings(self) -> Self {
        Self { names_codings: true, ..self }
    }

    /// The same answer, its body as a client with these headers wants it most.
    pub(super) async fn compressed(mut self, headers: &HeaderMap) -> Self {
        self.varies = self.length() >= compression::MIN_BYTES;
        if !self.tensors.is_empty() && compression::wanted(headers).is_some() {
            self.tensors.insert(0, std::mem::take(&mut self.body));
            self.body = std::mem::take(&mut self.tensors).concat().into();
        }
        if self.varies
            && let Some((coding, body)) = compression::compress(headers, &self.body).await
        {
            self.coding = Some(coding);
            self.body = body;
        }
        self
    }

    /// As HTTP; `close`: the connection ends with it.
    pub(super) fn into_response(self, close: bool) -> Response<Outgoing> {
        let mut response = Response::new(Outgoing::with_tensors(self.body, self.tensors, None));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(content_type) = self.content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        if let Some(coding) = self.coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        }
        if self.varies {
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        if let Some(length) = self.json_length {
            headers.insert(JSON_LENGTH, HeaderValue::from(length));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.names_codings {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(response: &Response<Outgoing>, name: &str) -> Option<String> {
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn replies_carry_their_headers() {
        let encoded = Encoded { body: Bytes::from_static(b"{}abc"), tensors: Vec::new(), json_length: Some(2) };
        let outputs = Reply::outputs(encoded, "1".into()).into_response(false);
        assert_eq!(header(&outputs, "content-type").as_deref(), Some("application/octet-stream"));
        assert_eq!(header(&outputs, "inference-header-content-length").as_deref(), Some("2"));
        assert_eq!(header(&outputs, "connection"), None);
        let error = Error::new(Code::QueueFull, "full").retry_after(2);
        let refused = Reply::error(&error, "7", None).into_response(true);
        assert_eq!(refused.status(), 429);
        assert_eq!(header(&refused, "retry-after").as_deref(), Some("2"));
        assert_eq!(header(&refused, "connection").as_deref(), Some("close"));
        let refused = Reply::error(&Error::new(Code::MethodNotAllowed, ""), "7", Some("POST")).into_response(false);
        assert_eq!(header(&refused, "allow").as_deref(), Some("POST"));
        assert_eq!(header(&Reply::empty(StatusCode::OK).into_response(false), "content-type"), None);
    }
}
