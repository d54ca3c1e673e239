//! MQTT 5: reasons and properties.

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode as C, DisconnectReasonCode as D, LastWill, LastWillProperties, Packet,
    PubAckReason, PublishProperties, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error as BytesError, QoS};
use rumqttc::v5::{AsyncClient, ConnectionError as E, Event, MqttOptions, StateError as S};

use super::{CONNECT, Happened, Inner, Limits, LinkError, PACKET_IDS, PACKET_MAX, Publish, REQUESTS, Ready};
use super::{Received, Refusal, Sender, Taken, WILL_DELAY, Whom, network};

pub(super) fn open(ready: Ready) -> (Sender, Inner) {
    let Ready { host, port, client_id, transport, keep_alive, login, will } = ready;
    let mut options = MqttOptions::new(client_id, host, port);
    options
        .set_transport(transport)
        .set_keep_alive(keep_alive)
        .set_outgoing_inflight_upper_limit(PACKET_IDS)
        .set_connection_timeout(CONNECT)
        .set_network_options(network())
        .set_max_packet_size(Some(PACKET_MAX));
    if let Some(Publish { topic, payload: message, retained: retain, properties: of, .. }) = will {
        // What is retained says how the node is, and a blip of the network changes nothing of that. A death that is told
        // once, as Sparkplug's, is told at once. The session must outlive the delay, or the delay is none.
        let delay = retain.then_some(WILL_DELAY.as_secs() as u32);
        options.set_session_expiry_interval(delay);
        let properties = LastWillProperties {
            delay_interval: delay,
            payload_format_indicator: Some(u8::from(of.is_text())),
            message_expiry_interval: None,
            content_type: of.content_type,
            response_topic: None,
            correlation_data: None,
            user_properties: of.user,
        };
        let (qos, topic, properties) = (QoS::AtLeastOnce, topic.into(), Some(properties));
        options.set_last_will(LastWill { topic, message, qos, retain, properties });
    }
    if let Some((user, password)) = login {
        options.set_credentials(user, password);
    }
    let (client, events) = AsyncClient::new(options, REQUESTS);
    (Sender::V5(client), Inner::V5(Box::new(events)))
}

pub(super) fn publish(client: &AsyncClient, publish: Publish) -> bool {
    let Publish { topic, payload, retained, answered, properties: of } = publish;
    let properties = PublishProperties {
        payload_format_indicator: Some(u8::from(of.is_text())),
        message_expiry_interval: of.expiry.map(|e| u32::try_from(e.as_secs()).unwrap_or(u32::MAX).max(1)),
        content_type: of.content_type.filter(|_| !payload.is_empty()),
        user_properties: of.user,
        correlation_data: of.correlation,
        ..Default::default()
    };
    let qos = if answered { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    client.try_publish_with_properties(topic, qos, retained, payload, properties).is_ok()
}

pub(super) fn happened(event: Event) -> Happened {
    match event {
        Event::Incoming(Packet::ConnAck(ack)) => Happened::Connected(limits(&ack)),
        Event::Incoming(Packet::PubAck(ack)) => Happened::Answered(ack.pkid, answer(ack.reason)),
        Event::Incoming(Packet::Publish(publish)) => {
            let properties = publish.properties.unwrap_or_default();
            Happened::Received(Received {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload,
                retained: publish.retain,
                response: properties.response_topic,
                correlation: properties.correlation_data,
            })
        }
        Event::Incoming(Packet::SubAck(ack)) => subscribed(&ack),
        Event::Incoming(Packet::PingResp(_)) => Happened::Ponged,
        Event::Outgoing(Outgoing::PingReq) => Happened::Pinged,
        Event::Outgoing(Outgoing::Publish(pkid)) => Happened::Sent(pkid),
        Event::Outgoing(Outgoing::Disconnect) => Happened::Farewell,
        _ => Happened::Nothing,
    }
}

fn limits(ack: &ConnAck) -> Limits {
    let properties = ack.properties.as_ref();
    Limits {
        receive_maximum: properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX).max(1),
        packet: properties.and_then(|p| p.max_packet_size),
    }
}

fn subscribed(ack: &SubAck) -> Happened {
    let refused = ack.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
    Happened::Subscribed(refused.map(|code| format!("{code:?}")))
}

/// MQTT 5, table 3-5: below 0x80 the broker has taken the message.
fn answer(reason: PubAckReason) -> Result<Taken, Refusal> {
    use PubAckReason as R;
    let (reason, for_good) = match reason {
        R::Success => return Ok(Taken::Yes),
        R::NoMatchingSubscribers => return Ok(Taken::NobodyListens),
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

pub(super) fn error(whom: &Whom, error: &E) -> LinkError {
    match error {
        E::ConnectionRefused(code) => refused(whom, *code),
        E::MqttState(S::ServerDisconnect { reason_code, .. }) => ended(*reason_code),
        E::MqttState(S::Deserialization(BytesError::Io(error))) => whom.read_error(error),
        E::MqttState(S::Deserialization(_)) | E::NotConnAck(_) => LinkError::Garbled(whom.address(), "5"),
        E::MqttState(S::ConnectionAborted) => LinkError::HungUp(whom.address()),
        E::Timeout(_) => LinkError::Timeout(whom.address()),
        E::Tls(error) => whom.tls_error(error),
        E::Io(error) | E::MqttState(S::Io(error)) => whom.io_error(error),
        other => LinkError::Lost(other.to_string()),
    }
}

/// What a CONNACK of 0x80 or more means: MQTT 5, table 3-1. The codes of 3.1.1 are there as some brokers answer a
/// CONNECT of MQTT 5 with them.
fn refused(whom: &Whom, code: C) -> LinkError {
    let refused = |words: &str| LinkError::Refused(words.to_owned());
    let busy = |words: &str| LinkError::Busy(words.to_owned());
    match code {
        C::BadUserNamePassword | C::NotAuthorized | C::BadAuthenticationMethod => {
            LinkError::Login(whom.broker.clone())
        }
        C::RefusedProtocolVersion | C::UnsupportedProtocolVersion => LinkError::Version("5"),
        C::BadClientId | C::ClientIdentifierNotValid => {
            refused("0x85, it does not accept the client id; set `client_id`")
        }
        C::Banned => refused("0x8A, this client is banned; lift that at the broker"),
        C::UseAnotherServer => refused("0x9C, another server is to be used; put that one into its URL"),
        C::ServerMoved => refused("0x9D, it has moved; put the new place into its URL"),
        C::TopicNameInvalid => refused("0x90, it does not accept the will's topic; check `prefix`"),
        C::PacketTooLarge => refused("0x95, the CONNECT is too large for it; check its limits"),
        C::PayloadFormatInvalid => refused("0x99, it does not accept the will's payload; check its limits"),
        C::RetainNotSupported => refused("0x9A, it keeps no retained messages; enable them there"),
        C::QoSNotSupported => refused("0x9B, it does not take a will of QoS 1; enable that there"),
        C::MalformedPacket => refused("0x81, it does not understand the CONNECT; check its version"),
        C::ProtocolError => refused("0x82, it does not like the CONNECT; check its version"),
        C::ServerBusy => busy("it is busy (0x89)"),
        C::ServerUnavailable | C::ServiceUnavailable => busy("it is not available now (0x88)"),
        C::ConnectionRateExceeded => busy("too many connections in too short a time (0x9F)"),
        C::QuotaExceeded => busy("a quota is exceeded (0x97); check its limits"),
        C::UnspecifiedError => busy("it refuses the connection without a reason (0x80); see its log"),
        C::ImplementationSpecificError => busy("it cannot accept the connection (0x83); see its log"),
        C::Success => refused("no reason given"),
    }
}

/// What a DISCONNECT of the broker means: MQTT 5, table 3-10.
fn ended(code: D) -> LinkError {
    let busy = |words: &str| LinkError::Busy(words.to_owned());
    match code {
        D::SessionTakenOver => LinkError::Refused(
            "0x8E, another client has the same client id; set another `client_id`".to_owned(),
        ),
        D::NotAuthorized => LinkError::Refused("0x87, it takes the permission away; see its log".to_owned()),
        D::UseAnotherServer => {
            LinkError::Refused("0x9C, another server is to be used; put that one into its URL".to_owned())
        }
        D::ServerMoved => LinkError::Refused("0x9D, it has moved; put the new place into its URL".to_owned()),
        D::ServerBusy => busy("it is busy (0x89)"),
        D::ServerShuttingDown => busy("it shuts down (0x8B)"),
        D::ConnectionRateExceeded => busy("too many connections in too short a time (0x9F)"),
        D::MessageRateTooHigh => {
            busy("too many messages in too short a time (0x96); lower `replay_per_second`")
        }
        D::QuotaExceeded => busy("a quota is exceeded (0x97); check its limits"),
        other => LinkError::Lost(format!("it ended the session: 0x{:02X}, {other:?}", other as u8)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::BUSY;
    use super::super::tests::whom;
    use super::*;

    #[test]
    fn each_connack_has_its_class_its_words_and_its_wait() {
        struct Case(C, bool, &'static str);
        let login = "refused the user name or password; check [broker.factory] in vedette.secrets";
        for Case(code, passes, words) in [
            Case(C::UnspecifiedError, true, "0x80"),
            Case(C::MalformedPacket, false, "0x81"),
            Case(C::ProtocolError, false, "0x82"),
            Case(C::ImplementationSpecificError, true, "0x83"),
            Case(C::UnsupportedProtocolVersion, false, "does not speak MQTT 5"),
            Case(
                C::ClientIdentifierNotValid,
                false,
                "0x85, it does not accept the client id; set `client_id`",
            ),
            Case(C::BadUserNamePassword, false, login),
            Case(C::NotAuthorized, false, login),
            Case(C::ServerUnavailable, true, "0x88"),
            Case(C::ServerBusy, true, "it is busy (0x89)"),
            Case(C::Banned, false, "0x8A, this client is banned"),
            Case(C::BadAuthenticationMethod, false, login),
            Case(C::TopicNameInvalid, false, "0x90"),
            Case(C::PacketTooLarge, false, "0x95"),
            Case(C::QuotaExceeded, true, "0x97"),
            Case(C::PayloadFormatInvalid, false, "0x99"),
            Case(C::RetainNotSupported, false, "0x9A"),
            Case(C::QoSNotSupported, false, "0x9B"),
            Case(C::UseAnotherServer, false, "0x9C"),
            Case(C::ServerMoved, false, "0x9D, it has moved; put the new place into its URL"),
            Case(C::ConnectionRateExceeded, true, "0x9F"),
            Case(C::RefusedProtocolVersion, false, "does not speak MQTT 5"),
            Case(C::BadClientId, false, "`client_id`"),
            Case(C::ServiceUnavailable, true, "0x88"),
        ] {
            let error = error(&whom(), &E::ConnectionRefused(code));
            assert!(error.passes() == passes && error.to_string().contains(words), "{code:?}: {error}");
            let busy = matches!(error, LinkError::Busy(_));
            assert_eq!(error.patience(), if busy { BUSY } else { std::time::Duration::ZERO }, "{code:?}");
            let of_version = matches!(code, C::UnsupportedProtocolVersion | C::RefusedProtocolVersion);
            assert_eq!(error.may_be_version(), of_version, "{code:?}");
        }
    }

    #[test]
    fn what_tls_refuses_at_the_first_read_is_told_as_such() {
        let of = |error| error_of(&whom(), error);
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        let demanded = of(std::io::Error::new(std::io::ErrorKind::InvalidData, alert));
        assert!(
            matches!(&demanded, LinkError::Handshake(line) if line.contains("client certificate")),
            "{demanded}"
        );
        assert!(!demanded.may_be_version());
        let reset = of(std::io::ErrorKind::ConnectionReset.into());
        assert!(reset.may_be_version(), "old brokers may refuse MQTT 5 like this: {reset}");
    }

    fn error_of(whom: &Whom, io: std::io::Error) -> LinkError {
        error(whom, &E::MqttState(S::Deserialization(BytesError::Io(io))))
    }

    #[test]
    fn a_session_that_the_broker_ends_says_why() {
        let of = |code| {
            error(&whom(), &E::MqttState(S::ServerDisconnect { reason_code: code, reason_string: None }))
        };
        for (code, passes, words) in [
            (D::SessionTakenOver, false, "another client has the same client id"),
            (D::ServerMoved, false, "0x9D"),
            (D::UseAnotherServer, false, "0x9C"),
            (D::NotAuthorized, false, "0x87"),
            (D::ServerBusy, true, "0x89"),
            (D::ServerShuttingDown, true, "0x8B"),
            (D::MessageRateTooHigh, true, "replay_per_second"),
            (D::KeepAliveTimeout, true, "0x8D, KeepAliveTimeout"),
        ] {
            let error = of(code);
            assert!(error.passes() == passes && error.to_string().contains(words), "{code:?}: {error}");
        }
    }
}
