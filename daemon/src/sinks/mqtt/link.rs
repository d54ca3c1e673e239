//! One connection in either version of MQTT, told apart nowhere else.
//!
//! Owns: rumqttc's two clients. Does not know: what is sent, and what happens after a disconnect: rumqttc's own
//! re-sending is never used, since a link lives for one connection only.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::{TlsConfiguration, Transport, v5};

use super::MqttConfig;
use super::tls::{self, TlsError};
use crate::config::MqttVersion;

/// Packet ids in use. rumqttc gives them in a circle and stops at one that is still unanswered, so the circle is wide.
const PACKET_IDS: u16 = 1024;

/// Room for a window, the farewell and what is published at QoS 0.
const REQUESTS: usize = 64;

/// Nobody sends us large packets, and our largest are statistics.
const PACKET_MAX: u32 = 1 << 20;

/// How long connecting may take, name look-up and TLS included.
const CONNECT: u64 = 10;

/// What is published.
#[derive(Clone, Debug)]
pub(super) struct Publish {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) retained: bool,
}

/// What happened on the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Happened {
    Connected,
    /// The next publish in the order of handing over is on its way under this packet id.
    Sent(u16),
    /// The broker answered; `Err` carries its reason in words and whether it is about the message itself.
    Answered(u16, Result<(), Refusal>),
    /// Our DISCONNECT is written.
    Farewell,
    Nothing,
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
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("its certificate is not to be trusted ({0}); check `ca` and the host name in its URL")]
    Certificate(String),
    #[error("no answer from {0}")]
    Timeout(String),
    #[error("{0}")]
    Lost(String),
}

/// The sending half.
pub(super) enum Sender {
    V3(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// The half that moves bytes. Its `poll` is not to be dropped half-way: a publish could be lost between queue and
/// socket.
pub(super) struct Poller {
    broker: vedette_core::Name,
    address: String,
    inner: Inner,
}

enum Inner {
    V3(Box<rumqttc::EventLoop>),
    V5(Box<v5::EventLoop>),
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
pub(super) fn open(config: &MqttConfig, will: Option<Publish>) -> Result<(Sender, Poller), LinkError> {
    let transport = match config.address.tls {
        true => Transport::tls_with_config(TlsConfiguration::Rustls(tls::settings(config)?)),
        false => Transport::tcp(),
    };
    // rumqttc joins host and port with a colon; its TLS needs the bare address.
    let ip6 = config.address.host.contains(':') && !config.address.tls;
    let login = config.user.clone().map(|user| {
        let password = config.password.as_ref().map_or("", |p| p.reveal());
        (user, password.to_owned())
    });
    let ready = Ready {
        host: if ip6 { format!("[{}]", config.address.host) } else { config.address.host.clone() },
        port: config.address.port,
        client_id: config.client_id.clone(),
        transport,
        // Shorter ones panic in rumqttc.
        keep_alive: config.keep_alive.0.max(Duration::from_secs(5)),
        login,
        will,
    };
    let (sender, inner) = match config.version {
        MqttVersion::V311 => open_v3(ready),
        MqttVersion::V5 => open_v5(ready),
    };
    let address = format!("{}:{}", config.address.host, config.address.port);
    Ok((sender, Poller { broker: config.id.clone(), address, inner }))
}

fn network() -> rumqttc::NetworkOptions {
    let mut network = rumqttc::NetworkOptions::new();
    network.set_connection_timeout(CONNECT);
    network.set_tcp_nodelay(true);
    network
}

fn open_v3(ready: Ready) -> (Sender, Inner) {
    let Ready { host, port, client_id, transport, keep_alive, login, will } = ready;
    let mut options = rumqttc::MqttOptions::new(client_id, host, port);
    options
        .set_transport(transport)
        .set_keep_alive(keep_alive)
        .set_inflight(PACKET_IDS)
        .set_max_packet_size(PACKET_MAX as usize, PACKET_MAX as usize);
    if let Some(Publish { topic, payload: message, retained: retain }) = will {
        let qos = rumqttc::QoS::AtLeastOnce;
        options.set_last_will(rumqttc::LastWill { topic, message, qos, retain });
    }
    if let Some((user, password)) = login {
        options.set_credentials(user, password);
    }
    let (client, mut events) = rumqttc::AsyncClient::new(options, REQUESTS);
    events.set_network_options(network());
    (Sender::V3(client), Inner::V3(Box::new(events)))
}

fn open_v5(ready: Ready) -> (Sender, Inner) {
    let Ready { host, port, client_id, transport, keep_alive, login, will } = ready;
    let mut options = v5::MqttOptions::new(client_id, host, port);
    options
        .set_transport(transport)
        .set_keep_alive(keep_alive)
        .set_outgoing_inflight_upper_limit(PACKET_IDS)
        .set_connection_timeout(CONNECT)
        .set_network_options(network())
        .set_max_packet_size(Some(PACKET_MAX));
    if let Some(Publish { topic, payload: message, retained: retain }) = will {
        let (qos, topic, properties) = (v5::mqttbytes::QoS::AtLeastOnce, topic.into(), None);
        options.set_last_will(v5::mqttbytes::v5::LastWill { topic, message, qos, retain, properties });
    }
    if let Some((user, password)) = login {
        options.set_credentials(user, password);
    }
    let (client, events) = v5::AsyncClient::new(options, REQUESTS);
    (Sender::V5(client), Inner::V5(Box::new(events)))
}

impl Sender {
    /// Hands a publish over, at QoS 1; false where there is no room.
    pub(super) fn publish(&self, publish: Publish) -> bool {
        let Publish { topic, payload, retained } = publish;
        match self {
            Self::V3(client) => {
                client.try_publish(topic, rumqttc::QoS::AtLeastOnce, retained, payload).is_ok()
            }
            Self::V5(client) => {
                let properties = v5::mqttbytes::v5::PublishProperties {
                    payload_format_indicator: Some(1),
                    content_type: (!payload.is_empty()).then(|| "application/json".to_owned()),
                    ..Default::default()
                };
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                client.try_publish_with_properties(topic, qos, retained, payload, properties).is_ok()
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
                Ok(event) => Ok(happened_v3(&event)),
                Err(error) => Err(error_v3(&self.broker, &self.address, &error)),
            },
            Inner::V5(events) => match events.poll().await {
                Ok(event) => Ok(happened_v5(&event)),
                Err(error) => Err(error_v5(&self.broker, &self.address, &error)),
            },
        }
    }
}

fn happened_v3(event: &rumqttc::Event) -> Happened {
    use rumqttc::{Event, Outgoing, Packet};
    match event {
        Event::Incoming(Packet::ConnAck(_)) => Happened::Connected,
        Event::Incoming(Packet::PubAck(ack)) => Happened::Answered(ack.pkid, Ok(())),
        Event::Outgoing(Outgoing::Publish(pkid)) => Happened::Sent(*pkid),
        Event::Outgoing(Outgoing::Disconnect) => Happened::Farewell,
        _ => Happened::Nothing,
    }
}

fn happened_v5(event: &v5::Event) -> Happened {
    use rumqttc::Outgoing;
    use v5::mqttbytes::v5::Packet;
    match event {
        v5::Event::Incoming(Packet::ConnAck(_)) => Happened::Connected,
        v5::Event::Incoming(Packet::PubAck(ack)) => Happened::Answered(ack.pkid, answer(ack.reason)),
        v5::Event::Outgoing(Outgoing::Publish(pkid)) => Happened::Sent(*pkid),
        v5::Event::Outgoing(Outgoing::Disconnect) => Happened::Farewell,
        _ => Happened::Nothing,
    }
}

/// MQTT 5, table 3-5: below 0x80 the broker has taken the message (0x10: and nobody subscribes).
fn answer(reason: v5::mqttbytes::v5::PubAckReason) -> Result<(), Refusal> {
    use v5::mqttbytes::v5::PubAckReason as R;
    let (reason, for_good) = match reason {
        R::Success | R::NoMatchingSubscribers => return Ok(()),
        R::UnspecifiedError => ("0x80, no reason given", false),
        R::ImplementationSpecificError => ("0x83, it cannot take it now", false),
        R::NotAuthorized => ("0x87, this user may not publish there; check the broker's access list", false),
        R::TopicNameInvalid => ("0x90, it does not accept the topic", true),
        R::PacketIdentifierInUse => ("0x91, packet identifier in use", false),
        R::QuotaExceeded => ("0x97, a quota is exceeded; check the broker's limits", false),
        R::PayloadFormatInvalid => ("0x99, it does not accept the payload", true),
    };
    Err(Refusal { reason, for_good })
}

fn error_v3(broker: &vedette_core::Name, address: &str, error: &rumqttc::ConnectionError) -> LinkError {
    use rumqttc::{ConnectReturnCode as C, ConnectionError as E};
    match error {
        E::ConnectionRefused(C::BadUserNamePassword | C::NotAuthorized) => LinkError::Login(broker.clone()),
        E::ConnectionRefused(C::RefusedProtocolVersion) => {
            LinkError::Refused("it does not speak MQTT 3.1.1".to_owned())
        }
        E::ConnectionRefused(code) => LinkError::Refused(format!("{code:?}")),
        E::NetworkTimeout | E::FlushTimeout => LinkError::Timeout(address.to_owned()),
        E::Tls(error) => tls_error(address, error),
        E::Io(error) => io_error(address, error),
        other => LinkError::Lost(other.to_string()),
    }
}

fn error_v5(broker: &vedette_core::Name, address: &str, error: &v5::ConnectionError) -> LinkError {
    use v5::ConnectionError as E;
    use v5::mqttbytes::v5::ConnectReturnCode as C;
    match error {
        E::ConnectionRefused(C::BadUserNamePassword | C::NotAuthorized | C::BadAuthenticationMethod) => {
            LinkError::Login(broker.clone())
        }
        E::ConnectionRefused(C::RefusedProtocolVersion | C::UnsupportedProtocolVersion) => {
            LinkError::Refused("it does not speak MQTT 5; set `version` to 3.1.1".to_owned())
        }
        E::ConnectionRefused(code) => LinkError::Refused(format!("{code:?}")),
        E::Timeout(_) => LinkError::Timeout(address.to_owned()),
        E::Tls(error) => tls_error(address, error),
        E::Io(error) => io_error(address, error),
        other => LinkError::Lost(other.to_string()),
    }
}

/// A failed handshake reaches us as an I/O error around rustls' own.
fn io_error(address: &str, error: &std::io::Error) -> LinkError {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => LinkError::Certificate(why.to_string()),
        Some(other) => LinkError::Lost(format!("{address}: TLS: {other}")),
        None => LinkError::Lost(format!("{address}: {error}")),
    }
}

fn tls_error(address: &str, error: &rumqttc::TlsError) -> LinkError {
    match error {
        rumqttc::TlsError::Io(error) => io_error(address, error),
        rumqttc::TlsError::TLS(rustls::Error::InvalidCertificate(why)) => {
            LinkError::Certificate(why.to_string())
        }
        other => LinkError::Lost(format!("{address}: {other}")),
    }
}
