//! Who speaks the dialects whose messages stand for themselves: a session a connection, and one will.
//!
//! Owns: the will and the last words. Does not know: what is sent when (`session`).

use std::sync::Arc;

use vedette_core::Clock;

use super::conversation::{Context, Conversation, Speaker};
use super::link::{Limits, Publish};
use super::session::Session;
use crate::wire::{Dialect, NodeStatus};

/// See the module.
pub(super) struct Plain;

impl Speaker for Plain {
    fn will(&mut self, context: &Context, clock: &dyn Clock) -> Option<Publish> {
        last_words(context, clock).into_iter().next()
    }

    fn converse<'a>(
        &'a mut self,
        context: &'a Context,
        clock: &'a dyn Clock,
        limits: Limits,
    ) -> Box<dyn Conversation + 'a> {
        Box::new(Session::new(context, limits, clock.now()))
    }
}

/// What is true of the node once the worker is gone: the first is the will, as MQTT has one a connection; all are said
/// on leaving.
pub(super) fn last_words(context: &Context, clock: &dyn Clock) -> Vec<Publish> {
    let unknown = || NodeStatus {
        state: "online",
        version: env!("CARGO_PKG_VERSION"),
        since: clock.wall(),
        cameras: 0,
        cameras_up: 0,
        providers: Vec::new(),
        public_key: None,
    };
    let offline = context.latest.node().unwrap_or_else(unknown).offline();
    let word = |d: &Arc<dyn Dialect>| Some(context.publish(&**d, d.will(&context.place, &offline)?));
    context.dialects.iter().filter_map(word).collect()
}
