//! What keeps a browser from being used against the engine: Origin and Host.
//!
//! A page of another site cannot read our answers, but it can send requests; and a name that its owner points at
//! 127.0.0.1 (DNS rebinding) makes it our own origin. The first is seen in Origin, the second in Host.

use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::{Uri, Version};
use samovar_core::error::{Code, Error, echo};

use super::head::Head;
use super::invalid;

/// Whom to serve.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    /// Must Host name this machine?
    pub(crate) loopback: bool,
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) allowed_origins: Vec<String>,
}

impl Guard {
    /// `invalid_request`, `forbidden_host` or `forbidden_origin`.
    pub(crate) fn check(&self, head: &Head<'_>, uri: &Uri, version: Version) -> Result<(), Error> {
        let host = self.host(head, uri, version)?;
        match head.origin {
            None => Ok(()),
            Some(origin) => self.check_origin(&String::from_utf8_lossy(origin.as_bytes()), host),
        }
    }

    /// The name under which the client knows us, empty if it gave none.
    fn host<'a>(&self, head: &Head<'a>, uri: &'a Uri, version: Version) -> Result<&'a str, Error> {
        if head.hosts > 1 || (head.hosts == 0 && version == Version::HTTP_11) {
            return Err(invalid("a request needs the header host, once"));
        }
        let authority = uri.authority().map(|authority| authority.as_str());
        let host = match head.host {
            Some(host) => host.to_str().map_err(|_| invalid("the header host is not ASCII"))?,
            None => authority.unwrap_or(""), // HTTP/2 has `:authority` instead
        };
        // A target in absolute form names a host of its own; both must be ours.
        for name in [Some(host), authority].into_iter().flatten() {
            if self.loopback && !name.is_empty() && !self.is_ours(name) {
                let message = format!(
                    "host \"{}\" is not served; call localhost or 127.0.0.1, or list the host in allowed_hosts",
                    echo(name)
                );
                return Err(Error::new(Code::ForbiddenHost, message));
            }
        }
        Ok(host)
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = without_port(host);
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
            || bracketed(name).is_some_and(|address| address == Ipv6Addr::LOCALHOST)
            || self.allowed_hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host) || ours.eq_ignore_ascii_case(name))
    }

    fn check_origin(&self, origin: &str, host: &str) -> Result<(), Error> {
        let same = origin.split_once("://").is_some_and(|(scheme, rest)| {
            matches!(scheme, "http" | "https") && !host.is_empty() && rest.eq_ignore_ascii_case(host)
        });
        if same || self.allowed_origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin)) {
            return Ok(());
        }
        let message =
            format!("pages of origin \"{}\" may not call this engine; list it in allowed_origins", echo(origin));
        Err(Error::new(Code::ForbiddenOrigin, message))
    }
}

/// `host` without `:port`; an IPv6 address keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn bracketed(name: &str) -> Option<Ipv6Addr> {
    name.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::header::{HOST, HeaderValue, ORIGIN};

    use super::*;

    fn check(loopback: bool, host: Option<&str>, origin: Option<&str>, target: &str) -> Option<Code> {
        let guard = Guard {
            loopback,
            allowed_hosts: vec!["models.example".into()],
            allowed_origins: vec!["https://ui.example".into()],
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [(HOST, host), (ORIGIN, origin)] {
            if let Some(value) = value {
                headers.append(name, HeaderValue::from_str(value).unwrap());
            }
        }
        let uri: Uri = target.parse().unwrap();
        guard.check(&Head::new(&headers), &uri, Version::HTTP_11).err().map(|error| error.code)
    }

    #[test]
    fn loopback_binds_serve_loopback_names() {
        for host in
            ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "127.8.9.1", "[::1]", "[::1]:8000", "models.example:80"]
        {
            assert_eq!(check(true, Some(host), None, "/v2"), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::2]",
            "::1",
            "localhost:80:80",
            "localhost:x",
            "[::1",
        ] {
            assert_eq!(check(true, Some(host), None, "/v2"), Some(Code::ForbiddenHost), "{host}");
        }
        assert_eq!(check(false, Some("evil.example"), None, "/v2"), None);
    }

    #[test]
    fn absolute_targets_count_as_hosts() {
        assert_eq!(check(true, Some("localhost"), None, "http://evil.example/v2"), Some(Code::ForbiddenHost));
        assert_eq!(check(true, Some("localhost"), None, "http://localhost/v2"), None);
    }

    #[test]
    fn an_authority_is_a_host() {
        let guard = Guard { loopback: true, allowed_hosts: vec![], allowed_origins: vec![] };
        let check = |origin: &'static str, target: &str| {
            let headers = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
            let uri: Uri = target.parse().unwrap();
            guard.check(&Head::new(&headers), &uri, Version::HTTP_2).err().map(|error| error.code)
        };
        assert_eq!(check("http://localhost:8000", "http://localhost:8000/v2"), None);
        assert_eq!(check("http://evil.example", "http://localhost:8000/v2"), Some(Code::ForbiddenOrigin));
        assert_eq!(check("http://evil.example", "http://evil.example/v2"), Some(Code::ForbiddenHost));
    }

    #[test]
    fn a_host_is_needed_once() {
        assert_eq!(check(false, None, None, "/v2"), Some(Code::InvalidRequest));
        let guard = Guard { loopback: true, allowed_hosts: vec![], allowed_origins: vec![] };
        let mut headers = HeaderMap::new();
        assert!(guard.check(&Head::new(&headers), &"/".parse().unwrap(), Version::HTTP_10).is_ok());
        headers.append(HOST, HeaderValue::from_static("localhost"));
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert!(guard.check(&Head::new(&headers), &"/".parse().unwrap(), Version::HTTP_11).is_err());
    }

    #[test]
    fn origins_are_ours_or_listed() {
        let origin = |origin| check(true, Some("localhost:8000"), Some(origin), "/v2");
        for ours in ["http://localhost:8000", "https://localhost:8000", "https://ui.example"] {
            assert_eq!(origin(ours), None, "{ours}");
        }
        for other in ["http://localhost:9", "http://evil.example", "null", "", "file://", "ftp://localhost:8000"] {
            assert_eq!(origin(other), Some(Code::ForbiddenOrigin), "{other}");
        }
    }
}
