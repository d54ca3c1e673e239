//! An ordinary MQTT 3.1.1 subscriber: what a backend would see.

use std::time::Duration;

use crossbeam_channel::Sender;
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

use crate::exit::Failure;

/// One message as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) retained: bool,
    pub(super) payload: Vec<u8>,
}

impl Message {
    /// The payload as JSON; null where it is none.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }
}

/// Disconnects when dropped.
pub(super) struct Subscriber(Client);

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.0.disconnect();
    }
}

/// Subscribes to everything of the demo's node on 127.0.0.1:`port`.
pub(super) fn start(port: u16, messages: Sender<Message>) -> Result<Subscriber, Failure> {
    let mut options = MqttOptions::new("vedette-demo-subscriber", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(10));
    let (client, mut connection) = Client::new(options, 64);
    let receive = {
        let client = client.clone();
        move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        let _ = client.try_subscribe("vedette/demo/#", QoS::AtLeastOnce);
                    }
                    Ok(Event::Incoming(Packet::Publish(p))) => {
                        let message =
                            Message { topic: p.topic, retained: p.retain, payload: p.payload.to_vec() };
                        if messages.send(message).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    // The demo's broker lives in this process: when it is gone, the demo is over.
                    Err(_) => return,
                }
            }
        }
    };
    std::thread::Builder::new().name("subscriber".to_owned()).spawn(receive).map_err(Failure::failed)?;
    Ok(Subscriber(client))
}
