//! Connections to those who get events, brokers and webhooks: one worker each, which takes events from the outbox and
//! gives them up when the other side has acknowledged them.
//!
//! Owns: what a sink is, the latest values that every broker is told at once, workers' status. Does not know: what
//! events mean; their bytes come from `wire`. A sink of another kind is one file with an `impl SinkConfig`, and a word
//! in `node::translate::sink_configs`, which makes it of its table in the configuration.

mod backoff;
pub mod embedded;
mod latest;
pub mod mqtt;
mod order;
mod running;
mod tls;
pub mod webhook;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use vedette_core::{Clock, Name};

use crate::histogram::Histogram;
use crate::outbox::Outbox;
use crate::wire::{Dialect, Interest, SinkStats};

pub use latest::Latest;
pub use mqtt::{Address, MqttConfig, SinkError};
pub use order::Replay;
pub use running::RunningSink;
pub use webhook::WebhookConfig;

/// A sink's settings, checked.
pub trait SinkConfig {
    /// Its name in the outbox: one of all sinks.
    fn id(&self) -> &Name;

    /// Whose frozen events it takes.
    fn dialects(&self) -> Vec<Arc<dyn Dialect>>;

    /// Which events it gets.
    fn interest(&self) -> Interest;

    /// Starts the worker; never waits for the other side.
    ///
    /// # Errors
    /// Settings that cannot be used.
    fn start(self: Box<Self>, deps: SinkDeps) -> Result<Box<dyn Sink>, SinkError>;
}

/// A sink at work. Dropping it stops it at once.
pub trait Sink: Send {
    /// Its name.
    fn id(&self) -> &Name;

    /// How it is doing.
    fn status(&self) -> SinkStatus;

    /// Begins to stop and does not wait: with several sinks, call this on all before [`Sink::stop`].
    fn begin_stop(&self, deadline: Duration);

    /// Delivers what waits until `deadline` and takes leave: a broker is told `offline`. Blocks the calling thread,
    /// which must not be one of the runtime's. True when nothing was left.
    fn stop(self: Box<Self>, deadline: Duration) -> bool;
}

/// What a worker needs besides its configuration.
#[derive(Clone)]
pub struct SinkDeps {
    /// This appliance: a level of every topic.
    pub node: Name,
    /// Where events come from; the worker attaches itself.
    pub outbox: Arc<dyn Outbox>,
    /// The host's clock.
    pub clock: Arc<dyn Clock>,
    /// Where the worker runs; with timers and sockets enabled.
    pub runtime: Handle,
    /// What is told at once after connecting, and whenever it changes.
    pub latest: Arc<Latest>,
    /// The state folder, for the little that must survive a restart.
    pub state: PathBuf,
    /// Where requests of brokers' clients go; none: they are not listened to.
    pub commands: Option<crossbeam_channel::Sender<mqtt::Asked>>,
}

/// How a worker is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkStatus {
    /// Whether there is a session now; of a webhook, whether it answered the last request, if one was made yet.
    pub connected: bool,
    /// Why there is none, or the last message that was refused: one line with the remedy.
    pub last_error: Option<String>,
    /// Events not acknowledged yet.
    pub queued: usize,
    /// Events acknowledged.
    pub acked: u64,
    /// Messages that the broker refused, each refusal counted.
    pub refused: u64,
    /// Events that were not delivered because the broker refuses them for good.
    pub given_up: u64,
    /// Events that the broker took while nobody subscribed to them; MQTT 5 alone can tell.
    pub nobody_listens: u64,
    /// Events dropped since the store began: by its bounds, by hand.
    pub dropped: u64,
    /// From handing an event over to its acknowledgement: PUBLISH to PUBACK, of a webhook POST to 2xx.
    pub answer: Histogram,
    /// From capture to the acknowledgement, of events captured while the connection was there.
    pub capture: Histogram,
}

impl From<SinkStatus> for SinkStats {
    fn from(status: SinkStatus) -> Self {
        let SinkStatus {
            connected,
            last_error: _,
            queued,
            acked,
            refused,
            given_up,
            nobody_listens,
            dropped,
            answer: answer_ms,
            capture: capture_ms,
        } = status;
        Self { connected, queued, acked, refused, given_up, nobody_listens, dropped, answer_ms, capture_ms }
    }
}
