//! One webhook: every event as an HTTPS POST of its `vedette` JSON, from the same outbox as brokers are served.
//!
//! Owns: settings, starting. Does not know: connections and answers (`post`), what is tried when (`worker`).
//!
//! Delivered is what was answered with 2xx. Order is kept per camera: one request at a time. A re-sent event has the
//! same bytes; receivers know it again by the headers `Vedette-Node`, `Vedette-Epoch` and `Vedette-Seq`. The
//! environment's proxies are not used, redirects not followed: events go where the configuration says or nowhere.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod post;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use vedette_core::{Name, Secret};

use super::running::RunningSink;
use super::{Replay, Sink, SinkConfig, SinkDeps, SinkError};
use crate::wire::{self, Dialect, Interest};

/// Where events are posted to.
#[derive(Clone, PartialEq, Eq)]
pub struct Hook {
    /// Name or IP address; IPv6 without brackets.
    host: String,
    port: u16,
    /// Path and query: may hold what only the receiver should know.
    target: Secret,
}

impl Hook {
    /// Reads `https://HOST[:443]/PATH[?QUERY]`.
    ///
    /// # Errors
    /// Another scheme, no host, a login within.
    pub fn parse(text: &str) -> Result<Self, SinkError> {
        let wrong = || SinkError::Hook(vedette_core::secret::redacted(text));
        let url = url::Url::parse(text).map_err(|_| wrong())?;
        let login = !url.username().is_empty() || url.password().is_some();
        let host = url.host_str().filter(|host| !host.is_empty() && !login && url.scheme() == "https");
        let host = host.ok_or_else(wrong)?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
        let target = Secret::new(format!("{}{query}", url.path()));
        Ok(Self { host, port: url.port().unwrap_or(443), target })
    }

    /// Host and port.
    pub fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

impl std::fmt::Display for Hook {
    /// Host and port.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hook({self})")
    }
}

/// The settings of one webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Its name in the configuration.
    pub id: Name,
    /// Where it is.
    pub hook: Hook,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<Secret>,
    /// Certificates to trust (PEM), instead of the system's. Read at every connection, so that they may be renewed.
    pub ca: Option<PathBuf>,
    /// In which order what waits is sent. Default: as it was produced.
    pub replay: Replay,
    /// Which events it gets.
    pub interest: Interest,
}

impl WebhookConfig {
    /// Starts the worker; never waits for the receiver.
    ///
    /// # Errors
    /// A token that cannot stand in a header.
    pub fn build(self, deps: SinkDeps) -> Result<RunningSink, SinkError> {
        let wrong = || SinkError::Token(self.id.clone());
        let authorization = self.token.as_ref().map(|token| bearer(token).ok_or_else(wrong)).transpose()?;
        let poster = post::Poster::new(&self, &deps, authorization);
        let (id, replay) = (self.id, self.replay);
        let start = deps.clone();
        Ok(RunningSink::start("webhook", id.clone(), &start, |status, stopped| {
            worker::Worker::new(id, poster, replay, deps, status, stopped).run()
        }))
    }
}

/// The header of a token; none where its text cannot stand in a header.
pub(crate) fn bearer(token: &Secret) -> Option<hyper::header::HeaderValue> {
    let text = format!("Bearer {}", token.reveal());
    let mut value = hyper::header::HeaderValue::try_from(text).ok().filter(|v| v.to_str().is_ok())?;
    value.set_sensitive(true);
    Some(value)
}

impl SinkConfig for WebhookConfig {
    fn id(&self) -> &Name {
        &self.id
    }

    fn dialects(&self) -> Vec<Arc<dyn Dialect>> {
        vec![Arc::new(wire::vedette::Vedette)]
    }

    fn interest(&self) -> Interest {
        self.interest.clone()
    }

    fn start(self: Box<Self>, deps: SinkDeps) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(self.build(deps)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_hooks() {
        struct Case(&'static str, Option<(&'static str, &'static str)>);
        let cases = [
            Case("https://hooks.plant7/vedette", Some(("hooks.plant7:443", "/vedette"))),
            Case("https://hooks.plant7:8443", Some(("hooks.plant7:8443", "/"))),
            Case("https://[::1]:8443/a?key=hunter2#x", Some(("[::1]:8443", "/a?key=hunter2"))),
            Case("http://hooks.plant7/vedette", None),
            Case("https://me:hunter2@hooks.plant7/", None),
            Case("hooks.plant7", None),
        ];
        for Case(text, expected) in cases {
            let hook = Hook::parse(text);
            let parts = hook.as_ref().ok().map(|h| (h.to_string(), h.target.reveal().to_owned()));
            assert_eq!(parts, expected.map(|(at, to)| (at.to_owned(), to.to_owned())), "{text}");
            assert!(!format!("{hook:?}").contains("hunter2"), "{hook:?}");
        }
        let error = Hook::parse("https://me:hunter2@h/").unwrap_err().to_string();
        assert!(error.contains("https://HOST") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_token_is_a_header_or_refused() {
        assert_eq!(bearer(&Secret::new("hunter2")).unwrap(), "Bearer hunter2");
        assert!(!format!("{:?}", bearer(&Secret::new("hunter2"))).contains("hunter2"));
        assert!(bearer(&Secret::new("two\nlines")).is_none());
        assert!(bearer(&Secret::new("schlüssel")).is_none());
    }
}
