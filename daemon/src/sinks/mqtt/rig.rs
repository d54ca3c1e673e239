//! What sessions stand on where there is neither network nor node. Built for tests and fuzz targets alone.
//!
//! Owns: an ordinary [`Context`]. Does not know: who tries what.

use std::sync::Arc;

use super::Expiry;
use super::conversation::Context;
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
        desk: Desk {
            broker: name("b"),
            root: "vedette/box".to_owned(),
            allowed: Vec::new(),
            to: None,
            answers: tokio::sync::mpsc::unbounded_channel().0,
        },
    }
}
