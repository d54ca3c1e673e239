//! Somebody stands where nobody should.

use schemars::JsonSchema;
use serde::Deserialize;
use vedette_core::{Name, Span};

use super::RuleConfig;

/// For tables and help.
pub const ABOUT: &str = "an object stands inside a zone";

/// Keys of `intrusion` besides the common ones.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// The zone's name. Needed.
    pub zone: Option<Name>,
    /// How long inside before it counts. Default 400 ms.
    pub enter_after: Span,
    /// How long outside before it is over. Default 1 s.
    pub leave_after: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self { zone: None, enter_after: Span::millis(400), leave_after: Span::secs(1) }
    }
}

impl RuleConfig for Config {
    fn zone(&self) -> Option<&Name> {
        self.zone.as_ref()
    }

    fn missing(&self) -> Vec<(&'static str, &'static str)> {
        if self.zone.is_none() { vec![("zone", "name one of the camera's zones")] } else { Vec::new() }
    }

    fn default_classes(&self) -> &'static [&'static str] {
        &["person", "bicycle", "car", "motorcycle", "bus", "truck"]
    }
}
