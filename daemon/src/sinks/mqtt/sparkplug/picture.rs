//! What is true of the node and its cameras, beside what the hosts were told of it in this session: the difference is
//! what is due.
//!
//! Owns: who is born, what changed since. Does not know: connections, sequence numbers, bytes.

use std::collections::BTreeMap;

use vedette_core::{CameraId, Name};

use crate::sinks::latest::Entry;
use crate::wire::sparkplug::{self, Metric};
use crate::wire::{CameraInventory, CameraStatus, StateUpdate, Update};

/// States in which a camera gives pictures: it is a device that is there.
const ALIVE: [&str; 2] = ["live", "tampered"];

/// A message that is due. Metrics of rules carry the time of their state's change, others none yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    NodeBirth(Vec<Metric>),
    DeviceBirth(CameraId, Vec<Metric>),
    DeviceDeath(CameraId),
    NodeData(Vec<Metric>),
    DeviceData(CameraId, Vec<Metric>),
}

/// The node or a camera.
#[derive(Default)]
struct Subject {
    facts: Vec<Metric>,
    /// The facts as told since the birth; none: not born.
    told: Option<Vec<Metric>>,
}

impl Subject {
    /// Whether facts have come or gone: what a birth did not say, data must not.
    fn is_reshaped(&self) -> bool {
        let names = self.facts.iter().map(|m| &m.name);
        self.told.as_ref().is_some_and(|told| !names.eq(told.iter().map(|m| &m.name)))
    }

    fn changes(&self) -> Vec<Metric> {
        let told = self.told.iter().flatten();
        self.facts
            .iter()
            .zip(told)
            // Another time alone is no news.
            .filter(|(fact, told)| fact.value != told.value)
            .map(|(fact, _)| fact.clone())
            .collect()
    }
}

#[derive(Default)]
struct Device {
    subject: Subject,
    status: Option<CameraStatus>,
    inventory: Option<CameraInventory>,
    states: BTreeMap<Name, StateUpdate>,
}

impl Device {
    fn is_alive(&self) -> bool {
        self.status.as_ref().is_some_and(|status| ALIVE.contains(&status.state))
    }

    fn is_born(&self) -> bool {
        self.subject.told.is_some()
    }

    /// Whether nothing will ever be said of it again, unless it comes back.
    fn is_over(&self) -> bool {
        !self.is_born() && self.status.is_none() && self.inventory.is_none() && self.states.is_empty()
    }

    fn refresh(&mut self) {
        let of = |status| sparkplug::camera(status, self.inventory.as_ref(), &self.states);
        self.subject.facts = self.status.as_ref().map(of).unwrap_or_default();
    }
}

/// See the module.
pub(super) struct Picture {
    node: Subject,
    devices: BTreeMap<CameraId, Device>,
}

impl Default for Picture {
    fn default() -> Self {
        let node = Subject { facts: sparkplug::node(None), ..Subject::default() };
        Self { node, devices: BTreeMap::new() }
    }
}

impl Picture {
    /// Something is true from now on, or no more.
    pub(super) fn learn(&mut self, entry: Entry) {
        let cleared = entry.cleared;
        let id = match &entry.update {
            Update::Node(status) => {
                self.node.facts = sparkplug::node(Some(status));
                return;
            }
            Update::Stats(_) | Update::Scene(_) => return,
            Update::Inventory(inventory) => inventory.camera.clone(),
            Update::Camera(status) => status.camera.clone(),
            Update::State(state) => state.camera.clone(),
        };
        let device = self.devices.entry(id).or_default();
        match entry.update {
            Update::Inventory(inventory) => device.inventory = (!cleared).then_some(inventory),
            Update::Camera(status) => device.status = (!cleared).then_some(status),
            Update::State(state) if cleared => _ = device.states.remove(&state.rule),
            Update::State(state) => _ = device.states.insert(state.rule.clone(), state),
            Update::Node(_) | Update::Stats(_) | Update::Scene(_) => {}
        }
        device.refresh();
        self.devices.retain(|_, device| !device.is_over());
    }

    /// Births are asked for: nobody was told anything.
    pub(super) fn forget(&mut self) {
        self.node.told = None;
        self.devices.values_mut().for_each(|device| device.subject.told = None);
    }

    /// Whether the camera can speak.
    pub(super) fn is_born(&self, camera: &CameraId) -> bool {
        self.devices.get(camera).is_some_and(Device::is_born)
    }

    /// The next message that is due: first the node's birth, then births and deaths of cameras, then changes.
    pub(super) fn due(&self) -> Option<Step> {
        if self.node.told.is_none() {
            return Some(Step::NodeBirth(self.node.facts.clone()));
        }
        for (id, device) in &self.devices {
            let subject = &device.subject;
            match (device.is_alive(), device.is_born()) {
                (false, true) => return Some(Step::DeviceDeath(id.clone())),
                (true, born) if !born || subject.is_reshaped() => {
                    return Some(Step::DeviceBirth(id.clone(), subject.facts.clone()));
                }
                _ => {}
            }
        }
        let changes = self.node.changes();
        if !changes.is_empty() {
            return Some(Step::NodeData(changes));
        }
        self.devices.iter().find_map(|(id, device)| {
            let changes = device.subject.changes();
            (!changes.is_empty()).then(|| Step::DeviceData(id.clone(), changes))
        })
    }

    /// A step was taken.
    pub(super) fn told(&mut self, step: &Step) {
        let (subject, alive) = match step {
            Step::NodeBirth(_) | Step::NodeData(_) => (Some(&mut self.node), true),
            Step::DeviceBirth(id, _) | Step::DeviceData(id, _) => {
                (self.devices.get_mut(id).map(|device| &mut device.subject), true)
            }
            Step::DeviceDeath(id) => (self.devices.get_mut(id).map(|device| &mut device.subject), false),
        };
        if let Some(subject) = subject {
            subject.told = alive.then(|| subject.facts.clone());
        }
        self.devices.retain(|_, device| !device.is_over());
    }
}
