//! The latest value of everything that is true at the moment. The rooms put values in; every broker's worker takes
//! what is new since it last looked, so that a slow broker gets fewer values and never old ones.
//!
//! Owns: the values and their versions. Does not know: topics, bytes, brokers.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use vedette_core::{CameraId, Name};

use crate::wire::{CameraInventory, CameraStatus, NodeStatus, StateUpdate, Stats, Update};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Node,
    Inventory(CameraId),
    Camera(CameraId),
    State(CameraId, Name),
    Stats,
}

impl Key {
    fn of(update: &Update) -> Self {
        match update {
            Update::Node(_) => Self::Node,
            Update::Inventory(i) => Self::Inventory(i.camera.clone()),
            Update::Camera(c) => Self::Camera(c.camera.clone()),
            Update::State(s) => Self::State(s.camera.clone(), s.rule.clone()),
            Update::Stats(_) => Self::Stats,
        }
    }

    fn camera(&self) -> Option<&CameraId> {
        match self {
            Self::Inventory(camera) | Self::Camera(camera) | Self::State(camera, _) => Some(camera),
            Self::Node | Self::Stats => None,
        }
    }
}

/// One value as a worker takes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// Grows with every change of any value.
    pub(super) version: u64,
    /// The value.
    pub(super) update: Update,
    /// Its subject is gone: the broker is to forget the topic.
    pub(super) cleared: bool,
}

/// See the module.
pub struct Latest {
    entries: Mutex<BTreeMap<Key, Entry>>,
    version: watch::Sender<u64>,
}

impl Default for Latest {
    fn default() -> Self {
        Self { entries: Mutex::default(), version: watch::Sender::new(0) }
    }
}

impl Latest {
    /// Replaces the value: retained by the broker, and told again after every reconnect. Equal values are not told
    /// twice.
    pub fn put<T: Retained>(&self, value: &T) {
        self.set(value.clone().into(), false);
    }

    /// Tells the counters to those brokers that are connected; nobody keeps them.
    pub fn send(&self, stats: &Stats) {
        self.set(Update::Stats(stats.clone()), false);
    }

    /// A camera or one of its rules is gone: brokers forget every value of `camera` that `keep` says no to (given
    /// the rule's name; none for the camera's own status).
    pub fn forget(&self, camera: &CameraId, keep: impl Fn(Option<&Name>) -> bool) {
        let gone: Vec<_> = {
            let entries = self.entries();
            let of_camera = entries.iter().filter(|(k, e)| k.camera() == Some(camera) && !e.cleared);
            let rule = |k: &Key| if let Key::State(_, rule) = k { Some(rule.clone()) } else { None };
            // The inventory is told anew by whoever knows what remains.
            let of_camera = of_camera.filter(|(k, _)| !matches!(k, Key::Inventory(_)));
            of_camera.filter(|(k, _)| !keep(rule(k).as_ref())).map(|(_, e)| e.update.clone()).collect()
        };
        for update in gone {
            self.set(update, true);
        }
    }

    /// Brokers forget a value that this process never told: an earlier one did.
    pub fn clear(&self, update: Update) {
        self.set(update, true);
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, update: Update, cleared: bool) {
        let mut entries = self.entries();
        let key = Key::of(&update);
        if entries.get(&key).is_some_and(|e| e.update == update && e.cleared == cleared) {
            return;
        }
        let version = *self.version.borrow() + 1;
        entries.insert(key, Entry { version, update, cleared });
        // Under the lock: whoever sees the version finds the value.
        self.version.send_replace(version);
    }

    /// Values newer than `version`, oldest first.
    pub(super) fn since(&self, version: u64) -> Vec<Entry> {
        let mut newer: Vec<_> = self.entries().values().filter(|e| e.version > version).cloned().collect();
        newer.sort_by_key(|e| e.version);
        newer
    }

    /// All values that are true now.
    pub fn values(&self) -> Vec<Update> {
        self.entries().values().filter(|e| !e.cleared).map(|e| e.update.clone()).collect()
    }

    /// Values whose subjects are gone.
    #[cfg(test)]
    pub(crate) fn cleared(&self) -> Vec<Update> {
        self.entries().values().filter(|e| e.cleared).map(|e| e.update.clone()).collect()
    }

    /// The node's status, where one was put.
    pub(super) fn node(&self) -> Option<NodeStatus> {
        match self.entries().get(&Key::Node)?.update.clone() {
            Update::Node(status) => Some(status),
            _ => None,
        }
    }

    /// Changes with every value; the number of changes so far.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

/// What brokers retain: the latest value of its topic.
pub trait Retained: Clone + Into<Update> {}

macro_rules! retained {
    ($($kind:ident($of:ty),)*) => {$(
        impl From<$of> for Update {
            fn from(value: $of) -> Self {
                Self::$kind(value)
            }
        }
        impl Retained for $of {}
    )*};
}

retained! { Node(NodeStatus), Inventory(CameraInventory), Camera(CameraStatus), State(StateUpdate), }

#[cfg(test)]
mod tests {
    use super::*;

    fn status(camera: &str, state: &'static str) -> CameraStatus {
        let camera = Name::new(camera).unwrap();
        let since = jiff::Timestamp::UNIX_EPOCH;
        CameraStatus { camera, state, decode: "watch", fps: 5.0, gate: None, reason: None, since }
    }

    fn states(entries: &[Entry]) -> Vec<(&str, &str, bool)> {
        let state = |e: &'_ Entry| match &e.update {
            Update::Camera(c) => Some((c.camera.clone(), c.state, e.cleared)),
            _ => None,
        };
        entries.iter().filter_map(state).map(|(_, s, c)| ("camera", s, c)).collect()
    }

    #[test]
    fn a_slow_reader_gets_the_last_value_only() {
        let latest = Latest::default();
        latest.put(&status("gate", "connecting"));
        latest.put(&status("yard", "connecting"));
        latest.put(&status("gate", "live"));
        let entries = latest.since(0);
        assert_eq!(states(&entries), [("camera", "connecting", false), ("camera", "live", false)]);
        let seen = entries.last().unwrap().version;
        latest.put(&status("gate", "live"));
        assert!(latest.since(seen).is_empty(), "equal values are not told twice");
    }

    #[test]
    fn what_is_gone_is_cleared_once() {
        let latest = Latest::default();
        latest.put(&status("gate", "live"));
        let seen = latest.since(0).last().unwrap().version;
        latest.forget(&Name::new("gate").unwrap(), |_| true);
        assert!(latest.since(seen).is_empty());
        latest.forget(&Name::new("gate").unwrap(), |_| false);
        assert_eq!(states(&latest.since(seen)), [("camera", "live", true)]);
    }
}
