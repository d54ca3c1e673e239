//! Which metrics tell what: their names.
//!
//! Owns: names and types. Does not know: sequence numbers, when anything is sent.
//!
//! | folder | of | what |
//! |---|---|---|
//! | `Event/…` | node and cameras | the last event, a fact each |
//! | `Rule/<rule>/…` | cameras | `Active`, `Armed`, `Since`, and `Value` with `Unit` where the rule counts |
//! | `Camera/…` | cameras | `State`, `Decode`, `Fps`, `Reason`, `Since` |
//! | `Node/…` | node | `State`, `Version`, `Since`, `Cameras`, `CamerasUp` |
//! | `bdSeq`, `Node Control/Rebirth` | node | as the specification says |
//!
//! An event is one message that changes all of `Event/…`: a script on `Event/Seq` finds the rest beside it, and
//! `Rule/<rule>/Active` is what an alarm is set on. Flat metrics of plain types, since every host makes tags of them:
//! hosts read properties of metrics in births only, where they read them at all, and data sets and templates are not
//! archived. No aliases: a message that waited for days would need the names of a birth that is forgotten.

use std::collections::BTreeMap;

use serde::Serialize;
use vedette_core::{Event, Name};

use super::payload::Metric;
use crate::wire::vedette::rounded;
use crate::wire::{CameraInventory, CameraStatus, NodeStatus, Stamp, StateUpdate};

/// The metric that pairs an NBIRTH with its NDEATH.
pub const BD_SEQ: &str = "bdSeq";

/// The metric that asks for births.
pub const REBIRTH: &str = "Node Control/Rebirth";

/// An event with what the store adds.
#[derive(Clone, Copy)]
pub(super) struct Stamped<'a> {
    pub(super) stamp: &'a Stamp,
    pub(super) seq: u64,
    pub(super) latency_ms: Option<u64>,
    pub(super) event: &'a Event,
}

/// The metrics of an event; all null where there was none yet. Numbers have the decimals of the dialect `vedette`.
pub(super) fn event(of: Option<Stamped<'_>>) -> Vec<Metric> {
    let (stamp, event) = (of.map(|o| o.stamp), of.map(|o| o.event));
    let object = event.and_then(|e| e.object.as_ref());
    let edge = |at: usize| object.map(|o| rounded(f64::from(<[f32; 4]>::from(o.bbox)[at]), 4));
    vec![
        Metric::text("Event/Id", event.map(|e| e.id)),
        Metric::text("Event/Epoch", stamp.map(|s| s.epoch)),
        Metric::whole("Event/Seq", of.map(|o| o.seq)),
        Metric::text("Event/Phase", event.and_then(|e| word(e.phase))),
        Metric::text("Event/Kind", event.map(|e| e.kind)),
        Metric::text("Event/Rule", event.map(|e| &e.rule)),
        Metric::text("Event/Severity", event.and_then(|e| word(e.severity))),
        Metric::text("Event/Camera", event.and_then(|e| e.camera.as_ref())),
        Metric::text("Event/Zone", event.and_then(|e| e.zone.as_ref())),
        Metric::text("Event/Line", event.and_then(|e| e.line.as_ref())),
        Metric::text("Event/Direction", event.and_then(|e| e.direction).and_then(word)),
        Metric::time("Event/Captured", event.map(|e| e.captured.wall)),
        Metric::text("Event/Clock", event.and_then(|e| word(e.captured.clock))),
        Metric::flag("Event/ClockSynced", event.map(|e| e.captured.wall_ok)),
        Metric::time("Event/Decided", event.map(|e| e.decided.wall)),
        Metric::whole("Event/LatencyMs", of.and_then(|o| o.latency_ms)),
        Metric::whole("Event/Object/Track", object.map(|o| o.track.0)),
        Metric::text("Event/Object/Class", object.map(|o| o.class.as_str())),
        Metric::number("Event/Object/Score", object.map(|o| rounded(f64::from(o.score), 3))),
        Metric::number("Event/Object/Left", edge(0)),
        Metric::number("Event/Object/Top", edge(1)),
        Metric::number("Event/Object/Right", edge(2)),
        Metric::number("Event/Object/Bottom", edge(3)),
        Metric::number("Event/Object/Speed", object.map(|o| rounded(f64::from(o.speed), 2))),
        Metric::text("Event/Object/SpeedUnit", object.and_then(|o| word(o.speed_unit))),
        Metric::number("Event/Value", event.and_then(|e| e.value)),
        Metric::text("Event/Unit", event.and_then(|e| e.unit)),
        Metric::text("Event/Why", event.map(|e| &e.why)),
        Metric::text("Event/EndedBy", event.and_then(|e| e.ended_by).and_then(word)),
        Metric::whole("Event/Suppressed", event.map(|e| u64::from(e.suppressed))),
        Metric::text("Event/Model", stamp.map(|s| &s.model.name)),
        Metric::text("Event/Config", stamp.map(|s| s.config.get(..8).unwrap_or(&s.config))),
    ]
}

/// As on the wire of every dialect.
fn word(of: impl Serialize) -> Option<String> {
    Some(serde_json::to_value(of).ok()?.as_str()?.to_owned())
}

/// What is true of the node; all null where nothing is known yet.
pub fn node(status: Option<&NodeStatus>) -> Vec<Metric> {
    let whole = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    vec![
        Metric::text("Node/State", status.map(|s| s.state)),
        Metric::text("Node/Version", status.map(|s| s.version)),
        Metric::time("Node/Since", status.map(|s| s.since)),
        Metric::whole("Node/Cameras", status.map(|s| whole(s.cameras))),
        Metric::whole("Node/CamerasUp", status.map(|s| whole(s.cameras_up))),
    ]
}

/// What is true of a camera and its rules: those that the inventory has, and those that a state is known of.
pub fn camera(
    status: &CameraStatus,
    inventory: Option<&CameraInventory>,
    states: &BTreeMap<Name, StateUpdate>,
) -> Vec<Metric> {
    let mut metrics = vec![
        Metric::text("Camera/State", Some(status.state)),
        Metric::text("Camera/Decode", Some(status.decode)),
        Metric::number("Camera/Fps", Some(rounded(status.fps, 1))),
        Metric::text("Camera/Reason", status.reason.as_ref()),
        Metric::time("Camera/Since", Some(status.since)),
    ];
    let mut rules: BTreeMap<&Name, bool> = states.iter().map(|(r, s)| (r, s.value.is_some())).collect();
    for rule in inventory.iter().flat_map(|i| &i.rules) {
        *rules.entry(&rule.rule).or_default() |= rule.counts;
    }
    for (rule, counts) in rules {
        metrics.extend(of_rule(rule, counts, states.get(rule)));
    }
    metrics
}

/// With the time of the state's last change, where there is one.
fn of_rule(rule: &Name, counts: bool, state: Option<&StateUpdate>) -> Vec<Metric> {
    let name = |what: &str| format!("Rule/{rule}/{what}");
    let mut metrics = vec![
        Metric::flag(name("Active"), state.map(|s| s.active)),
        Metric::flag(name("Armed"), state.map(|s| s.armed)),
        Metric::time(name("Since"), state.and_then(|s| s.since)),
    ];
    if counts {
        metrics.push(Metric::number(name("Value"), state.and_then(|s| s.value)));
        metrics.push(Metric::text(name("Unit"), state.and_then(|s| s.unit)));
    }
    match state {
        Some(state) => metrics.into_iter().map(|metric| metric.at(state.changed)).collect(),
        None => metrics,
    }
}
