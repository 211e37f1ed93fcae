//! Requests to services: what is no path of the engine and belongs to one goes to its worker as it is.
//!
//! ```text
//! guard ─ inflow (body) ─ source (exchange with the worker) ─ outflow (body) or tunnel (WebSocket)
//! ```

mod account;
mod asked;
#[cfg(test)]
mod fake;
mod headers;
mod inflow;
mod outflow;
mod source;
mod tunnel;

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version as HttpVersion};
use samovar_core::error::{Code, Error};
use samovar_core::request::HttpRequest;
use samovar_core::version::Version;

use self::account::Account;
use self::asked::Asked;
use self::inflow::Inflow;
use self::outflow::{Outflow, Start};
use self::source::Source;
use super::door::Door;
use super::reply::Reply;
use super::{compression, routes};
use crate::connection::{Outgoing, Pulse, Tunnel};
use crate::door::body::BodyLimits;
use crate::door::head::Head;
use crate::door::panic;

const REQUEST_ID: &str = "x-request-id";

/// A service, and whether this request to it may run twice unless the client says otherwise.
pub(super) type Meant = (Arc<Version>, bool);

/// The head of an answer, what of its body came with it, and where the rest comes from.
struct Begun<S> {
    response: Response<()>,
    start: Start,
    source: S,
}

impl Door {
    /// The answer of a service.
    pub(super) async fn serve(
        &self,
        meant: Meant,
        request: Request<Incoming>,
        pulse: &Arc<Pulse>,
    ) -> Response<Outgoing> {
        let version = Arc::clone(&meant.0);
        self.exchange(meant, request, pulse, |request| version.exchange(request)).await
    }

    /// The same; `queue` begins the exchange.
    async fn exchange<S: Source>(
        &self,
        (version, idempotent): Meant,
        request: Request<Incoming>,
        pulse: &Arc<Pulse>,
        queue: impl FnOnce(HttpRequest) -> Result<S, Error> + Send,
    ) -> Response<Outgoing> {
        let arrived = pulse.begin();
        let (parts, body) = request.into_parts();
        let head = Head::new(&parts.headers);
        let id = head.request_id().map_or_else(|| self.plane.make_id(), Arc::from);
        let is_upgrade = headers::wants_websocket(&parts) && hyper::body::Body::is_end_stream(&body);
        let asked = Asked { parts: &parts, head, id, arrived, pulse, idempotent, is_upgrade };
        let mut inflow = Inflow::new(body, Arc::clone(pulse));
        let mut account = Account::new(self, &version, &asked, inflow.bytes());
        let begun = panic::catch(self.begin(&asked, &mut account, &mut inflow, queue)).await;
        let begun = begun.unwrap_or_else(|panic| Err(panic::report(&self.plane, &asked.id, &*panic)));
        let mut response = match begun {
            Ok(begun) if begun.response.status() == StatusCode::SWITCHING_PROTOCOLS => switch(&asked, begun, account),
            Ok(begun) => self.answer(&asked, begun, account, inflow).await,
            Err(error) => self.refuse(&asked, &error, account, inflow).await,
        };
        // Visible ASCII, whoever made it.
        if let Ok(id) = HeaderValue::from_str(&asked.id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }

    /// Everything up to the head of the answer.
    async fn begin<S: Source>(
        &self,
        asked: &Asked<'_>,
        account: &mut Account,
        inflow: &mut Inflow<Incoming>,
        queue: impl FnOnce(HttpRequest) -> Result<S, Error> + Send,
    ) -> Result<Begun<S>, Error> {
        asked.head.check_framing()?;
        let uri = &asked.parts.uri;
        self.guard.check(&asked.head, uri, asked.parts.version)?;
        routes::check_length(uri.path(), uri.query())?;
        let limits = BodyLimits::new(self.plane.config().max_body_bytes);
        let request = asked.request(account, inflow, &limits).await?;
        account.visit.enter()?;
        let streams = !request.is_whole && !asked.is_upgrade;
        let mut source = queue(request)?;
        if streams {
            inflow.pump(source.upload(), limits);
        }
        let head = tokio::select! {
            biased;
            head = source.head() => head?,
            fault = inflow.fault() => return Err(fault),
        };
        let mut response = headers::response(head, asked.is_upgrade)?;
        let has_body = asked.parts.method != Method::HEAD && may_have_body(response.status());
        let start = outflow::start(&mut source, has_body)?;
        headers::check_length(&mut response, has_body, start.length(&source))?;
        Ok(Begun { response, start, source })
    }

    async fn answer<S: Source>(
        &self,
        asked: &Asked<'_>,
        begun: Begun<S>,
        mut account: Account,
        mut inflow: Inflow<Incoming>,
    ) -> Response<Outgoing> {
        let Begun { mut response, start, source } = begun;
        account.begins(response.status());
        let mut unread = false;
        let outgoing = match start {
            Start::Whole(body) => {
                unread = inflow.end(asked.head.expects).await;
                let body = self.compressed(&asked.parts.headers, &mut response, body).await;
                account.sent(body.len());
                account.ends(Ok(()));
                Outgoing::new(body)
            }
            Start::First(first) => {
                let length = headers::content_length(response.headers());
                Outgoing::in_pieces(Box::new(Outflow::new(first, source, length, inflow, account)))
            }
        };
        if self.closes(asked, unread) {
            response.headers_mut().insert("connection", HeaderValue::from_static("close"));
        }
        response.map(|()| outgoing)
    }

    /// `body` as the client wants it most, as of every other route; unless the service has an opinion of its own.
    async fn compressed(&self, wishes: &HeaderMap, response: &mut Response<()>, body: Bytes) -> Bytes {
        let is_plain = response.status() == StatusCode::OK && headers::may_be_compressed(response.headers());
        if !self.compresses || body.len() < compression::MIN_BYTES || !is_plain {
            return body;
        }
        response.headers_mut().append("vary", HeaderValue::from_static("accept-encoding"));
        let Some((coding, packed)) = compression::compress(wishes, &body).await else { return body };
        response.headers_mut().remove("content-length");
        response.headers_mut().insert("content-encoding", HeaderValue::from_static(coding.name()));
        packed
    }

    async fn refuse(
        &self,
        asked: &Asked<'_>,
        error: &Error,
        mut account: Account,
        mut inflow: Inflow<Incoming>,
    ) -> Response<Outgoing> {
        let mut reply = Reply::error(error, &asked.id, None);
        if error.code == Code::UnsupportedMediaType {
            reply = reply.naming_codings();
        }
        account.begins(reply.status);
        account.sent(reply.body.len());
        account.ends(Err(error.code));
        let unread = inflow.end(asked.head.expects).await;
        reply.into_response(self.closes(asked, unread))
    }

    /// HTTP/2 ends a connection by frames of its own.
    fn closes(&self, asked: &Asked<'_>, unread: bool) -> bool {
        let is_last = unread || self.plane.draining() || asked.head.check_framing().is_err();
        let closes = asked.parts.version < HttpVersion::HTTP_2 && is_last;
        if closes {
            asked.pulse.linger_briefly();
        }
        closes
    }
}

/// The answer that switches protocols; what follows it on the socket is between client and service.
fn switch<S: Source>(asked: &Asked<'_>, begun: Begun<S>, mut account: Account) -> Response<Outgoing> {
    let Begun { response, source, .. } = begun;
    account.begins(response.status());
    asked.pulse.switch(Tunnel::new(|stream, stop| tunnel::run(stream, source, account, stop)));
    response.map(|()| Outgoing::default())
}

fn may_have_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

#[cfg(test)]
mod tests;
