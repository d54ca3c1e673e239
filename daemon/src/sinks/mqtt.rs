//! One broker: its settings, and the handle of the worker that serves it.
//!
//! Owns: settings, starting and stopping. Does not know: packets (`link`), what is sent when (`session`,
//! `sparkplug`).

mod conversation;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod link;
mod pace;
mod plain;
mod requests;
#[cfg(any(test, fuzzing))]
mod rig;
mod session;
mod sparkplug;
mod worker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vedette_core::{Name, Secret, Span};

pub use requests::Asked;

use super::running::{RunningSink, Status};
use super::{Replay, Sink, SinkConfig, SinkDeps, tls};
use crate::config::MqttVersion;
use crate::wire::{self, Dialect, Interest};

/// Where a broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or IP address; IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the connection is encrypted, and the broker's certificate checked.
    pub tls: bool,
    /// The path of a web socket, with its slash; none: MQTT over the bare connection.
    pub path: Option<String>,
}

impl Address {
    /// The broker inside the daemon.
    pub fn embedded(at: SocketAddr) -> Self {
        Self { host: at.ip().to_string(), port: at.port(), tls: false, path: None }
    }

    /// Reads `mqtt://HOST[:1883]`, `mqtts://HOST[:8883]`, `ws://HOST[:80][/mqtt]` or `wss://HOST[:443][/mqtt]`.
    ///
    /// # Errors
    /// Another scheme, or no host.
    pub fn parse(text: &str) -> Result<Self, SinkError> {
        let wrong = || SinkError::Url(vedette_core::secret::redacted(text));
        let url = url::Url::parse(text).map_err(|_| wrong())?;
        let (tls, port, web) = match url.scheme() {
            "mqtt" => (false, 1883, false),
            "mqtts" => (true, 8883, false),
            "ws" => (false, 80, true),
            "wss" => (true, 443, true),
            _ => return Err(wrong()),
        };
        let host = url.host_str().filter(|h| !h.is_empty()).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        // Where brokers listen unless told otherwise.
        let path = web.then(|| if url.path().len() > 1 { url.path() } else { "/mqtt" }.to_owned());
        Ok(Self { host, port: url.port().unwrap_or(port), tls, path })
    }
}

/// Why a sink's settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Not a broker's URL.
    #[error(
        "`{0}` is not a broker's URL: write mqtt://HOST, mqtts://HOST, ws://HOST, wss://HOST or embedded"
    )]
    Url(String),
    /// Not a webhook's URL.
    #[error("`{0}` is not a webhook's URL: write https://HOST/PATH, and a token into vedette.secrets")]
    Hook(String),
    /// A webhook's token that cannot be sent.
    #[error(
        "webhook {0}: its token cannot stand in a header: use visible ASCII characters ([webhook.{0}] in vedette.secrets)"
    )]
    Token(Name),
    /// A dialect that does not exist.
    #[error("broker {broker}: no dialect `{dialect}`; there are: {known}", known = known_dialects())]
    Dialect {
        /// Whose.
        broker: Name,
        /// What was asked for.
        dialect: String,
    },
    /// Settings of a dialect that cannot be used.
    #[error("broker {broker}: {reason}")]
    Settings {
        /// Whose.
        broker: Name,
        /// The key that is wrong, and why.
        reason: String,
    },
    /// A prefix that cannot stand in a topic.
    #[error(
        "broker {broker}: prefix `{prefix}` cannot begin a topic: use levels without + # and $, such as site/area"
    )]
    Prefix {
        /// Whose.
        broker: Name,
        /// What was asked for.
        prefix: String,
    },
}

fn known_dialects() -> String {
    wire::DIALECTS.iter().map(|d| d.name).collect::<Vec<_>>().join(", ")
}

/// The settings of one connection to a broker.
#[derive(Clone, Debug)]
pub struct MqttConfig {
    /// Its name: the broker's in the configuration, with the dialect behind it for connections beside the first.
    pub id: Name,
    /// Where it is.
    pub address: Address,
    /// Which MQTT it speaks; none: 5, or 3.1.1 where the broker does not know that.
    pub version: Option<MqttVersion>,
    /// First levels of every topic. Default `vedette`.
    pub prefix: String,
    /// Which wire schemas it gets. Default `vedette`.
    pub dialects: Vec<Arc<dyn Dialect>>,
    /// Who the daemon is.
    pub user: Option<String>,
    /// And how it proves it.
    pub password: Option<Secret>,
    /// Certificates to trust (PEM), instead of the system's. Read at every connection, so that they may be renewed.
    pub ca: Option<PathBuf>,
    /// The daemon's own certificate (PEM) and
    pub client_certificate: Option<PathBuf>,
    /// its key (PEM); both or none.
    pub client_key: Option<PathBuf>,
    /// MQTT client identifier; one session of a name at a time. Default `vedette-<node>`.
    pub client_id: String,
    /// Longest silence before the broker is asked whether it is there; at least 5 s. Default 30 s.
    pub keep_alive: Span,
    /// Whether the broker is asked to acknowledge (QoS 1). Without (QoS 0) an event counts as delivered when it is
    /// written. Default true.
    pub acknowledged: bool,
    /// Events a second that are sent at most while there is a backlog, so that the broker can keep up with its
    /// subscribers. Default 200.
    pub replay_per_second: u32,
    /// In which order what waits is sent. Default: as it was produced.
    pub replay: Replay,
    /// How long events are of use. Default: for ever.
    pub expiry: Expiry,
    /// Verbs that the broker's clients may ask for. Default: none.
    pub commands: Vec<String>,
    /// Which events it gets. Default: all.
    pub interest: Interest,
}

/// How long events are of use to a subscriber that is away: MQTT 5's message expiry.
#[derive(Clone, Debug, Default)]
pub struct Expiry {
    /// Of every kind; none: for ever.
    pub every: Option<Duration>,
    /// Of single kinds.
    pub by_kind: BTreeMap<String, Duration>,
}

impl Expiry {
    /// Of events of this kind.
    fn of(&self, kind: &str) -> Option<Duration> {
        self.by_kind.get(kind).copied().or(self.every)
    }
}

impl MqttConfig {
    /// The defaults, for a broker at `address`.
    pub fn new(id: Name, address: Address, node: &Name) -> Self {
        Self {
            id,
            address,
            version: None,
            prefix: "vedette".to_owned(),
            dialects: vec![Arc::new(wire::vedette::Vedette)],
            user: None,
            password: None,
            ca: None,
            client_certificate: None,
            client_key: None,
            client_id: format!("vedette-{node}"),
            keep_alive: Span::secs(30),
            acknowledged: true,
            replay_per_second: 200,
            replay: Replay::default(),
            expiry: Expiry::default(),
            commands: Vec::new(),
            interest: Interest::default(),
        }
    }

    /// Starts the worker; never waits for the broker.
    ///
    /// # Errors
    /// A prefix that cannot stand in a topic.
    pub fn build(self, deps: SinkDeps) -> Result<RunningSink, SinkError> {
        let wrong = |level: &str| level.is_empty() || level.contains(['+', '#', '\0']);
        if self.prefix.starts_with('$') || self.prefix.split('/').any(wrong) {
            return Err(SinkError::Prefix { broker: self.id, prefix: self.prefix });
        }
        let (id, start) = (self.id.clone(), deps.clone());
        Ok(RunningSink::start("broker", id, &start, |status, stopped| {
            worker::Worker::new(self, deps, status, stopped).run()
        }))
    }
}

impl SinkConfig for MqttConfig {
    fn id(&self) -> &Name {
        &self.id
    }

    fn dialects(&self) -> Vec<Arc<dyn Dialect>> {
        self.dialects.clone()
    }

    fn interest(&self) -> Interest {
        self.interest.clone()
    }

    fn start(self: Box<Self>, deps: SinkDeps) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(self.build(deps)?))
    }
}

/// The dialects of a broker, made of its settings, with those that they need.
///
/// # Errors
/// A name that no dialect has, settings that one of them refuses.
pub fn dialects(
    broker: &Name,
    names: &[String],
    settings: &wire::Settings,
) -> Result<Vec<Arc<dyn Dialect>>, SinkError> {
    let build = |name: &str| {
        let unknown = || SinkError::Dialect { broker: broker.clone(), dialect: name.to_owned() };
        let kind = wire::dialect(name).ok_or_else(unknown)?;
        (kind.build)(settings).map_err(|reason| SinkError::Settings { broker: broker.clone(), reason })
    };
    let mut all = names.iter().map(|name| build(name)).collect::<Result<Vec<_>, _>>()?;
    for needed in all.iter().flat_map(|d| d.needs()).copied().collect::<Vec<_>>() {
        if all.iter().all(|d| d.name() != needed) {
            all.push(build(needed)?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_addresses() {
        struct Case(&'static str, Option<(&'static str, u16, bool)>);
        let cases = [
            Case("mqtt://broker.plant7", Some(("broker.plant7", 1883, false))),
            Case("mqtts://broker.plant7", Some(("broker.plant7", 8883, true))),
            Case("mqtt://10.0.0.5:1884", Some(("10.0.0.5", 1884, false))),
            Case("mqtt://[::1]:1884", Some(("::1", 1884, false))),
            Case("wss://broker.plant7", Some(("broker.plant7", 443, true))),
            Case("ws://broker.plant7:8083/broker", Some(("broker.plant7", 8083, false))),
            Case("http://broker", None),
            Case("broker:1883", None),
            Case("mqtt://", None),
        ];
        for Case(text, expected) in cases {
            let address = Address::parse(text).ok();
            assert_eq!(address.as_ref().map(|a| (a.host.as_str(), a.port, a.tls)), expected, "{text}");
        }
    }

    #[test]
    fn web_sockets_have_a_path() {
        let path = |text| Address::parse(text).unwrap().path;
        assert_eq!(path("ws://h"), Some("/mqtt".to_owned()));
        assert_eq!(path("wss://h/broker/mqtt"), Some("/broker/mqtt".to_owned()));
        assert_eq!(path("mqtt://h"), None);
    }

    #[test]
    fn a_dialect_brings_those_that_it_needs_once() {
        let broker = Name::new("factory").unwrap();
        let names = |asked: &[&str]| {
            let asked: Vec<_> = asked.iter().map(|&name| name.to_owned()).collect();
            let all = dialects(&broker, &asked, &wire::Settings::default()).unwrap();
            all.iter().map(|d| d.name()).collect::<Vec<_>>()
        };
        assert_eq!(names(&["homeassistant"]), ["homeassistant", "vedette"]);
        assert_eq!(names(&["vedette", "homeassistant"]), ["vedette", "homeassistant"]);
        assert_eq!(names(&["frigate"]), ["frigate"]);
    }

    #[test]
    fn errors_say_what_would_have_been_right() {
        let broker = Name::new("factory").unwrap();
        let error = SinkError::Dialect { broker, dialect: "morse".to_owned() };
        let text = error.to_string();
        assert!(text.starts_with("broker factory: no dialect `morse`; there are: vedette"), "{text}");
        assert!(!Address::parse("http://me:secret@h").unwrap_err().to_string().contains("secret"));
    }
}
