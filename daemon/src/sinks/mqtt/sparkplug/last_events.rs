//! The last event that the node and each camera told: what a birth says of it, also over another connection.
//!
//! Owns: these events. Does not know: connections, what is news. After a start there are none: what was delivered has
//! left the outbox.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use vedette_core::CameraId;

use crate::wire::sparkplug::{Metric, Value};

/// By who told it; none: the node.
type Events = BTreeMap<Option<CameraId>, (u64, Vec<Metric>)>;

/// See the module.
#[derive(Default)]
pub(super) struct LastEvents(Mutex<Events>);

impl LastEvents {
    /// With its time.
    pub(super) fn of(&self, camera: Option<&CameraId>) -> Option<Vec<Metric>> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.get(&camera.cloned()).map(|(_, metrics)| metrics.clone())
    }

    /// An event was told, as news or not; an earlier one that is told again changes nothing.
    pub(super) fn told(&self, camera: Option<&CameraId>, seq: u64, mut metrics: Vec<Metric>) {
        metrics.iter_mut().for_each(|metric| metric.is_historical = None);
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_earlier = |(last, kept): &(u64, Vec<Metric>)| *last > seq && epoch(kept) == epoch(&metrics);
        if !events.get(&camera.cloned()).is_some_and(is_earlier) {
            events.insert(camera.cloned(), (seq, metrics));
        }
    }
}

/// Another store counts anew.
fn epoch(metrics: &[Metric]) -> Option<&Value> {
    metrics.iter().find(|m| m.name.as_deref() == Some("Event/Epoch"))?.value.as_ref()
}
