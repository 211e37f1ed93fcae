//! The headers that this door reads, found in one pass, and what they say.

use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::HeaderValue;
use samovar_core::clock::Nanos;
use samovar_core::error::{Code, Error, echo};

use super::invalid;
use crate::inflate::Coding;

/// Longest `x-request-id` and `traceparent` that are taken over.
const MAX_TAG_BYTES: usize = 128;

/// Headers by name; the value that came last, where a header may stand once.
#[derive(Default)]
pub(crate) struct Head<'a> {
    pub(crate) host: Option<&'a HeaderValue>,
    pub(crate) hosts: usize,
    pub(crate) origin: Option<&'a HeaderValue>,
    pub(crate) expects: bool,
    content_type: Option<&'a HeaderValue>,
    content_encoding: Option<&'a HeaderValue>,
    content_encodings: usize,
    transfer_encoding: Option<&'a HeaderValue>,
    transfer_encodings: usize,
    json_length: Option<&'a HeaderValue>,
    json_lengths: usize,
    timeout_ms: Option<&'a HeaderValue>,
    timeout_s: Option<&'a HeaderValue>,
    idempotent: Option<&'a HeaderValue>,
    trace: Option<&'a HeaderValue>,
    request_id: Option<&'a HeaderValue>,
    grpc_timeout: Option<&'a HeaderValue>,
    grpc_encoding: Option<&'a HeaderValue>,
}

impl<'a> Head<'a> {
    pub(crate) fn new(headers: &'a HeaderMap) -> Self {
        let mut head = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "host" => {
                    head.host = Some(value);
                    head.hosts += 1;
                }
                "origin" => head.origin = Some(value),
                "expect" => head.expects = true,
                "content-type" => head.content_type = Some(value),
                "content-encoding" => {
                    head.content_encoding = Some(value);
                    head.content_encodings += 1;
                }
                "transfer-encoding" => {
                    head.transfer_encoding = Some(value);
                    head.transfer_encodings += 1;
                }
                "inference-header-content-length" => {
                    head.json_length = Some(value);
                    head.json_lengths += 1;
                }
                "samovar-timeout-ms" => head.timeout_ms = Some(value),
                "request-timeout" => head.timeout_s = Some(value),
                "samovar-idempotent" => head.idempotent = Some(value),
                "traceparent" => head.trace = Some(value),
                "x-request-id" => head.request_id = Some(value),
                "grpc-timeout" => head.grpc_timeout = Some(value),
                "grpc-encoding" => head.grpc_encoding = Some(value),
                _ => {}
            }
        }
        head
    }

    /// `invalid_request` unless every reader sees the same end of the body: our parser also takes `chunked, chunked`, and
    /// one in front of it may not.
    pub(crate) fn check_framing(&self) -> Result<(), Error> {
        match self.transfer_encoding.map(HeaderValue::as_bytes) {
            Some(coding) if self.transfer_encodings > 1 || !coding.eq_ignore_ascii_case(b"chunked") => {
                Err(invalid("the header transfer-encoding must be `chunked`, once"))
            }
            _ => Ok(()),
        }
    }

    /// What the body is compressed with; `unsupported_media_type` for a body that is neither JSON nor JSON with blobs,
    /// or that is compressed in another way.
    ///
    /// `text/plain` and multipart forms, which a page of any origin may send unasked, are not taken; pickles never are.
    pub(crate) fn check_content(&self) -> Result<Option<Coding>, Error> {
        let coding = self.coding()?;
        match self.content_type {
            Some(media_type) if !is_taken(media_type.as_bytes()) => {
                Err(not_taken("content-type", media_type, "application/json or application/octet-stream"))
            }
            _ => Ok(coding),
        }
    }

    /// `Content-Encoding`: one coding that is known here, or none.
    pub(crate) fn coding(&self) -> Result<Option<Coding>, Error> {
        let Some(encoding) = self.content_encoding else { return Ok(None) };
        let name = encoding.as_bytes().trim_ascii();
        let coding = Coding::named(name);
        if self.content_encodings > 1 || (coding.is_none() && !name.eq_ignore_ascii_case(b"identity")) {
            return Err(not_taken("content-encoding", encoding, "gzip, deflate or identity, and one of them"));
        }
        Ok(coding)
    }

    /// `Inference-Header-Content-Length`: bytes of JSON in front of the blobs.
    pub(crate) fn json_length(&self) -> Result<Option<usize>, Error> {
        let Some(value) = self.json_length else { return Ok(None) };
        let length = digits(value).and_then(|text| text.parse().ok());
        match length {
            Some(length) if self.json_lengths == 1 => Ok(Some(length)),
            _ => Err(invalid("the header inference-header-content-length must stand once, with a number of bytes")),
        }
    }

    /// The client's time limit: `samovar-timeout-ms`, else `Request-Timeout` in seconds.
    pub(crate) fn timeout(&self) -> Result<Option<Nanos>, Error> {
        if let Some(value) = self.timeout_ms {
            let timeout = digits(value).and_then(|text| text.parse::<u64>().ok()).filter(|timeout| *timeout > 0);
            let Some(timeout) = timeout else {
                return Err(invalid("the header samovar-timeout-ms must be a whole number of milliseconds above 0"));
            };
            return Ok(Some(timeout.saturating_mul(1_000_000)));
        }
        let Some(value) = self.timeout_s else { return Ok(None) };
        let seconds = value.to_str().ok().filter(|text| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.')));
        match seconds.and_then(|text| text.parse::<f64>().ok()).filter(|seconds| *seconds > 0.0) {
            Some(seconds) => Ok(Some(((seconds * 1e9) as Nanos).max(1))), // saturates
            None => Err(invalid("the header request-timeout must be a number of seconds above 0")),
        }
    }

    /// `grpc-timeout`: at most eight digits and a unit. 0: the deadline has passed.
    pub(crate) fn grpc_timeout(&self) -> Result<Option<Nanos>, Error> {
        let Some(value) = self.grpc_timeout else { return Ok(None) };
        let timeout = match value.as_bytes() {
            [digits @ .., unit] if (1..=8).contains(&digits.len()) => grpc_duration(digits, *unit),
            _ => None,
        };
        timeout.map(Some).ok_or_else(|| {
            let got = echo(&String::from_utf8_lossy(value.as_bytes()));
            invalid(format!("grpc-timeout \"{got}\" is no duration; want up to 8 digits and one of H, M, S, m, u, n"))
        })
    }

    /// `grpc-encoding`: what messages may be compressed with.
    pub(crate) fn message_coding(&self) -> Result<Option<Coding>, Error> {
        let Some(encoding) = self.grpc_encoding else { return Ok(None) };
        let coding = Coding::named(encoding.as_bytes());
        if coding.is_none() && encoding.as_bytes() != b"identity" {
            return Err(not_taken("grpc-encoding", encoding, "gzip, deflate or identity"));
        }
        Ok(coding)
    }

    /// `samovar-idempotent`.
    pub(crate) fn idempotent(&self) -> Result<Option<bool>, Error> {
        match self.idempotent.map(HeaderValue::as_bytes) {
            None => Ok(None),
            Some(b"true") => Ok(Some(true)),
            Some(b"false") => Ok(Some(false)),
            Some(_) => Err(invalid("the header samovar-idempotent must be `true` or `false`")),
        }
    }

    /// `traceparent`, if it could be one.
    pub(crate) fn trace(&self) -> Option<Arc<str>> {
        self.trace.and_then(tag).map(Arc::from)
    }

    /// `x-request-id`, if it is short and visible ASCII.
    pub(crate) fn request_id(&self) -> Option<&'a str> {
        self.request_id.and_then(tag)
    }
}

fn grpc_duration(digits: &[u8], unit: u8) -> Option<Nanos> {
    let nanoseconds = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return None,
    };
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse::<u64>().ok()?.checked_mul(nanoseconds)
}

fn not_taken(what: &str, got: &HeaderValue, want: &str) -> Error {
    let got = echo(&String::from_utf8_lossy(got.as_bytes()));
    Error::new(Code::UnsupportedMediaType, format!("{what} \"{got}\" is not taken here; want {want}"))
}

fn tag(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let is_tag = !text.is_empty() && text.len() <= MAX_TAG_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_tag.then_some(text)
}

/// `value` if it is digits and nothing else: no sign, no space.
fn digits(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_taken(media_type: &[u8]) -> bool {
    let end = media_type.iter().position(|byte| *byte == b';').unwrap_or(media_type.len());
    let essence = media_type.get(..end).unwrap_or_default().trim_ascii();
    let ends = |suffix: &[u8]| essence.len() > suffix.len() && essence.to_ascii_lowercase().ends_with(suffix);
    let starts = |prefix: &[u8]| essence.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    essence.eq_ignore_ascii_case(b"application/json")
        || essence.eq_ignore_ascii_case(b"application/octet-stream")
        || (starts(b"application/vnd.") && ends(b"+json"))
        // What `curl -d` calls every body unless told otherwise; it is read as JSON all the same. A page of another site
        // can send it without asking too: the guard's Origin check keeps those out.
        || essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn with<T>(headers: &[(&str, &str)], read: impl Fn(&Head<'_>) -> T) -> T {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        read(&Head::new(&map))
    }

    #[test]
    fn content_is_json_or_blobs() {
        for media_type in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/octet-stream",
            "application/vnd.example+json",
            "application/x-www-form-urlencoded",
        ] {
            assert!(with(&[("content-type", media_type)], |head| head.check_content().is_ok()), "{media_type}");
        }
        for media_type in [
            "text/plain",
            "application/python-pickle",
            "application/x-pickle",
            "application/vnd.example",
            "application/jsonp",
            "multipart/form-data",
            "",
        ] {
            let code = with(&[("content-type", media_type)], |head| head.check_content().unwrap_err().code);
            assert_eq!(code, Code::UnsupportedMediaType, "{media_type}");
        }
        assert!(with(&[], |head| head.check_content().is_ok()));
        assert!(with(&[("content-encoding", "identity")], |head| head.check_content().is_ok()));
        assert_eq!(with(&[("content-encoding", "GZip")], |head| head.check_content().unwrap()), Some(Coding::Gzip));
        for codings in [&["br"][..], &["gzip, deflate"], &["gzip", "gzip"], &[""]] {
            let headers: Vec<_> = codings.iter().map(|coding| ("content-encoding", *coding)).collect();
            assert_eq!(with(&headers, |head| head.coding().unwrap_err().code), Code::UnsupportedMediaType);
        }
    }

    #[test]
    fn chunks_are_announced_once() {
        let framing = |headers: &[_]| with(headers, |head| head.check_framing().is_ok());
        assert!(framing(&[]) && framing(&[("transfer-encoding", "Chunked")]));
        for coding in ["chunked, chunked", "gzip, chunked", "", "identity"] {
            assert!(!framing(&[("transfer-encoding", coding)]), "{coding}");
        }
        assert!(!framing(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]));
    }

    #[test]
    fn the_json_length_is_strict() {
        let length = |value| with(&[("Inference-Header-Content-Length", value)], |head| head.json_length().ok());
        assert_eq!(length("12"), Some(Some(12)));
        assert_eq!(length("0"), Some(Some(0)));
        for value in ["-1", "+5", "5 ", "0x5", "5,5", "99999999999999999999999", ""] {
            assert!(length(value).is_none() || value == "5 ", "{value}");
        }
        let twice = [("inference-header-content-length", "1"); 2];
        assert!(with(&twice, |head| head.json_length().is_err()));
        assert_eq!(with(&[], |head| head.json_length().unwrap()), None);
    }

    #[test]
    fn timeouts_are_above_zero() {
        let timeout = |name: &str, value: &str| with(&[(name, value)], |head| head.timeout().ok());
        assert_eq!(timeout("samovar-timeout-ms", "250"), Some(Some(250_000_000)));
        assert_eq!(timeout("samovar-timeout-ms", "18446744073709551615"), Some(Some(u64::MAX)));
        assert_eq!(timeout("request-timeout", "0.5"), Some(Some(500_000_000)));
        assert_eq!(timeout("request-timeout", &"9".repeat(400)), Some(Some(u64::MAX)));
        for value in ["0", "-1", "1.5", "abc", "", "1e3"] {
            assert_eq!(timeout("samovar-timeout-ms", value), None, "{value}");
        }
        for value in ["0", "-1", "inf", "nan", "", ".", "1e3"] {
            assert_eq!(timeout("request-timeout", value), None, "{value}");
        }
        let both = [("request-timeout", "9"), ("samovar-timeout-ms", "1")];
        assert_eq!(with(&both, |head| head.timeout().unwrap()), Some(1_000_000));
    }

    #[test]
    fn deadlines_of_grpc_have_units() {
        let timeout = |value: &str| with(&[("grpc-timeout", value)], |head| head.grpc_timeout().ok());
        for (value, nanoseconds) in [
            ("1H", 3_600_000_000_000),
            ("2M", 120_000_000_000),
            ("99999999S", 99_999_999_000_000_000),
            ("250m", 250_000_000),
            ("7u", 7_000),
            ("0n", 0),
        ] {
            assert_eq!(timeout(value), Some(Some(nanoseconds)), "{value}");
        }
        assert_eq!(timeout("99999999H"), None, "more than 64 bits of nanoseconds");
        for value in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S"] {
            assert_eq!(timeout(value), None, "{value}");
        }
        assert_eq!(with(&[], |head| head.grpc_timeout().unwrap()), None);
    }

    #[test]
    fn messages_are_plain_gzip_or_deflate() {
        let coding = |value: &str| with(&[("grpc-encoding", value)], |head| head.message_coding());
        assert_eq!(coding("gzip").unwrap(), Some(Coding::Gzip));
        assert_eq!(coding("deflate").unwrap(), Some(Coding::Deflate));
        assert_eq!(coding("identity").unwrap(), None);
        assert_eq!(coding("snappy").unwrap_err().code, Code::UnsupportedMediaType);
    }

    #[test]
    fn words_and_tags() {
        assert_eq!(with(&[("samovar-idempotent", "false")], |head| head.idempotent().unwrap()), Some(false));
        assert!(with(&[("samovar-idempotent", "no")], |head| head.idempotent().is_err()));
        assert_eq!(with(&[("x-request-id", "a-1")], |head| head.request_id().map(str::to_owned)), Some("a-1".into()));
        for value in ["", "a b", &"x".repeat(129)] {
            assert!(with(&[("x-request-id", value)], |head| head.request_id().is_none()), "{value}");
        }
    }
}
