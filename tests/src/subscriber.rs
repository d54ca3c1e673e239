//! A subscriber that records what it gets, over plain MQTT 3.1.1.
//!
//! Owns: its connection, re-opened when the broker goes. Does not know: what the messages mean, but that every one of
//! them is valid: [`Subscriber::messages`] checks all against their schemas.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use vedette_core::{Clock, Shutdown, SystemClock};

use crate::schemas;

/// How long a message may take, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

/// One message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The whole topic.
    pub topic: String,
    /// Byte for byte.
    pub payload: Vec<u8>,
    /// Whether it is the topic's kept value, not a fresh one.
    pub retained: bool,
}

impl Message {
    /// One member of the payload; null where it is not there.
    pub fn get(&self, key: &str) -> serde_json::Value {
        let payload: serde_json::Value = serde_json::from_slice(&self.payload).unwrap_or_default();
        payload[key].clone()
    }

    /// Whether it is an event.
    pub fn is_event(&self) -> bool {
        self.topic.ends_with("/event")
    }
}

#[derive(Default)]
struct Shared {
    messages: Vec<Message>,
    /// When each came.
    came: Vec<Duration>,
    /// How often a broker has confirmed the subscription.
    subscribed: usize,
}

/// Against its schema.
fn check(message: &Message) {
    if let Err(error) = schemas::validate(&message.topic, &message.payload) {
        panic!("{error}\n{}", String::from_utf8_lossy(&message.payload));
    }
}

/// Ends with the value.
pub struct Subscriber {
    shared: Arc<(Mutex<Shared>, Condvar)>,
    client: Client,
    stop: Shutdown,
    clock: Arc<SystemClock>,
}

impl Subscriber {
    /// Subscribes to `vedette/#` at QoS 1 on 127.0.0.1:`port`; returns when the broker has confirmed. The session
    /// `name` outlives connections, so that a broker with persistence keeps messages while it is away.
    pub fn start(name: &str, port: u16, login: Option<(&str, &str)>) -> Self {
        let mut options = MqttOptions::new(name, "127.0.0.1", port);
        options
            .set_clean_session(false)
            .set_keep_alive(Duration::from_secs(5))
            .set_max_packet_size(1 << 20, 1 << 20);
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        let (client, mut connection) = Client::new(options, 64);
        let (shared, stop) = (Arc::<(Mutex<Shared>, Condvar)>::default(), Shutdown::new());
        let clock = Arc::new(SystemClock::new());
        let subscriber = Self {
            shared: Arc::clone(&shared),
            client: client.clone(),
            stop: stop.clone(),
            clock: Arc::clone(&clock),
        };
        std::thread::spawn(move || {
            for event in connection.iter() {
                if stop.is_requested() {
                    return;
                }
                let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        let _ = client.try_subscribe("vedette/#", QoS::AtLeastOnce);
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => state.subscribed += 1,
                    Ok(Event::Incoming(Packet::Publish(p))) => {
                        let (topic, payload) = (p.topic, p.payload.to_vec());
                        state.messages.push(Message { topic, payload, retained: p.retain });
                        state.came.push(clock.now().0);
                    }
                    Ok(_) => continue,
                    Err(_) => {
                        drop(state);
                        stop.wait_timeout(Duration::from_millis(50));
                        continue;
                    }
                }
                shared.1.notify_all();
            }
        });
        subscriber.subscribed_after(0);
        subscriber
    }

    /// The clock of [`Subscriber::after`]; it began with the subscriber.
    pub fn clock(&self) -> Arc<SystemClock> {
        Arc::clone(&self.clock)
    }

    /// How often its subscription was confirmed, once that is more than `before`: on this connection it then has what
    /// waited for its session.
    pub fn subscribed_after(&self, before: usize) -> usize {
        self.wait("its subscription", |s| s.subscribed > before).subscribed
    }

    fn wait(&self, what: &str, done: impl Fn(&Shared) -> bool) -> MutexGuard<'_, Shared> {
        self.wait_so_long(PATIENCE, what, done)
    }

    fn wait_so_long(
        &self,
        within: Duration,
        what: &str,
        done: impl Fn(&Shared) -> bool,
    ) -> MutexGuard<'_, Shared> {
        let clock = SystemClock::new();
        let mut state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !done(&state) {
            let last: Vec<_> = state.messages.iter().rev().take(3).collect();
            assert!(
                clock.now().0 < within,
                "waited {within:?} for {what}; {} messages came, the last ones: {last:?}",
                state.messages.len()
            );
            let (next, _) = self
                .shared
                .1
                .wait_timeout(state, Duration::from_secs(1))
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
        }
        state
    }

    /// Waits until `done` says yes to the messages so far, and gives them, each checked against its schema.
    pub fn wait_for(&self, what: &str, done: impl Fn(&[Message]) -> bool) -> Vec<Message> {
        self.wait_within(PATIENCE, what, done)
    }

    /// As [`Subscriber::wait_for`], for what takes its time.
    pub fn wait_within(
        &self,
        within: Duration,
        what: &str,
        done: impl Fn(&[Message]) -> bool,
    ) -> Vec<Message> {
        let messages = self.wait_so_long(within, what, |s| done(&s.messages)).messages.clone();
        messages.iter().for_each(check);
        messages
    }

    /// What came behind the first `count` messages, each with its time since the subscriber began, and checked against
    /// its schema.
    pub fn after(&self, count: usize) -> Vec<(Duration, Message)> {
        let shared = self.wait("nothing", |_| true);
        let (came, messages) = (shared.came.iter().copied(), shared.messages.iter().cloned());
        let fresh: Vec<_> = came.zip(messages).skip(count).collect();
        drop(shared);
        fresh.iter().for_each(|(_, message)| check(message));
        fresh
    }

    /// Waits for `n` different events, and gives all that came, repetitions too.
    pub fn events(&self, n: usize) -> Vec<Message> {
        let different = |messages: &[Message]| {
            let mut seqs: Vec<_> =
                messages.iter().filter(|m| m.is_event()).map(|m| m.get("seq").as_u64()).collect();
            seqs.sort_unstable();
            seqs.dedup();
            seqs.len() >= n
        };
        let mut messages = self.wait_for(&format!("{n} events"), different);
        messages.retain(Message::is_event);
        messages
    }

    /// What came so far, each checked against its schema.
    pub fn messages(&self) -> Vec<Message> {
        self.wait_for("nothing", |_| true)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.stop.request();
        let _ = self.client.try_disconnect();
    }
}
