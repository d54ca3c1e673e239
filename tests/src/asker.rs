//! A backend that asks the appliance for test alarms, over MQTT 5, and hears what becomes of each.
//!
//! Owns: its connection to a broker that stays. Does not know: where the alarms arrive. An answer with a number is
//! what `Outbox::append` has returned: that event is produced.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
use rumqttc::v5::{Client, Event, MqttOptions};
use serde_json::{Value, json};

/// Beside the appliance's own topics, where it answers nobody.
const REPLIES: &str = "replies/asker";
/// However busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The event is produced, under this number.
    Produced(u64),
    /// So many wait already that nothing was done.
    Busy,
}

/// Ends with the process of the test.
pub struct Asker {
    client: Client,
    topic: String,
    answers: Receiver<Value>,
}

impl Asker {
    /// Connects to 127.0.0.1:`port`, where `node` listens for commands; returns once answers would be heard.
    ///
    /// # Panics
    /// Where the broker does not confirm in time.
    pub fn start(port: u16, node: &str) -> Self {
        let mut options = MqttOptions::new("asker", "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(30));
        let (client, mut connection) = Client::new(options, 256);
        let (tx, answers) = unbounded();
        let (ready, confirmed) = unbounded();
        std::thread::spawn(move || {
            for event in connection.iter() {
                if !hear(event.ok(), &tx, &ready) {
                    return;
                }
            }
        });
        client.subscribe(REPLIES, QoS::AtLeastOnce).expect("a fresh client should take a request");
        confirmed.recv_timeout(PATIENCE).expect("the broker should confirm");
        Self { client, topic: format!("vedette/{node}/command/test_alarm"), answers }
    }

    /// Asks for an alarm on the topic of `camera`; waits for nothing.
    ///
    /// # Panics
    /// Where the connection is gone.
    pub fn ask(&self, camera: &str) {
        let properties = PublishProperties { response_topic: Some(REPLIES.to_owned()), ..Default::default() };
        let request = json!({"camera": camera}).to_string();
        let sent =
            self.client.publish_with_properties(&self.topic, QoS::AtLeastOnce, false, request, properties);
        sent.expect("the broker of commands should stay");
    }

    /// The next answer, in the order in which they were given.
    ///
    /// # Panics
    /// Where none comes, or it is another refusal.
    pub fn answer(&self) -> Answer {
        read(&self.answers.recv_timeout(PATIENCE).expect("an answer to every request"))
    }

    /// Answers that are here already.
    pub fn answered(&self) -> Vec<Answer> {
        self.answers.try_iter().map(|answer| read(&answer)).collect()
    }
}

fn read(answer: &Value) -> Answer {
    match (answer["result"]["seq"].as_u64(), answer["error"].as_str()) {
        (Some(seq), _) => Answer::Produced(seq),
        (None, Some(error)) if error.starts_with("busy") => Answer::Busy,
        _ => panic!("{answer}"),
    }
}

/// False at the connection's end, and where nobody listens any more.
fn hear(event: Option<Event>, answers: &Sender<Value>, ready: &Sender<()>) -> bool {
    match event {
        Some(Event::Incoming(Packet::Publish(message))) => {
            answers.send(serde_json::from_slice(&message.payload).unwrap_or_default()).is_ok()
        }
        Some(Event::Incoming(Packet::SubAck(_))) => ready.send(()).is_ok(),
        Some(_) => true,
        None => false,
    }
}
