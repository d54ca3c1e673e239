//! MQTT 5: reasons and properties.

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode as C, LastWill, LastWillProperties, Packet, PubAckReason, PublishProperties,
    SubAck, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError as E, Event, MqttOptions, StateError as S};

use super::{CONNECT, Happened, Inner, Limits, LinkError, PACKET_IDS, PACKET_MAX, Publish, REQUESTS, Ready};
use super::{Received, Refusal, Sender, Taken, WILL_DELAY, io_error, network, tls_error};

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

pub(super) fn error(broker: &vedette_core::Name, address: &str, error: &E) -> LinkError {
    match error {
        E::ConnectionRefused(C::BadUserNamePassword | C::NotAuthorized | C::BadAuthenticationMethod) => {
            LinkError::Login(broker.clone())
        }
        E::ConnectionRefused(C::RefusedProtocolVersion | C::UnsupportedProtocolVersion) => {
            LinkError::Version("5")
        }
        E::MqttState(S::Deserialization(_)) | E::NotConnAck(_) => LinkError::Garbled(address.to_owned(), "5"),
        E::MqttState(S::ConnectionAborted) => LinkError::HungUp(address.to_owned()),
        E::ConnectionRefused(code) => LinkError::Refused(format!("{code:?}")),
        E::Timeout(_) => LinkError::Timeout(address.to_owned()),
        E::Tls(error) => tls_error(address, error),
        E::Io(error) => io_error(address, error),
        other => LinkError::Lost(other.to_string()),
    }
}
