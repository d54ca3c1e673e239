//! What one node leaves to the next one: a reload loses neither a produced event nor a retained value.
//!
//! Owns: fitting that to another configuration. Does not know: what runs in between.

use std::sync::Arc;

use super::Host;
use super::error::StartError;
use super::translate::{embedded_config, limits, sink_names};
use crate::config::Config;
use crate::outbox::{Outbox, SqliteOutbox};
use crate::sinks::Latest;
use crate::sinks::embedded::EmbeddedBroker;
use crate::wire::Stamp;

/// What outlives a reload.
pub struct Kept {
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) latest: Arc<Latest>,
    pub(super) embedded: Option<EmbeddedBroker>,
    pub(super) since: jiff::Timestamp,
    pub(super) config: Config,
}

impl Kept {
    /// Of a node whose configuration is `config`, opened for the first time.
    pub(super) fn open(config: &Config, host: &Host, stamp: Stamp) -> Result<Self, StartError> {
        let sinks = sink_names(config);
        let embedded = embedded_for(config, host, None)?;
        let limits = limits(config);
        let outbox = SqliteOutbox::with_limits(&host.state, stamp, &sinks, &host.clock, limits)?;
        Ok(Self {
            outbox: Arc::new(outbox),
            latest: Arc::new(Latest::default()),
            embedded,
            since: host.clock.wall(),
            config: config.clone(),
        })
    }

    /// Fits what was kept to another configuration: new numbers on what comes, brokers that are gone get nothing any
    /// more, topics of cameras and rules that are gone are cleared.
    pub(super) fn adapt(&mut self, config: &Config, host: &Host, stamp: Stamp) -> Result<(), StartError> {
        self.embedded = embedded_for(config, host, self.embedded.take())?;
        self.outbox.restamp(stamp);
        self.outbox.limit(limits(config));
        let sinks = sink_names(config);
        for gone in sink_names(&self.config).iter().filter(|id| !sinks.contains(id)) {
            self.outbox.detach(gone);
        }
        for id in &sinks {
            self.outbox.attach(id);
        }
        for id in self.config.cameras.keys() {
            let now = config.cameras.get(id);
            let stays = |rule: Option<&vedette_core::Name>| match (now, rule) {
                (Some(camera), Some(rule)) => camera.rules.contains_key(rule),
                (camera, None) => camera.is_some(),
                (None, Some(_)) => false,
            };
            self.latest.forget(id, stays);
        }
        self.config = config.clone();
        Ok(())
    }

    /// The end of the process.
    pub(super) fn close(self) {
        if let Some(embedded) = self.embedded {
            embedded.stop();
        }
        self.outbox.close();
    }
}

/// The broker in this process, where the configuration wants it.
fn embedded_for(
    config: &Config,
    host: &Host,
    running: Option<EmbeddedBroker>,
) -> Result<Option<EmbeddedBroker>, StartError> {
    let wanted = embedded_config(config, host.embedded_port);
    if let Some(running) = running {
        if wanted.as_ref() == Some(running.wanted()) {
            return Ok(Some(running));
        }
        running.stop();
    }
    Ok(wanted.map(EmbeddedBroker::start).transpose()?)
}
