//! MQTT 3.1.1: no reasons, no properties.

use rumqttc::{
    AsyncClient, ConnectReturnCode as C, ConnectionError as E, Event, Outgoing, Packet, QoS, StateError as S,
};

use super::{Happened, Inner, Limits, LinkError, PACKET_IDS, PACKET_MAX, Publish, REQUESTS, Ready, Received};
use super::{Sender, Taken, Whom, network};

pub(super) fn open(ready: Ready) -> (Sender, Inner) {
    let Ready { host, port, client_id, transport, keep_alive, login, will } = ready;
    let mut options = rumqttc::MqttOptions::new(client_id, host, port);
    options
        .set_transport(transport)
        .set_keep_alive(keep_alive)
        .set_inflight(PACKET_IDS)
        // What we send is bounded where it is written; a limit here would end each connection at the same event.
        .set_max_packet_size(PACKET_MAX as usize, usize::MAX);
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

pub(super) fn error(whom: &Whom, error: &E) -> LinkError {
    match error {
        E::ConnectionRefused(code) => refused(whom, *code),
        E::MqttState(S::Deserialization(rumqttc::Error::Io(error))) => whom.read_error(error),
        E::MqttState(S::Deserialization(_)) | E::NotConnAck(_) => LinkError::Garbled(whom.address(), "3.1.1"),
        E::MqttState(S::ConnectionAborted) => LinkError::HungUp(whom.address()),
        E::NetworkTimeout | E::FlushTimeout => LinkError::Timeout(whom.address()),
        E::Tls(error) => whom.tls_error(error),
        E::Io(error) | E::MqttState(S::Io(error)) => whom.io_error(error),
        other => LinkError::Lost(other.to_string()),
    }
}

/// MQTT 3.1.1, table 3.1.
fn refused(whom: &Whom, code: C) -> LinkError {
    let refused = |words: &str| LinkError::Refused(words.to_owned());
    match code {
        C::BadUserNamePassword | C::NotAuthorized => LinkError::Login(whom.broker.clone()),
        C::RefusedProtocolVersion => LinkError::Version("3.1.1"),
        C::BadClientId => refused("2, it does not accept the client id; set `client_id`"),
        C::ServiceUnavailable => LinkError::Busy("it is not available now (3)".to_owned()),
        C::Success => refused("no reason given"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{WHOM, whom};
    use super::*;

    #[test]
    fn each_refusal_has_its_class_and_its_words() {
        for (code, passes, words) in [
            (C::RefusedProtocolVersion, false, "does not speak MQTT 3.1.1"),
            (C::BadClientId, false, "set `client_id`"),
            (C::ServiceUnavailable, true, "not available now"),
            (C::BadUserNamePassword, false, "[broker.factory] in vedette.secrets"),
            (C::NotAuthorized, false, "[broker.factory] in vedette.secrets"),
        ] {
            let error = error(&whom(), &E::ConnectionRefused(code));
            assert!(error.passes() == passes && error.to_string().contains(words), "{code:?}: {error}");
        }
        let hung_up = error(&whom(), &E::MqttState(S::ConnectionAborted));
        assert_eq!(hung_up.to_string(), format!("{WHOM} closed the connection"));
    }
}
