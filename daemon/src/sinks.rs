//! Connections to brokers: one worker each, which takes events from the outbox and gives them up when the broker has
//! acknowledged them.
//!
//! Owns: the latest values that every broker is told at once, workers' status. Does not know: what events mean; their
//! bytes come from `wire`.

mod backoff;
pub mod embedded;
mod latest;
pub mod mqtt;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;
use vedette_core::{Clock, Name};

use crate::outbox::Outbox;
use crate::wire::SinkStats;

pub use latest::Latest;
pub use mqtt::{Address, MqttConfig, RunningSink, SinkError};

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
    /// Whether there is a session now.
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
        } = status;
        Self { connected, queued, acked, refused, given_up, nobody_listens, dropped }
    }
}
