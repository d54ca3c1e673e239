//! Detections and time in, events out. Pure: no file, socket, thread, clock or JSON.
//!
//! Owns: the scene of one camera with its tracker, rules and incidents. Does not know: where frames come from, who
//! runs the models, who listens to the events. It is driven by [`Scene::step`], [`Scene::tick`] and
//! [`Scene::lost`], which are the whole contract.
#![forbid(unsafe_code)]

pub mod rules;
pub mod schedule;
