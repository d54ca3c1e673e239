//! One connection in either version of MQTT, told apart nowhere else.
//!
//! Owns: rumqttc's two clients. Does not know: what is sent, and what happens after a disconnect: rumqttc's own
//! re-sending is never used, since a link lives for one connection only.

mod v3;
mod v5;

use std::io::ErrorKind as Kind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{TlsConfiguration, Transport};

use super::tls::{self, Failure, Peer, TlsError};
use super::{Address, MqttConfig};
use crate::config::MqttVersion;

/// Packet ids in use. rumqttc gives them in a circle and stops at one that is still unanswered, so the circle is wide;
/// a broker's Receive Maximum makes it narrower.
pub(super) const PACKET_IDS: u16 = 1024;

/// Room for a window, the farewell and what is published at QoS 0.
const REQUESTS: usize = 64;

/// Bytes of a PUBLISH beside topic, payload and user properties, more than enough.
const OVERHEAD: usize = 128;

/// Of packets that come: nobody sends us large ones.
const PACKET_MAX: u32 = 1 << 20;

/// How long connecting may take, name look-up and TLS included.
const CONNECT: u64 = 10;

/// How long a broker that is busy is left alone. MQTT 5 has no Retry-After; one that counts connections starts over
/// with every attempt.
const BUSY: Duration = Duration::from_secs(5);

/// Before a broker publishes the will, where it can wait: a blip of the network makes nobody `offline`.
const WILL_DELAY: Duration = Duration::from_secs(5);

/// What is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) retained: bool,
    /// Whether the broker answers (QoS 1) or not (QoS 0).
    pub(super) answered: bool,
    /// What only MQTT 5 has words for.
    pub(super) properties: Properties,
}

/// Of a publish in MQTT 5.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Properties {
    pub(super) content_type: Option<String>,
    pub(super) expiry: Option<Duration>,
    pub(super) user: Vec<(String, String)>,
    pub(super) correlation: Option<Bytes>,
}

impl Properties {
    /// Whether the payload is text, by its content type.
    fn is_text(&self) -> bool {
        self.content_type.as_deref().is_some_and(|of| of.contains("json") || of.starts_with("text/"))
    }
}

/// A message on one of our subscriptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    /// Whether it is the topic's kept value: said some time ago.
    pub(super) retained: bool,
    /// Where whoever asks wants the answer.
    pub(super) response: Option<String>,
    pub(super) correlation: Option<Bytes>,
}

/// What a broker bears, as it said when it accepted the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Publishes without an answer.
    pub(super) receive_maximum: u16,
    /// Bytes of a packet.
    pub(super) packet: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { receive_maximum: u16::MAX, packet: None }
    }
}

impl Limits {
    /// Whether the broker takes a packet of this size instead of hanging up.
    pub(super) fn bear(&self, what: &Publish) -> bool {
        let user = what.properties.user.iter().map(|(key, value)| key.len() + value.len() + 5);
        let bytes = what.topic.len() + what.payload.len() + user.sum::<usize>() + OVERHEAD;
        self.packet.is_none_or(|limit| bytes <= limit as usize)
    }
}

/// What happened on the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Happened {
    Connected(Limits),
    /// The next publish in the order of handing over is on its way under this packet id; 0: it is not answered.
    Sent(u16),
    /// The broker answered; `Err` carries its reason in words and whether it is about the message itself.
    Answered(u16, Result<Taken, Refusal>),
    /// Somebody published on a subscription.
    Received(Received),
    /// The broker answered a subscription, in the order of asking; with its reason where it refuses.
    Subscribed(Option<String>),
    /// A PINGREQ is on its way.
    Pinged,
    /// … and was answered.
    Ponged,
    /// Our DISCONNECT is written.
    Farewell,
    Nothing,
}

/// A PUBACK with a reason code below 0x80.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// 0x00.
    Yes,
    /// 0x10: and nobody subscribes to the topic.
    NobodyListens,
}

/// A PUBACK with a reason code of 0x80 or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    /// The same message will be refused again, whatever the broker's administrator does.
    pub(super) for_good: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("refused the user name or password; check [broker.{0}] in vedette.secrets")]
    Login(vedette_core::Name),
    #[error("refused the connection: {0}")]
    Refused(String),
    #[error("does not speak MQTT {0}; leave `version` out to let the daemon find out what it speaks")]
    Version(&'static str),
    #[error("{0} answers something that is not MQTT {1}; check the port in its URL")]
    Garbled(String, &'static str),
    #[error("{0} closed the connection")]
    HungUp(String),
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// By one side of the TLS handshake; with the remedy.
    #[error("{0}")]
    Handshake(String),
    /// It may have done with us later.
    #[error("{0}")]
    Busy(String),
    #[error("no answer from {0}")]
    Timeout(String),
    #[error("{0}")]
    Lost(String),
    /// Not a byte of ours has arrived.
    #[error("{0}")]
    NotReached(String),
    /// The connection was good, and ended by us.
    #[error("{0}")]
    Left(String),
}

impl LinkError {
    /// Whether it passes by itself.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Busy(_)
            | Self::Lost(_)
            | Self::HungUp(_)
            | Self::Timeout(_)
            | Self::NotReached(_)
            | Self::Left(_) => true,
            Self::Login(_)
            | Self::Refused(_)
            | Self::Version(_)
            | Self::Garbled(..)
            | Self::Tls(_)
            | Self::Handshake(_) => false,
        }
    }

    /// How long to wait before the next attempt, at least: a broker that asks for time gets some.
    pub(super) fn patience(&self) -> Duration {
        if matches!(self, Self::Busy(_)) { BUSY } else { Duration::ZERO }
    }

    /// Whether this may be how a broker of another version answers a CONNECT.
    pub(super) fn may_be_version(&self) -> bool {
        matches!(self, Self::Version(_) | Self::Garbled(..) | Self::HungUp(_))
    }
}

/// The sending half.
pub(super) enum Sender {
    V3(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

/// The half that moves bytes. Its `poll` is not to be dropped half-way: a publish could be lost between queue and
/// socket.
pub(super) struct Poller {
    whom: Whom,
    inner: Inner,
}

/// Who is connected to, for errors.
struct Whom {
    broker: vedette_core::Name,
    peer: Peer,
    tls: bool,
}

enum Inner {
    V3(Box<rumqttc::EventLoop>),
    V5(Box<rumqttc::v5::EventLoop>),
}

/// What both versions need, made ready.
struct Ready {
    host: String,
    port: u16,
    client_id: String,
    transport: Transport,
    keep_alive: Duration,
    login: Option<(String, String)>,
    will: Option<Publish>,
}

/// Prepares a connection; the first [`Poller::poll`] opens it. `will` is what the broker publishes when it ends
/// without farewell.
pub(super) fn open(
    config: &MqttConfig,
    version: MqttVersion,
    will: Option<Publish>,
) -> Result<(Sender, Poller), LinkError> {
    let Address { host, port, tls, path } = &config.address;
    let encryption = || {
        let [ca, certificate, key] = [&config.ca, &config.client_certificate, &config.client_key];
        let settings = tls::settings(ca.as_deref(), certificate.as_deref(), key.as_deref())?;
        Ok::<_, TlsError>(TlsConfiguration::Rustls(Arc::new(settings)))
    };
    let transport = match (tls, path) {
        (true, None) => Transport::tls_with_config(encryption()?),
        (false, None) => Transport::tcp(),
        (true, Some(_)) => Transport::Wss(encryption()?),
        (false, Some(_)) => Transport::Ws,
    };
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let reached = match path {
        // rumqttc takes the whole URL of a web socket in the host's place.
        Some(path) => format!("{}://{bracketed}:{port}{path}", if *tls { "wss" } else { "ws" }),
        // It joins host and port with a colon; its TLS needs the bare address.
        None if *tls => host.clone(),
        None => bracketed,
    };
    let login = config.user.clone().map(|user| {
        let password = config.password.as_ref().map_or("", |p| p.reveal());
        (user, password.to_owned())
    });
    let ready = Ready {
        host: reached,
        port: *port,
        client_id: config.client_id.clone(),
        transport,
        // Shorter ones panic in rumqttc.
        keep_alive: config.keep_alive.0.max(Duration::from_secs(5)),
        login,
        will,
    };
    let (sender, inner) = match version {
        MqttVersion::V311 => v3::open(ready),
        MqttVersion::V5 => v5::open(ready),
    };
    let peer = Peer {
        address: format!("{host}:{port}"),
        host: host.clone(),
        ca: config.ca.clone(),
        shows_certificate: config.client_certificate.is_some(),
        may_show_certificate: true,
    };
    Ok((sender, Poller { whom: Whom { broker: config.id.clone(), peer, tls: *tls }, inner }))
}

fn network() -> rumqttc::NetworkOptions {
    let mut network = rumqttc::NetworkOptions::new();
    network.set_connection_timeout(CONNECT);
    network.set_tcp_nodelay(true);
    network
}

impl Sender {
    /// Hands a publish over; false where there is no room.
    pub(super) fn publish(&self, publish: Publish) -> bool {
        match self {
            Self::V3(client) => v3::publish(client, publish),
            Self::V5(client) => v5::publish(client, publish),
        }
    }

    /// Asks for the messages of a topic filter, at QoS 1; false where there is no room.
    pub(super) fn subscribe(&self, filter: &str) -> bool {
        match self {
            Self::V3(client) => client.try_subscribe(filter, rumqttc::QoS::AtLeastOnce).is_ok(),
            Self::V5(client) => {
                client.try_subscribe(filter, rumqttc::v5::mqttbytes::QoS::AtLeastOnce).is_ok()
            }
        }
    }

    /// Says goodbye after what was handed over; the will is not published then.
    pub(super) fn farewell(&self) -> bool {
        match self {
            Self::V3(client) => client.try_disconnect().is_ok(),
            Self::V5(client) => client.try_disconnect().is_ok(),
        }
    }
}

impl Poller {
    /// The next thing that happens; opens the connection the first time. After an error the link is to be dropped.
    pub(super) async fn poll(&mut self) -> Result<Happened, LinkError> {
        match &mut self.inner {
            Inner::V3(events) => match events.poll().await {
                Ok(event) => Ok(v3::happened(event)),
                Err(error) => Err(v3::error(&self.whom, &error)),
            },
            Inner::V5(events) => match events.poll().await {
                Ok(event) => Ok(v5::happened(event)),
                Err(error) => Err(v5::error(&self.whom, &error)),
            },
        }
    }
}

impl Whom {
    fn address(&self) -> String {
        self.peer.address.clone()
    }

    /// A failed handshake reaches us as an I/O error around rustls' own.
    fn io_error(&self, error: &std::io::Error) -> LinkError {
        if self.tls
            && let Some(failure) = self.peer.io_failure(error)
        {
            return failure.into();
        }
        let line = format!("{}: {error}", self.peer.address);
        match error.kind() {
            Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable => {
                LinkError::NotReached(line)
            }
            _ => LinkError::Lost(line),
        }
    }

    /// TLS 1.3 refuses a client's certificate at the first read. A broker that is not meant for us may hang up so hard
    /// that reading fails.
    fn read_error(&self, error: &std::io::Error) -> LinkError {
        let cut = matches!(error.kind(), Kind::ConnectionReset | Kind::BrokenPipe | Kind::UnexpectedEof);
        match self.peer.io_failure(error) {
            None if cut => LinkError::HungUp(self.address()),
            _ => self.io_error(error),
        }
    }

    fn tls_error(&self, error: &rumqttc::TlsError) -> LinkError {
        match error {
            rumqttc::TlsError::Io(error) => match self.peer.handshake_failure(error) {
                Some(failure) => failure.into(),
                None => self.io_error(error),
            },
            rumqttc::TlsError::TLS(error) => self.peer.failure(error).into(),
            other => LinkError::Lost(format!("{}: {other}", self.peer.address)),
        }
    }
}

impl From<Failure> for LinkError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(line) => Self::Handshake(line),
            Failure::Lost(line) => Self::Lost(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const WHOM: &str = "broker.plant7:8883";

    /// The broker `factory`.
    pub(super) fn whom() -> Whom {
        let broker = vedette_core::Name::new("factory").unwrap();
        let peer = Peer { address: WHOM.to_owned(), host: "broker.plant7".to_owned(), ..Peer::default() };
        Whom { broker, peer, tls: true }
    }
}
