//! Which headers pass between a client and a service, and what those of an answer must be.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, COOKIE, ETAG, HOST, HeaderName, HeaderValue, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response, StatusCode, Version};
use samovar_core::error::{Code, Error, echo};
use samovar_core::request::ResponseHead;

/// Most headers of an answer; clients take no more.
const MAX_HEADERS: usize = 256;

/// Does a client want to leave HTTP for WebSocket? Other protocols have nobody to speak them; a server may go on in HTTP
/// (RFC 9110, 7.8).
pub(super) fn wants_websocket(parts: &Parts) -> bool {
    let has = |name: HeaderName, token: &str| {
        let values = parts.headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    parts.version == Version::HTTP_11 && has(UPGRADE, "websocket") && has(CONNECTION, "upgrade")
}

/// About one connection, not about the message (RFC 9110, 7.6.1).
fn is_hop_by_hop(name: &str, is_upgrade: bool) -> bool {
    match name {
        "connection" | "upgrade" => !is_upgrade,
        "keep-alive" | "te" | "trailer" | "transfer-encoding" => true,
        _ => name.starts_with("proxy-"),
    }
}

/// What a service gets of a request's headers; of a body that was inflated nobody needs to know how.
pub(super) fn passed(parts: &Parts, is_upgrade: bool, is_inflated: bool) -> Vec<(Bytes, Bytes)> {
    let is_http2 = parts.version == Version::HTTP_2;
    let is_dropped = |name: &HeaderName| {
        is_hop_by_hop(name.as_str(), is_upgrade)
            || (is_inflated && [CONTENT_ENCODING, CONTENT_LENGTH].contains(name))
            || (is_http2 && *name == COOKIE) // follows in one
    };
    let mut passed = Packed::default();
    if let Some(authority) = parts.uri.authority().filter(|_| is_http2 && !parts.headers.contains_key(HOST)) {
        passed.push("host", authority.as_str().as_bytes());
    }
    for (name, value) in parts.headers.iter().filter(|(name, _)| !is_dropped(name)) {
        passed.push(name.as_str(), value.as_bytes());
    }
    if let Some(cookies) = crumbs(&parts.headers).filter(|_| is_http2) {
        passed.push("cookie", &cookies);
    }
    passed.split()
}

/// Cookies in one value: HTTP/2 may cut them into several, which nobody behind it expects (RFC 9113, 8.2.3).
fn crumbs(headers: &HeaderMap) -> Option<Cow<'_, [u8]>> {
    let mut values = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let mut whole = Cow::Borrowed(values.next()?);
    for value in values {
        let whole = whole.to_mut();
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(value);
    }
    Some(whole)
}

/// Many short texts in one allocation.
#[derive(Default)]
struct Packed {
    bytes: Vec<u8>,
    /// Lengths of names and values.
    lengths: Vec<(usize, usize)>,
}

impl Packed {
    fn push(&mut self, name: &str, value: &[u8]) {
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(value);
        self.lengths.push((name.len(), value.len()));
    }

    fn split(self) -> Vec<(Bytes, Bytes)> {
        let mut rest = Bytes::from(self.bytes);
        self.lengths.into_iter().map(|(name, value)| (rest.split_to(name), rest.split_to(value))).collect()
    }
}

/// The head of a service's answer as HTTP. Errors: `bad_model_output`.
pub(super) fn response(head: ResponseHead, is_upgrade: bool) -> Result<Response<()>, Error> {
    let mut response = Response::new(());
    *response.status_mut() = status(head.status, is_upgrade)?;
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    if head.headers.len() > MAX_HEADERS {
        let count = head.headers.len();
        return Err(bad(format!("the service answered with {count} headers; want at most {MAX_HEADERS}")));
    }
    for (name, value) in head.headers {
        let name = HeaderName::from_bytes(&name).map_err(|_| bad_header("name", &name))?;
        if is_hop_by_hop(name.as_str(), switches) {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| bad_header("value of header", name.as_ref()))?;
        headers.append(name, value);
    }
    Ok(response)
}

fn status(number: u16, is_upgrade: bool) -> Result<StatusCode, Error> {
    let is_last =
        |status: &StatusCode| !status.is_informational() || (is_upgrade && *status == StatusCode::SWITCHING_PROTOCOLS);
    StatusCode::from_u16(number).ok().filter(is_last).ok_or_else(|| {
        let wanted = if is_upgrade { "101, or 200 to 999" } else { "200 to 999" };
        bad(format!("the service answered with status {number}; want {wanted}"))
    })
}

/// Is the announced length of an answer one, and the length of its body where that is known? An answer without a body
/// may say how long it would be, but 204 may not.
pub(super) fn check_length(response: &mut Response<()>, has_body: bool, known: Option<u64>) -> Result<(), Error> {
    if response.status() == StatusCode::NO_CONTENT {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    let headers = response.headers();
    let announced = content_length(headers);
    if headers.get_all(CONTENT_LENGTH).iter().count() > usize::from(announced.is_some()) {
        return Err(bad("the service answered with a content-length that is no number, or with two"));
    }
    match (announced, known) {
        (Some(announced), Some(known)) if has_body && announced != known => {
            Err(bad(format!("the service announced a body of {announced} bytes and sent {known}")))
        }
        _ => Ok(()),
    }
}

/// The length that an answer announces.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_LENGTH)?.to_str().ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// May an answer with these headers go in another form? What it says of its bytes would no longer hold.
pub(super) fn may_be_compressed(headers: &HeaderMap) -> bool {
    let is_fixed =
        headers.get(CACHE_CONTROL).is_some_and(|value| value.as_bytes().windows(12).any(|w| w == b"no-transform"));
    !headers.contains_key(CONTENT_ENCODING) && !headers.contains_key(ETAG) && !is_fixed
}

/// A fault of the service.
#[cold]
pub(super) fn bad(message: impl Into<String>) -> Error {
    Error::new(Code::BadModelOutput, message)
}

#[cold]
fn bad_header(what: &str, got: &[u8]) -> Error {
    bad(format!(
        "the service answered with a {what} that HTTP does not have: \"{}\"",
        echo(&String::from_utf8_lossy(got))
    ))
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
