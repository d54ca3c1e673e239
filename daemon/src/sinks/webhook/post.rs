//! One request at a time over one connection, kept open: TLS, HTTP/1.1, what the answer means.
//!
//! Owns: sockets, time-outs, headers. Does not know: which event is next, when it is tried again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use vedette_core::Clock;

use super::{Hook, WebhookConfig};
use crate::outbox::Outbox;
use crate::sinks::SinkDeps;
use crate::sinks::tls::{self, Failure, Peer, TlsError};

/// From the first packet to the answer's head.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read, so that the connection can be used again; nobody looks at them.
const ANSWER: usize = 64 << 10;

/// How long the rest of an answer may take.
const REST: Duration = Duration::from_secs(1);

/// What a receiver says to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 2xx.
    Taken,
    /// It will not have this event.
    Refused(StatusCode),
    /// It stumbles over this event, perhaps over this one only. With when it wants to be asked again.
    Failed(StatusCode, Option<Duration>),
    /// It takes no event now.
    Busy(StatusCode, Option<Duration>),
}

impl Answer {
    fn of(status: StatusCode, after: Option<Duration>) -> Self {
        match status.as_u16() {
            200..=299 => Self::Taken,
            408 | 429 => Self::Busy(status, after),
            400..=499 => Self::Refused(status),
            500 => Self::Failed(status, after),
            // Also redirects: the URL is wrong, not the event.
            _ => Self::Busy(status, after),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// By one side of the TLS handshake; with the remedy.
    #[error("{0}")]
    Handshake(String),
    #[error("no answer from {0} within {TIMEOUT:?}")]
    Timeout(String),
    #[error("{0}: {1}")]
    Lost(String, String),
    /// As `Lost`, with the address in its words.
    #[error("{0}")]
    Broken(String),
}

/// Posts events to one receiver.
pub(super) struct Poster {
    hook: Hook,
    ca: Option<PathBuf>,
    node: String,
    authorization: Option<HeaderValue>,
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
    connection: Option<Connection>,
}

struct Connection {
    requests: SendRequest<Full<Bytes>>,
    /// Moves the bytes; ends with the connection.
    _mover: JoinSet<()>,
}

impl Poster {
    pub(super) fn new(config: &WebhookConfig, deps: &SinkDeps, authorization: Option<HeaderValue>) -> Self {
        Self {
            hook: config.hook.clone(),
            ca: config.ca.clone(),
            node: deps.node.to_string(),
            authorization,
            outbox: Arc::clone(&deps.outbox),
            clock: Arc::clone(&deps.clock),
            connection: None,
        }
    }

    /// Host and port.
    pub(super) fn address(&self) -> String {
        self.hook.to_string()
    }

    /// Posts an event and waits for the answer, at most [`TIMEOUT`].
    pub(super) async fn post(&mut self, seq: u64, payload: Bytes) -> Result<Answer, PostError> {
        // A connection whose answer did not come in time is gone with the question.
        let asked = tokio::time::timeout(TIMEOUT, self.ask(seq, payload)).await;
        let response = asked.map_err(|_| PostError::Timeout(self.address()))??;
        let after = retry_after(response.headers(), self.clock.wall());
        let answer = Answer::of(response.status(), after);
        let rest = Limited::new(response.into_body(), ANSWER).collect();
        if !tokio::time::timeout(REST, rest).await.is_ok_and(|rest| rest.is_ok()) {
            self.connection = None;
        }
        Ok(answer)
    }

    /// On the connection that there is; where the receiver has closed it meanwhile, on a new one.
    async fn ask(&mut self, seq: u64, payload: Bytes) -> Result<Response<Incoming>, PostError> {
        if let Some(mut connection) = self.connection.take()
            && connection.requests.ready().await.is_ok()
            && let Ok(response) = connection.requests.send_request(self.request(seq, &payload)?).await
        {
            self.connection = Some(connection);
            return Ok(response);
        }
        let mut connection = self.connect().await?;
        let request = self.request(seq, &payload)?;
        let response = connection.requests.send_request(request).await.map_err(|e| self.lost(&e))?;
        self.connection = Some(connection);
        Ok(response)
    }

    async fn connect(&self) -> Result<Connection, PostError> {
        let lost = |error: std::io::Error| PostError::Lost(self.address(), error.to_string());
        let mut settings = tls::settings(self.ca.as_deref(), None, None)?;
        settings.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(self.hook.host.clone())
            .map_err(|error| PostError::Lost(self.address(), error.to_string()))?;
        let stream = TcpStream::connect((self.hook.host.as_str(), self.hook.port)).await.map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        let connector = TlsConnector::from(Arc::new(settings));
        let stream = connector.connect(name, stream).await.map_err(|error| self.refused(&error))?;
        let (requests, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.lost(&e))?;
        let mut mover = JoinSet::new();
        mover.spawn(async move {
            // What went wrong is told to whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Connection { requests, _mover: mover })
    }

    fn request(&self, seq: u64, payload: &Bytes) -> Result<Request<Full<Bytes>>, PostError> {
        let mut request = Request::post(self.hook.target.reveal())
            .header(HOST, self.host())
            .header(USER_AGENT, concat!("vedette/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header("Vedette-Node", &self.node)
            .header("Vedette-Epoch", self.outbox.epoch().to_string())
            .header("Vedette-Seq", seq);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        // Its words could hold the target.
        let wrong = |_| PostError::Lost(self.address(), "the path of its URL is none of HTTP".to_owned());
        request.body(Full::new(payload.clone())).map_err(wrong)
    }

    fn host(&self) -> String {
        let address = self.address();
        address.strip_suffix(":443").map_or(address.clone(), str::to_owned)
    }

    /// A failed handshake is an I/O error around rustls' own.
    fn refused(&self, error: &std::io::Error) -> PostError {
        match self.peer().handshake_failure(error) {
            Some(Failure::Refused(line)) => PostError::Handshake(line),
            Some(Failure::Lost(line)) => PostError::Broken(line),
            None => PostError::Lost(self.address(), error.to_string()),
        }
    }

    fn peer(&self) -> Peer {
        let (host, ca) = (self.hook.host.clone(), self.ca.clone());
        Peer { address: self.address(), host, ca, ..Peer::default() }
    }

    /// TLS 1.3 refuses a client without certificate after the handshake.
    fn lost(&self, error: &hyper::Error) -> PostError {
        let io = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
        if let Some(failure) = io.and_then(|io| self.peer().io_failure(io)) {
            return match failure {
                Failure::Refused(line) => PostError::Handshake(line),
                Failure::Lost(line) => PostError::Broken(line),
            };
        }
        let cause = std::error::Error::source(error).map_or(String::new(), |cause| format!(": {cause}"));
        PostError::Lost(self.address(), format!("{error}{cause}"))
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let of = |code| Answer::of(StatusCode::from_u16(code).unwrap(), None);
        for code in [200, 202, 204] {
            assert_eq!(of(code), Answer::Taken);
        }
        for code in [400, 401, 404, 410, 413] {
            assert!(matches!(of(code), Answer::Refused(_)), "{code}");
        }
        assert!(matches!(of(500), Answer::Failed(..)));
        for code in [301, 308, 408, 429, 502, 503, 504] {
            assert!(matches!(of(code), Answer::Busy(..)), "{code}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2026-11-24T02:35:00Z".parse().unwrap();
        let after = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, now)
        };
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("Tue, 24 Nov 2026 02:35:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(after("Tue, 24 Nov 2026 02:30:00 GMT"), Some(Duration::ZERO), "gone by already");
        assert_eq!(after("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
