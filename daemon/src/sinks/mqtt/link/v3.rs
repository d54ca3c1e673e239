//! MQTT 3.1.1: no reasons, no properties.

use rumqttc::{
    AsyncClient, ConnectReturnCode as C, ConnectionError as E, Event, Outgoing, Packet, QoS, StateError as S,
};

use super::{Happened, Inner, Limits, LinkError, PACKET_IDS, PACKET_MAX, Publish, REQUESTS, Ready, Received};
use super::{Sender, Taken, io_error, network, tls_error};

pub(super) fn open(ready: Ready) -> (Sender, Inner) {
    let Ready { host, port, client_id, transport, keep_alive, login, will } = ready;
    let mut options = rumqttc::MqttOptions::new(client_id, host, port);
    options
        .set_transport(transport)
        .set_keep_alive(keep_alive)
        .set_inflight(PACKET_IDS)
        .set_max_packet_size(PACKET_MAX as usize, PACKET_MAX as usize);
    if let Some(Publish { topic, payload: message, retained: retain, .. }) = will {
        options.set_last_will(rumqttc::LastWill { topic, message, qos: QoS::AtLeastOnce, retain });
    }
    if let Some((user, password)) = login {
        options.set_credentials(user, password);
    }
    let (client, mut events) = AsyncClient::new(options, REQUESTS);
    events.set_network_options(network());
    (Sender::V3(client), Inner::V3(Box::new(events)))
}

pub(super) fn publish(client: &AsyncClient, publish: Publish) -> bool {
    let Publish { topic, payload, retained, answered, properties: _ } = publish;
    let qos = if answered { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    client.try_publish(topic, qos, retained, payload).is_ok()
}

pub(super) fn happened(event: Event) -> Happened {
    match event {
        Event::Incoming(Packet::ConnAck(_)) => Happened::Connected(Limits::default()),
        Event::Incoming(Packet::PubAck(ack)) => Happened::Answered(ack.pkid, Ok(Taken::Yes)),
        Event::Incoming(Packet::Publish(publish)) => Happened::Received(Received {
            topic: publish.topic,
            payload: publish.payload,
            retained: publish.retain,
            ..Received::default()
        }),
        Event::Incoming(Packet::SubAck(ack)) => {
            let refused = ack.return_codes.contains(&rumqttc::SubscribeReasonCode::Failure);
            Happened::Subscribed(refused.then(|| "no reason given".to_owned()))
        }
        Event::Incoming(Packet::PingResp) => Happened::Ponged,
        Event::Outgoing(Outgoing::PingReq) => Happened::Pinged,
        Event::Outgoing(Outgoing::Publish(pkid)) => Happened::Sent(pkid),
        Event::Outgoing(Outgoing::Disconnect) => Happened::Farewell,
        _ => Happened::Nothing,
    }
}

pub(super) fn error(broker: &vedette_core::Name, address: &str, error: &E) -> LinkError {
    match error {
        E::ConnectionRefused(C::BadUserNamePassword | C::NotAuthorized) => LinkError::Login(broker.clone()),
        E::ConnectionRefused(C::RefusedProtocolVersion) => LinkError::Version("3.1.1"),
        E::MqttState(S::Deserialization(_)) | E::NotConnAck(_) => {
            LinkError::Garbled(address.to_owned(), "3.1.1")
        }
        E::MqttState(S::ConnectionAborted) => LinkError::HungUp(address.to_owned()),
        E::ConnectionRefused(code) => LinkError::Refused(format!("{code:?}")),
        E::NetworkTimeout | E::FlushTimeout => LinkError::Timeout(address.to_owned()),
        E::Tls(error) => tls_error(address, error),
        E::Io(error) => io_error(address, error),
        other => LinkError::Lost(other.to_string()),
    }
}
