//! What sessions stand on where there is neither network nor node. Built for tests and fuzz targets alone.
//!
//! Owns: an ordinary [`Context`], a [`Link`] that keeps what it is handed. Does not know: who tries what.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::Expiry;
use super::conversation::{Context, Link};
use super::link::Publish;
use super::requests::Desk;
use crate::fixtures::name;
use crate::outbox::Outbox;
use crate::sinks::Replay;
use crate::wire::{Dialect, Place};

/// Of the broker `b` at the node `box`: nothing is told yet, nobody may ask for anything.
pub(super) fn context(outbox: Arc<dyn Outbox>, dialects: Vec<Arc<dyn Dialect>>) -> Context {
    Context {
        id: name("b"),
        place: Place { prefix: "vedette".to_owned(), node: name("box") },
        dialects,
        acknowledged: true,
        replay_per_second: 1_000_000,
        replay: Replay::default(),
        expiry: Expiry::default(),
        outbox,
        latest: Arc::default(),
        status: Arc::default(),
        taken: AtomicU64::new(0),
        desk: Desk {
            broker: name("b"),
            root: "vedette/box".to_owned(),
            allowed: Vec::new(),
            to: None,
            answers: tokio::sync::mpsc::unbounded_channel().0,
        },
    }
}

/// A link to no broker.
#[derive(Default)]
pub(super) struct Tape {
    /// What it was handed, in that order; the test takes it away.
    pub(super) handed: Vec<Publish>,
    /// Filters, in the order of asking.
    pub(super) subscribed: Vec<String>,
    /// How many publishes it holds at most; none: any number.
    pub(super) room: Option<usize>,
}

impl Link for Tape {
    fn publish(&mut self, publish: Publish) -> bool {
        let fits = self.room.is_none_or(|room| self.handed.len() < room);
        if fits {
            self.handed.push(publish);
        }
        fits
    }

    fn subscribe(&mut self, filter: &str) -> bool {
        self.subscribed.push(filter.to_owned());
        true
    }
}
