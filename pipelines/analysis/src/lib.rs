//! Detections and time in, events out. Pure: no file, socket, thread, clock or JSON.
//!
//! Owns: the scene of one camera with its tracker, rules and incidents, and the gate that tells whether a camera is worth
//! decoding. Does not know: where frames come from, who
//! runs the models, who listens to the events. It is driven by [`Scene::step`], [`Scene::tick`] and
//! [`Scene::lost`], which are the whole contract.
#![forbid(unsafe_code)]

pub mod gate;
mod incidents;
pub mod rules;
mod scene;
pub mod schedule;
mod tracker;
mod wants;

pub use incidents::{Finding, Subject};
pub use rules::{Counts, RuleSetup};
pub use scene::{BuildError, Lost, Observation, Outcome, RuleState, Scene, SceneConfig};
