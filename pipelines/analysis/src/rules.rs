//! Behaviour rules: one file each, one word each in the registry below.
//!
//! Owns: what every rule has in common (classes, score, schedule, cooldown, cap, severity, arming). Does not know:
//! single rules. A rule's configuration is two structs read from one table: [`Common`] and the kind's own `Config`.

use std::fmt::Debug;

use schemars::JsonSchema;
use serde::Deserialize;
use vedette_core::{Class, Name, Severity, Span};

use crate::schedule::Schedule;

vedette_core::registry! { dyn RuleConfig: intrusion, line_crossing, }

/// What a rule's own configuration can say about itself, for checks and for building.
pub trait RuleConfig: Debug + Send + Sync {
    /// The zone it names; `Err` holds the words for a missing one. `None` where the kind has no zone.
    fn zone(&self) -> Option<&Name> {
        None
    }
    /// The line it names, likewise.
    fn line(&self) -> Option<&Name> {
        None
    }
    /// What the kind cannot do without and was not given: key and remedy. Empty when complete.
    fn missing(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }
    /// Classes where the rule names none.
    fn default_classes(&self) -> &'static [&'static str];
    /// Severity where the rule names none.
    fn default_severity(&self) -> Severity {
        Severity::Alarm
    }
}

/// Keys that every rule has.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Common {
    /// Which behaviour: one of the registry's names.
    pub kind: String,
    /// Classes that count. Default: those of the kind.
    pub classes: Option<Vec<Class>>,
    /// Lowest mean score of a track that counts, 0..1. Default 0.40.
    pub min_score: f32,
    /// When it is armed, in the node's time zone, such as `mon-fri 20:00-06:00, sat-sun 00:00-24:00`.
    /// Default: always.
    pub schedule: Option<Schedule>,
    /// After an incident of the same object ended, no new one for so long. Default 30 s.
    pub cooldown: Span,
    /// At most so many incidents an hour; further ones are counted as suppressed. Default 20.
    pub max_per_hour: u32,
    /// Default: that of the kind (`alarm` for most).
    pub severity: Option<Severity>,
    /// Whether it reports at all. Default true.
    pub armed: bool,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            kind: String::new(),
            classes: None,
            min_score: 0.40,
            schedule: None,
            cooldown: Span::secs(30),
            max_per_hour: 20,
            severity: None,
            armed: true,
        }
    }
}
