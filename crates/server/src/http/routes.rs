//! Paths of the Open Inference Protocol, and what stands behind them.

use std::borrow::Cow;

use hyper::Method;
use samovar_core::error::{Code, Error, echo};

use crate::data_plane::Asker;
use crate::door::names::{invalid_name, is_name};

/// Longest request target.
const MAX_TARGET_BYTES: usize = 8 << 10;
/// What a path names.
#[derive(Debug, PartialEq)]
pub(super) enum Route<'a> {
    Server,
    Live,
    Ready,
    Metrics,
    Docs,
    Model(Target<'a>),
    ModelReady(Target<'a>),
    Config(Target<'a>),
    /// Of a model, or of all.
    Statistics(Option<Target<'a>>),
    Infer(Target<'a>),
    Index,
    Load(Cow<'a, str>),
    Unload(Cow<'a, str>),
    /// These two only the owner of the engine may ask.
    State,
    Events,
}

/// A model, and perhaps one of its versions.
#[derive(Debug, PartialEq)]
pub(super) struct Target<'a> {
    pub(super) model: Cow<'a, str>,
    pub(super) version: Option<Cow<'a, str>>,
}

impl<'a> Route<'a> {
    /// The route of `path`, for `method`; those of the owner are found for nobody else.
    ///
    /// Errors with `uri_too_long`, `not_found`, `method_not_allowed` or `invalid_name`.
    pub(super) fn find(method: &Method, (path, query): (&'a str, Option<&str>), asker: Asker) -> Result<Self, Error> {
        check_length(path, query)?;
        if *method == Method::CONNECT {
            return Err(Error::new(Code::MethodNotAllowed, "CONNECT is not allowed: this engine is no proxy"));
        }
        let raw = RawRoute::find_for(path, asker).ok_or_else(|| {
            let message = format!(
                "nothing is served at \"{}\"; POST /v2/repository/index lists the models, GET /docs the services",
                echo(path)
            );
            Error::new(Code::NotFound, message)
        })?;
        if !raw.allows(method) {
            let message = format!("{} is not allowed here; want {}", echo(method.as_str()), raw.allow());
            return Err(Error::new(Code::MethodNotAllowed, message));
        }
        raw.named()
    }

    /// The model and version that this route is about.
    pub(super) fn names(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::Model(target)
            | Self::ModelReady(target)
            | Self::Config(target)
            | Self::Statistics(Some(target))
            | Self::Infer(target) => (Some(&target.model), target.version.as_deref()),
            Self::Load(model) | Self::Unload(model) => (Some(model), None),
            Self::Server
            | Self::Live
            | Self::Ready
            | Self::Metrics
            | Self::Docs
            | Self::Index
            | Self::Statistics(None)
            | Self::State
            | Self::Events => (None, None),
        }
    }

    /// The value of `Allow` for `path`.
    pub(super) fn allow(path: &str) -> &'static str {
        RawRoute::find(path).map_or("", |route| route.allow())
    }
}

/// Errors with `uri_too_long`.
pub(super) fn check_length(path: &str, query: Option<&str>) -> Result<(), Error> {
    if path.len() + query.map_or(0, |query| query.len() + 1) <= MAX_TARGET_BYTES {
        return Ok(());
    }
    Err(Error::new(Code::UriTooLong, format!("the request target is longer than {MAX_TARGET_BYTES} bytes")))
}

/// Does `path` belong to the engine, be there something or not? No service can take it.
pub(super) fn is_of_engine(path: &str, asker: Asker) -> bool {
    path.starts_with("/v2/") || RawRoute::find_for(path, asker).is_some()
}

/// A route whose names are still as the client wrote them.
enum RawRoute<'a> {
    Fixed(Route<'static>),
    Model { name: &'a str, version: Option<&'a str>, verb: &'a str },
    Control { name: &'a str, load: bool },
}

impl<'a> RawRoute<'a> {
    fn find_for(path: &'a str, asker: Asker) -> Option<Self> {
        Self::find(path).filter(|route| asker == Asker::Owner || !route.is_of_owner())
    }

    fn find(path: &'a str) -> Option<Self> {
        if let Some(rest) = path.strip_prefix("/v2/models/").filter(|rest| *rest != "stats") {
            return Self::find_model(rest);
        }
        if let Some(rest) = path.strip_prefix("/v2/repository/models/") {
            let (name, verb) = rest.split_once('/')?;
            let load = match verb {
                "load" => true,
                "unload" => false,
                _ => return None,
            };
            return Some(Self::Control { name, load });
        }
        Some(Self::Fixed(match path {
            "/v2" => Route::Server,
            "/v2/health/live" => Route::Live,
            "/v2/health/ready" => Route::Ready,
            "/v2/repository/index" => Route::Index,
            "/v2/models/stats" => Route::Statistics(None),
            "/metrics" => Route::Metrics,
            "/docs" => Route::Docs,
            "/admin/state" => Route::State,
            "/admin/events" => Route::Events,
            _ => return None,
        }))
    }

    fn find_model(rest: &'a str) -> Option<Self> {
        let mut parts = rest.split('/');
        let name = parts.next()?;
        let mut verb = parts.next().unwrap_or("");
        let mut version = None;
        if verb == "versions" {
            version = Some(parts.next()?);
            verb = parts.next().unwrap_or("");
        }
        let is_whole = parts.next().is_none() && !rest.ends_with('/');
        (is_whole && matches!(verb, "" | "ready" | "config" | "stats" | "infer")).then_some(Self::Model {
            name,
            version,
            verb,
        })
    }

    fn is_of_owner(&self) -> bool {
        matches!(self, Self::Fixed(Route::State | Route::Events))
    }

    fn is_post(&self) -> bool {
        match self {
            Self::Fixed(route) => *route == Route::Index,
            Self::Model { verb, .. } => *verb == "infer",
            Self::Control { .. } => true,
        }
    }

    fn allows(&self, method: &Method) -> bool {
        if self.is_post() { method == Method::POST } else { method == Method::GET || method == Method::HEAD }
    }

    fn allow(&self) -> &'static str {
        if self.is_post() { "POST" } else { "GET, HEAD" }
    }

    fn named(self) -> Result<Route<'a>, Error> {
        Ok(match self {
            Self::Fixed(route) => route,
            Self::Control { name, load: true } => Route::Load(decode_name(name)?),
            Self::Control { name, load: false } => Route::Unload(decode_name(name)?),
            Self::Model { name, version, verb } => {
                let target = Target { model: decode_name(name)?, version: version.map(decode_name).transpose()? };
                match verb {
                    "infer" => Route::Infer(target),
                    "ready" => Route::ModelReady(target),
                    "config" => Route::Config(target),
                    "stats" => Route::Statistics(Some(target)),
                    _ => Route::Model(target),
                }
            }
        })
    }
}

/// A name as it stands in a path, percent-decoded and checked.
fn decode_name(raw: &str) -> Result<Cow<'_, str>, Error> {
    percent_decode(raw).filter(|name| is_name(name)).ok_or_else(|| invalid_name(raw))
}

/// `None` where what is escaped is no UTF-8.
pub(super) fn percent_decode(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('%') {
        return Some(Cow::Borrowed(raw));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| (byte as char).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        decoded.push((high << 4 | low) as u8);
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, Code> {
        Route::find(method, (path, None), Asker::Client).map_err(|error| error.code)
    }

    fn target<'a>(model: &'a str, version: Option<&'a str>) -> Target<'a> {
        Target { model: model.into(), version: version.map(Cow::Borrowed) }
    }

    #[test]
    fn paths_lead_to_their_routes() {
        for (path, route) in [
            ("/v2", Route::Server),
            ("/v2/health/live", Route::Live),
            ("/v2/health/ready", Route::Ready),
            ("/metrics", Route::Metrics),
            ("/docs", Route::Docs),
            ("/v2/models/stn", Route::Model(target("stn", None))),
            ("/v2/models/stn/versions/2", Route::Model(target("stn", Some("2")))),
            ("/v2/models/stn/ready", Route::ModelReady(target("stn", None))),
            ("/v2/models/stn/config", Route::Config(target("stn", None))),
            ("/v2/models/stn/versions/2/stats", Route::Statistics(Some(target("stn", Some("2"))))),
            ("/v2/models/stats", Route::Statistics(None)),
            ("/v2/models/stats/stats", Route::Statistics(Some(target("stats", None)))),
            ("/v2/models/stn/versions/a-b/ready", Route::ModelReady(target("stn", Some("a-b")))),
        ] {
            assert_eq!(find(&Method::GET, path), Ok(route));
            assert!(find(&Method::HEAD, path).is_ok());
            assert_eq!(find(&Method::POST, path), Err(Code::MethodNotAllowed));
            assert_eq!(Route::allow(path), "GET, HEAD");
        }
        for (path, route) in [
            ("/v2/models/stn/infer", Route::Infer(target("stn", None))),
            ("/v2/models/ready/versions/infer/infer", Route::Infer(target("ready", Some("infer")))),
            ("/v2/models/%73tn/infer", Route::Infer(target("stn", None))),
            ("/v2/repository/index", Route::Index),
            ("/v2/repository/models/stn/load", Route::Load("stn".into())),
            ("/v2/repository/models/stn/unload", Route::Unload("stn".into())),
        ] {
            assert_eq!(find(&Method::POST, path), Ok(route));
            assert_eq!(find(&Method::GET, path), Err(Code::MethodNotAllowed));
            assert_eq!(find(&Method::OPTIONS, path), Err(Code::MethodNotAllowed));
            assert_eq!(Route::allow(path), "POST");
        }
    }

    #[test]
    fn other_paths_are_not_found() {
        for path in [
            "/",
            "*",
            "/v2/",
            "/V2",
            "/v2/health",
            "/v2/models/stn/",
            "/v2/models/stn/infer/",
            "/v2/models/stn/infer/x",
            "/v2/models/stn/generate",
            "/v2/models/stn/versions",
            "/v2/models/stn/versions/1/x",
            "//v2",
            "/v2//health/live",
            "/v2/repository/models/stn",
            "/v2/repository/stn/load",
            "/v2/models/a/b/infer",
            "/metrics/",
            "",
        ] {
            assert_eq!(find(&Method::GET, path), Err(Code::NotFound), "{path}");
        }
    }

    #[test]
    fn names_are_checked_after_decoding() {
        for name in [
            "",
            ".",
            "..",
            "...",
            "-a",
            "a b",
            "%2e%2e",
            "..%2f..",
            "a%2fb",
            "a%00",
            "%",
            "%4",
            "%zz",
            "%ff",
            "é",
            "a\\b",
            "a%5cb",
            "%252e",
            "a:b",
            &"x".repeat(256),
        ] {
            let path = format!("/v2/models/{name}/infer");
            assert_eq!(find(&Method::POST, &path), Err(Code::InvalidName), "{name}");
            let path = format!("/v2/models/m/versions/{name}/infer");
            assert_eq!(find(&Method::POST, &path), Err(Code::InvalidName), "{name}");
        }
    }

    #[test]
    fn targets_have_a_limit() {
        let query = "x".repeat(8 << 10);
        let find = |query| Route::find(&Method::GET, ("/v2", Some(query)), Asker::Client);
        let error = find(&query).unwrap_err();
        assert_eq!(error.code, Code::UriTooLong);
        assert!(find("verbose=1").is_ok());
    }

    #[test]
    fn some_paths_are_there_for_the_owner_alone() {
        for (path, route) in [("/admin/state", Route::State), ("/admin/events", Route::Events)] {
            assert_eq!(find(&Method::GET, path), Err(Code::NotFound));
            assert_eq!(Route::find(&Method::GET, (path, None), Asker::Owner), Ok(route));
            let posted = Route::find(&Method::POST, (path, None), Asker::Owner).unwrap_err();
            assert_eq!(posted.code, Code::MethodNotAllowed);
        }
        assert_eq!(Route::find(&Method::GET, ("/v2", None), Asker::Owner), Ok(Route::Server));
    }
}
